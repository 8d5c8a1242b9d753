"""What agents are told: one shape, in a variable's status, in an agent's status and in `directives.json`."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from mabeam.api.base import Count, JsonDict, JsonValue, LongText, NonNegative, ObjectName, ShortText, StatusModel, Time

# As many parameters as one directive carries, and how long their names may be: a conflict over one of them tells it.
MAX_PARAMETERS: Final = 64
MAX_PARAMETER_NAME: Final = 253


class DirectiveAction(StrEnum):
    """The eleven things a variable can tell an agent."""

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
    """How far a directive has come. Issued → Delivered → Acknowledged | Refused | Expired."""

    ISSUED = "Issued"
    DELIVERED = "Delivered"
    ACKNOWLEDGED = "Acknowledged"
    REFUSED = "Refused"
    EXPIRED = "Expired"


class AgentDirective(StatusModel):
    """One directive as the agent's own status carries it: who told it what, and how far that came."""

    variable: ObjectName
    action: DirectiveAction
    parameters: Annotated[dict[str, JsonValue], Field(max_length=MAX_PARAMETERS)] = {}
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] = 0
    timeout_seconds: NonNegative = 30
    generation: Annotated[int, Field(ge=0, le=2**53)] = 0
    issued_at: Time | None = None
    state: DirectiveState = DirectiveState.ISSUED
    reason: LongText | None = None
    dropped: Annotated[
        bool | None, Field(description="The agent failed after it came, so it is not in force (RestoreLastGood).")
    ] = None


class VariableDirective(StatusModel):
    """One directive as the variable's status carries it."""

    agent: ObjectName
    action: DirectiveAction
    parameters: Annotated[dict[str, JsonValue], Field(max_length=MAX_PARAMETERS)] = {}
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] = 0
    timeout_seconds: NonNegative = 30
    state: DirectiveState = DirectiveState.ISSUED
    reason: LongText | None = None


class Conflict(StatusModel):
    """Two variables told this agent different things: who won, who lost, by which rule."""

    parameter: ShortText
    action: Annotated[
        DirectiveAction | None,
        Field(description="Which of their directives, when it is not a parameter that they differ in."),
    ] = None
    winner: ObjectName
    loser: ObjectName
    resolver: ShortText
    value: Annotated[JsonValue, Field(description="What they come to together, where neither loses (Compromise).")] = (
        None
    )
    message: LongText = ""


class AgentDirectives(StatusModel):
    """The agent's effective set: its generation, how far the processes applied it, and who lost a conflict."""

    generation: Annotated[int, Field(ge=0, le=2**53)] = 0
    applied_generation: Annotated[int, Field(ge=0, le=2**53)] = 0
    items: Annotated[tuple[AgentDirective, ...], Field(max_length=64)] = ()
    conflicts: Annotated[tuple[Conflict, ...], Field(max_length=64)] = ()
    content_hash: Annotated[
        str | None, Field(max_length=64, description="Hash of what the generation tells the processes.")
    ] = None
    allotted: Annotated[
        dict[str, ShortText] | None,
        Field(
            max_length=32, description="The amounts that its pods last got; what they go back to when a resize fails."
        ),
    ] = None
    last_good: Annotated[
        dict[str, JsonValue] | None,
        Field(max_length=64, description="The parameters with which the agent was last healthy (RestoreLastGood)."),
    ] = None


class VariableDirectives(StatusModel):
    """Counts over all of a variable's directives, and the first hundred of them."""

    issued: Count = 0
    delivered: Count = 0
    acknowledged: Count = 0
    refused: Count = 0
    expired: Count = 0
    items: Annotated[tuple[VariableDirective, ...], Field(max_length=100)] = ()


def directives_document(agent: str, generation: int, content: JsonDict) -> JsonDict:
    """The content of `directives.json`: everything an agent's process is told (docs/agent-contract.md)."""
    return {"agent": agent, "generation": generation, **content}
