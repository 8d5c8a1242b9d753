"""The delivery of an agent's directives: one document, one ConfigMap, one annotation, one record each."""

from dataclasses import replace
from typing import Any

import pytest

from mabeam.api.directive import DirectiveAction, DirectiveState
from mabeam.api.names import ANNOTATION_GENERATION, ANNOTATION_NUDGE
from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.core.decision import Effect
from mabeam.core.directives.conflicts import RESOLVERS
from mabeam.core.directives.delivery import Delivery
from mabeam.core.directives.desired import directives_for_value
from mabeam.core.directives.effective import MAX_ITEMS, timeout_seconds
from mabeam.core.reports.report import DirectiveRefusal, expects_reports
from mabeam.core.snapshot import AgentSnapshot
from mabeam.core.values import ParameterValue, parse_value
from support.builders import a_pod, agent_body, an_agent, at, exited, stamp
from support.coordination import (
    Team,
    a_decided,
    a_map,
    a_variable,
    an_item,
    applied,
    delivered,
    told_agent,
    variable_body,
)
from support.deliveries import delivery, seen

REST = {"template": {"spec": {"containers": [{"name": "agent"}]}}}
POD = a_pod("a-0-1", generation=1)


def items(result: Delivery) -> dict[str, tuple[str, int]]:
    assert result.directives is not None
    return {item.variable: (str(item.state), item.generation) for item in result.directives.items}


def writes(result: Delivery) -> list[tuple[str, str, str]]:
    return [(effect.verb, effect.kind, effect.name) for effect in result.effects]


def document(effect: Effect) -> str:
    text: str = effect.body["data"]["directives.json"]
    return text


# --- tables and small words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", OrchestrationType)
def test_a_stored_value_of_every_type_has_directives_or_none(type_: OrchestrationType) -> None:
    directives = directives_for_value(a_variable(), parse_value(type_, {}))("a")
    assert all(isinstance(one.action, DirectiveAction) for one in directives)


def test_a_parameter_variable_sets_the_parameter_it_names_or_its_own_name() -> None:
    (told,) = directives_for_value(a_variable(parameter="temp"), ParameterValue(0.4))("a")
    assert told is not None
    assert (told.action, told.parameters) == (DirectiveAction.ADJUST_PARAMETERS, {"temp": 0.4})
    assert directives_for_value(a_variable(), None)("a") == ()


def test_an_agent_has_half_a_minute_to_answer_unless_the_variable_says_otherwise() -> None:
    assert timeout_seconds(a_variable(), DirectiveAction.ADJUST_PARAMETERS) == 30
    assert timeout_seconds(a_variable(), DirectiveAction.ALLOCATE_RESOURCES) == 5
    assert timeout_seconds(a_variable(constraints={"timeoutSeconds": 7}), DirectiveAction.ALLOCATE_RESOURCES) == 7


def test_modules_report_by_default_and_templates_when_they_say_so() -> None:
    assert expects_reports(an_agent())
    assert not expects_reports(an_agent(reports={"source": "None"}))
    assert not expects_reports(an_agent(**REST))
    assert expects_reports(an_agent(**REST, reports={}))
    assert not expects_reports(an_agent(**REST, reports={"source": "None"}))


# --- the first directive ----------------------------------------------------------------------------------------------


def test_an_agent_that_was_never_told_anything_has_no_directives_and_no_config_map() -> None:
    assert delivery(told_agent(), pods=(POD,)) == Delivery(None)
    assert delivery(told_agent(), a_variable(), pods=(POD,)) == Delivery(None)


def test_the_first_directive_creates_the_config_map_and_then_annotates_the_pods() -> None:
    result = delivery(told_agent(), a_decided(value=0.6), pods=(a_pod("a-0-1"),))
    assert items(result) == {"temperature": ("Issued", 1)}
    assert writes(result) == [("create", "ConfigMap", "a-mabeam"), ("patch", "Pod", "a-0-1")]
    create, patch = result.effects
    assert create.body["metadata"]["ownerReferences"] == [
        {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "uid-of-a", "controller": True}
    ]
    assert document(create) == (
        '{"active": true, "agent": "a", "generation": 1, "parameters": {"temperature": 0.6}, "peers": [], '
        '"proposals": [], "resources": {}, "role": "Executor"}'
    )
    assert patch.body == {"metadata": {"annotations": {ANNOTATION_GENERATION: "1"}}}


