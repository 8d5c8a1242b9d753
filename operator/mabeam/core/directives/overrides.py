"""Directives change the effective agent before supervision looks at it: the spec itself is its user's, and is never written."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from mabeam.api.agent import Agent, AgentResources, AgentSpec, ConflictResolver, Preference
from mabeam.api.agent_status import AgentState
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveState
from mabeam.core.directives.conflicts import ConflictContext, Leader
from mabeam.core.directives.effective import EffectiveSet, conflict_lost, effective_set, same_directive
from mabeam.core.directives.generations import stored_directives
from mabeam.core.directives.last_good import parameters_in_force
from mabeam.core.pods import spec_hash
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.pods.resources import (
    RESIZABLE,
    ContainerResources,
    allotted_resources,
    declared_resources,
    same_resources,
)
from mabeam.core.snapshot import AgentSnapshot

EXHAUSTED: Final = "ResourceExhausted"


@dataclass(frozen=True)
class SpecOverrides:
    """What the agent is told, and what follows from it for its pods.

    `shape` is the hash of what its pods are made from; `resources` what their main container is to have, None when nobody
    allots it any; `shares` the amounts that are in force, those of a refused allotment being the last good ones.
    """

    directives: EffectiveSet
    shape: str
    resources: ContainerResources | None
    shares: dict[str, str]
    migrations: int
    reconfigurations: int


def spec_overrides(snapshot: AgentSnapshot) -> SpecOverrides:
    """The agent's orders by its variables as they stand and its own stored status."""
    agent, before = snapshot.agent, stored_directives(snapshot)
    told = EffectiveSet()
    if snapshot.variables or before.items:
        context = ConflictContext(partial(_leader, snapshot), parameters_in_force(before), snapshot.answers)
        told = effective_set(agent, snapshot.variables, before.items, context)
    status = agent.status
    migrations = (status.migrations or 0) + _newly(told, before, DirectiveAction.MIGRATE)
    reconfigurations = (status.reconfigurations or 0) + _newly(told, before, DirectiveAction.RECONFIGURE)
    shares = _shares(told, before)
    resources = _resources(snapshot, shares)
    shape = spec_hash.effective_pod_hash(_prioritised(agent.spec, told), reconfigurations)
    return SpecOverrides(told, shape, resources, shares, migrations, reconfigurations)


def _resources(snapshot: AgentSnapshot, shares: dict[str, str]) -> ContainerResources | None:
    """What the main container is to have: its share; and when nobody allots it any more, what it declares, until it has that."""
    spec, effective = snapshot.agent.spec, snapshot.agent.status.effective
    if any(resource in shares for resource in RESIZABLE):
        return allotted_resources(spec, shares)[0]
    own = declared_resources(spec)
    resized = effective is not None and effective.resources
    differ = (
        is_live(pod) and pod.resources and not same_resources(pod.resources, own.to_wire()) for pod in snapshot.pods
    )
    return own if resized and any(differ) else None


def _newly(told: EffectiveSet, before: AgentDirectives, action: DirectiveAction) -> int:
    """How many directives of that action came into force that were not in force before; each asks once."""
    return sum(
        1
        for item in told.items
        if item.action is action and told.lost(item) is None and not any(_was_in_force(before, item))
    )


def _was_in_force(before: AgentDirectives, item: AgentDirective) -> Iterator[bool]:
    return (
        old.variable == item.variable and same_directive(old, item) and conflict_lost(before.conflicts, old) is None
        for old in before.items
    )


def _shares(told: EffectiveSet, before: AgentDirectives) -> dict[str, str]:
    """The amounts in force: what is told, unless the kubelet could not do it; then what the pods had before."""
    refused = any(
        item.action is DirectiveAction.ALLOCATE_RESOURCES
        and item.state is DirectiveState.REFUSED
        and (item.reason or "").startswith(EXHAUSTED)
        for item in told.items
    )
    if not refused:
        return dict(told.resources)
    kept = {name: amount for name, amount in told.resources.items() if name not in RESIZABLE}
    return kept | {name: amount for name, amount in (before.allotted or {}).items() if name in RESIZABLE}


def apply_overrides(snapshot: AgentSnapshot, overrides: SpecOverrides) -> AgentSnapshot:
    """The snapshot with the agent as its directives have it: replicas, desired state, bandwidth."""
    told, spec = overrides.directives, snapshot.agent.spec
    words: dict[str, object] = {}
    if told.replicas is not None:
        words["replicas"] = told.replicas
    if told.desired_state is not None:
        words["desired_state"] = told.desired_state
    changed = _prioritised(spec, told)
    if not words and changed is spec:
        return snapshot
    agent: Agent = snapshot.agent.model_copy(update={"spec": changed.model_copy(update=words)})
    return replace(snapshot, agent=agent, declared=spec)


def _prioritised(spec: AgentSpec, told: EffectiveSet) -> AgentSpec:
    """The spec with the bandwidth that it is told, when it names none itself."""
    own = spec.resources or AgentResources()
    if told.network_priority is None or own.network_priority is not None:
        return spec
    resources = own.model_copy(update={"network_priority": told.network_priority})
    return spec.model_copy(update={"resources": resources})


# --- who leads ----------------------------------------------------------------------------------------------------------------


def _leader(snapshot: AgentSnapshot, conflicting: frozenset[str]) -> Leader | None:
    """The one of the conflicting variables' agents that has run the longest: whoever looks comes to the same one, and it stays so
    until it stops (the oldest member leads, as in a cluster singleton); None when that is not asked, or nobody runs.
    """
    if snapshot.agent.spec.conflict_resolution != ConflictResolver.LEADER_ELECTION:
        return None
    theirs = [variable for variable in snapshot.variables if variable.metadata.name in conflicting]
    running = [
        agent
        for agent in snapshot.fellows
        if agent.status.state is AgentState.RUNNING
        and any(variable.selects(agent.metadata.name, agent.metadata.labels) for variable in theirs)
    ]
    ages = {
        agent.metadata.name: min(
            (r.start_time for r in agent.status.pods if r.start_time is not None and r.state is AgentState.RUNNING),
            default=None,
        )
        for agent in running
    }
    ranked = sorted(running, key=lambda a: (ages[a.metadata.name] is None, ages[a.metadata.name] or 0, a.metadata.name))
    if not ranked:
        return None
    leader = ranked[0]
    return Leader(leader.metadata.name, {p.variable: _weight(p) for p in leader.spec.preferences})


def _weight(preference: Preference) -> float:
    return 1.0 if preference.weight is None else preference.weight
