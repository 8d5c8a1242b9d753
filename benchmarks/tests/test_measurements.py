"""The benchmark's figures: medians, ratios, bars, and how they are written."""

import math

import pytest

from benchmarks.measurements import Bar, Measurement, number, quantile, ratios, slope


def test_a_figure_is_the_median_of_its_samples_and_tells_their_range() -> None:
    figure = Measurement("P1", "m", "s", (3.0, 1.0, 2.0), Bar(2.5))
    assert figure.median == 2.0
    assert figure.met is True
    assert figure.text == "2 s (1–3)"


def test_a_figure_without_a_bar_is_neither_met_nor_missed() -> None:
    assert Measurement("P1", "m", "s", (1.0,)).met is None


@pytest.mark.parametrize(("value", "holds"), [(2.0, True), (2.0001, False), (0.0, True), (math.nan, False)])
def test_a_bar_is_the_most_that_a_figure_may_be(value: float, holds: bool) -> None:
    assert Bar(2.0).holds(value) is holds


@pytest.mark.parametrize(("value", "holds"), [(-1.0, True), (-1.1, False), (0.3, True), (1.1, False)])
def test_a_bar_with_a_least_is_broken_in_both_directions(value: float, holds: bool) -> None:
    assert Bar(1, -1, "0 ± 1 MB").holds(value) is holds


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (3, "3"), (10_000, "10,000"), (2.345, "2.35"), (0.01234, "0.0123"), (123.4, "123")]
)
def test_numbers_have_three_digits_or_are_whole(value: float, words: str) -> None:
    assert number(value) == words


def test_a_quantile_is_one_of_the_samples() -> None:
    values = [float(value) for value in range(1, 101)]
    assert quantile(values, 0.5) == 50
    assert quantile(values, 0.99) == 99
    assert quantile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_ratios_compare_round_with_round() -> None:
    assert ratios([2.0, 8.0], [1.0, 2.0]) == (2.0, 4.0)
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])


def test_the_slope_of_a_line_is_its_slope() -> None:
    assert slope([(0, 5.0), (10, 25.0), (20, 45.0)]) == pytest.approx(2.0)
