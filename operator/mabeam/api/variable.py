"""The OrchestrationVariable kind: one setting that coordinates a set of agents."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mabeam.api.base import (
    CRD_DEFAULT,
    LIST_SET,
    Conditions,
    Count,
    JsonValue,
    KubeModel,
    LabelMap,
    LongText,
    NonNegative,
    Number,
    ObjectMeta,
    ObjectName,
    ParameterName,
    Rule,
    ShortText,
    StatusModel,
    Time,
    list_map,
    not_yet,
    only_yet,
)
from mabeam.api.blocks import (
    Adaptation,
    BudgetItem,
    Consensus,
    Function,
    ResourceAsk,
    TaskRequirements,
    Telemetry,
    Threshold,
    Topology,
    VariableFaultTolerance,
)
from mabeam.api.directive import VariableDirectives
from mabeam.api.names import MAX_NAME_LENGTH


class OrchestrationType(StrEnum):
    """What kind of setting a variable is."""

    AGENT_SELECTION = "AgentSelection"
    RESOURCE_ALLOCATION = "ResourceAllocation"
    COMMUNICATION_TOPOLOGY = "CommunicationTopology"
    ADAPTATION_RATE = "AdaptationRate"
    PERFORMANCE_THRESHOLD = "PerformanceThreshold"
    COORDINATION_PATTERN = "CoordinationPattern"
    PARAMETER = "Parameter"
    CUSTOM = "Custom"


class DomainType(StrEnum):
    """What a value may be."""

    NUMBER = "Number"
    INTEGER = "Integer"
    CHOICE = "Choice"
    OBJECT = "Object"


class NegotiationStrategy(StrEnum):
    """How offers become one value."""

    WEIGHTED_CONSENSUS = "WeightedConsensus"
    AUCTION = "Auction"


class Aggregation(StrEnum):
    """How WeightedConsensus aggregates numbers."""

    MEAN = "Mean"
    MEDIAN = "Median"
    TRIMMED_MEAN = "TrimmedMean"


class Payment(StrEnum):
    """What the winner of an auction pays."""

    FIRST_PRICE = "FirstPrice"
    SECOND_PRICE = "SecondPrice"


class Mode(StrEnum):
    """Active delivers; Advise decides and records only."""

    ACTIVE = "Active"
    ADVISE = "Advise"


class CoordinationError(StrEnum):
    """What can go wrong in a pass over a variable."""

    TIMEOUT = "Timeout"
    AGENT_UNAVAILABLE = "AgentUnavailable"
    RESOURCE_EXHAUSTED = "ResourceExhausted"
    INVALID_CONFIGURATION = "InvalidConfiguration"
    UNSUPPORTED_COORDINATION_TYPE = "UnsupportedCoordinationType"


class LabelSelector(KubeModel):
    """Equality-based label selector."""

    match_labels: LabelMap

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all of `matchLabels` are among `labels`; an empty selector matches everything, as in Kubernetes."""
        return all(labels.get(key) == value for key, value in self.match_labels.items())


class AgentsOf(KubeModel):
    """Which agents of the namespace the variable is about: the union of names and selector."""

    names: Annotated[tuple[ObjectName, ...], Field(max_length=1000, json_schema_extra=LIST_SET)] = ()
    selector: LabelSelector | None = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.names) && self.names.size() > 0) || has(self.selector)",
            "at least one of `names` and `selector` must be set",
            lambda agents: bool(agents.names) or agents.selector is not None,
        ),
    )


class Domain(KubeModel):
    """What a value may be: a bounded number, one of some choices, an object."""

    type: DomainType = DomainType.NUMBER
    minimum: Annotated[Number | None, Field(description="The least value; steps are counted from it.")] = None
    maximum: Annotated[Number | None, Field(description="The greatest value.")] = None
    step: Annotated[
        float | None,
        Field(ge=1e-9, le=1e12, allow_inf_nan=False),
        Field(description="The value is rounded to the nearest step, ties up."),
    ] = None
    choices: Annotated[
        tuple[Annotated[str, Field(max_length=253, min_length=1)], ...] | None,
        Field(min_length=1, max_length=100, json_schema_extra=LIST_SET),
        Field(description="What a Choice may be; their order breaks ties."),
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
            "`minimum` must not be above `maximum`",
            lambda d: d.minimum is None or d.maximum is None or d.minimum <= d.maximum,
        ),
        Rule(
            "(has(self.type) && self.type == 'Choice') == has(self.choices)",
            "`choices` must be set if, and only if, `type` is Choice",
            lambda d: (d.type is DomainType.CHOICE) == (d.choices is not None),
        ),
        Rule(
            "!has(self.type) || self.type in ['Number', 'Integer'] ||"
            " !(has(self.minimum) || has(self.maximum) || has(self.step))",
            "`minimum`, `maximum` and `step` go with the types Number and Integer",
            lambda d: (
                d.type in (DomainType.NUMBER, DomainType.INTEGER)
                or (d.minimum is None and d.maximum is None and d.step is None)
            ),
        ),
        only_yet("type", ("Number", "Integer", "Choice")),
    )


