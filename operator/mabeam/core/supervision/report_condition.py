"""The Agent's condition ReportsValid, and its Events: whether its reports can be read, and whether every sample was usable."""

from collections.abc import Iterable
from typing import Final

from mabeam.api.agent_status import AgentState, AgentStatus
from mabeam.api.base import Condition, ConditionStatus
from mabeam.api.names import ConditionType, Reason
from mabeam.core.conventions.conditions import condition, find_condition
from mabeam.core.decision import Event
from mabeam.core.reports.report import expects_reports
from mabeam.core.snapshot import AgentSnapshot

# The most problems that a message names.
MAX_PROBLEMS: Final = 4


def wants_reports(snapshot: AgentSnapshot, *, has_directives: bool) -> bool:
    """Whether the agent's reports are read: a variable, a directive or its own progress timeout makes use of them."""
    is_watched = snapshot.agent.spec.fault_tolerance.progress_timeout_seconds is not None
    return (
        snapshot.invalid is None
        and expects_reports(snapshot.agent)
        and (bool(snapshot.variables) or has_directives or is_watched)
    )


def reports_valid(snapshot: AgentSnapshot, status: AgentStatus) -> list[Condition]:
    """The condition, from the first problem on; an agent that never had one does not have it."""
    known = find_condition(status.conditions, ConditionType.REPORTS_VALID)
    unreadable = _unreadable(snapshot, status)
    bad = sorted({problem for report in snapshot.reports.values() for problem in report.problems})
    if unreadable or bad:
        reason = Reason.UNREACHABLE if unreadable else Reason.BAD_REPORT
        return [condition(ConditionType.REPORTS_VALID, False, reason, "; ".join([*unreadable, *bad][:MAX_PROBLEMS]))]
    if known is None:
        return []
    if known.reason == Reason.UNREACHABLE and _is_unknown(snapshot, status):
        return [known]  # read again means read: an operator that has just started has read nothing yet
    return [condition(ConditionType.REPORTS_VALID, True, Reason.REPORTS_OK)]


def _unreadable(snapshot: AgentSnapshot, status: AgentStatus) -> list[str]:
    """Which pods' reports cannot be read, where and why: of those that are or were ready, for one that starts need not answer."""
    running = {record.name for record in status.pods if record.state is AgentState.RUNNING}
    return [f"{pod} cannot be read: {why}" for pod, why in sorted(snapshot.unreadable.items()) if pod in running]


def _is_unknown(snapshot: AgentSnapshot, status: AgentStatus) -> bool:
    """Whether a replica that is to run has not been read, though it is to be."""
    unread = any(record.is_alive and record.name not in snapshot.reports for record in status.pods)
    return unread and wants_reports(snapshot, has_directives=status.directives is not None)


def report_events(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Event, ...]:
    """An Event when the reports become unusable, for another reason than before, and one when they are usable again."""
    was, now = (find_condition(one, ConditionType.REPORTS_VALID) for one in (before, after))
    if now is None or (was is not None and (was.status, was.reason) == (now.status, now.reason)):
        return ()
    if now.status is ConditionStatus.FALSE:
        return (Event(Reason(now.reason), now.message, "Warning", action="ReadReports"),)
    if was is None:
        return ()
    return (Event(Reason.REPORTS_OK, "its reports are read, and every sample is usable", action="ReadReports"),)
