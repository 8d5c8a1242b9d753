"""The last known facts about every watched object: never bodies, kept current by watch events, own writes and the relist.

kopf's index is not used: it makes start-up quadratic and never forgets what was deleted while a watch was broken. Here a stale
event never replaces a newer one, and the relister (`shell/kube/relist.py`) removes what was deleted without an event.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.core.decision import AnyStatus
from mabeam.core.snapshot import ConfigMapFacts, Key, NamespacedName, NetworkPolicyFacts, PodFacts
from mabeam.state.parse_objects import (
    NodeFacts,
    ParsedAgent,
    ParsedSupervisor,
    ParsedVariable,
    owner_uid,
    parse_agent,
    parse_config_map,
    parse_network_policy,
    parse_node,
    parse_quota,
    parse_supervisor,
    parse_variable,
)
from mabeam.state.parse_pods import is_orphan, parse_pod
from mabeam.state.parse_status import StoredStatus
from mabeam.state.requested import Amounts, RequestedAmounts, sum_amounts, write_amounts

log = logging.getLogger("mabeam.cache")

AGENT: Final = "Agent"
VARIABLE: Final = "OrchestrationVariable"
SUPERVISOR: Final = "Supervisor"
POD: Final = "Pod"
CONFIG_MAP: Final = "ConfigMap"
NODE: Final = "Node"
NETWORK_POLICY: Final = "NetworkPolicy"
RESOURCE_QUOTA: Final = "ResourceQuota"

# Nodes that are gone are kept for pods and records that still name them; a cluster that scales loses many.
MAX_GONE_NODES: Final = 4096

T = TypeVar("T")


class SharedInput(Enum):
    """An input of variables that no object of their own namespace holds."""

    ALLOCATABLE = "allocatable"  # what the nodes give
    FREE = "free"  # what of that no agent requests
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Version:
    """Which object the cache holds under a name, and how new its facts are."""

    uid: str
    resource_version: int


@dataclass(frozen=True, slots=True)
class OwnedPod:
    """A pod that an Agent controls, or that lost its controller (`kubectl delete --cascade=orphan`)."""

    pod: PodFacts
    owner: str  # the uid in the controller reference, the only proof of ownership; empty for an orphan
    agent: str  # the name of the agent, taken from the pod's name


@dataclass(frozen=True, slots=True)
class Owned(Generic[T]):
    """The facts about an object and the uid of its controller."""

    facts: T
    owner: str  # empty: no Agent and no variable controls it


@dataclass(frozen=True, slots=True)
class Change:
    """One object before and after an event; None where it did not exist or could not be read."""

    kind: str
    namespaced_name: NamespacedName
    before: object | None
    after: object | None


@dataclass
class Cache:
    """The facts about all watched objects. It belongs to one event loop, so there are no locks.

    The dictionaries are read freely; only `upsert`, `put` and `remove` write them.
    """

    versions: dict[str, dict[NamespacedName, Version]] = field(default_factory=lambda: {kind: {} for kind in STORES})

    agents: dict[NamespacedName, ParsedAgent] = field(default_factory=dict)
    variables: dict[NamespacedName, ParsedVariable] = field(default_factory=dict)
    supervisors: dict[NamespacedName, ParsedSupervisor] = field(default_factory=dict)
    pods: dict[NamespacedName, OwnedPod] = field(default_factory=dict)
    config_maps: dict[NamespacedName, Owned[ConfigMapFacts]] = field(default_factory=dict)
    policies: dict[NamespacedName, Owned[NetworkPolicyFacts]] = field(default_factory=dict)
    quotas: dict[NamespacedName, Mapping[str, str]] = field(default_factory=dict)  # resource → quantity
    nodes: dict[NamespacedName, NodeFacts] = field(default_factory=dict)

    agents_in: dict[str, set[str]] = field(default_factory=dict)  # namespace → names
    variables_in: dict[str, set[str]] = field(default_factory=dict)  # namespace → names
    supervisors_in: dict[str, set[str]] = field(default_factory=dict)  # namespace → names
    pods_of: dict[NamespacedName, set[NamespacedName]] = field(
        default_factory=dict
    )  # the Agent that a pod is named for → pods
    config_maps_of: dict[str, set[NamespacedName]] = field(default_factory=dict)  # uid of the controller → ConfigMaps

    # Every pass asks for these, and nodes hardly ever change.
    node_names: frozenset[str] = frozenset()
    # Names of nodes that were known and are deleted, or that the apiserver does not know; the oldest first.
    gone_nodes: dict[str, None] = field(default_factory=dict)
    cordoned: frozenset[str] = frozenset()  # names of the nodes that take no new pods, or are being drained or deleted
    unreachable: frozenset[str] = frozenset()  # names of the nodes whose kubelets do not answer
    boot_ids: dict[str, str] = field(default_factory=dict)  # node name → the ID of its present boot, where known
    allocatable: dict[str, Mapping[str, str]] = field(default_factory=dict)  # node name → resource → quantity

    total_allocatable: Amounts = field(default_factory=dict)  # of the nodes that take new pods, together
    requested: RequestedAmounts = field(default_factory=RequestedAmounts)  # by live pods of Agents
    # The variables whose value depends on what is shared by the whole cluster, by what that is.
    sharing: dict[SharedInput, set[NamespacedName]] = field(default_factory=lambda: {one: set() for one in SharedInput})

    _deletion_trackers: list[set[str]] = field(default_factory=list)

    # --- writing --------------------------------------------------------------------------------------------------------

    def upsert(self, kind: str, body: JsonDict) -> Change | None:
        """What a body changed; None when it is not newer than what the cache holds. KeyError for a kind that is not watched."""
        meta = body.get("metadata") or {}
        name = (str(meta.get("namespace") or ""), str(meta.get("name")))
        version = Version(str(meta.get("uid")), _number(meta.get("resourceVersion")))
        known = self.versions[kind].get(name)
        if known is not None and known.uid == version.uid and known.resource_version >= version.resource_version:
            return None
        if known is not None and known.uid != version.uid and version.resource_version < known.resource_version:
            return None  # a stale event for a deleted object whose name was reused
        self.versions[kind][name] = version
        store = STORES[kind]
        try:
            facts = store.parse(body, store.objects(self).get(name))
        except Exception:  # one object that cannot be read must not end the process that all others need
            log.exception("%s %s/%s cannot be read and is passed over until it changes", kind, *name)
            facts = None
        return self.put(kind, name, facts)

    def put(self, kind: str, name: NamespacedName, facts: Any) -> Change:
        """What facts that were already read changed; None as facts removes them and keeps the object's version."""
        store = STORES[kind]
        objects = store.objects(self)
        before = objects.get(name)
        if facts is not None:
            objects[name] = facts
        elif before is not None:
            del objects[name]
        if store.index is not None:
            old, new = (None if one is None else store.index(self, name, one) for one in (before, facts))
            if old is not None and old != new:
                _discard(*old)
            if new is not None and old != new:
                index, key, member = new
                index.setdefault(key, set()).add(member)
        if store.on_change is not None:
            store.on_change(self)
        if store.account is not None:
            store.account(self, name, before, facts)
        return Change(kind, name, before, facts)

    def remove(self, kind: str, name: NamespacedName, uid: str | None = None) -> Change | None:
        """What the deletion of an object changed; None when it is not known, or its name belongs to another uid by now."""
        known = self.versions[kind].get(name)
        if known is None or (uid is not None and known.uid != uid):
            return None
        del self.versions[kind][name]
        for deleted in self._deletion_trackers:
            deleted.add(known.uid)
        return self.put(kind, name, None)

    @contextmanager
    def deleted_since(self) -> Iterator[set[str]]:
        """The uids of the objects removed from here on; a response that was requested before must not bring them back."""
        deleted: set[str] = set()
        self._deletion_trackers.append(deleted)
        try:
            yield deleted
        finally:
            self._deletion_trackers = [other for other in self._deletion_trackers if other is not deleted]

    # --- reading --------------------------------------------------------------------------------------------------------

    def pods_owned_by(self, agent: Agent) -> tuple[PodFacts, ...]:
        """The agent's pods by name: those whose controller reference carries its uid; a label alone proves nothing."""
        return self._pods_named_for(agent, lambda owner: owner == agent.metadata.uid)

    def orphans_of(self, agent: Agent) -> tuple[PodFacts, ...]:
        """The pods that carry the agent's labels and have no controller (any more), by name."""
        return self._pods_named_for(agent, lambda owner: not owner)

    def namesake_pods(self, agent: Agent) -> tuple[PodFacts, ...]:
        """The pods that are named for the agent and belong to another uid, as of a deleted Agent of the same name; by name."""
        return self._pods_named_for(agent, lambda owner: owner not in ("", agent.metadata.uid))

    def _pods_named_for(self, agent: Agent, is_wanted: Callable[[str], bool]) -> tuple[PodFacts, ...]:
        names = self.pods_of.get((agent.metadata.namespace, agent.metadata.name), ())
        found = (self.pods[name] for name in names)
        return tuple(sorted((one.pod for one in found if is_wanted(one.owner)), key=lambda pod: pod.name))

    def note_gone_node(self, name: str) -> None:
        """Keep that the node does not exist. The oldest of many are dropped: then the apiserver is asked again."""
        self.gone_nodes[name] = None
        while len(self.gone_nodes) > MAX_GONE_NODES:
            del self.gone_nodes[next(iter(self.gone_nodes))]

    def config_maps_owned_by(self, variable: OrchestrationVariable) -> tuple[ConfigMapFacts, ...]:
        """The ConfigMaps that the variable controls, by name."""
        names = self.config_maps_of.get(variable.metadata.uid, ())
        return tuple(self.config_maps[name].facts for name in sorted(names))

    def variables_of(self, agent: Agent) -> tuple[OrchestrationVariable, ...]:
        """Every readable variable of the agent's namespace that selects the agent, by name."""
        namespace, labels = agent.metadata.namespace, agent.metadata.labels
        found = (self.variables[namespace, name] for name in sorted(self.variables_in.get(namespace, ())))
        return tuple(p.variable for p in found if p.invalid is None and p.variable.selects(agent.metadata.name, labels))

    def agents_of(self, variable: OrchestrationVariable) -> tuple[ParsedAgent, ...]:
        """Every agent of the variable's namespace that the variable selects, by name."""
        namespace = variable.metadata.namespace
        chosen = variable.spec.agents
        names: Iterable[str] = self.agents_in.get(namespace, ()) if chosen.selector else chosen.names
        found = [self.agents[namespace, name] for name in sorted(set(names)) if (namespace, name) in self.agents]
        return tuple(p for p in found if variable.selects(p.agent.metadata.name, p.agent.metadata.labels))

    def supervisors_by_name(self, namespace: str) -> dict[str, Supervisor]:
        """Every Supervisor of a namespace, by name; an unreadable one has the children of its last status."""
        names = sorted(self.supervisors_in.get(namespace, ()))
        return {name: self.supervisors[namespace, name].supervisor for name in names}

    def status_of(self, key: Key) -> AnyStatus:
        """The stored status of an object that is reconciled; KeyError when it does not exist."""
        return _STATUSES[key.kind](STORES[key.kind].objects(self)[key.namespace, key.name])

    def stored_status(self, key: Key) -> StoredStatus | None:
        """The status in the cluster if it holds more than `status_of`; None when it does not, or there is no such object."""
        parsed = STORES[key.kind].objects(self).get((key.namespace, key.name))
        stored: StoredStatus | None = parsed.stored if parsed is not None else None
        return stored

    def all_keys(self) -> list[Key]:
        """The keys of all objects that are reconciled."""
        return [Key(kind, *name) for kind in RECONCILED_KINDS for name in STORES[kind].objects(self)]


