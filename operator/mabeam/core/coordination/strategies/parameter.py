"""Parameter, AdaptationRate, Custom: values that are said or found. Function, else rate, else negotiation, else `spec.value`."""

import json
from collections.abc import Callable
from typing import Any, Final

from mabeam.api.names import Reason
from mabeam.api.variable_blocks import Function
from mabeam.core.algorithms import domain as domains
from mabeam.core.coordination.strategies.interface import (
    StrategyInputs,
    StrategyResult,
    failed_call,
    function_inputs,
    result_of_call,
)
from mabeam.core.coordination.strategies.negotiation import negotiate
from mabeam.core.functions import function_call

SPEC_VALUE: Final = "SpecValue"
FUNCTION: Final = "Function"
# How much of a function's answer a status can carry.
MAX_VALUE_BYTES: Final = 256 * 1024


def parameter(inputs: StrategyInputs) -> StrategyResult:
    """The value of a Parameter."""
    spec = inputs.variable.spec
    if spec.function is not None:
        return called(inputs, spec.function, lambda answer: _of_domain(inputs, answer))
    if spec.negotiation is not None:
        return negotiate(spec.negotiation, spec.domain, inputs.gathered)
    value = domains.fit_or_none(spec.domain, spec.value)
    return StrategyResult(SPEC_VALUE, f"{domains.format_value(value)} from spec.value", value)


def called(inputs: StrategyInputs, function: Function, read: Callable[[Any], tuple[Any, str | None]]) -> StrategyResult:
    """What the variable's function gives, once `read` finds it sound: the value, or what is wrong with it."""
    ask, answer = result_of_call(inputs, function_call(function, function_inputs(inputs, inputs.before.value)))
    if answer is None:
        return StrategyResult(FUNCTION, "the function is being asked", function_calls=(ask,))
    if answer.error is not None:
        return failed_call(answer, "the function", ask)
    value, wrong = read(answer.value)
    if wrong is None and len(json.dumps(value)) > MAX_VALUE_BYTES:
        wrong = f"gave more than {MAX_VALUE_BYTES // 1024} KiB"
    if wrong is not None:
        return StrategyResult(
            Reason.FUNCTION_FAILED, f"the function {wrong}", error=Reason.FUNCTION_FAILED, asked=ask.id
        )
    return StrategyResult(FUNCTION, f"{domains.format_value(value)} from the function", value, asked=ask.id)


def _of_domain(inputs: StrategyInputs, answer: Any) -> tuple[Any, str | None]:
    value = domains.fit_or_none(inputs.variable.spec.domain, answer)
    shown = json.dumps(answer)[:80]
    return value, None if value is not None else f"gave {shown}, which is no value of the domain"
