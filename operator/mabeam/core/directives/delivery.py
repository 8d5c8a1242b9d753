"""Delivery of an agent's directives: `status.directives`, the ConfigMap with `directives.json`, and the pods' annotations.

A new generation is stored beside its content, in the status or in the ConfigMap, before any pod is annotated with it. A pass
that finds the ConfigMap behind the status writes the same generation again; one that finds the status behind the ConfigMap takes
over the ConfigMap's. So a crash or a stale cache between the two writes costs a repeated write, never a second generation.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveState, directives_document
from mabeam.api.names import ANNOTATION_GENERATION, ANNOTATION_NUDGE
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.decision import Effect, soonest
from mabeam.core.directives.document import content_of_document, desired_content, directives_config_map_body
from mabeam.core.directives.effective import EffectiveSet
from mabeam.core.directives.generations import annotated_generation, config_map_generation, stored_directives
from mabeam.core.directives.last_good import healthy_at, parameters_in_force, restore_last_good
from mabeam.core.directives.progress import advance, applied_generation
from mabeam.core.directives.working_set import DeliveryPass
from mabeam.core.pods.resources import RESIZABLE
from mabeam.core.snapshot import AgentSnapshot, PodFacts

# Seconds from a directive's issue to a second annotation: the kubelet's cache of the ConfigMap may lag the first one.
NUDGE_SECONDS: Final = 2


@dataclass(frozen=True)
class Delivery:
    """The result of one delivery."""

    directives: AgentDirectives | None  # the agent's `status.directives`
    effects: tuple[Effect, ...] = ()  # in order: the ConfigMap before the annotations of pods
    requeue_after: float | None = None  # seconds
    problems: tuple[str, ...] = ()  # sentences for the Agent's condition


def deliver(pass_: DeliveryPass) -> Delivery:
    """The agent's directives with their states of this moment, and the writes that bring them to its pods.

    An agent without any directive, now or before, has neither `status.directives` nor a ConfigMap.
    """
    snapshot, stored = pass_.snapshot, pass_.agent.status.directives
    if not snapshot.variables and snapshot.config_map is None and stored is None:
        return Delivery(None)
    directives = pass_.overrides.directives
    wanted = restore_last_good(pass_.agent.spec, directives, pass_.before, change=pass_.health_change)
    content = desired_content(snapshot, wanted, pass_.overrides.shares)
    if not wanted.items and not content["proposals"] and stored is None and not pass_.document:
        return Delivery(None, problems=wanted.problems)
    generation, outdated = _generation(pass_, content)
    record = _record(pass_, wanted, content, generation=generation)
    healthy = healthy_at(snapshot, record, wanted.parameters, ready_pods=pass_.ready_pods)
    if healthy is not None and healthy <= pass_.now:
        record = record.model_copy(update={"last_good": wanted.parameters})
    requeue = soonest(_requeue(pass_, record), _until(pass_, healthy))
    problems = wanted.problems if pass_.obstacle is None or not outdated else (*wanted.problems, pass_.obstacle)
    if pass_.foreign:
        return Delivery(record, (), requeue, problems)
    writes = (_config_map(pass_, content, generation),) if outdated else ()
    return Delivery(record, (*writes, *_annotations(pass_, record), *_nudges(pass_, record)), requeue, problems)


def _record(pass_: DeliveryPass, wanted: EffectiveSet, content: JsonDict, *, generation: int) -> AgentDirectives:
    items = tuple(advance(pass_, wanted, index, generation=generation) for index in range(len(wanted.items)))
    return AgentDirectives(
        generation=generation,
        applied_generation=applied_generation(pass_, generation),
        items=items,
        conflicts=wanted.listed,
        content_hash=short_digest(content),
        allotted=_allotted(pass_, items),
        last_good=pass_.before.last_good,
    )


def _allotted(pass_: DeliveryPass, items: tuple[AgentDirective, ...]) -> dict[str, str] | None:
    """The amounts that the pods have for certain: of an acknowledged allotment, else the stored ones; None if nothing allots."""
    allotment = next((item for item in items if item.action is DirectiveAction.ALLOCATE_RESOURCES), None)
    if allotment is None:
        return None
    if allotment.state is not DirectiveState.ACKNOWLEDGED:
        return pass_.before.allotted
    return {resource: amount for resource, amount in pass_.overrides.shares.items() if resource in RESIZABLE}


def _until(pass_: DeliveryPass, moment: datetime | None) -> float | None:
    """Seconds until the moment; None when it is over, or not set."""
    seconds = pass_.remaining(moment, 0) if moment is not None else 0.0
    return seconds if seconds > 0 else None


def writes_only_directives(snapshot: AgentSnapshot, effects: tuple[Effect, ...]) -> bool:
    """Whether the effects are the ConfigMap and annotations of pods, and nothing else, while ConfigMap and status agree.

    Such effects may be done before the status is written: the ConfigMap then holds the decision for the pass that follows.
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
    """The generation of the content, and whether the ConfigMap has to be written for it. It never decreases.

    A ConfigMap that is older than the status proves nothing, even with equal content: a newer one may be on its way.
    """
    before, held = pass_.before, pass_.config_map_generation
    newest = max(held, before.generation, pass_.annotated_generation)
    if held == newest and pass_.document and content_of_document(pass_.document) == content:
        return held, False
    if before.generation == newest > held and _is_stored(pass_, content):
        return before.generation, True  # decided by an earlier pass, and not in the observed ConfigMap yet
    return newest + 1, True


