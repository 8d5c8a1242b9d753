"""The state of each directive: Issued, Delivered, Acknowledged, Refused or Expired, with the reason of the last two."""

from typing import Any, Final

from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveReason, DirectiveState
from mabeam.api.names import Reason
from mabeam.core.decision import Event
from mabeam.core.directives.confirmation import CONFIRMATIONS, STARTS_AND_STOPS, infeasible_resize
from mabeam.core.directives.document import document_carries
from mabeam.core.directives.effective import PARAMETRIC, SET_ASIDE_REASONS, EffectiveSet, same_directive
from mabeam.core.directives.working_set import DeliveryPass
from mabeam.core.reports.report import DirectiveRefusal, expects_reports
from mabeam.core.snapshot import PodFacts

_TIMEOUT_MESSAGES: Final = {
    DirectiveReason.NOT_DELIVERED: "not delivered in time",
    DirectiveReason.NOT_ACKNOWLEDGED: "not acknowledged in time",
}


def advance(pass_: DeliveryPass, wanted: EffectiveSet, index: int, *, generation: int) -> AgentDirective:
    """The directive at that index of the wanted set, with its state of this moment.

    Acknowledged is kept: a pod that starts later reads the same file before its agent's first step, and its first reports (of
    a generation not applied yet) would make the state flap. Only a refusal or another directive ends it.
    """
    item, aside = wanted.items[index], wanted.set_aside.get(index)
    old = next((i for i in pass_.before.items if i.variable == item.variable and same_directive(i, item)), None)
    was_aside = old is not None and old.state is DirectiveState.REFUSED and old.reason in SET_ASIDE_REASONS
    again = item.reason is DirectiveReason.RESOURCE_EXHAUSTED and pass_.rollout.may_resize_again
    if (
        again
        or old is None
        or was_aside != (aside is not None)
        or (aside is None and _was_replaced(pass_, wanted, item, generation=generation))
    ):
        fresh = {"generation": generation, "issued_at": pass_.stamp}
        item = item.model_copy(update=fresh | _progress(DirectiveState.ISSUED))
    if aside is not None:
        refused = _progress(DirectiveState.REFUSED, aside.reason, aside.message)
        return item.model_copy(update=refused | {"overruled_by": aside.overruled_by})
    progress = _next(pass_, wanted, item, is_new=old is None)
    # While no process runs, none can acknowledge: the timeout begins when one does.
    asleep = pass_.at_rest and item.action not in STARTS_AND_STOPS
    asleep = asleep and progress["state"] is not DirectiveState.ACKNOWLEDGED
    return item.model_copy(update=progress | {"issued_at": None if asleep else item.issued_at or pass_.stamp})


def _is_in_file(pass_: DeliveryPass, wanted: EffectiveSet, item: AgentDirective) -> bool:
    """Whether the agent's file carries the directive; in a compromise, with the values of all variables together."""
    if item.action in PARAMETRIC:
        values = {name: wanted.parameters.get(name, value) for name, value in item.parameters.items()}
        item = item.model_copy(update={"parameters": values})
    return document_carries(pass_.document, item)


def refused_allotment_events(before: AgentDirectives, after: AgentDirectives | None) -> tuple[Event, ...]:
    """An Event for each allotment that became Refused, because the cluster does not give it."""
    known = {item.variable for item in before.items if item.reason is DirectiveReason.RESOURCE_EXHAUSTED}
    return tuple(
        Event(
            Reason.RESOURCE_EXHAUSTED,
            f"variable {item.variable} allots {_amounts(item)}: {item.message}; the amounts before it stay in force",
            "Warning",
            action="Resize",
        )
        for item in (after.items if after is not None else ())
        if item.reason is DirectiveReason.RESOURCE_EXHAUSTED and item.variable not in known
    )


def _amounts(item: AgentDirective) -> str:
    return ", ".join(f"{amount} {resource}" for resource, amount in sorted(item.parameters.items()))


def _progress(
    state: DirectiveState, reason: DirectiveReason | None = None, message: str | None = None
) -> dict[str, Any]:
    """The fields of a directive that hold its progress; `overruled_by` is set only for a directive that is set aside."""
    cut = message[:1024] if message is not None else None
    return {"state": state, "reason": reason, "message": cut, "overruled_by": None}


def _was_replaced(pass_: DeliveryPass, wanted: EffectiveSet, item: AgentDirective, *, generation: int) -> bool:
    """Whether pods may have read other values in between, of which the status does not know: then this one is issued anew.

    Those values may be of another directive, or of a compromise that another variable has changed since.
    """
    if generation <= pass_.before.generation:
        return False
    lost = pass_.annotated_generation > pass_.before.generation
    return lost or (pass_.config_map_generation >= item.generation and not _is_in_file(pass_, wanted, item))


