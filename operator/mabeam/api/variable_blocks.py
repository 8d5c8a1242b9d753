"""The blocks of a variable's spec. The table CARRIERS in `variable.py` says which type may have which block."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from mabeam.api.agent import AgentRole, NetworkPriority, ResourceList
from mabeam.api.base import (
    LIST_SET,
    MEMBERS_WITHOUT_NULLS,
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
    spelt_like,
)
from mabeam.api.directive import MAX_PARAMETER_NAME, MAX_PARAMETERS, DirectiveAction


class CoordinationPattern(StrEnum):
    """Which agents communicate with which."""

    BROADCAST = "Broadcast"
    RING = "Ring"
    STAR = "Star"
    MESH = "Mesh"
    CUSTOM = "Custom"


class ConsensusProtocol(StrEnum):
    """When a proposal is accepted."""

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
    """Makes every change of the value subject to a vote."""

    protocol: Annotated[
        str,
        Field(max_length=63, min_length=1),
        Field(
            description="When a proposal is accepted. SimpleMajority: more than half of the agents vote Yes. "
            "WeightedVoting: more than half of the declared weight does. Unanimous: no vote is No. Or the "
            "name of a plug-in."
        ),
    ] = ConsensusProtocol.SIMPLE_MAJORITY
    quorum: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False),
        Field(description="The share of the agents that has to vote; with fewer votes the proposal is rejected."),
    ] = 0.5
    deadline_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description="Seconds to wait for votes. A vote ends earlier when the missing ones could not change the "
            "result.",
        ),
    ] = 30
    absent: Annotated[
        Literal["Abstain", "Yes", "No"], Field(description="How an agent that did not vote is counted.")
    ] = "Abstain"
    require_approval: Annotated[
        bool,
        Field(
            description="An accepted proposal also needs a human's approval: the annotation `mabeam.dev/approve` with "
            "the proposal's id."
        ),
    ] = False
    veto_roles: Annotated[
        tuple[AgentRole, ...],
        Field(max_length=6, json_schema_extra=LIST_SET),
        Field(description="A No of an agent in any of these roles rejects the proposal."),
    ] = ()
    rules: ClassVar[tuple[Rule, ...]] = (spelt_like("protocol", ConsensusProtocol),)


class Webhook(KubeModel):
    """A function called over HTTPS."""

    url: Annotated[
        str, Field(max_length=1024, pattern=r"^https://.+"), Field(description="Where the function is called, by POST.")
    ]
    ca_bundle: Annotated[
        str | None, Field(max_length=65_536, description="CA certificates (PEM) to trust instead of the system's.")
    ] = None
    timeout_seconds: Annotated[int, Field(ge=1, le=30), Field(description="Seconds to wait for the result.")] = 5


class PluginRef(KubeModel):
    """A function in the operator's image, by the name of its entry point."""

    name: Annotated[
        str, Field(max_length=63, min_length=1), Field(description="Name of the entry point in the operator's image.")
    ]


class Function(KubeModel):
    """Exactly one of `cel`, `webhook`, `plugin`."""

    cel: Annotated[
        str | None,
        Field(max_length=4096, min_length=1),
        Field(description="A CEL expression; its variables are listed in docs/coordination.md."),
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
    """Resources that taking part requires of each agent."""

    requests: Annotated[ResourceList | None, Field(description="The least that an agent needs to take part.")] = None
    limits: Annotated[ResourceList | None, Field(description="The most that an agent gets for taking part.")] = None
    cpu_weight: Annotated[
        float | None,
        Field(ge=0, le=10_000, allow_inf_nan=False),
        Field(description="Default weight of an agent when cpu is divided."),
    ] = None
    network_priority: Annotated[
        NetworkPriority | None, Field(description="Default bandwidth of an agent; a change replaces its pods.")
    ] = None


class TaskRequirements(KubeModel):
    """What an agent must have to be selected."""

    roles: Annotated[
        tuple[AgentRole, ...],
        Field(
            max_length=6,
            json_schema_extra=LIST_SET,
            description="Roles of which the agent must have one; empty: any role.",
        ),
    ] = ()
    capabilities: Annotated[
        tuple[Annotated[str, Field(max_length=63)], ...],
        Field(max_length=64, json_schema_extra=LIST_SET),
        Field(description="Capabilities that the agent must have, all of them."),
    ] = ()
    match_labels: Annotated[LabelMap | None, Field(description="Labels that an agent must have, all of them.")] = None
    min_performance: Annotated[
        Number | None, Field(description="The least reported performance; an agent that reports none is not selected.")
    ] = None
    hysteresis: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            allow_inf_nan=False,
            description="Share by which the score of an inactive agent must exceed that of an active one to replace "
            "it. A score between -0.5 and 0.5 counts as 0.5 here: with 0.1 the lead has to be 0.05 at least.",
        ),
    ] = 0.1
    inactive_policy: Annotated[
        Literal["Idle", "Stop"],
        Field(description="What happens to the others. Idle: they keep running without work. Stop: they are stopped."),
    ] = "Idle"


