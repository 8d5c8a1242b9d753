"""Key → Snapshot: every fact a pass may need, always all of them, from the cache and the reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from mabeam.api.agent import Agent, ConflictResolver
from mabeam.api.names import directives_config_map, network_policy
from mabeam.api.supervisor import ChildKind
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.desired import peers_named_by
from mabeam.core.functions import FunctionCall, FunctionResults
from mabeam.core.pods.lifecycle import is_ready
from mabeam.core.pods.spec_hash import pod_hash
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import (
    AgentSnapshot,
    Key,
    PeerFacts,
    PodDefaults,
    PodFacts,
    PodRefused,
    Progress,
    SupervisorSnapshot,
    VariableSnapshot,
)
from mabeam.core.tree.instruction import parent_instruction
from mabeam.state.cache import AGENT, VARIABLE, Cache
from mabeam.state.capacity import context_of
from mabeam.state.parse_objects import ParsedVariable


class ReportLookup(Protocol):
    """Where the reports of agent processes come from: the operator's reader, or a world in a file."""

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """The last report of each pod that has one, by pod name."""
        ...

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """The progress of each pod that reports progress, by pod name."""
        ...

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """The report of each agent that has one, by agent name: the lowest ordinal that was read speaks for the agent."""
        ...


class RefusalLookup(Protocol):
    """Where refused creates are remembered."""

    @property
    def names_taken(self) -> Mapping[str, str]:
        """The name of the pod that a stranger's object occupies, by agent uid."""
        ...

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """The refusal of a pod with that spec hash, None when there is none; `now` in monotonic seconds."""
        ...


@dataclass
class Observer:
    """Builds snapshots. `monotonic` is read for the refusals' patience only; decisions get their time from the caller.

    `answers_for` gives what is known of the questions that were asked for a key, `asked_by` those questions, `heard_at` when a
    decision had used all answers; `load` how busy the system is, and by which measure.
    """

    cache: Cache
    reports: ReportLookup
    refusals: RefusalLookup
    defaults: PodDefaults
    answers_for: Callable[[Key], FunctionResults]
    asked_by: Callable[[Key], tuple[FunctionCall, ...]] = lambda key: ()
    heard_at: Callable[[Key], datetime | None] = lambda key: None
    load: Callable[[], tuple[float, str] | None] = lambda: None

    def agent(self, namespace: str, name: str, monotonic: float) -> AgentSnapshot | None:
        """All there is to know about an Agent, None when there is no such Agent (any more)."""
        parsed = self.cache.agents.get((namespace, name))
        if parsed is None:
            return None
        agent = parsed.agent
        uid = agent.metadata.uid
        pods = self.cache.pods_owned_by(agent)
        known = self.cache.config_maps.get((namespace, directives_config_map(name)))
        config_map = None
        if known is not None:
            facts, owner = known
            config_map = replace(facts, ours=owner == uid)
        supervisors = self.cache.supervisors_by_name(namespace) if agent.spec.supervisor else {}
        variables = self.cache.variables_of(agent)
        policy = self.cache.policies.get((namespace, network_policy(name)))
        return AgentSnapshot(
            agent=agent,
            pods=pods,
            config_map=config_map,
            variables=variables,
            reports=self.reports.of_pods(pods),
            progress=self.reports.progress_of(pods),
            nodes=self.cache.node_names,
            cordoned=self.cache.cordoned,
            refused=self.refusals.of(uid, pod_hash(agent.spec), monotonic),
            name_taken=self.refusals.names_taken.get(uid),
            parent=parent_instruction(agent, supervisors),
            invalid=parsed.invalid,
            defaults=self.defaults,
            peers=self._peers(agent, variables),
            fellows=self._fellows(agent, variables),
            policy=replace(policy[0], ours=policy[1] == uid) if policy is not None else None,
            answers=self.answers_for(Key(AGENT, namespace, name)),
        )

    def _peers(self, agent: Agent, variables: Iterable[OrchestrationVariable]) -> dict[str, PeerFacts]:
        """Those that its topologies name as its peers: their roles, and where their ready pods are."""
        namespace = agent.metadata.namespace
        names = {name for variable in variables for name in peers_named_by(variable)(agent.metadata.name)}
        found = {}
        for name in sorted(names):
            parsed = self.cache.agents.get((namespace, name))
            if parsed is not None:
                pods = self.cache.pods_owned_by(parsed.agent)
                addresses = tuple(pod.ip for pod in pods if pod.ip and is_ready(pod) and not pod.deleting)
                found[name] = PeerFacts(parsed.agent.status.role or parsed.agent.spec.role_name, addresses)
        return found

    def _fellows(self, agent: Agent, variables: tuple[OrchestrationVariable, ...]) -> tuple[Agent, ...]:
        """All agents of its variables, where it matters who leads them."""
        if agent.spec.conflict_resolution != ConflictResolver.LEADER_ELECTION or len(variables) < 2:
            return ()
        found = {p.agent.metadata.name: p.agent for variable in variables for p in self.cache.agents_of(variable)}
        return tuple(found[name] for name in sorted(found))

    def supervisor(self, namespace: str, name: str) -> SupervisorSnapshot | None:
        """All there is to know about a Supervisor, None when there is no such Supervisor (any more)."""
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

    def variable(self, namespace: str, name: str) -> tuple[VariableSnapshot, ParsedVariable] | None:
        """All there is to know about a variable, None when there is no such variable (any more)."""
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
            answers=self.answers_for(key),
            asked=self.asked_by(key),
            heard_at=self.heard_at(key),
            context=context_of(self.cache, parsed.variable, self.load()),
        ), parsed
