"""The operator dies before any one of its writes, and comes back: everything ends in the same place, counted the same."""

from collections.abc import Callable
from typing import Any

import pytest

from mabeam.api.names import ANNOTATION_MIGRATE, ANNOTATION_RELEASE
from support.builders import PLAIN_BACKOFF, agent_body
from support.world import World

Story = tuple[dict[str, Any], Callable[[World], None]]


def crashes_until_parked_then_released(world: World) -> None:
    world.settle()
    for number in (1, 2, 3):
        world.tick(5)
        world.end(f"a-0-{number}", number)
        world.advance(10)
    assert world.state == "Failed"
    world.annotate(ANNOTATION_RELEASE, "again")
    world.settle()
    world.tick(1)
    world.end("a-0-4", 9)
    world.advance(100)


def rolls_three_replicas(world: World) -> None:
    world.settle()
    world.change(image="worker:2")
    world.advance(5)
    world.change(image="worker:3", replicas=2)
    world.advance(5)


def is_stopped_scaled_and_started(world: World) -> None:
    world.settle()
    world.change(desiredState="Stopped")
    world.settle()
    world.change(desiredState="Running", replicas=3)
    world.settle()
    world.change(replicas=1)
    world.advance(10)


def loses_pods_to_strangers_and_nodes(world: World) -> None:
    world.settle()
    world.tick(3)
    world.delete("a-0-1")
    world.settle()
    world.tick(3)
    world.forget(["a-1-1"])
    world.settle()
    world.tick(3)
    world.evict("a-0-2")
    world.drain("a-1-2", "PreemptionByScheduler")
    world.advance(1000)


def completes_one_by_one(world: World) -> None:
    world.settle()
    world.end("a-0-1", 0)
    world.settle()
    world.tick(1)
    world.end("a-1-1", 3)
    world.settle()
    world.end("a-1-2", 0)
    world.advance(10)
    world.change(image="worker:2")
    world.settle()


def ends_for_good(world: World) -> None:
    world.settle()
    world.end("a-0-1", 3)
    world.evict("a-1-1")
    world.advance(100)


def loses_its_status(world: World) -> None:
    world.settle()
    world.tick(1)
    world.end("a-0-1", 1)
    world.settle()
    world.lose_status()
    world.advance(10)


def falls_and_rolls_together(world: World) -> None:
    world.settle()
    world.tick(1)
    world.end("a-1-1", 3)
    world.settle()
    world.change(image="worker:2")
    world.settle()
    world.tick(1)
    world.end("a-0-3" if "a-0-3" in world.pods else "a-0-2", 4)
    world.advance(10)


def is_tried_again(world: World) -> None:
    world.settle()
    world.end("a-0-1", 3)
    world.advance(20)
    world.end("a-0-2", 3)
    world.advance(100)


def moves_and_is_drained(world: World) -> None:
    world.settle()
    world.tick(1)
    world.annotate(ANNOTATION_MIGRATE, "once")
    world.settle()
    world.cordoned = {"node2"}
    world.drain("a-1-2")
    world.advance(10)
    world.annotate(ANNOTATION_MIGRATE, "twice")
    world.end(min(world.live()), 3)
    world.advance(10)


STORIES: dict[str, Story] = {
    "crashes until parked, then released": (
        {"max_failures": 2, "backoff": PLAIN_BACKOFF},
        crashes_until_parked_then_released,
    ),
    "rolls three replicas": ({"replicas": 3}, rolls_three_replicas),
    "is stopped, scaled and started": ({}, is_stopped_scaled_and_started),
    "loses pods to strangers and nodes": (
        {"replicas": 2, "max_failures": 9, "backoff": PLAIN_BACKOFF},
        loses_pods_to_strangers_and_nodes,
    ),
    "completes one by one": ({"replicas": 2, "restart": "Transient"}, completes_one_by_one),
    "ends for good": ({"replicas": 2, "restart": "Temporary"}, ends_for_good),
    "falls and rolls with all": ({"replicas": 3, "supervisionStrategy": "OneForAll"}, falls_and_rolls_together),
    "falls and rolls with the rest": ({"replicas": 3, "supervisionStrategy": "RestForOne"}, falls_and_rolls_together),
    "is tried again": (
        {
            "faultTolerance": {
                "maxFailures": 0,
                "failureWindowSeconds": 5,
                "probeAfterSeconds": 15,
                "backoff": PLAIN_BACKOFF,
            }
        },
        is_tried_again,
    ),
    "moves and is drained": ({"replicas": 2}, moves_and_is_drained),
    "moves without a break": ({"replicas": 2, "migrationStrategy": "MakeBeforeBreak"}, moves_and_is_drained),
    "moves together": ({"replicas": 2, "supervisionStrategy": "OneForAll"}, moves_and_is_drained),
    "loses its status": ({"replicas": 2}, loses_its_status),
}


def told(name: str, crash_at: int | None = None, *, implying: bool = False) -> World:
    words, story = STORIES[name]
    world = World(agent_body(**words), crash_at=crash_at, implying=implying)
    story(world)
    return world


def place(world: World) -> tuple[Any, ...]:
    """Where a story ended: the whole status, and every pod with its phase."""
    return world.agent["status"], {name: pod["status"]["phase"] for name, pod in world.pods.items()}


IMPLYING = pytest.mark.parametrize("implying", [False, True], ids=["status first", "first pods first"])


@IMPLYING
@pytest.mark.parametrize("name", STORIES)
def test_a_crash_before_any_write_changes_no_ending(name: str, implying: bool) -> None:
    straight = told(name, implying=implying)
    assert straight.deaths == 0
    assert len(straight.writes) >= 4
    for number in range(len(straight.writes)):
        broken = told(name, crash_at=number, implying=implying)
        assert broken.deaths == 1
        assert place(broken) == place(straight), f"died before write {number}: {straight.writes[number]}"


@pytest.mark.parametrize("name", STORIES)
def test_pods_that_are_made_before_the_first_status_change_no_ending(name: str) -> None:
    assert place(told(name, implying=True)) == place(told(name))


@IMPLYING
@pytest.mark.parametrize("name", STORIES)
def test_a_crash_neither_adds_nor_loses_a_pod_or_a_failure(name: str, implying: bool) -> None:
    straight = told(name, implying=implying)
    pods = [write for write in straight.writes if write.kind == "Pod"]
    for number in range(len(straight.writes)):
        broken = told(name, crash_at=number, implying=implying)
        assert [write for write in broken.writes if write.kind == "Pod"] == pods
        assert broken.status.failures == straight.status.failures
