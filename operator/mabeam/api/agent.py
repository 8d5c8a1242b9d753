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
    spelt_like,
)
from mabeam.api.module_pod import EnvFrom, EnvVar, Volume, VolumeMount
from mabeam.api.names import MAX_NAME_LENGTH, REPORT_PATH, REPORT_PORT
from mabeam.api.pod_template import PodTemplate

# The most replicas of one agent, from a spec or from a directive.
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
    """OTP supervisor strategies: which siblings a failure restarts too."""

    ONE_FOR_ONE = "OneForOne"
    ONE_FOR_ALL = "OneForAll"
    REST_FOR_ONE = "RestForOne"


class ShutdownPolicy(StrEnum):
    """Graceful: SIGTERM, then `timeoutSeconds`. Brutal: a grace of one second."""

    GRACEFUL = "Graceful"
    BRUTAL = "Brutal"


class RecoveryStrategy(StrEnum):
    """How a failed pod is replaced."""

    RESTART = "Restart"
    RESCHEDULE = "Reschedule"
    RESTORE_LAST_GOOD = "RestoreLastGood"


class ExitCodeAction(StrEnum):
    """What follows an abnormal exit with that code, instead of a counted restart; after Job's `podFailurePolicy`."""

    IGNORE = "Ignore"
    PARK = "Park"


class SidecarFailurePolicy(StrEnum):
    """Whether a container beside the main one that fails is the agent's failure."""

    IGNORE = "Ignore"
    FAIL = "Fail"


class MigrationStrategy(StrEnum):
    """Whether the old pod of a moving replica ends before the new one starts, or serves until the new one is ready."""

    BREAK_BEFORE_MAKE = "BreakBeforeMake"
    MAKE_BEFORE_BREAK = "MakeBeforeBreak"


class AgentEscalationPolicy(StrEnum):
    """What follows an exhausted budget. There is no Ignore: an ignored budget is no budget."""

    STOP = "Stop"
    ESCALATE = "Escalate"


class ReportSource(StrEnum):
    """From where an agent's reports are read."""

    POD = "Pod"
    PROMETHEUS = "Prometheus"
    NONE = "None"


class NetworkPriority(StrEnum):
    """Bandwidth of the pod, set by annotations on it."""

    LOW = "Low"
    NORMAL = "Normal"
    HIGH = "High"


class ConflictResolver(StrEnum):
    """How a conflict is resolved when two variables give one agent different directives."""

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
        Field(description="Factor between one delay and the next."),
    ] = 2
    max_seconds: Annotated[
        float, Field(ge=0, le=86_400, allow_inf_nan=False), Field(description="The longest delay.")
    ] = 60
    jitter: Annotated[
        float,
        Field(
            ge=0, le=1, allow_inf_nan=False, description="Share by which a delay varies at random, in either direction."
        ),
    ] = 0.2
    reset_after_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=86_400,
            allow_inf_nan=False,
            description="Seconds of healthy running after which the next restart is immediate again.",
        ),
    ] = 300


class ExitCodeRule(KubeModel):
    """The action for abnormal exits with these codes, when they are not ordinary failures."""

    codes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=255)], ...],
        Field(min_length=1, max_length=32, json_schema_extra=LIST_SET),
        Field(description="The exit codes that the rule is for."),
    ]
    action: Annotated[
        ExitCodeAction,
        Field(
            description="Ignore: restarted if the restart strategy says so, but not counted. Park: parked at once, "
            "because a restart would not help."
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
            description="The budget's sliding window, in seconds. Under Supervisors budgets multiply: in the worst "
            "case an agent restarts `maxFailures` times for each restart that the Supervisors above allow "
            "(`status.worstCaseRestarts`).",
        ),
    ] = 60
    recovery_strategy: Annotated[
        RecoveryStrategy,
        Field(
            description="How a failed pod is replaced. Restart: by the same pod. Reschedule: on another node. "
            "RestoreLastGood: without the directives that arrived since the agent was last healthy for "
            "`backoff.resetAfterSeconds`."
        ),
    ] = RecoveryStrategy.RESTART
    escalation_policy: Annotated[
        AgentEscalationPolicy,
        Field(
            description="What follows an exhausted budget. Stop: the agent is parked. Escalate: its Supervisor treats "
            "it as a failed child."
        ),
    ] = AgentEscalationPolicy.STOP
    backoff: Backoff = Backoff()
    probe_after_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=604_800,
            description="Seconds after which a parked agent is started once more on trial; one failure parks it again.",
        ),
    ] = None
    progress_timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=604_800,
            description="Seconds without reported progress, and without an announced wait, after which a process "
            "counts as failed (Hang).",
        ),
    ] = None
    exit_code_rules: Annotated[
        tuple[ExitCodeRule, ...],
        Field(
            max_length=16,
            description="Actions for abnormal exits by exit code; the first rule that lists the code applies.",
        ),
    ] = ()


