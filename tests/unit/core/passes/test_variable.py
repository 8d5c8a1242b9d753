"""One pass over a variable: gather, value, directives, record."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.directive import DirectiveState
from mabeam.api.names import Reason
from mabeam.api.variable import CoordinationError, OrchestrationType, OrchestrationVariable
from mabeam.core.coordination import working_set
from mabeam.core.coordination.config_maps import directives as shards
from mabeam.core.coordination.failure_budget import FAILURES
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.decision import Decision
from mabeam.core.passes import variable as coordination
from mabeam.core.passes.variable import decide
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot
from support.builders import START, agent_body, an_agent, at
from support.coordination import (
    SIZES,
    Team,
    a_variable,
    an_item,
    condition_of,
    offering,
    prefers,
    told_agent,
    variable_body,
)


def look(
    variable: OrchestrationVariable,
    *agents: Agent,
    reports: Mapping[str, Report] | None = None,
    config_maps: tuple[ConfigMapFacts, ...] = (),
    now: datetime = START,
) -> Decision[Any]:
    return decide(VariableSnapshot(variable, agents, reports or {}, config_maps), now)


def ready(decision: Decision[Any]) -> tuple[str, str, str]:
    return condition_of(decision.status, "Ready")


def reasons(decision: Decision[Any]) -> list[str]:
    return [str(event.reason) for event in decision.events]


def wanting(*values: Any, **spec: Any) -> Team:
    """A team of one agent per value, each with it as its static preference, and a variable they negotiate."""
    agents = [agent_body(f"a{i}", preferences=[prefers(value)]) for i, value in enumerate(values)]
    names = [agent["metadata"]["name"] for agent in agents]
    return Team.of(variable_body(agents=names, negotiation={}, **spec), *agents)


def reporting(*values: float, **spec: Any) -> Team:
    """The same, with the values in the agents' reports."""
    agents = [agent_body(f"a{i}") for i in range(len(values))]
    names = [agent["metadata"]["name"] for agent in agents]
    team = Team.of(variable_body(agents=names, **{"negotiation": {}, **spec}), *agents)
    team.said = {name: Report(numbers={"temperature": value}) for name, value in zip(names, values, strict=True)}
    return team


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_type_that_passes_the_door_has_a_strategy() -> None:
    assert set(STRATEGIES) == set(OrchestrationType)


def test_every_coordination_error_is_told_as_a_failure() -> None:
    assert {str(error) for error in CoordinationError} <= {str(reason) for reason in FAILURES}


# --- the value --------------------------------------------------------------------------------------------------------


def test_without_negotiation_the_value_is_that_of_the_spec() -> None:
    decision = look(a_variable(value=0.7), an_agent("a"))
    status = decision.status
    assert (status.value, status.previous_value, status.round, status.negotiation) == (0.7, None, 1, None)
    assert status.last_decision.rule == "SpecValue"
    assert status.last_decision.message == "0.7 from spec.value"
    assert decision.status_reason == "registered"
    assert reasons(decision) == ["VariableRegistered", "CoordinationCompleted"]
    assert decision.events[1].note == "temperature = 0.7 by SpecValue: 0.7 from spec.value"


def test_the_negotiation_of_the_design_is_recorded_with_everything_that_explains_it() -> None:
    variable = a_variable(
        agents=("coder", "reviewer"), value=0.7, negotiation={}, domain={"minimum": 0, "maximum": 2, "step": 0.05}
    )
    decision = look(variable, offering("reviewer", 1.0), offering("coder", 0.4, weight=2))
    wire = decision.status.to_wire()
    assert wire["value"] == 0.6
    assert wire["round"] == 1
    assert wire["agents"] == {"selected": 2, "missing": [], "names": ["coder", "reviewer"]}
    assert wire["negotiation"] == {
        "id": "temperature-1",
        "state": "Completed",
        "participants": ["coder", "reviewer"],
        "strategy": "WeightedConsensus",
        "offers": [
            {"agent": "coder", "value": 0.4, "weight": 2.0, "source": "Spec"},
            {"agent": "reviewer", "value": 1.0, "weight": 1.0, "source": "Spec"},
        ],
        "outcome": 0.6,
        "reason": "WeightedMean",
        "dropped": [],
    }
    last = wire["lastDecision"]
    assert (last["time"], last["rule"], last["message"]) == (
        "2026-01-01T00:00:00Z",
        "WeightedMean",
        "0.6 from 2 offers, total weight 3",
    )
    assert last["inputsHash"].startswith("sha256:")
    assert last["triggerHash"] != last["inputsHash"]


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


