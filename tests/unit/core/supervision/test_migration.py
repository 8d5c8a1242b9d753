"""Migration: pods that move to other nodes, told to or drained; never a failure, one replica at a time."""

import pytest

from mabeam.api.names import ANNOTATION_MIGRATE
from support.builders import agent_body
from support.world import World


def a_team(replicas: int = 1, *, prompt: bool = True, **words: object) -> World:
    """An agent whose replicas all run on node1."""
    world = World(agent_body(replicas=replicas, **words), nodes={"node1", "node2"})
    world.settle()
    world.prompt = prompt
    world.annotate(ANNOTATION_MIGRATE, "1")
    return world


def nodes_of(world: World) -> dict[str, str]:
    return {name: world.pods[name]["spec"]["nodeName"] for name in world.live()}


def test_the_annotation_moves_the_pod_to_another_node_and_counts_nothing() -> None:
    world = a_team()
    world.settle()
    assert nodes_of(world) == {"a-0-2": "node2"}
    assert (world.status.restarts, world.status.disruptions, world.status.failures) == (0, 0, ())
    assert (world.status.migrations, world.status.migrated_by, world.state) == (1, "1", "Running")
    assert world.told("Migrating") == ["a-0-1: migrating from node1; not counted"]
    assert world.told("AgentMigrated") == ["a-0-2 moved from node1 to node2"]


def test_the_old_pod_is_gone_before_the_new_one_is_made() -> None:
    world = a_team(prompt=False)
    world.settle()
    assert (world.live(), world.made()) == (["a-0-1"], ["a-0-1"])
    assert "deletionTimestamp" in world.pods["a-0-1"]["metadata"]
    assert world.state == "Migrating"
    assert world.condition("Ready") == ("False", "Migrating", "a-0-2 moves from node1")
    world.reap("a-0-1")
    world.settle()
    assert world.live() == ["a-0-2"]


def test_the_same_value_moves_once_and_another_value_moves_again() -> None:
    world = a_team()
    world.advance(1000)
    assert world.live() == ["a-0-2"]
    world.annotate(ANNOTATION_MIGRATE, "2")
    world.settle()
    assert nodes_of(world) == {"a-0-3": "node1"}
    assert world.status.migrations == 2


def test_an_annotation_that_came_with_the_agent_moves_nothing() -> None:
    world = World(agent_body(annotations={ANNOTATION_MIGRATE: "1"}))
    world.advance(100)
    assert world.live() == ["a-0-1"]
    assert world.status.migrated_by == "1"


def test_replicas_move_one_after_the_other_each_when_the_one_before_is_ready() -> None:
    world = a_team(3, prompt=False)
    world.settle()
    world.reap("a-0-1")
    world.settle()
    assert world.live() == ["a-0-2", "a-1-1", "a-2-1"]
    world.start("a-0-2", "node2")
    world.settle()
    assert [record.incarnation for record in world.status.pods] == [2, 2, 1]


def test_replicas_that_depend_on_each_other_move_together() -> None:
    world = a_team(3, supervisionStrategy="RestForOne")
    world.settle()
    assert nodes_of(world) == {"a-0-2": "node2", "a-1-2": "node2", "a-2-2": "node2"}


def test_a_group_that_moves_for_a_replica_that_is_not_ready_says_that_it_moves() -> None:
    world = a_team(2, supervisionStrategy="OneForAll", prompt=False)
    world.unready("a-0-1")
    world.settle()
    assert world.told("Migrating") == ["a-0-1 and its group: migrating from node1; not counted"]


def test_a_replica_that_was_to_move_and_fails_first_comes_back_elsewhere() -> None:
    world = a_team(2, prompt=False)
    world.end("a-1-1", 3)
    world.settle()
    assert world.record(1).migrating_from == "node1"
    world.prompt = True
    world.settle()
    assert nodes_of(world) == {"a-0-2": "node2", "a-1-2": "node2"}
    assert world.status.restarts == 1


def test_a_new_pod_that_fails_while_it_moves_is_a_failure_and_goes_on_moving() -> None:
    world = a_team(prompt=False)
    world.settle()
    world.reap("a-0-1")
    world.settle()
    world.start("a-0-2", "node2", ready=False)
    world.end("a-0-2", 1)
    world.settle()
    assert (world.status.restarts, world.state) == (1, "Migrating")
    world.start("a-0-3", "node2")
    world.settle()
    assert (world.state, world.record().migrating_from) == ("Running", None)