class ResourceBounds(KubeModel):
    """The bounds within which a ResourceAllocation allocates one resource."""

    resource: Annotated[
        str,
        Field(max_length=63, min_length=1),
        Field(description="Name of the resource: cpu, memory, or one of your own."),
    ]
    min: Annotated[Quantity | None, Field(description="The least that one replica gets; default 0.")] = None
    max: Annotated[Quantity | None, Field(description="The most that one replica gets.")] = None
    weight: Annotated[NonNegative, Field(description="Weight of this agent when the resource is divided.")] = 1


ResourceList = Annotated[dict[Annotated[str, Field(max_length=253)], Quantity], Field(max_length=32)]


class AgentResources(KubeModel):
    """Requests and limits of the agent's main container."""

    requests: Annotated[ResourceList | None, Field(description="Requested amounts, as in a container of a Pod.")] = None
    limits: Annotated[ResourceList | None, Field(description="Limits, as in a container of a Pod.")] = None
    bounds: Annotated[
        tuple[ResourceBounds, ...] | None,
        Field(max_length=32, json_schema_extra=list_map("resource")),
        Field(
            description="Per resource: the least and the most that a ResourceAllocation may allocate, and the weight."
        ),
    ] = None
    cpu_weight: Annotated[
        float | None,
        Field(ge=0, le=10_000, allow_inf_nan=False),
        Field(
            description="Weight of this agent when a ResourceAllocation divides cpu; the kernel's cpu.weight follows "
            "from the request."
        ),
    ] = None
    network_priority: Annotated[
        NetworkPriority | None,
        Field(
            description="Bandwidth of its pods in each direction, if the network plug-in supports it: 10M, 100M or 1G."
        ),
    ] = None


class Interface(KubeModel):
    """One port on which the agent listens."""

    name: Annotated[str, Field(pattern=DNS_LABEL, max_length=15), Field(description="Name of the container port.")]
    port: Annotated[int, Field(ge=1, le=65_535), Field(description="Number of the container port.")]
    protocol: Annotated[Literal["TCP", "UDP", "SCTP"], Field(description="Protocol of the port.")] = "TCP"


class AgentCommunication(KubeModel):
    """How other pods reach the agent."""

    interfaces: Annotated[
        tuple[Interface, ...],
        Field(max_length=16, json_schema_extra=list_map("name")),
        Field(description="Ports on which the agent listens; they become ports of the main container."),
    ] = ()


