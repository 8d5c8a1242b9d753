"""The blocks of a variable: what decides, what bounds, what follows. Which type may carry which is one table in `variable.py`."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from mabeam.api.agent import AgentRole, NetworkPriority, ResourceList
from mabeam.api.base import (
    LIST_SET,
    JsonValue,
    KubeModel,
    LabelMap,
    LongText,
    NonNegative,
    Number,
    ObjectName,
    Quantity,
    Rule,
    list_map,
)
from mabeam.api.directive import MAX_PARAMETER_NAME, MAX_PARAMETERS, DirectiveAction


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

    protocol: Annotated[
        str,
        Field(max_length=63, min_length=1),
        Field(
            description="When a proposal passes: SimpleMajority (more than half of the agents say Yes), WeightedVoting (more "
            "than half of the declared weight), Unanimous (nobody who votes says No); or the name of a plug-in."
        ),
    ] = ConsensusProtocol.SIMPLE_MAJORITY
    quorum: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False),
        Field(description="The share of the agents that has to vote at all, or the proposal is rejected."),
    ] = 0.5
    deadline_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description="How long ballots are waited for. A vote ends sooner when no ballot could change it.",
        ),
    ] = 30
    absent: Annotated[
        Literal["Abstain", "Yes", "No"], Field(description="What an agent that did not vote is taken to say.")
    ] = "Abstain"
    require_approval: Annotated[
        bool,
        Field(
            description="What the agents accept also needs a human: the annotation `mabeam.dev/approve` with the proposal's id."
        ),
    ] = False
    veto_roles: Annotated[
        tuple[AgentRole, ...],
        Field(max_length=6, json_schema_extra=LIST_SET),
        Field(description="One No of an agent in any of these roles rejects a proposal."),
    ] = ()


class Webhook(KubeModel):
    """A function behind HTTPS."""

    url: Annotated[str, Field(max_length=1024, pattern=r"^https://.+")]
    ca_bundle: Annotated[str | None, Field(max_length=65_536, description="PEM of the CAs to trust instead.")] = None
    timeout_seconds: Annotated[int, Field(ge=1, le=30)] = 5


class PluginRef(KubeModel):
    """A function in the operator's image, by entry point name."""

    name: Annotated[str, Field(max_length=63, min_length=1)]


class Function(KubeModel):
    """Exactly one of `cel`, `webhook`, `plugin`."""

    cel: Annotated[
        str | None,
        Field(max_length=4096, min_length=1),
        Field(description="An expression; its variables are in docs/coordination.md."),
    ] = None
    webhook: Webhook | None = None
    plugin: PluginRef | None = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.cel), has(self.webhook), has(self.plugin)].filter(x, x).size() == 1",
            "exactly one of `cel`, `webhook` and `plugin` must be set",
            lambda f: sum(x is not None for x in (f.cel, f.webhook, f.plugin)) == 1,
        ),
    )


class RequiredResources(KubeModel):
    """What taking part asks of each agent."""

    requests: Annotated[ResourceList | None, Field(description="The least that each agent needs to take part.")] = None
    limits: Annotated[ResourceList | None, Field(description="The most that taking part is worth.")] = None
    cpu_weight: Annotated[
        float | None,
        Field(ge=0, le=10_000, allow_inf_nan=False),
        Field(description="The weight of agents that name none, where cpu is divided."),
    ] = None
    network_priority: Annotated[
        NetworkPriority | None, Field(description="The bandwidth of agents that name none; a change replaces pods.")
    ] = None


