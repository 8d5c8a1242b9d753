"""What an agent's orders come to for its pods: each order once, shares that can be had, and who leads."""

from typing import Any

import pytest

from mabeam.core.directives.overrides import SpecOverrides, apply_overrides, spec_overrides
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot
from support.builders import a_pod, an_agent, at, stamp
from support.coordination import a_decided, ordering, told_agent


def orders(
    *variables: Any, status: Any = None, directives: Any = None, fellows: Any = (), pods: Any = (), **words: Any
) -> SpecOverrides:
    """The orders of the agent `a`, whose status holds these directives already."""
    held = {"directives": directives} if directives else {}
    agent = told_agent("a", status={**(status or {}), **held}, **words)
    return spec_overrides(AgentSnapshot(agent, tuple(pods), variables=variables, co_selected=tuple(fellows)))


def after(found: SpecOverrides, state: str = "Issued") -> dict[str, Any]:
    """The directives as they are stored after that pass."""
    stored = [item.to_wire() | {"generation": 1, "state": state} for item in found.directives.items]
    for index, aside in found.directives.set_aside.items():
        stored[index] |= {"state": "Refused", "reason": aside.reason, "message": aside.message}
    conflicts = [conflict.to_wire() for conflict in found.directives.listed]
    return {"generation": 1, "items": stored, "conflicts": conflicts}


@pytest.mark.parametrize(("action", "count"), [("Migrate", "migrations"), ("Reconfigure", "reconfigurations")])
def test_an_order_is_counted_once_however_often_it_is_read(action: str, count: str) -> None:
    variable = ordering("v", (action, {"x": 1} if action == "Reconfigure" else {}))
    first = orders(variable)
    assert getattr(first, count) == 1
    again = orders(variable, status={count: 1}, directives=after(first))
    assert getattr(again, count) == 1
    withdrawn = orders(ordering("v"), status={count: 1}, directives=after(first))
    assert getattr(withdrawn, count) == 1
    assert getattr(orders(variable, status={count: 1}), count) == 2


def test_other_parameters_are_another_reconfigure_and_change_the_shape() -> None:
    first = orders(ordering("v", ("Reconfigure", {"x": 1})))
    second = orders(ordering("v", ("Reconfigure", {"x": 2})), status={"reconfigurations": 1}, directives=after(first))
    assert (second.reconfigurations, second.shape != first.shape) == (2, True)


def test_a_reconfigure_that_lost_is_counted_when_it_comes_into_force_and_not_before() -> None:
    loser, winner = (
        ordering("low", ("Reconfigure", {"x": 1})),
        ordering("high", ("AdjustParameters", {"x": 2}), priority=5),
    )
    lost = orders(loser, winner)
    assert lost.reconfigurations == 0
    alone = orders(loser, directives=after(lost))
    assert alone.reconfigurations == 1


def test_directives_override_a_copy_of_the_spec_and_the_users_own_stays() -> None:
    variable = ordering(
        "v", ("ScaleUp", {"replicas": 4}), ("Stop", {}), ("AllocateResources", {"networkPriority": "Low"})
    )
    snapshot = AgentSnapshot(an_agent("a", replicas=2), variables=(variable,))
    overridden = apply_overrides(snapshot, spec_overrides(snapshot))
    spec = overridden.agent.spec
    assert (spec.replicas, spec.desired_state, spec.resources and spec.resources.network_priority) == (
        4,
        "Stopped",
        "Low",
    )
    assert overridden.user_spec == snapshot.agent.spec


def test_without_directives_the_snapshot_is_the_very_same() -> None:
    snapshot = AgentSnapshot(an_agent("a"), variables=(a_decided(),))
    assert apply_overrides(snapshot, spec_overrides(snapshot)) is snapshot


def test_an_agents_own_bandwidth_is_nobody_elses_to_change() -> None:
    own = an_agent("a", resources={"networkPriority": "High"})
    snapshot = AgentSnapshot(own, variables=(ordering("v", ("AllocateResources", {"networkPriority": "Low"})),))
    assert apply_overrides(snapshot, spec_overrides(snapshot)) is snapshot


# --- shares ---------------------------------------------------------------------------------------------------------------

ASKING = {"resources": {"requests": {"cpu": "100m"}}}


def test_a_share_is_what_the_pods_are_to_have() -> None:
    found = orders(ordering("v", ("AllocateResources", {"cpu": "300m", "tokens": "7"})), **ASKING)
    assert found.resources is not None
    assert (found.resources.to_wire(), found.shares) == ({"requests": {"cpu": "300m"}}, {"cpu": "300m", "tokens": "7"})


