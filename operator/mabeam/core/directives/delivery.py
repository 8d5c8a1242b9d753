"""The agent's side of coordination: one effective set of directives, one ConfigMap, and how far each directive came.

Intent before act: a new generation is first a number beside the parameters it stands for, in the agent's status or in its
ConfigMap; the pods' annotations follow. A later pass that finds the ConfigMap behind the status writes the very same
generation again, and one that finds the status behind the ConfigMap tells of what that holds, so a crash (or a stale
cache) between the two costs a repeated write, never a second generation.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveState, directives_document
from mabeam.api.names import ANNOTATION_GENERATION, ANNOTATION_NUDGE, directives_config_map
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.decision import Effect, soonest
from mabeam.core.directives.confirmation import RolloutState
from mabeam.core.directives.document import content_of_document, desired_content, directives_config_map_body
from mabeam.core.directives.generations import (
    annotated_generation,
    config_map_document,
    config_map_generation,
    stored_directives,
)
from mabeam.core.directives.last_good import HealthChange, healthy_at, parameters_in_force, restore_last_good
from mabeam.core.directives.overrides import SpecOverrides, spec_overrides
from mabeam.core.directives.progress import DeliveryPass, advance, applied_generation, applied_generation_of
from mabeam.core.pods.resources import RESIZABLE
from mabeam.core.snapshot import AgentSnapshot, PodFacts

# The kubelet's cache of the ConfigMap may lag the annotation that made it look; a second look is asked for after this.
NUDGE_SECONDS: Final = 2


@dataclass(frozen=True)
class Delivery:
    """The agent's `status.directives`, the writes that deliver them, when to look again, and what the user should know."""

    directives: AgentDirectives | None
    effects: tuple[Effect, ...] = ()
    requeue_after: float | None = None
    problems: tuple[str, ...] = ()


def deliver(
    snapshot: AgentSnapshot,
    ready_pods: tuple[PodFacts, ...],
    wanted_down: bool,
    now: datetime,
    health_change: HealthChange = HealthChange.NONE,
    overrides: SpecOverrides | None = None,
    rollout: RolloutState | None = None,
) -> Delivery:
    """The agent's directives as they stand, then the writes that bring them to its pods.

    `ready_pods` are those whose main container runs and that are Ready; `wanted_down` says that the agent rests as
    desired, so nobody is left to acknowledge; `lapse` what this pass found of the agent that its directives may be to blame
    for; `orders` what it is told, and `seen` how far its pods are with that. An agent that was never told anything has no
    directives and no ConfigMap.
    """
    if not snapshot.variables and snapshot.config_map is None and snapshot.agent.status.directives is None:
        return Delivery(None)
    before = stored_directives(snapshot)
    overrides = overrides or spec_overrides(snapshot)
    held, lost = config_map_generation(snapshot), annotated_generation(snapshot)
    document = config_map_document(snapshot)
    pass_ = DeliveryPass(
        snapshot, ready_pods, wanted_down, now, before, document, held, lost, overrides, rollout or RolloutState()
    )
    wanted = restore_last_good(snapshot.agent.spec, overrides.directives, before, health_change)
    content = desired_content(snapshot, wanted, overrides.shares)
    nothing = not wanted.items and not content["proposals"]
    if nothing and snapshot.agent.status.directives is None and not pass_.document:
        return Delivery(None, problems=wanted.problems)
    generation, write = _generation(pass_, content)
    items = tuple(advance(pass_, wanted, place, item, generation) for place, item in enumerate(wanted.items))
    directives = AgentDirectives(
        generation=generation,
        applied_generation=applied_generation(pass_, generation),
        items=items,
        conflicts=wanted.listed,
        content_hash=short_digest(content),
        allotted=_allotted(pass_, items),
        last_good=before.last_good,
    )
    good_at = healthy_at(snapshot, directives, wanted.parameters, ready_pods)
    if good_at is not None and good_at <= now:
        directives = directives.model_copy(update={"last_good": wanted.parameters})
    problems = wanted.problems
    trial = pass_.remaining(good_at, 0) if good_at is not None else None
    requeue = soonest(_requeue(pass_, directives), trial if trial is not None and trial > 0 else None)
    if pass_.foreign:
        name = directives_config_map(snapshot.agent.metadata.name)
        told = f"ConfigMap {name} belongs to someone else; delete or rename it, its agent cannot be told anything"
        return Delivery(directives, (), requeue, (*problems, told))
    effects = (
        *_config_map(pass_, content, generation, write),
        *_refresh(pass_, directives),
        *_nudge(pass_, directives),
    )
    return Delivery(directives, effects, requeue, problems)


def _allotted(pass_: DeliveryPass, items: tuple[AgentDirective, ...]) -> dict[str, str] | None:
    """The amounts that the pods have for certain: those of an acknowledged allotment, else those known before."""
    allotment = next((item for item in items if item.action is DirectiveAction.ALLOCATE_RESOURCES), None)
    if allotment is None:
        return None
    if allotment.state is not DirectiveState.ACKNOWLEDGED:
        return pass_.before.allotted
    return {resource: amount for resource, amount in pass_.overrides.shares.items() if resource in RESIZABLE}


