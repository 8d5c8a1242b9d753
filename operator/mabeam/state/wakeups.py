"""Change → the keys that must be looked at again: one function a kind, and for each key the seconds that it may wait."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mabeam.api.agent import ConflictResolver
from mabeam.api.agent_status import AgentState
from mabeam.api.supervisor import ChildKind, Supervisor
from mabeam.api.variable import OrchestrationType
from mabeam.core.directives.desired import agents_naming_as_peer
from mabeam.core.pods.lifecycle import is_ready
from mabeam.core.snapshot import Key
from mabeam.state.cache import (
    AGENT,
    CONFIG_MAP,
    NETWORK_POLICY,
    NODE,
    POD,
    RESOURCE_QUOTA,
    SUPERVISOR,
    VARIABLE,
    Cache,
    Change,
    OwnedPod,
    SharedInput,
)
from mabeam.state.parse_objects import NodeFacts, ParsedAgent, ParsedSupervisor, ParsedVariable
from mabeam.state.requested import requests_of

# An agent's acknowledgement may wait this long for its siblings': at most one status write a second per variable.
COALESCE_SECONDS: Final = 1.0
# A pod that starts may wait this long for the event that it runs.
STARTING_SECONDS: Final = 1.0

# What the whole cluster shares changes with every pod and node: those who divide it may wait this long for further changes.
SHARED_SECONDS: Final = 5.0

# The types whose decisions depend on how agents perform.
MEASURING: Final = frozenset({OrchestrationType.AGENT_SELECTION, OrchestrationType.PERFORMANCE_THRESHOLD})

WakeUp = tuple[Key, float]  # the key, and the seconds that it may wait


def affected_keys(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The keys that a change affects, each with the seconds that it may wait; a key may come more than once."""
    yield from _BY_KIND[change.kind](change, cache)


