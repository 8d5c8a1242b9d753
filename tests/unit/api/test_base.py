"""JSON values: what is null inside one is left out wherever it enters, because no merge patch can store it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import MAX_VALUE_DEPTH, without_nulls
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.functions import FunctionResult
from mabeam.evaluation.results import InvalidResult, parse_result
from mabeam.state.parse_objects import parse_agent, parse_variable
from mabeam.state.status_patch import merge_patch
from support.builders import agent_body
from support.coordination import variable_body

HOLED = {"model": "x", "stop": None, "tools": [None, {"name": "t", "key": None}], "empty": {"a": None}}
WHOLE = {"model": "x", "tools": [{"name": "t"}], "empty": {}}
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


def nulls_in(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(1 for one in inner if one is None) + sum(nulls_in(one) for one in inner)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@given(VALUES)
def test_no_null_is_left_inside_a_value_and_nothing_else_goes(value: Any) -> None:
    cleaned = without_nulls(value)
    assert nulls_in(cleaned) == 0
    assert without_nulls(cleaned) == cleaned
    if nulls_in(value) == 0:
        assert cleaned == value


@given(VALUES.filter(lambda value: value is not None))
def test_a_decided_value_is_what_is_read_back_of_it(value: Any) -> None:
    decided = OrchestrationVariableStatus(value=without_nulls(value))
    assert OrchestrationVariableStatus.model_validate(decided.to_wire()).to_wire() == decided.to_wire()
    assert merge_patch(decided.to_wire(), decided.to_wire()) == {}


def test_a_null_inside_the_spec_of_a_variable_is_left_out() -> None:
    parts = {"value": HOLED, "domain": {"type": "Object"}, "faultTolerance": {"fallbackValue": HOLED}}
    parsed = parse_variable(variable_body("settings", ["a"], **parts))
    assert parsed.invalid is None
    spec = parsed.variable.spec
    assert spec.value == WHOLE
    assert spec.fault_tolerance is not None
    assert spec.fault_tolerance.fallback_value == WHOLE


def test_a_null_inside_a_preference_is_left_out() -> None:
    parsed = parse_agent(agent_body(preferences=[{"variable": "settings", "value": HOLED}]))
    assert parsed.invalid is None
    assert parsed.agent.spec.preferences[0].value == WHOLE


def test_a_null_inside_the_answer_of_a_function_is_left_out() -> None:
    raw = b'{"value": {"model": "x", "stop": null, "list": [1, null, {"a": null}]}}'
    assert parse_result(raw) == FunctionResult(value={"model": "x", "list": [1, {}]})


def test_a_null_in_stored_parameters_is_left_out() -> None:
    item = {"variable": "v", "action": "AdjustParameters", "parameters": {"a": None, "b": {"c": None}}}
    status = AgentStatus.model_validate({"directives": {"items": [item], "lastGood": {"a": None, "b": 1}}})
    assert status.directives is not None
    assert (status.directives.items[0].parameters, status.directives.last_good) == ({"b": {}}, {"b": 1})


@pytest.mark.parametrize(("levels", "fits"), [(MAX_VALUE_DEPTH, True), (MAX_VALUE_DEPTH + 1, False), (900, False)])
def test_a_value_that_is_nested_too_deep_is_refused_in_words(levels: int, fits: bool) -> None:
    invalid = parse_variable(variable_body("v", ["a"], value=nested(levels), domain={"type": "Object"})).invalid
    assert (invalid is None) is fits
    assert fits or str(invalid).startswith("spec.value: ")


@pytest.mark.parametrize("levels", [33, 900, 100_000])
def test_an_answer_that_is_nested_too_deep_is_none(levels: int) -> None:
    with pytest.raises(InvalidResult, match="nested deeper than 32"):
        parse_result(b'{"value": ' + b"[" * levels + b"]" * levels + b"}")


def test_text_that_no_status_can_hold_is_refused_in_words() -> None:
    with pytest.raises(InvalidResult, match="not Unicode"):
        parse_result(rb'{"value": "\ud800"}')


def test_a_pod_template_that_no_writer_of_json_takes_is_refused_in_words() -> None:
    deep = {"spec": {"containers": [{"name": "agent", "image": "x"}], "affinity": nested(300)}}
    assert "nested" in str(parse_agent(agent_body(template=deep)).invalid)
