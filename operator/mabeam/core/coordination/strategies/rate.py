"""The strategy of AdaptationRate: a rate that follows a schedule and yields to load."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from mabeam.api.names import Reason
from mabeam.api.variable_blocks import LoadResponse, Schedule, ScheduleType
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.times import add_seconds
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult
from mabeam.core.coordination.strategies.parameter import parameter

# --- AdaptationRate ---------------------------------------------------------------------------------------------------------


def rate(inputs: StrategyInputs) -> StrategyResult:
    """The rate: its schedule (else the value, however that comes about), less where the system is loaded."""
    how = inputs.variable.spec.rate
    if how is None:
        return parameter(inputs)
    domain = inputs.variable.spec.domain
    wrong = domains.empty_reason(domain)
    if wrong is not None:
        return StrategyResult(Reason.INVALID_CONFIGURATION, wrong, error=Reason.INVALID_CONFIGURATION)
    if how.schedule is not None:
        base, again, told = _scheduled(how.schedule, inputs.variable.metadata.creation_timestamp, inputs.now)
    else:
        found = parameter(inputs)
        if found.value is None or domains.to_decimal(found.value) is None:
            return found
        base, again, told = float(found.value), found.again, found.message
    share, why = _yielded(how.load, inputs.context.load)
    value = domains.fit(domain, Decimal(f"{base * share:.12g}"))
    source = f" (load {inputs.context.load:.1f}, {inputs.context.load_source})" if why else ""
    return StrategyResult("Schedule" if how.schedule else "LoadAware", f"{told}{why}{source}", value, again=again)


def _scheduled(schedule: Schedule, since: datetime | None, now: datetime) -> tuple[float, float | None, str]:
    """The rate at this moment, in how many seconds its next step comes, and the words for it."""
    end = schedule.start if schedule.end is None else schedule.end
    passed = max(0.0, (now - since).total_seconds()) if since is not None else 0.0
    step = min(int(passed / schedule.over_seconds * schedule.steps), schedule.steps)
    value = CURVES[schedule.type](schedule.start, end, step / schedule.steps)
    value = min(
        max(value, min(schedule.start, end)), max(schedule.start, end)
    )  # whatever the arithmetic of floats loses
    last = schedule.type is ScheduleType.CONSTANT or step >= schedule.steps
    next_at = add_seconds(since, (step + 1) * schedule.over_seconds / schedule.steps) if since is not None else None
    again = None if last or next_at is None else max(0.0, (next_at - now).total_seconds())
    return value, again, f"{schedule.type} schedule, step {step} of {schedule.steps}"


def _exponential(start: float, end: float, share: float) -> float:
    return math.exp(math.log(start) * (1 - share) + math.log(end) * share)  # a quotient of the two may be none


# Loshchilov and Hutter 2017 for the cosine; each goes from `start` at 0 to `end` at 1.
CURVES: Final[Mapping[ScheduleType, Callable[[float, float, float], float]]] = {
    ScheduleType.CONSTANT: lambda start, end, share: start,
    ScheduleType.LINEAR: lambda start, end, share: start + (end - start) * share,
    ScheduleType.EXPONENTIAL: _exponential,
    ScheduleType.COSINE: lambda start, end, share: end + (start - end) * (1 + math.cos(math.pi * share)) / 2,
}


def _yielded(response: LoadResponse | None, load: float | None) -> tuple[float, str]:
    """The share of the rate that the load leaves, and in words why. In tenths of load: a rate that ticks is told all day."""
    if response is None or load is None:
        return 1.0, ""
    tenths = min(max(round(load, 1), 0.0), 1.0)
    if tenths <= response.target:
        return 1.0, ""
    over = (tenths - response.target) / (1 - response.target)
    share = 1 - over * (1 - response.floor)
    return share, f", times {share:.2g}"
