"""Directives from variables to agents: their records in both statuses, conflicts between them, and `directives.json`."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema, model_validator

from mabeam.api.base import (
    MEMBERS_WITHOUT_NULLS,
    Count,
    JsonDict,
    JsonValue,
    LongText,
    NonNegative,
    ObjectName,
    ShortText,
    StatusModel,
    Time,
)

# Bounds of one directive: the number of parameters, and the characters of a name (a Conflict carries the name).
MAX_PARAMETERS: Final = 64
MAX_PARAMETER_NAME: Final = 253


class DirectiveAction(StrEnum):
    """The eleven actions that a variable can direct an agent to take."""

    START = "Start"
    STOP = "Stop"
    RECONFIGURE = "Reconfigure"
    MIGRATE = "Migrate"
    SCALE_UP = "ScaleUp"
    SCALE_DOWN = "ScaleDown"
    CHANGE_ROLE = "ChangeRole"
    UPDATE_COMMUNICATION = "UpdateCommunication"
    ADJUST_PARAMETERS = "AdjustParameters"
    ACTIVATE = "Activate"
    ALLOCATE_RESOURCES = "AllocateResources"


class DirectiveState(StrEnum):
    """The state of a directive: Issued → Delivered → Acknowledged | Refused | Expired."""

    ISSUED = "Issued"
    DELIVERED = "Delivered"
    ACKNOWLEDGED = "Acknowledged"
    REFUSED = "Refused"
    EXPIRED = "Expired"


class DirectiveReason(StrEnum):
    """Why a directive is Refused or Expired; the operator acts on this, `message` is for people."""

    OVERRULED = "Overruled"  # Another variable won the conflict; `overruledBy` names it.
    CONFLICT_UNRESOLVED = "ConflictUnresolved"  # The resolver, a plug-in, is absent or gave no usable answer.
    DROPPED = "Dropped"  # RestoreLastGood set it aside after a failure of the agent.
    CANNOT_BE_DONE = "CannotBeDone"  # The operator refuses it; it is issued anew when the obstacle is gone.
    REFUSED_BY_AGENT = "RefusedByAgent"  # A process of the agent refuses it (`mabeam_refused`).
    RESOURCE_EXHAUSTED = "ResourceExhausted"  # The apiserver or the kubelet does not resize the pods to the amounts.
    NOT_DELIVERED = "NotDelivered"  # Not in the pods' ConfigMap volume within the timeout.
    NOT_ACKNOWLEDGED = "NotAcknowledged"  # Delivered, and not acknowledged within the timeout.
    LIMIT_REACHED = "LimitReached"  # The agent follows as many variables of higher precedence as one agent can.


# No `enum` in the CRD: a status of the last release holds a sentence here, and its object must stay valid.
StoredReason = Annotated[
    DirectiveReason | None,
    WithJsonSchema({"type": "string", "maxLength": 1024}),
    Field(description=f"Why it is Refused or Expired: {', '.join(DirectiveReason)}."),
]
Parameters = Annotated[
    dict[str, JsonValue],
    Field(max_length=MAX_PARAMETERS),
    MEMBERS_WITHOUT_NULLS,
    Field(description="Parameters of the action; docs/coordination.md lists them."),
]
VariablePriority = Annotated[int, Field(ge=-(2**31), le=2**31 - 1), Field(description="Priority of the variable.")]
TimeoutSeconds = Annotated[NonNegative, Field(description="Seconds without confirmation until it is Expired.")]
StoredState = Annotated[
    DirectiveState,
    Field(description="State of the directive: Issued, Delivered, Acknowledged, Refused or Expired."),
]
OverruledBy = Annotated[ObjectName | None, Field(description="The variable that won the conflict (Overruled).")]


class AgentDirective(StatusModel):
    """One directive as the agent's status carries it: the variable that it comes from, and its state."""

    variable: Annotated[ObjectName, Field(description="Name of the variable.")]
    action: Annotated[DirectiveAction, Field(description="The action.")]
    parameters: Parameters = {}
    priority: VariablePriority = 0
    timeout_seconds: TimeoutSeconds = 30
    generation: Annotated[
        int, Field(ge=0, le=2**53), Field(description="The first generation of the set that has this directive.")
    ] = 0
    issued_at: Annotated[Time | None, Field(description="When it was issued; the timeout counts from here.")] = None
    state: StoredState = DirectiveState.ISSUED
    reason: StoredReason = None
    message: Annotated[LongText | None, Field(description="The reason as a sentence.")] = None
    overruled_by: OverruledBy = None
    dropped: Annotated[
        bool | None,
        Field(description="True: not in force, because the agent failed after it arrived (RestoreLastGood)."),
    ] = None