def _of_agent(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The agent, its Supervisors, and the variables that selected or select it, when what they read of it changed."""
    namespace, name = change.namespaced_name
    yield Key(AGENT, namespace, name), 0.0
    yield from _parents(change, cache, ChildKind.AGENT)
    was, now = (parsed if isinstance(parsed, ParsedAgent) else None for parsed in (change.before, change.after))
    if was is not None and now is not None and was.agent.status.role != now.agent.status.role:
        yield from _agents_with_peer(now, cache)  # their directives name the role of each peer
    yield from _led_agents(was, now, cache)
    new_inputs = was is None or now is None or _agent_inputs(was) != _agent_inputs(now)
    if not new_inputs and _agent_results(was) == _agent_results(now):
        return
    labels = [parsed.agent.metadata.labels for parsed in (was, now) if parsed is not None]
    for variable_name in cache.variables_in.get(namespace, ()):
        variable = cache.variables[namespace, variable_name]
        if variable.invalid is None and any(variable.variable.selects(name, each) for each in labels):
            yield Key(VARIABLE, namespace, variable_name), 0.0 if new_inputs else COALESCE_SECONDS


def _led_agents(was: ParsedAgent | None, now: ParsedAgent | None, cache: Cache) -> Iterator[WakeUp]:
    """The agents that follow a leader, which this one may be or have been: it runs since another time, or prefers otherwise."""
    if _candidacy(was) == _candidacy(now):
        return
    seen: set[str] = set()
    for parsed in (was, now):
        for variable in cache.variables_of(parsed.agent) if parsed is not None else ():
            seen |= {
                found.agent.metadata.name
                for found in cache.agents_of(variable)
                if found.agent.spec.conflict_resolution == ConflictResolver.LEADER_ELECTION
            }
    for parsed in (was, now):
        if parsed is not None:
            for name in sorted(seen - {parsed.agent.metadata.name}):
                yield Key(AGENT, parsed.agent.metadata.namespace, name), COALESCE_SECONDS
            return


def _candidacy(parsed: ParsedAgent | None) -> object:
    """What an election (`core/directives/conflicts.py`) reads of an agent: since when it runs, and what it prefers."""
    if parsed is None or parsed.agent.status.state is not AgentState.RUNNING:
        return None
    meta, pods = parsed.agent.metadata, parsed.agent.status.pods
    since = tuple(record.start_time for record in pods if record.state is AgentState.RUNNING)
    return meta.uid, meta.labels, parsed.agent.spec.preferences, since


def _agent_inputs(parsed: ParsedAgent) -> object:
    """What a variable reads of an agent's metadata and spec, which its user writes: decided on at once."""
    spec = parsed.agent.spec
    return (
        parsed.invalid,
        parsed.agent.metadata.uid,
        parsed.agent.metadata.labels,
        spec.preferences,
        spec.reports,
        spec.role_name,
        spec.capabilities,
        spec.resources,
    )


def _agent_results(parsed: ParsedAgent | None) -> object:
    """What a variable reads of an agent's status: the progress of its directives, and whether the agent runs."""
    if parsed is None:
        return None
    status = parsed.agent.status
    return status.directives, status.state, status.ready_replicas > 0, status.effective


def _of_variable(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The variable, and the agents that it selected or selects, when what they read of it changed."""
    namespace, name = change.namespaced_name
    yield Key(VARIABLE, namespace, name), 0.0
    was, now = (parsed if isinstance(parsed, ParsedVariable) else None for parsed in (change.before, change.after))
    if was is not None and now is not None and _variable_outputs(was) == _variable_outputs(now):
        return
    agents: set[str] = set()
    for parsed in (was, now):
        if parsed is not None and parsed.invalid is None:
            agents |= {found.agent.metadata.name for found in cache.agents_of(parsed.variable)}
    for agent in sorted(agents):
        yield Key(AGENT, namespace, agent), 0.0


def _variable_outputs(parsed: ParsedVariable) -> object:
    """What an agent reads of a variable."""
    status = parsed.variable.status
    vote = status.consensus
    proposed = vote and (vote.proposal, vote.outcome, vote.awaits_approval)
    return parsed.invalid, parsed.variable.metadata.uid, parsed.variable.spec, status.value, proposed, status.frozen_at


def _of_supervisor(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The Supervisor, its parents, and the children that it listed or lists, when what they read of it changed."""
    namespace, name = change.namespaced_name
    yield Key(SUPERVISOR, namespace, name), 0.0
    yield from _parents(change, cache, ChildKind.SUPERVISOR)
    was, now = (p.supervisor if isinstance(p, ParsedSupervisor) else None for p in (change.before, change.after))
    if was is not None and now is not None and was.status.shut_down_at != now.status.shut_down_at:
        yield from _descendants(namespace, now, cache)  # the completion of a root stops the whole tree
    if _supervisor_outputs(was) == _supervisor_outputs(now):
        return
    children = {(c.kind, c.name) for one in (was, now) if one is not None for c in one.spec.children}
    for kind, child in sorted(children):
        yield Key(str(kind), namespace, child), 0.0


def _supervisor_outputs(supervisor: Supervisor | None) -> object:
    """What a child reads of its Supervisor: its instruction, and the product of budgets that it multiplies further."""
    if supervisor is None:
        return None
    status, spec = supervisor.status, supervisor.spec
    instructions = tuple((r.kind, r.name, r.intent, r.token, r.end) for r in status.children)
    return supervisor.metadata.uid, spec.children, spec.max_restarts, instructions, status.worst_case_restarts


def _descendants(namespace: str, supervisor: Supervisor, cache: Cache) -> Iterator[WakeUp]:
    """Every object below the Supervisor; each once, also where the tree closes a cycle."""
    seen: set[tuple[ChildKind, str]] = set()
    todo = list(supervisor.spec.children)
    while todo:
        child = todo.pop()
        if (child.kind, child.name) in seen:
            continue
        seen.add((child.kind, child.name))
        yield Key(str(child.kind), namespace, child.name), 0.0
        found = cache.supervisors.get((namespace, child.name)) if child.kind is ChildKind.SUPERVISOR else None
        todo.extend(found.supervisor.spec.children if found is not None else ())


def _parents(change: Change, cache: Cache, kind: ChildKind) -> Iterator[WakeUp]:
    """The Supervisors that list the changed object as a child."""
    namespace, name = change.namespaced_name
    for other in sorted(cache.supervisors_in.get(namespace, ())):
        listed = cache.supervisors[namespace, other].supervisor.spec.children
        if any(child.kind is kind and child.name == name for child in listed):
            yield Key(SUPERVISOR, namespace, other), 0.0


def _of_pod(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The pod's agent; and the agents that have it for a peer, when the address of the pod changed."""
    delay = STARTING_SECONDS if _is_starting(change.after) else 0.0
    for known in (change.before, change.after):
        if isinstance(known, OwnedPod) and (change.namespaced_name[0], known.agent) in cache.agents:
            yield Key(AGENT, change.namespaced_name[0], known.agent), delay
    was, now = (known.pod if isinstance(known, OwnedPod) else None for known in (change.before, change.after))
    if requests_of(was) != requests_of(now):
        yield from variables_sharing(SharedInput.FREE, cache)
    if _address(change.before) != _address(change.after):
        yield from _peers(change, cache)


def _address(known: object) -> str | None:
    """The IP at which a peer may reach the pod; None while it is not ready."""
    pod = known.pod if isinstance(known, OwnedPod) else None
    return pod.ip if pod is not None and is_ready(pod) and not pod.deleting else None


def _peers(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The agents that have the pod's agent for a peer; those of agents that start together are coalesced."""
    known = change.after if isinstance(change.after, OwnedPod) else change.before
    parsed = cache.agents.get((change.namespaced_name[0], known.agent)) if isinstance(known, OwnedPod) else None
    if parsed is not None:
        yield from _agents_with_peer(parsed, cache)


def _agents_with_peer(parsed: ParsedAgent, cache: Cache) -> Iterator[WakeUp]:
    """The agents that have this one for a peer."""
    for variable in cache.variables_of(parsed.agent):
        for name in agents_naming_as_peer(variable)(parsed.agent.metadata.name):
            yield Key(AGENT, parsed.agent.metadata.namespace, name), COALESCE_SECONDS


def _is_starting(known: object) -> bool:
    """Whether the pod is on its way up; that it was scheduled or its image pulled changes no decision."""
    pod = known.pod if isinstance(known, OwnedPod) else None
    return pod is not None and pod.phase == "Pending" and not pod.deleting and pod.disruption is None


def _of_config_map(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The agent or the variable for which a ConfigMap of that name is written."""
    namespace, name = change.namespaced_name
    agent = name.removesuffix("-mabeam")
    if (namespace, agent) in cache.agents:
        yield Key(AGENT, namespace, agent), 0.0
    variable = name.partition("-mabeam-directives")[0]
    if (namespace, variable) in cache.variables:
        yield Key(VARIABLE, namespace, variable), 0.0


def _of_policy(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The agent for which a NetworkPolicy of that name is written."""
    namespace, name = change.namespaced_name
    agent = name.removesuffix("-mabeam")
    if (namespace, agent) in cache.agents:
        yield Key(AGENT, namespace, agent), 0.0


def _of_quota(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The allocations of the namespace that divide what its quotas allow."""
    if change.before == change.after:
        return
    namespace = change.namespaced_name[0]
    for name in sorted(cache.variables_in.get(namespace, ())):
        spec = cache.variables[namespace, name].variable.spec
        if spec.type is OrchestrationType.RESOURCE_ALLOCATION and not spec.budget:
            yield Key(VARIABLE, namespace, name), 0.0


def _of_node(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The agents that had pods on a node that was deleted, which proves that they are gone; and who divides its capacity."""
    if _given(change.before) != _given(change.after):
        for shared in (SharedInput.ALLOCATABLE, SharedInput.FREE):
            yield from variables_sharing(shared, cache)
    if change.after is not None:
        return
    for (namespace, _), known in list(cache.pods.items()):
        if known.pod.node == change.namespaced_name[1]:
            yield Key(AGENT, namespace, known.agent), 0.0


def _given(known: object) -> object:
    """What a node gives to new pods."""
    return dict(known.allocatable) if isinstance(known, NodeFacts) and not known.cordoned else None


def variables_sharing(shared: SharedInput, cache: Cache) -> Iterator[WakeUp]:
    """The variables that depend on something of the whole cluster, which changed."""
    for namespace, name in sorted(cache.sharing[shared]):
        yield Key(VARIABLE, namespace, name), SHARED_SECONDS


_BY_KIND: Final[Mapping[str, Callable[[Change, Cache], Iterator[WakeUp]]]] = {
    AGENT: _of_agent,
    VARIABLE: _of_variable,
    SUPERVISOR: _of_supervisor,
    POD: _of_pod,
    CONFIG_MAP: _of_config_map,
    NODE: _of_node,
    NETWORK_POLICY: _of_policy,
    RESOURCE_QUOTA: _of_quota,
}
