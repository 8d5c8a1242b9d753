"""Ways back and ways down beyond an exit: the half-open try, the outside observer's word, and progress that stands still."""

from collections.abc import Callable

import pytest

from mabeam.api.base import JsonDict
from mabeam.core.snapshot import Progress
from mabeam.core.views.metrics import recovery_seconds
from support.builders import NO_BACKOFF, agent_body, at
from support.world import World


def tolerance(**words: object) -> JsonDict:
    return {"faultTolerance": {"maxFailures": 0, "failureWindowSeconds": 60, "backoff": NO_BACKOFF, **words}}


def a_parked_agent(**words: object) -> World:
    world = World(agent_body(**tolerance(**words)))
    world.settle()
    world.end("a-0-1", 2)
    world.settle()
    assert world.state == "Failed"
    return world


# --- the half-open try --------------------------------------------------------------------------------------------------


def test_a_parked_agent_stays_parked_unless_it_asks_for_a_try() -> None:
    world = a_parked_agent()
    world.advance(100_000)
    assert world.live() == []


def test_a_parked_agent_is_tried_once_after_the_time_it_asks_for() -> None:
    world = a_parked_agent(probeAfterSeconds=600)
    world.advance(599)
    assert world.live() == []
    world.advance(1)
    assert world.live() == ["a-0-2"]
    assert (world.status.parked_at, world.status.probed_at) == (None, at(600))
    assert world.told("AgentProbed") == ["parked, now started on trial: one counted failure parks it again"]


def test_a_failure_during_the_try_parks_it_again_whatever_the_budget_says() -> None:
    world = a_parked_agent(probeAfterSeconds=600)
    world.agent["spec"]["faultTolerance"]["maxFailures"] = 0
    world.advance(600)
    world.advance(30)
    world.end("a-0-2", 2)
    world.settle()
    assert world.live() == []
    assert (world.status.parked_at, world.status.probed_at) == (at(630), None)
    world.advance(600)
    assert world.live() == ["a-0-3"]


def test_the_try_is_not_used_up_while_nothing_may_run() -> None:
    world = a_parked_agent(probeAfterSeconds=600)
    world.change(replicas=0)
    world.settle()
    world.advance(1000)
    assert world.status.probed_at is None
    world.change(replicas=1)
    world.settle()
    assert world.live() == ["a-0-1"]


def test_a_whole_window_without_a_failure_ends_the_try_with_a_full_budget() -> None:
    world = a_parked_agent(probeAfterSeconds=600)
    world.advance(600)
    world.advance(60)
    assert world.status.probed_at is None
    assert [failure.released for failure in world.status.failures] == [True]
    assert world.live() == ["a-0-2"]


# --- the word of an outside observer --------------------------------------------------------------------------------------


def test_a_pod_that_an_observer_calls_failed_is_replaced_and_counted() -> None:
    world = World(agent_body())
    world.settle()
    world.report_failed("a-0-1", "answers nonsense")
    world.settle()
    assert world.live() == ["a-0-2"]
    [failure] = world.status.failures
    assert (str(failure.cause), failure.reason, failure.counted) == ("Reported", "answers nonsense", True)


# --- progress ---------------------------------------------------------------------------------------------------------------


def a_worker(**words: object) -> World:
    world = World(agent_body(faultTolerance={"progressTimeoutSeconds": 120, "backoff": NO_BACKOFF, **words}))
    world.settle()
    return world


def test_a_process_whose_progress_stands_still_for_too_long_has_failed() -> None:
    world = a_worker()
    world.progress = {"a-0-1": Progress(at(10))}
    world.advance(129)
    assert world.live() == ["a-0-1"]
    world.advance(1)
    assert world.live() == ["a-0-2"]
    [failure] = world.status.failures
    assert (str(failure.cause), failure.counted, failure.time) == ("Hang", True, at(130))


def test_a_process_that_says_it_waits_is_never_killed() -> None:
    world = a_worker()
    world.progress = {"a-0-1": Progress(at(0), waiting_until=at(10_000))}
    world.advance(10_000)
    assert world.live() == ["a-0-1"]
    world.advance(120)
    assert world.live() == ["a-0-2"]


def test_a_wait_beyond_all_calendars_is_a_wait() -> None:
    world = a_worker()
    world.progress = {"a-0-1": Progress(at(0), waiting_until=at(10**11))}
    world.advance(10**6)
    assert world.live() == ["a-0-1"]


def test_a_process_that_never_counted_its_progress_is_not_judged_by_it() -> None:
    world = a_worker()
    world.advance(10_000)
    assert world.live() == ["a-0-1"]


def test_without_a_timeout_nobody_asks() -> None:
    world = World(agent_body())
    world.settle()
    world.progress = {"a-0-1": Progress(at(0))}
    world.advance(10_000)
    assert world.live() == ["a-0-1"]


# --- elsewhere --------------------------------------------------------------------------------------------------------------


def preferences(world: World, pod: str) -> list[JsonDict]:
    affinity = world.pods[pod]["spec"].get("affinity", {}).get("nodeAffinity", {})
    found: list[JsonDict] = affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return found


