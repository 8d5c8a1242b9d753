"""The records of replicas: the backoff between incarnations, starts after a stop, and a status that was lost."""

from datetime import timedelta
from typing import Any

import pytest

from mabeam.api.agent import Agent, RestartStrategy
from mabeam.api.agent_status import MAX_RECORDS
from mabeam.api.names import ANNOTATION_RELEASE
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot
from support.agent_ends import crash
from support.builders import PLAIN_BACKOFF, a_pod, agent_body, at
from support.world import up

STRATEGIES = [strategy.value for strategy in RestartStrategy]


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


def test_a_clock_that_was_stepped_back_holds_no_restart_for_longer_than_a_backoff() -> None:
    world = up(agent_body(max_failures=9, backoff={**PLAIN_BACKOFF, "initialSeconds": 50, "maxSeconds": 60}))
    crash(world, "a-0-1")
    crash(world, "a-0-2")
    assert world.record().next_restart_time is not None
    snapshot = world.look()
    stepped = decide(snapshot, world.now - timedelta(hours=1))
    assert [effect.name for effect in stepped.effects if effect.verb == "create"] == ["a-0-3"]


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


def test_pods_that_claim_more_ordinals_than_a_status_holds_do_not_keep_it_from_being_written() -> None:
    status = {"observedGeneration": 1, "state": "Running", "pods": [{"ordinal": 0, "name": "a-0-1", "incarnation": 1}]}
    agent = Agent.model_validate(agent_body(status=status))
    forged = tuple(a_pod(f"a-{ordinal}-1") for ordinal in range(1, 251))
    after = decide(AgentSnapshot(agent, (a_pod("a-0-1"), *forged), nodes=frozenset({"node1"})), at(9)).status
    assert (len(after.pods) <= MAX_RECORDS, after.pods[0].name) == (True, "a-0-1")
