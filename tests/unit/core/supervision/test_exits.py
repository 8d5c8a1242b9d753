"""What an exit leads to: the table of exits and restart strategies, the budget, and ends that nobody saw."""

import pytest

from mabeam.api.agent import RestartStrategy
from mabeam.api.agent_status import FailureCause
from mabeam.core.algorithms.otp import POLICY, ExitAction, ExitKind
from mabeam.core.supervision.exits import RESTING
from support.agent_ends import ENDS, crash, ended
from support.builders import WITH_SIDECAR, agent_body, at, stamp
from support.world import World, up

STRATEGIES = [strategy.value for strategy in RestartStrategy]
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


def test_a_sidecar_does_not_keep_a_dead_agent_alive() -> None:
    world = up(agent_body(template=WITH_SIDECAR))
    world.tick(1)
    world.end("a-0-1", 1, alone=True)
    assert world.live() == ["a-0-1"]
    world.settle()
    assert (world.state, world.live(), world.counted()) == ("Running", ["a-0-2"], [1])


def test_the_pass_that_counts_a_failure_writes_nothing_but_the_number() -> None:
    world = up(agent_body(), prompt=False)
    world.end("a-0-1", 1)
    writes = len(world.writes)
    world.pass_once()
    assert [write.verb for write in world.writes[writes:]] == ["patch-status"]
    assert (world.record().incarnation, world.made()) == (2, ["a-0-1"])
    world.pass_once()
    assert world.made() == ["a-0-1", "a-0-2"]


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


# --- nodes that go, and what was seen before ------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [True, False], ids=["seen terminating", "found gone"])
@pytest.mark.parametrize(
    ("taint", "cause"),
    [
        ("node.kubernetes.io/unschedulable", "Evicted"),
        ("karpenter.sh/disrupted", "Evicted"),
        ("ToBeDeletedByClusterAutoscaler", "Evicted"),
        ("node.kubernetes.io/unreachable", "NodeLost"),
        ("example.com/dedicated", "DeletedByOther"),
    ],
)
def test_a_pod_deleted_off_its_node_ends_in_the_same_way_whether_it_is_seen_or_not(
    taint: str, cause: str, seen: bool
) -> None:
    world = up(agent_body(max_failures=0, restart="Transient"), nodes={"node1", "node2"})
    world.taints = {"node1": [taint]}
    if seen:
        world.delete("a-0-1")
    else:
        world.forget(["a-0-1"])
    world.settle()
    assert [(f.cause, f.counted) for f in world.status.failures] == [(cause, cause == "DeletedByOther")]


@pytest.mark.parametrize("reason", ["EvictionByEvictionAPI", "PreemptionByScheduler", "AControllerOfTomorrow"])
def test_a_disruption_that_was_announced_is_remembered_when_the_pod_is_found_gone(reason: str) -> None:
    world = up(agent_body(max_failures=0), nodes={"node1"})
    world.announce("a-0-1", reason)
    world.settle()
    assert (world.live(), world.record().disruption) == (["a-0-1"], reason)
    world.forget(["a-0-1"])
    world.settle()
    assert [(f.reason, f.counted) for f in world.status.failures] == [(reason, False)]
    assert (world.live(), world.record().disruption) == (["a-0-2"], None)


def test_an_announcement_that_was_taken_back_is_forgotten() -> None:
    world = up(agent_body(), nodes={"node1"})
    world.announce("a-0-1", "EvictionByEvictionAPI")
    world.settle()
    world.announce("a-0-1", "EvictionByEvictionAPI", status="False")
    world.settle()
    assert world.record().disruption is None
    world.forget(["a-0-1"])
    world.settle()
    assert [f.cause for f in world.status.failures] == ["DeletedByOther"]


@pytest.mark.parametrize(("boot", "cause"), [("first", "Crash"), ("second", "NodeLost")])
def test_an_exit_code_of_the_runtime_is_the_nodes_when_that_was_booted_since(boot: str, cause: str) -> None:
    world = up(agent_body(max_failures=1), nodes={"node1"}, boots={"node1": "first"})
    assert world.record().boot_id == "first"
    world.boots = {"node1": boot}
    world.end("a-0-1", 255)
    world.settle()
    assert [(f.cause, f.counted) for f in world.status.failures] == [(cause, cause == "Crash")]
    assert world.record().boot_id == boot


