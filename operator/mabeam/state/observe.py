"""Key → Snapshot: every fact that a pass may need, from the cache, the reports and the refusals."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol

from mabeam.api.agent import Agent, ConflictResolver
from mabeam.api.names import directives_config_map, network_policy
from mabeam.api.supervisor import ChildKind
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.desired import peers_named_by
from mabeam.core.functions import FunctionCall, FunctionResults
from mabeam.core.pods.lifecycle import is_ready, is_terminal
from mabeam.core.pods.resources import main_container_name
from mabeam.core.pods.spec_hash import pod_hash
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import (
    AgentSnapshot,
    Key,
    PeerFacts,
    PodDefaults,
    PodFacts,
    PodRefused,
    Progress,
    ResizeRefused,
    Snapshot,
    SupervisorSnapshot,
    VariableSnapshot,
    WriteRefused,
)
from mabeam.core.tree.instruction import parent_instruction
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, Cache
from mabeam.state.capacity import system_context


class ReportLookup(Protocol):
    """The last reports of the agents' processes: the operator's reader, or what a world in memory reports."""

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """The last report of each pod that has one, by pod name."""
        ...

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """Since when each pod that counts its progress has made none, by pod name."""
        ...

    def unreadable(self, pods: Iterable[PodFacts]) -> dict[str, UnreadableReport]:
        """Why each pod that could not be read for some time cannot be read, by pod name."""
        ...

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """The report of each agent that has one, by agent name; the lowest ordinal that says something speaks for the agent."""
        ...


class RefusalLookup(Protocol):
    """The pods that the apiserver refused to create."""

    @property
    def names_taken(self) -> Mapping[str, str]:
        """Agent uid → the name of the pod that another owner's object occupies."""
        ...

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """The refusal of the agent's pod with that spec hash; None when there is none. `now` in monotonic seconds."""
        ...

    def of_resizes(self, uid: str, namespace: str) -> Mapping[str, ResizeRefused]:
        """Pod name → the refusal of its last resize, of the agent's pods."""
        ...

    def by_pod_quota(self, namespace: str) -> frozenset[str]:
        """The uids of the namespace's agents whose pods are refused because of the number of pod objects in it."""
        ...


class FunctionLookup(Protocol):
    """The user functions that decisions called, and their results."""

    def results_for(self, key: Key) -> FunctionResults:
        """The results known for the calls of the key's decisions, by call id."""
        ...

    def unused_calls(self, key: Key) -> tuple[FunctionCall, ...]:
        """The calls of the key's present decision, the oldest first: no decision has been reached with their results."""
        ...

    def completed_at(self, key: Key) -> datetime | None:
        """When a decision last used the results of all its calls; None when none did."""
        ...


class NoFunctions:
    """No calls and no results."""

    def results_for(self, key: Key) -> FunctionResults:
        """Nothing."""
        return {}

    def unused_calls(self, key: Key) -> tuple[FunctionCall, ...]:
        """Nothing."""
        return ()

    def completed_at(self, key: Key) -> datetime | None:
        """Never."""
        return None


NO_FUNCTIONS: Final = NoFunctions()


class NoRefusals:
    """The refusals of a world in memory, where every create succeeds."""

    names_taken: Mapping[str, str] = {}

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """None."""
        return None

    def of_resizes(self, uid: str, namespace: str) -> Mapping[str, ResizeRefused]:
        """None."""
        return {}

    def by_pod_quota(self, namespace: str) -> frozenset[str]:
        """None."""
        return frozenset()