def test_a_spec_that_cannot_be_read_is_told_and_changes_nothing() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.settle()
    before = team.variable()
    decision = coordination.invalid(VariableSnapshot(before), "spec.domain: nonsense", at(9))
    assert decision.status.value == 0.5
    assert decision.status.directives == before.status.directives
    for type_, status in (("Accepted", "False"), ("Ready", "False"), ("Stalled", "True")):
        assert condition_of(decision.status, type_) == (status, "InvalidSpec", "spec.domain: nonsense")
    assert condition_of(decision.status, "Reconciling") == ("False", "InvalidSpec", "")
    assert condition_of(decision.status, "AgentsResolved")[0] == "True"
    assert reasons(decision) == ["InvalidSpec"]
    again = before.model_copy(update={"status": decision.status})
    repeated = coordination.invalid(VariableSnapshot(again), "spec.domain: nonsense", at(99))
    assert (repeated.status, repeated.events) == (decision.status, ())


def test_of_a_type_that_nothing_coordinates_yet_nothing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_set, "STRATEGIES", {})
    decision = look(a_variable(), an_agent("a"))
    assert ready(decision)[:2] == ("False", "UnsupportedCoordinationType")
    assert condition_of(decision.status, "Stalled")[0] == "True"
    assert reasons(decision)[-1] == "CoordinationFailed"


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


# --- agents -----------------------------------------------------------------------------------------------------------


def test_names_and_selector_are_a_union() -> None:
    labelled = Agent.model_validate(
        {**agent_body("b"), "metadata": {**agent_body("b")["metadata"], "labels": {"team": "alpha"}}}
    )
    decision = look(a_variable(agents=("a",), labels={"team": "alpha"}), labelled, an_agent("a"), an_agent("c"))
    assert decision.status.agents.names == ("a", "b")
    assert condition_of(decision.status, "AgentsResolved") == ("True", "AllResolved", "")


def test_a_variable_works_with_the_agents_that_exist_and_names_the_missing() -> None:
    decision = look(a_variable(agents=("a", "ghost", "spook")), an_agent("a"))
    assert decision.status.value == 0.5
    assert decision.status.agents.missing == ("ghost", "spook")
    assert condition_of(decision.status, "AgentsResolved") == (
        "False",
        "AgentsMissing",
        "no valid agent named ghost, spook",
    )


def test_with_all_agents_missing_the_last_good_value_stays() -> None:
    team = wanting(0.9)
    team.settle()
    team.agents.clear()
    team.settle()
    assert team.variable().status.value == 0.9
    assert team.ready() == ("False", "AgentUnavailable", "no valid agent named a0; 0.9 stays in force")
    assert [e.note for e in team.events if e.type == "Warning"] == [
        "AgentUnavailable: no valid agent named a0; 0.9 stays in force"
    ]


def test_a_selector_that_matches_nobody_says_so() -> None:
    decision = look(a_variable(agents=(), labels={"team": "beta"}))
    assert ready(decision) == ("False", "AgentUnavailable", "the selector matches no agent")
    assert condition_of(decision.status, "Reconciling")[:2] == ("True", "AgentUnavailable")
    assert condition_of(decision.status, "Stalled")[:2] == ("False", "Progressing")
    assert condition_of(decision.status, "AgentsResolved")[0] == "False"


def test_an_agent_that_is_being_deleted_is_missing() -> None:
    body = agent_body("a")
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert look(a_variable(), Agent.model_validate(body)).status.agents.missing == ("a",)