@dataclass(frozen=True)
class KindStore:
    """How the cache reads and indexes the objects of one kind."""

    objects: Callable[[Cache], dict[NamespacedName, Any]]  # where their facts are kept
    parse: Callable[[JsonDict, Any], Any]  # body and the facts before → facts; None: not the operator's
    # name and facts → the index, the key in it, and the member under that key
    index: Callable[[Cache, NamespacedName, Any], tuple[dict[Any, set[Any]], Hashable, object]] | None = None
    on_change: Callable[[Cache], None] | None = None  # keeps what is derived from all objects of the kind
    # name, facts before and after: keeps a sum or a set over all objects of the kind
    account: Callable[[Cache, NamespacedName, Any, Any], None] | None = None


def _owned_pod(body: JsonDict, _: object) -> OwnedPod | None:
    pod, owner = parse_pod(body), owner_uid(body, AGENT)
    if pod is None:
        return None
    agent = pod.name.rsplit("-", 2)[0]
    if owner is not None:
        return OwnedPod(pod, owner, agent)
    return OwnedPod(replace(pod, orphaned=True), "", agent) if is_orphan(body, pod) else None


def _owned_config_map(body: JsonDict, _: object) -> Owned[ConfigMapFacts]:
    by_agent = owner_uid(body, AGENT)
    owner = by_agent or owner_uid(body, VARIABLE) or ""
    return Owned(parse_config_map(body, owner, AGENT if by_agent else VARIABLE), owner)


