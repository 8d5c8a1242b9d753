"""`mabeam plan`: a world of ordinary API objects in, one pass of the same core, what it would write out; no cluster.

A world may be written by hand, so it may be less complete than a cluster's: an Agent without a uid owns the pods that name it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import LABEL_AGENT, directives_config_map, network_policy
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.core.decision import AnyDecision, AnyStatus, Decision, Status, soonest
from mabeam.core.directives.desired import peers_named_by
from mabeam.core.passes import agent as supervision
from mabeam.core.passes import supervisor
from mabeam.core.passes import variable as coordination
from mabeam.core.pods.lifecycle import is_ready
from mabeam.core.snapshot import (
    AgentSnapshot,
    ConfigMapFacts,
    NetworkPolicyFacts,
    PeerFacts,
    SupervisorSnapshot,
    SystemContext,
    VariableSnapshot,
)
from mabeam.core.tree import instruction
from mabeam.evaluation.evaluator import evaluate_all
from mabeam.offline.world import World
from mabeam.state.capacity import added, least
from mabeam.state.parse_objects import parse_config_map, parse_network_policy

# A decision may ask for what follows from an answer; one that would ask for ever is taken as it is.
MAX_QUESTION_ROUNDS: Final = 4


def plan(world: World, now: datetime) -> JsonDict:
    """What one pass over every object of the world would write: statuses, writes, Events, and when to look again."""
    writes: list[JsonDict] = []
    events: list[JsonDict] = []
    agents: JsonDict = {}
    variables: JsonDict = {}
    requeue: float | None = None
    for place, agent in sorted(world.agents.items()):
        decision = _answered(supervision.decide, _agent_snapshot(world, agent), now.astimezone(UTC))
        agents["/".join(place)] = decision.status.to_wire()
        requeue = soonest(requeue, decision.requeue_after)
        _tell("Agent", place, agent.status, decision, writes, events)
    supervisors: JsonDict = {}
    for place, found in sorted(world.supervisors.items()):
        told = supervisor.decide(_supervisor_snapshot(world, found), now.astimezone(UTC))
        supervisors["/".join(place)] = told.status.to_wire()
        _tell("Supervisor", place, found.status, told, writes, events)
    for place, variable in sorted(world.variables.items()):
        outcome = _answered(coordination.decide, _variable_snapshot(world, variable), now.astimezone(UTC))
        variables["/".join(place)] = outcome.status.to_wire()
        requeue = soonest(requeue, outcome.requeue_after)
        _tell("OrchestrationVariable", place, variable.status, outcome, writes, events)
    return {
        "agents": agents,
        "variables": variables,
        **({"supervisors": supervisors} if supervisors else {}),
        "writes": writes,
        "events": events,
        "requeueAfterSeconds": int(requeue) if requeue is not None and requeue == int(requeue) else requeue,
    }


Seen = TypeVar("Seen", AgentSnapshot, VariableSnapshot)


def _answered(decide: Callable[[Seen, datetime], Decision[Status]], snapshot: Seen, now: datetime) -> Decision[Status]:
    """The decision that knows the answers it asks for: as the operator's passes would reach it, one after the other."""
    decision = decide(snapshot, now)
    for _ in range(MAX_QUESTION_ROUNDS):
        if all(ask.id in snapshot.answers for ask in decision.function_calls):
            break
        snapshot = replace(snapshot, answers=evaluate_all(decision.function_calls, snapshot.answers))
        decision = decide(snapshot, now)
    return decision


def _tell(
    kind: str,
    place: tuple[str, str],
    before: AnyStatus,
    decision: AnyDecision,
    writes: list[JsonDict],
    events: list[JsonDict],
) -> None:
    namespace, name = place
    for effect in decision.beforehand:
        writes.append(_write(effect.verb, effect.kind, effect.namespace, effect.name, effect.reason, effect.body))
    if decision.status.to_wire() != before.to_wire():
        writes.append(_write("patch-status", kind, namespace, name, decision.status_reason, {}))
    for effect in decision.effects:
        writes.append(_write(effect.verb, effect.kind, effect.namespace, effect.name, effect.reason, effect.body))
    for event in decision.events:
        regarding = f"{kind}/{namespace}/{name}"
        events.append({"reason": str(event.reason), "type": event.type, "regarding": regarding, "note": event.note})


def _write(verb: str, kind: str, namespace: str, name: str, reason: str, body: JsonDict) -> JsonDict:
    return {"verb": verb, "kind": kind, "namespace": namespace, "name": name, "reason": reason, "body": body}


