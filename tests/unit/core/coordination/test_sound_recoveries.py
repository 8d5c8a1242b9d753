"""Who was stopped, refused or failed is judged like anybody else: no value gets in by the back door, and nothing flaps."""

from dataclasses import replace
from typing import Any

import pytest

from mabeam.core.coordination.strategies.selection import select
from mabeam.core.decision import Decision
from mabeam.core.functions import FunctionResult
from mabeam.core.passes import variable as coordination
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import VariableSnapshot
from support.builders import an_agent, at
from support.coordination import a_round, a_variable, an_item, in_json, performing, told_agent

STOPPED = an_item("v", "Acknowledged", action="Stop", parameters={})
STRICT = {"taskRequirements": {"minPerformance": 0.5, "inactivePolicy": "Stop"}}


def resting(name: str, **words: Any) -> Any:
    """An agent that a selection keeps from running."""
    return told_agent(name, STOPPED, status={"state": "Stopped", "readyReplicas": 0}, **words)


def selected(*agents: Any, watching: Any = None, **spec: Any) -> Any:
    status = {"observedGeneration": 1, "value": {"active": ["a"]}, "watching": watching}
    outcome = in_json(select(a_round(*agents, reports=performing(a=0.9), status=status, type="AgentSelection", **spec)))
    return outcome.value["active"]


def test_who_was_stopped_for_its_performance_is_not_started_to_be_stopped_again() -> None:
    assert selected(told_agent("a"), resting("b"), watching={"b": 0.2}, **STRICT) == ["a"]
    assert selected(told_agent("a"), resting("b"), watching={"b": 0.6}, **STRICT) == ["a", "b"]


def test_who_was_never_heard_has_to_run_to_show_what_it_can_do() -> None:
    assert selected(told_agent("a"), resting("b"), **STRICT) == ["a", "b"]


def test_the_last_score_is_remembered_for_as_long_as_it_is_needed() -> None:
    told = {"type": "AgentSelection", **STRICT}
    first = in_json(select(a_round(told_agent("a"), told_agent("b"), reports=performing(a=0.9, b=0.2), **told)))
    assert first.follow_up.memory == {"b": 0.2}
    status = {"observedGeneration": 1, "value": first.value, "watching": first.follow_up.memory}
    again = in_json(select(a_round(told_agent("a"), resting("b"), reports=performing(a=0.9), status=status, **told)))
    assert (again.value, again.follow_up.memory) == (first.value, first.follow_up.memory)


@pytest.mark.parametrize("wrong", ["high", True, [1], {"b": 1}, 1e300])
def test_a_memory_that_somebody_edited_harms_nobody(wrong: Any) -> None:
    assert "a" in selected(told_agent("a"), resting("b"), watching={"b": wrong}, **STRICT)


def test_whom_its_user_stopped_takes_nobodys_place() -> None:
    assert selected(told_agent("a"), resting("b", desiredState="Stopped")) == ["a"]


def test_one_that_refused_to_be_stopped_and_is_down_all_the_same_does_not_qualify() -> None:
    refused = told_agent("b", {**STOPPED, "state": "Refused"}, status={"state": "Stopped", "readyReplicas": 0})
    assert selected(told_agent("a"), refused) == ["a"]


# --- votes on thresholds ------------------------------------------------------------------------------------------------------


def test_a_rejected_action_is_not_proposed_again_while_the_same_breach_lasts() -> None:
    threshold = {"below": 0.5, "forSeconds": 0, "cooldownSeconds": 0, "onBreach": {"action": "Migrate"}}
    variable = a_variable("t", ["a"], type="PerformanceThreshold", threshold=threshold, consensus={}, value=None)
    agent = an_agent("a", preferences=[{"variable": "t", "vote": "No"}])
    snapshot = VariableSnapshot(variable, (agent,), {"a": Report(performance={"": 0.1})})
    proposals, rejections = set(), 0
    for second in range(6):
        decision = coordination.decide(snapshot, at(second))
        assert decision.status.consensus is not None
        proposals.add(decision.status.consensus.proposal)
        rejections += sum(event.reason == "ConsensusRejected" for event in decision.events)
        stored = variable.model_copy(update={"status": decision.status})
        assert second < 2 or decision.status == snapshot.variable.status, "a status must not tick"
        snapshot = replace(snapshot, variable=stored)
    assert (len(proposals), rejections) == (1, 1)
    # The breach is over, and comes again: that is another one, and is proposed.
    for second, score in ((10, 0.9), (20, 0.1)):
        snapshot = replace(snapshot, reports={"a": Report(performance={"": score})})
        decision = coordination.decide(snapshot, at(second))
        snapshot = replace(snapshot, variable=variable.model_copy(update={"status": decision.status}))
    assert decision.status.consensus is not None
    assert decision.status.consensus.proposal not in proposals


