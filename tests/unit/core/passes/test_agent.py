"""One pass over an Agent, told as sentences: the exit table, the budget, releases, rolls, fencing and silence."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mabeam.api.agent import RestartStrategy
from mabeam.api.agent_status import FailureCause
from mabeam.api.names import ANNOTATION_RELEASE
from mabeam.core.algorithms.otp import POLICY, ExitAction, ExitKind
from mabeam.core.decision import pods_first
from mabeam.core.passes.agent import decide
from mabeam.core.supervision.exits import RESTING
from support.builders import NO_BACKOFF, PLAIN_BACKOFF, WITH_SIDECAR, agent_body, at, stamp
from support.world import ImpossibleState, World, up

STRATEGIES = [strategy.value for strategy in RestartStrategy]


def crash(world: World, name: str, code: int = 1, after: float = 1) -> None:
    """The pod runs for a while, crashes, and the operator takes notice."""
    world.tick(after)
    world.end(name, code)
    world.settle()


# --- the table --------------------------------------------------------------------------------------------------------

RESTARTED = ("Running", "a-0-2")
ENDS: dict[str, Callable[[World], None]] = {
    "exit code 0": lambda world: world.end("a-0-1", 0),
    "a code listed as normal": lambda world: world.end("a-0-1", 42),
    "another code": lambda world: world.end("a-0-1", 3),
    "out of memory": lambda world: world.end("a-0-1", 137, "OOMKilled"),
    "deleted by a stranger": lambda world: world.delete("a-0-1"),
    "gone unseen": lambda world: world.forget(["a-0-1"]),
    "evicted by the kubelet": lambda world: world.evict("a-0-1"),
    "drained": lambda world: world.drain("a-0-1"),
    "preempted": lambda world: world.drain("a-0-1", "PreemptionByScheduler"),
    "taken by the taint manager": lambda world: world.drain("a-0-1", "DeletionByTaintManager"),
}
NORMAL = ("exit code 0", "a code listed as normal")
DISRUPTIONS = ("evicted by the kubelet", "drained", "preempted", "taken by the taint manager")
CAUSES = {
    "exit code 0": FailureCause.NORMAL_EXIT,
    "a code listed as normal": FailureCause.NORMAL_EXIT,
    "another code": FailureCause.CRASH,
    "out of memory": FailureCause.OOM,
    "deleted by a stranger": FailureCause.DELETED_BY_OTHER,
    "gone unseen": FailureCause.DELETED_BY_OTHER,
    "evicted by the kubelet": FailureCause.EVICTED,
    "drained": FailureCause.EVICTED,
    "preempted": FailureCause.PREEMPTED,
    "taken by the taint manager": FailureCause.NODE_LOST,
}


def ended(how: str, restart: str) -> World:
    world = up(agent_body(restart=restart, normalExitCodes=[42]))
    world.tick(10)
    ENDS[how](world)
    world.settle()
    return world


def test_the_table_covers_every_exit_and_every_restart_strategy() -> None:
    assert set(POLICY) == {(kind, strategy) for kind in ExitKind for strategy in RestartStrategy}
    assert set(RESTING) == set(ExitAction) - {ExitAction.RESTART, ExitAction.REPLACE}
    assert set(CAUSES) == set(ENDS)


@pytest.mark.parametrize("how", ENDS)
def test_a_permanent_agent_is_restarted_after_every_exit(how: str) -> None:
    world = ended(how, "Permanent")
    assert (world.state, world.live()) == ("Running", ["a-0-2"])
    assert [f.cause for f in world.status.failures] == [CAUSES[how]]


@pytest.mark.parametrize("how", sorted(set(ENDS) - set(NORMAL)))
def test_a_transient_agent_is_restarted_after_every_exit_that_is_not_normal(how: str) -> None:
    world = ended(how, "Transient")
    assert (world.state, world.live()) == ("Running", ["a-0-2"])


@pytest.mark.parametrize("how", NORMAL)
@pytest.mark.parametrize("restart", ["Transient", "Temporary"])
def test_a_normal_exit_ends_a_transient_or_temporary_agent_as_desired(how: str, restart: str) -> None:
    world = ended(how, restart)
    assert (world.state, world.live(), world.record().reason) == ("Stopped", [], "Completed")
    assert world.condition("Ready")[:2] == ("True", "Completed")
    assert world.status.failures == ()


@pytest.mark.parametrize("how", sorted(set(ENDS) - set(NORMAL) - set(DISRUPTIONS)))
def test_a_temporary_agent_that_fails_is_never_restarted(how: str) -> None:
    world = ended(how, "Temporary")
    assert (world.state, world.live()) == ("Failed", [])
    assert world.condition("Stalled")[:2] == ("True", "Failed")
    assert [(f.cause, f.counted) for f in world.status.failures] == [(CAUSES[how], False)]


@pytest.mark.parametrize("how", DISRUPTIONS)
def test_a_disruption_ends_a_temporary_agent_as_desired(how: str) -> None:
    world = ended(how, "Temporary")
    assert (world.state, world.live(), world.record().reason) == ("Stopped", [], "Disrupted")
    assert world.condition("Ready")[:2] == ("True", "Disrupted")
    assert world.told("AgentFailed") == []
    assert len(world.told("AgentDisrupted")) == 1


@pytest.mark.parametrize("restart", ["Permanent", "Transient"])
@pytest.mark.parametrize("how", DISRUPTIONS)
def test_a_disruption_is_recorded_and_never_counted(how: str, restart: str) -> None:
    world = ended(how, restart)
    assert [f.counted for f in world.status.failures] == [False]
    assert (world.status.restarts, world.status.disruptions) == (0, 1)


@pytest.mark.parametrize("how", sorted(set(ENDS) - set(DISRUPTIONS)))
def test_every_other_exit_of_a_permanent_agent_is_counted_a_normal_one_included(how: str) -> None:
    world = ended(how, "Permanent")
    assert [f.counted for f in world.status.failures] == [True]
    assert (world.status.restarts, world.status.disruptions) == (1, 0)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", STRATEGIES)
def test_no_exit_is_judged_twice(how: str, restart: str) -> None:
    world = ended(how, restart)
    before = world.status
    world.advance(1000)
    assert world.status == before


@pytest.mark.parametrize("restart", STRATEGIES)
def test_the_operators_own_stop_is_never_a_failure(restart: str) -> None:
    world = up(agent_body(restart=restart), prompt=False)
    world.change(desiredState="Stopped")
    world.settle()
    assert (world.state, world.live()) == ("Stopping", ["a-0-1"])
    world.end("a-0-1", 143)
    world.settle()
    assert (world.state, world.status.failures, world.status.restarts) == ("Stopped", (), 0)
    assert world.condition("Ready")[:2] == ("True", "Stopped")


def test_a_crash_that_is_seen_together_with_the_users_stop_is_not_counted() -> None:
    world = up(agent_body())
    world.end("a-0-1", 1)
    world.change(desiredState="Stopped")
    world.settle()
    assert (world.state, world.status.failures) == ("Stopped", ())


def test_scaling_down_is_never_a_failure() -> None:
    world = up(agent_body(replicas=3))
    world.change(replicas=1)
    world.settle()
    assert (world.state, world.live(), world.status.failures) == ("Running", ["a-0-1"], ())
    assert [record.ordinal for record in world.status.pods] == [0]


def test_scaling_to_zero_is_as_desired() -> None:
    world = up(agent_body(replicas=2))
    world.change(replicas=0)
    world.settle()
    assert (world.state, world.live(), world.ended()) == ("Stopped", [], [])
    assert world.condition("Ready")[0] == "True"


# --- the budget -------------------------------------------------------------------------------------------------------


def test_the_failure_after_the_last_allowed_one_exhausts_the_budget() -> None:
    world = up(agent_body(max_failures=3))
    for number in (1, 2, 3):
        crash(world, f"a-0-{number}")
        assert world.state == "Running"
    crash(world, "a-0-4")
    assert (world.state, world.live()) == ("Failed", [])
    assert world.counted() == [1, 2, 3, 4]
    assert world.status.restarts == 3


def test_a_failure_exactly_one_window_old_still_counts() -> None:
    world = up(agent_body(max_failures=1, window=60))
    crash(world, "a-0-1", after=5)
    crash(world, "a-0-2", after=60)
    assert world.state == "Failed"


def test_a_failure_one_second_older_than_the_window_does_not_count() -> None:
    world = up(agent_body(max_failures=1, window=60))
    crash(world, "a-0-1", after=5)
    crash(world, "a-0-2", after=61)
    assert world.state == "Running"


def test_with_a_budget_of_zero_the_first_failure_parks() -> None:
    world = up(agent_body(max_failures=0))
    crash(world, "a-0-1")
    assert (world.state, world.made()) == ("Failed", ["a-0-1"])


def test_normal_exits_exhaust_a_permanent_agents_budget() -> None:
    world = up(agent_body(max_failures=1))
    crash(world, "a-0-1", code=0)
    crash(world, "a-0-2", code=0)
    assert world.state == "Failed"
    assert "Last: exit code 0" in world.condition("Stalled")[2]


def test_disruptions_never_exhaust_the_budget() -> None:
    world = up(agent_body(max_failures=0))
    for number in range(1, 6):
        world.tick(1)
        world.evict(f"a-0-{number}")
        world.settle()
    assert (world.state, world.status.disruptions, world.live()) == ("Running", 5, ["a-0-6"])


def test_the_budget_is_one_for_all_replicas_as_an_otp_supervisors_is_for_all_children() -> None:
    world = up(agent_body(replicas=2, max_failures=1))
    crash(world, "a-0-1")
    crash(world, "a-1-1")
    assert world.state == "Failed"


def test_failures_seen_in_one_pass_are_judged_in_the_order_they_happened() -> None:
    world = up(agent_body(replicas=2, max_failures=1))
    world.tick(1)
    world.end("a-1-1", 7)
    world.tick(1)
    world.end("a-0-1", 8)
    world.settle()
    assert [(f.ordinal, f.exit_code) for f in world.status.failures] == [(1, 7), (0, 8)]
    assert world.state == "Failed"


def test_the_window_is_judged_at_the_time_of_the_failure_not_of_the_look() -> None:
    world = up(agent_body(max_failures=1, window=60))
    crash(world, "a-0-1", after=10)
    world.tick(30)
    world.end("a-0-2", 1)
    world.tick(500)
    world.settle()
    assert (world.state, world.counted()) == ("Failed", [10, 40])


def test_a_failure_in_the_future_is_taken_for_one_of_now() -> None:
    world = up(agent_body())
    world.tick(10)
    world.end("a-0-1", 1)
    world.now = at(5)
    world.settle()
    assert world.counted() == [5]


# --- parking ----------------------------------------------------------------------------------------------------------


def parked(**words: Any) -> World:
    world = up(agent_body(max_failures=0, **words))
    crash(world, "a-0-1", code=2, after=100)
    assert world.status.parked_at == world.now
    return world


def test_a_parked_agent_creates_nothing_ever_again() -> None:
    world = parked()
    writes = list(world.writes)
    world.advance(10_000)
    assert world.writes == writes
    assert world.wake_at is None


def test_the_other_ordinals_of_a_parked_agent_are_stopped_uncounted() -> None:
    world = parked(replicas=3)
    assert (world.live(), world.counted()) == ([], [100])
    assert [str(record.state) for record in world.status.pods] == ["Failed", "Stopped", "Stopped"]


def test_a_parked_agent_says_how_it_came_to_it_and_how_it_gets_out() -> None:
    status, reason, message = parked().condition("Stalled")
    assert (status, reason) == ("True", "RestartBudgetExhausted")
    assert message == (
        "1 failure in 60 s (allowed: 0). Last: exit code 2. Fix it, then change the spec or: "
        'kubectl annotate mba a -n team --overwrite mabeam.dev/release="$(date +%s)"'
    )


def test_the_last_line_of_a_crash_is_told_wherever_the_crash_is() -> None:
    world = up(agent_body(max_failures=1, backoff=NO_BACKOFF))
    for name in ("a-0-1", "a-0-2"):
        world.tick(1)
        world.end(name, 1, message="{}\nValueError: no such model\n")
        world.settle()
    words = "exit code 1: ValueError: no such model"
    assert [failure.message for failure in world.status.failures] == ["ValueError: no such model"] * 2
    assert f"Last: {words}. Fix it" in world.condition("Stalled")[2]
    assert world.told("AgentFailed") == [f"a-0-1: {words}; restart 1 of 1 in 60 s, now"]
    assert f"Last: {words}. Fix it" in world.told("RestartBudgetExhausted")[0]


def test_a_parked_agents_last_pod_is_kept_for_its_logs() -> None:
    world = parked()
    world.advance(1000)
    assert world.ended() == ["a-0-1"]


def test_parking_is_told_once() -> None:
    world = parked()
    world.advance(1000)
    assert len(world.told("RestartBudgetExhausted")) == 1


def test_scaling_releases_no_parked_agent() -> None:
    world = parked()
    for replicas in (3, 0, 2):
        world.change(replicas=replicas)
        world.settle()
        assert (world.state, world.live(), world.made()) == ("Failed", [], ["a-0-1"])


def test_a_pod_that_comes_late_to_a_parked_agent_is_stopped() -> None:
    world = up(agent_body(replicas=2, max_failures=0), prompt=False)
    world.end("a-0-1", 1)
    world.settle()
    assert world.live() == ["a-1-1"]
    world.reap("a-1-1")
    world.settle()
    assert (world.state, world.live()) == ("Failed", [])


# --- release ----------------------------------------------------------------------------------------------------------


def test_the_annotation_releases_a_parked_agent_and_empties_its_window() -> None:
    world = parked(replicas=2)
    world.annotate(ANNOTATION_RELEASE, "1")
    world.settle()
    assert (world.state, world.live()) == ("Running", ["a-0-2", "a-1-2"])
    assert world.status.parked_at is None
    assert [failure.released for failure in world.status.failures] == [True]


def test_a_release_is_used_once_and_recorded() -> None:
    world = parked()
    world.annotate(ANNOTATION_RELEASE, "1")
    world.settle()
    assert world.status.released_by == "1"
    crash(world, "a-0-2")
    assert world.state == "Failed"
    world.advance(1000)
    assert world.state == "Failed"


def test_a_used_value_that_is_taken_away_and_set_again_releases_nobody() -> None:
    world = parked()
    world.annotate(ANNOTATION_RELEASE, "1")
    world.settle()
    del world.agent["metadata"]["annotations"][ANNOTATION_RELEASE]
    crash(world, "a-0-2")
    world.annotate(ANNOTATION_RELEASE, "1")
    world.settle()
    assert (world.state, world.status.released_by) == ("Failed", "1")


def test_another_value_releases_again() -> None:
    world = parked()
    for number, value in ((2, "1"), (3, "2")):
        world.annotate(ANNOTATION_RELEASE, value)
        world.settle()
        assert (world.state, world.live()) == ("Running", [f"a-0-{number}"])
        crash(world, f"a-0-{number}")
        assert world.state == "Failed"


def test_a_release_longer_than_the_status_can_hold_is_used_once_too() -> None:
    world = parked()
    world.annotate(ANNOTATION_RELEASE, "x" * 5000)
    world.settle()
    assert world.state == "Running"
    crash(world, "a-0-2")
    assert world.state == "Failed"


def test_a_changed_spec_releases_a_parked_agent() -> None:
    world = parked()
    world.change(image="worker:2")
    world.settle()
    assert (world.state, world.live()) == ("Running", ["a-0-2"])
    assert len(world.told("AgentReleased")) == 1


def test_a_change_that_shapes_no_pod_releases_too() -> None:
    world = parked()
    world.change(preferences=[{"variable": "temperature", "value": 1}])
    world.settle()
    assert world.state == "Running"


@pytest.mark.parametrize(("restart", "code"), [("Transient", 0), ("Temporary", 0), ("Temporary", 1)])
def test_an_agent_that_ended_starts_again_only_by_a_release(restart: str, code: int) -> None:
    world = up(agent_body(restart=restart))
    crash(world, "a-0-1", code)
    world.advance(100_000)
    assert world.live() == []
    world.annotate(ANNOTATION_RELEASE, "now")
    world.settle()
    assert (world.state, world.live()) == ("Running", ["a-0-2"])


@pytest.mark.parametrize(("restart", "code"), [("Transient", 0), ("Temporary", 0), ("Temporary", 1)])
def test_an_agent_that_ended_starts_again_by_a_changed_spec_but_not_by_scaling(restart: str, code: int) -> None:
    world = up(agent_body(restart=restart))
    crash(world, "a-0-1", code)
    world.change(replicas=2)
    world.settle()
    assert world.live() == ["a-1-1"]
    world.change(image="worker:2")
    world.settle()
    assert "a-0-2" in world.live()


def test_a_disrupted_temporary_agent_starts_again_by_a_release() -> None:
    world = up(agent_body(restart="Temporary"))
    world.evict("a-0-1")
    world.settle()
    world.annotate(ANNOTATION_RELEASE, "now")
    world.settle()
    assert world.live() == ["a-0-2"]


@pytest.mark.parametrize("restart", STRATEGIES)
def test_stop_then_running_is_a_fresh_start_and_the_ledger_stays(restart: str) -> None:
    world = up(agent_body(restart=restart))
    crash(world, "a-0-1")
    ledger = len(world.status.failures)
    world.change(desiredState="Stopped")
    world.settle()
    assert (world.state, world.live()) == ("Stopped", [])
    world.change(desiredState="Running")
    world.settle()
    assert world.state == "Running"
    assert len(world.live()) == 1
    assert len(world.status.failures) == ledger


def test_stop_then_running_before_the_old_pod_is_gone_waits_for_it() -> None:
    world = up(agent_body(), prompt=False)
    world.change(desiredState="Stopped")
    world.settle()
    world.change(desiredState="Running")
    world.settle()
    assert world.live() == ["a-0-1"]
    world.reap("a-0-1")
    world.settle()
    assert (world.live(), world.status.failures) == (["a-0-2"], ())


def test_scaling_up_before_the_old_pod_is_gone_waits_for_it() -> None:
    world = up(agent_body(replicas=2), prompt=False)
    world.change(replicas=1)
    world.settle()
    world.change(replicas=2)
    world.settle()
    assert world.live() == ["a-0-1", "a-1-1"]
    world.reap("a-1-1")
    world.settle()
    assert (world.live(), world.status.failures) == (["a-0-1", "a-1-2"], ())


def test_an_agent_that_is_created_stopped_never_starts() -> None:
    world = World(agent_body(desired="Stopped"))
    world.advance(1000)
    assert (world.state, world.made()) == ("Stopped", [])
    assert world.condition("Ready")[0] == "True"
    assert world.told("AgentRegistered") == ["accepted; it stays stopped, as desired"]


# --- backoff ----------------------------------------------------------------------------------------------------------


def test_the_first_restart_after_a_healthy_spell_is_immediate_the_next_ones_wait_exponentially() -> None:
    world = up(agent_body(max_failures=100, backoff=PLAIN_BACKOFF))
    waited = []
    for number in range(1, 10):
        crash(world, f"a-0-{number}")
        due = world.record().next_restart_time
        waited.append((due - world.now).total_seconds() if due else 0)
        world.advance(waited[-1])
        assert world.live() == [f"a-0-{number + 1}"]
    assert waited == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_health_resets_the_backoff() -> None:
    world = up(agent_body(max_failures=100, backoff=PLAIN_BACKOFF))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    world.advance(1)
    crash(world, "a-0-3", after=300)
    assert world.live() == ["a-0-4"]
    crash(world, "a-0-4", after=299)
    assert world.live() == []


def test_no_pod_is_created_before_its_time_and_the_operator_wakes_itself() -> None:
    world = up(agent_body(max_failures=9, backoff={**PLAIN_BACKOFF, "initialSeconds": 10}))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    assert world.condition("Ready")[1] == "BackOff"
    world.tick(9)
    world.settle()
    assert world.live() == []
    world.advance(1)
    assert world.live() == ["a-0-3"]


def test_the_message_of_a_waiting_agent_names_the_failure_it_waits_after() -> None:
    world = up(agent_body(max_failures=9, backoff=PLAIN_BACKOFF))
    crash(world, "a-0-1", code=3)
    crash(world, "a-0-2", code=4)
    assert world.condition("Ready")[2] == "a-0-3 starts at 00:00:03 UTC after exit code 4"


def test_a_release_ends_the_wait() -> None:
    world = up(agent_body(max_failures=9, backoff={**PLAIN_BACKOFF, "initialSeconds": 50}))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    world.annotate(ANNOTATION_RELEASE, "now")
    world.settle()
    assert world.live() == ["a-0-3"]


def test_evictions_are_spaced_out_too_though_never_counted() -> None:
    world = up(agent_body(backoff=PLAIN_BACKOFF))
    world.evict("a-0-1")
    world.settle()
    world.evict("a-0-2")
    world.settle()
    assert world.live() == []
    assert world.status.restarts == 0


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "cause"), [("ImagePullBackOff", "ImageError"), ("CreateContainerConfigError", "ConfigError")]
)
def test_a_pod_that_cannot_start_fails_after_the_start_timeout_counted_from_its_scheduling(
    reason: str, cause: str
) -> None:
    world = World(agent_body(max_failures=0, startTimeoutSeconds=300), prompt=False)
    world.settle()
    world.tick(1000)
    world.cannot_schedule("a-0-1")
    world.settle()
    world.tick(50)
    world.cannot_start("a-0-1", reason, "it is not there")
    world.settle()
    assert (world.state, world.condition("Ready")) == (
        "Starting",
        ("False", reason, "a-0-1 cannot start: it is not there"),
    )
    world.advance(299)
    assert world.status.failures == ()
    world.advance(1)
    assert [(f.cause, f.counted) for f in world.status.failures] == [(cause, True)]
    assert world.state == "Failed"


def test_the_kubelets_changing_words_for_one_trouble_are_not_told_again() -> None:
    world = World(agent_body(), prompt=False)
    world.settle()
    world.cannot_start("a-0-1", "ErrImagePull", "not found")
    world.settle()
    writes = len(world.writes)
    for reason, message in (("ImagePullBackOff", "back-off pulling"), ("ErrImagePull", "not found")):
        world.cannot_start("a-0-1", reason, message)
        world.settle()
    assert len(world.writes) == writes


def test_an_unschedulable_pod_waits_and_never_fails() -> None:
    world = World(agent_body(max_failures=0), prompt=False)
    world.settle()
    world.cannot_schedule("a-0-1")
    world.advance(100_000)
    assert (world.state, world.status.failures) == ("Starting", ())
    assert world.condition("Ready")[1] == "Unschedulable"


def test_a_pod_that_runs_but_is_not_ready_does_not_fail_at_the_start_timeout() -> None:
    world = World(agent_body(max_failures=0), prompt=False)
    world.settle()
    world.start("a-0-1", ready=False)
    world.advance(10_000)
    assert (world.state, world.status.failures) == ("Starting", ())


def test_a_running_pod_that_becomes_unready_is_no_failure() -> None:
    world = up(agent_body(max_failures=0))
    world.unready("a-0-1")
    world.settle()
    assert (world.state, world.condition("Ready")[:2]) == ("Running", ("False", "NotReady"))
    assert world.live() == ["a-0-1"]


def test_a_pod_that_vanishes_before_it_ran_is_created_again_uncounted() -> None:
    world = World(agent_body(), prompt=False)
    world.settle()
    world.forget()
    world.settle()
    assert (world.made(), world.status.failures) == (["a-0-1", "a-0-1"], ())


# --- sidecars ---------------------------------------------------------------------------------------------------------


def test_a_sidecar_does_not_keep_a_dead_agent_alive() -> None:
    world = up(agent_body(template=WITH_SIDECAR))
    world.tick(1)
    world.end("a-0-1", 1, alone=True)
    assert world.live() == ["a-0-1"]
    world.settle()
    assert (world.state, world.live(), world.counted()) == ("Running", ["a-0-2"], [1])


# --- intents, fencing, leftovers --------------------------------------------------------------------------------------


def test_the_pass_that_counts_a_failure_writes_nothing_but_the_number() -> None:
    world = up(agent_body(), prompt=False)
    world.end("a-0-1", 1)
    writes = len(world.writes)
    world.pass_once()
    assert [write.verb for write in world.writes[writes:]] == ["patch-status"]
    assert (world.record().incarnation, world.made()) == (2, ["a-0-1"])
    world.pass_once()
    assert world.made() == ["a-0-1", "a-0-2"]


def test_a_new_pod_waits_until_the_old_one_is_gone() -> None:
    world = up(agent_body(), prompt=False)
    world.delete("a-0-1")
    world.settle()
    assert (world.live(), world.record().incarnation) == (["a-0-1"], 2)
    world.reap("a-0-1")
    world.settle()
    assert world.live() == ["a-0-2"]


def test_a_new_pod_does_not_wait_for_one_whose_node_is_gone() -> None:
    world = up(agent_body(), prompt=False, nodes={"node1", "node2"})
    world.drain("a-0-1", "DeletionByTaintManager")
    world.settle()
    assert world.live() == ["a-0-1"]
    world.nodes = {"node2"}
    world.settle()
    assert world.live() == ["a-0-1", "a-0-2"]
    assert world.status.disruptions == 1


def test_a_pod_that_vanished_with_its_node_is_a_disruption() -> None:
    world = up(agent_body(max_failures=0), nodes={"node1", "node2"})
    world.nodes = {"node2"}
    world.forget(["a-0-1"])
    world.settle()
    assert [(f.cause, f.counted) for f in world.status.failures] == [("NodeLost", False)]


def test_pods_that_vanished_from_a_drained_node_while_nobody_looked_are_a_disruption() -> None:
    world = up(agent_body(max_failures=0, replicas=2), nodes={"node1", "node2"})
    world.cordoned = {"node1"}
    world.forget(["a-0-1", "a-1-1"])
    world.settle()
    assert [(f.cause, f.counted) for f in world.status.failures] == [("Evicted", False), ("Evicted", False)]
    assert world.state != "Failed"


def test_a_clock_that_was_stepped_back_holds_no_restart_for_longer_than_a_backoff() -> None:
    world = up(agent_body(max_failures=9, backoff={**PLAIN_BACKOFF, "initialSeconds": 50, "maxSeconds": 60}))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    assert world.record().next_restart_time is not None
    snapshot = world.look()
    stepped = decide(snapshot, world.now - timedelta(hours=1))
    assert [effect.name for effect in stepped.effects if effect.verb == "create"] == ["a-0-3"]


def test_only_the_last_ended_pod_of_each_ordinal_is_kept() -> None:
    world = up(agent_body(replicas=2, max_failures=9))
    for number in (1, 2, 3):
        crash(world, f"a-0-{number}")
    assert (world.ended(), world.live()) == (["a-0-3"], ["a-0-4", "a-1-1"])


def test_the_ended_pods_of_a_scaled_away_ordinal_are_not_kept() -> None:
    world = up(agent_body(replicas=2, max_failures=9))
    crash(world, "a-1-1")
    world.change(replicas=1)
    world.settle()
    assert (sorted(world.pods), [record.ordinal for record in world.status.pods]) == (["a-0-1"], [0])


def test_a_stranger_may_delete_a_kept_pod_without_any_consequence() -> None:
    world = up(agent_body())
    crash(world, "a-0-1")
    before = world.status
    world.forget(["a-0-1"])
    world.settle()
    assert world.status == before


@pytest.mark.parametrize(("policy", "seconds"), [("Graceful", 17), ("Brutal", 1)])
def test_a_stop_gives_the_grace_that_the_shutdown_policy_says(policy: str, seconds: int) -> None:
    world = up(agent_body(shutdown={"policy": policy, "timeoutSeconds": 17}), prompt=False)
    world.change(desiredState="Stopped")
    world.settle()
    assert world.pods["a-0-1"]["metadata"]["deletionGracePeriodSeconds"] == seconds


def test_a_pod_that_is_being_deleted_is_not_deleted_again() -> None:
    world = up(agent_body(), prompt=False)
    world.change(desiredState="Stopped")
    world.settle()
    assert [write.verb for write in world.writes].count("delete") == 1


# --- a changed spec ---------------------------------------------------------------------------------------------------


def test_a_changed_spec_replaces_the_pods_one_ordinal_at_a_time_uncounted() -> None:
    world = up(agent_body(replicas=3, max_failures=0), prompt=False)
    world.change(image="worker:2")
    for ordinal in range(3):
        world.settle()
        going = [name for name in world.live() if "deletionTimestamp" in world.pods[name]["metadata"]]
        assert going == [f"a-{ordinal}-1"]
        world.reap(going[0])
        world.settle()
        world.start(f"a-{ordinal}-2")
    world.settle()
    assert (world.state, world.live()) == ("Running", ["a-0-2", "a-1-2", "a-2-2"])
    assert (world.status.failures, world.status.restarts) == ((), 0)
    assert {pod["spec"]["containers"][0]["image"] for pod in world.pods.values()} == {"worker:2"}


def test_a_roll_waits_for_the_replacement_to_be_ready() -> None:
    world = up(agent_body(replicas=2), prompt=False)
    world.change(image="worker:2")
    world.settle()
    world.reap("a-0-1")
    world.settle()
    world.start("a-0-2", ready=False)
    world.settle()
    assert world.live() == ["a-0-2", "a-1-1"]
    assert "deletionTimestamp" not in world.pods["a-1-1"]["metadata"]


def test_a_spec_that_never_ran_is_mended_without_waiting_for_it() -> None:
    world = World(agent_body(image="nowhere:1"), prompt=False)
    world.settle()
    world.cannot_start("a-0-1", "ImagePullBackOff")
    world.settle()
    world.change(image="worker:1")
    world.settle()
    world.reap("a-0-1")
    world.settle()
    world.start("a-0-2")
    world.settle()
    assert (world.state, world.status.failures) == ("Running", ())


def test_a_change_that_shapes_no_pod_replaces_none() -> None:
    world = up(agent_body())
    world.change(faultTolerance={"maxFailures": 9, "backoff": dict(NO_BACKOFF)})
    world.change(replicas=2)
    world.settle()
    assert world.live() == ["a-0-1", "a-1-1"]


def test_a_spec_that_changes_back_before_its_pod_is_made_replaces_it_no_more() -> None:
    world = up(agent_body(max_failures=9, backoff={**PLAIN_BACKOFF, "initialSeconds": 100}))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    world.change(image="worker:2")
    world.settle()
    assert world.live() == ["a-0-3"]
    assert world.pods["a-0-3"]["spec"]["containers"][0]["image"] == "worker:2"


# --- what was lost ----------------------------------------------------------------------------------------------------

GARBAGE: list[dict[str, Any]] = [
    {"observedGeneration": -1},
    {"state": "Nonsense", "pods": "none"},
    {"pods": [{"ordinal": 0, "name": "a-0-1", "incarnation": 1}], "conditions": [{"type": "Ready"}]},
    {"observedGeneration": 1, "pods": [{"ordinal": 0, "name": "a-0-1", "incarnation": 1, "state": "Running"}]},
    {"observedGeneration": 1, "pods": [{"ordinal": 0, "name": "a-0-1", "incarnation": 2**31 - 1}]},
]


@pytest.mark.parametrize("status", GARBAGE)
def test_a_lost_status_is_learnt_anew_from_the_pods_without_disturbing_them(status: dict[str, Any]) -> None:
    world = up(agent_body(max_failures=9))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    pods = sorted(world.pods)
    world.lose_status(status)
    world.settle()
    assert (world.state, sorted(world.pods), world.record().incarnation) == ("Running", pods, 3)
    assert world.status.failures == ()


def test_a_lost_status_of_a_finished_agent_does_not_start_it_again() -> None:
    world = up(agent_body(restart="Transient"))
    crash(world, "a-0-1", code=0)
    world.lose_status()
    world.settle()
    assert (world.state, world.live(), world.made()) == ("Stopped", [], ["a-0-1"])


def test_pods_of_ordinals_nobody_asked_for_are_stopped() -> None:
    world = up(agent_body(replicas=3))
    world.lose_status()
    world.change(replicas=1)
    world.settle()
    assert (world.live(), [record.ordinal for record in world.status.pods]) == (["a-0-1"], [0])


def test_an_agent_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    world = up(agent_body())
    world.agent["metadata"]["deletionTimestamp"] = stamp(0)
    world.forget(["a-0-1"])
    writes = len(world.writes)
    world.settle()
    assert len(world.writes) == writes


def test_a_spec_that_cannot_be_read_leaves_its_pods_alone() -> None:
    world = up(agent_body())
    world.change(replicas="many")
    writes = len(world.writes)
    world.advance(100)
    assert [write.verb for write in world.writes[writes:]] == ["patch-status"]
    assert world.condition("Accepted")[:2] == ("False", "InvalidSpec")
    assert world.condition("Stalled")[0] == "True"
    assert world.live() == ["a-0-1"]
    world.change(replicas=1)
    world.settle()
    assert (world.condition("Accepted")[0], world.live()) == ("True", ["a-0-1"])


@pytest.mark.parametrize(("strategy", "ends"), [("Permanent", "a-0-2"), ("Transient", "a-0-2"), ("Temporary", None)])
def test_a_pod_that_ran_unready_and_vanished_unseen_was_deleted_by_somebody(strategy: str, ends: str | None) -> None:
    world = World(agent_body(restart=strategy), prompt=False)
    world.settle()
    world.start("a-0-1", ready=False)
    world.settle()
    world.forget(["a-0-1"])
    world.settle()
    assert [f.cause for f in world.status.failures] == ["DeletedByOther"]
    assert world.live() == ([ends] if ends else [])


# --- thrift -----------------------------------------------------------------------------------------------------------


def test_a_start_takes_three_writes_and_a_deletion_none() -> None:
    world = World(agent_body(), prompt=False)
    world.settle()
    world.schedule("a-0-1")
    world.settle()
    world.start("a-0-1")  # without a readiness probe the kubelet tells of Running and Ready together
    world.settle()
    assert [write.verb for write in world.writes] == ["patch-status", "create", "patch-status"]
    world.agent["metadata"]["deletionTimestamp"] = stamp(9)
    world.settle()
    world.delete("a-0-1")
    world.settle()
    assert len(world.writes) == 3


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", STRATEGIES)
def test_the_pass_after_a_settled_state_says_nothing(how: str, restart: str) -> None:
    world = ended(how, restart)
    snapshot = world.look()
    decision = decide(snapshot, at(500))
    assert decision.status.to_wire() == snapshot.agent.status.to_wire()
    assert (decision.effects, decision.events, decision.requeue_after) == ((), (), None)


def test_the_world_itself_refuses_two_live_pods_of_one_ordinal() -> None:
    world = up(agent_body())
    world.pods["a-0-9"] = {**world.pods["a-0-1"], "metadata": {**world.pods["a-0-1"]["metadata"], "name": "a-0-9"}}
    with pytest.raises(ImpossibleState, match="two live pods"):
        world._check()


def test_a_pass_that_others_wait_behind_makes_the_pod_first_and_tidies_up_in_a_later_one() -> None:
    world = World(agent_body())
    world.settle()
    for life in (1, 2):
        world.end(f"a-0-{life}")
        world.pass_once()
        if life == 1:
            world.settle()
    decided = decide(world.look(), world.now)
    assert [(effect.verb, effect.name) for effect in decided.effects] == [("delete", "a-0-1"), ("create", "a-0-3")]
    hurried = pods_first(decided)
    assert [(effect.verb, effect.name) for effect in hurried.effects] == [("create", "a-0-3")]
    assert (hurried.status, hurried.requeue_after) == (decided.status, 5.0)


def test_a_pass_that_makes_no_pod_tidies_up_whoever_waits() -> None:
    world = World(agent_body())
    world.settle()
    crash(world, "a-0-1")
    world.end("a-0-2")
    world.change(desiredState="Stopped")
    world.pass_once()
    decided = decide(world.look(), world.now)
    assert [(effect.verb, effect.name) for effect in decided.effects] == [("delete", "a-0-1")]
    assert pods_first(decided) is decided