def test_an_infeasible_share_goes_back_to_what_was_allotted_before_and_tokens_stay() -> None:
    variable = ordering("v", ("AllocateResources", {"cpu": "9", "tokens": "7"}))
    refused = after(orders(variable, **ASKING), "Refused")
    refused["items"][0] |= {"reason": "ResourceExhausted", "message": "not enough resources: a-0-1: Infeasible"}
    refused["allotted"] = {"cpu": "200m"}
    assert orders(variable, directives=refused, **ASKING).shares == {"cpu": "200m", "tokens": "7"}
    del refused["allotted"]
    assert orders(variable, directives=refused, **ASKING).shares == {"tokens": "7"}


def test_when_nobody_allots_any_more_the_pods_get_back_what_is_declared_until_they_have_it() -> None:
    effective = {"effective": {"replicas": 1, "desiredState": "Running", "resources": {"requests": {"cpu": "300m"}}}}
    resized = a_pod(resources={"requests": {"cpu": "300m"}})
    back = orders(status=effective, pods=[resized], **ASKING)
    assert back.resources is not None
    assert back.resources.to_wire() == {"requests": {"cpu": "100m"}}
    assert orders(status=effective, pods=[a_pod(resources={"requests": {"cpu": "100m"}})], **ASKING).resources is None
    assert orders(pods=[resized], **ASKING).resources is None


# --- who leads ------------------------------------------------------------------------------------------------------------


def running_since(name: str, *seconds: float, weight: float = 1, state: str = "Running", **words: Any) -> Any:
    """An agent whose pods run since then, and to which variable `b` matters so much."""
    pods = [
        {"ordinal": n, "name": f"{name}-{n}-1", "incarnation": 1, "state": "Running", "startTime": stamp(at)}
        for n, at in enumerate(seconds)
    ]
    wanted = [{"variable": "b", "value": 1, "weight": weight}]
    return told_agent(name, status={"state": state, "pods": pods}, preferences=wanted, **words)


def led_by(*fellows: Any, strangers: frozenset[str] = frozenset()) -> str:
    """Whose word it was, of these, that ruled; strangers are agents of another variable alone."""
    names = (f.metadata.name for f in fellows if f.metadata.name not in strangers)
    group = tuple(dict.fromkeys(("a", *names)))
    variables = [
        a_decided(name, value, group, parameter="t", priority=9 - value) for name, value in (("a", 1), ("b", 2))
    ]
    variables.append(a_decided("c", 3, ("a", *strangers), parameter="u"))
    found = orders(*variables, fellows=fellows, conflictResolution="LeaderElection")
    [conflict] = found.directives.conflicts
    return conflict.message


def test_the_one_that_has_run_the_longest_leads_and_of_equals_the_first_by_name() -> None:
    assert "the leader y prefers variable b" in led_by(running_since("x", 50), running_since("y", 90, 10))
    assert "the leader x prefers variable b" in led_by(running_since("y", 10), running_since("x", 10))


def test_who_has_no_part_in_the_conflict_does_not_lead_in_it() -> None:
    eldest = running_since("w", 1)
    assert "the leader x prefers" in led_by(eldest, running_since("x", 10), strangers=frozenset({"w"}))


def test_one_that_joins_later_or_has_no_age_does_not_lead() -> None:
    fellows = [running_since("z", 10)]
    for newcomer in (running_since("a", 20), running_since("b"), running_since("c", 5, state="Failed")):
        fellows.append(newcomer)
        assert "the leader z prefers" in led_by(*fellows)


def test_a_leader_that_stopped_is_succeeded() -> None:
    assert "the leader y prefers" in led_by(running_since("x", 10, state="Stopped"), running_since("y", 20))


@pytest.mark.parametrize("fellows", [(), (running_since("x", 10, weight=0),), (running_since("x", 1, state="Failed"),)])
def test_with_nobody_to_lead_or_nothing_that_matters_priority_rules(fellows: Any) -> None:
    assert led_by(*fellows) == "variable a sets t: its priority 8 is above 7"


@pytest.mark.parametrize(
    ("told", "spec", "message"),
    [
        (("Stop", {}), {}, "stopped, by variable v"),
        (("ScaleDown", {"replicas": 0}), {}, "stopped, by variable v"),
        (("Stop", {}), {"desiredState": "Stopped"}, "stopped, as desired"),
        (("AdjustParameters", {"x": 1}), {"desiredState": "Stopped"}, "stopped, as desired"),
    ],
)
def test_an_agent_that_a_variable_stops_says_which(told: Any, spec: dict[str, Any], message: str) -> None:
    record = {"ordinal": 0, "name": "a-0-1", "incarnation": 1, "state": "Stopping"}
    agent = told_agent("a", status={"state": "Stopping", "pods": [record]}, **spec)
    decision = decide(AgentSnapshot(agent, variables=(ordering("v", told),)), at(10))
    status = decision.status
    assert status.state == "Stopped"
    assert next(c.message for c in status.conditions if c.type == "Ready") == message
    if spec == {} and told[0] == "Stop":
        assert [event.note for event in decision.events if event.reason == "AgentStopped"] == [f"a-0-1 {message}"]
