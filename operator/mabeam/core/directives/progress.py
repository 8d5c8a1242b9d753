"""The state of each directive: issued, delivered, applied, refused or timed out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveState
from mabeam.core.directives.confirmation import CONFIRMATIONS, RolloutState, infeasible_resize
from mabeam.core.directives.document import document_carries
from mabeam.core.directives.effective import EffectiveSet, conflict_lost, same_directive
from mabeam.core.directives.last_good import DROPPED
from mabeam.core.directives.overrides import EXHAUSTED, SpecOverrides
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.reports.report import DirectiveRefusal, Report, expects_reports
from mabeam.core.snapshot import AgentSnapshot, PodFacts

NOT_DELIVERED: Final = "not delivered in time"
NOT_ACKNOWLEDGED: Final = "not acknowledged in time"
# What the operator itself refuses begins so: when that is over, the directive is issued anew.
UNABLE: Final = "cannot be done: "


@dataclass(frozen=True)
class DeliveryPass:
    """What one delivery rests on; it never leaves this module."""

    snapshot: AgentSnapshot
    ready_pods: tuple[PodFacts, ...]
    wanted_down: bool
    now: datetime

    before: AgentDirectives
    document: JsonDict
    config_map_generation: int
    annotated_generation: int
    overrides: SpecOverrides
    rollout: RolloutState

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
        return item.action in CONFIRMATIONS or (not self.wanted_down and expects_reports(self.agent))

    @property
    def stamp(self) -> datetime:
        """Now, as a status can carry it."""
        return self.now.replace(microsecond=0)

    def remaining(self, moment: datetime, seconds: float) -> float:
        """Seconds from now until so many seconds after the moment; 0 or less when that is over."""
        return (moment - self.now).total_seconds() + seconds


# --- how far each directive came --------------------------------------------------------------------------------------


def advance(
    pass_: DeliveryPass, wanted: EffectiveSet, place: int, item: AgentDirective, generation: int
) -> AgentDirective:
    """The directive with its state of this moment.

    Acknowledged stays: a pod that starts later reads the same file before its agent's first step, and its first
    reports (of a generation not applied yet) would make the state flap. Only a refusal or another order moves it.
    """
    old = next((i for i in pass_.before.items if i.variable == item.variable and same_directive(i, item)), None)
    conflict = wanted.lost(item)
    unable = f"{UNABLE}{wanted.refused[place]}" if place in wanted.refused else None
    aside = conflict.message if conflict is not None else DROPPED if item.dropped else unable
    was_aside = old is not None and _was_aside(pass_, old)
    if old is None or was_aside != (aside is not None) or (aside is None and _was_overtaken(pass_, item, generation)):
        item = item.model_copy(
            update={"generation": generation, "issued_at": pass_.stamp, "state": DirectiveState.ISSUED, "reason": None}
        )
    if aside is not None:
        return item.model_copy(update={"state": DirectiveState.REFUSED, "reason": aside[:1024]})
    state, reason = _state(pass_, item, is_new=old is None)
    # While nobody runs, nobody can answer: the time to do so begins when somebody does.
    asleep = pass_.wanted_down and item.action not in CONFIRMATIONS and state is not DirectiveState.ACKNOWLEDGED
    issued_at = None if asleep else item.issued_at or pass_.stamp
    return item.model_copy(update={"state": state, "reason": reason, "issued_at": issued_at})


def _was_aside(pass_: DeliveryPass, old: AgentDirective) -> bool:
    unable = old.state is DirectiveState.REFUSED and (old.reason or "").startswith(UNABLE)
    return unable or bool(old.dropped) or conflict_lost(pass_.before.conflicts, old) is not None


def _was_overtaken(pass_: DeliveryPass, item: AgentDirective, generation: int) -> bool:
    """Whether pods may have read another order in between, though the status knows of none: then it has to be told again."""
    if generation <= pass_.before.generation:
        return False
    lost = pass_.annotated_generation > pass_.before.generation
    return lost or (pass_.config_map_generation >= item.generation and not _holds(pass_, item))


def _state(pass_: DeliveryPass, item: AgentDirective, *, is_new: bool) -> tuple[DirectiveState, str | None]:
    refusal = next(
        (r for pod in pass_.ready_pods for r in _refusals(pass_, pod) if _refuses(pass_, pod, r, item)), None
    )
    if refusal is not None:
        reason = refusal.reason or "refused without a reason"
        return DirectiveState.REFUSED, (f"says: {reason}" if reason.startswith(UNABLE) else reason)[:1024]
    late = item.issued_at is not None and pass_.remaining(item.issued_at, item.timeout_seconds) <= 0
    if item.action is DirectiveAction.ALLOCATE_RESOURCES:
        if item.state is DirectiveState.REFUSED:
            return item.state, item.reason
        wrong = infeasible_resize(pass_.rollout, pass_.ready_pods, late=late)
        if wrong is not None:
            return DirectiveState.REFUSED, f"{EXHAUSTED}: {wrong}"[:1024]
    if not is_new and _is_confirmed(pass_, item):
        return DirectiveState.ACKNOWLEDGED, None
    if item.state in (DirectiveState.ACKNOWLEDGED, DirectiveState.REFUSED):
        return item.state, item.reason
    delivered = item.state is DirectiveState.DELIVERED or item.reason == NOT_ACKNOWLEDGED or _is_delivered(pass_, item)
    if pass_.answers(item) and late:
        return DirectiveState.EXPIRED, NOT_ACKNOWLEDGED if delivered else NOT_DELIVERED
    return (DirectiveState.DELIVERED if delivered else DirectiveState.ISSUED), None


def _is_confirmed(pass_: DeliveryPass, item: AgentDirective) -> bool:
    """Whether the pods' state shows it done, where that can be seen; and the processes say so, where they are to know."""
    by_report = bool(pass_.ready_pods) and all(
        applied_generation_of(pass_, pod) >= item.generation for pod in pass_.ready_pods
    )
    rollout = CONFIRMATIONS.get(item.action)
    if rollout is None:
        return by_report
    heard = item.action is not DirectiveAction.ALLOCATE_RESOURCES or by_report or not expects_reports(pass_.agent)
    return heard and rollout(pass_.rollout, pass_.ready_pods)


