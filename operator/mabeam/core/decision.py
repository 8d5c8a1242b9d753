"""Decisions: the status to write, then the effects in order, then the Events; nothing else leaves the core."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Generic, Literal, TypeVar

from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.supervisor import SupervisorStatus
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.functions import FunctionCall
from mabeam.core.snapshot import WriteRefused

Status = TypeVar("Status", AgentStatus, OrchestrationVariableStatus, SupervisorStatus)

Verb = Literal["create", "apply", "patch", "adopt", "delete"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One write to the cluster. After the status, effects are carried out in order; one that fails stops only its dependents.

    Those before the status are carried out until one fails.

    `create`: a 409 for an object of the same owner is success. `apply` replaces the data of a ConfigMap or the spec of a
    NetworkPolicy, guarded by `resource_version`. `patch` is a JSON merge patch. `adopt` adds an owner to an object without
    one, guarded by `uid`, if the owner still exists. `delete` is guarded by `uid`.
    """

    verb: Verb
    kind: Literal["Pod", "ConfigMap", "NetworkPolicy"]
    namespace: str
    name: str
    reason: str  # why, in a few words, for the log and `mabeam plan`
    body: JsonDict = field(default_factory=dict)
    uid: str | None = None  # of the object to delete
    resource_version: str | None = None  # that the object must still have
    grace_seconds: int | None = None  # only for `delete`; None: the pod's own
    can_wait: bool = False  # clean-up that may be done some seconds later
    subresource: str | None = None  # only for `patch`, such as resize
    needs_config_maps: bool = (
        False  # left out when a write of a ConfigMap in the same pass failed: it would announce it
    )

    @property
    def slot(self) -> str:
        """`kind name`: which object is written."""
        return f"{self.kind} {self.name}"

    @property
    def stores(self) -> bool:
        """Whether the write stores the whole of an object that is no pod; without it the pass is right all the same."""
        return self.kind != "Pod" and self.verb in ("create", "apply")


@dataclass(frozen=True, slots=True)
class Event:
    """One Event on the object that the pass decides about; sent only if the status write succeeded."""

    reason: Reason
    note: str
    type: Literal["Normal", "Warning"] = "Normal"
    action: str = "Reconcile"


@dataclass(frozen=True)
class Decision(Generic[Status]):
    """The outcome of one pass."""

    status: Status  # the whole next status; written only when it differs from the stored one
    status_reason: str  # why it is written, in one word
    effects: tuple[Effect, ...] = ()  # carried out after the status write
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None  # seconds until the next pass; None: only a change in the cluster can need one
    function_calls: tuple[FunctionCall, ...] = ()  # whose results the next pass needs; each result triggers a pass
    # Carried out before the status write: what could not be written again if the process ended between the two, and is
    # harmless without the status.
    effects_before_status: tuple[Effect, ...] = ()
    expects_follow_up: bool = True  # whether the status write itself must trigger the next pass


# Seconds until a pass does the clean-up that `pods_first` left out.
DEFERRED_SECONDS: Final = 5.0


def pods_first(decision: "Decision[Status]") -> "Decision[Status]":
    """The decision; if it creates a pod, without the effects that can wait, which a later pass decides again.

    For a busy queue: new pods of other agents should not wait for clean-up.
    """
    kept = tuple(effect for effect in decision.effects if not effect.can_wait)
    if len(kept) == len(decision.effects) or not any(
        (effect.verb, effect.kind) == ("create", "Pod") for effect in kept
    ):
        return decision
    return replace(decision, effects=kept, requeue_after=soonest(decision.requeue_after, DEFERRED_SECONDS))


def without_refused(decision: "Decision[Status]", refused: Mapping[str, WriteRefused]) -> "Decision[Status]":
    """The decision without the writes that were refused and are not due again, and what depends on them."""
    waiting = {slot for slot, one in refused.items() if not one.is_retry_due}
    every = (*decision.effects_before_status, *decision.effects)
    left_out = [effect for effect in every if effect.stores and effect.slot in waiting]
    if not left_out:
        return decision
    blocked = any(effect.kind == "ConfigMap" for effect in left_out)
    kept = [effect not in left_out and not (blocked and effect.needs_config_maps) for effect in decision.effects]
    return replace(
        decision,
        effects=tuple(effect for effect, keep in zip(decision.effects, kept, strict=True) if keep),
        effects_before_status=tuple(effect for effect in decision.effects_before_status if effect not in left_out),
        requeue_after=soonest(decision.requeue_after, *(refused[effect.slot].retry_in for effect in left_out)),
    )


AnyStatus = AgentStatus | OrchestrationVariableStatus | SupervisorStatus
AnyDecision = Decision[AgentStatus] | Decision[OrchestrationVariableStatus] | Decision[SupervisorStatus]


def soonest(*delays: float | None) -> float | None:
    """The shortest of the delays in seconds that are set, None when none is."""
    return min((delay for delay in delays if delay is not None), default=None)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An Event as it was recorded: what, on which object, and when."""

    time: datetime
    type: str
    reason: str
    kind: str
    namespace: str
    name: str
    action: str
    note: str