def _next(pass_: DeliveryPass, wanted: EffectiveSet, item: AgentDirective, *, is_new: bool) -> dict[str, Any]:
    """The progress of a directive that is in force."""
    refusal = next(
        (r for pod in pass_.ready_pods for r in _refusals(pass_, pod) if _is_about(pass_, pod, r, item=item)), None
    )
    if refusal is not None:
        message = refusal.reason or "refused without a reason"
        return _progress(DirectiveState.REFUSED, DirectiveReason.REFUSED_BY_AGENT, message)
    late = item.issued_at is not None and pass_.remaining(item.issued_at, item.timeout_seconds) <= 0
    unchanged = _progress(item.state, item.reason, item.message)
    if item.action is DirectiveAction.ALLOCATE_RESOURCES:
        if item.state is DirectiveState.REFUSED:
            return unchanged
        problem = infeasible_resize(pass_.rollout, pass_.ready_pods, late=late)
        if problem is not None:
            message = f"not enough resources: {problem}"
            return _progress(DirectiveState.REFUSED, DirectiveReason.RESOURCE_EXHAUSTED, message)
    if not is_new and _is_acknowledged(pass_, item):
        return _progress(DirectiveState.ACKNOWLEDGED)
    if item.state in (DirectiveState.ACKNOWLEDGED, DirectiveState.REFUSED):
        return unchanged
    return _unanswered(pass_, wanted, item, late=late)


def _unanswered(pass_: DeliveryPass, wanted: EffectiveSet, item: AgentDirective, *, late: bool) -> dict[str, Any]:
    """Issued or Delivered; Expired when it is late, and an acknowledgement or at least its delivery could be waited for."""
    was_delivered = item.state is DirectiveState.DELIVERED or item.reason is DirectiveReason.NOT_ACKNOWLEDGED
    delivered = was_delivered or _is_delivered(pass_, wanted, item)
    awaited = pass_.answers(item) or (not delivered and not pass_.at_rest)
    if awaited and late:
        reason = DirectiveReason.NOT_ACKNOWLEDGED if delivered else DirectiveReason.NOT_DELIVERED
        why = f": {pass_.obstacle}" if pass_.obstacle is not None and not delivered else ""
        return _progress(DirectiveState.EXPIRED, reason, f"{_TIMEOUT_MESSAGES[reason]}{why}")
    return _progress(DirectiveState.DELIVERED if delivered else DirectiveState.ISSUED)


def _is_acknowledged(pass_: DeliveryPass, item: AgentDirective) -> bool:
    """Whether the pods show the directive done, where that can be observed, and the processes report it, where they read it."""
    pods = pass_.ready_pods
    by_report = bool(pods) and all(pass_.reported_generation(pod) >= item.generation for pod in pods)
    confirmed = CONFIRMATIONS.get(item.action)
    if confirmed is None:
        return by_report
    reads_it = item.action is DirectiveAction.ALLOCATE_RESOURCES and expects_reports(pass_.agent)
    return (by_report or not reads_it) and confirmed(pass_.rollout, pods)


def _is_delivered(pass_: DeliveryPass, wanted: EffectiveSet, item: AgentDirective) -> bool:
    """Whether a container runs and the file that it sees carries the directive; of a directive about pods: it is stored.

    An agent at rest has no container; its next one starts with the file. Every ready pod has to be annotated, so that its kubelet
    has refreshed the file.
    """
    if item.action in CONFIRMATIONS and item.action is not DirectiveAction.ALLOCATE_RESOURCES:
        return any(same_directive(old, item) and old.variable == item.variable for old in pass_.before.items)
    if not pass_.at_rest and not any(pod.main.state == "running" for pod in pass_.live_pods):
        return False
    annotated = all(pod.generation >= item.generation for pod in pass_.ready_pods)
    return _is_in_file(pass_, wanted, item) and pass_.config_map_generation >= item.generation and annotated


def _refusals(pass_: DeliveryPass, pod: PodFacts) -> tuple[DirectiveRefusal, ...]:
    report = pass_.report(pod)
    return report.refusals if report is not None else ()


def _is_about(pass_: DeliveryPass, pod: PodFacts, refusal: DirectiveRefusal, *, item: AgentDirective) -> bool:
    """Whether the refusal is about this directive.

    `directives.json` names parameters, not variables, so an agent may refuse by either name. A refusal of a whole
    generation leaves in force what the pod had applied before.
    """
    if refusal.generation < item.generation:
        return False
    if not refusal.variable:
        return pass_.reported_generation(pod) < item.generation
    return refusal.variable == item.variable or refusal.variable in item.parameters


def applied_generation(pass_: DeliveryPass, generation: int) -> int:
    """The generation that all ready pods report as applied; never below the stored one, nor above `generation`.

    A pod that has not reported yet leaves the stored one, and a report of a generation to come counts as the newest.
    """
    reported = [pass_.reported_generation(pod) for pod in pass_.ready_pods]
    known = min(reported) if reported and min(reported) >= 0 else 0
    return min(max(pass_.before.applied_generation, known), generation)