class BudgetItem(KubeModel):
    """The amount of one resource that is divided."""

    resource: Annotated[
        str,
        Field(max_length=63, min_length=1),
        Field(description="Name of the resource: cpu, memory, or one of your own, for example tokens."),
    ]
    amount: Annotated[Quantity, Field(description="The amount to divide among all selected agents.")]


class Edge(KubeModel):
    """One agent may open connections to another."""

    from_: Annotated[ObjectName, Field(alias="from"), Field(description="Name of the agent that opens the connection.")]
    to: Annotated[ObjectName, Field(description="Name of the agent that accepts it.")]


class Topology(KubeModel):
    """Which agents communicate with which."""

    pattern: Annotated[
        CoordinationPattern,
        Field(
            description="Broadcast: one to all. Ring: each to the next. Star: one to each and back. Mesh: all to all, "
            "up to 500 agents."
        ),
    ] = CoordinationPattern.BROADCAST
    edges: Annotated[
        tuple[Edge, ...],
        Field(
            max_length=1000,
            description="Custom: the allowed connections; parts without a connection between them are joined.",
        ),
    ] = ()
    cel: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Custom: a CEL expression, true when `from` may open connections to `to`; up to 300 agents.",
        ),
    ] = None
    enforcement: Annotated[
        Literal["None", "NetworkPolicy"],
        Field(description="NetworkPolicy: one policy for each agent allows connections from its peers only."),
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
    """The directive that follows when a threshold is crossed."""

    action: Annotated[DirectiveAction, Field(description="The directive to issue.")]
    parameters: Annotated[
        dict[Annotated[str, Field(max_length=MAX_PARAMETER_NAME)], JsonValue],
        Field(max_length=MAX_PARAMETERS, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(description="Parameters of the directive; docs/coordination.md lists those of each action."),
        MEMBERS_WITHOUT_NULLS,
    ] = {}
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(self.action in ['UpdateCommunication', 'AllocateResources'])",
            "`action` must not be UpdateCommunication or AllocateResources: a topology and an allocation decide those",
            lambda a: a.action not in (DirectiveAction.UPDATE_COMMUNICATION, DirectiveAction.ALLOCATE_RESOURCES),
        ),
    )


class Threshold(KubeModel):
    """A bound on a metric and what follows a breach. Without a report of the metric an agent's state does not change."""

    metric: Annotated[
        str, Field(max_length=253, description="Name of a reported metric; `performance` is the primary one.")
    ] = "performance"
    below: Annotated[Number | None, Field(description="A value below it is a breach.")] = None
    above: Annotated[Number | None, Field(description="A value above it is a breach.")] = None
    for_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="Seconds that a breach, or its end, has to last before it counts.")
    ] = 30
    cooldown_seconds: Annotated[
        int, Field(ge=0, le=86_400, description="The least number of seconds between two actions on one agent.")
    ] = 60
    on_breach: Annotated[ThresholdAction, Field(description="The directive that follows a breach.")]
    on_recovery: Annotated[
        ThresholdAction | None,
        Field(
            description="The directive that follows the end of a breach; without it, that of the breach is withdrawn."
        ),
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
    """The shape of a rate's way from `start` to `end`."""

    CONSTANT = "Constant"
    LINEAR = "Linear"
    EXPONENTIAL = "Exponential"
    COSINE = "Cosine"


class Schedule(KubeModel):
    """How a rate changes with time, beginning at the variable's creation."""

    type: Annotated[ScheduleType, Field(description="Shape of the way from `start` to `end`.")] = ScheduleType.CONSTANT
    start: Annotated[NonNegative, Field(description="The rate at the beginning.")]
    end: Annotated[NonNegative | None, Field(description="The rate at the end, and from then on.")] = None
    over_seconds: Annotated[int, Field(ge=1, le=31_536_000, description="Seconds from `start` to `end`.")] = 3600
    steps: Annotated[int, Field(ge=1, le=1000, description="Number of steps; each is a decision of its own.")] = 10
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
    """How a rate falls with the load of the system, from 0 (idle) to 1 (full)."""

    target: Annotated[
        float, Field(ge=0, le=0.99, allow_inf_nan=False, description="Load up to which the rate is the scheduled one.")
    ] = 0.7
    floor: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="Share of the scheduled rate at full load.")
    ] = 0.1


class Rate(KubeModel):
    """AdaptationRate: the rate as a function of time and load."""

    schedule: Annotated[
        Schedule | None, Field(description="How the rate changes with time; without it, the rate is `value`.")
    ] = None
    load: Annotated[
        LoadResponse | None, Field(description="How the rate falls under load; without it, the load has no effect.")
    ] = None


