"""The blocks of a variable that later strategies act on; until then a rule on the spec refuses each by name."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mabeam.api.agent import AgentRole, NetworkPriority, ResourceList
from mabeam.api.base import LIST_SET, JsonValue, KubeModel, LabelMap, NonNegative, Number, ObjectName, Quantity
from mabeam.api.directive import DirectiveAction


class CoordinationPattern(StrEnum):
    """Who talks to whom."""

    BROADCAST = "Broadcast"
    RING = "Ring"
    STAR = "Star"
    MESH = "Mesh"
    CUSTOM = "Custom"


class ConsensusProtocol(StrEnum):
    """When a proposal passes."""

    SIMPLE_MAJORITY = "SimpleMajority"
    WEIGHTED_VOTING = "WeightedVoting"
    UNANIMOUS = "Unanimous"


class AdaptationStrategy(StrEnum):
    """How a value adapts."""

    REACTIVE = "Reactive"
    PREDICTIVE = "Predictive"
    EMERGENT = "Emergent"
    CONSENSUS_BASED = "ConsensusBased"


class Consensus(KubeModel):
    """Gates every change of the value behind a vote."""

    protocol: Annotated[str, Field(max_length=63, min_length=1)] = ConsensusProtocol.SIMPLE_MAJORITY
    quorum: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30
    absent: Literal["Abstain", "Yes", "No"] = "Abstain"
    require_approval: bool = False
    veto_roles: Annotated[tuple[AgentRole, ...], Field(max_length=6, json_schema_extra=LIST_SET)] = ()


class Webhook(KubeModel):
    """A function behind HTTPS."""

    url: Annotated[str, Field(max_length=1024, pattern=r"^https://.+")]
    ca_bundle: Annotated[str | None, Field(max_length=65_536)] = None
    timeout_seconds: Annotated[int, Field(ge=1, le=30)] = 5


class PluginRef(KubeModel):
    """A function in the operator's image, by entry point name."""

    name: Annotated[str, Field(max_length=63, min_length=1)]


class Function(KubeModel):
    """Exactly one of `cel`, `webhook`, `plugin`."""

    cel: Annotated[str | None, Field(max_length=4096, min_length=1)] = None
    webhook: Webhook | None = None
    plugin: PluginRef | None = None


class ResourceAsk(KubeModel):
    """What taking part asks of each agent."""

    requests: ResourceList | None = None
    limits: ResourceList | None = None
    cpu_weight: Annotated[float | None, Field(ge=0, le=10_000, allow_inf_nan=False)] = None
    network_priority: NetworkPriority | None = None


class TaskRequirements(KubeModel):
    """Who may be selected."""

    roles: Annotated[tuple[AgentRole, ...], Field(max_length=6, json_schema_extra=LIST_SET)] = ()
    capabilities: Annotated[
        tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=64, json_schema_extra=LIST_SET)
    ] = ()
    match_labels: LabelMap | None = None
    min_performance: Number | None = None
    inactive_policy: Literal["Idle", "Stop"] = "Idle"


class BudgetItem(KubeModel):
    """How much of one resource there is to divide."""

    resource: Annotated[str, Field(max_length=63, min_length=1)]
    amount: Quantity


class Edge(KubeModel):
    """One agent may talk to another."""

    from_: Annotated[ObjectName, Field(alias="from")]
    to: ObjectName


class Topology(KubeModel):
    """Who talks to whom."""

    pattern: CoordinationPattern = CoordinationPattern.BROADCAST
    edges: Annotated[tuple[Edge, ...], Field(max_length=1000)] = ()
    cel: Annotated[str | None, Field(max_length=1024)] = None
    enforcement: Literal["None", "NetworkPolicy"] = "None"


class ThresholdAction(KubeModel):
    """What is told when a threshold is crossed."""

    action: DirectiveAction
    parameters: Annotated[
        dict[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    ] = {}


class Threshold(KubeModel):
    """A bound on a metric, for how long, and what follows."""

    metric: Annotated[str, Field(max_length=253)] = "performance"
    below: Number | None = None
    above: Number | None = None
    for_seconds: Annotated[int, Field(ge=0, le=86_400)] = 30
    cooldown_seconds: Annotated[int, Field(ge=0, le=86_400)] = 60
    on_breach: ThresholdAction
    on_recovery: ThresholdAction | None = None


class Objective(KubeModel):
    """What adaptation strives for."""

    type: Literal["Maximize", "Minimize"] = "Maximize"
    metric: Annotated[str, Field(max_length=253)] = "performance"
    goal: Number | None = None


class Rollback(KubeModel):
    """When adaptation returns to the last good value."""

    drops_by: NonNegative
    within_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60


class Adaptation(KubeModel):
    """How the value adapts to what the agents report."""

    strategy: AdaptationStrategy = AdaptationStrategy.REACTIVE
    objective: Objective | None = None
    rate: NonNegative | None = None
    max_step: NonNegative | None = None
    cooldown_seconds: Annotated[int, Field(ge=0, le=86_400)] = 30
    tolerance: NonNegative | None = None
    canary: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    rollback: Rollback | None = None


class VariableFaultTolerance(KubeModel):
    """What repeated failures of coordination lead to."""

    max_failures: Annotated[int, Field(ge=0, le=1000)] = 3
    failure_window_seconds: Annotated[int, Field(ge=1, le=604_800)] = 300
    recovery_strategy: Literal["Retry", "KeepLast", "Fallback"] = "KeepLast"
    fallback_value: JsonValue = None
    escalation_policy: Literal["Freeze", "Pause", "Alert"] = "Alert"


class Telemetry(KubeModel):
    """What history is kept, and where."""

    enabled: bool = True
    metrics: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...], Field(max_length=32, json_schema_extra=LIST_SET)
    ] = ()
    collection_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 15
    storage_backend: Literal["Status", "ConfigMap", "Prometheus"] = "Status"