def test_a_rescheduled_agent_prefers_any_node_to_the_one_it_failed_on() -> None:
    world = World(agent_body(faultTolerance={"recoveryStrategy": "Reschedule", "backoff": NO_BACKOFF}))
    world.settle()
    assert preferences(world, "a-0-1") == []
    world.end("a-0-1", 2)
    world.settle()
    [preference] = preferences(world, "a-0-2")
    assert preference["preference"]["matchExpressions"] == [
        {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["node1"]}
    ]


def test_an_agents_own_preferences_of_nodes_stay() -> None:
    mine = {"weight": 1, "preference": {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [mine]}}
    pod = {"spec": {"affinity": affinity, "containers": [{"name": "agent", "image": "x"}]}}
    tolerance = {"recoveryStrategy": "Reschedule", "backoff": NO_BACKOFF}
    world = World(agent_body(template=pod, faultTolerance=tolerance))
    world.settle()
    world.end("a-0-1", 2)
    world.settle()
    assert preferences(world, "a-0-2")[0] == mine
    assert len(preferences(world, "a-0-2")) == 2


def test_an_agent_that_is_restarted_where_it_was_prefers_nothing() -> None:
    world = World(agent_body())
    world.settle()
    world.end("a-0-1", 2)
    world.settle()
    assert preferences(world, "a-0-2") == []


# --- how long it took -------------------------------------------------------------------------------------------------------


def test_recovery_is_told_when_the_agent_is_whole_again() -> None:
    world = World(agent_body(backoff=NO_BACKOFF), prompt=False)
    world.settle()
    world.start("a-0-1")
    world.settle()
    world.tick(10)
    world.end("a-0-1", 2)
    world.settle()
    before = world.status
    world.tick(7)
    world.start("a-0-2")
    world.settle()
    assert recovery_seconds(before, world.status, world.now) == 7
    assert recovery_seconds(world.status, world.status, world.now) is None


def recoveries(world: World, *doings: Callable[[], object]) -> list[float]:
    """What each of these doings, and what it leads to, tells of a recovery."""
    told = []
    for do in doings:
        do()
        for _ in range(20):
            before = world.status
            world.pass_once()
            seconds = recovery_seconds(before, world.status, world.now)
            told += [seconds] if seconds is not None else []
            world._kubelet()
    return told


@pytest.mark.parametrize("strategy", ["OneForOne", "OneForAll"])
def test_who_is_whole_again_for_another_reason_did_not_recover(strategy: str) -> None:
    world = World(agent_body(replicas=2, supervisionStrategy=strategy))
    world.settle()
    assert recoveries(world, lambda: world.end("a-0-1", 2)) == [0]
    world.tick(3600)
    name = world.record(1).name
    assert (
        recoveries(
            world,
            lambda: world.change(replicas=3),
            lambda: world.unready(name),
            lambda: world._condition(name, "Ready", "True"),
            lambda: world.annotate("mabeam.dev/migrate", "1"),
            lambda: world.change(image="worker:2"),
            lambda: world.change(desiredState="Stopped"),
            lambda: world.change(desiredState="Running"),
        )
        == []
    )


# --- rules by exit code ---------------------------------------------------------------------------------------------------------


def a_ruled_agent(**words: object) -> World:
    rules = [{"codes": [75], "action": "Ignore"}, {"codes": [78, 75], "action": "Park"}]
    world = World(agent_body(faultTolerance={"maxFailures": 1, "backoff": NO_BACKOFF, "exitCodeRules": rules}, **words))
    world.settle()
    return world


def test_an_exit_code_that_is_ignored_is_followed_by_a_restart_that_costs_nothing() -> None:
    world = a_ruled_agent()
    for number in range(1, 6):
        world.end(f"a-0-{number}", 75)
        world.settle()
    assert (world.state, world.status.restarts, world.status.disruptions) == ("Running", 0, 0)
    assert [failure.counted for failure in world.status.failures] == [False] * 5
    assert world.told("AgentFailed")[0] == "a-0-1: exit code 75; restarted now, not counted"


def test_an_exit_code_that_no_restart_helps_parks_the_agent_at_once() -> None:
    world = a_ruled_agent()
    world.end("a-0-1", 78)
    world.settle()
    assert (world.state, world.live()) == ("Failed", [])
    ready, reason, message = world.condition("Stalled")
    assert (ready, reason) == ("True", "ParkedByRule")
    assert message.startswith("exit code 78, for which `exitCodeRules` say Park. Fix it, then change the spec")


def test_a_temporary_agent_is_not_restarted_by_a_rule() -> None:
    world = a_ruled_agent(restartStrategy="Temporary")
    world.end("a-0-1", 75)
    world.settle()
    assert (world.state, world.live()) == ("Failed", [])
    assert world.condition("Stalled")[1] == "Failed"


def test_a_code_without_a_rule_is_a_failure_like_any_other() -> None:
    world = a_ruled_agent()
    world.end("a-0-1", 3)
    world.settle()
    assert (world.state, world.status.restarts) == ("Running", 1)
