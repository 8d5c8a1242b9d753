"""The ledger of failures: which ones count, which are kept, and which make a streak that the backoff grows with."""

from typing import Any

import pytest

from mabeam.api.agent import AgentFaultTolerance, Backoff
from mabeam.api.agent_status import AgentStatus, Failure, FailureCause
from mabeam.core.algorithms.backoff import restart_delay
from mabeam.core.algorithms.otp import LEDGER_FLOOR
from mabeam.core.supervision.ledger import counted_times, failures_in_window, new_failures, streak, trim
from support.builders import PLAIN_BACKOFF, at

PLAIN = Backoff.model_validate(PLAIN_BACKOFF)


def failure(seconds: float, started: float | None = None, **facts: Any) -> Failure:
    start = at(started) if started is not None else None
    return Failure(time=at(seconds), cause=facts.pop("cause", FailureCause.CRASH), start_time=start, **facts)


def test_uncounted_and_released_failures_spend_no_budget() -> None:
    ledger = [failure(1), failure(2, counted=False), failure(3, released=True), failure(4)]
    assert counted_times(ledger) == [at(1), at(4)]
    assert failures_in_window(ledger, at(4), 60) == 2
    assert failures_in_window(ledger, at(62), 60) == 1


def test_new_failures_are_told_by_time_and_pod_however_the_ledger_was_trimmed() -> None:
    known, same_time, later = failure(1, pod="a-0-1"), failure(1, pod="a-1-1"), failure(2, pod="a-0-2")
    before, after = (
        AgentStatus(failures=(failure(0, pod="a-0-0"), known)),
        AgentStatus(failures=(known, same_time, later)),
    )
    assert new_failures(before, after) == (same_time, later)
    assert new_failures(after, after) == ()


def test_times_have_whole_seconds() -> None:
    assert failure(3.999).time == at(3)


@pytest.mark.parametrize("max_failures", [0, 3, 200])
def test_the_ledger_keeps_the_newest_entries_and_always_enough_to_judge(max_failures: int) -> None:
    ledger = [failure(seconds) for seconds in range(400)]
    kept = trim(ledger, AgentFaultTolerance(max_failures=max_failures))
    assert len(kept) == max(LEDGER_FLOOR, max_failures + 1)
    assert kept[-1].time == at(399)


def test_a_drain_of_a_wide_agent_does_not_push_out_the_failures_that_the_budget_counts() -> None:
    drained = [failure(60 + n, cause=FailureCause.EVICTED, counted=False, ordinal=n) for n in range(100)]
    kept = trim([failure(50), failure(55, released=True), *drained], AgentFaultTolerance(max_failures=1))
    assert len(kept) == LEDGER_FLOOR
    assert [f.time for f in kept if f.counted] == [at(50)]
    assert kept[-1].time == at(159)


def test_a_failure_that_became_known_late_does_not_push_out_a_newer_one() -> None:
    crashes = [failure(1000 + n) for n in range(3)]
    kept = trim([*crashes, failure(10), *[failure(2000, counted=False)] * 40], AgentFaultTolerance(max_failures=2))
    assert [f.time for f in kept if f.counted] == [at(1000), at(1001), at(1002)]


# --- the streak: restarts since the last healthy spell --------------------------------------------------------------


def test_the_first_failure_has_no_streak() -> None:
    assert streak([failure(10, 0)], 0, 300) == 0


def test_failures_soon_after_their_starts_make_a_streak() -> None:
    assert streak([failure(10, 0), failure(20, 10), failure(30, 20)], 0, 300) == 2


def test_a_healthy_spell_breaks_the_streak() -> None:
    assert streak([failure(10, 0), failure(20, 10), failure(320, 20)], 0, 300) == 0
    assert streak([failure(10, 0), failure(319, 20), failure(320, 319)], 0, 300) == 2


def test_a_release_breaks_the_streak() -> None:
    assert streak([failure(10, 0, released=True), failure(20, 10, released=True), failure(30, 20)], 0, 300) == 0


def test_each_ordinal_has_a_streak_of_its_own() -> None:
    ledger = [failure(10, 0, ordinal=1), failure(11, 10, ordinal=1), failure(12, 0, ordinal=0)]
    assert (streak(ledger, 0, 300), streak(ledger, 1, 300)) == (0, 1)


def test_disruptions_are_part_of_the_streak_so_that_rejected_pods_are_not_replaced_in_a_hot_loop() -> None:
    ledger = [failure(seconds, seconds, cause=FailureCause.EVICTED, counted=False) for seconds in range(5)]
    assert streak(ledger, 0, 300) == 4


def test_without_a_recorded_start_the_gap_bounds_how_long_it_ran() -> None:
    assert streak([failure(10), failure(20)], 0, 300) == 1
    assert streak([failure(10), failure(1000)], 0, 300) == 0


def test_waiting_for_an_image_is_not_health() -> None:
    ledger = [failure(300 * n, cause=FailureCause.IMAGE_ERROR) for n in (1, 2, 3)]
    assert streak(ledger, 0, 300) == 2


# --- the delay --------------------------------------------------------------------------------------------------------


def test_the_delay_is_zero_then_exponential_then_capped() -> None:
    assert [restart_delay(PLAIN, n, "s") for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_streak_without_end_is_capped_and_never_overflows() -> None:
    steep = Backoff(initial_seconds=3600, factor=100, max_seconds=86_400, jitter=0)
    assert restart_delay(steep, 10**6, "s") == 86_400


def test_jitter_is_the_same_for_the_same_seed_and_differs_between_seeds() -> None:
    backoff = Backoff(initial_seconds=10, jitter=0.2)
    delays = {seed: restart_delay(backoff, 1, seed) for seed in ("uid:0:2", "uid:1:2", "uid:0:3")}
    assert delays == {seed: restart_delay(backoff, 1, seed) for seed in delays}
    assert len(set(delays.values())) == 3
    assert all(8 <= delay <= 12 for delay in delays.values())


def test_jitter_is_pinned_so_that_a_new_version_wakes_at_the_time_an_old_one_said() -> None:
    assert restart_delay(Backoff(initial_seconds=10, jitter=0.2), 1, "uid:0:2") == pytest.approx(9.559, abs=0.001)


def test_the_cap_holds_for_the_jittered_delay() -> None:
    backoff = Backoff(initial_seconds=60, max_seconds=60, jitter=1)
    assert all(0 <= restart_delay(backoff, 5, f"uid:0:{n}") <= 60 for n in range(100))
