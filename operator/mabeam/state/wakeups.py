"""Whom a change wakes: the table from an object's change to the keys that must look again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mabeam.api.supervisor import ChildKind, Supervisor
from mabeam.api.variable import OrchestrationType
from mabeam.core.directives.desired import agents_naming_as_peer
from mabeam.core.pods.lifecycle import is_ready
from mabeam.core.snapshot import Key
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, Cache, Change, OwnedPod
from mabeam.state.parse_objects import ParsedAgent, ParsedSupervisor, ParsedVariable

# An agent's acknowledgement may wait this long for its siblings': at most one status write a second per variable.
COALESCE_SECONDS: Final = 1.0

# The types that look at how agents perform, whenever that changes.
MEASURING: Final = frozenset({OrchestrationType.AGENT_SELECTION, OrchestrationType.PERFORMANCE_THRESHOLD})
STARTING_SECONDS: Final = 1.0

WakeUp = tuple[Key, float]


def affected_keys(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The keys to look at, each with the seconds it may wait."""
    yield from _BY_KIND[change.kind](change, cache)


def _of_agent(change: Change, cache: Cache) -> Iterator[WakeUp]:
    namespace, name = change.namespaced_name
    yield Key(AGENT, namespace, name), 0.0
    yield from _parents(change, cache, ChildKind.AGENT)
    before, after = change.before, change.after
    was = before if isinstance(before, ParsedAgent) else None
    now = after if isinstance(after, ParsedAgent) else None
    if was is not None and now is not None and was.agent.status.role != now.agent.status.role:
        yield from _naming_as_peer(now, cache)  # a peer's role is in their directives
    inputs_changed = was is None or now is None or _agent_inputs(was) != _agent_inputs(now)
    answered = not inputs_changed and _agent_results(was) != _agent_results(now)
    if not inputs_changed and not answered:
        return
    labels = [parsed.agent.metadata.labels for parsed in (was, now) if parsed is not None]
    for variable_name in cache.variables_in.get(namespace, ()):
        variable = cache.variables[namespace, variable_name]
        if variable.invalid is None and any(variable.variable.selects(name, each) for each in labels):
            yield Key(VARIABLE, namespace, variable_name), 0.0 if inputs_changed else COALESCE_SECONDS


def _agent_inputs(parsed: ParsedAgent) -> object:
    """What a variable learns of an agent from its user, and decides by at once."""
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
    """What a variable learns from an agent's status: how far its directives came, and whether the agent is at rest."""
    if parsed is None:
        return None
    status = parsed.agent.status
    return status.directives, status.state, status.ready_replicas > 0, status.effective


def _of_variable(change: Change, cache: Cache) -> Iterator[WakeUp]:
    namespace, name = change.namespaced_name
    yield Key(VARIABLE, namespace, name), 0.0
    was, now = (parsed if isinstance(parsed, ParsedVariable) else None for parsed in (change.before, change.after))
    if was is not None and now is not None and _variable_outputs(was) == _variable_outputs(now):
        return
    woken: set[str] = set()
    for parsed in (was, now):
        if parsed is not None and parsed.invalid is None:
            woken |= {found.agent.metadata.name for found in cache.agents_of(parsed.variable)}
    for agent in sorted(woken):
        yield Key(AGENT, namespace, agent), 0.0


def _variable_outputs(parsed: ParsedVariable) -> object:
    """The part of a variable that decides its directives."""
    status = parsed.variable.status
    vote = status.consensus
    asked = vote and (vote.proposal, vote.outcome, vote.awaits_approval)
    return parsed.invalid, parsed.variable.metadata.uid, parsed.variable.spec, status.value, asked, status.frozen_at


