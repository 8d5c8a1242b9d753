"""The strategy of Parameter: the value from the variable's function, else by negotiation, else `spec.value`."""

import json
from collections.abc import Callable
from typing import Any, Final

from mabeam.api.names import Reason
from mabeam.api.variable_blocks import Function
from mabeam.core.algorithms import domain as domains
from mabeam.core.coordination.strategies.interface import (
    FollowUp,
    StrategyInputs,
    StrategyResult,
    failed_call,
    failure,
    function_inputs,
    result_of_call,
)
from mabeam.core.coordination.strategies.negotiation import negotiate
from mabeam.core.functions import function_call
from mabeam.core.values import ParameterValue, Value

SPEC_VALUE: Final = "SpecValue"
FUNCTION: Final = "Function"
# The largest function result that a status can carry, in bytes of JSON.
MAX_VALUE_BYTES: Final = 256 * 1024

ResultParser = Callable[[Any], Value | str]
"""A function's JSON result → the value, or what is wrong with it, as a phrase that follows "the function"."""


def parameter(inputs: StrategyInputs) -> StrategyResult:
    """A `ParameterValue` of the domain."""
    spec = inputs.variable.spec
    if spec.function is not None:
        return call_function(inputs, spec.function, lambda result: in_domain(inputs, result))
    if spec.negotiation is not None:
        return negotiate(spec.negotiation, spec.domain, inputs.gathered)
    value = domains.fit_or_none(spec.domain, spec.value)
    return StrategyResult(
        SPEC_VALUE,
        f"{domains.format_value(value)} from spec.value",
        None if value is None else ParameterValue(value),
    )


def call_function(inputs: StrategyInputs, function: Function, parse: ResultParser) -> StrategyResult:
    """The value that `parse` makes of the function's result; a request for the call until that is known."""
    call, result = result_of_call(inputs, function_call(function, function_inputs(inputs, inputs.before.value)))
    if result is None:
        return StrategyResult(FUNCTION, "the function is being called", follow_up=FollowUp(function_calls=(call,)))
    if result.error is not None:
        return failed_call(result, "the function", call)
    value = parse(result.value)
    if not isinstance(value, str) and len(json.dumps(value.to_json())) > MAX_VALUE_BYTES:
        value = f"gave more than {MAX_VALUE_BYTES // 1024} KiB"
    if isinstance(value, str):
        return failure(Reason.FUNCTION_FAILED, f"the function {value}", used_call=call.id)
    message = f"{domains.format_value(value.to_json())} from the function"
    return StrategyResult(FUNCTION, message, value, follow_up=FollowUp(used_call=call.id))


def in_domain(inputs: StrategyInputs, result: Any) -> ParameterValue | str:
    """The result fitted to the domain, or what is wrong with it."""
    value = domains.fit_or_none(inputs.variable.spec.domain, result)
    shown = json.dumps(result)[:80]
    return f"gave {shown}, which is not a value of the domain" if value is None else ParameterValue(value)
