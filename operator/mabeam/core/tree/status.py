"""A Supervisor's records and children → one state word and the conditions."""

from datetime import datetime

from mabeam.api.agent_status import AgentState
from mabeam.api.base import Condition
from mabeam.api.names import ConditionType, Reason
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import MAX_RESTARTS, ChildKind, Supervisor, SupervisorSpec, SupervisorStatus
from mabeam.core.algorithms.otp import LEDGER_FLOOR, count_in_window
from mabeam.core.conventions.conditions import KStatus, condition, kstatus_conditions, merge_conditions
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.conventions.metadata import release_command, released_by
from mabeam.core.decision import Decision, Event
from mabeam.core.memoize import memoize_by_identity
from mabeam.core.snapshot import Instructed, WaitingFor, permanent_stop
from mabeam.core.tree import lineage as family
from mabeam.core.tree.working_set import ChildKey, SupervisorPass


def invalid(supervisor: Supervisor, problem: str, now: datetime) -> Decision[SupervisorStatus]:
    """The decision on a Supervisor whose spec cannot be read: say so, and leave the children as they were told to be."""
    before, generation = supervisor.status, supervisor.metadata.generation
    verdict = KStatus(False, Reason.INVALID_SPEC, problem, stalled=True, accepted=False)
    conditions = merge_conditions(before.conditions, kstatus_conditions(verdict), generation, now)
    status = before.model_copy(update={"observed_generation": generation, "conditions": conditions})
    known = any(c.reason == Reason.INVALID_SPEC and c.message == problem for c in before.conditions)
    return Decision(status, "invalid", (), () if known else (Event(Reason.INVALID_SPEC, problem[:1024], "Warning"),))


def conclude(run: SupervisorPass) -> Decision[SupervisorStatus]:
    """The status from what the children are told and how they are, with the Events of the pass."""
    supervisor, before = run.supervisor, run.supervisor.status
    all_down = all(child.stopped for child in run.children.values())
    verdict, state = _verdict(run, all_down)
    wanted = [*kstatus_conditions(verdict), _resolved(run)]
    keep = max(LEDGER_FLOOR, supervisor.spec.max_restarts + 1)
    status = before.model_copy(
        update={
            "observed_generation": supervisor.metadata.generation,
            "state": str(state),
            "conditions": merge_conditions(before.conditions, wanted, supervisor.metadata.generation, run.now),
            "restarts": tuple(run.window[-min(keep, MAX_RESTARTS + 1) :]),
            "children": tuple(run.records.values()),
            "worst_case_restarts": family.worst_case(supervisor, run.snapshot.supervisors),
            "total_restarts": run.total,
            "spec_hash": spec_hash(supervisor.spec),
            "parked_at": run.parked_at,
            "shut_down_at": run.shut_down_at,
            "released_by": released_by(supervisor.metadata, before.released_by),
            "supervision": run.supervision,
        }
    )
    return Decision(status, _reason(before, status), (), tuple(run.events))


def _resolved(run: SupervisorPass) -> Condition:
    if not run.problems:
        return condition(ConditionType.CHILDREN_RESOLVED, True, Reason.ALL_RESOLVED)
    return condition(ConditionType.CHILDREN_RESOLVED, False, Reason.CHILDREN_MISSING, "; ".join(run.problems[:4]))