class Objective(KubeModel):
    """The goal of adaptation."""

    type: Annotated[Literal["Maximize", "Minimize"], Field(description="Not supported yet.")] = "Maximize"
    metric: Annotated[str, Field(max_length=253), Field(description="Not supported yet.")] = "performance"
    goal: Annotated[Number | None, Field(description="Not supported yet.")] = None


class Rollback(KubeModel):
    """When adaptation returns to the last good value."""

    drops_by: Annotated[NonNegative, Field(description="Not supported yet.")]
    within_seconds: Annotated[int, Field(ge=1, le=86_400), Field(description="Not supported yet.")] = 60


class Adaptation(KubeModel):
    """How the value adapts to what the agents report."""

    strategy: Annotated[AdaptationStrategy, Field(description="Not supported yet.")] = AdaptationStrategy.REACTIVE
    objective: Annotated[Objective | None, Field(description="Not supported yet.")] = None
    rate: Annotated[NonNegative | None, Field(description="Not supported yet.")] = None
    max_step: Annotated[NonNegative | None, Field(description="Not supported yet.")] = None
    cooldown_seconds: Annotated[int, Field(ge=0, le=86_400), Field(description="Not supported yet.")] = 30
    tolerance: Annotated[NonNegative | None, Field(description="Not supported yet.")] = None
    canary: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False), Field(description="Not supported yet.")] = (
        None
    )
    rollback: Annotated[Rollback | None, Field(description="Not supported yet.")] = None


class VariableRecovery(StrEnum):
    """What is in force after a failed decision."""

    RETRY = "Retry"
    KEEP_LAST = "KeepLast"
    FALLBACK = "Fallback"


class VariableEscalation(StrEnum):
    """What follows the exhausted failure budget of a variable."""

    FREEZE = "Freeze"
    PAUSE = "Pause"
    ALERT = "Alert"


class VariableFaultTolerance(KubeModel):
    """What follows repeated failures of coordination."""

    max_failures: Annotated[
        int, Field(ge=0, le=1000, description="The next failure inside the window exhausts the budget.")
    ] = 3
    failure_window_seconds: Annotated[
        int, Field(ge=1, le=604_800), Field(description="The budget's sliding window, in seconds.")
    ] = 300
    recovery_strategy: Annotated[
        VariableRecovery,
        Field(
            description="What is in force after a failed decision. KeepLast: the last value. Retry: the last value, "
            "and new attempts with growing delays. Fallback: `fallbackValue`."
        ),
    ] = VariableRecovery.KEEP_LAST
    fallback_value: Annotated[JsonValue, Field(description="The value for Fallback; default: `value`.")] = None
    escalation_policy: Annotated[
        VariableEscalation,
        Field(
            description="What follows an exhausted budget. Freeze: no new decisions. Pause: neither decisions nor "
            "deliveries. Both last until the spec or the annotation `mabeam.dev/release` changes. Alert: "
            "only a Warning."
        ),
    ] = VariableEscalation.ALERT


class StorageBackend(StrEnum):
    """Where a variable's history is kept."""

    STATUS = "Status"
    CONFIG_MAP = "ConfigMap"
    PROMETHEUS = "Prometheus"


class VariableTelemetry(KubeModel):
    """What history is kept, and where."""

    enabled: Annotated[bool, Field(description="Whether a history is kept at all.")] = True
    metrics: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...],
        Field(max_length=32, json_schema_extra=LIST_SET),
        Field(description="Metrics of the agents whose mean is stored with each decision."),
    ] = ()
    collection_interval_seconds: Annotated[
        int,
        Field(
            ge=1, le=86_400, description="Seconds between two samples of the means between decisions (ConfigMap only)."
        ),
    ] = 15
    storage_backend: Annotated[
        StorageBackend,
        Field(
            description="Status: the last ten decisions. ConfigMap: the last 200 decisions, and samples of the means "
            "in between, in `<variable>-mabeam-history`. Prometheus: the operator's own metrics."
        ),
    ] = StorageBackend.STATUS


class CelRule(KubeModel):
    """A guardrail: a CEL expression that every value has to satisfy."""

    cel: Annotated[
        str,
        Field(max_length=1024, min_length=1),
        Field(description="A CEL expression over the value; its variables are listed in docs/coordination.md."),
    ]
    message: Annotated[LongText, Field(description="The message when the expression is not true.")] = ""


class Constraints(KubeModel):
    """What every decision has to satisfy."""

    timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=86_400,
            description="Seconds until a directive without confirmation is expired; default 30 (5 for "
            "AllocateResources).",
        ),
    ] = None
    max_concurrent: Annotated[
        int | None,
        Field(ge=1, le=10_000, description="AgentSelection: the most agents that are active at once; default: all."),
    ] = None
    rules_: Annotated[
        tuple[CelRule, ...] | None,
        Field(
            alias="rules",
            max_length=16,
            description="Guardrails: a value for which one of them is not true is refused.",
        ),
    ] = None


BUDGET: Final = Field(max_length=32, json_schema_extra=list_map("resource"))