def test_five_replicas_that_went_down_with_their_node_park_nobody() -> None:
    world = up(agent_body(replicas=5), nodes={"node1"})
    for ordinal in range(5):
        world.end(f"a-{ordinal}-1", 255, "Unknown")
    world.settle()
    assert {(f.cause, f.counted) for f in world.status.failures} == {("NodeLost", False)}
    assert (world.state, len(world.live()), world.status.disruptions) == ("Running", 5, 5)


def test_a_pod_that_is_rejected_over_and_over_is_made_again_with_growing_delays_and_never_counted() -> None:
    backoff = {"initialSeconds": 10, "factor": 2, "maxSeconds": 60, "jitter": 0, "resetAfterSeconds": 15}
    world = World(agent_body(max_failures=0, backoff=backoff), prompt=False, nodes={"node1"})
    world.settle()
    for _ in range(5):
        world.reject(world.live()[0], "OutOfexample.com/gpu")
        world.advance(120)
    assert [(f.cause, f.counted) for f in world.status.failures] == [("Evicted", False)] * 5
    assert world.made() == [f"a-0-{n}" for n in range(1, 7)]
    delays = [int(note.split("replaced in ")[1].split(" s")[0]) for note in world.told("AgentDisrupted")[1:]]
    assert delays == [10, 20, 40, 60]


# --- ends that become known late ------------------------------------------------------------------------------------


def late_world(*failed_at: int, max_failures: int) -> World:
    """Two replicas, of which the second failed at these times; the first one's node is cut off."""
    world = up(agent_body(replicas=2, max_failures=max_failures), nodes={"node1"})
    for number, seconds in enumerate(failed_at, 1):
        world.advance(seconds - (world.now - at(0)).total_seconds())
        world.end(f"a-1-{number}", 1)
        world.settle()
    return world


def test_a_late_end_counts_at_its_own_time_and_no_window_holds_what_did_not_lie_in_it() -> None:
    world = late_world(200, 270, 335, max_failures=1)
    world.end_at("a-0-1", at(100))
    world.settle()
    assert (world.state, world.counted()) == ("Running", [200, 270, 335, 100])
    assert world.told("AgentFailed")[-1].startswith("a-0-1: exit code 1; restart 1 of 1 in 60 s")


def test_a_late_end_exhausts_the_budget_of_a_window_that_was_full_without_it() -> None:
    world = late_world(120, 130, 140, max_failures=3)
    world.advance(300)
    world.end_at("a-0-1", at(100))
    world.settle()
    assert world.state == "Failed"
    assert world.condition("Stalled")[2].startswith("4 failures in 60 s (allowed: 3)")


# --- containers beside the main one ---------------------------------------------------------------------------------

NATIVE = {
    "spec": {
        "initContainers": [{"name": "proxy", "image": "p", "restartPolicy": "Always"}],
        "containers": [{"name": "agent", "image": "x"}],
    }
}


def sidecar_ends(world: World, name: str, code: int) -> None:
    """The container `proxy` beside the main one ends, and its pod is not Ready any more."""
    status = next(s for s in world.pods[name]["status"]["containerStatuses"] if s["name"] == "proxy")
    status |= {"ready": False, "state": {"terminated": {"exitCode": code, "finishedAt": stamp(10)}}}
    world.unready(name)


def native_sidecar_runs(world: World, name: str) -> None:
    world.pods[name]["status"]["initContainerStatuses"] = [{"name": "proxy", "ready": True, "state": {"running": {}}}]


def test_a_sidecar_that_ended_is_reported_once_and_ends_nothing() -> None:
    world = up(agent_body(template=WITH_SIDECAR))
    world.tick(10)
    sidecar_ends(world, "a-0-1", 1)
    world.settle()
    world.advance(3600)
    assert (world.live(), world.counted()) == (["a-0-1"], [])
    assert len(world.told("SidecarFailed")) == 1
    assert "container proxy ended with exit code 1" in world.told("SidecarFailed")[0]
    assert world.condition("Ready")[:2] == ("False", "SidecarFailed")
    assert world.condition("Stalled")[0] == "True"


def test_a_pod_that_is_ready_again_has_no_failed_sidecar() -> None:
    world = up(agent_body(template=NATIVE))
    restarted = {"state": {"running": {}}, "restartCount": 1, "lastState": {"terminated": {"exitCode": 3}}}
    world.pods["a-0-1"]["status"]["initContainerStatuses"] = [{"name": "proxy", "ready": False, **restarted}]
    world.unready("a-0-1")
    world.settle()
    assert world.record().reason == "SidecarFailed"
    native_sidecar_runs(world, "a-0-1")
    world.start("a-0-1")
    world.settle()
    assert world.record().reason is None
    assert world.condition("Ready")[:2] == ("True", "Running")


