"""The OrchestrationVariable kind: one setting that coordinates a set of agents."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from mabeam.api.base import (
    CRD_DEFAULT,
    LIST_SET,
    JsonValue,
    KubeModel,
    LabelMap,
    NonNegative,
    Number,
    ObjectMeta,
    ObjectName,
    ParameterName,
    Rule,
    not_supported_yet,
)
from mabeam.api.names import MAX_NAME_LENGTH
from mabeam.api.variable_blocks import (
    BUDGET,
    Adaptation,
    BudgetItem,
    Consensus,
    Constraints,
    Function,
    Rate,
    RequiredResources,
    TaskRequirements,
    Threshold,
    Topology,
    VariableFaultTolerance,
    VariableTelemetry,
)
from mabeam.api.variable_status import NegotiationStrategy, OrchestrationVariableStatus


class OrchestrationType(StrEnum):
    """The type of a variable: what it decides."""

    AGENT_SELECTION = "AgentSelection"
    RESOURCE_ALLOCATION = "ResourceAllocation"
    COMMUNICATION_TOPOLOGY = "CommunicationTopology"
    ADAPTATION_RATE = "AdaptationRate"
    PERFORMANCE_THRESHOLD = "PerformanceThreshold"
    COORDINATION_PATTERN = "CoordinationPattern"
    PARAMETER = "Parameter"
    CUSTOM = "Custom"


class DomainType(StrEnum):
    """The type of a value."""

    NUMBER = "Number"
    INTEGER = "Integer"
    CHOICE = "Choice"
    OBJECT = "Object"


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
    """Active: decisions are delivered. Advise: they are only recorded."""

    ACTIVE = "Active"
    ADVISE = "Advise"


class CoordinationError(StrEnum):
    """The kinds of failure in a pass over a variable."""

    TIMEOUT = "Timeout"
    AGENT_UNAVAILABLE = "AgentUnavailable"
    RESOURCE_EXHAUSTED = "ResourceExhausted"
    INVALID_CONFIGURATION = "InvalidConfiguration"
    UNSUPPORTED_COORDINATION_TYPE = "UnsupportedCoordinationType"


class LabelSelector(KubeModel):
    """Equality-based label selector."""

    match_labels: Annotated[LabelMap, Field(description="Labels that an agent must have, all of them.")]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all of `matchLabels` are among `labels`; an empty selector matches everything, as in Kubernetes."""
        return all(labels.get(key) == value for key, value in self.match_labels.items())


class AgentSelector(KubeModel):
    """The agents of the namespace to which the variable applies: the union of `names` and `selector`."""

    names: Annotated[
        tuple[ObjectName, ...],
        Field(max_length=1000, json_schema_extra=LIST_SET),
        Field(description="Names of agents."),
    ] = ()
    selector: Annotated[LabelSelector | None, Field(description="Labels of agents.")] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.names) && self.names.size() > 0) || has(self.selector)",
            "at least one of `names` and `selector` must be set",
            lambda agents: bool(agents.names) or agents.selector is not None,
        ),
    )


# These rules apply to a value and to each entry of an object.
_BOUNDS_IN_ORDER: Final = Rule(
    "!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum",
    "`minimum` must not be above `maximum`",
    lambda d: d.minimum is None or d.maximum is None or d.minimum <= d.maximum,
)
_CHOICES_OF_A_CHOICE: Final = Rule(
    "(has(self.type) && self.type == 'Choice') == has(self.choices)",
    "`choices` must be set if, and only if, `type` is Choice",
    lambda d: (d.type is DomainType.CHOICE) == (d.choices is not None),
)