class Reports(KubeModel):
    """Where and how often the agent's OpenMetrics report is read."""

    source: Annotated[
        ReportSource,
        Field(
            description="Pod: from the process, over HTTP. Prometheus: the same samples from the operator's "
            "Prometheus, which scraped them. None: not at all."
        ),
    ] = ReportSource.POD
    port: Annotated[
        int,
        Field(ge=1, le=65_535),
        Field(description="Port on which the process serves its report; passed to it as MABEAM_REPORT_PORT."),
    ] = REPORT_PORT
    path: Annotated[
        str, Field(max_length=256, pattern=r"^/[^?#\s]*$"), Field(description="HTTP path of the report.")
    ] = REPORT_PATH
    period_seconds: Annotated[
        int, Field(ge=1, le=3600), Field(description="Seconds between two reads of the report.")
    ] = 5
    query: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            description="PromQL for the source Prometheus, where the operator allows it; default: the contract's "
            "samples of the agent's pods. $namespace, $agent and $pod stand for the names, $pod for use "
            "with =~.",
        ),
    ] = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.query) || (has(self.source) && self.source == 'Prometheus')",
            "`query` goes with the source Prometheus",
            lambda reports: reports.query is None or reports.source is ReportSource.PROMETHEUS,
        ),
        # `port` also goes with Prometheus: it is passed to the process, and Prometheus scrapes it there.
        Rule(
            f"!has(self.path) || self.path == '{REPORT_PATH}' || !has(self.source) || self.source != 'Prometheus'",
            "`path` goes with the source Pod; with Prometheus it is in the scrape configuration",
            lambda reports: reports.path == REPORT_PATH or reports.source is not ReportSource.PROMETHEUS,
        ),
    )


class Preference(KubeModel):
    """The agent's standing offer for a variable; a preference in its report replaces it."""

    variable: Annotated[ObjectName, Field(description="The name of the variable.")]
    value: Annotated[JsonValue, Field(description="The offered value.")] = None
    weight: Annotated[
        float | None, Field(ge=0, le=1e9, allow_inf_nan=False), Field(description="Weight of the offer; default 1.")
    ] = None
    bid: Annotated[
        float | None,
        Field(ge=0, le=1e9, allow_inf_nan=False),
        Field(description="Bid in an auction."),
    ] = None
    vote: Annotated[
        Literal["Yes", "No", "Abstain"] | None, Field(description="Its vote on every proposal of the variable.")
    ] = None


_OF_MODULES: Final = frozenset({"env", "env_from", "volumes", "volume_mounts", "service_account_name"})


