"""PerformanceThreshold: a metric beyond its bound for long enough → an action; back again for as long → another, or none."""

import math
from datetime import UTC, datetime
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict, format_time
from mabeam.api.directive import DirectiveAction
from mabeam.api.variable_blocks import Threshold, ThresholdAction
from mabeam.api.variable_status import Candidate
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult
from mabeam.core.decision import soonest
from mabeam.core.directives.desired import parse_directive
from mabeam.core.directives.replicas import absolute_replicas

RULE: Final = "Threshold"
# Those that a lasting breach repeats, each time from where the last one led; any other action is done once.
_REPEATED: Final = frozenset({DirectiveAction.SCALE_UP, DirectiveAction.SCALE_DOWN})


def watch(inputs: StrategyInputs) -> StrategyResult:
    """`{agent: {state, action, parameters, since}}` of those that are told something; `memory`: since when others cross."""
    threshold = inputs.variable.spec.threshold
    if threshold is None:  # a rule of the CRD says that there is one
        return StrategyResult(RULE, "no threshold", {})
    told: JsonDict = dict(inputs.before.value) if isinstance(inputs.before.value, dict) else {}
    crossing = dict(inputs.before.watching or {})
    names = {agent.metadata.name for agent in inputs.agents}
    told = {name: entry for name, entry in told.items() if name in names and _is_entry(entry)}
    crossing = {name: since for name, since in crossing.items() if name in names}
    again: float | None = None
    candidates = []
    for agent in inputs.agents:
        name = agent.metadata.name
        metric = inputs.metric(name, threshold.metric)
        if metric is not None:
            wait = _judge(inputs, threshold, agent, metric, told, crossing)
            again = soonest(again, wait)
        state = told.get(name, {}).get("state", "")
        candidates.append(
            Candidate(name=name, score=metric, chosen=state == "Breached", reason=_why(metric, threshold, state)[:256])
        )
    breached = sorted(name for name, entry in told.items() if entry.get("state") == "Breached")
    message = (
        f"{threshold.metric} beyond its bound: {', '.join(breached[:5])}"
        if breached
        else f"{threshold.metric} within bounds"
    )
    return StrategyResult(RULE, message, told, candidates=tuple(candidates), memory=crossing, again=again)


def _judge(
    inputs: StrategyInputs, threshold: Threshold, agent: Agent, metric: float, told: JsonDict, crossing: JsonDict
) -> float | None:
    """Bring one agent's entries up to date; in how many seconds time alone may change them."""
    name = agent.metadata.name
    entry = told.get(name)
    was = isinstance(entry, dict) and entry.get("state") == "Breached"
    is_ = _beyond(threshold, metric)
    if was == is_:
        crossing.pop(name, None)
        return _repeat(inputs, threshold, agent, told) if was else None
    # Never later than now: a clock that was set back must not make anybody wait longer than it says.
    since = min(_moment(crossing.get(name)) or inputs.now, inputs.now)
    crossing[name] = format_time(since)
    # A status tells whole seconds: the crossing began up to a second after what it says.
    lasting = threshold.for_seconds - (inputs.now - since).total_seconds()
    cooling = _cooling(inputs, threshold, entry)
    if lasting > 0 or cooling > 0:
        return max(lasting, cooling)
    if inputs.variable.spec.consensus is None:
        del crossing[name]  # with a vote it has to be known until that is won: it is the same crossing that is proposed
    action = threshold.on_breach if is_ else threshold.on_recovery
    if action is None:
        del told[name]
    else:
        told[name] = _as_proposed(
            inputs, name, since, _entry(inputs, action, agent, "Breached" if is_ else "Recovered")
        )
    return None


def _as_proposed(inputs: StrategyInputs, name: str, since: datetime, entry: JsonDict) -> JsonDict:
    """The entry as it was proposed for this very crossing already: one that was rejected must not differ by its time alone."""
    vote = inputs.before.consensus
    proposed = vote.proposed.get(name) if vote is not None and isinstance(vote.proposed, dict) else None
    moment = _moment(proposed.get("since")) if isinstance(proposed, dict) else None
    if not isinstance(proposed, dict) or moment is None or moment < since.replace(microsecond=0):
        return entry
    return proposed if {**entry, "since": proposed["since"]} == proposed else entry


def _repeat(inputs: StrategyInputs, threshold: Threshold, agent: Agent, told: JsonDict) -> float | None:
    """While a breach lasts, scale on after each cooldown; nothing more once the bound of it is reached."""
    entry = told[agent.metadata.name]
    action = threshold.on_breach
    if action.action not in _REPEATED or "replicas" in action.parameters:
        return None
    cooling = _cooling(inputs, threshold, entry)
    if cooling > 0:
        return cooling
    fresh = _entry(inputs, action, agent, "Breached")
    if fresh["parameters"] != entry.get("parameters"):
        told[agent.metadata.name] = fresh
        return float(threshold.cooldown_seconds)
    return None


def _entry(inputs: StrategyInputs, action: ThresholdAction, agent: Agent, state: str) -> JsonDict:
    return {
        "state": state,
        "action": str(action.action),
        "parameters": absolute_replicas(action.action, dict(action.parameters), agent.wanted_replicas),
        "since": format_time(inputs.now),
    }


def _cooling(inputs: StrategyInputs, threshold: Threshold, entry: Any) -> float:
    """For how many seconds yet nothing more may be told."""
    last = _moment(entry.get("since")) if isinstance(entry, dict) else None
    passed = (inputs.now - last).total_seconds() if last is not None else math.inf
    if (
        passed < -threshold.cooldown_seconds
    ):  # the clock was set back: it must not hold an action for longer than twice that
        return 0.0
    return min(threshold.cooldown_seconds - passed, float(threshold.cooldown_seconds))


def _beyond(threshold: Threshold, metric: float) -> bool:
    low, high = threshold.below, threshold.above
    return (low is not None and metric < low) or (high is not None and metric > high)


def _is_entry(entry: Any) -> bool:
    """Whether it is an entry as it is config_map_effect here; anything else somebody else wrote, and it counts for nothing."""
    return bool(isinstance(entry, dict) and entry.get("state") in ("Breached", "Recovered") and parse_directive(entry))


def _moment(text: Any) -> datetime | None:
    """The moment that is config_map_effect there; None when none is."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _why(metric: float | None, threshold: Threshold, state: str) -> str:
    if metric is None:
        return f"does not report {threshold.metric}"
    return f"{metric:g}{' is beyond the bound' if _beyond(threshold, metric) else ''}{f'; {state}' if state else ''}"