def _owned_policy(body: JsonDict, _: object) -> Owned[NetworkPolicyFacts]:
    owner = owner_uid(body, AGENT) or ""
    return Owned(parse_network_policy(body, owner), owner)


def _derive_nodes(cache: Cache) -> None:
    known = cache.node_names
    cache.node_names = frozenset(name for _, name in cache.nodes)
    for name in sorted(known - cache.node_names):
        cache.note_gone_node(name)
    for name in cache.gone_nodes.keys() & cache.node_names:
        del cache.gone_nodes[name]
    cache.cordoned = frozenset(name for (_, name), node in cache.nodes.items() if node.cordoned)
    cache.unreachable = frozenset(name for (_, name), node in cache.nodes.items() if node.unreachable)
    cache.boot_ids = {name: node.boot_id for (_, name), node in cache.nodes.items() if node.boot_id is not None}
    cache.allocatable = {name: node.allocatable for (_, name), node in cache.nodes.items()}
    given = (amounts for name, amounts in cache.allocatable.items() if name not in cache.cordoned)
    cache.total_allocatable = write_amounts(sum_amounts(given))


def _account_pod(cache: Cache, _: NamespacedName, before: OwnedPod | None, after: OwnedPod | None) -> None:
    cache.requested.replace(before.pod if before is not None else None, after.pod if after is not None else None)