class Property(KubeModel):
    """The domain of one entry of an Object: a bounded number, or one of several choices."""

    type: Annotated[
        Literal[DomainType.NUMBER, DomainType.INTEGER, DomainType.CHOICE],
        Field(description="Number, Integer or Choice."),
    ] = DomainType.NUMBER
    minimum: Annotated[Number | None, Field(description="The least value; steps are counted from it.")] = None
    maximum: Annotated[Number | None, Field(description="The greatest value.")] = None
    step: Annotated[
        float | None,
        Field(ge=1e-9, le=1e12, allow_inf_nan=False),
        Field(description="The value is rounded to the nearest step, halves upwards."),
    ] = None
    choices: Annotated[
        tuple[Annotated[str, Field(max_length=253, min_length=1)], ...] | None,
        Field(min_length=1, max_length=32, json_schema_extra=LIST_SET),
        Field(description="The values that a Choice may have; their order breaks ties."),
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (_BOUNDS_IN_ORDER, _CHOICES_OF_A_CHOICE)


class Domain(KubeModel):
    """The domain of a value: a bounded number, one of several choices, or an object."""

    type: Annotated[DomainType, Field(description="Type of the value.")] = DomainType.NUMBER
    minimum: Annotated[Number | None, Field(description="The least value; steps are counted from it.")] = None
    maximum: Annotated[Number | None, Field(description="The greatest value.")] = None
    step: Annotated[
        float | None,
        Field(ge=1e-9, le=1e12, allow_inf_nan=False),
        Field(description="The value is rounded to the nearest step, halves upwards."),
    ] = None
    choices: Annotated[
        tuple[Annotated[str, Field(max_length=253, min_length=1)], ...] | None,
        Field(min_length=1, max_length=100, json_schema_extra=LIST_SET),
        Field(description="The values that a Choice may have; their order breaks ties."),
    ] = None
    properties: Annotated[
        dict[Annotated[str, Field(max_length=63)], Property],
        Field(max_length=32, description="Domain of each entry of an Object; without it, any entries are allowed."),
    ] = {}
    rules: ClassVar[tuple[Rule, ...]] = (
        _BOUNDS_IN_ORDER,
        _CHOICES_OF_A_CHOICE,
        Rule(
            "!has(self.type) || self.type in ['Number', 'Integer'] ||"
            " !(has(self.minimum) || has(self.maximum) || has(self.step))",
            "`minimum`, `maximum` and `step` go with the types Number and Integer",
            lambda d: (
                d.type in (DomainType.NUMBER, DomainType.INTEGER)
                or (d.minimum is None and d.maximum is None and d.step is None)
            ),
        ),
        Rule(
            "!has(self.properties) || (has(self.type) && self.type == 'Object')",
            "`properties` goes with the type Object",
            lambda d: not d.properties or d.type is DomainType.OBJECT,
        ),
    )


class Negotiation(KubeModel):
    """How the agents' offers become one value."""

    strategy: Annotated[
        NegotiationStrategy,
        Field(
            description="WeightedConsensus: the weighted aggregate of all offers. Auction: the offer of the highest "
            "bidder."
        ),
    ] = NegotiationStrategy.WEIGHTED_CONSENSUS
    aggregation: Annotated[
        Aggregation | None, Field(description="How numbers are aggregated, by weight; default Mean.")
    ] = None
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
            description="Seconds between rounds while reports change; a changed spec starts a round at once.",
        ),
    ] = 15
    max_weight: Annotated[
        float, Field(ge=0, le=1e9, allow_inf_nan=False, description="Upper bound of a reported weight.")
    ] = 10
    max_bid: Annotated[
        float, Field(ge=0, le=1e9, allow_inf_nan=False, description="Upper bound of a reported bid.")
    ] = 100
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


# The types whose value is one parameter of the agents.
VALUED: Final = (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE, OrchestrationType.CUSTOM)
# Block of the spec → the types that may have it. A block that is not listed goes with every type. The CRD's rules are made
# from this table.
CARRIERS: Final[Mapping[str, tuple[OrchestrationType, ...]]] = {
    "parameter": VALUED,
    "value": VALUED,
    "domain": VALUED,
    "negotiation": (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE),
    "function": (*VALUED, OrchestrationType.AGENT_SELECTION),
    "rate": (OrchestrationType.ADAPTATION_RATE,),
    "resources": (OrchestrationType.AGENT_SELECTION, OrchestrationType.RESOURCE_ALLOCATION),
    "task_requirements": (OrchestrationType.AGENT_SELECTION,),
    "budget": (OrchestrationType.RESOURCE_ALLOCATION,),
    "topology": (OrchestrationType.COMMUNICATION_TOPOLOGY, OrchestrationType.COORDINATION_PATTERN),
    "threshold": (OrchestrationType.PERFORMANCE_THRESHOLD,),
}


def _goes_with(block: str, types: tuple[OrchestrationType, ...]) -> Rule:
    name = to_camel(block)
    listed = ", ".join(f"'{kind}'" for kind in types)
    # The CRD defaults the type, so CEL always finds one. CEL cannot see a field of any type, not even whether it is set.
    return Rule(
        None if block == "value" else f"!has(self.{name}) || self.type in [{listed}]",
        f"`{name}` goes with the type {' or '.join(types)}",
        lambda spec: block not in spec.model_fields_set or getattr(spec, block) is None or spec.type in types,
    )


def _decides(spec: "OrchestrationVariableSpec") -> bool:
    """Whether the spec says how the value comes about; types that compute it from the agents always do."""
    found = (spec.value, spec.negotiation, spec.function, spec.rate)
    return spec.type not in VALUED or any(part is not None for part in found)