class Negotiation(KubeModel):
    """How the agents' offers become one value."""

    strategy: Annotated[
        NegotiationStrategy,
        Field(description="WeightedConsensus aggregates all offers; Auction takes the highest bidder's."),
    ] = NegotiationStrategy.WEIGHTED_CONSENSUS
    aggregation: Annotated[Aggregation | None, Field(description="Of numbers, by weight; default Mean.")] = None
    payment: Annotated[
        Payment | None,
        Field(description="What the winner pays: its own bid, or the second highest; default FirstPrice."),
    ] = None
    reserve_price: Annotated[NonNegative | None, Field(description="The least bid that qualifies.")] = None
    period_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description="How often changed reports start a new round; a changed spec starts one at once.",
        ),
    ] = 15
    max_weight: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, description="Cap on a reported weight.")] = 10
    max_bid: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, description="Cap on a reported bid.")] = 100
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.aggregation) || !has(self.strategy) || self.strategy == 'WeightedConsensus'",
            "`aggregation` goes with the strategy WeightedConsensus",
            lambda n: n.aggregation is None or n.strategy is NegotiationStrategy.WEIGHTED_CONSENSUS,
        ),
        Rule(
            "!(has(self.payment) || has(self.reservePrice)) || (has(self.strategy) && self.strategy == 'Auction')",
            "`payment` and `reservePrice` go with the strategy Auction",
            lambda n: (n.payment is None and n.reserve_price is None) or n.strategy is NegotiationStrategy.AUCTION,
        ),
    )


class CelRule(KubeModel):
    """A guardrail in CEL, and what to say when it does not hold."""

    cel: Annotated[str, Field(max_length=1024, min_length=1)]
    message: LongText = ""


class Constraints(KubeModel):
    """What every decision must respect."""

    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=86_400, description="Directive timeout; default 30 s (5 s for AllocateResources).")
    ] = None
    max_concurrent: Annotated[int | None, Field(ge=1, le=10_000)] = None
    rules_: Annotated[tuple[CelRule, ...] | None, Field(alias="rules", max_length=16)] = None
    rules: ClassVar[tuple[Rule, ...]] = (not_yet("max_concurrent"), not_yet("rules_", "rules"))


_LATER = (
    "consensus",
    "function",
    "resources",
    "task_requirements",
    "budget",
    "topology",
    "threshold",
    "adaptation",
    "fault_tolerance",
    "telemetry",
)


class OrchestrationVariableSpec(KubeModel):
    """What is decided, about whom, within which bounds and by which rule."""

    type: Annotated[
        OrchestrationType,
        Field(json_schema_extra={CRD_DEFAULT: True}),
        Field(description="What kind of setting this is."),
    ] = OrchestrationType.PARAMETER
    parameter: Annotated[
        ParameterName | None,
        Field(description="Which parameter of the agents it sets; default: the variable's own name."),
    ] = None
    agents: Annotated[
        AgentsOf, Field(description="About which agents of this namespace: the union of names and selector.")
    ]
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1, description="Higher wins a conflict.")] = 0
    value: Annotated[JsonValue, Field(description="The value until something decides otherwise.")] = None
    domain: Annotated[Domain, Field(description="What the value may be.")] = Domain()
    negotiation: Annotated[
        Negotiation | None,
        Field(description="How the agents' offers become the value; without it `value` is the value."),
    ] = None
    consensus: Consensus | None = None
    constraints: Annotated[Constraints | None, Field(description="What every decision must respect.")] = None
    function: Function | None = None
    resources: ResourceAsk | None = None
    task_requirements: TaskRequirements | None = None
    budget: Annotated[tuple[BudgetItem, ...] | None, Field(max_length=32, json_schema_extra=list_map("resource"))] = (
        None
    )
    topology: Topology | None = None
    threshold: Threshold | None = None
    adaptation: Adaptation | None = None
    fault_tolerance: VariableFaultTolerance | None = None
    telemetry: Telemetry | None = None
    mode: Annotated[Mode, Field(description="Active delivers; Advise decides and records, and tells nobody.")] = (
        Mode.ACTIVE
    )
    paused: Annotated[
        bool, Field(description="No new decision and no new delivery while true; what is in force stays.")
    ] = False
    rules: ClassVar[tuple[Rule, ...]] = (
        only_yet("type", ("Parameter",)),
        Rule(
            None,  # CEL cannot see a field of any type
            "nothing decides the value: set `value`, `negotiation`, or both",
            lambda spec: spec.value is not None or spec.negotiation is not None,
        ),
        *(not_yet(field) for field in _LATER),
    )


