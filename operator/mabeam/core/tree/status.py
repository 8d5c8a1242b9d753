"""The status of a Supervisor: its state, its conditions, and the records of its children."""

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
from mabeam.core.tree.lineage import cycle_of, worst_case
from mabeam.core.tree.working_set import ChildKey, SupervisorPass


def invalid(supervisor: Supervisor, problem: str, now: datetime) -> Decision[SupervisorStatus]:
    """The decision on a Supervisor whose spec cannot be parsed: `problem` as its conditions; its children stay as they are."""
    before, generation = supervisor.status, supervisor.metadata.generation
    kstatus = KStatus(False, Reason.INVALID_SPEC, problem, stalled=True, accepted=False)
    conditions = merge_conditions(before.conditions, kstatus_conditions(kstatus), generation, now)
    status = before.model_copy(update={"observed_generation": generation, "conditions": conditions})
    known = any(c.reason == Reason.INVALID_SPEC and c.message == problem for c in before.conditions)
    return Decision(status, "invalid", (), () if known else (Event(Reason.INVALID_SPEC, problem[:1024], "Warning"),))


def conclude(pass_: SupervisorPass) -> Decision[SupervisorStatus]:
    """The whole next status and the Events of the pass."""
    supervisor, before = pass_.supervisor, pass_.supervisor.status
    all_stopped = all(child.stopped for child in pass_.children.values())
    kstatus, state = _kstatus(pass_, all_stopped)
    wanted = [*kstatus_conditions(kstatus), _children_resolved(pass_)]
    keep = max(LEDGER_FLOOR, supervisor.spec.max_restarts + 1)
    status = before.model_copy(
        update={
            "observed_generation": supervisor.metadata.generation,
            "state": str(state),
            "conditions": merge_conditions(before.conditions, wanted, supervisor.metadata.generation, pass_.now),
            "restarts": tuple(pass_.window[-min(keep, MAX_RESTARTS + 1) :]),
            "children": tuple(pass_.records.values()),
            "worst_case_restarts": worst_case(supervisor, pass_.snapshot.supervisors),
            "total_restarts": pass_.total,
            "spec_hash": spec_hash(supervisor.spec),
            "parked_at": pass_.parked_at,
            "shut_down_at": pass_.shut_down_at,
            "released_by": released_by(supervisor.metadata, before.released_by),
            "supervision": pass_.supervision,
        }
    )
    return Decision(status, _status_reason(before, status), (), tuple(pass_.events))


def _children_resolved(pass_: SupervisorPass) -> Condition:
    if not pass_.problems:
        return condition(ConditionType.CHILDREN_RESOLVED, True, Reason.ALL_RESOLVED)
    return condition(ConditionType.CHILDREN_RESOLVED, False, Reason.CHILDREN_MISSING, "; ".join(pass_.problems[:4]))


# --- kstatus ------------------------------------------------------------------------------------------------------------


def _kstatus(pass_: SupervisorPass, all_stopped: bool) -> tuple[KStatus, AgentState]:
    """The first that applies: on a cycle, parked, stopping, shut down, held by its parent, or how far its children are."""
    cycle = cycle_of(pass_.supervisor, pass_.snapshot.supervisors)
    if cycle:
        message = f"a cycle of Supervisors: {' → '.join(cycle)}; take one of them off another's children"
        return KStatus(False, Reason.INVALID_TREE, message, stalled=True), AgentState.REGISTERED
    if pass_.parked_at is not None and permanent_stop(pass_.snapshot.parent) is None:
        return _parked(pass_), AgentState.FAILED if all_stopped else AgentState.STOPPING
    if not pass_.children_run and not all_stopped:
        names = ", ".join(child.name for child in pass_.children.values() if not child.stopped)
        return KStatus(False, Reason.STOPPING, f"waiting for {names} to stop", reconciling=True), AgentState.STOPPING
    if pass_.shut_down_at is not None:
        return KStatus(True, Reason.COMPLETED, "its significant children ended"), AgentState.STOPPED
    match pass_.snapshot.parent:
        case WaitingFor(whom):
            message = f"waits to be started by {whom}"
            return KStatus(False, Reason.HELD, message, reconciling=True), AgentState.REGISTERED
        case Instructed(_, str(message)) if not pass_.is_wanted:
            return KStatus(True, Reason.STOPPED, message), AgentState.STOPPED
        case Instructed() if not pass_.is_wanted:
            return KStatus(False, Reason.HELD, "stopped by its Supervisor", reconciling=True), AgentState.STOPPED
    return _progress(pass_)