class AgentSpec(KubeModel):
    """What to run (`module` with `image`, or `template`), and by which of OTP's rules it is supervised."""

    role: Annotated[AgentRole, Field(description="Role of the agent; the process gets it as MABEAM_ROLE.")] = (
        AgentRole.EXECUTOR
    )
    custom_role: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$", max_length=63),
        Field(description="The name of the role when `role` is Custom."),
    ] = None
    capabilities: Annotated[
        tuple[Annotated[str, Field(max_length=63, min_length=1)], ...],
        Field(max_length=64, json_schema_extra=LIST_SET),
        Field(description="What the agent can do; an AgentSelection can require it."),
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
    env: Annotated[
        tuple[EnvVar, ...],
        Field(max_length=64, json_schema_extra=list_map("name")),
        Field(description="Environment variables for `module`; a Secret's key by `valueFrom.secretKeyRef`."),
    ] = ()
    env_from: Annotated[
        tuple[EnvFrom, ...],
        Field(
            max_length=16, description="Secrets and ConfigMaps whose keys become environment variables for `module`."
        ),
    ] = ()
    volumes: Annotated[
        tuple[Volume, ...],
        Field(max_length=16, json_schema_extra=list_map("name")),
        Field(description="Volumes of the pod for `module`."),
    ] = ()
    volume_mounts: Annotated[
        tuple[VolumeMount, ...],
        Field(max_length=32, json_schema_extra=list_map("mountPath")),
        Field(description="Where the `volumes` appear in the files of `module`."),
    ] = ()
    service_account_name: Annotated[
        ObjectName | None,
        Field(
            description="Service account of the pod for `module`; its token is mounted, unless the account says otherwise. "
            "Without one the pod has no token."
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
        Field(description="The Supervisor that lists this agent as a child; the agent waits until that one starts it."),
    ] = None
    restart_strategy: Annotated[
        RestartStrategy,
        Field(json_schema_extra={CRD_DEFAULT: True}),
        Field(
            description="Which exits are followed by a restart: every one (Permanent), abnormal ones (Transient), "
            "none (Temporary)."
        ),
    ] = RestartStrategy.PERMANENT
    normal_exit_codes: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...],
        Field(max_length=32, json_schema_extra=LIST_SET, description="Exit codes that are normal besides 0."),
    ] = ()
    start_timeout_seconds: Annotated[
        int,
        Field(ge=1, le=86_400),
        Field(
            description="Seconds for which a container may be kept from starting (its image or configuration) before "
            "that is a failure; from when it can start: scheduled, and its init containers done. What is still being "
            "pulled, and an init container that works, is no failure."
        ),
    ] = 300
    sidecar_failure: Annotated[
        SidecarFailurePolicy,
        Field(
            description="What follows when a container beside the main one ends abnormally, or cannot start. Ignore: "
            "the agent is not Ready, and says why. Fail: that is a counted failure of the agent (SidecarFailed, or "
            "ImageError)."
        ),
    ] = SidecarFailurePolicy.IGNORE
    supervision_strategy: Annotated[
        SupervisionStrategy,
        Field(
            description="Which other replicas a failure restarts: none (OneForOne), those with higher ordinals "
            "(RestForOne), all (OneForAll). The latter two start in order, each after the one before is "
            "ready, and stop in reverse."
        ),
    ] = SupervisionStrategy.ONE_FOR_ONE
    migration_strategy: Annotated[
        MigrationStrategy,
        Field(
            description="How a replica moves to another node. BreakBeforeMake: the old pod ends first. "
            "MakeBeforeBreak: it runs until the new one is ready; this needs several replicas that are "
            "OneForOne, for a single one must never run twice."
        ),
    ] = MigrationStrategy.BREAK_BEFORE_MAKE
    shutdown: Annotated[Shutdown, Field(description="How a pod is stopped.")] = Shutdown()
    fault_tolerance: Annotated[
        AgentFaultTolerance,
        Field(description="The restart budget: more than `maxFailures` within `failureWindowSeconds` parks the agent."),
    ] = AgentFaultTolerance()
    resources: Annotated[AgentResources | None, Field(description="Requests and limits of the main container.")] = None
    communication: Annotated[AgentCommunication | None, Field(description="The ports on which the agent listens.")] = (
        None
    )
    reports: Annotated[
        Reports | None, Field(description="From where the report is read; agents with `module` report by default.")
    ] = None
    preferences: Annotated[
        tuple[Preference, ...],
        Field(max_length=64, json_schema_extra=list_map("variable")),
        Field(
            description="The agent's standing offers for variables; a preference in its report replaces the one for "
            "that variable."
        ),
    ] = ()
    conflict_resolution: Annotated[
        str,
        Field(max_length=63, min_length=1),
        Field(
            description="Which directive is in force when variables contradict each other. PriorityBased: that of the "
            "higher priority. Compromise: the mean weighted by priority. LeaderElection: the choice of an "
            "elected agent. Or a plug-in's name."
        ),
    ] = ConflictResolver.PRIORITY_BASED
    rules: ClassVar[tuple[Rule, ...]] = (
        spelt_like("conflict_resolution", ConflictResolver),
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
            "has(self.module) || (!has(self.env) && !has(self.envFrom) && !has(self.volumes) && !has(self.volumeMounts)"
            " && !has(self.serviceAccountName))",
            "`env`, `envFrom`, `volumes`, `volumeMounts` and `serviceAccountName` go with `module`; in a `template` they belong "
            "to its pod",
            lambda spec: spec.module is not None or not (_OF_MODULES & spec.model_fields_set),
        ),
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "every entry of `volumeMounts` must name one of the `volumes`",
            lambda spec: {mount.name for mount in spec.volume_mounts} <= {volume.name for volume in spec.volumes},
        ),
        Rule(
            "(has(self.role) && self.role == 'Custom') == has(self.customRole)",
            "`customRole` must be set if, and only if, `role` is Custom",
            lambda spec: (spec.role is AgentRole.CUSTOM) == (spec.custom_role is not None),
        ),
    )

    @property
    def role_name(self) -> str:
        """The role as the process gets it: `customRole`, if set."""
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
        """The desired state after directives."""
        effective = self.status.effective
        return self.spec.desired_state if effective is None else effective.desired_state

    @property
    def wanted_replicas(self) -> int:
        """The desired number of replicas after directives."""
        effective = self.status.effective
        return self.spec.replicas if effective is None else effective.replicas
