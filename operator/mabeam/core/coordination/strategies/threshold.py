"""The strategy of PerformanceThreshold: a metric beyond its bound for `forSeconds` leads to an action.

A metric that is back within its bound for as long leads to the action of `onRecovery`, if there is one.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.base import format_time
from mabeam.api.directive import DirectiveAction
from mabeam.api.variable_blocks import Threshold, ThresholdAction
from mabeam.api.variable_status import Candidate
from mabeam.core.conventions.times import parse_instant
from mabeam.core.coordination.strategies.interface import FollowUp, StrategyInputs, StrategyResult
from mabeam.core.decision import soonest
from mabeam.core.directives.replicas import absolute_replicas
from mabeam.core.values import DesiredDirective, ThresholdEntry, ThresholdValue, parse_threshold, parse_threshold_entry

RULE: Final = "Threshold"
BREACHED: Final = "Breached"
RECOVERED: Final = "Recovered"
# A breach that lasts repeats these, each time from the replicas that the last one led to; any other action is done once.
_REPEATED: Final = frozenset({DirectiveAction.SCALE_UP, DirectiveAction.SCALE_DOWN})


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is known of one agent's metric, before this pass or after it."""

    entry: ThresholdEntry | None = None  # its directive in force; None: it has none
    crossing_since: datetime | None = None  # since when the metric is on the other side of the bound than the entry
    recheck_seconds: float | None = None  # until time alone may change this; None: it cannot


def check_thresholds(inputs: StrategyInputs) -> StrategyResult:
    """A `ThresholdValue`: an entry for each agent with a directive. The memory is `{agent: since when its metric crosses}`."""
    threshold = inputs.variable.spec.threshold
    if threshold is None:  # a rule of the CRD requires one
        return StrategyResult(RULE, "no threshold", ThresholdValue({}))
    before = parse_threshold(inputs.before.value)
    stored = before.entries if before is not None else {}
    watched, candidates = {}, []
    for agent in inputs.agents:
        name = agent.metadata.name
        metric = inputs.metric(name, threshold.metric)
        known = _known(inputs, name, stored.get(name))
        found = known if metric is None else _check_agent(inputs, threshold, agent, metric=metric, known=known)
        watched[name] = found
        candidates.append(_candidate(name, threshold, metric, found.entry))
    breached = [name for name, one in watched.items() if one.entry is not None and one.entry.state == BREACHED]
    message = (
        f"{threshold.metric} beyond its bound: {', '.join(breached[:5])}"
        if breached
        else f"{threshold.metric} within bounds"
    )
    return StrategyResult(
        RULE,
        message,
        ThresholdValue({name: one.entry for name, one in watched.items() if one.entry is not None}),
        candidates=tuple(candidates),
        follow_up=FollowUp(
            memory={n: format_time(one.crossing_since) for n, one in watched.items() if one.crossing_since is not None},
            after_seconds=soonest(*(one.recheck_seconds for one in watched.values())),
        ),
    )


def _known(inputs: StrategyInputs, name: str, entry: ThresholdEntry | None) -> _Watched:
    """What the status holds of the agent; an entry in an unknown state was not written by this strategy, and is dropped."""
    written_here = entry is not None and entry.state in (BREACHED, RECOVERED)
    return _Watched(entry if written_here else None, parse_instant((inputs.before.watching or {}).get(name)))


def _check_agent(
    inputs: StrategyInputs, threshold: Threshold, agent: Agent, *, metric: float, known: _Watched
) -> _Watched:
    """The agent's entry after this sample of its metric."""
    entry, now = known.entry, inputs.now
    was_breached = entry is not None and entry.state == BREACHED
    is_breached = _is_beyond(threshold, metric)
    if entry is not None and was_breached and is_breached:
        return _repeat(inputs, threshold, agent, entry)
    if was_breached == is_breached:
        return _Watched(entry)
    # Never later than now: after a clock is set back no agent must wait longer than `forSeconds`.
    since = min(known.crossing_since or now, now)
    # A status stores whole seconds: the crossing began up to a second after the stored time.
    lasting = threshold.for_seconds - (now - since).total_seconds()
    cooling = _cooldown_left(threshold, entry, now)
    if lasting > 0 or cooling > 0:
        return _Watched(entry, since, max(lasting, cooling))
    action = threshold.on_breach if is_breached else threshold.on_recovery
    # With a vote, the crossing has to be stored until the vote is won: the proposal is about this very crossing.
    crossing = None if inputs.variable.spec.consensus is None else since
    if action is None:
        return _Watched(None, crossing)
    fresh = _entry(inputs, action, agent, BREACHED if is_breached else RECOVERED)
    return _Watched(_as_proposed(inputs, agent.metadata.name, since, fresh), crossing)


def _as_proposed(inputs: StrategyInputs, name: str, since: datetime, entry: ThresholdEntry) -> ThresholdEntry:
    """The entry as it was already proposed for this crossing, if it was: a rejected one must not differ by its time alone."""
    vote = inputs.before.consensus
    values = vote.proposed if vote is not None else None
    proposed = parse_threshold_entry(values.get(name)) if isinstance(values, dict) else None
    if proposed is None or proposed.since is None or proposed.since < since.replace(microsecond=0):
        return entry
    return proposed if replace(entry, since=proposed.since) == proposed else entry


def _repeat(inputs: StrategyInputs, threshold: Threshold, agent: Agent, entry: ThresholdEntry) -> _Watched:
    """While a breach lasts: the next step of scaling after each cooldown, until the action's bound is reached."""
    action = threshold.on_breach
    if action.action not in _REPEATED or "replicas" in action.parameters:
        return _Watched(entry)
    cooling = _cooldown_left(threshold, entry, inputs.now)
    if cooling > 0:
        return _Watched(entry, recheck_seconds=cooling)
    fresh = _entry(inputs, action, agent, BREACHED)
    if fresh.directive.parameters == entry.directive.parameters:
        return _Watched(entry)
    return _Watched(fresh, recheck_seconds=float(threshold.cooldown_seconds))


def _entry(inputs: StrategyInputs, action: ThresholdAction, agent: Agent, state: str) -> ThresholdEntry:
    parameters = absolute_replicas(action.action, dict(action.parameters), agent.wanted_replicas)
    return ThresholdEntry(state, DesiredDirective(action.action, parameters), inputs.now.replace(microsecond=0))


def _cooldown_left(threshold: Threshold, entry: ThresholdEntry | None, now: datetime) -> float:
    """Seconds until the agent may have another directive; 0 or less: it may now."""
    last = entry.since if entry is not None else None
    passed = (now - last).total_seconds() if last is not None else math.inf
    if passed < -threshold.cooldown_seconds:
        return 0.0  # a clock was set back: it must not delay an action by more than twice the cooldown
    return min(threshold.cooldown_seconds - passed, float(threshold.cooldown_seconds))


def _is_beyond(threshold: Threshold, metric: float) -> bool:
    low, high = threshold.below, threshold.above
    return (low is not None and metric < low) or (high is not None and metric > high)


def _candidate(name: str, threshold: Threshold, metric: float | None, entry: ThresholdEntry | None) -> Candidate:
    state = entry.state if entry is not None else ""
    reason = (
        f"does not report {threshold.metric}"
        if metric is None
        else f"{metric:g}{' is beyond the bound' if _is_beyond(threshold, metric) else ''}{f'; {state}' if state else ''}"
    )
    return Candidate(name=name, score=metric, chosen=state == BREACHED, reason=reason[:256])
