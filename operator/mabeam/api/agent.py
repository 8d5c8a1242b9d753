"""The Agent kind: one supervised worker, one pod per replica."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from mabeam.api.agent_status import AgentStatus, DesiredState
from mabeam.api.base import (
    CRD_DEFAULT,
    DNS_LABEL,
    LIST_SET,
    JsonValue,
    KubeModel,
    NonNegative,
    ObjectMeta,
    ObjectName,
    Quantity,
    Rule,
    list_map,
)
from mabeam.api.names import MAX_NAME_LENGTH, REPORT_PATH, REPORT_PORT
from mabeam.api.pod_template import PodTemplate

# No more pods of one agent, whoever asks for them.
MAX_REPLICAS: Final = 100


class AgentRole(StrEnum):
    """What an agent is for; Custom is named by `customRole`."""

    COORDINATOR = "Coordinator"
    EXECUTOR = "Executor"
    EVALUATOR = "Evaluator"
    OPTIMIZER = "Optimizer"
    MONITOR = "Monitor"
    CUSTOM = "Custom"


class RestartStrategy(StrEnum):
    """OTP restart types: which exits are followed by a restart."""

    PERMANENT = "Permanent"
    TRANSIENT = "Transient"
    TEMPORARY = "Temporary"


class SupervisionStrategy(StrEnum):
    """OTP supervisor strategies: whom a failure takes along."""

    ONE_FOR_ONE = "OneForOne"
    ONE_FOR_ALL = "OneForAll"
    REST_FOR_ONE = "RestForOne"


class ShutdownPolicy(StrEnum):
    """Graceful: SIGTERM, then `timeoutSeconds`. Brutal: a grace of one second."""

    GRACEFUL = "Graceful"
    BRUTAL = "Brutal"


class RecoveryStrategy(StrEnum):
    """How a failed pod comes back."""

    RESTART = "Restart"
    RESCHEDULE = "Reschedule"
    RESTORE_LAST_GOOD = "RestoreLastGood"


class ExitCodeAction(StrEnum):
    """What an abnormal exit with that code leads to, instead of a counted restart; after Job's `podFailurePolicy`."""

    IGNORE = "Ignore"
    PARK = "Park"


class MigrationStrategy(StrEnum):
    """Whether the old pod of a moving replica ends before the new one starts, or serves until the new one is ready."""

    BREAK_BEFORE_MAKE = "BreakBeforeMake"
    MAKE_BEFORE_BREAK = "MakeBeforeBreak"


class AgentEscalationPolicy(StrEnum):
    """What an exhausted budget does. Ignore is not offered: a budget that is ignored is none."""

    STOP = "Stop"
    ESCALATE = "Escalate"


class ReportSource(StrEnum):
    """Where an agent's reports are read."""

    POD = "Pod"
    PROMETHEUS = "Prometheus"
    NONE = "None"


class NetworkPriority(StrEnum):
    """Becomes bandwidth annotations on the pod."""

    LOW = "Low"
    NORMAL = "Normal"
    HIGH = "High"


class ConflictResolver(StrEnum):
    """Which variable an agent obeys when two tell it different things."""

    PRIORITY_BASED = "PriorityBased"
    COMPROMISE = "Compromise"
    LEADER_ELECTION = "LeaderElection"


class Shutdown(KubeModel):
    """How a pod is stopped (OTP's `shutdown`)."""

    policy: ShutdownPolicy = ShutdownPolicy.GRACEFUL
    timeout_seconds: Annotated[
        int, Field(ge=1, le=86_400, description="Grace between SIGTERM and SIGKILL; OTP's default for a worker is 5 s.")
    ] = 5


class Backoff(KubeModel):
    """The delay before a restart: none after a healthy spell, then exponential with jitter, capped."""

    initial_seconds: Annotated[
        float,
        Field(ge=0, le=3600, allow_inf_nan=False),
        Field(description="The delay of the second restart; the first is immediate."),
    ] = 1
    factor: Annotated[
        float,
        Field(ge=1, le=100, allow_inf_nan=False),
        Field(description="By how much each delay is longer than the one before."),
    ] = 2
    max_seconds: Annotated[
        float, Field(ge=0, le=86_400, allow_inf_nan=False), Field(description="The longest delay.")
    ] = 60
    jitter: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="Share of the delay it may vary by, either way.")
    ] = 0.2
    reset_after_seconds: Annotated[
        float,
        Field(
            ge=0, le=86_400, allow_inf_nan=False, description="Health after which the next restart is immediate again."
        ),
    ] = 300