def test_a_variable_that_is_being_deleted_is_left_alone() -> None:
    body = variable_body()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    decision = look(OrchestrationVariable.model_validate(body), an_agent("a"))
    assert (decision.status_reason, decision.events) == ("unchanged", ())


# --- when a round happens ---------------------------------------------------------------------------------------------


def test_a_changed_spec_member_or_static_preference_starts_a_round_at_once() -> None:
    team = wanting(0.2, 0.4)
    team.settle()
    assert team.variable().status.round == 1
    team.agents["a0"]["spec"]["preferences"] = [prefers(0.8)]
    team.pass_variable()
    assert (team.variable().status.round, team.variable().status.value) == (2, 0.6)
    team.variables["temperature"]["spec"]["domain"] = {"maximum": 0.5}
    team.pass_variable()
    assert (team.variable().status.round, team.variable().status.value) == (3, 0.45)
    del team.agents["a1"]
    team.pass_variable()
    assert (team.variable().status.round, team.variable().status.value) == (4, 0.5)


WRITTEN_OUT = {"negotiation": {"maxWeight": 10, "periodSeconds": 15}}


@pytest.mark.parametrize("change", [{"priority": 7}, {"mode": "Active"}, {"parameter": "temp"}, WRITTEN_OUT])
def test_what_bears_on_no_value_starts_no_round(change: dict[str, Any]) -> None:
    team = wanting(0.2, 0.4)
    team.settle()
    team.variables["temperature"]["spec"].update(change)
    team.settle()
    assert team.variable().status.round == 1


def test_numbers_reported_anew_start_a_round_only_after_the_period() -> None:
    team = reporting(0.2, 0.4)
    team.settle()
    team.said["a0"] = Report(numbers={"temperature": 0.8})
    team.wait(5)
    assert team.pass_variable().requeue_after == 10
    assert team.variable().status.value == 0.3
    team.wait(10)
    team.pass_variable()
    assert (team.variable().status.value, team.variable().status.round) == (0.6, 2)


def test_an_offer_that_comes_or_goes_starts_a_round_at_once() -> None:
    team = reporting(0.2)
    team.settle()
    team.said["a0"] = Report()
    team.wait(1)
    team.pass_variable()
    assert team.variable().status.negotiation.reason == "NoOffers"
    team.said["a0"] = Report(numbers={"temperature": 0.9})
    team.wait(1)
    team.pass_variable()
    assert team.variable().status.value == 0.9


def test_offers_that_come_to_the_same_outcome_are_not_recorded() -> None:
    team = reporting(0.2, 0.4)
    team.settle()
    before = team.variable().status
    team.said = {"a0": Report(numbers={"temperature": 0.1}), "a1": Report(numbers={"temperature": 0.5})}
    team.wait(60)
    decision = team.pass_variable()
    assert decision.status == before
    assert decision.requeue_after == 15


def test_one_agent_that_reports_is_enough_to_look_again() -> None:
    agents = (offering("a", 0.4), an_agent("b"))
    variable = a_variable(agents=("a", "b"), negotiation={})
    decision = look(variable, *agents, reports={"b": Report(numbers={"temperature": 0.2})})
    assert decision.requeue_after == 15


def test_a_variable_that_nobody_reports_on_asks_for_no_timer() -> None:
    assert look(a_variable(negotiation={}), offering("a", 0.4)).requeue_after is None
    assert look(a_variable(value=0.4), an_agent("a")).requeue_after is None


def test_an_auction_that_another_agent_wins_at_the_same_value_is_recorded() -> None:
    team = reporting(0.5, 0.5, negotiation={"strategy": "Auction"})
    team.said = {n: Report(numbers={"temperature": 0.5}, bids={"temperature": b}) for n, b in (("a0", 2), ("a1", 1))}
    team.settle()
    team.said["a1"] = Report(numbers={"temperature": 0.5}, bids={"temperature": 9})
    team.wait(15)
    team.pass_variable()
    session = team.variable().status.negotiation
    assert (team.variable().status.round, session.winner, session.payment) == (2, "a1", 9)


