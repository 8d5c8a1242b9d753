"""Conditions as Kubernetes and kstatus define them: how they are made, and when their transition time moves."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from mabeam.api.base import MAX_CONDITIONS, Condition, Conditions, ConditionStatus
from mabeam.api.names import ConditionType, Reason

_OWN_TYPES: Final = frozenset(ConditionType)


# Most agents have the same few conditions at every pass.
@lru_cache(maxsize=4096)
def condition(type_: ConditionType, holds: bool | None, reason: str, message: str = "") -> Condition:
    """A condition that is True, False or (None) Unknown, without its times, which `merge_conditions` adds."""
    status = ConditionStatus.UNKNOWN if holds is None else ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    return Condition(type=type_, status=status, reason=reason, message=message[:2048])


def merge_conditions(
    previous: Iterable[Condition], wanted: Iterable[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The wanted conditions, with `lastTransitionTime` moved only where the status changed.

    Previous conditions of this operator's other types are dropped; those of types that it does not know, which a newer version or
    another controller wrote, stay while there is room. An unchanged condition is the very same object, so that equal statuses are
    found equal at once. Source: Kubernetes API conventions, "Typical status properties".
    """
    before = {c.type: c for c in previous}
    merged = []
    for c in wanted:
        old = before.get(c.type)
        same = old is not None and _content(old) == (c.status, c.reason, c.message, generation)
        if old is not None and same and old.last_transition_time:
            merged.append(old)
            continue
        since = old.last_transition_time if old is not None and old.status == c.status else None
        merged.append(c.model_copy(update={"last_transition_time": since or now, "observed_generation": generation}))
    foreign = [c for c in before.values() if c.type not in _OWN_TYPES and all(c.type != own.type for own in merged)]
    return (*merged, *foreign[: MAX_CONDITIONS - len(merged)])


def _content(c: Condition) -> tuple[object, ...]:
    return c.status, c.reason, c.message, c.observed_generation


def find_condition(conditions: Iterable[Condition], type_: ConditionType) -> Condition | None:
    """The condition of that type; None when it is missing."""
    return next((c for c in conditions if c.type == type_), None)


def new_problem(before: Iterable[Condition], after: Iterable[Condition], type_: ConditionType) -> Condition | None:
    """The condition of that type while it is False with another message than before; None otherwise."""
    was, now = find_condition(before, type_), find_condition(after, type_)
    if now is None or now.status is not ConditionStatus.FALSE or (was is not None and was.message == now.message):
        return None
    return now


def is_true(conditions: Conditions, type_: ConditionType) -> bool:
    """Whether the condition of that type is True; False when it is missing."""
    return any(c.type == type_ and c.status is ConditionStatus.TRUE for c in conditions)


@dataclass(frozen=True, slots=True)
class KStatus:
    """The state of a whole object, from which its standard conditions follow (sigs.k8s.io/cli-utils, kstatus)."""

    ready: bool
    reason: str  # a Reason, or the kubelet's own reason
    message: str
    reconciling: bool = False  # work in progress: it may become ready without its user
    stalled: bool = False  # failed: it needs its user; kstatus has no other failure
    accepted: bool = True  # the spec is valid
    note: str = ""  # of an accepted spec: what of it is not used


def kstatus_conditions(kstatus: KStatus) -> tuple[Condition, ...]:
    """The conditions Accepted, Ready, Reconciling and Stalled, without their times."""
    not_stalled = Reason.PROGRESSING if kstatus.reconciling else Reason.AS_DESIRED
    return (
        condition(
            ConditionType.ACCEPTED,
            kstatus.accepted,
            Reason.VALID if kstatus.accepted else kstatus.reason,
            kstatus.note if kstatus.accepted else kstatus.message,
        ),
        condition(ConditionType.READY, kstatus.ready, kstatus.reason, kstatus.message),
        condition(
            ConditionType.RECONCILING,
            kstatus.reconciling,
            Reason.AS_DESIRED if kstatus.ready else kstatus.reason,
            kstatus.message if kstatus.reconciling else "",
        ),
        condition(
            ConditionType.STALLED,
            kstatus.stalled,
            kstatus.reason if kstatus.stalled else not_stalled,
            kstatus.message if kstatus.stalled else "",
        ),
    )
