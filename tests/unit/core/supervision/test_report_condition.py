"""The condition ReportsValid and its Events."""

from mabeam.api.base import Condition, ConditionStatus
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import AgentSnapshot
from mabeam.core.supervision.report_condition import report_events, reports_valid, wants_reports
from support.builders import an_agent

RUNNING = {"ordinal": 0, "name": "a-0-1", "incarnation": 1, "state": "Running"}
WATCHED = {"progressTimeoutSeconds": 9}
REFUSED = UnreadableReport("http://10.0.0.7:9464/metrics", "connection refused")


def seen(state: str = "Running", conditions: tuple[Condition, ...] = (), **facts: object) -> list[tuple[str, str, str]]:
    """Status, reason and message of the condition of an agent in that state; none when it has no such condition."""
    stored = [c.to_wire() for c in conditions]
    agent = an_agent("a", faultTolerance=WATCHED, status={"pods": [{**RUNNING, "state": state}], "conditions": stored})
    found = reports_valid(AgentSnapshot(agent, **facts), agent.status)  # type: ignore[arg-type]
    return [(str(c.status), c.reason, c.message) for c in found]


def condition(status: str, reason: str) -> Condition:
    return Condition(type="ReportsValid", status=ConditionStatus(status), reason=reason, message="why")


def test_an_agent_that_never_had_a_problem_has_no_such_condition() -> None:
    assert seen(reports={"a-0-1": Report()}) == []


def test_what_cannot_be_read_comes_before_what_is_wrong_in_a_report() -> None:
    facts = {"unreadable": {"a-0-1": REFUSED}, "reports": {"a-0-1": Report(problems=("mabeam_bid: negative",))}}
    message = f"a-0-1 cannot be read: {REFUSED}; mabeam_bid: negative"
    assert seen(**facts) == [("False", "Unreachable", message)]


def test_a_pod_that_was_never_ready_need_not_answer() -> None:
    assert seen("Starting", unreadable={"a-0-1": REFUSED}) == []


def test_only_a_report_that_was_read_takes_the_condition_back() -> None:
    before = (condition("False", "Unreachable"),)
    assert seen(conditions=before) == [("False", "Unreachable", "why")]
    assert seen(conditions=before, reports={"a-0-1": Report()}) == [("True", "ReportsOk", "")]
    assert seen("Stopped", conditions=before) == [("True", "ReportsOk", "")]


def test_each_new_reason_is_an_event_and_so_is_the_end_of_the_trouble() -> None:
    bad, gone, good = condition("False", "BadReport"), condition("False", "Unreachable"), condition("True", "ReportsOk")
    assert [str(e.reason) for e in report_events([], [bad])] == ["BadReport"]
    assert report_events([bad], [bad]) == ()
    assert [(str(e.reason), e.type) for e in report_events([bad], [gone])] == [("Unreachable", "Warning")]
    assert [(str(e.reason), e.type) for e in report_events([gone], [good])] == [("ReportsOk", "Normal")]
    assert report_events([], [good]) == ()


def test_reports_are_wanted_when_something_makes_use_of_them() -> None:
    assert not wants_reports(AgentSnapshot(an_agent("a")), has_directives=False)
    assert wants_reports(AgentSnapshot(an_agent("a")), has_directives=True)
    assert wants_reports(AgentSnapshot(an_agent("a", faultTolerance=WATCHED)), has_directives=False)
    unread = an_agent("a", faultTolerance=WATCHED, reports={"source": "None"})
    assert not wants_reports(AgentSnapshot(unread), has_directives=True)
