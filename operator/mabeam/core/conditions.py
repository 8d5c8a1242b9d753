"""Conditions: the transition-time rule, once."""

from collections.abc import Iterable
from datetime import datetime

from mabeam.api.base import Condition, ConditionStatus
from mabeam.api.names import ConditionType


def condition(type_: ConditionType, holds: bool | None, reason: str, message: str = "") -> Condition:
    """A condition that is True, False or (None) Unknown, without its time: `settle` knows whether that changes."""
    status = ConditionStatus.UNKNOWN if holds is None else ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    return Condition(type=type_, status=status, reason=reason, message=message[:2048])


def settle(
    previous: Iterable[Condition], wanted: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The wanted conditions with `lastTransitionTime` moved only where the status changed (api-conventions).

    Conditions of other types are left out: the operator is the only writer of its status.
    """
    before = {c.type: c for c in previous}
    settled = []
    for c in wanted:
        old = before.get(c.type)
        since = old.last_transition_time if old is not None and old.status == c.status else None
        settled.append(c.model_copy(update={"last_transition_time": since or now, "observed_generation": generation}))
    return tuple(settled)