def _is_stored(pass_: DeliveryPass, content: JsonDict) -> bool:
    """Whether the stored generation is of this content; a status without a hash, of an older release, knew only parameters."""
    if pass_.before.content_hash is not None:
        return pass_.before.content_hash == short_digest(content)
    return (pass_.agent.status.role or "", parameters_in_force(pass_.before)) == (
        content["role"],
        content["parameters"],
    )


# --- the writes -------------------------------------------------------------------------------------------------------


def _config_map(pass_: DeliveryPass, content: JsonDict, generation: int) -> Effect:
    meta = pass_.agent.metadata
    body = directives_config_map_body(pass_.agent, directives_document(meta.name, generation, content))
    effect = Effect("create", "ConfigMap", meta.namespace, body["metadata"]["name"], "directives", body)
    held = pass_.snapshot.config_map
    return effect if held is None else replace(effect, verb="apply", resource_version=held.resource_version)


def _annotations(pass_: DeliveryPass, directives: AgentDirectives) -> tuple[Effect, ...]:
    """The generation as an annotation of every pod without it: a changed pod makes its kubelet refresh the volume at once."""
    generation = directives.generation
    stale = (pod for pod in pass_.live_pods if pod.generation != generation)
    return tuple(_annotate(pass_, pod, ANNOTATION_GENERATION, generation=generation, reason="refresh") for pod in stale)


def _nudges(pass_: DeliveryPass, directives: AgentDirectives) -> tuple[Effect, ...]:
    """A second annotation, once a generation, of every pod that has not applied it within NUDGE_SECONDS.

    Only of pods that are older than the directive: a younger one has read it at its start.
    """
    since = _unanswered_since(directives)
    if since is None or pass_.remaining(since, NUDGE_SECONDS) > 0:
        return ()
    generation = directives.generation
    silent = (
        pod
        for pod in pass_.live_pods
        if pod.generation == generation
        and pod.nudge != str(generation)
        and pass_.reported_generation(pod) < generation
        and not (pod.created_at is not None and pod.created_at > since)
    )
    return tuple(_annotate(pass_, pod, ANNOTATION_NUDGE, generation=generation, reason="nudge") for pod in silent)


def _unanswered_since(directives: AgentDirectives) -> datetime | None:
    """When the newest unanswered directive of the current generation was issued; None when all are answered."""
    waiting = (DirectiveState.ISSUED, DirectiveState.DELIVERED, DirectiveState.EXPIRED)
    times = [
        item.issued_at
        for item in directives.items
        if item.generation == directives.generation and item.state in waiting and item.issued_at is not None
    ]
    return max(times, default=None)


def _annotate(pass_: DeliveryPass, pod: PodFacts, annotation: str, *, generation: int, reason: str) -> Effect:
    body = {"metadata": {"annotations": {annotation: str(generation)}}}
    space = pass_.agent.metadata.namespace
    return Effect("patch", "Pod", space, pod.name, reason, body, uid=pod.uid, needs_config_maps=True)


def _may_expire(pass_: DeliveryPass, item: AgentDirective) -> bool:
    return pass_.answers(item) or (item.state is DirectiveState.ISSUED and not pass_.at_rest)


def _requeue(pass_: DeliveryPass, directives: AgentDirectives) -> float | None:
    """Seconds until the next timeout or second annotation, whichever is sooner; None when neither is to come."""
    open_states = (DirectiveState.ISSUED, DirectiveState.DELIVERED)
    delays = [
        pass_.remaining(item.issued_at, item.timeout_seconds)
        for item in directives.items
        if item.state in open_states and item.issued_at is not None and _may_expire(pass_, item)
    ]
    since = _unanswered_since(directives)
    if since is not None and not pass_.foreign:
        delay = pass_.remaining(since, NUDGE_SECONDS)
        if delay > 0 and any(pod.nudge != str(directives.generation) for pod in pass_.live_pods):
            delays.append(delay)
    return soonest(*(max(delay, 0.0) for delay in delays))
