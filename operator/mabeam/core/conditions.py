"""Conditions: the transition-time rule, once."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from mabeam.api.base import Condition, ConditionStatus
from mabeam.api.names import ConditionType


# Agents and passes say the same over and over, word for word.
@lru_cache(maxsize=4096)
def condition(type_: ConditionType, holds: bool | None, reason: str, message: str = "") -> Condition:
    """A condition that is True, False or (None) Unknown, without its time: `settle` knows whether that changes."""
    status = ConditionStatus.UNKNOWN if holds is None else ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    return Condition(type=type_, status=status, reason=reason, message=message[:2048])


def settle(
    previous: Iterable[Condition], wanted: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The wanted conditions with `lastTransitionTime` moved only where the status changed (api-conventions).

    Conditions of other types are left out: the operator is the only writer of its status. One that says what it said is the
    very same object, so that statuses which did not change are found equal at once.
    """
    before = {c.type: c for c in previous}
    settled = []
    for c in wanted:
        old = before.get(c.type)
        if old is not None and _says(old) == (c.status, c.reason, c.message, generation) and old.last_transition_time:
            settled.append(old)
            continue
        since = old.last_transition_time if old is not None and old.status == c.status else None
        settled.append(c.model_copy(update={"last_transition_time": since or now, "observed_generation": generation}))
    return tuple(settled)


def _says(c: Condition) -> tuple[object, ...]:
    return c.status, c.reason, c.message, c.observed_generation
