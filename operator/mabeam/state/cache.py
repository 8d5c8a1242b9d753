"""What is known of the cluster: slim facts, never bodies, filled by watch events, own writes and the sweep.

kopf's index is not used: it makes start-up quadratic and never forgets what was deleted while a watch was broken. Here an
older word on an object never replaces a newer one, and `sweep` finds deletions that no watch told.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.snapshot import ConfigMapFacts, Key, NamespacedName, NetworkPolicyFacts, PodFacts
from mabeam.state.parse_objects import (
    ParsedAgent,
    ParsedSupervisor,
    ParsedVariable,
    owner_uid,
    parse_agent,
    parse_config_map,
    parse_network_policy,
    parse_quota,
    parse_supervisor,
    parse_variable,
)
from mabeam.state.parse_pods import parse_pod

log = logging.getLogger("mabeam.cache")

AGENT: Final = "Agent"
VARIABLE: Final = "OrchestrationVariable"
SUPERVISOR: Final = "Supervisor"
WATCHED_KINDS: Final = (AGENT, VARIABLE, SUPERVISOR, "Pod", "ConfigMap", "Node", "NetworkPolicy", "ResourceQuota")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Version:
    """Which object it is, and how new the last word on it."""

    uid: str
    resource_version: int


@dataclass(frozen=True, slots=True)
class OwnedPod:
    """A pod and the agent whose name it carries; `owner` is the uid that proves it."""

    pod: PodFacts
    owner: str
    agent: str


@dataclass(frozen=True, slots=True)
class Change:
    """What an event changed: the object before and after, for the doorbells to decide whom to wake."""

    kind: str
    namespaced_name: NamespacedName
    before: object | None
    after: object | None


@dataclass
class Cache:
    """The last word on every object; one event loop, so no locks."""

    versions: dict[str, dict[NamespacedName, Version]] = field(
        default_factory=lambda: {kind: {} for kind in WATCHED_KINDS}
    )
    agents: dict[NamespacedName, ParsedAgent] = field(default_factory=dict)
    variables: dict[NamespacedName, ParsedVariable] = field(default_factory=dict)
    variables_in: dict[str, set[str]] = field(default_factory=dict)
    agents_in: dict[str, set[str]] = field(default_factory=dict)
    supervisors: dict[NamespacedName, ParsedSupervisor] = field(default_factory=dict)
    supervisors_in: dict[str, set[str]] = field(default_factory=dict)
    pods: dict[NamespacedName, OwnedPod] = field(default_factory=dict)
    pods_of: dict[str, set[NamespacedName]] = field(default_factory=dict)
    config_maps: dict[NamespacedName, tuple[ConfigMapFacts, str]] = field(default_factory=dict)
    config_maps_of: dict[str, set[NamespacedName]] = field(default_factory=dict)
    nodes: dict[str, bool] = field(default_factory=dict)  # by name, whether it is cordoned
    allocatable: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by node
    policies: dict[NamespacedName, tuple[NetworkPolicyFacts, str]] = field(default_factory=dict)
    quotas: dict[NamespacedName, Mapping[str, str]] = field(default_factory=dict)
    node_names: frozenset[str] = frozenset()
    cordoned: frozenset[str] = frozenset()
    _deletion_trackers: list[set[str]] = field(default_factory=list)

    def upsert(self, kind: str, body: JsonDict) -> Change | None:
        """What a newer word on an object changed; None when it is not newer than what is known."""
        meta = body.get("metadata") or {}
        where = (str(meta.get("namespace") or ""), str(meta.get("name")))
        version = Version(str(meta.get("uid")), _number(meta.get("resourceVersion")))
        known = self.versions[kind].get(where)
        if known is not None and known.uid == version.uid and known.resource_version >= version.resource_version:
            return None
        if known is not None and known.uid != version.uid and version.resource_version < known.resource_version:
            return None  # a late word on an object whose name has a new bearer
        self.versions[kind][where] = version
        before = self._get(kind, where)
        try:
            after = self._put(kind, where, body)
        except Exception:  # one object that cannot be read must not end the process that all others need
            log.exception("%s %s/%s cannot be read and is passed over until it changes", kind, *where)
            self._drop(kind, where)
            after = None
        return Change(kind, where, before, after)

    def remove(self, kind: str, where: NamespacedName, uid: str | None = None) -> Change | None:
        """The loss of an object; None when it is not known, or when its name has a new bearer already."""
        known = self.versions[kind].get(where)
        if known is None or (uid is not None and known.uid != uid):
            return None
        del self.versions[kind][where]
        for dead in self._deletion_trackers:
            dead.add(known.uid)
        before = self._get(kind, where)
        self._drop(kind, where)
        return Change(kind, where, before, None)

    @contextmanager
    def deleted_since(self) -> Iterator[set[str]]:
        """The uids of what is forgotten from now on: nobody who read them before that may bring them back."""
        dead: set[str] = set()
        self._deletion_trackers.append(dead)
        try:
            yield dead
        finally:
            self._deletion_trackers = [other for other in self._deletion_trackers if other is not dead]

    def _get(self, kind: str, where: NamespacedName) -> object | None:
        match kind:
            case "Agent":
                return self.agents.get(where)
            case "OrchestrationVariable":
                return self.variables.get(where)
            case "Supervisor":
                return self.supervisors.get(where)
            case "Pod":
                return self.pods.get(where)
            case "ConfigMap":
                return self.config_maps.get(where)
            case "NetworkPolicy":
                return self.policies.get(where)
            case "ResourceQuota":
                return self.quotas.get(where)
            case _:
                return where[1] if where[1] in self.nodes else None

    def _put(self, kind: str, where: NamespacedName, body: JsonDict) -> object | None:
        match kind:
            case "Agent":
                self.agents[where] = parse_agent(body, self.agents.get(where))
                self.agents_in.setdefault(where[0], set()).add(where[1])
            case "OrchestrationVariable":
                self.variables[where] = parse_variable(body)
                self.variables_in.setdefault(where[0], set()).add(where[1])
            case "Supervisor":
                self.supervisors[where] = parse_supervisor(body)
                self.supervisors_in.setdefault(where[0], set()).add(where[1])
            case "Pod":
                self._drop(kind, where)
                pod, owner = parse_pod(body), owner_uid(body, AGENT)
                if pod is not None and owner is not None:
                    self.pods[where] = OwnedPod(pod, owner, pod.name.rsplit("-", 2)[0])
                    self.pods_of.setdefault(owner, set()).add(where)
            case "ConfigMap":
                owner = owner_uid(body, AGENT) or owner_uid(body, VARIABLE) or ""
                kind_of_owner = AGENT if owner_uid(body, AGENT) else VARIABLE
                self._drop(kind, where)
                self.config_maps_of.setdefault(owner, set()).add(where)
                self.config_maps[where] = (parse_config_map(body, owner, kind_of_owner), owner)
            case "NetworkPolicy":
                uid = owner_uid(body, AGENT) or ""
                self.policies[where] = parse_network_policy(body, uid), uid
            case "ResourceQuota":
                self.quotas[where] = parse_quota(body)
            case _:
                self.nodes[where[1]] = bool((body.get("spec") or {}).get("unschedulable"))
                self.allocatable[where[1]] = dict((body.get("status") or {}).get("allocatable") or {})
                self._count_nodes()
        return self._get(kind, where)

    def _drop(self, kind: str, where: NamespacedName) -> None:
        match kind:
            case "Agent":
                self.agents.pop(where, None)
                _discard(self.agents_in, *where)
            case "OrchestrationVariable":
                self.variables.pop(where, None)
                _discard(self.variables_in, *where)
            case "Supervisor":
                self.supervisors.pop(where, None)
                _discard(self.supervisors_in, *where)
            case "Pod":
                pod = self.pods.pop(where, None)
                if pod is not None:
                    _discard(self.pods_of, pod.owner, where)
            case "ConfigMap":
                held = self.config_maps.pop(where, None)
                if held is not None:
                    _discard(self.config_maps_of, held[1], where)
            case "NetworkPolicy":
                self.policies.pop(where, None)
            case "ResourceQuota":
                self.quotas.pop(where, None)
            case _:
                self.nodes.pop(where[1], None)
                self.allocatable.pop(where[1], None)
                self._count_nodes()

    def _count_nodes(self) -> None:
        # Every pass asks for these sets, and nodes hardly ever change.
        self.node_names = frozenset(self.nodes)
        self.cordoned = frozenset(name for name, cordoned in self.nodes.items() if cordoned)

    # --- questions ------------------------------------------------------------------------------------------------------

    def pods_owned_by(self, agent: Agent) -> tuple[PodFacts, ...]:
        """The agent's pods: those whose controller reference carries its uid; a label alone proves nothing."""
        places = self.pods_of.get(agent.metadata.uid, ())
        found = [self.pods[place] for place in places]
        return tuple(sorted((known.pod for known in found), key=lambda pod: pod.name))

    def config_maps_owned_by(self, variable: OrchestrationVariable) -> tuple[ConfigMapFacts, ...]:
        """The ConfigMaps that hold a variable's directives."""
        places = self.config_maps_of.get(variable.metadata.uid, ())
        return tuple(self.config_maps[place][0] for place in sorted(places))

    def variables_of(self, agent: Agent) -> tuple[OrchestrationVariable, ...]:
        """Every readable variable of the agent's namespace that selects it, by name."""
        namespace, labels = agent.metadata.namespace, agent.metadata.labels
        found = (self.variables[namespace, name] for name in sorted(self.variables_in.get(namespace, ())))
        return tuple(p.variable for p in found if p.invalid is None and p.variable.selects(agent.metadata.name, labels))

    def agents_of(self, variable: OrchestrationVariable) -> tuple[ParsedAgent, ...]:
        """Every agent of the variable's namespace that it selects, by name."""
        namespace = variable.metadata.namespace
        chosen = variable.spec.agents
        names: Iterable[str] = self.agents_in.get(namespace, ()) if chosen.selector else chosen.names
        found = [self.agents[namespace, name] for name in sorted(set(names)) if (namespace, name) in self.agents]
        return tuple(p for p in found if variable.selects(p.agent.metadata.name, p.agent.metadata.labels))

    def supervisors_by_name(self, namespace: str) -> dict[str, Supervisor]:
        """Every Supervisor of a namespace, by name; an unreadable one has the children that it last spoke to."""
        names = sorted(self.supervisors_in.get(namespace, ()))
        return {name: self.supervisors[namespace, name].supervisor for name in names}

    def all_keys(self) -> list[Key]:
        """The keys of everything there is to reconcile."""
        known = ((AGENT, self.agents), (VARIABLE, self.variables), (SUPERVISOR, self.supervisors))
        return [Key(kind, *where) for kind, found in known for where in found]


def _discard(index: dict[str, set[T]], key: str, member: T) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del index[key]


def _number(resource_version: object) -> int:
    # Comparable by KEP-5504; anything else sorts first, so that it never blocks a newer word.
    text = str(resource_version or "")
    return int(text) if text.isdigit() else 0
