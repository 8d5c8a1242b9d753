"""The records of `/v1`: the system, its agents and its variables, from the operator's cache (docs/api.md).

A field that is left out is unknown. No record holds a template, an environment or the output of a process: whoever may read
those reads the objects themselves.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mabeam.api.agent import AgentRole
from mabeam.api.agent_status import AgentState, DesiredState, FailureCause
from mabeam.api.base import JsonDict, JsonValue, StatusModel, Time
from mabeam.api.variable import CoordinationError, Mode, OrchestrationType
from mabeam.api.variable_status import NegotiationStrategy

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Whole = Annotated[int, Field(ge=0)]


class Source(StrEnum):
    """The source of a measurement."""

    METRICS_API = "metrics.k8s.io"
    NODE_PRESSURE = "pressure of the operator's node"
    CGROUP_PRESSURE = "pressure of the operator's cgroup"
    LOAD_AVERAGE = "load average of the operator's node"


class Problem(StatusModel):
    """Why a request was refused (RFC 9457), and what is allowed."""

    title: str
    status: int
    detail: str
    allowed: Annotated[tuple[str, ...], Field(description="Paths, parameters or values that are allowed.")] = ()


# --- agents -----------------------------------------------------------------------------------------------------------


class Usage(StatusModel):
    """Current resource usage of the agent's pods in total."""

    cpu: Annotated[Amount, Field(description="In cores.")]
    memory: Annotated[Whole, Field(description="In bytes.")]
    pods: Annotated[Whole, Field(description="Number of measured pods.")]
    source: Source


class AgentPreference(StatusModel):
    """The offer for a variable that the agent's process reports."""

    value: float | None = None
    choices: Annotated[dict[str, float] | None, Field(description="The strength of each choice.")] = None
    weight: float | None = None
    bid: float | None = None


class DirectiveCounts(StatusModel):
    """Number of directives in each state."""

    issued: Whole = 0
    delivered: Whole = 0
    acknowledged: Whole = 0
    refused: Whole = 0
    expired: Whole = 0
    overruled: Annotated[
        Whole, Field(description="Not delivered: another variable's directive won, or the agent failed after it.")
    ] = 0


class AgentDirectiveSet(StatusModel):
    """The agent's set of directives: its number, and how far its processes applied it."""

    generation: Whole
    applied_generation: Whole
    counts: DirectiveCounts
    variables: Annotated[tuple[str, ...], Field(description="Variables that have a directive in the set.")] = ()


class LastFailure(StatusModel):
    """The newest entry of the ledger, without the output of the process."""

    time: Time
    cause: FailureCause
    ordinal: Whole
    exit_code: int | None = None
    pod: str | None = None
    node: str | None = None
    counted: bool


class AgentInfo(StatusModel):
    """One agent: its state, its pods and failures, its usage, its reports and its directives."""

    namespace: str
    name: str
    role: str
    state: AgentState
    desired_state: DesiredState
    active: Annotated[bool, Field(description="It runs, all its replicas are ready, and no variable has made it idle.")]
    reason: Annotated[str | None, Field(description="Reason of the condition Ready.")] = None
    report_problem: Annotated[
        str | None,
        Field(
            description="While the condition ReportsValid is False: where a report cannot be read and why, or BadReport for "
            "one with unusable samples."
        ),
    ] = None
    invalid: Annotated[bool | None, Field(description="True when its spec cannot be read.")] = None
    start_time: Annotated[
        Time | None, Field(description="Start time of the replica that has been running longest.")
    ] = None
    nodes: tuple[str, ...] = ()
    replicas: Annotated[Whole, Field(description="Desired number of replicas.")]
    ready_replicas: Whole
    restarts: Annotated[Whole, Field(description="Counted restarts, in all.")]
    disruptions: Whole
    parked_at: Time | None = None
    supervisor: str | None = None
    performance: Annotated[
        dict[str, float], Field(description="The latest sample by metric; the unlabelled one is `performance`.")
    ] = {}
    preferences: Annotated[dict[str, AgentPreference], Field(description="By variable, as reported.")] = {}
    requested: Annotated[
        dict[str, dict[str, str]] | None, Field(description="`requests` and `limits` of `spec.resources`.")
    ] = None
    effective: Annotated[
        JsonDict | None, Field(description="The resources in force by directives; left out: as requested.")
    ] = None
    usage: Usage | None = None
    directives: AgentDirectiveSet | None = None
    last_failure: LastFailure | None = None


# --- variables --------------------------------------------------------------------------------------------------------


class SelectedAgents(StatusModel):
    """The agents to which the variable applies; the first hundred by name."""

    selected: Whole
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class NegotiationInfo(StatusModel):
    """The last round."""

    strategy: NegotiationStrategy
    state: str
    participants: Annotated[Whole, Field(description="Number of participants; at most a hundred are recorded.")]
    winner: str | None = None
    payment: float | None = None


class ConsensusInfo(StatusModel):
    """The last proposal."""

    protocol: str | None = None
    proposal: str
    outcome: str
    votes: Whole
    deadline: Time | None = None