class TaskRequirements(KubeModel):
    """Who may be selected."""

    roles: Annotated[
        tuple[AgentRole, ...], Field(max_length=6, json_schema_extra=LIST_SET, description="Any of these; none: all.")
    ] = ()
    capabilities: Annotated[
        tuple[Annotated[str, Field(max_length=63)], ...],
        Field(max_length=64, json_schema_extra=LIST_SET),
        Field(description="All of these."),
    ] = ()
    match_labels: LabelMap | None = None
    min_performance: Annotated[
        Number | None, Field(description="The least reported performance; who reports none does not have it.")
    ] = None
    hysteresis: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            allow_inf_nan=False,
            description="By which share a challenger's score has to be above that of an active agent to take its place.",
        ),
    ] = 0.1
    inactive_policy: Annotated[
        Literal["Idle", "Stop"], Field(description="What the others do: stay up without working, or end.")
    ] = "Idle"


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

    pattern: Annotated[
        CoordinationPattern, Field(description="Broadcast: one to all. Mesh: all to all, up to 500 agents.")
    ] = CoordinationPattern.BROADCAST
    edges: Annotated[
        tuple[Edge, ...],
        Field(max_length=1000, description="Custom: who may talk to whom; parts that fall apart are joined."),
    ] = ()
    cel: Annotated[
        str | None,
        Field(max_length=1024, description="Custom: whether `from` may talk to `to`; up to 300 agents."),
    ] = None
    enforcement: Annotated[
        Literal["None", "NetworkPolicy"],
        Field(description="NetworkPolicy: one policy per agent lets its peers in, and nobody else."),
    ] = "None"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.pattern) && self.pattern == 'Custom') == (has(self.cel) || (has(self.edges) && self.edges.size() > 0))",
            "`edges` or `cel` must be set if, and only if, `pattern` is Custom",
            lambda t: (t.pattern is CoordinationPattern.CUSTOM) == (t.cel is not None or bool(t.edges)),
        ),
        Rule(
            "!has(self.cel) || !has(self.edges) || self.edges.size() == 0",
            "at most one of `edges` and `cel` may be set",
            lambda t: t.cel is None or not t.edges,
        ),
    )


class ThresholdAction(KubeModel):
    """What is told when a threshold is crossed."""

    action: DirectiveAction
    parameters: Annotated[
        dict[Annotated[str, Field(max_length=MAX_PARAMETER_NAME)], JsonValue],
        Field(max_length=MAX_PARAMETERS, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
    ] = {}
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.action in ['UpdateCommunication', 'AllocateResources'])",
            "`action` must not be UpdateCommunication or AllocateResources: a topology and an allocation decide on those",
            lambda a: a.action not in (DirectiveAction.UPDATE_COMMUNICATION, DirectiveAction.ALLOCATE_RESOURCES),
        ),
    )


class Threshold(KubeModel):
    """A bound on a metric, for how long, and what follows. An agent that does not report the metric stays as it is."""

    metric: Annotated[
        str, Field(max_length=253, description="`performance` is the primary metric; any other by its name.")
    ] = "performance"
    below: Annotated[Number | None, Field(description="A value below it is a breach.")] = None
    above: Annotated[Number | None, Field(description="A value above it is a breach.")] = None
    for_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="How long a breach, or its end, has to last before it counts.")
    ] = 30
    cooldown_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="The least time between two actions on one agent.")
    ] = 60
    on_breach: ThresholdAction
    on_recovery: Annotated[
        ThresholdAction | None, Field(description="Without it, what was told on the breach is taken back.")
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.below) || has(self.above)",
            "at least one of `below` and `above` must be set",
            lambda t: t.below is not None or t.above is not None,
        ),
        Rule(
            "!has(self.below) || !has(self.above) || self.below <= self.above",
            "`below` must not be greater than `above`: every value would be a breach",
            lambda t: t.below is None or t.above is None or t.below <= t.above,
        ),
    )


class ScheduleType(StrEnum):
    """How a rate goes from its start to its end."""

    CONSTANT = "Constant"
    LINEAR = "Linear"
    EXPONENTIAL = "Exponential"
    COSINE = "Cosine"


class Schedule(KubeModel):
    """How a rate changes with time, from the variable's creation on."""

    type: ScheduleType = ScheduleType.CONSTANT
    start: Annotated[NonNegative, Field(description="The rate at the beginning.")]
    end: Annotated[NonNegative | None, Field(description="The rate at the end, and from then on.")] = None
    over_seconds: Annotated[int, Field(ge=1, le=31_536_000, description="How long it takes to get there.")] = 3600
    steps: Annotated[int, Field(ge=1, le=1000, description="In how many steps; each is a decision of its own.")] = 10
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(!has(self.type) || self.type == 'Constant') == !has(self.end)",
            "`end` must be set if, and only if, `type` is not Constant",
            lambda s: (s.type is ScheduleType.CONSTANT) == (s.end is None),
        ),
        Rule(
            "!has(self.type) || self.type != 'Exponential' || (self.start > 0.0 && has(self.end) && self.end > 0.0)",
            "an Exponential schedule must start and end above 0",
            lambda s: s.type is not ScheduleType.EXPONENTIAL or (s.start > 0 and bool(s.end)),
        ),
    )