def _parked(pass_: SupervisorPass) -> KStatus:
    escalates = isinstance(pass_.snapshot.parent, Instructed)
    hint = f"change the spec or: {release_command('msup', pass_.supervisor.metadata)}"
    message = budget_message(pass_) if pass_.window else "parked"
    message += "; its own Supervisor decides" if escalates else f". Fix it, then {hint}"
    return KStatus(False, Reason.RESTART_BUDGET_EXHAUSTED, message, reconciling=escalates, stalled=not escalates)


def _progress(pass_: SupervisorPass) -> tuple[KStatus, AgentState]:
    """How many children are ready, and what the first that is not waits for."""
    total = len(pass_.records)
    ready = [key for key in pass_.records if _is_ready(pass_, key)]
    if len(ready) == total:
        return KStatus(True, Reason.RUNNING, f"{total}/{total} children ready"), AgentState.RUNNING
    kind, name = next(key for key in pass_.records if key not in ready)
    record, child = pass_.records[kind, name], pass_.children.get((kind, name))
    state = AgentState.RUNNING if all(r.started for r in pass_.records.values()) else AgentState.STARTING
    count = f"{len(ready)}/{total} children ready; "
    if child is None:
        return KStatus(False, Reason.CHILDREN_MISSING, count + _problem(pass_, kind, name), reconciling=True), state
    if child.stalled and not child.terminating:
        return KStatus(False, Reason.CHILD_FAILED, count + f"{name} is {child.state}", stalled=True), state
    awaited = "stop" if record.intent is Intent.STOP or child.terminating else "be ready"
    return KStatus(False, Reason.PROGRESSING, count + f"waiting for {name} to {awaited}", reconciling=True), state


def _is_ready(pass_: SupervisorPass, key: ChildKey) -> bool:
    record, child = pass_.records[key], pass_.children.get(key)
    if child is None or record.end is not None:
        return record.end is not None
    return child.ready and record.due is None and child.token == record.token


def _problem(pass_: SupervisorPass, kind: ChildKind, name: str) -> str:
    start = f"{kind} {name} "
    return next((problem for problem in pass_.problems if problem.startswith(start)), f"{start}is missing")


def budget_message(pass_: SupervisorPass) -> str:
    """How the restart budget was exhausted: the restarts in the window, the limit, and the child that failed last."""
    spec, last = pass_.supervisor.spec, pass_.window[-1]
    inside = count_in_window((one.time for one in pass_.window), last.time, spec.period_seconds)
    return f"{inside} restarts in {spec.period_seconds} s (allowed: {spec.max_restarts}). Last: {last.child} gave up"


# --- the decision's own texts --------------------------------------------------------------------------------------------


def _status_reason(before: SupervisorStatus, after: SupervisorStatus) -> str:
    """Why the status is written, in one word for the log and `mabeam plan`."""
    if before == after:
        return "unchanged"
    if after.parked_at is not None and before.parked_at is None:
        return "parked"
    if before.observed_generation < 0:
        return "registered"
    if after.total_restarts != before.total_restarts:
        return "restarted"
    return "observed" if _instructions(before) == _instructions(after) else "instructed"


def _instructions(status: SupervisorStatus) -> list[tuple[str, Intent, int]]:
    return [(record.name, record.intent, record.token) for record in status.children]


@memoize_by_identity
def spec_hash(spec: SupervisorSpec) -> str:
    """The hash of the spec; a Supervisor whose spec hash changes is released."""
    return short_digest(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
