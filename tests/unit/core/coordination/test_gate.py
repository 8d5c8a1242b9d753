"""Rules in CEL: a value that breaks one is not taken, whoever wants it."""

from typing import Any

import pytest

from mabeam.core.coordination.gate import check_constraints
from mabeam.core.functions import FunctionCall, FunctionResult
from support.builders import agent_body, an_agent
from support.coordination import Team, a_round, prefers, variable_body

RULES = {"rules": [{"cel": "value <= 1.0", "message": "not so hot"}]}


def at_most_one(ask: FunctionCall) -> FunctionResult:
    return FunctionResult(ask.inputs["value"] <= 1)


def ruled(wanted: float, rules: Any = at_most_one, **spec: Any) -> Team:
    """A team of one that wants a value, under the rule that it may be 1 at most."""
    spec = {"negotiation": {}, "constraints": RULES, **spec}
    team = Team.of(variable_body(agents=["a"], **spec), agent_body("a", preferences=[prefers(wanted)]))
    team.function = rules
    return team


def test_without_rules_nothing_is_asked() -> None:
    assert check_constraints(a_round(an_agent("a")), 5).function_calls == ()


@pytest.mark.parametrize(
    ("answer", "broken"),
    [
        (FunctionResult(True), None),
        (FunctionResult(False), "not so hot"),
        (FunctionResult(1), "not so hot (gave 1, not true or false)"),
        (FunctionResult([]), "not so hot (gave [], not true or false)"),
        (FunctionResult(error="no such key"), "not so hot (no such key)"),
    ],
)
def test_only_true_is_true(answer: FunctionResult, broken: str | None) -> None:
    team = ruled(0.5, lambda ask: answer)
    team.settle()
    status = team.variable().status
    assert (status.value is None) == (broken is not None)
    if broken is not None:
        assert team.ready() == ("False", "ConstraintViolation", f"0.5 is not allowed: {broken}")


def test_every_rule_is_asked_at_once_and_the_first_that_breaks_is_told() -> None:
    rules = {"rules": [{"cel": "value < 9.0"}, {"cel": "value < 5.0"}, {"cel": "value < 4.0"}]}
    round_ = a_round(an_agent("a"), constraints=rules)
    asks = check_constraints(round_, 7).function_calls
    assert [ask.text for ask in asks] == ["value < 9.0", "value < 5.0", "value < 4.0"]
    answers = {ask.id: FunctionResult(ask.text == "value < 9.0") for ask in asks}
    assert check_constraints(a_round(an_agent("a"), constraints=rules, answers=answers), 7).broken == "value < 5.0"


def test_a_value_that_breaks_a_rule_leaves_the_last_one() -> None:
    team = ruled(0.5)
    team.settle()
    team.agents["a"]["spec"]["preferences"] = [prefers(1.5)]
    team.settle()
    assert team.variable().status.value == 0.5
    assert team.ready() == ("False", "ConstraintViolation", "1.5 is not allowed: not so hot")


def test_a_start_that_the_rules_allow_is_in_force_when_they_refuse_what_the_agents_want() -> None:
    team = ruled(1.5, value=0.7)
    team.settle()
    assert team.variable().status.value == 0.7


@pytest.mark.parametrize("spec", [{"negotiation": None, "value": 1.2}, {"value": 1.2}])
def test_a_start_that_breaks_a_rule_itself_is_not_taken_either(spec: dict[str, Any]) -> None:
    body = {key: found for key, found in {"negotiation": {}, **spec}.items() if found is not None}
    team = Team.of(variable_body(agents=["a"], constraints=RULES, **body), agent_body("a", preferences=[prefers(1.5)]))
    team.function = at_most_one
    team.settle()
    assert team.variable().status.value is None
    assert team.parameters("a") == {}
    assert team.ready()[1] == "ConstraintViolation"


def test_a_rule_that_is_being_asked_holds_the_value_back() -> None:
    team = ruled(0.5, lambda ask: None)
    for _ in range(3):
        decision = team.pass_variable()
    assert (decision.status.value, len(decision.function_calls)) == (None, 1)
    assert team.ready()[1] == "Evaluating"
