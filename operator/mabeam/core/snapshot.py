"""Snapshots: the facts that one decision may use, parsed where they enter and frozen.

`state/observe.py` alone builds them, each with every fact; the core never asks for more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from mabeam import __version__
from mabeam.api.agent import Agent, AgentSpec
from mabeam.api.base import JsonDict
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.functions import FunctionCall, FunctionResult
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report

# --- facts about the objects in the cluster ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """The state of a pod's main container in the pod's status, `unknown` while the kubelet has reported none."""

    state: Literal["unknown", "waiting", "running", "terminated"] = "unknown"
    reason: str | None = None  # of waiting or terminated, such as CrashLoopBackOff or OOMKilled
    message: str | None = None  # when terminated: the termination message that the process wrote
    exit_code: int | None = None  # set when terminated
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OtherContainer:
    """A container of a pod beside the main one."""

    name: str
    # `init`: must end before the main one starts. `native`: a native sidecar (KEP-753), an init container that the kubelet
    # keeps running and ends after the others. `regular`: runs beside the main one and is not restarted.
    role: Literal["init", "native", "regular"] = "regular"
    image: str | None = None
    now: ContainerFacts = ContainerFacts()
    last_end: ContainerFacts | None = None  # how its last process ended, if the kubelet has restarted it since
    ready: bool = False


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod of the agent, as proven by the uid in its controller reference; an orphan has the agent's labels instead."""

    name: str
    uid: str
    ordinal: int  # which replica of the agent, counted from 0
    incarnation: int  # which start of this ordinal, counted from 1
    phase: str = "Pending"
    reason: str | None = None  # status.reason, such as Evicted
    message: str | None = None
    node: str | None = None
    ip: str | None = None
    host_network: bool = False
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    unschedulable: str | None = None  # the scheduler's message, None while it has not failed
    deleting: bool = False  # has a deletionTimestamp
    deletion_requested_at: datetime | None = None  # the deletionTimestamp minus the grace period
    ready: bool = False
    main: ContainerFacts = ContainerFacts()
    others: tuple[OtherContainer, ...] = ()  # init containers in their order, then those beside the main one
    restarts_in_place: bool = (
        False  # whether the kubelet may restart a container that ended (KEP-5307): the end is none
    )
    containers_ready_at: datetime | None = None  # since when sandbox, network and volumes are there (KEP-3085)
    grace_seconds: int | None = None  # terminationGracePeriodSeconds
    disruption: str | None = None  # reason of the condition DisruptionTarget while it is True
    disrupted_at: datetime | None = None
    spec_hash: str | None = None  # of the pod template that the pod was created from
    generation: int = 0  # of the directives that its process acknowledged, 0 for none
    nudge: str | None = (
        None  # the generation that was last written to the pod to make its kubelet re-read the ConfigMap
    )
    reported_failed: str | None = None  # value of the annotation mabeam.dev/failed: an outside observer's reason
    main_name: str = ""  # name of the main container
    main_image: str | None = None
    has_start_hook: bool = False  # whether the main container has a postStart hook, which may block its start
    # Container name → the facts with that container as the main one. Empty in a pod that says itself which one it is.
    candidates: Mapping[str, "PodFacts"] = field(default_factory=dict)
    resources: JsonDict | None = None  # requests and limits in the main container's spec
    actual: JsonDict | None = None  # requests and limits that the kubelet reports in effect (KEP-1287)
    resize: Literal["Infeasible", "Deferred", "InProgress"] | None = None  # None: no resize is pending
    resize_message: str | None = None
    marked_ended: bool = False  # has the label mabeam.dev/ended
    orphaned: bool = False  # it lost its controller: the agent takes it over


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Another agent as its peers need to know it."""

    role: str = ""
    addresses: tuple[str, ...] = ()  # IPs of its ready pods


@dataclass(frozen=True, slots=True)
class Progress:
    """How long a process's progress counter has stood still."""

    since: datetime  # when this operator first saw the present count, without the time in which it read nothing
    waiting_until: datetime | None = None  # end of a wait that the process announced itself
    read_at: datetime | None = None  # of the last report that was read; None: just now


