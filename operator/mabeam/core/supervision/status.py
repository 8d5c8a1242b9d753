"""The Agent's status: conditions, `status_reason` and Events, as read by `kubectl get`, `kubectl wait`, Helm and Argo CD."""

from collections.abc import Sequence
from datetime import datetime

from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState
from mabeam.api.base import Condition
from mabeam.api.names import ConditionType, Reason
from mabeam.core.conventions.conditions import KStatus, condition, kstatus_conditions, merge_conditions, new_problem
from mabeam.core.decision import Decision, Event
from mabeam.core.pods.restart_policies import unused_restart_policies
from mabeam.core.snapshot import AgentSnapshot
from mabeam.core.supervision.refusal import refusal_in_force
from mabeam.core.supervision.report_condition import reports_valid
from mabeam.core.supervision.summary import AgentSummary, stop_reason, summarize


def invalid(snapshot: AgentSnapshot, now: datetime) -> Decision[AgentStatus]:
    """The decision on an Agent whose spec cannot be parsed: conditions and one Event; its pods stay as they are."""
    before, message = snapshot.agent.status, snapshot.invalid or ""
    state = before.state or AgentState.REGISTERED
    summary = AgentSummary(state, False, Reason.INVALID_SPEC, message, stalled=True)
    status = before.model_copy(
        update={
            "observed_generation": snapshot.agent.metadata.generation,
            "state": state,
            "conditions": _conditions(snapshot, before, summary, (), now, accepted=False),
        }
    )
    reported = any(
        c.type == ConditionType.READY and c.reason == summary.reason and c.message == message for c in before.conditions
    )
    events = () if reported else (Event(Reason.INVALID_SPEC, message, "Warning"),)
    return Decision(status, "invalid", (), events, expects_follow_up=False)


def with_conditions(
    snapshot: AgentSnapshot, status: AgentStatus, problems: Sequence[str], now: datetime
) -> AgentStatus:
    """The status with its state and conditions; `problems` say why directives cannot be delivered."""
    summary = summarize(snapshot, status, now)
    refused = refusal_in_force(snapshot, status.pods)
    accepted = refused is None or refused.of_server
    conditions = _conditions(snapshot, status, summary, problems, now, accepted=accepted)
    return status.model_copy(update={"state": summary.state, "conditions": conditions})


def with_registration(snapshot: AgentSnapshot, events: Sequence[Event]) -> tuple[Event, ...]:
    """The Events of a pass; the agent's first pass has one more, which takes in those of pods that run already."""
    agent = snapshot.agent
    if agent.status.observed_generation >= 0:
        return tuple(events)
    started = [event.note for event in events if event.reason is Reason.AGENT_STARTED]
    starts = agent.spec.desired_state is DesiredState.RUNNING and agent.spec.replicas > 0
    note = "accepted; " + (
        "; ".join(started) or ("its pods follow" if starts else f"it stays stopped, {stop_reason(snapshot)}")
    )
    others = (event for event in events if event.reason is not Reason.AGENT_STARTED)
    return (Event(Reason.AGENT_REGISTERED, note, action="Register"), *others)


def unused_fields_event(snapshot: AgentSnapshot) -> tuple[Event, ...]:
    """The Event about fields of the template that its pods do not get, once for each wording of it."""
    note = _unused(snapshot) if snapshot.refused is None else None  # a refusal is what Accepted tells then
    is_reported = any(c.type == ConditionType.ACCEPTED and c.message == note for c in snapshot.agent.status.conditions)
    return (Event(Reason.TEMPLATE_ADJUSTED, note, "Warning"),) if note is not None and not is_reported else ()


def _unused(snapshot: AgentSnapshot) -> str | None:
    template = snapshot.agent.spec.template if snapshot.invalid is None else None
    return unused_restart_policies(template.spec) if template is not None else None


def delivery_events(before: AgentStatus, after: AgentStatus) -> tuple[Event, ...]:
    """The Event of directives that cannot be delivered, when that is new or has another cause."""
    problem = new_problem(before.conditions, after.conditions, ConditionType.DIRECTIVES_DELIVERABLE)
    return (Event(Reason.NOT_DELIVERABLE, problem.message, "Warning", action="Deliver"),) if problem is not None else ()


def status_reason(before: AgentStatus, after: AgentStatus) -> str:
    """Why the status is written, in one word for `mabeam plan` and the log."""
    changes = (
        (before == after, "unchanged"),
        (after.parked_at is not None and before.parked_at is None, "parked"),
        (after.parked_at is None and before.parked_at is not None, "released"),
        (before.observed_generation < 0, "registered"),
        (after.disruptions != before.disruptions, "disrupted"),
        (len(after.failures) != len(before.failures) or after.restarts != before.restarts, "failed"),
        ([r.incarnation for r in after.pods] != [r.incarnation for r in before.pods], "incarnated"),
        (after.state != before.state, str(after.state).lower()),
        (after.directives != before.directives, "directives"),
    )
    return next((reason for changed, reason in changes if changed), "observed")


# --- conditions -------------------------------------------------------------------------------------------------------


def _conditions(
    snapshot: AgentSnapshot,
    status: AgentStatus,
    summary: AgentSummary,
    problems: Sequence[str],
    now: datetime,
    *,
    accepted: bool,
) -> tuple[object, ...]:
    reconciling = not summary.ready and not summary.stalled
    kstatus = KStatus(
        summary.ready,
        summary.reason,
        summary.message,
        reconciling,
        summary.stalled,
        accepted,
        note=_unused(snapshot) or "",
    )
    wanted = [
        *kstatus_conditions(kstatus),
        *reports_valid(snapshot, status),
        *_directives_deliverable(status, problems),
    ]
    return merge_conditions(status.conditions, wanted, snapshot.agent.metadata.generation, now)


def _directives_deliverable(status: AgentStatus, problems: Sequence[str]) -> list[Condition]:
    """A condition that exists from the first problem on; an agent that never had one does not have it."""
    type_ = ConditionType.DIRECTIVES_DELIVERABLE
    if problems:
        return [condition(type_, False, Reason.NOT_DELIVERABLE, "; ".join(sorted(set(problems))[:4]))]
    return [condition(type_, True, Reason.DELIVERABLE)] if any(c.type == type_ for c in status.conditions) else []