def test_pods_that_are_going_or_gone_are_not_annotated() -> None:
    pods = (a_pod("a-0-1", exited(1)), a_pod("a-0-2", deleting=True), a_pod("a-0-3"))
    result = delivery(told_agent(), a_decided(), pods=pods)
    assert writes(result)[1:] == [("patch", "Pod", "a-0-3")]


def test_a_changed_value_is_the_next_generation_and_replaces_the_config_map() -> None:
    agent = told_agent("a", an_item(state="Acknowledged", value=0.6))
    result = delivery(agent, a_decided(value=0.7), pods=(POD,), config_map=a_map(temperature=0.6), now=at(90))
    assert items(result) == {"temperature": ("Issued", 2)}
    assert writes(result) == [("apply", "ConfigMap", "a-mabeam"), ("patch", "Pod", "a-0-1")]
    assert result.effects[0].resource_version == "7"
    assert result.directives is not None
    assert result.directives.items[0].issued_at == at(90)


def test_a_changed_role_is_the_next_generation_and_changes_no_directive() -> None:
    agent = told_agent("a", an_item(state="Acknowledged"), role="Monitor")
    result = delivery(agent, a_decided(), pods=(POD,), config_map=a_map(temperature=0.6), reports={"a-0-1": applied(1)})
    assert result.directives is not None
    assert result.directives.generation == 2
    assert items(result) == {"temperature": ("Acknowledged", 1)}
    assert '"role": "Monitor"' in document(result.effects[0])


def test_a_generation_that_was_decided_but_not_written_is_written_as_it_is() -> None:
    """The operator died between the status and the ConfigMap, or its cache is behind."""
    agent = told_agent("a", an_item(generation=2, value=0.7))
    result = delivery(agent, a_decided(value=0.7), pods=(POD,), config_map=a_map(generation=1, temperature=0.6))
    assert items(result) == {"temperature": ("Issued", 2)}
    assert '"generation": 2' in document(result.effects[0])


def test_a_config_map_older_than_the_status_is_no_witness_even_when_it_holds_what_is_wanted() -> None:
    """0.6, then 0.7 (its write is lost, or not seen yet), then 0.6 again: a third generation, never back to the first."""
    agent = told_agent("a", an_item(generation=2, value=0.7))
    result = delivery(agent, a_decided(value=0.6), pods=(POD,), config_map=a_map(generation=1, temperature=0.6))
    assert items(result) == {"temperature": ("Issued", 3)}
    assert '"generation": 3' in document(result.effects[0])


def test_a_config_map_that_somebody_deleted_is_written_again() -> None:
    agent = told_agent("a", an_item(generation=4, state="Acknowledged"))
    result = delivery(agent, a_decided(), pods=(replace(POD, generation=4),))
    assert writes(result) == [("create", "ConfigMap", "a-mabeam")]
    assert items(result) == {"temperature": ("Acknowledged", 4)}


def test_a_config_map_that_somebody_edited_is_put_right_under_a_new_generation() -> None:
    agent = told_agent("a", an_item(state="Acknowledged"))
    result = delivery(agent, a_decided(), pods=(POD,), config_map=a_map(temperature=99))
    assert writes(result)[0] == ("apply", "ConfigMap", "a-mabeam")
    assert '"generation": 2' in document(result.effects[0])


def test_somebody_elses_config_map_is_left_alone_and_told() -> None:
    foreign = a_map(generation=40, owned=False)
    result = delivery(told_agent(), a_decided(), pods=(POD,), config_map=foreign)
    assert writes(result) == []
    assert items(result) == {"temperature": ("Issued", 1)}
    assert result.problems == (
        "ConfigMap a-mabeam has another owner; delete or rename it: until then the agent gets no directives",
    )
    again = delivery(told_agent("a", an_item()), a_decided(), pods=(POD,), config_map=foreign, now=at(1))
    assert items(again) == {"temperature": ("Issued", 1)}


