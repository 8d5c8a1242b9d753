"""The status of an Agent: what was decided and seen; one writer, one write a pass, only on change."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mabeam.api.base import Conditions, Count, JsonDict, LongText, ObjectName, ShortText, StatusModel, Time, list_map
from mabeam.api.directive import AgentDirectives
from mabeam.api.supervision import Supervision


class DesiredState(StrEnum):
    """What the user wants of the agent."""

    RUNNING = "Running"
    STOPPED = "Stopped"


class AgentState(StrEnum):
    """What the agent is, in one word."""

    REGISTERED = "Registered"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    MIGRATING = "Migrating"


class FailureCause(StrEnum):
    """Why a pod ended, as the ledger tells it."""

    NORMAL_EXIT = "NormalExit"
    CRASH = "Crash"
    OOM = "OOM"
    HANG = "Hang"
    IMAGE_ERROR = "ImageError"
    CONFIG_ERROR = "ConfigError"
    DELETED_BY_OTHER = "DeletedByOther"
    REPORTED = "Reported"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"


class PodRecord(StatusModel):
    """One ordinal's incarnation: the number is the intent, the rest what was seen of it."""

    ordinal: Annotated[int, Field(ge=0, le=1000)]
    name: ObjectName
    incarnation: Annotated[int, Field(ge=0, le=2**31 - 1)]
    state: AgentState = AgentState.STARTING
    node: Annotated[str | None, Field(max_length=253)] = None
    start_time: Time | None = None
    spec_hash: Annotated[str | None, Field(max_length=64)] = None
    next_restart_time: Time | None = None
    migration: Annotated[
        int | None,
        Field(ge=0, le=2**31 - 1, description="The last of the agent's migrations that this replica took part in."),
    ] = None
    migrating_from: Annotated[
        str | None, Field(max_length=253, description="The node it is moving away from, until it runs on another.")
    ] = None
    terminating: Annotated[
        bool | None, Field(description="Its pod may still run, though its end is known already.")
    ] = None
    reason: ShortText | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the record wants a pod of its incarnation to run: Starting or Running."""
        return self.state in (AgentState.STARTING, AgentState.RUNNING)


class Failure(StatusModel):
    """One line of the ledger: what ended, when, why, where, and whether it spent budget."""

    time: Time
    ordinal: Annotated[int, Field(ge=0, le=1000)] = 0
    cause: FailureCause
    exit_code: Annotated[int | None, Field(ge=-(2**31), le=2**31 - 1)] = None
    reason: ShortText | None = None
    message: LongText | None = None
    pod: ObjectName | None = None
    node: Annotated[str | None, Field(max_length=253)] = None
    counted: bool = True
    start_time: Time | None = None
    released: bool | None = None


class EffectiveAgent(StatusModel):
    """What the operator acts on: the spec, as changed by directives (the spec itself belongs to the user)."""

    replicas: Count = 1
    desired_state: DesiredState = DesiredState.RUNNING
    resources: Annotated[JsonDict, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = {}


# Room for every failure a window can hold (`maxFailures` + 1), so that the budget is always judged on all of them.
LEDGER_LENGTH = 256


class AgentStatus(StatusModel):
    """What was decided and seen, written once per pass and only when it changed."""

    observed_generation: Annotated[int, Field(ge=-1, le=2**53)] = -1
    state: AgentState | None = None
    conditions: Conditions = ()
    role: ShortText | None = None
    active: bool | None = None
    pods: Annotated[tuple[PodRecord, ...], Field(max_length=200, json_schema_extra=list_map("ordinal"))] = ()
    restarts: Count = 0
    disruptions: Count = 0
    replicas: Count = 0
    ready_replicas: Count = 0
    selector: Annotated[str | None, Field(max_length=256)] = None
    spec_hash: Annotated[
        str | None, Field(max_length=64, description="Hash of the spec but `replicas`: a change of it releases.")
    ] = None
    failures: Annotated[tuple[Failure, ...], Field(max_length=LEDGER_LENGTH)] = ()
    parked_at: Time | None = None
    probed_at: Annotated[
        Time | None,
        Field(description="When a parked agent was tried again: one failure within the window parks it again."),
    ] = None
    released_by: Annotated[str | None, Field(max_length=1024)] = None
    migrations: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="How often the agent was told to move to other nodes.")
    ] = None
    reconfigurations: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="How often directives had its pods replaced (Reconfigure).")
    ] = None
    migrated_by: Annotated[
        str | None,
        Field(max_length=1024, description="The last value of the annotation `mabeam.dev/migrate` that was used."),
    ] = None
    effective: EffectiveAgent | None = None
    directives: AgentDirectives | None = None
    supervision: Annotated[
        Supervision | None, Field(description="What its Supervisor last told it, and in which life it is.")
    ] = None
