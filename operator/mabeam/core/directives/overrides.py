"""The changes that directives make to an agent: to a copy, before supervision reads it. The user's spec is never written."""

from dataclasses import dataclass, replace
from functools import partial

from mabeam.api.agent import Agent, AgentResources, AgentSpec
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveReason
from mabeam.api.names import ANNOTATION_RESTART
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.directives.conflicts import ConflictContext, group_leader
from mabeam.core.directives.effective import OVERRULED_REASONS, EffectiveSet, effective_set, same_directive
from mabeam.core.directives.generations import stored_directives
from mabeam.core.directives.last_good import parameters_in_force
from mabeam.core.pods import spec_hash
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.pods.resources import (
    RESIZABLE,
    ContainerResources,
    allotted_resources,
    declared_resources,
    has_resources,
)
from mabeam.core.snapshot import AgentSnapshot


@dataclass(frozen=True)
class SpecOverrides:
    """The directives of an agent, and what its pods have to be because of them."""

    directives: EffectiveSet
    shape: str  # hash of what a pod is made from
    resources: ContainerResources | None  # of the main container; None: nothing changes what it has
    shares: dict[str, str]  # resource → quantity in force; of a refused allotment the ones that the pods had before it
    migrations: int  # all that were ever asked for; each replica takes part in every one
    reconfigurations: int  # all that were ever asked for
    restarted_by: str | None  # the last value of the annotation mabeam.dev/restart; None: there was none


def spec_overrides(snapshot: AgentSnapshot) -> SpecOverrides:
    """The overrides by the agent's variables as they are, and by its own stored status."""
    agent, before = snapshot.agent, stored_directives(snapshot)
    directives = EffectiveSet()
    if snapshot.variables or before.items:
        context = ConflictContext(
            partial(group_leader, snapshot), parameters_in_force(before), snapshot.function_results
        )
        directives = effective_set(agent, snapshot.variables, before.items, context=context)
    status = agent.status
    reconfigurations = (status.reconfigurations or 0) + _newly_in_force(directives, before, DirectiveAction.RECONFIGURE)
    restarted_by = annotation_request(agent.metadata, ANNOTATION_RESTART) or status.restarted_by
    shape_spec = _with_network_priority(agent.spec, directives)
    shares = _shares(directives, before)
    return SpecOverrides(
        directives=directives,
        shape=spec_hash.effective_pod_hash(shape_spec, reconfigurations, restarted_by),
        resources=_resources(snapshot, shares),
        shares=shares,
        migrations=(status.migrations or 0) + _newly_in_force(directives, before, DirectiveAction.MIGRATE),
        reconfigurations=reconfigurations,
        restarted_by=restarted_by,
    )


def _resources(snapshot: AgentSnapshot, shares: dict[str, str]) -> ContainerResources | None:
    """The amounts of the main container: its share; after an allotment has ended what it declares, until the pods have that."""
    spec, effective = snapshot.agent.spec, snapshot.agent.status.effective
    if any(resource in shares for resource in RESIZABLE):
        return allotted_resources(spec, shares)[0]
    own = declared_resources(spec)
    resized = effective is not None and effective.resources
    differ = (
        is_live(pod) and pod.resources and not has_resources(pod.resources, own.to_wire()) for pod in snapshot.pods
    )
    return own if resized and any(differ) else None


def _newly_in_force(directives: EffectiveSet, before: AgentDirectives, action: DirectiveAction) -> int:
    """How many directives of that action are in force that were not before; each is carried out once."""
    return sum(
        1
        for index, item in enumerate(directives.items)
        if item.action is action and not directives.is_overruled(index) and not _was_in_force(before, item)
    )


def _was_in_force(before: AgentDirectives, item: AgentDirective) -> bool:
    return any(
        old.variable == item.variable and same_directive(old, item) and old.reason not in OVERRULED_REASONS
        for old in before.items
    )


def _shares(directives: EffectiveSet, before: AgentDirectives) -> dict[str, str]:
    """The shares in force: the allotted ones; after a refused resize those that the pods had before, of what can be resized."""
    wanted = dict(directives.resources)
    if all(item.reason is not DirectiveReason.RESOURCE_EXHAUSTED for item in directives.items):
        return wanted
    kept = {name: amount for name, amount in wanted.items() if name not in RESIZABLE}
    return kept | {name: amount for name, amount in (before.allotted or {}).items() if name in RESIZABLE}


def apply_overrides(snapshot: AgentSnapshot, overrides: SpecOverrides) -> AgentSnapshot:
    """The snapshot with the replicas, desired state and bandwidth that directives set; `declared` keeps the user's spec."""
    directives, spec = overrides.directives, snapshot.agent.spec
    changes: dict[str, object] = {}
    if directives.replicas is not None:
        changes["replicas"] = directives.replicas
    if directives.desired_state is not None:
        changes["desired_state"] = directives.desired_state
    changed = _with_network_priority(spec, directives)
    if not changes and changed is spec:
        return snapshot
    agent: Agent = snapshot.agent.model_copy(update={"spec": changed.model_copy(update=changes)})
    return replace(snapshot, agent=agent, declared_spec=spec, stopped_by=directives.stopped_by)


def _with_network_priority(spec: AgentSpec, directives: EffectiveSet) -> AgentSpec:
    """The spec with the bandwidth that a directive sets; the very same spec when there is none, or it names one itself."""
    own = spec.resources or AgentResources()
    if directives.network_priority is None or own.network_priority is not None:
        return spec
    resources = own.model_copy(update={"network_priority": directives.network_priority})
    return spec.model_copy(update={"resources": resources})