@dataclass(frozen=True, slots=True)
class ConfigMapFacts:
    """A ConfigMap of directives or of a record."""

    name: str
    uid: str
    resource_version: str
    owned: bool  # by the object that the pass decides about: only then the operator may write it
    document: JsonDict | None = None  # the parsed JSON, None when it cannot be parsed

    @property
    def generation(self) -> int:
        """The generation in the document; 0 when it cannot be read."""
        value = (self.document or {}).get("generation", 0)
        return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class NetworkPolicyFacts:
    """The NetworkPolicy of an agent."""

    name: str
    uid: str
    resource_version: str
    owned: bool  # by the agent: only then the operator may write it
    content_hash: str = ""  # of the parts of its spec that the operator writes
    selector: JsonDict = field(default_factory=dict)  # its `podSelector`


@dataclass(frozen=True, slots=True)
class PodRefused:
    """The apiserver's refusal of the agent's last pod."""

    message: str  # the apiserver's
    retry_in: float | None = None  # seconds until the create is tried again; None: never for this spec
    pod: str = ""  # the name of the refused pod
    of_server: bool = False  # the server failed (5xx, a webhook that is down): not the fault of the pod

    @property
    def is_retry_due(self) -> bool:
        """Whether the create is to be tried again now."""
        return self.retry_in is not None and self.retry_in <= 0


@dataclass(frozen=True, slots=True)
class WriteRefused:
    """The apiserver's refusal to store a ConfigMap or a NetworkPolicy."""

    message: str  # the apiserver's, or that the name belongs to another owner
    retry_in: float = 0.0  # seconds until the write is tried again

    @property
    def is_retry_due(self) -> bool:
        """Whether the write is to be tried again now."""
        return self.retry_in <= 0


@dataclass(frozen=True, slots=True)
class ResizeRefused:
    """The apiserver's refusal to give a pod other amounts."""

    resources: JsonDict  # that were asked for, of the main container
    message: str  # the apiserver's
    is_retry_due: bool = False  # what refused it may have changed: it is to be asked for again


@dataclass(frozen=True, slots=True)
class PodDefaults:
    """What the operator's settings add to a `module` pod that names no image."""

    image: str = f"mabeam:{__version__}"
    image_pull_policy: str = "IfNotPresent"


# --- the parent's instruction -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoParent:
    """The object names no Supervisor and none lists it: it runs unsupervised."""


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """A Supervisor is to start the object and has given it no instruction yet: the object does not run."""

    whom: str  # noun phrase for messages: "Supervisor s", or "Supervisor s, which does not exist"