def _agent_snapshot(world: World, agent: Agent) -> AgentSnapshot:
    meta = agent.metadata
    pods = tuple(
        pod
        for (space, _), (body, pod) in world.pods.items()
        if pod is not None and space == meta.namespace and _owns(agent, body)
    )
    report = world.reports.get((meta.namespace, meta.name))
    variables = tuple(
        variable
        for (space, _), variable in sorted(world.variables.items())
        if space == meta.namespace and variable.selects(meta.name, meta.labels)
    )
    # One Report stands for all of the agent's processes.
    names = [pod.name for pod in pods] or [meta.name]
    return AgentSnapshot(
        agent=agent,
        pods=tuple(sorted(pods, key=lambda pod: pod.name)),
        config_map=_config_map(world, agent),
        variables=variables,
        reports=dict.fromkeys(names, report) if report is not None else {},
        nodes=frozenset(world.nodes) if world.nodes is not None else None,
        cordoned=frozenset(name for name, cordoned in (world.nodes or {}).items() if cordoned),
        parent=instruction.parent_instruction(agent, _family(world, meta.namespace)),
        peers=_peers(world, agent),
        fellows=tuple(
            other
            for (space, name), other in sorted(world.agents.items())
            if space == meta.namespace and any(v.selects(name, other.metadata.labels) for v in variables)
        ),
        policy=_policy(world, agent),
    )


def _peers(world: World, agent: Agent) -> dict[str, PeerFacts]:
    """Those that its topologies name as its peers: their roles, and where their ready pods are."""
    meta, found = agent.metadata, {}
    for (space, _), variable in sorted(world.variables.items()):
        if space != meta.namespace:
            continue
        for name in peers_named_by(variable)(meta.name):
            other = world.agents.get((space, name))
            if other is not None:
                pods = [
                    p for (place, _), (body, p) in sorted(world.pods.items()) if place == space and _owns(other, body)
                ]
                ready = tuple(pod.ip for pod in pods if pod is not None and pod.ip and is_ready(pod))
                found[name] = PeerFacts(other.status.role or other.spec.role_name, ready)
    return found


def _policy(world: World, agent: Agent) -> NetworkPolicyFacts | None:
    meta = agent.metadata
    body = world.policies.get((meta.namespace, network_policy(meta.name)))
    if body is None:
        return None
    return replace(parse_network_policy(body, meta.uid), ours=_owns(agent, body))


def _context(world: World, variable: OrchestrationVariable) -> SystemContext:
    """What there is to divide, for who divides it (as `capacity.context_of`): ResourceQuotas, and what nodes can give."""
    if variable.spec.type is not OrchestrationType.RESOURCE_ALLOCATION or variable.spec.budget:
        return SystemContext()
    space, cordoned = variable.metadata.namespace, world.nodes or {}
    nodes = [given for name, given in sorted(world.allocatable.items()) if not cordoned.get(name)]
    quotas = [hard for (place, _), hard in sorted(world.quotas.items()) if place == space]
    return SystemContext(quota=least(quotas), allocatable=added(nodes))


def _family(world: World, namespace: str) -> dict[str, Supervisor]:
    return {name: found for (space, name), found in world.supervisors.items() if space == namespace}


def _supervisor_snapshot(world: World, found: Supervisor) -> SupervisorSnapshot:
    namespace = found.metadata.namespace
    supervisors = _family(world, namespace)
    agents = {name: agent for (space, name), agent in world.agents.items() if space == namespace}
    return SupervisorSnapshot(found, agents, supervisors, instruction.parent_instruction(found, supervisors))


def _variable_snapshot(world: World, variable: OrchestrationVariable) -> VariableSnapshot:
    meta = variable.metadata
    selected = tuple(
        agent
        for (space, name), agent in sorted(world.agents.items())
        if space == meta.namespace and variable.selects(name, agent.metadata.labels)
    )
    reports = {
        agent.metadata.name: world.reports[meta.namespace, agent.metadata.name]
        for agent in selected
        if (meta.namespace, agent.metadata.name) in world.reports
    }
    prefix = f"{meta.name}-mabeam-"
    config_maps = tuple(
        parse_config_map(body, meta.uid, "OrchestrationVariable")
        for (space, name), body in sorted(world.config_maps.items())
        if space == meta.namespace and name.startswith(prefix)
    )
    context = _context(world, variable)
    return VariableSnapshot(
        variable=variable, agents=selected, reports=reports, config_maps=config_maps, context=context
    )


def _config_map(world: World, agent: Agent) -> ConfigMapFacts | None:
    meta = agent.metadata
    body = world.config_maps.get((meta.namespace, directives_config_map(meta.name)))
    if body is None:
        return None
    facts = parse_config_map(body, meta.uid)
    if not facts.ours and _owns(agent, body):
        return ConfigMapFacts(facts.name, facts.uid, facts.resource_version, True, facts.document)
    return facts


def _owns(agent: Agent, body: JsonDict) -> bool:
    """Whether the object belongs to the agent: by uid where there is one, else by the names in a hand-written world."""
    meta = body.get("metadata") or {}
    references = [r for r in meta.get("ownerReferences") or () if r.get("kind") == "Agent"]
    for reference in references:
        uid = reference.get("uid")
        if reference.get("name") == agent.metadata.name and (
            not uid or not agent.metadata.uid or uid == agent.metadata.uid
        ):
            return True
        if uid and uid == agent.metadata.uid:
            return True
    if references or meta.get("ownerReferences") or agent.metadata.uid:
        return False
    label = (meta.get("labels") or {}).get(LABEL_AGENT)
    if label is not None:
        return bool(label == agent.metadata.name)
    head = str(meta.get("name", "")).rsplit("-", 2)[0]
    return head == agent.metadata.name or meta.get("name") == directives_config_map(agent.metadata.name)
