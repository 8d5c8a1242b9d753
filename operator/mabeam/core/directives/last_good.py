"""RestoreLastGood: after a failure, the directives that came since the agent was last healthy are dropped.

An agent is healthy when it has run for `backoff.resetAfterSeconds`; its parameters then are stored as `lastGood`. A directive
whose parameters differ from those when the agent fails is dropped, until its variable desires another or the agent is released;
the last good value of the same parameter, if there is one, is in force instead. Rules: docs/coordination.md.
"""

from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Final

from mabeam.api.agent import AgentSpec, RecoveryStrategy
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveReason, DirectiveState
from mabeam.core.conventions.times import add_seconds
from mabeam.core.directives.effective import PARAMETRIC, EffectiveSet, SetAside
from mabeam.core.snapshot import AgentSnapshot, PodFacts

DROPPED: Final = SetAside(
    DirectiveReason.DROPPED,
    "dropped: the agent failed after it came, and goes on with its last good directives (RestoreLastGood)",
)
_IN_FORCE: Final = frozenset({DirectiveState.DELIVERED, DirectiveState.ACKNOWLEDGED})


class HealthChange(Enum):
    """What one pass found of the agent's health; RestoreLastGood reacts to it."""

    NONE = "none"
    FAILED = "failed"  # a counted failure
    RELEASED = "released"  # the agent starts anew, and nothing stays dropped


def restore_last_good(
    spec: AgentSpec, wanted: EffectiveSet, before: AgentDirectives, *, change: HealthChange
) -> EffectiveSet:
    """The set without the directives that may have caused a failure, with the last good values of their parameters instead."""
    good = before.last_good or {}
    items = tuple(_marked(spec, item, good, change=change) for item in wanted.items)
    dropped = [index for index, item in enumerate(items) if item.dropped and not wanted.is_overruled(index)]
    blamed = {parameter for index in dropped for parameter in items[index].parameters}
    kept = {parameter: value for parameter, value in wanted.parameters.items() if parameter not in blamed}
    return replace(
        wanted,
        items=items,
        set_aside={**wanted.set_aside, **dict.fromkeys(dropped, DROPPED)},
        parameters=kept | {parameter: good[parameter] for parameter in sorted(blamed) if parameter in good},
    )


def _marked(spec: AgentSpec, item: AgentDirective, good: JsonDict, *, change: HealthChange) -> AgentDirective:
    """The directive, `dropped` or not."""
    asked = spec.fault_tolerance.recovery_strategy is RecoveryStrategy.RESTORE_LAST_GOOD
    blamed = change is HealthChange.FAILED or (item.dropped and change is not HealthChange.RELEASED)
    dropped = asked and blamed and item.action in PARAMETRIC and not _was_good(item, good)
    return item.model_copy(update={"dropped": True if dropped else None})


def _was_good(item: AgentDirective, good: JsonDict) -> bool:
    return all(parameter in good and good[parameter] == value for parameter, value in item.parameters.items())


def parameters_in_force(directives: AgentDirectives) -> JsonDict:
    """The parameters that a stored status puts in force: parameter → value."""
    conflicts = [conflict for conflict in directives.conflicts if conflict.action is None]
    lost = {(conflict.loser, conflict.parameter) for conflict in conflicts}
    good = directives.last_good or {}
    own = {
        parameter: good[parameter] if item.dropped else value
        for item in directives.items
        if item.action in PARAMETRIC
        for parameter, value in item.parameters.items()
        if (item.variable, parameter) not in lost and (not item.dropped or parameter in good)
    }
    together = {c.parameter: c.value for c in conflicts if c.value is not None and c.parameter in own}
    # An unresolved conflict of a variable with itself carries the value that stayed (conflicts.py).
    unresolved = {c.parameter: c.value for c in conflicts if c.value is not None and c.winner == c.loser}
    return own | together | unresolved


def healthy_at(
    snapshot: AgentSnapshot, directives: AgentDirectives, parameters: JsonDict, *, ready_pods: tuple[PodFacts, ...]
) -> datetime | None:
    """When the agent will have been healthy with these parameters for long enough to store them as the last good ones.

    None without RestoreLastGood, while a replica is not ready or a directive not in force, and when they are stored already.
    """
    spec = snapshot.agent.spec
    if spec.fault_tolerance.recovery_strategy is not RecoveryStrategy.RESTORE_LAST_GOOD:
        return None
    if directives.last_good == parameters or len(ready_pods) < max(1, spec.replicas):
        return None
    held = [item for item in directives.items if not item.dropped and item.state is not DirectiveState.REFUSED]
    if any(item.state not in _IN_FORCE for item in held):
        return None
    since = [pod.main.started_at for pod in ready_pods] + [item.issued_at for item in held]
    last = max((moment for moment in since if moment is not None), default=None)
    return add_seconds(last, spec.fault_tolerance.backoff.reset_after_seconds) if last is not None else None
