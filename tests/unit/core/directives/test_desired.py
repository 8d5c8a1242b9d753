"""Who is told of whom: peers that a topology makes, and peers that a custom variable names."""

from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.core.directives.desired import agents_naming_as_peer, desired_directives, peers_named_by
from mabeam.core.directives.effective import effective_set
from mabeam.core.snapshot import Key
from mabeam.state.cache import AGENT, Cache
from mabeam.state.wakeups import COALESCE_SECONDS, affected_keys
from support.builders import agent_body, an_agent
from support.coordination import a_decided, variable_body


def naming(peers: Any) -> JsonDict:
    told = {"agent": "a", "action": "UpdateCommunication", "parameters": {"peers": peers}}
    return {"directives": [told, {"agent": "b", "action": "Stop"}]}


def custom(peers: Any) -> Any:
    return a_decided("v", naming(peers), ["a", "b"], type="Custom", function={"cel": "1"})


def test_a_custom_variable_makes_peers_of_those_it_names() -> None:
    variable = custom([{"name": "b", "direction": "Out"}])
    assert (peers_named_by(variable)("a"), peers_named_by(variable)("b")) == (("b",), ())
    assert (agents_naming_as_peer(variable)("a"), agents_naming_as_peer(variable)("b")) == ((), ("a",))
    told = effective_set(an_agent("a"), [variable], [])
    assert told.communication == {"peers": [{"name": "b", "direction": "Out"}]}


@pytest.mark.parametrize("peers", ["b", ["b"], [{}], [{"name": 1}], [{"name": "b", "direction": ["In"]}], 7])
def test_peers_that_are_none_are_refused_and_break_nobodys_pass(peers: Any) -> None:
    variable = custom(peers)
    assert peers_named_by(variable)("a") == ()
    told = effective_set(an_agent("a"), [variable], [])
    assert told.communication is None
    assert "`peers` must be a list" in told.set_aside[0].message


def test_a_stored_value_that_is_no_list_of_directives_tells_nobody_anything() -> None:
    variable = a_decided("v", {"directives": [7, None, "x"]}, ["a"], type="Custom", function={"cel": "1"})
    assert desired_directives(variable)("a") == ()


def test_a_new_role_wakes_those_that_have_the_agent_for_a_peer() -> None:
    cache = Cache()
    status = {"observedGeneration": 1, "value": {"pattern": "Ring", "members": ["a", "b"]}, "round": 1}
    bodies = [
        variable_body("v", ["a", "b"], type="CommunicationTopology", status=status, value=None),
        agent_body("a"),
        agent_body("b"),
    ]
    del bodies[0]["spec"]["value"]
    for version, body in enumerate(bodies):
        body["metadata"]["resourceVersion"] = str(version)
        cache.upsert(body["kind"], body)
    promoted = agent_body("a") | {"status": {"observedGeneration": 1, "role": "Coordinator"}}
    promoted["metadata"]["resourceVersion"] = "9"
    change = cache.upsert("Agent", promoted)
    assert change is not None
    assert dict(affected_keys(change, cache))[Key(AGENT, "team", "b")] == COALESCE_SECONDS
