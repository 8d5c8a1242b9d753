"""The status of an Agent, written by the operator once per pass and only on change."""

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
    """The state of an agent."""

    REGISTERED = "Registered"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    MIGRATING = "Migrating"


class FailureCause(StrEnum):
    """Why a pod ended, as recorded in the ledger of failures."""

    NORMAL_EXIT = "NormalExit"
    CRASH = "Crash"
    OOM = "OOM"
    HANG = "Hang"
    IMAGE_ERROR = "ImageError"
    CONFIG_ERROR = "ConfigError"
    SIDECAR_FAILED = "SidecarFailed"
    STORAGE_EXCEEDED = "StorageExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    DELETED_BY_OTHER = "DeletedByOther"
    REPORTED = "Reported"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"


class PodRecord(StatusModel):
    """The current pod of one ordinal: `incarnation` is the intent, the other fields are observations."""

    ordinal: Annotated[int, Field(ge=0, le=1000), Field(description="Which replica, from 0.")]
    name: Annotated[ObjectName, Field(description="Name of the pod: `<agent>-<ordinal>-<incarnation>`.")]
    incarnation: Annotated[
        int,
        Field(ge=0, le=2**31 - 1),
        Field(description="Number of the pod of this ordinal that is to run; stored before the pod is created."),
    ]
    state: Annotated[AgentState, Field(description="State of this replica.")] = AgentState.STARTING
    node: Annotated[str | None, Field(max_length=253), Field(description="Node of the pod.")] = None
    start_time: Annotated[Time | None, Field(description="When the main container started.")] = None
    created: Annotated[
        bool | None,
        Field(
            description="True: the pod of a Transient or Temporary agent was seen before it ran; if it is gone, it has "
            "ended and is not created a second time."
        ),
    ] = None
    boot_id: Annotated[
        str | None,
        Field(max_length=253, description="The node's boot ID (`status.nodeInfo.bootID`) when the container started."),
    ] = None
    disruption: Annotated[
        ShortText | None,
        Field(description="Reason of the pod's condition DisruptionTarget, when that was seen before the pod's end."),
    ] = None
    spec_hash: Annotated[
        str | None, Field(max_length=64), Field(description="Hash of the pod spec that the pod was created from.")
    ] = None
    next_restart_time: Annotated[Time | None, Field(description="End of the delay (backoff) before the restart.")] = (
        None
    )
    migration: Annotated[
        int | None,
        Field(ge=0, le=2**31 - 1, description="Number of the last migration that this replica took part in."),
    ] = None
    migrating_from: Annotated[
        str | None,
        Field(max_length=253, description="The node from which the replica is moving, until it runs on another."),
    ] = None
    terminating: Annotated[
        bool | None, Field(description="True: the end of its pod is known, but its process may still run.")
    ] = None
    reason: Annotated[ShortText | None, Field(description="Why the replica is in this state.")] = None

    @property
    def is_alive(self) -> bool:
        """Whether the record wants a pod of its incarnation to run: Starting or Running."""
        return self.state in (AgentState.STARTING, AgentState.RUNNING)

    @property
    def is_at_rest(self) -> bool:
        """Whether the incarnation's end is decided: Stopped or Failed."""
        return self.state in (AgentState.STOPPED, AgentState.FAILED)


class Failure(StatusModel):
    """One entry of the ledger: which pod ended, when, why and where, and whether it counts against the budget."""

    time: Annotated[Time, Field(description="When the pod ended.")]
    ordinal: Annotated[int, Field(ge=0, le=1000), Field(description="Which replica.")] = 0
    cause: Annotated[FailureCause, Field(description="Why the pod ended.")]
    exit_code: Annotated[
        int | None,
        Field(ge=-(2**31), le=2**31 - 1),
        Field(description="Exit code of the container that ended; left out when there is none."),
    ] = None
    reason: Annotated[ShortText | None, Field(description="The kubelet's reason, for example Error or OOMKilled.")] = (
        None
    )
    message: Annotated[
        LongText | None,
        Field(description="Last line of the termination message, or the message of the kubelet or the API server."),
    ] = None
    pod: Annotated[ObjectName | None, Field(description="Name of the pod.")] = None
    container: Annotated[
        ShortText | None,
        Field(description="The init container or sidecar that ended or cannot start; left out for the main container."),
    ] = None
    node: Annotated[str | None, Field(max_length=253), Field(description="Node of the pod.")] = None
    counted: Annotated[bool, Field(description="Whether it counts against the failure budget; disruptions do not.")] = (
        True
    )
    start_time: Annotated[
        Time | None, Field(description="When the pod had started; the run time decides the next delay.")
    ] = None
    released: Annotated[bool | None, Field(description="True: an earlier release removed it from the budget.")] = None