def test_a_restarted_operator_listens_before_it_decides() -> None:
    team = reporting(0.2, 0.4)
    team.settle()
    before, said = team.variable().status, dict(team.said)
    team.said.clear()  # a new process has heard nobody yet
    decision = team.pass_variable()
    assert (decision.status, decision.requeue_after) == (before, 1)
    team.said = {"a0": said["a0"]}  # one of them is not heard yet
    assert team.pass_variable().status == before
    team.said = said
    assert team.pass_variable().status == before
    team.said = {"a0": Report(), "a1": Report()}  # heard, and they say nothing
    team.pass_variable()
    assert team.variable().status.negotiation.reason == "NoOffers"


def test_it_does_not_wait_to_hear_an_agent_that_is_down() -> None:
    team = reporting(0.2, 0.4)
    team.settle()
    del team.said["a0"]
    team.agents["a0"]["status"]["readyReplicas"] = 0
    team.pass_variable()
    assert team.variable().status.value == 0.4


# --- modes ------------------------------------------------------------------------------------------------------------


def test_advise_decides_and_records_and_delivers_nothing() -> None:
    team = wanting(0.2, 0.4, mode="Advise")
    team.settle()
    status = team.variable().status
    assert (status.value, status.round, status.negotiation.outcome) == (0.3, 1, 0.3)
    assert (status.directives.issued, status.directives.items) == (0, ())
    assert team.ready() == ("True", "Advised", "0.3; mode Advise delivers nothing")
    assert team.effects == []


def test_from_advise_to_active_the_recorded_value_is_delivered() -> None:
    team = wanting(0.2, 0.4, mode="Advise")
    team.settle()
    team.variables["temperature"]["spec"]["mode"] = "Active"
    team.settle()
    assert team.parameters("a0") == {"temperature": 0.3}
    assert team.variable().status.round == 1


def test_a_paused_variable_decides_nothing_and_keeps_everything() -> None:
    team = wanting(0.2, 0.4)
    team.settle()
    before = team.variable().status
    team.variables["temperature"]["spec"]["paused"] = True
    team.agents["a0"]["spec"]["preferences"] = [prefers(0.8)]
    newcomer = Team.of(variable_body(), agent_body("a2"))
    team.agents |= newcomer.agents
    team.variables["temperature"]["spec"]["agents"]["names"].append("a2")
    team.settle()
    status = team.variable().status
    assert (status.value, status.round, status.negotiation) == (before.value, before.round, before.negotiation)
    assert condition_of(status, "Paused") == ("True", "Paused", "")
    assert team.parameters("a0") == {"temperature": 0.3}
    assert team.parameters("a2") == {}
    assert status.directives.issued == 2
    team.variables["temperature"]["spec"]["paused"] = False
    team.settle()
    assert team.variable().status.value == 0.6
    assert team.parameters("a2") == {"temperature": 0.6}
    assert condition_of(team.variable().status, "Paused")[:2] == ("False", "NotPaused")


# --- directives and convergence ---------------------------------------------------------------------------------------


def converging(*agents: Agent, **spec: Any) -> Decision[Any]:
    """A pass over a variable whose value 0.6 is being delivered."""
    names = tuple(agent.metadata.name for agent in agents)
    variable = a_variable(agents=names, value=0.6, **spec)
    settled = look(variable, *agents).status
    return look(variable.model_copy(update={"status": settled}), *agents)


def counts(decision: Decision[Any]) -> tuple[int, int, int, int, int]:
    d = decision.status.directives
    return d.issued, d.delivered, d.acknowledged, d.refused, d.expired


def test_one_directive_per_agent_with_the_variables_priority_and_timeout() -> None:
    [item] = converging(an_agent("a"), priority=4, constraints={"timeoutSeconds": 9}).status.directives.items
    assert item.to_wire() == {
        "agent": "a",
        "action": "AdjustParameters",
        "parameters": {"temperature": 0.6},
        "priority": 4,
        "timeoutSeconds": 9.0,
        "state": "Issued",
    }