class VariableDirective(StatusModel):
    """One directive as the variable's status carries it: the agent that it is for, and its state there."""

    agent: Annotated[ObjectName, Field(description="Name of the agent.")]
    action: Annotated[DirectiveAction, Field(description="The action.")]
    parameters: Parameters = {}
    priority: VariablePriority = 0
    timeout_seconds: TimeoutSeconds = 30
    state: StoredState = DirectiveState.ISSUED
    reason: StoredReason = None
    message: Annotated[LongText | None, Field(description="The reason as a sentence.")] = None
    overruled_by: OverruledBy = None


class Conflict(StatusModel):
    """Two variables direct this agent differently: the winner, the loser, and the rule that decided."""

    parameter: Annotated[ShortText, Field(description="The parameter, or the thing, on which the variables differ.")]
    action: Annotated[
        DirectiveAction | None,
        Field(description="The action that they differ in; not set when it is a parameter."),
    ] = None
    winner: Annotated[ObjectName, Field(description="The variable that won.")]
    loser: Annotated[ObjectName, Field(description="The variable that lost.")]
    resolver: Annotated[ShortText, Field(description="The rule that decided: the agent's `conflictResolution`.")]
    value: Annotated[JsonValue, Field(description="The resulting value when neither variable loses (Compromise).")] = (
        None
    )
    message: Annotated[LongText, Field(description="The conflict as a sentence.")] = ""


class AgentDirectives(StatusModel):
    """The directives of one agent: their generation, the generation its processes applied, and the conflicts decided."""

    generation: Annotated[int, Field(ge=0, le=2**53), Field(description="Number of the current set of directives.")] = 0
    applied_generation: Annotated[
        int, Field(ge=0, le=2**53), Field(description="The generation that all ready pods report as applied.")
    ] = 0
    items: Annotated[
        tuple[AgentDirective, ...], Field(max_length=64), Field(description="The directives of the agent.")
    ] = ()
    conflicts: Annotated[
        tuple[Conflict, ...], Field(max_length=64), Field(description="Conflicts between variables over this agent.")
    ] = ()
    content_hash: Annotated[
        str | None, Field(max_length=64, description="Hash of the content of `directives.json` in this generation.")
    ] = None
    allotted: Annotated[
        dict[str, ShortText] | None,
        Field(
            max_length=32, description="The amounts its pods last had for certain; a failed resize goes back to them."
        ),
    ] = None
    last_good: Annotated[
        dict[str, JsonValue] | None,
        Field(max_length=64, description="The parameters with which the agent was last healthy (RestoreLastGood)."),
        MEMBERS_WITHOUT_NULLS,
    ] = None

    @classmethod
    def modernized(cls, json: JsonDict) -> JsonDict:
        """The JSON with one of DirectiveReason as each reason, where the last release stored a sentence."""
        found: JsonDict = _with_reasons(json)
        return found

    @model_validator(mode="before")
    @classmethod
    def _read_sentences(cls, status: Any) -> Any:
        return _with_reasons(status)