class ExitCodeRule(KubeModel):
    """What exits with these codes mean, when that is not a failure like any other."""

    codes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(min_length=1, max_length=32, json_schema_extra=LIST_SET)
    ]
    action: Annotated[
        ExitCodeAction,
        Field(
            description="Ignore: restarted, if the restart strategy restarts, but not counted. Park: no restart would help, "
            "so the budget is spent at once."
        ),
    ]


class AgentFaultTolerance(KubeModel):
    """The restart budget and what happens when it is spent (OTP's intensity and period)."""

    max_failures: Annotated[
        int, Field(ge=0, le=200, description="The next counted failure inside the window exhausts the budget.")
    ] = 3
    failure_window_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=604_800,
            description="The budget's sliding window. Under Supervisors budgets multiply: at worst an agent restarts "
            "`maxFailures` times for each restart that the Supervisors above allow (`worstCaseRestarts` in their status).",
        ),
    ] = 60
    recovery_strategy: Annotated[
        RecoveryStrategy,
        Field(
            description="How a failed pod comes back: as it was, away from the node on which it failed, or without the "
            "directives that came since the agent was last healthy for `backoff.resetAfterSeconds`."
        ),
    ] = RecoveryStrategy.RESTART
    escalation_policy: Annotated[
        AgentEscalationPolicy,
        Field(description="What an exhausted budget does: park the agent, or be a death for its Supervisor to handle."),
    ] = AgentEscalationPolicy.STOP
    backoff: Backoff = Backoff()
    probe_after_seconds: Annotated[
        int | None,
        Field(
            ge=1, le=604_800, description="A parked agent is tried once more after so long; one failure parks it again."
        ),
    ] = None
    progress_timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=604_800,
            description="A process whose reported progress stands still for so long, and that does not wait, has failed (Hang).",
        ),
    ] = None
    exit_code_rules: Annotated[
        tuple[ExitCodeRule, ...],
        Field(
            max_length=16,
            description="Abnormal exits that are judged by their code; the first rule that names it holds.",
        ),
    ] = ()


class ResourceBounds(KubeModel):
    """What ResourceAllocation may do with one resource."""

    resource: Annotated[str, Field(max_length=63, min_length=1)]
    min: Annotated[Quantity | None, Field(description="The least one replica may get; default 0.")] = None
    max: Annotated[Quantity | None, Field(description="The most one replica may get.")] = None
    weight: Annotated[NonNegative, Field(description="Its share against the others'.")] = 1


ResourceList = Annotated[dict[Annotated[str, Field(max_length=253)], Quantity], Field(max_length=32)]


class AgentResources(KubeModel):
    """Requests and limits of the agent's main container."""

    requests: ResourceList | None = None
    limits: ResourceList | None = None
    bounds: Annotated[
        tuple[ResourceBounds, ...] | None, Field(max_length=32, json_schema_extra=list_map("resource"))
    ] = None
    cpu_weight: Annotated[
        float | None,
        Field(ge=0, le=10_000, allow_inf_nan=False),
        Field(
            description="Its weight where a ResourceAllocation divides cpu; the kubelet's cpu.weight follows the request."
        ),
    ] = None
    network_priority: Annotated[
        NetworkPriority | None,
        Field(description="Bandwidth of its pods, where the network plug-in heeds it: 10M, 100M or 1G each way."),
    ] = None