def _account_variable(cache: Cache, name: NamespacedName, _: object, after: ParsedVariable | None) -> None:
    wanted = shared_inputs(after.variable) if after is not None and after.invalid is None else frozenset()
    for shared, names in cache.sharing.items():
        (names.add if shared in wanted else names.discard)(name)


def shared_inputs(variable: OrchestrationVariable) -> frozenset[SharedInput]:
    """What the variable's value depends on that belongs to the whole cluster."""
    spec = variable.spec
    found = {
        SharedInput.ALLOCATABLE: spec.type is OrchestrationType.RESOURCE_ALLOCATION and not spec.budget,
        SharedInput.FREE: spec.type is OrchestrationType.AGENT_SELECTION and spec.resources is not None,
        SharedInput.LOAD: spec.rate is not None and spec.rate.load is not None,
    }
    return frozenset(shared for shared, depends in found.items() if depends)


STORES: Final[Mapping[str, KindStore]] = {
    AGENT: KindStore(lambda cache: cache.agents, parse_agent, lambda cache, name, _: (cache.agents_in, *name)),
    VARIABLE: KindStore(
        lambda cache: cache.variables,
        lambda body, _: parse_variable(body),
        lambda cache, name, _: (cache.variables_in, *name),
        account=_account_variable,
    ),
    SUPERVISOR: KindStore(
        lambda cache: cache.supervisors,
        lambda body, _: parse_supervisor(body),
        lambda cache, name, _: (cache.supervisors_in, *name),
    ),
    POD: KindStore(
        lambda cache: cache.pods,
        _owned_pod,
        lambda cache, name, pod: (cache.pods_of, (name[0], pod.agent), name),
        account=_account_pod,
    ),
    CONFIG_MAP: KindStore(
        lambda cache: cache.config_maps,
        _owned_config_map,
        lambda cache, name, config_map: (cache.config_maps_of, config_map.owner, name),
    ),
    NODE: KindStore(lambda cache: cache.nodes, lambda body, _: parse_node(body), on_change=_derive_nodes),
    NETWORK_POLICY: KindStore(lambda cache: cache.policies, _owned_policy),
    RESOURCE_QUOTA: KindStore(lambda cache: cache.quotas, lambda body, _: parse_quota(body)),
}
WATCHED_KINDS: Final = tuple(STORES)
_STATUSES: Final[Mapping[str, Callable[[Any], AnyStatus]]] = {
    AGENT: lambda parsed: parsed.agent.status,
    VARIABLE: lambda parsed: parsed.variable.status,
    SUPERVISOR: lambda parsed: parsed.supervisor.status,
}
RECONCILED_KINDS: Final = tuple(_STATUSES)


def _discard(index: dict[Any, set[Any]], key: Hashable, member: object) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del index[key]


def _number(resource_version: object) -> int:
    # Comparable by KEP-5504; anything else sorts first, so that it never hides a newer version.
    text = str(resource_version or "")
    return int(text) if text.isdigit() else 0