class VariableDirectives(StatusModel):
    """Counts over all of a variable's directives, and the first hundred of them."""

    issued: Annotated[Count, Field(description="Number of directives, in any state.")] = 0
    delivered: Annotated[
        Count, Field(description="Number of directives that have reached their agent, in any state.")
    ] = 0
    acknowledged: Annotated[
        Count, Field(description="Number of directives that are confirmed, of agents that run.")
    ] = 0
    agents_acknowledged: Annotated[
        Count, Field(description="Number of agents that confirmed all of their directives and run.")
    ] = 0
    refused: Annotated[Count, Field(description="Number of refused directives.")] = 0
    expired: Annotated[Count, Field(description="Number of directives that were not confirmed in time.")] = 0
    items: Annotated[
        tuple[VariableDirective, ...], Field(max_length=100), Field(description="The directives, the first hundred.")
    ] = ()

    @classmethod
    def modernized(cls, json: JsonDict) -> JsonDict:
        """The JSON with one of DirectiveReason as each reason, where the last release stored a sentence."""
        found: JsonDict = _with_reasons(json)
        return found

    @model_validator(mode="before")
    @classmethod
    def _read_sentences(cls, status: Any) -> Any:
        return _with_reasons(status)


# --- statuses of the last release -------------------------------------------------------------------------------------
#
# It stored one sentence as `reason`, no `message`, and distinguished the cases by the sentence. Only this section reads it.

_SENTENCES: Final = (
    (DirectiveState.EXPIRED, "not delivered in time", DirectiveReason.NOT_DELIVERED),
    (DirectiveState.EXPIRED, "not acknowledged in time", DirectiveReason.NOT_ACKNOWLEDGED),
    (DirectiveState.REFUSED, "dropped: ", DirectiveReason.DROPPED),
    (DirectiveState.REFUSED, "cannot be done: ", DirectiveReason.CANNOT_BE_DONE),
    (DirectiveState.REFUSED, "ResourceExhausted: ", DirectiveReason.RESOURCE_EXHAUSTED),
    (DirectiveState.REFUSED, "the agent obeys ", DirectiveReason.LIMIT_REACHED),
)
_UNRESOLVED: Final = "not resolved: "


def _with_reasons(status: Any) -> Any:
    """The directives of a stored status, each `reason` one of DirectiveReason; anything unreadable as it is."""
    if not isinstance(status, dict) or not isinstance(status.get("items"), list):
        return status
    conflicts = status.get("conflicts")
    lost = [c for c in conflicts if isinstance(c, dict)] if isinstance(conflicts, list) else []
    return {**status, "items": [_with_reason(item, lost) for item in status["items"]]}


def _with_reason(item: Any, conflicts: Iterable[JsonDict]) -> Any:
    sentence = item.get("reason") if isinstance(item, dict) else None
    if not isinstance(sentence, str):
        return item
    if "message" in item:
        return item
    conflict = next((c for c in conflicts if _lost_by(c, item, sentence)), None)
    if conflict is not None:
        if sentence.startswith(_UNRESOLVED):
            return {**item, "reason": DirectiveReason.CONFLICT_UNRESOLVED, "message": sentence}
        overruled = {"reason": DirectiveReason.OVERRULED, "overruledBy": conflict.get("winner")}
        return {**item, **overruled, "message": sentence}
    known = (reason for state, start, reason in _SENTENCES if item.get("state") == state and sentence.startswith(start))
    # A variable's status holds no conflicts; there the variable's next pass fills in the reason.
    by_agent = item.get("state") == DirectiveState.REFUSED and "variable" in item
    refused = DirectiveReason.REFUSED_BY_AGENT if by_agent else None
    return {**item, "reason": next(known, refused), "message": sentence.removeprefix("says: ")}


def _lost_by(conflict: JsonDict, item: JsonDict, sentence: str) -> bool:
    one_won = conflict.get("value") is None or conflict.get("loser") == conflict.get("winner")
    return one_won and conflict.get("loser") == item.get("variable") and conflict.get("message") == sentence


# --- the file ---------------------------------------------------------------------------------------------------------


def directives_document(agent: str, generation: int, content: JsonDict) -> JsonDict:
    """The content of `directives.json`, the file that directs an agent's processes (docs/agent-contract.md)."""
    return {"agent": agent, "generation": generation, **content}