@dataclass
class Observer:
    """The only place that makes a snapshot: the operator, `mabeam plan` and `mabeam simulate` share it.

    Time in it is monotonic and serves the refusals' backoff only; decisions get their time from the caller.
    """

    cache: Cache
    reports: ReportLookup
    refusals: RefusalLookup
    _: KW_ONLY
    defaults: PodDefaults = field(default_factory=PodDefaults)
    functions: FunctionLookup = field(default_factory=lambda: NO_FUNCTIONS)
    load: Callable[[], tuple[float, str] | None] = lambda: None  # 0 (idle) to 1 (full), and by which measure
    # uid, monotonic seconds → the refused writes of ConfigMaps and NetworkPolicies by `kind name`
    refused_writes: Callable[[str, float], Mapping[str, WriteRefused]] = lambda uid, monotonic: {}
    reading_since: datetime | None = None  # since when reports are read; None: they are given
    nodes_observed: bool = True  # False: a world without nodes, in which no pod is taken for lost with its node

    def snapshot(self, key: Key, monotonic: float) -> Snapshot | None:
        """The facts for one pass over the key's object; None when it does not exist. KeyError for a kind without passes."""
        return _BY_KIND[key.kind](self, key, monotonic)

    def agent(self, namespace: str, name: str, monotonic: float) -> AgentSnapshot | None:
        """The facts for a pass over an Agent; None when it does not exist."""
        parsed = self.cache.agents.get((namespace, name))
        if parsed is None:
            return None
        agent = parsed.agent
        uid = agent.metadata.uid
        pods = self._pods_of(agent)
        namesakes = self.cache.namesake_pods(agent)
        config_map = self.cache.config_maps.get((namespace, directives_config_map(name)))
        supervisors = self.cache.supervisors_by_name(namespace) if agent.spec.supervisor else {}
        variables = self.cache.variables_of(agent)
        policy = self.cache.policies.get((namespace, network_policy(name)))
        return AgentSnapshot(
            agent=agent,
            pods=pods,
            config_map=replace(config_map.facts, owned=config_map.owner == uid) if config_map is not None else None,
            variables=variables,
            reports=self.reports.of_pods(pods),
            progress=self.reports.progress_of(pods),
            unreadable=self.reports.unreadable(pods),
            namesake_pods=namesakes,
            nodes=self._nodes(agent, (*pods, *namesakes)),
            cordoned=self.cache.cordoned,
            unreachable=self.cache.unreachable,
            boot_ids=self.cache.boot_ids,
            refused=self.refusals.of(uid, pod_hash(agent.spec), monotonic),
            refused_writes=self.refused_writes(uid, monotonic),
            refused_resizes=self.refusals.of_resizes(uid, namespace),
            pod_quota_used_up=self._is_pod_quota_used_up(agent),
            name_taken=self.refusals.names_taken.get(uid),
            parent=parent_instruction(agent, supervisors),
            invalid=parsed.invalid,
            defaults=self.defaults,
            peers=self._peers(agent, variables),
            co_selected=self._co_selected(agent, variables),
            network_policy=replace(policy.facts, owned=policy.owner == uid) if policy is not None else None,
            function_results=self.functions.results_for(Key(AGENT, namespace, name)),
        )

    def _pods_of(self, agent: Agent) -> tuple[PodFacts, ...]:
        """The agent's pods; one that does not say which container is the agent's process is read by the agent's template."""
        main = main_container_name(agent.spec)
        owned, orphans = self.cache.pods_owned_by(agent), self.cache.orphans_of(agent)
        adopted = (replace(pod.candidates.get(main, pod), orphaned=True) for pod in orphans)
        return (*(pod.candidates.get(main, pod) for pod in owned), *adopted)

    def _nodes(self, agent: Agent, pods: Iterable[PodFacts]) -> frozenset[str] | None:
        """The known nodes, and those that only pods and records name: the watch of nodes may lag behind that of pods."""
        if not self.nodes_observed:
            return None
        known, gone = self.cache.node_names, self.cache.gone_nodes
        named = {pod.node for pod in pods} | {record.node for record in agent.status.pods}
        unheard = frozenset(name for name in named if name and name not in known and name not in gone)
        return known | unheard if unheard else known

    def _is_pod_quota_used_up(self, agent: Agent) -> bool:
        """Whether the agent's ended pods take the room that a refused pod needs: its own, or one of an agent that has none."""
        namespace = agent.metadata.namespace
        refused = self.refusals.by_pod_quota(namespace)
        if not refused or agent.metadata.uid in refused:
            return bool(refused)
        others = (self.cache.agents[namespace, name].agent for name in self.cache.agents_in.get(namespace, ()))
        return any(
            not any(map(is_terminal, self.cache.pods_owned_by(other)))
            for other in others
            if other.metadata.uid in refused
        )

    def _peers(self, agent: Agent, variables: Iterable[OrchestrationVariable]) -> dict[str, PeerFacts]:
        """The agents that topologies name as peers of this one: name → role and the addresses of ready pods."""
        namespace = agent.metadata.namespace
        names = {name for variable in variables for name in peers_named_by(variable)(agent.metadata.name)}
        found = {}
        for name in sorted(names):
            parsed = self.cache.agents.get((namespace, name))
            if parsed is not None:
                pods = self._pods_of(parsed.agent)
                addresses = tuple(pod.ip for pod in pods if pod.ip and is_ready(pod) and not pod.deleting)
                found[name] = PeerFacts(parsed.agent.status.role or parsed.agent.spec.role_name, addresses)
        return found

    def _co_selected(self, agent: Agent, variables: tuple[OrchestrationVariable, ...]) -> tuple[Agent, ...]:
        """All agents of the agent's variables, when conflicts between the variables are resolved by electing a leader."""
        if agent.spec.conflict_resolution != ConflictResolver.LEADER_ELECTION or len(variables) < 2:
            return ()
        found = {p.agent.metadata.name: p.agent for variable in variables for p in self.cache.agents_of(variable)}
        return tuple(found[name] for name in sorted(found))

    def supervisor(self, namespace: str, name: str) -> SupervisorSnapshot | None:
        """The facts for a pass over a Supervisor; None when it does not exist."""
        parsed = self.cache.supervisors.get((namespace, name))
        if parsed is None:
            return None
        listed = (child.name for child in parsed.supervisor.spec.children if child.kind is ChildKind.AGENT)
        agents = {
            child: self.cache.agents[namespace, child].agent
            for child in listed
            if (namespace, child) in self.cache.agents
        }
        supervisors = self.cache.supervisors_by_name(namespace)
        parent = parent_instruction(parsed.supervisor, supervisors)
        return SupervisorSnapshot(parsed.supervisor, agents, supervisors, parent, parsed.invalid)

    def variable(self, namespace: str, name: str, monotonic: float = 0.0) -> VariableSnapshot | None:
        """The facts for a pass over a variable; None when it does not exist."""
        parsed = self.cache.variables.get((namespace, name))
        if parsed is None:
            return None
        agents = tuple(found.agent for found in self.cache.agents_of(parsed.variable) if found.invalid is None)
        config_maps = self.cache.config_maps_owned_by(parsed.variable)
        reports = self.reports.of_agents(agents)
        key = Key(VARIABLE, namespace, name)
        return VariableSnapshot(
            variable=parsed.variable,
            agents=agents,
            reports=reports,
            config_maps=config_maps,
            function_results=self.functions.results_for(key),
            open_calls=self.functions.unused_calls(key),
            refused_writes=self.refused_writes(parsed.variable.metadata.uid, monotonic),
            results_used_at=self.functions.completed_at(key),
            reading_since=self.reading_since,
            context=system_context(self.cache, parsed.variable, self.load()),
            invalid=parsed.invalid,
        )


_BY_KIND: Final[Mapping[str, Callable[[Observer, Key, float], Snapshot | None]]] = {
    AGENT: lambda observer, key, monotonic: observer.agent(key.namespace, key.name, monotonic),
    VARIABLE: lambda observer, key, monotonic: observer.variable(key.namespace, key.name, monotonic),
    SUPERVISOR: lambda observer, key, _: observer.supervisor(key.namespace, key.name),
}
