"""The first pods of an agent come before its first status, which tells of both; anything out of the ordinary is told first."""

from dataclasses import replace

import pytest

from mabeam.core.decision import Decision
from mabeam.core.passes.agent import decide
from mabeam.core.passes.early_writes import defer_first_status, first_status_delay
from mabeam.core.snapshot import AgentSnapshot, PodRefused
from support.builders import a_pod, agent_body, an_agent, at, exited, waiting
from support.world import World


def written(world: World) -> list[tuple[str, str]]:
    return [(write.verb, write.name) for write in world.writes]


def first(snapshot: AgentSnapshot, left: float = 0.0) -> Decision:  # type: ignore[type-arg]
    return defer_first_status(snapshot, decide(snapshot, at(0)), at(0), decide=decide, left=left)


def test_a_new_agent_costs_a_pod_and_one_status() -> None:
    world = World(agent_body(), implying=True)
    world.settle()
    assert written(world) == [("create", "a-0-1"), ("patch-status", "a")]
    assert world.state == "Running"
    assert world.told("AgentRegistered") == ["accepted; a-0-1 runs on node1"]
    assert world.told("AgentStarted") == []


def test_each_replica_gets_its_first_pod_at_once() -> None:
    world = World(agent_body(replicas=3), implying=True)
    world.settle()
    assert world.made() == ["a-0-1", "a-1-1", "a-2-1"]
    assert len(world.writes) == 4


def test_a_slow_start_is_told_after_two_seconds() -> None:
    world = World(agent_body(), prompt=False, implying=True)
    world.settle()
    world.advance(1.9)
    assert written(world) == [("create", "a-0-1")]
    world.advance(0.2)
    assert written(world) == [("create", "a-0-1"), ("patch-status", "a")]
    assert world.state == "Starting"


def test_trouble_is_told_at_once() -> None:
    world = World(agent_body(), prompt=False, implying=True)
    world.settle()
    world.schedule("a-0-1")
    world.cannot_start("a-0-1", "ImagePullBackOff")
    world.settle()
    assert world.condition("Ready")[1] == "ImagePullBackOff"


def test_a_first_pod_that_fails_before_anything_was_told_is_counted() -> None:
    world = World(agent_body(), prompt=False, implying=True)
    world.settle()
    world.start("a-0-1")
    world.end("a-0-1", 3)
    world.settle()
    assert (world.status.restarts, world.made()) == (1, ["a-0-1", "a-0-2"])


@pytest.mark.parametrize(
    "facts",
    [
        {"refused": PodRefused("no such service account", 9.0)},
        {"name_taken": "a-0-1"},
        {"invalid": "spec.replicas: -1 is too few"},
        {"pods": (a_pod("a-0-4"),)},
    ],
    ids=["refused", "name taken", "invalid", "pods of a lost status"],
)
def test_what_is_out_of_the_ordinary_is_stored_before_anything_is_done(facts: dict) -> None:  # type: ignore[type-arg]
    snapshot = replace(AgentSnapshot(an_agent()), **facts)
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))


def test_an_agent_that_is_to_rest_is_told_so_at_once() -> None:
    snapshot = AgentSnapshot(an_agent(desired="Stopped"))
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))


def test_the_word_on_a_known_agent_never_waits() -> None:
    told = decide(AgentSnapshot(an_agent()), at(0)).status
    agent = an_agent().model_copy(update={"status": told})
    snapshot = AgentSnapshot(agent, pods=(a_pod("a-0-1", waiting()),))
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))


def test_the_more_agents_start_at_once_the_longer_their_first_status_may_wait_up_to_half_a_minute() -> None:
    assert [first_status_delay(others) for others in (0, 400, 10_000)] == [2.0, 6.0, 30.0]


def test_a_pod_that_could_not_be_made_with_the_others_is_told_and_asked_for_at_once() -> None:
    snapshot = replace(AgentSnapshot(an_agent(replicas=2)), pods=(a_pod("a-0-1", waiting()),))
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))


def test_a_replica_that_runs_is_told_though_the_others_are_on_their_way() -> None:
    pods = (a_pod("a-0-1"), a_pod("a-1-1", waiting()))
    snapshot = replace(AgentSnapshot(an_agent(replicas=2)), pods=pods)
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))


def test_a_replica_that_is_done_is_told_though_the_others_are_on_their_way() -> None:
    pods = (a_pod("a-0-1", exited(0)), a_pod("a-1-1", waiting()))
    snapshot = replace(AgentSnapshot(an_agent(replicas=2, restart="Transient")), pods=pods)
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))


def test_a_spec_that_changes_before_the_first_word_is_acted_on_at_once() -> None:
    pods = (a_pod("a-0-1", waiting(), spec_hash="of another spec"),)
    snapshot = replace(AgentSnapshot(an_agent()), pods=pods)
    assert first(snapshot, left=2.0) == decide(snapshot, at(0))
