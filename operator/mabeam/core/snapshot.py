"""What was seen: the facts one decision may rest on, parsed at the door and frozen.

`observe` brings every fact always; the core never asks for more.
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
from mabeam.core.reports.report import Report


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """The main container's state: what the kubelet last said of it, or `unknown` before it said anything."""

    state: Literal["unknown", "waiting", "running", "terminated"] = "unknown"
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod of the agent, ownership already proven by the controller reference's uid."""

    name: str
    uid: str
    ordinal: int
    incarnation: int
    phase: str = "Pending"
    reason: str | None = None
    message: str | None = None
    node: str | None = None
    ip: str | None = None
    host_network: bool = False
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    unschedulable: str | None = None
    deleting: bool = False
    deletion_requested_at: datetime | None = None
    ready: bool = False
    main: ContainerFacts = ContainerFacts()
    others_running: bool = False
    disruption: str | None = None
    disrupted_at: datetime | None = None
    spec_hash: str | None = None
    generation: int = 0
    nudge: str | None = None
    reported_failed: str | None = None
    main_name: str = ""
    resources: JsonDict | None = None
    actual: JsonDict | None = None
    resize: Literal["Infeasible", "Deferred", "InProgress"] | None = None
    resize_message: str | None = None


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Another agent, as one that talks to it has to know it: its role, and the addresses of its ready pods."""

    role: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Since when a process's progress counter has stood still, as far as this operator saw, and until when it says it waits."""

    since: datetime
    waiting_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConfigMapFacts:
    """A ConfigMap of directives, an agent's or a variable's: its document, and whether it is the operator's to write."""

    name: str
    uid: str
    resource_version: str
    ours: bool
    document: JsonDict | None = None

    @property
    def generation(self) -> int:
        """The generation the ConfigMap carries; 0 when it cannot be read."""
        value = (self.document or {}).get("generation", 0)
        return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class NetworkPolicyFacts:
    """The NetworkPolicy of an agent: whether it is the operator's to write, and the hash of what it says."""

    name: str
    uid: str
    resource_version: str
    ours: bool
    content_hash: str = ""


@dataclass(frozen=True, slots=True)
class PodRefused:
    """The apiserver would not take the agent's pod: its own words, and in how many seconds to ask again (None: not at all)."""

    message: str
    ask_again_in: float | None = None

    @property
    def retry(self) -> bool:
        """Whether it is time to ask again."""
        return self.ask_again_in is not None and self.ask_again_in <= 0


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
    """All that one pass over an Agent may know.

    `invalid` is the reason why the spec could not be parsed (then `agent.spec` is not to be relied on); `refused` what
    the apiserver said of the last pod it would not take; `name_taken` the name of a pod that belongs to someone else;
    `nodes` the names of the nodes that exist, None when nobody looked, `cordoned` those of them that take no new pods,
    as a drain leaves them; `variables` every variable of the namespace
    that selects the agent; `reports` the latest report by pod name; `progress` how long each pod that counts its progress has
    made none; `parent` the instruction of its Supervisor. `peers` are those it is told to
    talk to; `fellows` all agents of its variables, where it matters who leads them; `policy` its NetworkPolicy.
    """

    agent: Agent
    pods: tuple[PodFacts, ...] = ()
    config_map: ConfigMapFacts | None = None
    variables: tuple[OrchestrationVariable, ...] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    nodes: frozenset[str] | None = None
    cordoned: frozenset[str] = frozenset()
    refused: PodRefused | None = None
    name_taken: str | None = None
    parent: ParentInstruction = NoParent()
    invalid: str | None = None
    defaults: PodDefaults = PodDefaults()
    answers: Mapping[str, FunctionResult] = field(default_factory=dict)
    peers: Mapping[str, PeerFacts] = field(default_factory=dict)
    fellows: tuple[Agent, ...] = ()
    policy: NetworkPolicyFacts | None = None
    declared: AgentSpec | None = None

    @property
    def user_spec(self) -> AgentSpec:
        """The spec as its user wrote it; `agent.spec` is what directives made of it, once they were looked at."""
        return self.agent.spec if self.declared is None else self.declared


@dataclass(frozen=True)
class SupervisorSnapshot:
    """All that one pass over a Supervisor may know: the Agents and Supervisors of its namespace, by name.

    `parent` is the instruction of its own parent.
    """

    supervisor: Supervisor
    agents: Mapping[str, Agent] = field(default_factory=dict)
    supervisors: Mapping[str, Supervisor] = field(default_factory=dict)
    parent: ParentInstruction = NoParent()
    invalid: str | None = None


@dataclass(frozen=True, slots=True)
class SystemContext:
    """The system as one pass saw it.

    `load` is from 0 (idle) to 1 (full), None when nobody measured it; `load_source` says what it was measured by.
    `quota` is what the namespace's ResourceQuotas allow, by resource; `allocatable` what the nodes can give, `free` what of that
    nobody of ours has asked for yet. Amounts are quantities.
    """

    load: float | None = None
    load_source: str = ""
    quota: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> JsonDict:
        """The context as functions are given it."""
        return {
            "load": self.load,
            "loadSource": self.load_source,
            "quota": dict(self.quota),
            "allocatable": dict(self.allocatable),
            "free": dict(self.free),
        }


@dataclass(frozen=True)
class VariableSnapshot:
    """All that one pass over a variable may know: the agents it selects, and each one's best report, by agent name.

    A report here already remembers: a sample that went missing or bad stays for three periods (`reports.remember`).
    `asked` are the questions of the present decision, whose answers it has not used yet; `answers` are those that are known, to
    them and to some before; `context` is the system as a whole.
    `heard_at` is when a decision last used all answers that it had asked for; None when that is not known.
    `config_maps` are those that hold the directives of a variable with more than its status can carry.
    """

    variable: OrchestrationVariable
    agents: tuple[Agent, ...] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    config_maps: tuple[ConfigMapFacts, ...] = ()
    answers: Mapping[str, FunctionResult] = field(default_factory=dict)
    asked: tuple[FunctionCall, ...] = ()
    context: SystemContext = field(default_factory=SystemContext)
    heard_at: datetime | None = None
    invalid: str | None = None  # why the spec could not be parsed; None: it could


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