def _verdict(run: SupervisorPass, all_down: bool) -> tuple[KStatus, AgentState]:
    cycle = family.cycle_of(run.supervisor, run.snapshot.supervisors)
    if cycle:
        told = f"a cycle of Supervisors: {' → '.join(cycle)}; take one of them off another's children"
        return KStatus(False, Reason.INVALID_TREE, told, stalled=True), AgentState.REGISTERED
    if run.parked_at is not None and permanent_stop(run.snapshot.parent) is None:
        escalates = isinstance(run.snapshot.parent, Instructed)
        message = budget_message(run) if run.window else "parked"
        message += "; its parent is told" if escalates else f". Fix it, then {_way_out(run.supervisor)}"
        verdict = KStatus(False, Reason.RESTART_BUDGET_EXHAUSTED, message, reconciling=escalates, stalled=not escalates)
        return verdict, AgentState.FAILED if all_down else AgentState.STOPPING
    if not run.children_run and not all_down:
        going = ", ".join(child.name for child in run.children.values() if not child.stopped)
        return KStatus(False, Reason.STOPPING, f"waiting for {going} to stop", reconciling=True), AgentState.STOPPING
    if run.shut_down_at is not None:
        return KStatus(True, Reason.COMPLETED, "its significant children ended"), AgentState.STOPPED
    match run.snapshot.parent:
        case WaitingFor(whom):
            message = f"waits for {whom} to start it"
            return KStatus(False, Reason.HELD, message, reconciling=True), AgentState.REGISTERED
        case Instructed(_, str(why_final)) if not run.is_wanted:
            return KStatus(True, Reason.STOPPED, why_final), AgentState.STOPPED
        case Instructed() if not run.is_wanted:
            return KStatus(False, Reason.HELD, "stopped by its Supervisor", reconciling=True), AgentState.STOPPED
    return _progress(run)


def _progress(run: SupervisorPass) -> tuple[KStatus, AgentState]:
    total = len(run.records)
    up = [name for name in run.records if _is_up(run, name)]
    if len(up) == total:
        return KStatus(True, Reason.RUNNING, f"{total}/{total} children ready"), AgentState.RUNNING
    kind, name = next(name for name in run.records if name not in up)
    record, child = run.records[kind, name], run.children.get((kind, name))
    state = AgentState.RUNNING if all(r.started for r in run.records.values()) else AgentState.STARTING
    line = f"{len(up)}/{total} children ready; "
    if child is None:
        return KStatus(False, Reason.CHILDREN_MISSING, line + _problem_of(run, kind, name), reconciling=True), state
    if child.stalled and not child.terminating:
        return KStatus(False, Reason.CHILD_FAILED, line + f"{name} is {child.state}", stalled=True), state
    doing = "stop" if record.intent is Intent.STOP or child.terminating else "be ready"
    return KStatus(False, Reason.PROGRESSING, line + f"waiting for {name} to {doing}", reconciling=True), state


def _is_up(run: SupervisorPass, name: ChildKey) -> bool:
    record, child = run.records[name], run.children.get(name)
    if child is None or record.end is not None:
        return record.end is not None
    return child.ready and record.due is None and child.token == record.token


def _problem_of(run: SupervisorPass, kind: ChildKind, name: str) -> str:
    return next(
        (problem for problem in run.problems if problem.startswith(f"{kind} {name} ")), f"{kind} {name} is missing"
    )


def _way_out(supervisor: Supervisor) -> str:
    return f"change the spec or: {release_command('msup', supervisor.metadata)}"


def _reason(before: SupervisorStatus, after: SupervisorStatus) -> str:
    """A word for why the status is written, for `mabeam plan` and the log."""
    if before == after:
        return "unchanged"
    if after.parked_at is not None and before.parked_at is None:
        return "parked"
    if before.observed_generation < 0:
        return "registered"
    if after.total_restarts != before.total_restarts:
        return "restarted"
    told = [(r.name, r.intent, r.token) for r in after.children]
    return "told" if told != [(r.name, r.intent, r.token) for r in before.children] else "observed"


def budget_message(run: SupervisorPass) -> str:
    """How the budget came to its end."""
    spec, last = run.supervisor.spec, run.window[-1]
    inside = count_in_window((one.time for one in run.window), last.time, spec.period_seconds)
    return f"{inside} restarts in {spec.period_seconds} s (allowed: {spec.max_restarts}). Last: {last.child} gave up"


@memoize_by_identity
def spec_hash(spec: SupervisorSpec) -> str:
    """The hash of the spec: a change of it releases."""
    return short_digest(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
