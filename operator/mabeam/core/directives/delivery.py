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
from mabeam.core.directives.confirmation import Seen
from mabeam.core.directives.document import content_of, directives_config_map_body, document_content
from mabeam.core.directives.generations import held_document, held_generation, lost_generation, stored_directives
from mabeam.core.directives.last_good import Lapse, in_force, proven_at, restored
from mabeam.core.directives.overrides import Orders, orders_of
from mabeam.core.directives.progress import _advance, _applied, _applied_generation, _Pass
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
    lapse: Lapse = Lapse.NONE,
    orders: Orders | None = None,
    seen: Seen | None = None,
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
    orders = orders or orders_of(snapshot)
    held, lost = held_generation(snapshot), lost_generation(snapshot)
    document = held_document(snapshot)
    run = _Pass(snapshot, ready_pods, wanted_down, now, before, document, held, lost, orders, seen or Seen())
    wanted = restored(snapshot.agent.spec, orders.told, before, lapse)
    content = content_of(snapshot, wanted, orders.shares)
    nothing = not wanted.items and not content["proposals"]
    if nothing and snapshot.agent.status.directives is None and not run.document:
        return Delivery(None, problems=wanted.problems)
    generation, write = _generation(run, content)
    items = tuple(_advance(run, wanted, place, item, generation) for place, item in enumerate(wanted.items))
    directives = AgentDirectives(
        generation=generation,
        applied_generation=_applied_generation(run, generation),
        items=items,
        conflicts=wanted.listed,
        content_hash=short_digest(content),
        allotted=_allotted(run, items),
        last_good=before.last_good,
    )
    good_at = proven_at(snapshot, directives, wanted.parameters, ready_pods)
    if good_at is not None and good_at <= now:
        directives = directives.model_copy(update={"last_good": wanted.parameters})
    problems = wanted.problems
    trial = run.remaining(good_at, 0) if good_at is not None else None
    requeue = soonest(_requeue(run, directives), trial if trial is not None and trial > 0 else None)
    if run.foreign:
        name = directives_config_map(snapshot.agent.metadata.name)
        told = f"ConfigMap {name} belongs to someone else; delete or rename it, its agent cannot be told anything"
        return Delivery(directives, (), requeue, (*problems, told))
    effects = (*_config_map(run, content, generation, write), *_refresh(run, directives), *_nudge(run, directives))
    return Delivery(directives, effects, requeue, problems)


def _allotted(run: _Pass, items: tuple[AgentDirective, ...]) -> dict[str, str] | None:
    """The amounts that the pods have for certain: those of an acknowledged allotment, else those known before."""
    allotment = next((item for item in items if item.action is DirectiveAction.ALLOCATE_RESOURCES), None)
    if allotment is None:
        return None
    if allotment.state is not DirectiveState.ACKNOWLEDGED:
        return run.before.allotted
    return {resource: amount for resource, amount in run.orders.shares.items() if resource in RESIZABLE}


def only_delivers(snapshot: AgentSnapshot, effects: tuple[Effect, ...]) -> bool:
    """Whether the effects write the ConfigMap anew and make its pods look, and nothing else, while it agrees with the status.

    They may then come before the status: the ConfigMap says what was decided to whoever looks next.
    """
    kinds = [(effect.kind, effect.verb) for effect in effects]
    return (
        held_generation(snapshot) == stored_directives(snapshot).generation
        and not lost_generation(snapshot)
        and kinds[:1] in ([("ConfigMap", "create")], [("ConfigMap", "apply")])
        and all(kind == ("Pod", "patch") for kind in kinds[1:])
    )


# --- the generation --------------------------------------------------------------------------------------------------


def _generation(run: _Pass, content: JsonDict) -> tuple[int, bool]:
    """The generation of the wanted set, and whether the ConfigMap must be written for it. It never moves backwards.

    A ConfigMap older than the status is no witness, even when it holds just this: the newer one may be on its way.
    """
    before, held = run.before, run.held_generation
    newest = max(held, before.generation, run.lost_generation)
    if held == newest and run.document and document_content(run.document) == content:
        return held, False
    if before.generation == newest > held and _is_intended(run, content):
        return before.generation, True  # decided by an earlier pass, not seen in the ConfigMap yet
    return newest + 1, True