def test_while_it_is_under_way_the_status_tells_how_far() -> None:
    agents = [told_agent(f"a{i}", an_item(state="Acknowledged")) for i in range(7)]
    decision = converging(*agents, told_agent("a7", an_item(state="Delivered")))
    assert ready(decision) == ("False", "Delivering", "7/8 applied")
    assert condition_of(decision.status, "Reconciling") == ("True", "Delivering", "7/8 applied")
    assert counts(decision) == (8, 8, 7, 0, 0)


def test_a_directive_of_other_parameters_is_not_this_one() -> None:
    decision = converging(told_agent("a", an_item(state="Acknowledged", value=0.5)))
    assert decision.status.directives.items[0].state is DirectiveState.ISSUED


def test_agents_that_rest_or_never_report_converge_when_it_is_delivered() -> None:
    delivered = an_item(state="Delivered")
    assert ready(converging(told_agent("a", delivered, status={"state": "Stopped"})))[1] == "Converged"
    assert ready(converging(told_agent("a", delivered, reports={"source": "None"})))[1] == "Converged"
    assert ready(converging(told_agent("a", delivered)))[1] == "Delivering"
    assert ready(converging(told_agent("a", delivered, status={"state": "Failed"})))[1] == "Delivering"
    issued = an_item(state="Issued")
    assert ready(converging(told_agent("a", issued, reports={"source": "None"})))[1] == "Delivering"


def test_a_directive_nobody_answered_is_a_timeout_that_names_the_agents() -> None:
    late = an_item(state="Expired", reason="NotAcknowledged", message="not acknowledged in time")
    never = an_item(state="Expired", reason="NotDelivered", message="not delivered in time")
    agents = [told_agent(f"a{i}", late) for i in range(4)]
    decision = converging(*agents, told_agent("b", never), told_agent("c", an_item(state="Acknowledged")))
    assert ready(decision) == (
        "False",
        "Timeout",
        "1/6 applied; a0: not acknowledged in time; a1: not acknowledged in time; a2: not acknowledged in time"
        " and 2 more",
    )
    assert counts(decision) == (6, 5, 1, 0, 5)


def test_a_refusal_names_the_agent_and_its_reason_and_outranks_a_timeout() -> None:
    decision = converging(
        told_agent("a", an_item(state="Expired", reason="NotAcknowledged", message="not acknowledged in time")),
        told_agent("b", an_item(state="Refused", reason="RefusedByAgent", message="too hot")),
    )
    assert ready(decision) == ("False", "Refused", "0/2 applied; b: too hot")
    assert counts(decision) == (2, 2, 0, 1, 1)


def test_the_loser_of_a_conflict_reads_in_its_own_status_who_won() -> None:
    cool = variable_body("cool", value=0.1, parameter="temperature", priority=1)
    team = Team.of(cool, agent_body("a"))
    team.variables["hot"] = variable_body("hot", value=0.9, parameter="temperature", priority=5)
    team.settle()
    assert team.parameters("a") == {"temperature": 0.9}
    assert team.ready("hot")[:2] == ("True", "Converged")
    assert team.ready("cool") == (
        "False",
        "Refused",
        "0/1 applied; a: variable hot sets temperature: its priority 5 is above 1",
    )
    assert team.variable("cool").status.directives.delivered == 0
    del team.variables["hot"]
    team.settle()
    assert team.parameters("a") == {"temperature": 0.1}
    assert team.ready("cool")[:2] == ("True", "Converged")


def test_an_agent_that_follows_as_many_variables_as_it_can_refuses_the_next() -> None:
    full = told_agent("a", *(an_item(f"v{i:02}") for i in range(64)))
    decision = converging(full)
    assert ready(decision)[1] == "Refused"
    assert counts(decision) == (1, 0, 0, 1, 0)


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


# --- many agents ------------------------------------------------------------------------------------------------------


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


def test_every_reason_a_condition_carries_is_in_the_closed_list() -> None:
    team = wanting(0.2)
    team.settle()
    assert {c.reason for c in team.variable().status.conditions} <= {str(reason) for reason in Reason}
