"""The status of a variable: its conditions, its reasons, and how long they have held."""

from mabeam.api.names import Reason
from support.builders import agent_body, at
from support.coordination import (
    Team,
    a_variable,
    an_item,
    told_agent,
    variable_body,
)
from support.variable_passes import look, reasons, wanting


def test_a_failure_is_told_once_and_again_when_it_comes_back() -> None:
    late = told_agent("a", an_item(state="Expired", reason="NotAcknowledged", message="not acknowledged in time"))
    variable = a_variable(value=0.6)
    first = look(variable, late)
    assert reasons(first) == ["VariableRegistered", "CoordinationCompleted", "CoordinationFailed"]
    second = look(variable.model_copy(update={"status": first.status}), late, now=at(9))
    assert (second.events, second.status_reason) == ((), "unchanged")


def test_status_reasons_say_in_a_word_what_changed() -> None:
    team = wanting(0.2, 0.4)
    assert team.pass_variable().status_reason == "registered"
    team.pass_agent("a0")
    team.pass_agent("a0")
    assert team.pass_variable().status_reason == "directives"
    team.variables["temperature"]["spec"]["domain"] = {"maximum": 0.3}
    assert team.pass_variable().status_reason == "decided"
    team.variables["temperature"]["metadata"]["generation"] = 2
    assert team.pass_variable().status_reason == "conditions"
    assert team.pass_variable().status_reason == "unchanged"
    assert team.variable().status.observed_generation == 2


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.settle()
    team.wait(60)
    team.variables["temperature"]["metadata"]["generation"] = 2
    team.settle()
    conditions = team.variable().status.conditions
    assert {c.type for c in conditions} == {"Accepted", "Ready", "Reconciling", "Stalled", "AgentsResolved", "Paused"}
    assert {c.last_transition_time for c in conditions} == {at(0)}
    assert {c.observed_generation for c in conditions} == {2}


def test_what_is_as_it_should_be_says_so_in_every_condition() -> None:
    team = wanting(0.2)
    team.settle()
    told = {c.type: (str(c.status), c.reason, c.message) for c in team.variable().status.conditions}
    assert told == {
        "Accepted": ("True", "Valid", ""),
        "Ready": ("True", "Converged", "1/1 applied"),
        "Reconciling": ("False", "AsDesired", ""),
        "Stalled": ("False", "AsDesired", ""),
        "AgentsResolved": ("True", "AllResolved", ""),
        "Paused": ("False", "NotPaused", ""),
    }


def test_a_paused_variable_tells_what_its_agents_hold_even_if_that_is_an_older_value() -> None:
    held = told_agent("a", an_item(state="Acknowledged", value=0.5))
    status = {"observedGeneration": 1, "value": 0.6, "round": 2}
    decision = look(a_variable(value=0.6, paused=True, status=status), held)
    [item] = decision.status.directives.items
    assert (item.parameters, str(item.state)) == ({"temperature": 0.5}, "Acknowledged")


def test_every_reason_a_condition_carries_is_in_the_closed_list() -> None:
    team = wanting(0.2)
    team.settle()
    assert {c.reason for c in team.variable().status.conditions} <= {str(reason) for reason in Reason}