def _is_intended(run: _Pass, content: JsonDict) -> bool:
    """Whether the stored generation stands for this content; an older operator's has no hash, and told nothing but parameters."""
    if run.before.content_hash is not None:
        return run.before.content_hash == short_digest(content)
    return (run.agent.status.role or "", in_force(run.before)) == (content["role"], content["parameters"])


# --- the writes -------------------------------------------------------------------------------------------------------


def _config_map(run: _Pass, content: JsonDict, generation: int, write: bool) -> tuple[Effect, ...]:
    if not write:
        return ()
    meta = run.agent.metadata
    body = directives_config_map_body(run.agent, directives_document(meta.name, generation, content))
    effect = Effect("create", "ConfigMap", meta.namespace, body["metadata"]["name"], "directives", body)
    held = run.snapshot.config_map
    return (effect if held is None else replace(effect, verb="apply", resource_version=held.resource_version),)


def _refresh(run: _Pass, directives: AgentDirectives) -> tuple[Effect, ...]:
    """Annotate the pods with the generation: a changed pod makes the kubelet refresh its volumes at once."""
    generation = directives.generation
    stale = (pod for pod in run.live_pods if pod.generation != generation)
    return tuple(_annotate(run, pod, ANNOTATION_GENERATION, generation, "refresh") for pod in stale)


def _nudge(run: _Pass, directives: AgentDirectives) -> tuple[Effect, ...]:
    """Once per generation, make the kubelet of a pod that has not answered look again."""
    since = _unanswered_since(run, directives)
    if since is None or run.remaining(since, NUDGE_SECONDS) > 0:
        return ()
    generation = directives.generation
    return tuple(
        _annotate(run, pod, ANNOTATION_NUDGE, generation, "nudge") for pod in _to_nudge(run, generation, since)
    )


def _to_nudge(run: _Pass, generation: int, since: datetime) -> tuple[PodFacts, ...]:
    """The pods that were annotated, have not answered, and are older than the directive: a younger one read it."""
    return tuple(
        pod
        for pod in run.live_pods
        if pod.generation == generation
        and pod.nudge != str(generation)
        and _applied(run, pod) < generation
        and not (pod.created_at is not None and pod.created_at > since)
    )


def _unanswered_since(run: _Pass, directives: AgentDirectives) -> datetime | None:
    """When the newest generation's directives were issued; None when all of them were answered."""
    waiting = (DirectiveState.ISSUED, DirectiveState.DELIVERED, DirectiveState.EXPIRED)
    times = [
        item.issued_at
        for item in directives.items
        if item.generation == directives.generation and item.state in waiting and item.issued_at is not None
    ]
    return max(times, default=None)


def _annotate(run: _Pass, pod: PodFacts, annotation: str, generation: int, reason: str) -> Effect:
    body = {"metadata": {"annotations": {annotation: str(generation)}}}
    return Effect("patch", "Pod", run.agent.metadata.namespace, pod.name, reason, body, uid=pod.uid)


def _requeue(run: _Pass, directives: AgentDirectives) -> float | None:
    """Seconds until the next deadline or nudge, whichever is sooner."""
    delays: list[float | None] = []
    open_states = (DirectiveState.ISSUED, DirectiveState.DELIVERED)
    delays.extend(
        run.remaining(item.issued_at, item.timeout_seconds)
        for item in directives.items
        if item.state in open_states and item.issued_at is not None and run.answers(item)
    )
    since = _unanswered_since(run, directives)
    if since is not None and not run.foreign:
        delay = run.remaining(since, NUDGE_SECONDS)
        live = any(pod.nudge != str(directives.generation) for pod in run.live_pods)
        if delay > 0 and live:
            delays.append(delay)
    return soonest(*(max(delay, 0.0) for delay in delays if delay is not None))
