"""What to do: the status to write, then the effects in order, then the Events; nothing else leaves the core."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Generic, Literal, TypeVar

from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.supervisor import SupervisorStatus
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.functions import FunctionCall

Status = TypeVar("Status", AgentStatus, OrchestrationVariableStatus, SupervisorStatus)

Verb = Literal["create", "apply", "patch", "delete"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One write to the cluster; done in the order given, and the rest is left undone when one fails.

    `create` answered 409 by an object of the same owner is success. `apply` replaces a ConfigMap's data and is guarded
    by `resource_version`. `patch` is a JSON merge patch. `delete` is guarded by `uid`; `grace_seconds` goes with it. What
    `can_wait` is tidying: nobody misses it for some seconds.
    """

    verb: Verb
    kind: Literal["Pod", "ConfigMap", "NetworkPolicy"]
    namespace: str
    name: str
    reason: str
    body: JsonDict = field(default_factory=dict)
    uid: str | None = None
    resource_version: str | None = None
    grace_seconds: int | None = None
    can_wait: bool = False
    subresource: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One Event on the object the decision is about; sent only if the status write succeeded."""

    reason: Reason
    note: str
    type: Literal["Normal", "Warning"] = "Normal"
    action: str = "Reconcile"


@dataclass(frozen=True)
class Decision(Generic[Status]):
    """The outcome of one pass.

    `status` is the whole status as it should be; it is written only when it differs from what is stored, and
    `status_reason` says in a word why. `requeue_after` is in seconds, None when only an event can change anything.
    `asks` are the questions that have to be answered before the next pass can go on; each answer wakes the object.
    `beforehand` is written before the status: what would be lost for good if the process ended between the two, and does no harm
    without it.
    """

    status: Status
    status_reason: str
    effects: tuple[Effect, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    function_calls: tuple[FunctionCall, ...] = ()
    beforehand: tuple[Effect, ...] = ()
    expects_follow_up: bool = True  # whether the status write itself must trigger the next pass


# Until what could wait is looked at again, when nothing else calls sooner.
LATER_SECONDS: Final = 5.0


def pods_first(decision: "Decision[Status]") -> "Decision[Status]":
    """The decision; when it makes a pod, without what can wait, which a later pass decides on anew.

    For a pass that others wait behind: the first pass that makes none does what could wait.
    """
    kept = tuple(effect for effect in decision.effects if not effect.can_wait)
    if len(kept) == len(decision.effects) or not any(
        (effect.verb, effect.kind) == ("create", "Pod") for effect in kept
    ):
        return decision
    return replace(decision, effects=kept, requeue_after=soonest(decision.requeue_after, LATER_SECONDS))


AnyStatus = AgentStatus | OrchestrationVariableStatus | SupervisorStatus
AnyDecision = Decision[AgentStatus] | Decision[OrchestrationVariableStatus] | Decision[SupervisorStatus]


def soonest(*delays: float | None) -> float | None:
    """The shortest of the delays that are set, None when none is."""
    return min((delay for delay in delays if delay is not None), default=None)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An Event as it was told."""

    time: datetime
    type: str
    reason: str
    kind: str
    namespace: str
    name: str
    action: str
    note: str