class Offer(StatusModel):
    """What one agent brought to a round, after clamping and capping."""

    agent: ObjectName
    value: JsonValue = None
    weight: NonNegative | None = None
    bid: NonNegative | None = None
    clamped: bool | None = None
    source: Literal["Spec", "Report"] | None = None


class NegotiationSession(StatusModel):
    """The last round: who took part, what each offered, what came out and by which rule."""

    id: Annotated[str, Field(max_length=253)]
    state: Literal["Active", "Completed", "Failed"]
    participants: Annotated[tuple[ObjectName, ...], Field(max_length=100)] = ()
    strategy: NegotiationStrategy
    offers: Annotated[tuple[Offer, ...], Field(max_length=100)] = ()
    outcome: JsonValue = None
    winner: ObjectName | None = None
    payment: NonNegative | None = None
    reason: ShortText = ""
    dropped: Annotated[tuple[ShortText, ...], Field(max_length=100)] = ()


class Vote(StatusModel):
    """One agent's ballot."""

    agent: ObjectName
    choice: Literal["Yes", "No", "Abstain"]
    weight: NonNegative = 1


class ConsensusRound(StatusModel):
    """The last proposal and every vote on it."""

    proposal: Annotated[str, Field(max_length=253)]
    proposed: JsonValue = None
    votes: Annotated[tuple[Vote, ...], Field(max_length=100)] = ()
    outcome: Literal["Pending", "Accepted", "Rejected"] = "Pending"
    deadline: Time | None = None


class ResolvedAgents(StatusModel):
    """Whom the variable found; the first hundred by name."""

    selected: Count = 0
    missing: Annotated[tuple[ObjectName, ...], Field(max_length=100)] = ()
    names: Annotated[tuple[ObjectName, ...], Field(max_length=100)] = ()


class LastDecision(StatusModel):
    """Why the value is what it is."""

    time: Time
    rule: ShortText
    inputs_hash: Annotated[str | None, Field(max_length=80)] = None
    trigger_hash: Annotated[
        str | None,
        Field(max_length=80, description="Hash of what starts a round at once: spec, members, static preferences."),
    ] = None
    message: LongText = ""


class OrchestrationVariableStatus(StatusModel):
    """What was decided, who was told, and how far that came."""

    observed_generation: Annotated[int, Field(ge=-1, le=2**53)] = -1
    conditions: Conditions = ()
    value: JsonValue = None
    previous_value: JsonValue = None
    round: Annotated[int, Field(ge=0, le=2**53)] = 0
    agents: ResolvedAgents | None = None
    negotiation: NegotiationSession | None = None
    consensus: ConsensusRound | None = None
    directives: VariableDirectives | None = None
    last_decision: LastDecision | None = None

    @property
    def decided(self) -> bool:
        """Whether a value is in force."""
        return self.value is not None


class OrchestrationVariable(KubeModel):
    """One shared setting that a set of agents negotiates, is told, and acknowledges."""

    api_version: Literal["mabeam.dev/v1alpha1"] = "mabeam.dev/v1alpha1"
    kind: Literal["OrchestrationVariable"] = "OrchestrationVariable"
    metadata: ObjectMeta
    spec: OrchestrationVariableSpec
    status: OrchestrationVariableStatus = OrchestrationVariableStatus()
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            f"`metadata.name` must be at most {MAX_NAME_LENGTH} characters: names and labels derive from it",
            lambda variable: len(variable.metadata.name) <= MAX_NAME_LENGTH,
        ),
    )

    @property
    def parameter(self) -> str:
        """Which parameter of its agents the variable sets."""
        return self.spec.parameter or self.metadata.name

    def selects(self, name: str, labels: Mapping[str, Any]) -> bool:
        """Whether an agent of the variable's namespace is one of its agents (names and selector are a union)."""
        chosen = self.spec.agents
        return name in chosen.names or (chosen.selector is not None and chosen.selector.matches(labels))