class OrchestrationVariableSpec(KubeModel):
    """What is decided, for which agents, within which bounds and by which rule."""

    type: Annotated[
        OrchestrationType,
        Field(json_schema_extra={CRD_DEFAULT: True}),
        Field(description="What the variable decides."),
    ] = OrchestrationType.PARAMETER
    parameter: Annotated[
        ParameterName | None,
        Field(description="Parameter of the agents that the value sets; default: the name of the variable."),
    ] = None
    agents: Annotated[
        AgentSelector,
        Field(
            description="The agents of this namespace to which the variable applies: the union of `names` and "
            "`selector`."
        ),
    ]
    priority: Annotated[
        int, Field(ge=-(2**31), le=2**31 - 1, description="In a conflict the higher priority wins.")
    ] = 0
    value: Annotated[
        JsonValue, Field(description="The value until a negotiation, a function or a rate decides another.")
    ] = None
    domain: Annotated[Domain, Field(description="The allowed values.")] = Domain()
    negotiation: Annotated[
        Negotiation | None,
        Field(description="How the agents' offers become the value; without it, `value` is in force."),
    ] = None
    consensus: Annotated[
        Consensus | None, Field(description="Makes every change of the value subject to a vote of the agents.")
    ] = None
    constraints: Annotated[Constraints | None, Field(description="What every decision has to satisfy.")] = None
    function: Annotated[
        Function | None,
        Field(description="A function that gives the value; it comes before `negotiation` and `value`."),
    ] = None
    rate: Annotated[Rate | None, Field(description="AdaptationRate: its schedule, and how it falls under load.")] = None
    resources: Annotated[
        RequiredResources | None, Field(description="Resources that taking part requires of each agent.")
    ] = None
    task_requirements: Annotated[TaskRequirements | None, Field(description="AgentSelection: who may be active.")] = (
        None
    )
    budget: Annotated[
        tuple[BudgetItem, ...] | None,
        BUDGET,
        Field(
            description="ResourceAllocation: the amounts to divide; default: the namespace's ResourceQuota, else what "
            "the nodes can allocate."
        ),
    ] = None
    topology: Annotated[Topology | None, Field(description="Which agents communicate with which.")] = None
    threshold: Annotated[
        Threshold | None, Field(description="PerformanceThreshold: what counts as a breach, and what follows.")
    ] = None
    adaptation: Annotated[Adaptation | None, Field(description="Not supported yet.")] = None
    fault_tolerance: Annotated[
        VariableFaultTolerance | None, Field(description="What follows failures of coordination.")
    ] = None
    telemetry: Annotated[
        VariableTelemetry | None, Field(description="Which history of decisions is kept, and where.")
    ] = None
    mode: Annotated[Mode, Field(description="Active: decisions are delivered. Advise: they are only recorded.")] = (
        Mode.ACTIVE
    )
    paused: Annotated[
        bool,
        Field(
            description="While true there are no new decisions and no new deliveries; what is in force stays in force."
        ),
    ] = False
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            None,  # CEL cannot see a field of any type
            "nothing decides the value: set `value`, `negotiation`, `function` or `rate`",
            _decides,
        ),
        *(_goes_with(block, types) for block, types in CARRIERS.items()),
        Rule(
            "self.type != 'Custom' || has(self.function)",
            "a variable of type Custom gets its value from `function`: it must be set",
            lambda spec: spec.type is not OrchestrationType.CUSTOM or spec.function is not None,
        ),
        Rule(
            "self.type != 'AdaptationRate' || !has(self.domain) || !has(self.domain.type) ||"
            " self.domain.type in ['Number', 'Integer']",
            "a rate is a number: `domain.type` must be Number or Integer with the type AdaptationRate",
            lambda spec: (
                spec.type is not OrchestrationType.ADAPTATION_RATE
                or spec.domain.type in (DomainType.NUMBER, DomainType.INTEGER)
            ),
        ),
        Rule(
            "self.type != 'PerformanceThreshold' || has(self.threshold)",
            "a variable of type PerformanceThreshold needs a `threshold`",
            lambda spec: spec.type is not OrchestrationType.PERFORMANCE_THRESHOLD or spec.threshold is not None,
        ),
        Rule(
            "!has(self.constraints) || !has(self.constraints.maxConcurrent) || self.type == 'AgentSelection'",
            "`constraints.maxConcurrent` goes with the type AgentSelection",
            lambda spec: (
                spec.constraints is None
                or spec.constraints.max_concurrent is None
                or spec.type is OrchestrationType.AGENT_SELECTION
            ),
        ),
        Rule(
            None,  # CEL cannot see a field of any type
            "`faultTolerance.fallbackValue` goes with the type Parameter or AdaptationRate or Custom",
            lambda spec: (
                spec.fault_tolerance is None or spec.fault_tolerance.fallback_value is None or spec.type in VALUED
            ),
        ),
        not_supported_yet("adaptation"),
    )


class OrchestrationVariable(KubeModel):
    """One shared setting that a set of agents negotiates, receives and acknowledges."""

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
        """The parameter of its agents that the variable sets."""
        return self.spec.parameter or self.metadata.name

    def selects(self, name: str, labels: Mapping[str, Any]) -> bool:
        """Whether the variable applies to an agent of its namespace, by name or by labels."""
        chosen = self.spec.agents
        return name in chosen.names or (chosen.selector is not None and chosen.selector.matches(labels))
