"""The directives that do not fit a status: in ConfigMaps of the variable's own."""

import json
from typing import Any

import pytest

from mabeam.core.coordination.config_maps import directives as shards
from mabeam.core.snapshot import ConfigMapFacts
from support.builders import agent_body, an_agent
from support.coordination import (
    Team,
    a_variable,
    variable_body,
)
from support.variable_passes import look


def crowd(count: int, **spec: Any) -> Team:
    agents = [agent_body(f"a{i:04}") for i in range(count)]
    return Team.of(variable_body(agents=[a["metadata"]["name"] for a in agents], value=0.5, **spec), *agents)


def test_a_hundred_directives_fit_the_status_and_need_no_config_map() -> None:
    team = crowd(100)
    assert team.pass_variable().effects == ()
    assert len(team.variable().status.directives.items) == 100


def test_all_directives_of_a_larger_team_are_in_a_config_map_that_is_written_once() -> None:
    team = crowd(101)
    [effect] = team.pass_variable().effects
    assert (effect.verb, effect.name) == ("create", "temperature-mabeam-directives")
    assert effect.body["metadata"]["labels"]["mabeam.dev/variable"] == "temperature"
    assert effect.body["metadata"]["ownerReferences"][0]["kind"] == "OrchestrationVariable"
    assert len(json.loads(effect.body["data"]["directives.json"])["directives"]) == 101
    status = team.variable().status
    assert (len(status.directives.items), status.directives.issued, len(status.agents.names)) == (100, 101, 100)
    assert team.pass_variable().effects == ()
    team.variables["temperature"]["spec"]["value"] = 0.6
    assert [e.verb for e in team.pass_variable().effects] == ["apply"]


def test_a_variable_that_is_paused_or_advises_writes_no_config_map() -> None:
    team = crowd(101)
    team.pass_variable()
    team.maps.clear()
    for quiet in ({"paused": True}, {"mode": "Advise"}):
        team.variables["temperature"]["spec"] |= quiet
        assert team.pass_variable().effects == ()
        team.variables["temperature"]["spec"] |= {"paused": False}


def test_a_team_that_shrinks_needs_its_config_map_no_more() -> None:
    team = crowd(101)
    team.pass_variable()
    del team.agents["a0100"]
    assert [(e.verb, e.uid) for e in team.pass_variable().effects] == [
        ("delete", "uid-of-temperature-mabeam-directives")
    ]
    assert team.pass_variable().effects == ()


def test_directives_that_do_not_fit_one_config_map_are_spread_over_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8192)
    team = crowd(150)
    effects = team.pass_variable().effects
    names = [effect.name for effect in effects]
    assert names == [f"temperature-mabeam-directives-{i}" for i in range(len(names))]
    assert len(names) > 1
    assert all(len(effect.body["data"]["directives.json"]) <= 8192 for effect in effects)
    agents = [d["agent"] for e in effects for d in json.loads(e.body["data"]["directives.json"])["directives"]]
    assert agents == sorted(team.agents)
    assert team.pass_variable().effects == ()
    monkeypatch.setattr(shards, "SHARD_BYTES", 512 * 1024)
    verbs = [effect.verb for effect in team.pass_variable().effects]
    assert verbs == ["create", *["delete"] * len(names)]


def test_somebody_elses_config_map_is_never_written() -> None:
    foreign = ConfigMapFacts("temperature-mabeam-directives", "u", "1", False, {})
    agents = tuple(an_agent(f"a{i:03}") for i in range(101))
    variable = a_variable(agents=tuple(a.metadata.name for a in agents))
    assert look(variable, *agents, config_maps=(foreign,)).effects == ()