def test_a_pod_that_no_other_node_takes_says_so() -> None:
    world = a_team(prompt=False)
    world.settle()
    world.reap("a-0-1")
    world.settle()
    world.start("a-0-2", "node1")
    world.settle()
    assert world.told("AgentMigrated") == ["a-0-2 runs on node1 again: the scheduler found no other node for it"]
    world.advance(1000)
    assert world.live() == ["a-0-2"]


def test_an_agent_that_rests_moves_when_it_starts_again() -> None:
    world = a_team(desiredState="Running")
    world.change(desiredState="Stopped")
    world.settle()
    assert (world.live(), world.state) == ([], "Stopped")
    world.change(desiredState="Running")
    world.settle()
    assert nodes_of(world) == {"a-0-2": "node2"}


# --- a drain ---------------------------------------------------------------------------------------------------------------


def test_a_drain_moves_the_agent_and_counts_nothing() -> None:
    world = World(agent_body(), nodes={"node1", "node2"})
    world.settle()
    world.cordoned = {"node1"}
    world.drain("a-0-1")
    world.prompt = False
    world.settle()
    assert (world.state, world.record().migrating_from) == ("Migrating", "node1")
    world.prompt = True
    world.settle()
    assert nodes_of(world) == {"a-0-2": "node2"}
    assert (world.status.restarts, world.status.disruptions) == (0, 1)


def test_an_eviction_from_a_node_that_takes_pods_is_no_move() -> None:
    world = World(agent_body(), nodes={"node1", "node2"})
    world.settle()
    world.drain("a-0-1")
    world.prompt = False
    world.settle()
    assert world.state == "Starting"


# --- make before break --------------------------------------------------------------------------------------------------------


def test_with_make_before_break_the_old_pod_serves_until_the_new_one_is_ready() -> None:
    world = a_team(2, migrationStrategy="MakeBeforeBreak", prompt=False)
    world.settle()
    assert world.live() == ["a-0-1", "a-0-2", "a-1-1"]
    assert "deletionTimestamp" not in world.pods["a-0-1"]["metadata"]
    world.start("a-0-2", "node2")
    world.settle()
    assert "deletionTimestamp" in world.pods["a-0-1"]["metadata"]
    world.prompt = True
    world.settle()
    assert nodes_of(world) == {"a-0-2": "node2", "a-1-2": "node2"}


@pytest.mark.parametrize(
    "words", [{"replicas": 1}, {"replicas": 2, "supervisionStrategy": "OneForAll"}], ids=["one replica", "a group"]
)
def test_what_must_never_run_twice_breaks_before_it_makes_whatever_is_asked(words: dict[str, object]) -> None:
    world = a_team(**{"migrationStrategy": "MakeBeforeBreak", "prompt": False, **words})  # type: ignore[arg-type]
    world.settle()
    assert len(world.made()) == words["replicas"]


def test_with_make_before_break_a_new_pod_that_fails_leaves_the_old_one_serving() -> None:
    world = a_team(2, migrationStrategy="MakeBeforeBreak", prompt=False)
    world.settle()
    world.start("a-0-2", "node2", ready=False)
    world.end("a-0-2", 3)
    world.settle()
    assert world.live() == ["a-0-1", "a-0-3", "a-1-1"]
    assert world.status.restarts == 1


# --- fencing ------------------------------------------------------------------------------------------------------------------


def test_the_replacement_of_a_pod_on_a_lost_node_waits_and_says_for_what() -> None:
    world = World(agent_body(), nodes={"node1", "node2"}, prompt=True)
    world.settle()
    world.prompt = False
    world.drain("a-0-1", "DeletionByTaintManager")
    world.advance(1000)
    ready, reason, message = world.condition("Ready")
    assert (ready, reason, world.made()) == ("False", "Fencing", ["a-0-1"])
    assert message.startswith("a-0-2 waits until a-0-1 is known to be gone: its node node1 does not answer.")
    assert "node.kubernetes.io/out-of-service" in message


@pytest.mark.parametrize("proof", ["the pod is deleted by force", "the node is gone"])
def test_the_replacement_starts_when_the_old_pod_is_proven_to_be_gone(proof: str) -> None:
    world = World(agent_body(), nodes={"node1", "node2"})
    world.settle()
    world.prompt = False
    world.drain("a-0-1", "DeletionByTaintManager")
    world.settle()
    if proof == "the node is gone":
        world.nodes = {"node2"}
    else:
        world.forget(["a-0-1"])
    world.settle()
    assert world.made() == ["a-0-1", "a-0-2"]
