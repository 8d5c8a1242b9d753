"""The strategy of AdaptationRate: a rate that follows a schedule and yields to load."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from mabeam.api.names import Reason
from mabeam.api.variable_blocks import LoadResponse, Schedule, ScheduleType
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.times import add_seconds
from mabeam.core.coordination.strategies.interface import FollowUp, StrategyInputs, StrategyResult, failure
from mabeam.core.coordination.strategies.parameter import parameter
from mabeam.core.values import ParameterValue, RateValue


@dataclass(frozen=True, slots=True)
class _BaseRate:
    """A rate before the load reduces it."""

    rate: float
    message: str
    next_step_seconds: float | None = None  # until the schedule changes the rate; None: it does not change any more


def rate(inputs: StrategyInputs) -> StrategyResult:
    """A `RateValue`: the schedule's rate, else the value decided as a Parameter's is, reduced while the system is loaded."""
    how = inputs.variable.spec.rate
    if how is None:
        return _as_rate(parameter(inputs))
    domain = inputs.variable.spec.domain
    wrong = domains.empty_reason(domain)
    if wrong is not None:
        return failure(Reason.INVALID_CONFIGURATION, wrong)
    if how.schedule is not None:
        base = _scheduled_rate(how.schedule, inputs.variable.metadata.creation_timestamp, inputs.now)
    else:
        decided = _as_rate(parameter(inputs))
        if not isinstance(decided.value, RateValue) or domains.to_decimal(decided.value.rate) is None:
            return decided
        base = _BaseRate(float(decided.value.rate), decided.message)
    share, reduction = _share_under_load(how.load, inputs.context.load)
    value = domains.fit(domain, Decimal(f"{base.rate * share:.12g}"))
    source = f" (load {inputs.context.load:.1f}, {inputs.context.load_source})" if reduction else ""
    return StrategyResult(
        "Schedule" if how.schedule else "LoadAware",
        f"{base.message}{reduction}{source}",
        RateValue(value),
        follow_up=FollowUp(after_seconds=base.next_step_seconds),
    )


def _as_rate(result: StrategyResult) -> StrategyResult:
    value = result.value
    return replace(result, value=RateValue(value.value)) if isinstance(value, ParameterValue) else result


def _scheduled_rate(schedule: Schedule, since: datetime | None, now: datetime) -> _BaseRate:
    """The schedule's rate at `now`; it starts at `since`, the creation of the variable."""
    end = schedule.start if schedule.end is None else schedule.end
    passed = max(0.0, (now - since).total_seconds()) if since is not None else 0.0
    step = min(int(passed / schedule.over_seconds * schedule.steps), schedule.steps)
    value = CURVES[schedule.type](schedule.start, end, step / schedule.steps)
    value = min(
        max(value, min(schedule.start, end)), max(schedule.start, end)
    )  # rounding of floats may leave the range
    last = schedule.type is ScheduleType.CONSTANT or step >= schedule.steps
    next_at = add_seconds(since, (step + 1) * schedule.over_seconds / schedule.steps) if since is not None else None
    wait = None if last or next_at is None else max(0.0, (next_at - now).total_seconds())
    return _BaseRate(value, f"{schedule.type} schedule, step {step} of {schedule.steps}", wait)


def _exponential(start: float, end: float, share: float) -> float:
    # Not start * (end / start) ** share: the quotient of two floats may overflow or underflow.
    return math.exp(math.log(start) * (1 - share) + math.log(end) * share)


# Each goes from `start` at share 0 to `end` at share 1. Cosine: Loshchilov and Hutter 2017, SGDR.
CURVES: Final[Mapping[ScheduleType, Callable[[float, float, float], float]]] = {
    ScheduleType.CONSTANT: lambda start, end, share: start,
    ScheduleType.LINEAR: lambda start, end, share: start + (end - start) * share,
    ScheduleType.EXPONENTIAL: _exponential,
    ScheduleType.COSINE: lambda start, end, share: end + (start - end) * (1 + math.cos(math.pi * share)) / 2,
}


def _share_under_load(response: LoadResponse | None, load: float | None) -> tuple[float, str]:
    """The share of the rate (0 to 1) that the load leaves, and a phrase for the message, empty for the whole rate.

    The load counts in tenths: a rate that followed every change would be delivered to the agents all the time.
    """
    if response is None or load is None:
        return 1.0, ""
    tenths = min(max(round(load, 1), 0.0), 1.0)
    if tenths <= response.target:
        return 1.0, ""
    over = (tenths - response.target) / (1 - response.target)
    share = 1 - over * (1 - response.floor)
    return share, f", times {share:.2g}"