def _of_supervisor(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """Itself, those that list it, and those that it lists or listed, when it tells them something else."""
    namespace, name = change.namespaced_name
    yield Key(SUPERVISOR, namespace, name), 0.0
    yield from _parents(change, cache, ChildKind.SUPERVISOR)
    was, now = (p.supervisor if isinstance(p, ParsedSupervisor) else None for p in (change.before, change.after))
    if was is not None and now is not None and was.status.shut_down_at != now.status.shut_down_at:
        yield from _below(namespace, now, cache)  # a root's end is everybody's
    if _supervisor_outputs(was) == _supervisor_outputs(now):
        return
    children = {(c.kind, c.name) for one in (was, now) if one is not None for c in one.spec.children}
    for kind, child in sorted(children):
        yield Key(str(kind), namespace, child), 0.0


def _supervisor_outputs(supervisor: Supervisor | None) -> object:
    """The part of a Supervisor that its children depend on: their instructions, and the product of budgets."""
    if supervisor is None:
        return None
    status = supervisor.status
    instructions = tuple((r.kind, r.name, r.intent, r.token, r.end) for r in status.children)
    spec = supervisor.spec
    return supervisor.metadata.uid, spec.children, spec.max_restarts, instructions, status.worst_case_restarts


def _below(namespace: str, supervisor: Supervisor, cache: Cache) -> Iterator[WakeUp]:
    """Everyone in the tree below; each once, also where it closes a cycle."""
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
    namespace, name = change.namespaced_name
    for other in sorted(cache.supervisors_in.get(namespace, ())):
        listed = cache.supervisors[namespace, other].supervisor.spec.children
        if any(child.kind is kind and child.name == name for child in listed):
            yield Key(SUPERVISOR, namespace, other), 0.0


def _of_pod(change: Change, cache: Cache) -> Iterator[WakeUp]:
    delay = STARTING_SECONDS if _is_starting(change.after) else 0.0
    for known in (change.before, change.after):
        if isinstance(known, OwnedPod) and (change.namespaced_name[0], known.agent) in cache.agents:
            yield Key(AGENT, change.namespaced_name[0], known.agent), delay
    if _address(change.before) != _address(change.after):
        yield from _peers(change, cache)


def _address(known: object) -> str | None:
    """The pod's address; None while it is not ready."""
    pod = known.pod if isinstance(known, OwnedPod) else None
    return pod.ip if pod is not None and is_ready(pod) and not pod.deleting else None


def _peers(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The agents whose peer is the pod's agent; for agents that start together one wake-up follows all of them."""
    namespace = change.namespaced_name[0]
    known = change.after if isinstance(change.after, OwnedPod) else change.before
    parsed = cache.agents.get((namespace, known.agent)) if isinstance(known, OwnedPod) else None
    if parsed is None:
        return
    yield from _naming_as_peer(parsed, cache)


def _naming_as_peer(parsed: ParsedAgent, cache: Cache) -> Iterator[WakeUp]:
    """Those that have the agent for a peer."""
    for variable in cache.variables_of(parsed.agent):
        for name in agents_naming_as_peer(variable)(parsed.agent.metadata.name):
            yield Key(AGENT, parsed.agent.metadata.namespace, name), COALESCE_SECONDS


def _is_starting(known: object) -> bool:
    """A pod on its way up: that it was scheduled or that its image is pulled can wait for the news that it runs."""
    pod = known.pod if isinstance(known, OwnedPod) else None
    return pod is not None and pod.phase == "Pending" and not pod.deleting and pod.disruption is None


def _of_config_map(change: Change, cache: Cache) -> Iterator[WakeUp]:
    namespace, name = change.namespaced_name
    owner_name = name.removesuffix("-mabeam")
    if (namespace, owner_name) in cache.agents:
        yield Key(AGENT, namespace, owner_name), 0.0
    variable_name = name.partition("-mabeam-directives")[0]
    if (namespace, variable_name) in cache.variables:
        yield Key(VARIABLE, namespace, variable_name), 0.0


def _of_policy(change: Change, cache: Cache) -> Iterator[WakeUp]:
    namespace, name = change.namespaced_name
    owner = name.removesuffix("-mabeam")
    if (namespace, owner) in cache.agents:
        yield Key(AGENT, namespace, owner), 0.0


def _of_quota(change: Change, cache: Cache) -> Iterator[WakeUp]:
    """The allocations of its namespace that divide what it allows."""
    if change.before == change.after:
        return
    namespace = change.namespaced_name[0]
    for name in sorted(cache.variables_in.get(namespace, ())):
        spec = cache.variables[namespace, name].variable.spec
        if spec.type is OrchestrationType.RESOURCE_ALLOCATION and not spec.budget:
            yield Key(VARIABLE, namespace, name), 0.0


def _of_node(change: Change, cache: Cache) -> Iterator[WakeUp]:
    if change.after is not None:
        return  # only a node's loss changes anything: it is the proof that its pods are gone
    for (namespace, _), known in list(cache.pods.items()):
        if known.pod.node == change.namespaced_name[1]:
            yield Key(AGENT, namespace, known.agent), 0.0


_BY_KIND: Final[Mapping[str, Callable[[Change, Cache], Iterator[WakeUp]]]] = {
    "Agent": _of_agent,
    "OrchestrationVariable": _of_variable,
    "Supervisor": _of_supervisor,
    "Pod": _of_pod,
    "ConfigMap": _of_config_map,
    "Node": _of_node,
    "NetworkPolicy": _of_policy,
    "ResourceQuota": _of_quota,
}