class VariableInfo(StatusModel):
    """One variable: its value, how and when it was decided, and how far it was delivered."""

    namespace: str
    name: str
    type: OrchestrationType
    parameter: str
    mode: Mode
    paused: bool
    priority: int
    active: Annotated[bool, Field(description="Accepted, not paused, in the mode Active, and with a value in force.")]
    converged: Annotated[bool, Field(description="The condition Ready: every agent applied the value.")]
    reason: Annotated[str | None, Field(description="Reason of the condition Ready.")] = None
    error: Annotated[CoordinationError | None, Field(description="The reason, when it is one of these failures.")] = (
        None
    )
    invalid: Annotated[bool | None, Field(description="True when its spec cannot be read.")] = None
    value: JsonValue = None
    previous_value: JsonValue = None
    round: Whole
    decided_at: Time | None = None
    rule: str | None = None
    message: Annotated[str | None, Field(description="The decision in a sentence.")] = None
    agents: SelectedAgents
    negotiation: NegotiationInfo | None = None
    consensus: ConsensusInfo | None = None
    directives: DirectiveCounts = DirectiveCounts()


# --- the system -------------------------------------------------------------------------------------------------------


class LostNamespace(StatusModel):
    """A namespace that the operator is to watch and cannot list; the others are served."""

    name: str
    message: Annotated[str, Field(description="What the API server answered.")]
    since: Time


class OperatorInfo(StatusModel):
    """The process that answers."""

    version: str
    identity: str
    leader: Annotated[
        bool,
        Field(description="Only the leader decides, reads reports and counts; a standby only knows the objects."),
    ]
    since: Annotated[Time, Field(description="When this process began to count.")]
    lost_namespaces: Annotated[
        tuple[LostNamespace, ...],
        Field(
            description="Namespaces of MABEAM_WATCH_NAMESPACES that cannot be listed; agents in them are not supervised."
        ),
    ] = ()


class AgentCounts(StatusModel):
    """Number of agents, in all and by state and role."""

    total: Whole
    active: Whole
    parked: Whole
    invalid: Whole
    states: dict[AgentState, Whole]
    roles: Annotated[
        dict[AgentRole, Whole], Field(description="By role, without agents whose spec cannot be read.")
    ] = {}


class VariableCounts(StatusModel):
    """Number of variables, in all and by type."""

    total: Whole
    active: Whole
    converged: Whole
    invalid: Whole
    types: dict[OrchestrationType, Whole]


class Aggregate(StatusModel):
    """One metric over all agents that report it."""

    agents: Whole
    mean: float
    minimum: float
    maximum: float


class Performance(StatusModel):
    """Reported performance by metric; the unlabelled one is `performance`."""

    aggregate: dict[str, Aggregate] = {}
    individual: Annotated[
        dict[str, dict[str, float]], Field(description="By `namespace/name`; the first hundred agents that report.")
    ] = {}


class Load(StatusModel):
    """The load of the system, and the measure of it."""

    value: Share
    source: Source


class Capacity(StatusModel):
    """The measured nodes, and the share of their capacity in use."""

    nodes: Whole
    cpu: Share
    memory: Share
    source: Source = Source.METRICS_API


class Utilisation(StatusModel):
    """Resource usage of the agents and the nodes."""

    agents: Annotated[Usage | None, Field(description="All agents together.")] = None
    nodes: Capacity | None = None
    load: Load | None = None


class Communication(StatusModel):
    """How many directives are acknowledged in time. An efficiency is left out until a directive has ended."""

    efficiency: Annotated[
        Share | None,
        Field(
            description="Share acknowledged in time of all directives that ended since `operator.since`: acknowledged "
            "/ (acknowledged + refused + expired). For the whole operator, whatever `namespace` selects."
        ),
    ] = None
    current_efficiency: Annotated[Share | None, Field(description="The same for the directives in force now.")] = None
    since_start: Annotated[dict[str, Whole], Field(description="`mabeam_directives_total` by outcome.")] = {}
    current: DirectiveCounts = DirectiveCounts()


class Recovery(StatusModel):
    """Seconds from an agent's failure until all its replicas were ready again; the last 256 since `operator.since`."""

    count: Whole
    last_seconds: Amount | None = None
    mean_seconds: Amount | None = None
    median_seconds: Amount | None = None


class RecentEvent(StatusModel):
    """One Event that the operator recorded."""

    time: Time
    type: str
    reason: str
    kind: str
    namespace: str
    name: str
    action: str
    note: Annotated[str | None, Field(description="Left out when it may quote a process or another server.")] = None


class SystemStatus(StatusModel):
    """The system at a glance."""

    time: Time
    operator: OperatorInfo
    namespace: Annotated[str | None, Field(description="The namespace of the answer; left out: all.")] = None
    agents: AgentCounts
    variables: VariableCounts
    active_agents: Annotated[tuple[str, ...], Field(description="`namespace/name`; the first hundred.")] = ()
    active_variables: Annotated[tuple[str, ...], Field(description="`namespace/name`; the first hundred.")] = ()
    performance: Performance = Performance()
    utilisation: Utilisation = Utilisation()
    communication: Communication = Communication()
    recovery: Recovery = Recovery(count=0)
    recent_events: Annotated[tuple[RecentEvent, ...], Field(description="The last hundred, newest first.")] = ()


# --- pages ------------------------------------------------------------------------------------------------------------


class _Page(StatusModel):
    leader: bool
    continue_: Annotated[
        str | None,
        Field(alias="continue", description="Value of `?continue=` for the next page; left out on the last page."),
    ] = None
    remaining: Annotated[Whole, Field(description="Number of items on later pages.")] = 0


class AgentList(_Page):
    """A page of agents, by namespace and name."""

    items: tuple[AgentInfo, ...]


class VariableList(_Page):
    """A page of variables, by namespace and name."""

    items: tuple[VariableInfo, ...]
