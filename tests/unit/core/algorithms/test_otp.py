"""The sliding window of supervisor.erl."""

import pytest

from mabeam.core.algorithms.otp import within_budget
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