@dataclass(frozen=True, slots=True)
class Instructed:
    """The parent Supervisor's status instructs the object to start or to stop."""

    supervision: Supervision  # the parent's name, its intent, and the token of the start it is about
    permanent_stop: str | None = None  # why no start can follow this stop, for messages; None: one can


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The parent that gave the object its last instruction is gone or lists it no more: it keeps running unsupervised."""

    supervision: Supervision  # the last instruction, its intent replaced by Start
    because: str  # noun phrase for messages: "Supervisor s, which does not exist"


ParentInstruction = NoParent | WaitingFor | Instructed | Orphaned


def supervision_of(parent: ParentInstruction) -> Supervision | None:
    """The instruction to act on, None when there is none."""
    return parent.supervision if isinstance(parent, Instructed | Orphaned) else None


def held_by(parent: ParentInstruction) -> str | None:
    """The noun phrase for the parent that keeps the object from running, None when the object may run."""
    match parent:
        case WaitingFor(whom):
            return whom
        case Instructed(supervision) if supervision.intent is Intent.STOP:
            return f"Supervisor {supervision.supervisor}"
        case _:
            return None


def permanent_stop(parent: ParentInstruction) -> str | None:
    """Why the parent will never start the object again, None when it may."""
    return parent.permanent_stop if isinstance(parent, Instructed) else None


# --- snapshots --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AgentSnapshot:
    """All that one pass over an Agent may use."""

    agent: Agent
    pods: tuple[PodFacts, ...] = ()
    config_map: ConfigMapFacts | None = None  # that of its directives
    variables: tuple[OrchestrationVariable, ...] = ()  # those of its namespace that select it
    reports: Mapping[str, Report] = field(default_factory=dict)  # pod name → latest report
    progress: Mapping[str, Progress] = field(default_factory=dict)  # pod name → how long without progress
    unreadable: Mapping[str, UnreadableReport] = field(
        default_factory=dict
    )  # pod name → why it has not been read lately
    namesake_pods: tuple[
        PodFacts, ...
    ] = ()  # named for the agent, and owned by another uid: a deleted Agent's of its name
    # Names of all nodes that are not known to be gone, also of those that no watch has reported; None: not observed.
    nodes: frozenset[str] | None = None
    cordoned: frozenset[str] = frozenset()  # names of the nodes that take no new pods, or are being drained or deleted
    unreachable: frozenset[str] = frozenset()  # names of the nodes whose kubelets do not answer
    boot_ids: Mapping[str, str] = field(default_factory=dict)  # node name → the ID of its present boot, where known
    refused: PodRefused | None = None
    refused_resizes: Mapping[str, ResizeRefused] = field(
        default_factory=dict
    )  # pod name → the refusal of its last resize
    pod_quota_used_up: bool = False  # a pod of the namespace is refused because of the number of pod objects in it
    name_taken: str | None = None  # name of a pod that the agent needs and another owner has
    refused_writes: Mapping[str, WriteRefused] = field(default_factory=dict)  # "kind name" → why it cannot be written
    parent: ParentInstruction = NoParent()
    invalid: str | None = None  # why the spec could not be parsed; then `agent.spec` must not be used
    defaults: PodDefaults = PodDefaults()
    function_results: Mapping[str, FunctionResult] = field(default_factory=dict)  # call id → result
    peers: Mapping[str, PeerFacts] = field(default_factory=dict)  # agent name → facts, of those its topologies name
    co_selected: tuple[Agent, ...] = ()  # all agents of its variables; empty unless a leader among them matters
    network_policy: NetworkPolicyFacts | None = None
    declared_spec: AgentSpec | None = None  # what the user wrote, once directives have changed `agent.spec`; else None

    stopped_by: str | None = None  # name of the variable whose directive stops the agent, which its user wants to run

    @property
    def user_spec(self) -> AgentSpec:
        """The spec as its user wrote it, without the changes that directives made to `agent.spec`."""
        return self.agent.spec if self.declared_spec is None else self.declared_spec


@dataclass(frozen=True)
class SupervisorSnapshot:
    """All that one pass over a Supervisor may use."""

    supervisor: Supervisor
    agents: Mapping[str, Agent] = field(default_factory=dict)  # by name, those that it lists and that exist
    supervisors: Mapping[str, Supervisor] = field(default_factory=dict)  # by name, all of the namespace
    parent: ParentInstruction = NoParent()
    invalid: str | None = None  # why the spec could not be parsed


@dataclass(frozen=True, slots=True)
class SystemContext:
    """The system as one pass over a variable sees it. Amounts are Kubernetes quantities, by resource name."""

    load: float | None = None  # 0 (idle) to 1 (full); None: not measured
    load_source: str = ""  # what the load was measured by
    quota: Mapping[str, str] = field(default_factory=dict)  # what the namespace's ResourceQuotas allow
    allocatable: Mapping[str, str] = field(default_factory=dict)  # sum over the nodes that take new pods
    free: Mapping[str, str] = field(default_factory=dict)  # allocatable minus the requests of all agents' live pods

    def to_wire(self) -> JsonDict:
        """The context as user functions get it."""
        return {
            "load": self.load,
            "loadSource": self.load_source,
            "quota": dict(self.quota),
            "allocatable": dict(self.allocatable),
            "free": dict(self.free),
        }


@dataclass(frozen=True)
class VariableSnapshot:
    """All that one pass over a variable may use."""

    variable: OrchestrationVariable
    agents: tuple[Agent, ...] = ()  # those it selects
    reports: Mapping[str, Report] = field(
        default_factory=dict
    )  # agent name → report, missing samples kept for 3 periods
    config_maps: tuple[ConfigMapFacts, ...] = ()  # its records, and the directives that its status cannot carry
    function_results: Mapping[str, FunctionResult] = field(
        default_factory=dict
    )  # call id → result, also of older calls
    open_calls: tuple[FunctionCall, ...] = ()  # calls of the present decision whose results it has not used yet
    context: SystemContext = field(default_factory=SystemContext)
    refused_writes: Mapping[str, WriteRefused] = field(default_factory=dict)  # "kind name" → why it cannot be written
    results_used_at: datetime | None = None  # when a decision last had all results it had called for; None: unknown
    reading_since: datetime | None = None  # since when the operator reads reports; None: the reports are all there are
    invalid: str | None = None  # why the spec could not be parsed


Snapshot = AgentSnapshot | SupervisorSnapshot | VariableSnapshot


# An object of one known kind: (namespace, name).
NamespacedName = tuple[str, str]


class Key(NamedTuple):
    """The object that one pass decides about."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