# --- fallbacks ----------------------------------------------------------------------------------------------------------------


def failing(fallback: Any, asked: int = 4, **spec: Any) -> Decision[Any]:
    """A variable whose function fails; rules are answered by whether the value is at most 1.5."""
    tolerance = {"recoveryStrategy": "Fallback", "fallbackValue": fallback}
    status = {"observedGeneration": 1, "value": 0.2, "round": 1}
    variable = a_variable(value=0.2, function={"cel": "x"}, faultTolerance=tolerance, status=status, **spec)
    agent = an_agent("a", preferences=[{"variable": "temperature", "vote": "No"}])
    snapshot = VariableSnapshot(variable, (agent,))
    for _ in range(asked):
        decision = coordination.decide(snapshot, at(0))
        answers = {
            ask.id: FunctionResult(error="it broke") if ask.text == "x" else FunctionResult(ask.inputs["value"] <= 1.5)
            for ask in decision.function_calls
        }
        snapshot = replace(snapshot, function_results={**snapshot.function_results, **answers})
    return coordination.decide(snapshot, at(0))


def test_a_fallback_is_in_force_when_a_function_fails() -> None:
    assert failing(1.0).status.value == 1.0


def test_a_fallback_obeys_the_rules() -> None:
    rules = {"rules": [{"cel": "value <= 1.5", "message": "too hot"}]}
    decision = failing(1.9, constraints=rules)
    assert decision.status.value == 0.2
    assert "nor is fallbackValue 1.9 allowed: too hot" in decision.status.last_decision.message
    assert failing(1.2, constraints=rules).status.value == 1.2


def test_a_fallback_obeys_the_domain() -> None:
    assert failing(9, domain={"minimum": 0, "maximum": 1}).status.value == 1.0


def test_a_fallback_needs_the_vote_that_any_other_value_needs() -> None:
    decision = failing(1.0, consensus={})
    assert decision.status.value == 0.2
    assert decision.status.consensus.outcome == "Rejected"


def test_a_fallback_is_no_way_to_set_a_structure() -> None:
    tolerance = {"recoveryStrategy": "Fallback", "fallbackValue": {"a": {"memory": "900Gi"}}}
    with pytest.raises(ValueError, match=r"`faultTolerance\.fallbackValue` goes with the type"):
        a_variable(
            type="ResourceAllocation", budget=[{"resource": "x", "amount": 1}], faultTolerance=tolerance, value=None
        )


# --- nobody to divide among, and who decided ----------------------------------------------------------------------------------


def test_a_budget_that_nobody_can_have_is_told() -> None:
    budget = [{"resource": "memory", "amount": "1Gi"}]
    variable = a_variable(type="ResourceAllocation", budget=budget, value=None)
    decision = coordination.decide(VariableSnapshot(variable, (an_agent("a"),)), at(0))
    ready = next(c for c in decision.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason) == ("False", "InvalidConfiguration")
    assert "no agent can get memory" in ready.message


def test_the_start_is_by_spec_value_while_another_is_only_proposed() -> None:
    variable = a_variable(value=0.7, negotiation={}, consensus={})
    agent = an_agent("a", preferences=[{"variable": "temperature", "value": 0.4}])
    decision = coordination.decide(VariableSnapshot(variable, (agent,)), at(0))
    assert (decision.status.value, decision.status.last_decision.rule) == (0.7, "SpecValue")
    assert (decision.status.consensus.proposed, decision.status.consensus.rule) == (0.4, "WeightedMean")
    for_it = an_agent("a", preferences=[{"variable": "temperature", "value": 0.4, "vote": "Yes"}])
    accepted = coordination.decide(VariableSnapshot(variable, (for_it,)), at(0))
    assert (accepted.status.value, accepted.status.last_decision.rule) == (0.4, "WeightedMean")
