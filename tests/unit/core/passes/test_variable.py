"""One pass over a variable: gather, value, directives, record."""

from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.variable import CoordinationError, OrchestrationType, OrchestrationVariable
from mabeam.core.coordination import working_set
from mabeam.core.coordination.failure_budget import FAILURES
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.decision import Decision
from mabeam.core.passes import variable as coordination
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import VariableSnapshot
from support.builders import agent_body, an_agent, at
from support.coordination import (
    Team,
    a_variable,
    an_item,
    condition_of,
    offering,
    prefers,
    told_agent,
    variable_body,
)
from support.variable_passes import converging, look, ready, reasons, wanting


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
    assert ready(decision) == (
        "False",
        "AgentUnavailable",
        "the selector matches no agent; 0.5 stays in force",
    )
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


def test_an_agent_that_follows_as_many_variables_as_it_can_refuses_the_next() -> None:
    full = told_agent("a", *(an_item(f"v{i:02}") for i in range(64)))
    decision = converging(full)
    assert ready(decision)[1] == "Refused"
    assert counts(decision) == (1, 0, 0, 1, 0)


def test_without_agents_the_value_of_the_spec_is_in_force_until_they_decide() -> None:
    team = wanting(0.9)
    offering_agents = dict(team.agents)
    team.agents.clear()
    team.variables["temperature"]["spec"]["value"] = 0.7
    team.settle()
    assert team.variable().status.value == 0.7
    assert team.ready() == ("False", "AgentUnavailable", "no valid agent named a0; 0.7 stays in force")
    assert [e.type for e in team.events if e.reason in ("CoordinationCompleted", "CoordinationFailed")] == ["Warning"]
    team.agents.update(offering_agents)
    team.settle()
    assert team.variable().status.value == 0.9


def test_a_reported_offer_that_cannot_count_is_told_and_so_is_its_end() -> None:
    team = wanting(0.9)
    team.said["a0"] = Report(choices={"temperature": {"hot": 1.0}})
    team.settle()
    why = "a0: it reports a choice, but the domain wants a number"
    status = team.variable().status
    assert status.value == 0.9  # its static preference
    assert status.negotiation is not None
    assert status.negotiation.dropped == (why,)
    assert team.ready() == ("True", "Converged", f"1/1 applied; does not count: {why}")
    team.said["a0"] = Report(numbers={"temperature": 0.4})
    team.settle()
    assert team.variable().status.value == 0.4
    assert team.ready() == ("True", "Converged", "1/1 applied")
