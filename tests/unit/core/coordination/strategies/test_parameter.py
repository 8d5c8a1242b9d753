"""Parameter: the value of the spec, the value of the agents, and what stays when there is neither."""

from typing import Any

import pytest

from support.builders import agent_body, an_agent
from support.coordination import (
    SIZES,
    Team,
    a_variable,
    condition_of,
    prefers,
    variable_body,
)
from support.variable_passes import look, ready, reasons, wanting


def test_without_negotiation_the_value_is_that_of_the_spec() -> None:
    decision = look(a_variable(value=0.7), an_agent("a"))
    status = decision.status
    assert (status.value, status.previous_value, status.round, status.negotiation) == (0.7, None, 1, None)
    assert status.last_decision.rule == "SpecValue"
    assert status.last_decision.message == "0.7 from spec.value"
    assert decision.status_reason == "registered"
    assert reasons(decision) == ["VariableRegistered", "CoordinationCompleted"]
    assert decision.events[1].note == "temperature = 0.7 by SpecValue: 0.7 from spec.value"


def test_the_spec_value_is_the_start_until_somebody_offers_and_is_followed_as_long() -> None:
    team = wanting(None, value=0.7)
    team.settle()
    assert team.variable().status.value == 0.7
    assert team.variable().status.last_decision.rule == "SpecValue"
    assert team.variable().status.negotiation.reason == "NoOffers"
    team.variables["temperature"]["spec"]["value"] = 0.3
    team.settle()
    assert (team.variable().status.value, team.variable().status.previous_value) == (0.3, 0.7)
    team.agents["a0"]["spec"]["preferences"] = [prefers(0.9)]
    team.settle()
    assert team.variable().status.value == 0.9


def test_once_the_agents_have_decided_their_value_stays_when_they_fall_silent() -> None:
    team = wanting(0.9, value=0.7)
    team.settle()
    team.agents["a0"]["spec"]["preferences"] = []
    team.settle()
    status = team.variable().status
    assert (status.value, status.last_decision.rule) == (0.9, "NoOffers")
    assert status.last_decision.message == "0.9 stays in force: no agent has an offer"
    team.variables["temperature"]["spec"]["value"] = 0.1
    team.settle()
    assert team.variable().status.value == 0.9
    assert team.ready() == ("True", "Converged", "1/1 applied; last round: NoOffers")


def test_without_offers_and_without_a_start_there_is_no_value_yet() -> None:
    team = wanting(None)
    team.settle()
    assert team.variable().status.value is None
    assert team.ready() == (
        "False",
        "NoOffers",
        "no value yet: no agent has an offer; give an agent a preference for it, or set `spec.value`",
    )
    assert condition_of(team.variable().status, "Reconciling")[0] == "True"
    assert team.parameters("a0") == {}


def test_a_reserve_that_nobody_meets_leaves_the_last_value() -> None:
    variable = variable_body(agents=("a0",), negotiation={"strategy": "Auction", "reservePrice": 4}, value=0.5)
    team = Team.of(variable, agent_body("a0", preferences=[prefers(0.9, bid=5)]))
    team.settle()
    status = team.variable().status
    assert (status.value, status.negotiation.winner, status.negotiation.payment) == (0.9, "a0", 5)
    team.agents["a0"]["spec"]["preferences"] = [prefers(0.2, bid=1)]
    team.settle()
    status = team.variable().status
    assert (status.value, status.negotiation.state, status.negotiation.reason) == (0.9, "Failed", "ReserveNotMet")
    assert team.ready() == ("True", "Converged", "1/1 applied; last round: ReserveNotMet")


def test_a_domain_that_shrinks_bounds_the_value_that_stays() -> None:
    team = wanting(0.9, value=0.1)
    team.settle()
    team.agents["a0"]["spec"]["preferences"] = []
    team.settle()
    team.variables["temperature"]["spec"]["domain"] = {"maximum": 0.5}
    team.settle()
    assert team.variable().status.value == 0.5
    team.variables["temperature"]["spec"]["domain"] = SIZES
    team.variables["temperature"]["spec"].pop("value")
    team.settle()
    assert team.variable().status.value is None
    assert team.parameters("a0") == {}