class Interface(KubeModel):
    """One port on which the agent can be spoken to."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=15)]
    port: Annotated[int, Field(ge=1, le=65_535)]
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class AgentCommunication(KubeModel):
    """How others reach the agent."""

    interfaces: Annotated[tuple[Interface, ...], Field(max_length=16, json_schema_extra=list_map("name"))] = ()


class Reports(KubeModel):
    """Where and how often the agent's OpenMetrics report is read."""

    source: Annotated[
        ReportSource,
        Field(
            description="Pod: the process's own page. Prometheus: the same samples in the operator's Prometheus, which "
            "scraped them. None: nowhere."
        ),
    ] = ReportSource.POD
    port: Annotated[int, Field(ge=1, le=65_535)] = REPORT_PORT
    path: Annotated[str, Field(max_length=256, pattern=r"^/[^?#\s]*$")] = REPORT_PATH
    period_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    query: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            description="PromQL for the source Prometheus, where the operator allows it; default: the contract's samples of "
            "the agent's pods. $namespace, $agent and $pod stand for the names, $pod for use with =~.",
        ),
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.query) || (has(self.source) && self.source == 'Prometheus')",
            "`query` goes with the source Prometheus",
            lambda reports: reports.query is None or reports.source is ReportSource.PROMETHEUS,
        ),
        # `port` is the process's own affair too: it is told to the pod, and Prometheus scrapes it there.
        Rule(
            f"!has(self.path) || self.path == '{REPORT_PATH}' || !has(self.source) || self.source != 'Prometheus'",
            "`path` goes with the source Pod; with Prometheus it is in the scrape configuration",
            lambda reports: reports.path == REPORT_PATH or reports.source is not ReportSource.PROMETHEUS,
        ),
    )


class Preference(KubeModel):
    """What the agent wants of a variable, as long as its own report does not say otherwise."""

    variable: Annotated[ObjectName, Field(description="The name of the variable.")]
    value: Annotated[JsonValue, Field(description="The value the agent would choose.")] = None
    weight: Annotated[
        float | None, Field(ge=0, le=1e9, allow_inf_nan=False), Field(description="How much that counts; default 1.")
    ] = None
    bid: Annotated[
        float | None,
        Field(ge=0, le=1e9, allow_inf_nan=False),
        Field(description="What the agent would pay for it in an auction."),
    ] = None
    vote: Annotated[
        Literal["Yes", "No", "Abstain"] | None, Field(description="Its vote on every proposal of the variable.")
    ] = None


