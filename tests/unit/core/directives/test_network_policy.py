"""`enforcement: NetworkPolicy`: who may begin to talk to an agent, and when a policy is written, left alone or deleted."""

from dataclasses import replace
from typing import Any

import pytest

from mabeam.core.directives.network_policy import network_policy_effects
from mabeam.core.directives.overrides import spec_overrides
from mabeam.core.snapshot import AgentSnapshot, NetworkPolicyFacts
from support.builders import an_agent
from support.coordination import a_decided


def told(
    pattern: str = "Star", agent: str = "a", enforcement: str = "NetworkPolicy", policy: Any = None, **words: Any
) -> Any:
    """The effects for an agent of a topology of a, b and c with `a` in the middle."""
    value = {"pattern": pattern, "members": ["a", "b", "c"], "hub": "a"}
    shape = {"pattern": pattern, "enforcement": enforcement}
    variable = a_decided("net", value, "abc", type="CommunicationTopology", topology=shape)
    snapshot = AgentSnapshot(an_agent(agent, **words), variables=(variable,), network_policy=policy)
    orders = spec_overrides(snapshot)
    return network_policy_effects(snapshot, orders.directives)


def ingress(*args: Any, **words: Any) -> Any:
    """Who may begin to talk to it, and to which ports."""
    [effect] = told(*args, **words)
    assert effect.verb == "create"
    rules = effect.body["spec"]["ingress"]
    callers = [p["podSelector"]["matchLabels"]["mabeam.dev/agent"] for rule in rules for p in rule.get("from", [])]
    return callers, [port["port"] for rule in rules for port in rule.get("ports", [])]


def test_in_a_star_the_hub_hears_everyone_and_a_leaf_the_hub_alone() -> None:
    assert ingress("Star", "a") == (["b", "c"], [9464])
    assert ingress("Star", "b") == (["a"], [9464])


def test_a_broadcasts_source_hears_nobody() -> None:
    assert ingress("Broadcast", "a") == ([], [9464])
    assert ingress("Broadcast", "b") == (["a"], [9464])


@pytest.mark.parametrize(("reports", "ports"), [({"source": "Pod", "port": 7000}, [7000]), ({"source": "None"}, [])])
def test_reports_are_read_on_their_own_port_where_there_are_any(reports: Any, ports: Any) -> None:
    assert ingress("Ring", "a", reports=reports) == (["b", "c"], ports)


def found(effect: Any, **words: Any) -> NetworkPolicyFacts:
    """The policy of that effect as it is found again."""
    [content] = effect.body["metadata"]["annotations"].values()
    return replace(NetworkPolicyFacts(effect.name, "uid-1", "5", True, content), **words)


def test_what_says_the_same_is_left_alone_and_what_does_not_is_written_over() -> None:
    [effect] = told()
    assert told(policy=found(effect)) == ()
    [again] = told(policy=found(effect, content_hash="other"))
    assert (again.verb, again.resource_version) == ("apply", "5")


def test_somebody_elses_policy_is_never_touched() -> None:
    [effect] = told()
    foreign = found(effect, owned=False, content_hash="other")
    assert told(policy=foreign) == told(enforcement="None", policy=foreign) == ()


def test_what_is_enforced_no_more_is_deleted() -> None:
    [effect] = told()
    [gone] = told(enforcement="None", policy=found(effect))
    assert (gone.verb, gone.uid) == ("delete", "uid-1")
    assert told(enforcement="None") == ()
