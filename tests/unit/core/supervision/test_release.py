"""Parked and ended agents: what keeps them at rest, and what starts them again."""

from typing import Any

import pytest

from mabeam.api.names import ANNOTATION_RELEASE
from support.agent_ends import crash
from support.builders import NO_BACKOFF, agent_body
from support.world import World, up


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