def test_a_total_weight_of_zero_stalls_and_teaches() -> None:
    team = Team.of(
        variable_body(agents=("a0",), negotiation={}, value=0.5), agent_body("a0", preferences=[prefers(0.9, weight=0)])
    )
    team.settle()
    assert team.variable().status.value == 0.5
    reason = "InvalidConfiguration"
    message = "0.5 from spec.value: the offers' total weight is 0; give at least one agent a weight above 0"
    assert team.ready() == ("False", reason, message)
    assert condition_of(team.variable().status, "Stalled") == ("True", reason, message)
    assert [str(e.reason) for e in team.events if e.type == "Warning"] == ["CoordinationFailed"]


@pytest.mark.parametrize(
    ("value", "domain", "message"),
    [
        (3, {"minimum": 0, "maximum": 2}, "`spec.value` is 3; it must lie in the domain: a number from 0 up to 2"),
        ("hot", {}, "`spec.value` is 'hot'; it must be a number"),
        ("huge", SIZES, "`spec.value` is 'huge'; it must be one of: small, medium, large"),
        (0.5, {"type": "Integer"}, "`spec.value` is 0.5; it must be a whole number"),
    ],
)
def test_a_spec_value_outside_the_domain_is_not_accepted(value: Any, domain: dict[str, Any], message: str) -> None:
    decision = look(a_variable(value=value, domain=domain), an_agent("a"))
    assert decision.status.value is None
    for type_, status in (("Accepted", "False"), ("Ready", "False"), ("Stalled", "True")):
        assert condition_of(decision.status, type_) == (status, "InvalidSpec", message)
    assert reasons(decision) == ["VariableRegistered", "InvalidSpec"]


def test_a_spec_value_that_turns_bad_leaves_the_last_good_one_in_force() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.settle()
    team.variables["temperature"]["spec"] |= {"value": "hot"}
    team.settle()
    assert team.variable().status.value == 0.5
    assert team.parameters("a") == {"temperature": 0.5}
    assert team.ready()[1] == "InvalidSpec"


def test_a_spec_value_between_two_steps_becomes_the_nearest() -> None:
    decision = look(a_variable(value=0.73, domain={"step": 0.05, "minimum": 0}), an_agent("a"))
    assert decision.status.value == 0.75


def test_a_domain_that_no_value_lies_in_leaves_the_last_good_one() -> None:
    team = wanting(0.9)
    team.settle()
    team.variables["temperature"]["spec"]["domain"] = {"type": "Integer", "minimum": 0.2, "maximum": 0.8}
    team.settle()
    assert team.variable().status.value == 0.9
    assert team.ready()[1] == "InvalidConfiguration"


def test_the_previous_value_is_the_one_before_the_last_change() -> None:
    team = wanting(0.9)
    team.settle()
    for value in (0.5, 0.5, 0.4):
        team.agents["a0"]["spec"]["preferences"] = [prefers(value, weight=value)]
        team.settle()
    assert (team.variable().status.value, team.variable().status.previous_value) == (0.4, 0.5)
    team.agents["a0"]["spec"]["preferences"] = [prefers(0.4, weight=7)]
    team.settle()
    assert (team.variable().status.round, team.variable().status.previous_value) == (4, 0.5)


def test_a_choice_stays_in_force_as_long_as_the_domain_has_it() -> None:
    team = wanting("small", domain=SIZES)
    team.settle()
    team.agents["a0"]["spec"]["preferences"] = []
    team.settle()
    assert team.variable().status.value == "small"


def test_a_first_auction_that_nobody_wins_has_no_value_yet() -> None:
    bidder = an_agent("a", preferences=[prefers(0.9, bid=1)])
    decision = look(a_variable(negotiation={"strategy": "Auction", "reservePrice": 4}), bidder)
    assert ready(decision)[:2] == ("False", "ReserveNotMet")