def writes_only_directives(snapshot: AgentSnapshot, effects: tuple[Effect, ...]) -> bool:
    """Whether the effects write the ConfigMap anew and make its pods look, and nothing else, while it agrees with the status.

    They may then come before the status: the ConfigMap says what was decided to whoever looks next.
    """
    kinds = [(effect.kind, effect.verb) for effect in effects]
    return (
        config_map_generation(snapshot) == stored_directives(snapshot).generation
        and not annotated_generation(snapshot)
        and kinds[:1] in ([("ConfigMap", "create")], [("ConfigMap", "apply")])
        and all(kind == ("Pod", "patch") for kind in kinds[1:])
    )


# --- the generation --------------------------------------------------------------------------------------------------


def _generation(pass_: DeliveryPass, content: JsonDict) -> tuple[int, bool]:
    """The generation of the wanted set, and whether the ConfigMap must be written for it. It never moves backwards.

    A ConfigMap older than the status is no witness, even when it holds just this: the newer one may be on its way.
    """
    before, held = pass_.before, pass_.config_map_generation
    newest = max(held, before.generation, pass_.annotated_generation)
    if held == newest and pass_.document and content_of_document(pass_.document) == content:
        return held, False
    if before.generation == newest > held and _is_intended(pass_, content):
        return before.generation, True  # decided by an earlier pass, not seen in the ConfigMap yet
    return newest + 1, True


def _is_intended(pass_: DeliveryPass, content: JsonDict) -> bool:
    """Whether the stored generation stands for this content; an older operator's has no hash, and told nothing but parameters."""
    if pass_.before.content_hash is not None:
        return pass_.before.content_hash == short_digest(content)
    return (pass_.agent.status.role or "", parameters_in_force(pass_.before)) == (
        content["role"],
        content["parameters"],
    )


# --- the writes -------------------------------------------------------------------------------------------------------


def _config_map(pass_: DeliveryPass, content: JsonDict, generation: int, write: bool) -> tuple[Effect, ...]:
    if not write:
        return ()
    meta = pass_.agent.metadata
    body = directives_config_map_body(pass_.agent, directives_document(meta.name, generation, content))
    effect = Effect("create", "ConfigMap", meta.namespace, body["metadata"]["name"], "directives", body)
    held = pass_.snapshot.config_map
    return (effect if held is None else replace(effect, verb="apply", resource_version=held.resource_version),)


def _refresh(pass_: DeliveryPass, directives: AgentDirectives) -> tuple[Effect, ...]:
    """Annotate the pods with the generation: a changed pod makes the kubelet refresh its volumes at once."""
    generation = directives.generation
    stale = (pod for pod in pass_.live_pods if pod.generation != generation)
    return tuple(_annotate(pass_, pod, ANNOTATION_GENERATION, generation, "refresh") for pod in stale)


def _nudge(pass_: DeliveryPass, directives: AgentDirectives) -> tuple[Effect, ...]:
    """Once per generation, make the kubelet of a pod that has not answered look again."""
    since = _unanswered_since(pass_, directives)
    if since is None or pass_.remaining(since, NUDGE_SECONDS) > 0:
        return ()
    generation = directives.generation
    return tuple(
        _annotate(pass_, pod, ANNOTATION_NUDGE, generation, "nudge") for pod in _to_nudge(pass_, generation, since)
    )


def _to_nudge(pass_: DeliveryPass, generation: int, since: datetime) -> tuple[PodFacts, ...]:
    """The pods that were annotated, have not answered, and are older than the directive: a younger one read it."""
    return tuple(
        pod
        for pod in pass_.live_pods
        if pod.generation == generation
        and pod.nudge != str(generation)
        and applied_generation_of(pass_, pod) < generation
        and not (pod.created_at is not None and pod.created_at > since)
    )


def _unanswered_since(pass_: DeliveryPass, directives: AgentDirectives) -> datetime | None:
    """When the newest generation's directives were issued; None when all of them were answered."""
    waiting = (DirectiveState.ISSUED, DirectiveState.DELIVERED, DirectiveState.EXPIRED)
    times = [
        item.issued_at
        for item in directives.items
        if item.generation == directives.generation and item.state in waiting and item.issued_at is not None
    ]
    return max(times, default=None)


def _annotate(pass_: DeliveryPass, pod: PodFacts, annotation: str, generation: int, reason: str) -> Effect:
    body = {"metadata": {"annotations": {annotation: str(generation)}}}
    return Effect("patch", "Pod", pass_.agent.metadata.namespace, pod.name, reason, body, uid=pod.uid)


def _requeue(pass_: DeliveryPass, directives: AgentDirectives) -> float | None:
    """Seconds until the next deadline or nudge, whichever is sooner."""
    delays: list[float | None] = []
    open_states = (DirectiveState.ISSUED, DirectiveState.DELIVERED)
    delays.extend(
        pass_.remaining(item.issued_at, item.timeout_seconds)
        for item in directives.items
        if item.state in open_states and item.issued_at is not None and pass_.answers(item)
    )
    since = _unanswered_since(pass_, directives)
    if since is not None and not pass_.foreign:
        delay = pass_.remaining(since, NUDGE_SECONDS)
        live = any(pod.nudge != str(directives.generation) for pod in pass_.live_pods)
        if delay > 0 and live:
            delays.append(delay)
    return soonest(*(max(delay, 0.0) for delay in delays if delay is not None))
