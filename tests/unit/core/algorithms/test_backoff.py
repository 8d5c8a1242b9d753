"""Exponential backoff: it doubles up to the cap, and no number of attempts overflows."""

from mabeam.core.algorithms.backoff import capped_exponential


def test_the_delay_doubles_from_the_first_up_to_the_cap() -> None:
    assert [capped_exponential(attempt, 15.0, 300.0) for attempt in range(6)] == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0]


def test_another_factor_grows_by_it() -> None:
    assert [capped_exponential(attempt, 1.0, 20.0, factor=3.0) for attempt in range(4)] == [1.0, 3.0, 9.0, 20.0]


def test_an_attempt_beyond_all_numbers_waits_for_the_cap() -> None:
    assert capped_exponential(100_000, 0.1, 60.0) == 60.0
