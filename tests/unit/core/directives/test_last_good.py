"""RestoreLastGood: what came since the agent was last healthy is dropped when it fails."""

from typing import Any

from mabeam.api.base import JsonDict
from mabeam.core.directives.last_good import HealthChange
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot
from support.builders import NO_BACKOFF, a_pod, agent_body, an_agent, at, exited, running, stamp
from support.coordination import Team, a_decided, variable_body

HEALTHY = 300


def a_team(value: float = 0.5, **tolerance: Any) -> Team:
    """One agent that restores, told one value."""
    agent = agent_body(faultTolerance={"recoveryStrategy": "RestoreLastGood", **tolerance})
    team = Team.of(variable_body(value=value), agent)
    team.settle()
    return team


def directive(team: Team) -> tuple[str, bool]:
    held = team.agent("a").status.directives
    assert held is not None
    [item] = held.items
    return str(item.state), bool(item.dropped)


def last_good(team: Team) -> JsonDict | None:
    held = team.agent("a").status.directives
    assert held is not None
    return held.last_good


def change(team: Team, value: float) -> None:
    team.variables["temperature"]["spec"]["value"] = value
    team.variables["temperature"]["metadata"]["generation"] += 1
    team.settle()


def fail(team: Team) -> None:
    """The process dies; the next one starts a moment later."""
    team.health_changes["a"] = HealthChange.FAILED
    team.pods["a-0-1"] = a_pod("a-0-1", running((team.now - at(0)).total_seconds()))
    team.settle()


def test_what_the_agent_was_healthy_with_for_long_enough_is_good() -> None:
    team = a_team()
    team.wait(HEALTHY - 1)
    team.settle()
    assert last_good(team) is None
    assert team.pass_agent("a").requeue_after == 1
    team.wait(1)
    team.settle()
    assert last_good(team) == {"temperature": 0.5}


def test_a_directive_that_the_agent_fails_with_is_dropped_and_the_good_one_is_in_force_again() -> None:
    team = a_team()
    team.wait(HEALTHY)
    team.settle()
    change(team, 0.9)
    assert team.parameters("a") == {"temperature": 0.9}
    team.wait(20)
    fail(team)
    assert team.parameters("a") == {"temperature": 0.5}
    assert directive(team) == ("Refused", True)
    status, reason, message = team.ready()
    assert (status, reason) == ("False", "Refused")
    assert "dropped: the agent failed after it came" in message


def test_it_stays_dropped_until_the_variable_orders_something_else() -> None:
    team = a_team()
    team.wait(HEALTHY)
    team.settle()
    change(team, 0.9)
    fail(team)
    team.wait(10_000)
    team.settle()
    assert team.parameters("a") == {"temperature": 0.5}
    change(team, 0.7)
    assert (team.parameters("a"), directive(team)) == ({"temperature": 0.7}, ("Acknowledged", False))


def test_a_release_tries_it_again() -> None:
    team = a_team()
    team.wait(HEALTHY)
    team.settle()
    change(team, 0.9)
    fail(team)
    team.health_changes["a"] = HealthChange.RELEASED
    team.settle()
    assert (team.parameters("a"), directive(team)) == ({"temperature": 0.9}, ("Acknowledged", False))


def test_a_good_directive_is_never_to_blame() -> None:
    team = a_team()
    team.wait(HEALTHY)
    team.settle()
    fail(team)
    assert (team.parameters("a"), directive(team)) == ({"temperature": 0.5}, ("Acknowledged", False))


def test_an_agent_that_was_never_healthy_goes_on_without_any() -> None:
    team = a_team()
    team.wait(20)
    fail(team)
    assert (team.parameters("a"), directive(team)) == ({}, ("Refused", True))


def test_the_generation_goes_up_and_everything_comes_to_rest() -> None:
    team = a_team()
    team.wait(HEALTHY)
    team.settle()
    change(team, 0.9)
    before = team.agent("a").status.directives
    fail(team)
    after = team.agent("a").status.directives
    assert before is not None
    assert after is not None
    assert after.generation == before.generation + 1 == after.applied_generation
    writes = team.status_writes
    team.wait(10_000)
    team.settle()
    team.settle()
    assert team.status_writes == writes


def test_another_strategy_drops_nothing_and_remembers_nothing() -> None:
    team = Team.of(variable_body(value=0.9), agent_body())
    team.settle()
    team.wait(HEALTHY)
    fail(team)
    assert (team.parameters("a"), directive(team), last_good(team)) == (
        {"temperature": 0.9},
        ("Acknowledged", False),
        None,
    )


def told(cause_code: int, **words: Any) -> bool:
    """Whether a pass that sees this exit drops the directive that came since the agent was healthy."""
    record = {"ordinal": 0, "name": "a-0-1", "incarnation": 1, "state": "Running", "startTime": stamp(0)}
    item = {
        "variable": "temperature",
        "action": "AdjustParameters",
        "parameters": {"temperature": 0.6},
        "generation": 1,
        "state": "Acknowledged",
    }
    status = {"observedGeneration": 1, "pods": [record], "directives": {"generation": 1, "items": [item]}}
    tolerance = {"recoveryStrategy": "RestoreLastGood", "backoff": NO_BACKOFF}
    agent = an_agent(status=status, faultTolerance=tolerance, **words)
    snapshot = AgentSnapshot(agent, (a_pod("a-0-1", exited(cause_code)),), variables=(a_decided(),))
    directives = decide(snapshot, at(20)).status.directives
    assert directives is not None
    return bool(directives.items[0].dropped)


def test_a_crash_is_to_be_blamed_on_what_came_last_and_a_normal_exit_is_not() -> None:
    assert told(3)
    assert not told(0)
    assert not told(42, normalExitCodes=[42])