# --- what each variable contributes ------------------------------------------------------------------------------------


def test_a_variable_that_no_longer_selects_the_agent_takes_its_parameters_along() -> None:
    agent = told_agent("a", an_item(state="Acknowledged"))
    result = delivery(agent, pods=(POD,), config_map=a_map(temperature=0.6))
    assert items(result) == {}
    assert '"parameters": {}' in document(result.effects[0])
    elsewhere = delivery(agent, a_decided(agents=("b",)), pods=(POD,), config_map=a_map(temperature=0.6))
    assert elsewhere == result


def test_a_variable_that_is_being_deleted_takes_its_parameters_along() -> None:
    body = variable_body(status={"observedGeneration": 1, "value": 0.6})
    body["metadata"]["deletionTimestamp"] = stamp(5)
    going = OrchestrationVariable.model_validate(body)
    result = delivery(told_agent("a", an_item()), going, pods=(POD,), config_map=a_map(temperature=0.6))
    assert items(result) == {}


@pytest.mark.parametrize("quiet", [{"mode": "Advise"}, {"paused": True}])
def test_a_variable_that_is_quiet_leaves_what_it_told_and_tells_nothing_new(quiet: dict[str, Any]) -> None:
    agent = told_agent("a", an_item(value=0.6, state="Acknowledged"))
    result = delivery(agent, a_decided(value=0.9, **quiet), pods=(POD,), config_map=a_map(temperature=0.6))
    assert items(result) == {"temperature": ("Acknowledged", 1)}
    assert result.effects == ()
    assert delivery(told_agent(), a_decided(value=0.9, **quiet), pods=(POD,)) == Delivery(None)


def test_a_variable_that_was_not_looked_at_yet_changes_nothing() -> None:
    """Its status was lost, or it was just created again under its old name."""
    agent = told_agent("a", an_item(state="Acknowledged"))
    result = delivery(agent, a_variable(), pods=(POD,), config_map=a_map(temperature=0.6))
    assert items(result) == {"temperature": ("Acknowledged", 1)}
    assert result.effects == ()


def test_priority_and_timeout_change_without_a_new_generation() -> None:
    agent = told_agent("a", an_item(state="Acknowledged"))
    variable = a_decided(priority=9, constraints={"timeoutSeconds": 5})
    result = delivery(agent, variable, pods=(POD,), config_map=a_map(temperature=0.6))
    assert result.effects == ()
    assert result.directives is not None
    [item] = result.directives.items
    assert (item.priority, item.timeout_seconds, item.state) == (9, 5, DirectiveState.ACKNOWLEDGED)


def test_another_variables_change_leaves_an_acknowledged_directive_alone() -> None:
    agent = told_agent("a", an_item(state="Acknowledged"))
    result = delivery(
        agent, a_decided(), a_decided("top-p", 0.9), pods=(POD,), config_map=a_map(temperature=0.6), now=at(50)
    )
    assert items(result) == {"temperature": ("Acknowledged", 1), "top-p": ("Issued", 2)}


def test_an_agent_follows_as_many_variables_as_a_status_carries_and_reports_the_others() -> None:
    variables = [a_decided(f"v{i:02}", i, priority=i) for i in range(MAX_ITEMS + 3)]
    result = delivery(told_agent(), *variables)
    assert result.directives is not None
    assert len(result.directives.items) == MAX_ITEMS
    assert "v00" not in items(result)
    assert result.problems == ("67 variables select this agent; it follows the first 64 by priority",)


# --- conflicts ----------------------------------------------------------------------------------------------------------


HOT = a_decided("hot", 0.9, parameter="temperature", priority=5)
COOL = a_decided("cool", 0.1, parameter="temperature", priority=1)


def test_the_loser_of_a_conflict_is_refused_with_the_winners_name_and_recorded() -> None:
    result = delivery(told_agent(), COOL, HOT, pods=(a_pod("a-0-1"),))
    assert items(result) == {"cool": ("Refused", 1), "hot": ("Issued", 1)}
    assert result.directives is not None
    overruled = result.directives.items[0]
    assert (overruled.reason, overruled.overruled_by) == ("Overruled", "hot")
    assert overruled.message == "variable hot sets temperature: its priority 5 is above 1"
    assert [(c.winner, c.loser, c.resolver) for c in result.directives.conflicts] == [("hot", "cool", "PriorityBased")]
    assert '"parameters": {"temperature": 0.9}' in document(result.effects[0])


