"""A changed spec replaces the pods, one ordinal at a time."""

from mabeam.api.names import ANNOTATION_RESTART
from support.agent_ends import crash
from support.builders import NO_BACKOFF, PLAIN_BACKOFF, agent_body
from support.world import World, up


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


def test_a_roll_with_a_bad_image_stops_at_the_first_replica_and_the_others_go_on() -> None:
    world = up(agent_body(replicas=3, max_failures=1), prompt=False)
    world.change(image="worker:bad")
    world.settle()
    world.reap("a-0-1")
    for incarnation in (2, 3):
        world.settle()
        world.start(f"a-0-{incarnation}", ready=False)
        crash(world, f"a-0-{incarnation}")
    world.advance(600)
    assert world.live() == ["a-1-1", "a-2-1"]
    assert (world.state, world.status.parked_at, world.status.ready_replicas) == ("Running", None, 2)
    ready = next(c for c in world.status.conditions if c.type == "Ready")
    assert (str(ready.status), ready.reason) == ("False", "RolloutHalted")
    assert "a-0-3 ended with exit code 1" in ready.message
    assert any(c.type == "Stalled" and c.status == "True" for c in world.status.conditions)
    world.change(image="worker:2")
    world.settle()
    assert world.live() == ["a-0-4", "a-1-1", "a-2-1"]
    world.start("a-0-4")
    world.settle()
    assert [name for name in world.live() if "deletionTimestamp" in world.pods[name]["metadata"]] == ["a-1-1"]


def test_an_agent_whose_replicas_all_have_the_spec_that_spends_the_budget_is_parked() -> None:
    world = up(agent_body(replicas=2, max_failures=0))
    crash(world, "a-0-1")
    world.settle()
    assert world.status.parked_at is not None
    assert world.live() == []


def test_a_restart_that_is_asked_for_replaces_one_replica_at_a_time_and_counts_nothing() -> None:
    world = up(agent_body(replicas=2, max_failures=0), prompt=False)
    world.annotate(ANNOTATION_RESTART, "monday")
    for ordinal in range(2):
        world.settle()
        assert [n for n in world.live() if "deletionTimestamp" in world.pods[n]["metadata"]] == [f"a-{ordinal}-1"]
        world.reap(f"a-{ordinal}-1")
        world.settle()
        world.start(f"a-{ordinal}-2")
    world.advance(600)
    assert (world.state, world.live()) == ("Running", ["a-0-2", "a-1-2"])
    assert (world.status.failures, world.status.restarts, world.status.restarted_by) == ((), 0, "monday")
    assert "mabeam.dev/restart=monday" in world.told("Replacing")[0]


def test_a_restart_that_came_with_the_agent_or_was_taken_back_restarts_nothing() -> None:
    world = World(agent_body(annotations={ANNOTATION_RESTART: "1"}))
    world.advance(100)
    assert (world.live(), world.status.restarted_by) == (["a-0-1"], "1")
    world.annotate(ANNOTATION_RESTART, "")
    world.advance(100)
    assert (world.live(), world.status.restarted_by) == (["a-0-1"], "1")
    world.annotate(ANNOTATION_RESTART, "2")
    world.advance(100)
    assert world.live() == ["a-0-2"]


def test_a_restart_takes_no_further_replica_to_a_spec_that_failed() -> None:
    world = up(agent_body(replicas=2, max_failures=0), prompt=False)
    world.change(image="worker:bad")
    world.settle()
    world.reap("a-0-1")
    world.settle()
    world.start("a-0-2", ready=False)
    crash(world, "a-0-2")
    world.annotate(ANNOTATION_RESTART, "1")
    world.advance(60)
    assert world.live() == ["a-1-1"]
    assert "deletionTimestamp" not in world.pods["a-1-1"]["metadata"]
