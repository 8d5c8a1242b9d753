"""The agent's side of coordination: one effective set of directives, one ConfigMap, and how far each directive came.

Intent before act: a new generation is first a number beside the parameters it stands for, in the agent's status or in its
ConfigMap; the pods' annotations follow. A later pass that finds the ConfigMap behind the status writes the very same
generation again, and one that finds the status behind the ConfigMap tells of what that holds, so a crash (or a stale
cache) between the two costs a repeated write, never a second generation.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent, ReportSource
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveState, directives_document
from mabeam.api.names import ANNOTATION_GENERATION, ANNOTATION_NUDGE, directives_config_map
from mabeam.core.confirmation import CONFIRMED, Seen, infeasible
from mabeam.core.content import content_of, document_content, holds_item
from mabeam.core.decision import Effect, soonest
from mabeam.core.digest import short_digest
from mabeam.core.effective import EffectiveSet, lost_in, same_order
from mabeam.core.generations import held_document, held_generation, lost_generation, stored_directives
from mabeam.core.lifecycle import is_live
from mabeam.core.obedience import EXHAUSTED, Orders, orders_of
from mabeam.core.objects import directives_config_map_body
from mabeam.core.reports import Refusal, Report
from mabeam.core.resources import RESIZABLE
from mabeam.core.restore import DROPPED, Lapse, in_force, proven_at, restored
from mabeam.core.snapshot import AgentSnapshot, PodFacts

# The kubelet's cache of the ConfigMap may lag the annotation that made it look; a second look is asked for after this.
NUDGE_SECONDS: Final = 2
NOT_DELIVERED: Final = "not delivered in time"
NOT_ACKNOWLEDGED: Final = "not acknowledged in time"
# What the operator itself refuses begins so: when that is over, the directive is issued anew.
UNABLE: Final = "cannot be done: "


def expects_reports(agent: Agent) -> bool:
    """Whether the agent is expected to report: a `module` by default, a `template` when `spec.reports` says so."""
    if agent.spec.reports is not None:
        return agent.spec.reports.source is not ReportSource.NONE
    return agent.spec.module is not None


@dataclass(frozen=True)
class Delivery:
    """The agent's `status.directives`, the writes that deliver them, when to look again, and what the user should know."""

    directives: AgentDirectives | None
    effects: tuple[Effect, ...] = ()
    requeue_after: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """What one delivery rests on; it never leaves this module."""

    snapshot: AgentSnapshot
    ready_pods: tuple[PodFacts, ...]
    wanted_down: bool
    now: datetime

    before: AgentDirectives
    document: JsonDict
    held_generation: int
    lost_generation: int
    orders: Orders
    seen: Seen

    @property
    def agent(self) -> Agent:
        return self.snapshot.agent

    @property
    def live_pods(self) -> tuple[PodFacts, ...]:
        return tuple(pod for pod in self.snapshot.pods if is_live(pod) and not pod.deleting)

    @property
    def foreign(self) -> bool:
        return self.snapshot.config_map is not None and not self.snapshot.config_map.ours

    def answers(self, item: AgentDirective) -> bool:
        """Whether an answer can be waited for: not from an agent that rests or never reports, but always from its pods' state."""
        return item.action in CONFIRMED or (not self.wanted_down and expects_reports(self.agent))

    @property
    def stamp(self) -> datetime:
        """Now, as a status can carry it."""
        return self.now.replace(microsecond=0)

    def remaining(self, moment: datetime, seconds: float) -> float:
        """Seconds from now until so many seconds after the moment; 0 or less when that is over."""
        return (moment - self.now).total_seconds() + seconds


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


# --- how far each directive came --------------------------------------------------------------------------------------


def _advance(run: _Pass, wanted: EffectiveSet, place: int, item: AgentDirective, generation: int) -> AgentDirective:
    """The directive with its state of this moment.

    Acknowledged stays: a pod that starts later reads the same file before its agent's first step, and its first
    reports (of a generation not applied yet) would make the state flap. Only a refusal or another order moves it.
    """
    old = next((i for i in run.before.items if i.variable == item.variable and same_order(i, item)), None)
    conflict = wanted.lost(item)
    unable = f"{UNABLE}{wanted.refused[place]}" if place in wanted.refused else None
    aside = conflict.message if conflict is not None else DROPPED if item.dropped else unable
    was_aside = old is not None and _was_aside(run, old)
    if old is None or was_aside != (aside is not None) or (aside is None and _was_overtaken(run, item, generation)):
        item = item.model_copy(
            update={"generation": generation, "issued_at": run.stamp, "state": DirectiveState.ISSUED, "reason": None}
        )
    if aside is not None:
        return item.model_copy(update={"state": DirectiveState.REFUSED, "reason": aside[:1024]})
    state, reason = _state(run, item, is_new=old is None)
    # While nobody runs, nobody can answer: the time to do so begins when somebody does.
    asleep = run.wanted_down and item.action not in CONFIRMED and state is not DirectiveState.ACKNOWLEDGED
    issued_at = None if asleep else item.issued_at or run.stamp
    return item.model_copy(update={"state": state, "reason": reason, "issued_at": issued_at})