def _is_delivered(pass_: DeliveryPass, item: AgentDirective) -> bool:
    """Whether the ConfigMap holds the directive and every ready pod was made to look; an order about pods: that it is stored."""
    if item.action in CONFIRMATIONS and item.action is not DirectiveAction.ALLOCATE_RESOURCES:
        return any(same_directive(old, item) and old.variable == item.variable for old in pass_.before.items)
    looked = all(pod.generation >= item.generation for pod in pass_.ready_pods)
    return _holds(pass_, item) and pass_.config_map_generation >= item.generation and looked


def _holds(pass_: DeliveryPass, item: AgentDirective) -> bool:
    """Whether the ConfigMap has what the directive tells."""
    return document_carries(pass_.document, item)


def _report(pass_: DeliveryPass, pod: PodFacts) -> Report | None:
    return pass_.snapshot.reports.get(pod.name)


def _refusals(pass_: DeliveryPass, pod: PodFacts) -> tuple[DirectiveRefusal, ...]:
    report = _report(pass_, pod)
    return report.refusals if report is not None else ()


def applied_generation_of(pass_: DeliveryPass, pod: PodFacts) -> int:
    """The generation the pod says it applied; -1 when it did not say."""
    report = _report(pass_, pod)
    return -1 if report is None or report.applied_generation is None else report.applied_generation


def _refuses(pass_: DeliveryPass, pod: PodFacts, refusal: DirectiveRefusal, item: AgentDirective) -> bool:
    """Whether the refusal is about this directive.

    `directives.json` names parameters, not variables, so an agent may refuse by either name. A refusal of a whole
    generation leaves in force what the pod had applied before.
    """
    if refusal.generation < item.generation:
        return False
    if not refusal.variable:
        return applied_generation_of(pass_, pod) < item.generation
    return refusal.variable == item.variable or refusal.variable in item.parameters


def applied_generation(pass_: DeliveryPass, generation: int) -> int:
    """The generation that all ready pods applied, as far as it is known; it never moves backwards.

    A pod that has not reported yet leaves the last known one standing, and no pod can claim a generation to come.
    """
    reported = [applied_generation_of(pass_, pod) for pod in pass_.ready_pods]
    known = min(reported) if reported and min(reported) >= 0 else 0
    return min(max(pass_.before.applied_generation, known), generation)
