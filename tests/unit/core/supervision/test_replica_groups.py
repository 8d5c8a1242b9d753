"""Replicas that depend on each other: whom a failure takes along, stopped from the last down and started from the first up."""

import pytest

from support.builders import PLAIN_BACKOFF, agent_body
from support.world import World


def a_crew(strategy: str, replicas: int = 3, *, prompt: bool = True, **words: object) -> World:
    """An agent with that many replicas, all ready."""
    world = World(agent_body(replicas=replicas, supervisionStrategy=strategy, **words), prompt=prompt)
    world.settle()
    return world


@pytest.mark.parametrize(
    ("strategy", "alive"),
    [
        ("OneForOne", ["a-0-1", "a-1-2", "a-2-1"]),
        ("RestForOne", ["a-0-1", "a-1-2", "a-2-2"]),
        ("OneForAll", ["a-0-2", "a-1-2", "a-2-2"]),
    ],
)
def test_a_failure_takes_along_whom_the_strategy_says_and_costs_one(strategy: str, alive: list[str]) -> None:
    world = a_crew(strategy)
    world.end("a-1-1", 2)
    world.settle()
    assert world.live() == alive
    assert (world.status.restarts, len(world.counted())) == (1, 1)
    assert world.condition("Ready")[0] == "True"


def test_pods_go_from_the_last_down_and_come_from_the_first_up() -> None:
    world = a_crew("OneForAll")
    begun = len(world.writes)
    world.end("a-0-1", 2)
    world.settle()
    doings = [(write.verb, write.name) for write in world.writes[begun:] if write.verb in ("create", "delete")]
    assert doings == [
        ("delete", "a-2-1"),
        ("delete", "a-1-1"),
        ("create", "a-0-2"),
        ("create", "a-1-2"),
        ("create", "a-2-2"),
    ]


def test_the_first_start_is_in_order_too() -> None:
    world = World(agent_body(replicas=3, supervisionStrategy="RestForOne"), prompt=False)
    world.settle()
    assert world.live() == ["a-0-1"]
    world.start("a-0-1")
    world.settle()
    assert world.live() == ["a-0-1", "a-1-1"]


def test_replicas_that_stand_for_themselves_start_all_at_once() -> None:
    world = World(agent_body(replicas=3), prompt=False)
    world.settle()
    assert len(world.live()) == 3


def test_nothing_comes_before_all_that_must_go_is_gone() -> None:
    world = a_crew("OneForAll", prompt=False)
    for ordinal in range(3):
        world.start(f"a-{ordinal}-1")
        world.settle()
    world.end("a-0-1", 2)
    world.settle()
    assert world.live() == ["a-1-1", "a-2-1"]
    world.reap("a-2-1")
    world.settle()
    assert "deletionTimestamp" in world.pods["a-1-1"]["metadata"]
    assert world.live() == ["a-1-1"]
    world.reap("a-1-1")
    world.settle()
    assert world.live() == ["a-0-2"]


def test_what_fell_while_another_took_it_along_is_not_counted() -> None:
    world = a_crew("OneForAll")
    world.end("a-0-1", 2)
    world.end("a-2-1", 2)
    world.settle()
    assert world.live() == ["a-0-2", "a-1-2", "a-2-2"]
    assert world.status.restarts == 1


def test_the_group_waits_out_the_delay_of_the_one_that_failed() -> None:
    world = a_crew("OneForAll", replicas=2, backoff=PLAIN_BACKOFF)
    for incarnation in (1, 2):
        world.end(f"a-0-{incarnation}", 2)
        world.settle()
    assert world.live() == []
    world.advance(0.5)
    assert world.live() == []
    world.advance(2)
    assert world.live() == ["a-0-3", "a-1-3"]


def test_a_finished_replica_starts_again_with_its_group_as_in_otp() -> None:
    world = a_crew("OneForAll", replicas=2, restart="Transient")
    world.end("a-0-1", 0)
    world.settle()
    assert world.live() == ["a-1-1"]
    world.end("a-1-1", 2)
    world.settle()
    assert world.live() == ["a-0-2", "a-1-2"]


def test_a_disruption_takes_the_group_along_uncounted() -> None:
    world = a_crew("OneForAll", replicas=2)
    world.evict("a-1-1")
    world.settle()
    assert world.live() == ["a-0-2", "a-1-2"]
    assert (world.status.restarts, world.counted()) == (0, [])


def test_an_exhausted_budget_stops_the_rest_in_reverse() -> None:
    world = a_crew("OneForAll", max_failures=0)
    begun = len(world.writes)
    world.end("a-1-1", 2)
    world.settle()
    assert [write.name for write in world.writes[begun:] if write.verb in ("create", "delete")] == ["a-2-1", "a-0-1"]
    assert world.state == "Failed"


def test_a_changed_spec_replaces_the_group_at_once() -> None:
    world = a_crew("OneForAll")
    world.agent["spec"]["image"] = "worker:2"
    world.agent["metadata"]["generation"] += 1
    world.settle()
    assert world.live() == ["a-0-2", "a-1-2", "a-2-2"]
    assert world.status.restarts == 0