class LoadResponse(KubeModel):
    """How a rate yields to the load of the system, from 0 (idle) to 1 (full)."""

    target: Annotated[
        float, Field(ge=0, le=0.99, allow_inf_nan=False, description="Up to this load the rate is the scheduled one.")
    ] = 0.7
    floor: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="The share of it that is left at full load.")
    ] = 0.1


class Rate(KubeModel):
    """AdaptationRate: how the rate follows from time and load."""

    schedule: Annotated[Schedule | None, Field(description="Without it the rate is the variable's value.")] = None
    load: Annotated[LoadResponse | None, Field(description="Without it the load does not matter.")] = None


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


class VariableRecovery(StrEnum):
    """What a failed decision leaves in force."""

    RETRY = "Retry"
    KEEP_LAST = "KeepLast"
    FALLBACK = "Fallback"


class VariableEscalation(StrEnum):
    """What an exhausted failure budget of a variable does."""

    FREEZE = "Freeze"
    PAUSE = "Pause"
    ALERT = "Alert"


class VariableFaultTolerance(KubeModel):
    """What repeated failures of coordination lead to."""

    max_failures: Annotated[
        int, Field(ge=0, le=1000, description="The next failure inside the window exhausts the budget.")
    ] = 3
    failure_window_seconds: Annotated[int, Field(ge=1, le=604_800)] = 300
    recovery_strategy: Annotated[
        VariableRecovery,
        Field(
            description="What a failed decision leaves: the last value (KeepLast), the same and a new try with growing "
            "delays (Retry), or `fallbackValue` (Fallback)."
        ),
    ] = VariableRecovery.KEEP_LAST
    fallback_value: Annotated[JsonValue, Field(description="With Fallback; default: `value`.")] = None
    escalation_policy: Annotated[
        VariableEscalation,
        Field(
            description="What an exhausted budget does: no new decisions (Freeze), no decisions and no deliveries (Pause), both "
            "until the spec changes or the annotation `mabeam.dev/release` does; or only a Warning (Alert)."
        ),
    ] = VariableEscalation.ALERT


class StorageBackend(StrEnum):
    """Where a variable's history is kept."""

    STATUS = "Status"
    CONFIG_MAP = "ConfigMap"
    PROMETHEUS = "Prometheus"


class VariableTelemetry(KubeModel):
    """What history is kept, and where."""

    enabled: bool = True
    metrics: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...],
        Field(max_length=32, json_schema_extra=LIST_SET),
        Field(description="Of which metrics of the agents the mean is kept with each decision."),
    ] = ()
    collection_interval_seconds: Annotated[
        int, Field(ge=1, le=86_400, description="How often the means are taken between decisions (ConfigMap).")
    ] = 15
    storage_backend: Annotated[
        StorageBackend,
        Field(
            description="Status: the last ten decisions. ConfigMap: the last two hundred and the means in between, in "
            "`<variable>-mabeam-history`. Prometheus: the operator's own metrics."
        ),
    ] = StorageBackend.STATUS


class CelRule(KubeModel):
    """A guardrail in CEL, and what to say when it does not hold."""

    cel: Annotated[str, Field(max_length=1024, min_length=1)]
    message: LongText = ""


class Constraints(KubeModel):
    """What every decision must respect."""

    timeout_seconds: Annotated[
        int | None, Field(ge=1, le=86_400, description="Directive timeout; default 30 s (5 s for AllocateResources).")
    ] = None
    max_concurrent: Annotated[
        int | None,
        Field(ge=1, le=10_000, description="AgentSelection: how many agents are active at once; default: all."),
    ] = None
    rules_: Annotated[
        tuple[CelRule, ...] | None,
        Field(alias="rules", max_length=16, description="A value for which one of them is not true is not taken."),
    ] = None


BUDGET: Final = Field(max_length=32, json_schema_extra=list_map("resource"))