def test_the_loser_is_issued_anew_when_the_winner_goes() -> None:
    agent = told_agent(
        "a",
        an_item("cool", "Refused", parameters={"temperature": 0.1}),
        an_item("hot", "Acknowledged", parameters={"temperature": 0.9}),
        conflicts=[{"parameter": "temperature", "winner": "hot", "loser": "cool", "resolver": "PriorityBased"}],
    )
    result = delivery(
        agent, COOL, pods=(POD,), config_map=a_map(temperature=0.9), reports={"a-0-1": applied(1)}, now=at(60)
    )
    assert items(result) == {"cool": ("Issued", 2)}
    assert result.directives is not None
    assert result.directives.items[0].issued_at == at(60)
    assert result.directives.conflicts == ()


def test_a_conflict_of_others_does_not_issue_a_directive_anew() -> None:
    agent = told_agent(
        "a",
        an_item("cool", "Refused", parameters={"temperature": 0.1}),
        an_item("hot", "Acknowledged", parameters={"temperature": 0.9}),
        an_item("top-p", "Acknowledged"),
        conflicts=[{"parameter": "temperature", "winner": "hot", "loser": "cool", "resolver": "PriorityBased"}],
    )
    result = delivery(
        agent,
        COOL,
        HOT,
        a_decided("top-p"),
        pods=(POD,),
        config_map=a_map(temperature=0.9, **{"top-p": 0.6}),
        reports={"a-0-1": applied(1)},
        now=at(60),
    )
    assert items(result) == {"cool": ("Refused", 1), "hot": ("Acknowledged", 1), "top-p": ("Acknowledged", 1)}
    assert result.effects == ()


def test_a_winner_that_now_loses_is_refused() -> None:
    agent = told_agent("a", an_item("cool", "Acknowledged", parameters={"temperature": 0.1}))
    result = delivery(agent, COOL, HOT, pods=(POD,), config_map=a_map(temperature=0.1), reports={"a-0-1": applied(1)})
    assert items(result) == {"cool": ("Refused", 2), "hot": ("Issued", 2)}


def test_every_resolver_an_agent_may_name_is_in_the_table() -> None:
    assert str(an_agent().spec.conflict_resolution) in RESOLVERS


# --- how far it came ----------------------------------------------------------------------------------------------------


# --- waking up and nudging ----------------------------------------------------------------------------------------------


def test_it_looks_again_for_the_nudge_and_then_for_the_deadline() -> None:
    assert seen(None, now=0.5).requeue_after == 1.5
    assert seen(None, now=10, pods=(replace(POD, nudge="1"),)).requeue_after == 20
    assert seen(applied(1)).requeue_after is None


def test_a_pod_that_has_not_answered_after_two_seconds_is_nudged_once() -> None:
    result = seen(None, now=2)
    assert [effect.body for effect in result.effects] == [{"metadata": {"annotations": {ANNOTATION_NUDGE: "1"}}}]
    assert seen(None, now=3, pods=(replace(POD, nudge="1"),)).effects == ()


def test_only_the_replica_that_has_not_answered_is_nudged() -> None:
    assert [effect.name for effect in seen(applied(1), applied(0), now=2).effects] == ["a-1-1"]


def test_a_pod_younger_than_the_directive_is_not_nudged() -> None:
    assert seen(None, now=2, pods=(replace(POD, created_at=at(1)),)).effects == ()


def test_an_agent_that_never_reports_is_nudged_once_too() -> None:
    assert len(seen(None, now=2, agent=REST).effects) == 1


def test_a_pod_of_an_older_generation_is_annotated_before_it_is_nudged() -> None:
    [effect] = seen(None, now=60, pods=(a_pod("a-0-1", generation=0),)).effects
    assert effect.reason == "refresh"