class EffectiveAgent(StatusModel):
    """The part of the spec that directives can change, as changed; the spec itself belongs to the user."""

    replicas: Annotated[Count, Field(description="Number of replicas in force.")] = 1
    desired_state: Annotated[DesiredState, Field(description="Whether the agent is to run.")] = DesiredState.RUNNING
    resources: Annotated[
        JsonDict,
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(description="Resources of the main container in force."),
    ] = {}


# More ordinals than an Agent may have replicas: those that were scaled away and still stop. Forged pods may claim still more.
MAX_RECORDS = 200
# Room for every failure that a window can hold (`maxFailures` + 1), so that the budget is always judged on all of them.
LEDGER_LENGTH = 256


class AgentStatus(StatusModel):
    """Decisions about the agent, and observations of its pods."""

    observed_generation: Annotated[
        int,
        Field(ge=-1, le=2**53),
        Field(description="The `metadata.generation` that this status was computed from; -1: none yet."),
    ] = -1
    state: Annotated[AgentState | None, Field(description="State of the agent as a whole.")] = None
    conditions: Annotated[
        Conditions,
        Field(description="Accepted, Ready, Reconciling, Stalled and others; docs/architecture.md lists them."),
    ] = ()
    role: Annotated[
        ShortText | None, Field(description="Role in force: that of the spec or of a ChangeRole directive.")
    ] = None
    active: Annotated[
        bool | None,
        Field(
            description="Whether the agent is to work: it is neither stopped nor parked, and no variable has made it "
            "idle."
        ),
    ] = None
    pods: Annotated[
        tuple[PodRecord, ...],
        Field(max_length=MAX_RECORDS, json_schema_extra=list_map("ordinal")),
        Field(description="One record for each replica."),
    ] = ()
    restarts: Annotated[Count, Field(description="Counted restarts, in all.")] = 0
    disruptions: Annotated[
        Count, Field(description="Pods replaced after a disruption (eviction, preemption, drain, node loss), in all.")
    ] = 0
    replicas: Annotated[Count, Field(description="Number of replicas that run or are starting.")] = 0
    ready_replicas: Annotated[Count, Field(description="Number of ready pods.")] = 0
    selector: Annotated[
        str | None,
        Field(max_length=256),
        Field(description="Label selector of the agent's pods, for the scale subresource."),
    ] = None
    spec_hash: Annotated[
        str | None,
        Field(
            max_length=64, description="Hash of the spec without `replicas`: a change of it releases a parked agent."
        ),
    ] = None
    failures: Annotated[
        tuple[Failure, ...],
        Field(max_length=LEDGER_LENGTH),
        Field(description="The ledger of failures, in the order in which they became known."),
    ] = ()
    parked_at: Annotated[
        Time | None, Field(description="When the failure budget was exhausted and the agent was parked.")
    ] = None
    probed_at: Annotated[
        Time | None,
        Field(
            description="When a parked agent was started on trial (`probeAfterSeconds`): one failure within the "
            "window parks it again."
        ),
    ] = None
    released_by: Annotated[
        str | None,
        Field(max_length=1024),
        Field(description="The last value of the annotation `mabeam.dev/release` that was used."),
    ] = None
    migrations: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="Number of migrations so far, by annotation or directive.")
    ] = None
    reconfigurations: Annotated[
        int | None,
        Field(
            ge=0, le=2**31 - 1, description="Number of Reconfigure directives so far, each of which replaced the pods."
        ),
    ] = None
    migrated_by: Annotated[
        str | None,
        Field(max_length=1024, description="The last value of the annotation `mabeam.dev/migrate` that was used."),
    ] = None
    restarted_by: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="The last value of the annotation `mabeam.dev/restart` that was used: pods from before it are replaced.",
        ),
    ] = None
    effective: Annotated[EffectiveAgent | None, Field(description="The spec as changed by directives.")] = None
    directives: Annotated[
        AgentDirectives | None, Field(description="The directives in force and how far they were applied.")
    ] = None
    supervision: Annotated[
        Supervision | None, Field(description="The last instruction of its Supervisor that it acted on.")
    ] = None