def _was_aside(run: _Pass, old: AgentDirective) -> bool:
    unable = old.state is DirectiveState.REFUSED and (old.reason or "").startswith(UNABLE)
    return unable or bool(old.dropped) or lost_in(run.before.conflicts, old) is not None


def _was_overtaken(run: _Pass, item: AgentDirective, generation: int) -> bool:
    """Whether pods may have read another order in between, though the status knows of none: then it has to be told again."""
    if generation <= run.before.generation:
        return False
    lost = run.lost_generation > run.before.generation
    return lost or (run.held_generation >= item.generation and not _holds(run, item))


def _state(run: _Pass, item: AgentDirective, *, is_new: bool) -> tuple[DirectiveState, str | None]:
    refusal = next((r for pod in run.ready_pods for r in _refusals(run, pod) if _refuses(run, pod, r, item)), None)
    if refusal is not None:
        reason = refusal.reason or "refused without a reason"
        return DirectiveState.REFUSED, (f"says: {reason}" if reason.startswith(UNABLE) else reason)[:1024]
    late = item.issued_at is not None and run.remaining(item.issued_at, item.timeout_seconds) <= 0
    if item.action is DirectiveAction.ALLOCATE_RESOURCES:
        if item.state is DirectiveState.REFUSED:
            return item.state, item.reason
        wrong = infeasible(run.seen, run.ready_pods, late=late)
        if wrong is not None:
            return DirectiveState.REFUSED, f"{EXHAUSTED}: {wrong}"[:1024]
    if not is_new and _is_confirmed(run, item):
        return DirectiveState.ACKNOWLEDGED, None
    if item.state in (DirectiveState.ACKNOWLEDGED, DirectiveState.REFUSED):
        return item.state, item.reason
    delivered = item.state is DirectiveState.DELIVERED or item.reason == NOT_ACKNOWLEDGED or _is_delivered(run, item)
    if run.answers(item) and late:
        return DirectiveState.EXPIRED, NOT_ACKNOWLEDGED if delivered else NOT_DELIVERED
    return (DirectiveState.DELIVERED if delivered else DirectiveState.ISSUED), None


def _is_confirmed(run: _Pass, item: AgentDirective) -> bool:
    """Whether the pods' state shows it done, where that can be seen; and the processes say so, where they are to know."""
    by_report = bool(run.ready_pods) and all(_applied(run, pod) >= item.generation for pod in run.ready_pods)
    seen = CONFIRMED.get(item.action)
    if seen is None:
        return by_report
    heard = item.action is not DirectiveAction.ALLOCATE_RESOURCES or by_report or not expects_reports(run.agent)
    return heard and seen(run.seen, run.ready_pods)


def _is_delivered(run: _Pass, item: AgentDirective) -> bool:
    """Whether the ConfigMap holds the directive and every ready pod was made to look; an order about pods: that it is stored."""
    if item.action in CONFIRMED and item.action is not DirectiveAction.ALLOCATE_RESOURCES:
        return any(same_order(old, item) and old.variable == item.variable for old in run.before.items)
    looked = all(pod.generation >= item.generation for pod in run.ready_pods)
    return _holds(run, item) and run.held_generation >= item.generation and looked


def _holds(run: _Pass, item: AgentDirective) -> bool:
    """Whether the ConfigMap has what the directive tells."""
    return holds_item(run.document, item)


def _report(run: _Pass, pod: PodFacts) -> Report | None:
    return run.snapshot.reports.get(pod.name)


def _refusals(run: _Pass, pod: PodFacts) -> tuple[Refusal, ...]:
    report = _report(run, pod)
    return report.refusals if report is not None else ()


def _applied(run: _Pass, pod: PodFacts) -> int:
    """The generation the pod says it applied; -1 when it did not say."""
    report = _report(run, pod)
    return -1 if report is None or report.applied_generation is None else report.applied_generation


def _refuses(run: _Pass, pod: PodFacts, refusal: Refusal, item: AgentDirective) -> bool:
    """Whether the refusal is about this directive.

    `directives.json` names parameters, not variables, so an agent may refuse by either name. A refusal of a whole
    generation leaves in force what the pod had applied before.
    """
    if refusal.generation < item.generation:
        return False
    if not refusal.variable:
        return _applied(run, pod) < item.generation
    return refusal.variable == item.variable or refusal.variable in item.parameters


def _applied_generation(run: _Pass, generation: int) -> int:
    """The generation that all ready pods applied, as far as it is known; it never moves backwards.

    A pod that has not reported yet leaves the last known one standing, and no pod can claim a generation to come.
    """
    reported = [_applied(run, pod) for pod in run.ready_pods]
    known = min(reported) if reported and min(reported) >= 0 else 0
    return min(max(run.before.applied_generation, known), generation)


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
