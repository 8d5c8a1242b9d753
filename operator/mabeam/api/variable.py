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


class AgentSelector(KubeModel):
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


# What holds for a value and for each entry of an object alike.
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
    """What one entry of an Object may be: a bounded number, or one of some choices."""

    type: Literal[DomainType.NUMBER, DomainType.INTEGER, DomainType.CHOICE] = DomainType.NUMBER
    minimum: Number | None = None
    maximum: Number | None = None
    step: Annotated[float | None, Field(ge=1e-9, le=1e12, allow_inf_nan=False)] = None
    choices: Annotated[
        tuple[Annotated[str, Field(max_length=253, min_length=1)], ...] | None,
        Field(min_length=1, max_length=32, json_schema_extra=LIST_SET),
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (_BOUNDS_IN_ORDER, _CHOICES_OF_A_CHOICE)


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
    properties: Annotated[
        dict[Annotated[str, Field(max_length=63)], Property],
        Field(max_length=32, description="What the entries of an Object may be; without it, anything."),
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


# Which types may carry a block. What is not listed goes with every type; the rules of the CRD are made from this table.
_VALUED = (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE, OrchestrationType.CUSTOM)
CARRIERS: Final[Mapping[str, tuple[OrchestrationType, ...]]] = {
    "parameter": _VALUED,
    "value": _VALUED,
    "domain": _VALUED,
    "negotiation": (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE),
    "function": (*_VALUED, OrchestrationType.AGENT_SELECTION),
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
    # The CRD defaults the type, so CEL always sees one; to a field of any type it is blind, even to whether it is there.
    return Rule(
        None if block == "value" else f"!has(self.{name}) || self.type in [{listed}]",
        f"`{name}` goes with the type {' or '.join(types)}",
        lambda spec: block not in spec.model_fields_set or getattr(spec, block) is None or spec.type in types,
    )


def _decides(spec: "OrchestrationVariableSpec") -> bool:
    """Whether anything decides the value of a type whose value is said or found, rather than reckoned from the agents."""
    found = (spec.value, spec.negotiation, spec.function, spec.rate)
    return spec.type not in _VALUED or any(part is not None for part in found)


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
        AgentSelector, Field(description="About which agents of this namespace: the union of names and selector.")
    ]
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1, description="Higher wins a conflict.")] = 0
    value: Annotated[JsonValue, Field(description="The value until something decides otherwise.")] = None
    domain: Annotated[Domain, Field(description="What the value may be.")] = Domain()
    negotiation: Annotated[
        Negotiation | None,
        Field(description="How the agents' offers become the value; without it `value` is the value."),
    ] = None
    consensus: Annotated[Consensus | None, Field(description="Every change of the value needs the agents' votes.")] = (
        None
    )
    constraints: Annotated[Constraints | None, Field(description="What every decision must respect.")] = None
    function: Annotated[Function | None, Field(description="What gives the value, before all else.")] = None
    rate: Annotated[Rate | None, Field(description="AdaptationRate: its schedule, and how it yields to load.")] = None
    resources: Annotated[RequiredResources | None, Field(description="What taking part asks of each agent.")] = None
    task_requirements: Annotated[TaskRequirements | None, Field(description="AgentSelection: who may be active.")] = (
        None
    )
    budget: Annotated[
        tuple[BudgetItem, ...] | None,
        BUDGET,
        Field(
            description="ResourceAllocation: what there is to divide. Without it: the namespace's ResourceQuota, else what the "
            "nodes can allocate."
        ),
    ] = None
    topology: Annotated[Topology | None, Field(description="Who talks to whom.")] = None
    threshold: Annotated[Threshold | None, Field(description="PerformanceThreshold: what is a breach, and then.")] = (
        None
    )
    adaptation: Adaptation | None = None
    fault_tolerance: Annotated[
        VariableFaultTolerance | None, Field(description="What failures of its coordination lead to.")
    ] = None
    telemetry: Annotated[VariableTelemetry | None, Field(description="What is kept of past decisions, and where.")] = (
        None
    )
    mode: Annotated[Mode, Field(description="Active delivers; Advise decides and records, and tells nobody.")] = (
        Mode.ACTIVE
    )
    paused: Annotated[
        bool, Field(description="No new decision and no new delivery while true; what is in force stays.")
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
            "a variable of type Custom is what its `function` says: it must be set",
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
                spec.fault_tolerance is None or spec.fault_tolerance.fallback_value is None or spec.type in _VALUED
            ),
        ),
        not_supported_yet("adaptation"),
    )


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
