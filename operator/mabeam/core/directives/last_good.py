"""RestoreLastGood: after a failure, the directives that came since the agent was last healthy are dropped.

Healthy is what it is for the backoff: to have run for `backoff.resetAfterSeconds`. What the parameters were then is kept, as
`lastGood`; a directive that differs from it when the agent fails is set aside, until its variable orders something else or the
agent is released. The good value of the same parameter, if there was one, is in force again.
"""

from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Final

from mabeam.api.agent import AgentSpec, RecoveryStrategy
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveState
from mabeam.core.conventions.times import add_seconds
from mabeam.core.directives.effective import PARAMETRIC, EffectiveSet
from mabeam.core.snapshot import AgentSnapshot, PodFacts

DROPPED: Final = "dropped: the agent failed after it came, and goes on with its last good directives (RestoreLastGood)"
_IN_FORCE: Final = frozenset({DirectiveState.DELIVERED, DirectiveState.ACKNOWLEDGED})


class HealthChange(Enum):
    """What a pass found of the agent: nothing, an abnormal end, or that it begins anew."""

    NONE = "none"
    FAILED = "failed"
    RELEASED = "released"


def restore_last_good(
    spec: AgentSpec, wanted: EffectiveSet, before: AgentDirectives, lapse: HealthChange
) -> EffectiveSet:
    """The set without the directives that are to blame, as far as anyone can know; what was good of their parameters instead."""
    good = before.last_good or {}
    items = tuple(_judged(spec, item, good, lapse) for item in wanted.items)
    blamed = {p for item in items if item.dropped and not wanted.lost(item) for p in item.parameters}
    blameless = {p: value for p, value in wanted.parameters.items() if p not in blamed}
    return replace(wanted, items=items, parameters=blameless | {p: good[p] for p in sorted(blamed) if p in good})


def _judged(spec: AgentSpec, item: AgentDirective, good: JsonDict, lapse: HealthChange) -> AgentDirective:
    asked = spec.fault_tolerance.recovery_strategy is RecoveryStrategy.RESTORE_LAST_GOOD
    blamed = lapse is HealthChange.FAILED or (item.dropped and lapse is not HealthChange.RELEASED)
    dropped = asked and blamed and item.action in PARAMETRIC and not _was_good(item, good)
    return item.model_copy(update={"dropped": True if dropped else None})


def _was_good(item: AgentDirective, good: JsonDict) -> bool:
    return all(parameter in good and good[parameter] == value for parameter, value in item.parameters.items())


def parameters_in_force(directives: AgentDirectives) -> JsonDict:
    """The parameters that a stored status stands for."""
    conflicts = [conflict for conflict in directives.conflicts if conflict.action is None]
    lost = {(conflict.loser, conflict.parameter) for conflict in conflicts}
    good = directives.last_good or {}
    held = {
        parameter: good[parameter] if item.dropped else value
        for item in directives.items
        if item.action in PARAMETRIC
        for parameter, value in item.parameters.items()
        if (item.variable, parameter) not in lost and (not item.dropped or parameter in good)
    }
    together = {c.parameter: c.value for c in conflicts if c.value is not None and c.parameter in held}
    unresolved = {c.parameter: c.value for c in conflicts if c.value is not None and c.winner == c.loser}
    return held | together | unresolved


def healthy_at(
    snapshot: AgentSnapshot, directives: AgentDirectives, parameters: JsonDict, ready_pods: tuple[PodFacts, ...]
) -> datetime | None:
    """When the agent will have been healthy with these parameters for long enough; None when that is not to be asked.

    It is not while a replica is not ready, or a directive not in force everywhere; nor when they are the good ones already.
    """
    spec = snapshot.agent.spec
    held = [item for item in directives.items if not item.dropped and item.state is not DirectiveState.REFUSED]
    if (
        spec.fault_tolerance.recovery_strategy is not RecoveryStrategy.RESTORE_LAST_GOOD
        or directives.last_good == parameters
    ):
        return None
    if len(ready_pods) < max(1, spec.replicas) or any(item.state not in _IN_FORCE for item in held):
        return None
    since = [pod.main.started_at for pod in ready_pods] + [item.issued_at for item in held]
    last = max((moment for moment in since if moment is not None), default=None)
    return add_seconds(last, spec.fault_tolerance.backoff.reset_after_seconds) if last is not None else None