def test_a_changed_value_costs_a_config_map_an_annotation_and_a_status_for_each_agent() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"), hears=False)
    team.settle()
    team.wait(3)
    team.settle()
    team.variables["temperature"]["spec"]["value"] = 0.6
    team.pass_variable()
    written, done = team.status_writes, len(team.effects)
    for _ in range(5):
        team.pass_agent("a")
    assert [(effect.verb, effect.kind) for effect in team.effects[done:]] == [("apply", "ConfigMap"), ("patch", "Pod")]
    assert team.status_writes - written == 1


def test_after_everything_is_said_there_is_silence() -> None:
    team = Team.of(variable_body(agents=("a", "b"), value=0.5), agent_body("a"), agent_body("b"), hears=False)
    team.settle()
    for _ in range(100):
        team.wait(1)
        team.settle()
    written, done = team.status_writes, len(team.effects)
    team.wait(10_000)
    team.settle()
    assert (team.status_writes, len(team.effects)) == (written, done)
    assert team.ready()[1] == "Timeout"


# --- what the operator itself refuses -----------------------------------------------------------------------------------


def allotting(cpu: str = "300m") -> Team:
    """A team of one that is allotted cpu, though its pods ask for none."""
    directives = [{"agent": "a", "action": "AllocateResources", "parameters": {"cpu": cpu}}]
    status = {"observedGeneration": 1, "value": {"directives": directives}, "round": 1}
    return Team.of(variable_body("v", type="Custom", function={"cel": "x"}, status=status), agent_body("a"))


def only(team: Team) -> tuple[str, str | None, str | None]:
    """State, reason and message of the only directive, after it came to rest."""
    for _ in range(4):
        team.pass_agent("a")
    writes = team.status_writes
    team.wait(100)
    team.pass_agent("a")
    held = team.agent("a").status.directives
    assert held is not None
    [item] = held.items
    if item.state == "Refused":
        assert team.status_writes == writes
    return item.state, item.reason, item.message


def test_what_cannot_be_done_is_refused_and_issued_anew_as_soon_as_it_can() -> None:
    team = allotting()
    why = "cannot be done: its pods request no cpu, and a request now would change their QoS class"
    assert only(team) == ("Refused", "CannotBeDone", why)
    team.agents["a"]["spec"]["resources"] = {"requests": {"cpu": "100m"}}
    assert only(team)[0] != "Refused"
    del team.agents["a"]["spec"]["resources"]
    assert only(team) == ("Refused", "CannotBeDone", why)


def test_an_agent_whose_refusal_reads_like_the_operators_makes_nothing_tick() -> None:
    team = Team.of(variable_body(), agent_body("a"), hears=False)
    team.settle()
    pod = a_pod("a-0-1", generation=1)
    words = DirectiveRefusal("temperature", 1, "cannot be done: ever")
    snapshot = AgentSnapshot(
        team.agent("a"),
        (pod,),
        team.maps["a-mabeam"],
        variables=(team.variable(),),
        reports={"a-0-1": applied(1, words)},
    )
    first = delivered(snapshot, (pod,), False, at(5)).directives
    assert first is not None
    item = first.items[0]
    assert (item.state, item.reason, item.message) == ("Refused", "RefusedByAgent", "cannot be done: ever")
    stored = snapshot.agent.model_copy(
        update={"status": snapshot.agent.status.model_copy(update={"directives": first})}
    )
    assert delivered(replace(snapshot, agent=stored), (pod,), False, at(9)).directives == first


@pytest.mark.parametrize("amounts", [{"tokens": "9" * 300}, {"tokens": "many"}])
def test_amounts_that_are_no_quantity_are_refused(amounts: dict[str, str]) -> None:
    team = allotting()
    team.agents["a"]["spec"]["resources"] = {"requests": {"cpu": "100m"}}
    value = team.variables["v"]["status"]["value"]
    value["directives"][0]["parameters"] = {"cpu": "300m", **amounts}
    for _ in range(5):
        team.pass_agent("a")
    held = team.agent("a").status.directives
    assert held is not None
    assert held.items[0].state == "Refused"
    assert (team.maps["a-mabeam"].document or {})["resources"] == {}