class AgentSpec(KubeModel):
    """What the user wants: exactly one of `module` (with `image`) or `template`, and by which OTP rules it is supervised."""

    role: Annotated[AgentRole, Field(description="What the agent is for; told to the process.")] = AgentRole.EXECUTOR
    custom_role: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$", max_length=63),
        Field(description="The name of the role when `role` is Custom."),
    ] = None
    capabilities: Annotated[
        tuple[Annotated[str, Field(max_length=63, min_length=1)], ...],
        Field(max_length=64, json_schema_extra=LIST_SET),
        Field(description="What the agent can do, for selection to ask for."),
    ] = ()
    module: Annotated[
        str | None,
        Field(
            max_length=253,
            pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
            description="`package.module:Class`, run by the agent SDK in `image`.",
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(
            max_length=512,
            min_length=1,
            description="The image for `module`; default: the operator's stock runner image.",
        ),
    ] = None
    template: Annotated[PodTemplate | None, Field(description="A whole pod template, instead of `module`.")] = None
    replicas: Annotated[
        int,
        Field(ge=0, le=MAX_REPLICAS, json_schema_extra={CRD_DEFAULT: True}),
        Field(description="How many pods; each ordinal is supervised on its own."),
    ] = 1
    desired_state: Annotated[
        DesiredState, Field(description="Stopped ends the pods; Running again is a fresh start.")
    ] = DesiredState.RUNNING
    supervisor: Annotated[
        ObjectName | None,
        Field(description="The Supervisor that lists the agent as a child: hold until it says start."),
    ] = None
    restart_strategy: Annotated[
        RestartStrategy,
        Field(json_schema_extra={CRD_DEFAULT: True}),
        Field(
            description="Which exits are followed by a restart: all (Permanent), abnormal ones (Transient), none (Temporary)."
        ),
    ] = RestartStrategy.PERMANENT
    normal_exit_codes: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...],
        Field(max_length=32, json_schema_extra=LIST_SET, description="Exit codes that are normal besides 0."),
    ] = ()
    start_timeout_seconds: Annotated[
        int, Field(ge=1, le=86_400), Field(description="From being scheduled to being started; later is a failure.")
    ] = 300
    supervision_strategy: Annotated[
        SupervisionStrategy,
        Field(
            description="Whom a failing replica takes along: nobody, those after it, all. The latter two start in order, "
            "each when the one before is ready, and stop in reverse."
        ),
    ] = SupervisionStrategy.ONE_FOR_ONE
    migration_strategy: Annotated[
        MigrationStrategy,
        Field(
            description="How a replica moves to another node: the old pod ends first, or (MakeBeforeBreak) serves until the "
            "new one is ready. The latter needs several replicas that are OneForOne: a single one must never run twice."
        ),
    ] = MigrationStrategy.BREAK_BEFORE_MAKE
    shutdown: Annotated[Shutdown, Field(description="How a pod is stopped.")] = Shutdown()
    fault_tolerance: Annotated[
        AgentFaultTolerance,
        Field(description="The restart budget: more than `maxFailures` within `failureWindowSeconds` parks the agent."),
    ] = AgentFaultTolerance()
    resources: Annotated[AgentResources | None, Field(description="Requests and limits of the main container.")] = None
    communication: Annotated[
        AgentCommunication | None, Field(description="The ports on which the agent can be spoken to.")
    ] = None
    reports: Annotated[
        Reports | None, Field(description="Where the process answers; `module` agents report by default.")
    ] = None
    preferences: Annotated[
        tuple[Preference, ...],
        Field(max_length=64, json_schema_extra=list_map("variable")),
        Field(description="What the agent wants of variables; its own reports, when present, win."),
    ] = ()
    conflict_resolution: Annotated[
        str,
        Field(max_length=63, min_length=1),
        Field(
            description="What is obeyed when variables say different things: the one of higher priority, a mean weighted by "
            "priority, what the elected leader of their agents wants; or a plug-in."
        ),
    ] = ConflictResolver.PRIORITY_BASED
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.module) != has(self.template)",
            "exactly one of `module` (a class for the agent SDK) or `template` (a pod template) must be set",
            lambda spec: (spec.module is None) != (spec.template is None),
        ),
        Rule(
            "!has(self.image) || has(self.module)",
            "`image` goes with `module`; in a `template` the image belongs to its containers",
            lambda spec: spec.image is None or spec.module is not None,
        ),
        Rule(
            "(has(self.role) && self.role == 'Custom') == has(self.customRole)",
            "`customRole` must be set if, and only if, `role` is Custom",
            lambda spec: (spec.role is AgentRole.CUSTOM) == (spec.custom_role is not None),
        ),
    )

    @property
    def role_name(self) -> str:
        """The role as agents are told it."""
        return self.custom_role or self.role.value


class Agent(KubeModel):
    """One supervised worker (one pod per replica), restarted by Erlang/OTP rules within a failure budget."""

    api_version: Literal["mabeam.dev/v1alpha1"] = "mabeam.dev/v1alpha1"
    kind: Literal["Agent"] = "Agent"
    metadata: ObjectMeta
    spec: AgentSpec
    status: AgentStatus = AgentStatus()
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            f"`metadata.name` must be at most {MAX_NAME_LENGTH} characters: pod names and labels derive from it",
            lambda agent: len(agent.metadata.name) <= MAX_NAME_LENGTH,
        ),
        Rule(
            "!self.metadata.name.contains('.')",
            "`metadata.name` must not contain a dot: pod host names derive from it",
            lambda agent: "." not in agent.metadata.name,
        ),
    )

    @property
    def wanted_state(self) -> DesiredState:
        """Whether it is to run, directives counted in."""
        effective = self.status.effective
        return self.spec.desired_state if effective is None else effective.desired_state

    @property
    def wanted_replicas(self) -> int:
        """How many replicas it is to have, directives counted in."""
        effective = self.status.effective
        return self.spec.replicas if effective is None else effective.replicas
