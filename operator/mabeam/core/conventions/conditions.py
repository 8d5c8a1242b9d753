"""Conditions: the transition-time rule, once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from mabeam.api.base import Condition, Conditions, ConditionStatus
from mabeam.api.names import ConditionType, Reason


# Agents and passes say the same over and over, word for word.
@lru_cache(maxsize=4096)
def condition(type_: ConditionType, holds: bool | None, reason: str, message: str = "") -> Condition:
    """A condition that is True, False or (None) Unknown, without its time: `merge_conditions` knows whether that changes."""
    status = ConditionStatus.UNKNOWN if holds is None else ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    return Condition(type=type_, status=status, reason=reason, message=message[:2048])


def merge_conditions(
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


def is_true(conditions: Conditions, type_: ConditionType) -> bool:
    """Whether that condition is True."""
    return any(c.type == type_ and c.status is ConditionStatus.TRUE for c in conditions)


@dataclass(frozen=True, slots=True)
class KStatus:
    """One line about the whole object; `stalled` is the only "failed" (kstatus). The reason may be the kubelet's own word."""

    ready: bool
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False
    accepted: bool = True


def kstatus_conditions(verdict: KStatus) -> tuple[Condition, ...]:
    """Accepted, Ready, Reconciling and Stalled, without their times."""
    quiet = Reason.PROGRESSING if verdict.reconciling else Reason.AS_DESIRED
    return (
        condition(
            ConditionType.ACCEPTED,
            verdict.accepted,
            Reason.VALID if verdict.accepted else verdict.reason,
            "" if verdict.accepted else verdict.message,
        ),
        condition(ConditionType.READY, verdict.ready, verdict.reason, verdict.message),
        condition(
            ConditionType.RECONCILING,
            verdict.reconciling,
            Reason.AS_DESIRED if verdict.ready else verdict.reason,
            verdict.message if verdict.reconciling else "",
        ),
        condition(
            ConditionType.STALLED,
            verdict.stalled,
            verdict.reason if verdict.stalled else quiet,
            verdict.message if verdict.stalled else "",
        ),
    )
