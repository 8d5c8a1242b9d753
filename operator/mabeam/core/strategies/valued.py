"""Parameter, AdaptationRate, Custom: values that are said or found. Function, else rate, else negotiation, else `spec.value`."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.blocks import Function, LoadResponse, Schedule, ScheduleType
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import Reason
from mabeam.core import domain as domains
from mabeam.core.instructions import wrong_parameters
from mabeam.core.lifecycle import later
from mabeam.core.negotiation import negotiate
from mabeam.core.outcome import Outcome
from mabeam.core.questions import ask_of
from mabeam.core.strategies.round import Round, answer_to, failed, inputs
from mabeam.core.strategies.scaling import absolute

SPEC_VALUE: Final = "SpecValue"
FUNCTION: Final = "Function"
# How much of a function's answer a status can carry.
MAX_VALUE_BYTES: Final = 256 * 1024


def parameter(round_: Round) -> Outcome:
    """The value of a Parameter."""
    spec = round_.variable.spec
    if spec.function is not None:
        return called(round_, spec.function, lambda answer: _of_domain(round_, answer))
    if spec.negotiation is not None:
        return negotiate(spec.negotiation, spec.domain, round_.gathered)
    value = domains.adopt(spec.domain, spec.value)
    return Outcome(SPEC_VALUE, f"{domains.plain(value)} from spec.value", value)


def called(round_: Round, function: Function, read: Callable[[Any], tuple[Any, str | None]]) -> Outcome:
    """What the variable's function gives, once `read` finds it sound: the value, or what is wrong with it."""
    ask, answer = answer_to(round_, ask_of(function, inputs(round_, round_.before.value)))
    if answer is None:
        return Outcome(FUNCTION, "the function is being asked", asks=(ask,))
    if answer.error is not None:
        return failed(answer, "the function", ask)
    value, wrong = read(answer.value)
    if wrong is None and len(json.dumps(value)) > MAX_VALUE_BYTES:
        wrong = f"gave more than {MAX_VALUE_BYTES // 1024} KiB"
    if wrong is not None:
        return Outcome(Reason.FUNCTION_FAILED, f"the function {wrong}", error=Reason.FUNCTION_FAILED, asked=ask.id)
    return Outcome(FUNCTION, f"{domains.plain(value)} from the function", value, asked=ask.id)


def _of_domain(round_: Round, answer: Any) -> tuple[Any, str | None]:
    value = domains.adopt(round_.variable.spec.domain, answer)
    shown = json.dumps(answer)[:80]
    return value, None if value is not None else f"gave {shown}, which is no value of the domain"


# --- AdaptationRate ---------------------------------------------------------------------------------------------------------


def rate(round_: Round) -> Outcome:
    """The rate: its schedule (else the value, however that comes about), less where the system is loaded."""
    how = round_.variable.spec.rate
    if how is None:
        return parameter(round_)
    domain = round_.variable.spec.domain
    wrong = domains.problem(domain)
    if wrong is not None:
        return Outcome(Reason.INVALID_CONFIGURATION, wrong, error=Reason.INVALID_CONFIGURATION)
    if how.schedule is not None:
        base, again, told = _scheduled(how.schedule, round_.variable.metadata.creation_timestamp, round_.now)
    else:
        found = parameter(round_)
        if found.value is None or domains.number(found.value) is None:
            return found
        base, again, told = float(found.value), found.again, found.message
    share, why = _yielded(how.load, round_.context.load)
    value = domains.fit(domain, Decimal(f"{base * share:.12g}"))
    source = f" (load {round_.context.load:.1f}, {round_.context.load_source})" if why else ""
    return Outcome("Schedule" if how.schedule else "LoadAware", f"{told}{why}{source}", value, again=again)


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
    next_at = later(since, (step + 1) * schedule.over_seconds / schedule.steps) if since is not None else None
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


# --- Custom ---------------------------------------------------------------------------------------------------------------


def custom(round_: Round) -> Outcome:
    """What the function says: a value, or `{directives: [{agent, action, parameters}]}`."""
    function = round_.variable.spec.function
    if function is None:  # a rule of the CRD says that there is one
        text = "a variable of type Custom needs a function"
        return Outcome(Reason.INVALID_CONFIGURATION, text, error=Reason.INVALID_CONFIGURATION)
    return called(round_, function, lambda answer: _custom(round_, answer))


def _custom(round_: Round, answer: Any) -> tuple[Any, str | None]:
    if answer is None:
        return None, "gave null"
    if not isinstance(answer, dict) or "directives" not in answer:
        return _of_domain(round_, answer) if "domain" in round_.variable.spec.model_fields_set else (answer, None)
    if not isinstance(answer["directives"], list):
        return None, "gave `directives` that are no list"
    agents = {agent.metadata.name: agent for agent in round_.agents}
    told: dict[tuple[str, DirectiveAction], JsonDict] = {}
    for number, one in enumerate(answer["directives"]):
        wrong = _wrong_with(one, agents)
        if wrong is not None:
            return None, f"gave a directive (number {number}) {wrong}"
        action, key = DirectiveAction(one["action"]), (one["agent"], DirectiveAction(one["action"]))
        if key in told:
            return None, f"gave {one['agent']} the action {action} twice"
        # From what the user asks for, not from what is in effect: a function that says the same again must order the same.
        parameters = absolute(action, one.get("parameters") or {}, agents[one["agent"]].spec.replicas)
        told[key] = {"agent": one["agent"], "action": str(action), "parameters": parameters}
    return {"directives": [told[key] for key in sorted(told)]}, None


def _wrong_with(one: Any, agents: Mapping[str, object]) -> str | None:
    if not isinstance(one, dict):
        return "that is no object"
    if one.get("agent") not in list(agents):
        return f"for {one.get('agent')!r:.60}, which is none of its agents"
    if one.get("action") not in list(DirectiveAction):
        return f"whose action is {one.get('action')!r:.60}; allowed: {', '.join(DirectiveAction)}"
    parameters = one.get("parameters")
    if not isinstance(parameters, dict | None):
        return "whose parameters are no object"
    return wrong_parameters(parameters or {})
