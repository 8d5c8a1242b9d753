"""What `/v1` answers: the system, its agents and its variables, as the operator knows them at the moment (docs/api.md).

A field that is left out is not known. No record carries a template, an environment or the words of a process: who may read
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
    """Where a measurement comes from."""

    METRICS_API = "metrics.k8s.io"
    NODE_PRESSURE = "pressure of the operator's node"
    CGROUP_PRESSURE = "pressure of the operator's cgroup"
    LOAD_AVERAGE = "load average of the operator's node"


class Problem(StatusModel):
    """Why a request was not answered (RFC 9457), and what would be."""

    title: str
    status: int
    detail: str
    allowed: Annotated[tuple[str, ...], Field(description="What may be asked instead.")] = ()


# --- agents -----------------------------------------------------------------------------------------------------------


class Usage(StatusModel):
    """What the agent's pods use now, all together."""

    cpu: Annotated[Amount, Field(description="In cores.")]
    memory: Annotated[Whole, Field(description="In bytes.")]
    pods: Annotated[Whole, Field(description="How many pods were measured.")]
    source: Source


class AgentPreference(StatusModel):
    """What the agent's process says it wants of a variable."""

    value: float | None = None
    choices: Annotated[dict[str, float] | None, Field(description="The strength of each choice.")] = None
    weight: float | None = None
    bid: float | None = None


class DirectiveCounts(StatusModel):
    """How far directives came."""

    issued: Whole = 0
    delivered: Whole = 0
    acknowledged: Whole = 0
    refused: Whole = 0
    expired: Whole = 0
    overruled: Annotated[
        Whole, Field(description="Set aside for another variable's, or after a failure: the agent is not told.")
    ] = 0


class AgentDirectiveSet(StatusModel):
    """What the agent is told: the number of the set, how far its processes applied it, and what it is made of."""

    generation: Whole
    applied_generation: Whole
    counts: DirectiveCounts
    variables: Annotated[tuple[str, ...], Field(description="Who tells the agent something.")] = ()


class LastFailure(StatusModel):
    """The newest line of the ledger, without the words of the process."""

    time: Time
    cause: FailureCause
    ordinal: Whole
    exit_code: int | None = None
    pod: str | None = None
    node: str | None = None
    counted: bool


class AgentInfo(StatusModel):
    """One agent: what it is, where it runs since when, how often it failed, what it uses, says and is told."""

    namespace: str
    name: str
    role: str
    state: AgentState
    desired_state: DesiredState
    active: Annotated[bool, Field(description="It runs, all of it is ready, and no variable left it idle.")]
    reason: Annotated[str | None, Field(description="Of the condition Ready.")] = None
    invalid: Annotated[bool | None, Field(description="True when its spec cannot be read.")] = None
    start_time: Annotated[Time | None, Field(description="Since when its longest-running replica runs.")] = None
    nodes: tuple[str, ...] = ()
    replicas: Annotated[Whole, Field(description="As many as there are to be.")]
    ready_replicas: Whole
    restarts: Annotated[Whole, Field(description="Restarts that were counted.")]
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
        JsonDict | None, Field(description="The resources that directives gave it; left out: as requested.")
    ] = None
    usage: Usage | None = None
    directives: AgentDirectiveSet | None = None
    last_failure: LastFailure | None = None


# --- variables --------------------------------------------------------------------------------------------------------


class SelectedAgents(StatusModel):
    """Whom the variable is about; the first hundred by name."""

    selected: Whole
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class NegotiationInfo(StatusModel):
    """The last round."""

    strategy: NegotiationStrategy
    state: str
    participants: Annotated[Whole, Field(description="At most a hundred are recorded.")]
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
    """One variable: its value, who decided it when and why, who is told and how far that came."""

    namespace: str
    name: str
    type: OrchestrationType
    parameter: str
    mode: Mode
    paused: bool
    priority: int
    active: Annotated[bool, Field(description="Accepted, not paused, in the mode Active, and with a value in force.")]
    converged: Annotated[bool, Field(description="The condition Ready: every agent applied the value.")]
    reason: Annotated[str | None, Field(description="Of the condition Ready.")] = None
    error: Annotated[CoordinationError | None, Field(description="The reason, when it is one of these.")] = None
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


class OperatorInfo(StatusModel):
    """Who answers."""

    version: str
    identity: str
    leader: Annotated[
        bool,
        Field(description="Only the leader decides, reads reports and counts; a standby knows the objects alone."),
    ]
    since: Annotated[Time, Field(description="Since when this process counts.")]


class AgentCounts(StatusModel):
    """How many agents there are, and in which state."""

    total: Whole
    active: Whole
    parked: Whole
    invalid: Whole
    states: dict[AgentState, Whole]
    roles: Annotated[dict[AgentRole, Whole], Field(description="Of those whose spec can be read.")] = {}


class VariableCounts(StatusModel):
    """How many variables there are."""

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
    """What the agents report, by metric; the unlabelled one is `performance`."""

    aggregate: dict[str, Aggregate] = {}
    individual: Annotated[
        dict[str, dict[str, float]], Field(description="By `namespace/name`; the first hundred agents that report.")
    ] = {}


class Load(StatusModel):
    """How busy the system is, and by which measure."""

    value: Share
    source: Source


class Capacity(StatusModel):
    """What the nodes that were measured have, and how much of it is used."""

    nodes: Whole
    cpu: Share
    memory: Share
    source: Source = Source.METRICS_API


class Utilisation(StatusModel):
    """What the agents and the nodes use."""

    agents: Annotated[Usage | None, Field(description="All agents together.")] = None
    nodes: Capacity | None = None
    load: Load | None = None


class Communication(StatusModel):
    """How well agents hear what they are told. An efficiency is left out as long as nothing was there to be heard."""

    efficiency: Annotated[
        Share | None,
        Field(
            description="Acknowledged in time, of all directives that came to an end since `operator.since`: "
            "acknowledged / (acknowledged + refused + expired). The whole operator's, whatever `namespace` says."
        ),
    ] = None
    current_efficiency: Annotated[Share | None, Field(description="The same of the directives in force now.")] = None
    since_start: Annotated[dict[str, Whole], Field(description="`mabeam_directives_total` by outcome.")] = {}
    current: DirectiveCounts = DirectiveCounts()


class Recovery(StatusModel):
    """From an agent's failure until all of it was ready again, in seconds; the last 256 since `operator.since`."""

    count: Whole
    last_seconds: Amount | None = None
    mean_seconds: Amount | None = None
    median_seconds: Amount | None = None


class RecentEvent(StatusModel):
    """One Event that the operator told."""

    time: Time
    type: str
    reason: str
    kind: str
    namespace: str
    name: str
    action: str
    note: Annotated[str | None, Field(description="Left out where it may quote a process or another server.")] = None


class SystemStatus(StatusModel):
    """The system at a glance."""

    time: Time
    operator: OperatorInfo
    namespace: Annotated[str | None, Field(description="The only one that is told of; left out: all.")] = None
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
        str | None, Field(alias="continue", description="What `?continue=` goes on with; left out on the last page.")
    ] = None
    remaining: Annotated[Whole, Field(description="How many follow.")] = 0


class AgentList(_Page):
    """A page of agents, by namespace and name."""

    items: tuple[AgentInfo, ...]


class VariableList(_Page):
    """A page of variables, by namespace and name."""

    items: tuple[VariableInfo, ...]