@pytest.mark.parametrize(("restart", "live"), [("Permanent", ["a-0-2"]), ("Transient", ["a-0-2"]), ("Temporary", [])])
def test_a_sidecar_that_failed_is_the_agents_failure_by_its_policy(restart: str, live: list[str]) -> None:
    world = up(agent_body(template=WITH_SIDECAR, restart=restart, sidecarFailure="Fail"))
    world.tick(10)
    sidecar_ends(world, "a-0-1", 1)
    world.settle()
    assert world.live() == live
    assert [(f.cause, f.exit_code, f.container) for f in world.status.failures] == [
        (FailureCause.SIDECAR_FAILED, 1, "proxy")
    ]


@pytest.mark.parametrize(("code", "restart"), [(3, "Permanent"), (3, "Temporary"), (0, "Transient")])
def test_a_pod_whose_native_sidecar_the_kubelet_ends_is_left_to_it_and_kept(code: int, restart: str) -> None:
    world = up(agent_body(template=NATIVE, restart=restart))
    native_sidecar_runs(world, "a-0-1")
    world.end("a-0-1", code, alone=True)
    world.settle()
    assert world.live() == ["a-0-1"]
    assert not any(write.verb == "delete" for write in world.writes)
    world.pods["a-0-1"]["status"]["initContainerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
    world.end("a-0-1", code)  # now with its phase
    world.settle()
    assert "a-0-1" in world.ended()
    assert world.live() == (["a-0-2"] if restart == "Permanent" else [])


def test_a_parked_agents_pod_is_left_to_the_kubelet_too() -> None:
    world = up(agent_body(template=NATIVE, max_failures=0))
    native_sidecar_runs(world, "a-0-1")
    world.end("a-0-1", 3, alone=True)
    world.settle()
    assert world.status.parked_at is not None
    assert world.live() == ["a-0-1"]


def test_a_native_sidecar_that_does_not_end_in_its_grace_and_a_margin_is_deleted_with_its_pod() -> None:
    world = up(agent_body(template=NATIVE, shutdown={"timeoutSeconds": 5}))
    native_sidecar_runs(world, "a-0-1")
    world.end("a-0-1", 3, alone=True)
    world.advance(19)
    assert world.live() == ["a-0-1"]
    world.advance(2)
    assert world.live() == ["a-0-2"]


def test_the_successor_of_a_container_that_the_kubelet_restarts_waits_until_it_is_gone() -> None:
    world = up(agent_body(), prompt=False)
    world.pods["a-0-1"]["spec"]["containers"][0]["restartPolicy"] = "Always"  # a webhook's, or an older version's
    world.end("a-0-1", 1, alone=True)
    world.settle()
    assert "deletionTimestamp" in world.pods["a-0-1"]["metadata"]
    assert world.made() == ["a-0-1"]
    world.reap("a-0-1")
    world.settle()
    assert world.made() == ["a-0-1", "a-0-2"]
    assert world.counted() == [0]


# --- starts that take their time ------------------------------------------------------------------------------------


def test_an_image_that_is_being_pulled_is_no_failure_however_long_and_said_once_that_is_long() -> None:
    world = World(agent_body(max_failures=0, startTimeoutSeconds=20), prompt=False)
    world.settle()
    world.cannot_start("a-0-1", "ContainerCreating")
    world.settle()
    assert "being pulled" not in world.condition("Ready")[2]
    world.advance(10)
    assert "the image worker:1 of container agent is being pulled" in world.condition("Ready")[2]
    world.advance(3600)
    assert (world.live(), world.counted(), world.state) == (["a-0-1"], [], "Starting")


def test_starts_that_fail_in_a_row_are_tried_again_and_stall_the_agent() -> None:
    world = World(agent_body(max_failures=1, window=60, startTimeoutSeconds=300), prompt=False)
    world.settle()
    for incarnation in (1, 2):
        assert world.condition("Stalled")[0] == "False"
        world.cannot_start(f"a-0-{incarnation}", "ImagePullBackOff", "no such image")
        world.advance(300)
        world.reap(f"a-0-{incarnation}")
        world.advance(120)
    assert world.status.parked_at is None
    assert world.condition("Stalled")[0] == "True"
    assert "It could not start 2 times in a row" in world.condition("Ready")[2]
    world.start("a-0-3")
    world.settle()
    assert world.condition("Stalled")[0] == "False"
