"""What is a stored intent, and when the status that stores one must trigger the next pass."""

import pytest

from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.directive import AgentDirectives
from mabeam.core.supervision.pod_effects import expects_follow_up, same_intent
from support.agent_ends import crash
from support.builders import agent_body
from support.world import up


def a_record(state: AgentState = AgentState.STARTING, incarnation: int = 1, ordinal: int = 0) -> PodRecord:
    name = f"a-{ordinal}-{incarnation}"
    return PodRecord(ordinal=ordinal, name=name, incarnation=incarnation, state=state)


def test_a_pod_that_comes_up_is_the_same_intent_and_a_stop_or_a_restart_is_another() -> None:
    assert same_intent(a_record(AgentState.RUNNING), a_record(AgentState.STARTING))
    assert not same_intent(a_record(AgentState.STOPPING), a_record(AgentState.RUNNING))
    assert not same_intent(a_record(incarnation=2), a_record())
    assert not same_intent(a_record(), None)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (AgentStatus(pods=(a_record(AgentState.RUNNING),), ready_replicas=1), False),
        (AgentStatus(pods=(a_record(incarnation=2),)), True),
        (AgentStatus(pods=()), True),
        (AgentStatus(pods=(a_record(), a_record(ordinal=1))), True),
        (AgentStatus(pods=(a_record(),), directives=AgentDirectives(generation=1)), True),
    ],
)
def test_a_status_triggers_the_next_pass_when_it_stores_an_intent_or_directives(
    after: AgentStatus, expected: bool
) -> None:
    assert expects_follow_up(AgentStatus(pods=(a_record(),)), after) is expected


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


def test_pods_of_ordinals_nobody_asked_for_are_stopped() -> None:
    world = up(agent_body(replicas=3))
    world.lose_status()
    world.change(replicas=1)
    world.settle()
    assert (world.live(), [record.ordinal for record in world.status.pods]) == (["a-0-1"], [0])
