"""The sliding window of supervisor.erl."""

import pytest

from mabeam.core.algorithms.otp import fullest_window, within_budget
from support.builders import at


@pytest.mark.parametrize(
    ("before", "intensity", "allowed"),
    [
        ([], 0, False),
        ([], 1, True),
        ([40], 1, False),
        ([39.0], 1, True),
        ([40], 2, True),
        ([40, 99], 2, False),
        ([100, 100], 2, False),
        ([10, 20, 30], 3, True),
    ],
)
def test_a_restart_at_100_is_allowed_iff_it_and_those_since_40_are_no_more_than_the_intensity(
    before: list[float], intensity: int, allowed: bool
) -> None:
    assert within_budget([at(s) for s in before], at(100), intensity, 60) is allowed


def test_the_edge_of_the_window_is_inside_it() -> None:
    assert not within_budget([at(40)], at(100), 1, 60)
    assert within_budget([at(39)], at(100), 1, 60)


@pytest.mark.parametrize(
    ("others", "late", "intensity", "allowed"),
    [
        ([200, 270, 335], 100, 1, True),  # no window of 60 s holds two of them
        ([141, 142, 143], 100, 3, False),  # 4 of them lie between 100 and 160, the late one among them
        ([141, 142, 143], 80, 3, True),
        ([90, 120, 150], 100, 3, False),  # the window that ends at 150 begins at 90 and holds all four
        ([89, 120, 150], 100, 3, True),
        ([30, 161], 100, 1, True),
        ([40], 100, 1, False),
        ([160], 100, 1, False),
        ([161], 100, 1, True),
        ([], 100, 0, False),
    ],
)
def test_a_late_restart_is_allowed_iff_it_would_have_been_in_the_order_of_times(
    others: list[float], late: float, intensity: int, allowed: bool
) -> None:
    times = sorted([*others, late])
    in_order = all(within_budget(map(at, times[:n]), at(time), intensity, 60) for n, time in enumerate(times))
    assert within_budget(map(at, others), at(late), intensity, 60) is in_order is allowed


def test_the_fullest_window_holds_the_moment_itself_and_ends_there_or_later() -> None:
    moments = [at(s) for s in (0, 50, 60, 100, 110, 170, 300)]
    assert [fullest_window(moments, at(s), 60) for s in (0, 60, 110, 170, 300, 1000)] == [3, 4, 4, 2, 1, 0]
