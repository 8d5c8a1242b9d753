"""Kubernetes quantities: read exactly, bounded as Kubernetes bounds them, written in the fewest characters."""

from fractions import Fraction

import pytest

from mabeam.core.algorithms.quantity import parse, unit_of, write


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1), ("0.5", Fraction(1, 2)), (".5", Fraction(1, 2)), ("5.", 5), ("+3", 3), ("-2", -2), (" 7 ", 7),
        ("100m", Fraction(1, 10)), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 3 * 2**29), ("1E", 10**18), ("1Ei", 2**60),
        ("1e3", 1000), ("1E3", 1000), ("25e-1", Fraction(5, 2)), ("1n", Fraction(1, 10**9)), ("3u", Fraction(3, 10**6)),
    ],
)  # fmt: skip
def test_a_quantity_is_the_exact_number_that_it_stands_for(text: str, number: Fraction) -> None:
    assert parse(text) == number


@pytest.mark.parametrize(
    "text", ["", "lots", "1/0", "1/3", "1_000", "nan", "inf", "1 Gi", "1ki", "0x10", "1e", "e3", "--1", "٣", "1" * 65]
)
def test_what_is_no_quantity_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse(text)


@pytest.mark.parametrize("text", ["1e999999999", "9" * 60, "99E", "8Ei", "1e" + "9" * 60])
def test_nothing_is_above_the_largest_that_kubernetes_knows_and_nothing_takes_long_to_read(text: str) -> None:
    assert parse(text) == 2**63 - 1


@pytest.mark.parametrize("text", ["1e-999999999", "0.0000000001", "0.1n"])
def test_what_is_finer_than_thousand_millionths_is_rounded_up_to_one(text: str) -> None:
    assert parse(text) == Fraction(1, 10**9)


def test_nothing_is_nothing_however_it_is_written() -> None:
    assert [parse(text) for text in ("0", "0e999999999", "-0", "0Gi")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("resource", "amount", "floor", "ceil"),
    [("cpu", "1.0005", 1000, 1001), ("requests.cpu", "1", 1000, 1000), ("memory", "1.5Mi", 1, 2),
     ("requests.memory", "2Mi", 2, 2), ("hugepages-2Mi", "3Mi", 3, 3), ("tokens", "2500m", 2, 3), ("tokens", "-1.5", -2, -1)],
)  # fmt: skip
def test_each_resource_is_counted_in_its_own_units(resource: str, amount: str, floor: int, ceil: int) -> None:
    unit = unit_of(resource)
    assert (unit.floor(parse(amount)), unit.ceil(parse(amount))) == (floor, ceil)


@pytest.mark.parametrize(
    ("resource", "units", "text"),
    [("cpu", 1500, "1500m"), ("cpu", 2000, "2"), ("memory", 1024, "1Gi"), ("memory", 1025, "1025Mi"), ("tokens", 5000, "5k"),
     ("tokens", 0, "0"), ("tokens", 7, "7")],
)  # fmt: skip
def test_an_amount_is_written_with_the_largest_suffix_that_leaves_a_whole_number(
    resource: str, units: int, text: str
) -> None:
    unit = unit_of(resource)
    assert unit.write(units) == text
    assert parse(text) == units * unit.size


def test_a_number_that_no_suffix_makes_whole_is_not_written_wrongly() -> None:
    with pytest.raises(ValueError, match="no whole number"):
        write(Fraction(1, 3), ("", "m"))
