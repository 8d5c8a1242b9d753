"""Custom: whatever JSON the function answers, a pass never fails; good directives reach their agents, bad ones are told."""

from typing import Any

import pytest

from mabeam.core.directives.desired import directives_for_value
from mabeam.core.functions import FunctionResult
from mabeam.core.values import parse_custom
from support.builders import agent_body
from support.coordination import Team, a_variable, variable_body

JSON: list[Any] = [True, False, 0, -1, 1.5, 1e300, "", "x", [], [1, [2]], {}, {"a": {"b": [[]]}}]


def answered(answer: Any, **spec: Any) -> Team:
    """A team of two whose Custom variable's function says this."""
    variable = variable_body("own", ("a", "b"), type="Custom", function={"cel": "x"}, **spec)
    team = Team.of(variable, agent_body("a", replicas=2), agent_body("b"))
    team.function = lambda ask: answer if isinstance(answer, FunctionResult) else FunctionResult(answer)
    team.settle()
    return team


def directives(*told: Any) -> Any:
    return {"directives": list(told)}


@pytest.mark.parametrize("answer", JSON)
def test_an_answer_of_any_shape_is_a_parameter(answer: Any) -> None:
    team = answered(answer)
    assert team.parameters("a") == team.parameters("b") == {"own": answer}
    assert team.settle() == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "gave null"),
        (directives(5), "gave a directive (number 0) that is not an object"),
        ({"directives": 7}, "gave `directives` that are not a list"),
        (directives({"agent": "x", "action": "Stop"}), "gave a directive (number 0) for 'x', which is not one of its agents"),
        (directives({"agent": [], "action": "Stop"}), "gave a directive (number 0) for [], which is not one of its agents"),
        (
            directives({"agent": "a", "action": "Stop", "parameters": []}),
            "gave a directive (number 0) whose parameters are not an object",
        ),
        (directives({"agent": "a", "action": "Stop"}, {"agent": "a", "action": "Stop"}), "gave a the action Stop twice"),
        (
            directives({"agent": "a", "action": "AdjustParameters", "parameters": {f"p{n}": n for n in range(65)}}),
            "gave a directive (number 0) with more than 64 parameters",
        ),
        ("x" * 300_000, "gave more than 256 KiB"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_answer_is_told_and_nothing_is_delivered(answer: Any, says: str) -> None:
    team = answered(answer)
    assert team.ready("own") == ("False", "FunctionFailed", f"the function {says}")
    assert [name for name in team.maps if not name.endswith("-decision")] == []


@pytest.mark.parametrize("action", ["Fly", [], {}, None, 5])
def test_an_action_that_is_none_is_told_with_those_that_are(action: Any) -> None:
    message = answered(directives({"agent": "a", "action": action})).ready("own")[2]
    assert f"whose action is {action!r}; allowed: Start, Stop" in message


def test_directives_reach_those_they_name_and_what_they_order_is_absolute() -> None:
    team = answered(
        directives({"agent": "a", "action": "ScaleUp", "parameters": {"by": 3}}, {"agent": "b", "action": "Stop"})
    )
    held = {name: team.agent(name).status.directives for name in "ab"}
    told = {n: [(i.action, i.parameters) for i in d.items] for n, d in held.items() if d is not None}
    assert told == {"a": [("ScaleUp", {"replicas": 5})], "b": [("Stop", {})]}


@pytest.mark.parametrize(
    "parameters", [{"peers": 5}, {"peers": [1]}, {"peers": [{"name": 3}]}, {"peers": [], "coordinator": 1}]
)
def test_a_topology_of_any_shape_is_refused_by_the_operator_and_harms_nobody(parameters: Any) -> None:
    team = answered(directives({"agent": "a", "action": "UpdateCommunication", "parameters": parameters}))
    assert team.ready("own")[1] == "Refused"
    assert team.settle() == 0


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("Activate", {"active": []}), ("ChangeRole", {"role": 5}), ("ChangeRole", {"role": "x", "term": True}),
        ("ScaleDown", {"replicas": "3"}), ("ScaleUp", {"replicas": 101}), ("AllocateResources", {"cpu": "1/0"}),
        ("AllocateResources", {"tokens": 5}), ("AllocateResources", {"tokens": "9" * 300}), ("Reconfigure", {"x": [1]}),
        ("AllocateResources", {f"r{n}": "1" for n in range(60)}), ("AllocateResources", {"networkPriority": "Odd"}),
    ],
)  # fmt: skip
def test_parameters_of_any_shape_are_carried_out_or_refused_and_come_to_rest(action: str, parameters: Any) -> None:
    team = answered(directives({"agent": "a", "action": action, "parameters": parameters}))
    held = team.agent("a").status.directives
    assert held is not None
    assert held.items[0].parameters == parameters
    assert team.settle() == 0


def test_a_domain_that_is_set_bounds_what_the_function_says() -> None:
    domain = {"type": "Number", "minimum": 0, "maximum": 1}
    assert answered(7, domain=domain).parameters("a") == {"own": 1}
    assert answered("x", domain=domain).ready("own")[1] == "FunctionFailed"


@pytest.mark.parametrize(
    "value",
    [*JSON, *map(directives, [5, None, [], {}, {"agent": []}, {"agent": "a", "action": []}]), {"directives": {}}],
)
def test_a_stored_value_of_any_shape_tells_only_what_a_directive_can_say(value: Any) -> None:
    variable = a_variable("own", type="Custom", function={"cel": "x"})
    tell = directives_for_value(variable, parse_custom(value))
    named = isinstance(value, dict) and isinstance(value.get("directives"), list)
    assert [one.action for one in tell("a")] == ([] if named else ["AdjustParameters"])


def test_a_fallback_of_any_shape_harms_nobody() -> None:
    tolerance = {"recoveryStrategy": "Fallback", "fallbackValue": directives(5, {"agent": "a", "action": "Stop"})}
    team = answered(FunctionResult(error="no"), faultTolerance=tolerance)
    held = team.agent("a").status.directives
    assert held is not None
    assert [item.action for item in held.items] == ["Stop"]


def test_a_function_that_says_the_same_again_is_asked_again() -> None:
    """An answer that changed nothing was used all the same: the next look has to ask anew."""
    team = answered(5)
    asked: list[Any] = []

    def listening(ask: Any) -> FunctionResult:
        asked.append(ask.inputs["agents"][0]["labels"])
        return FunctionResult(5 if len(asked) == 1 else 9)

    team.function = listening
    for number in range(3):
        team.wait(16)
        team.agents["a"]["metadata"]["labels"] = {"step": str(number)}
        team.settle()
    assert team.parameters("a") == {"own": 9}
    assert len(asked) >= 3
