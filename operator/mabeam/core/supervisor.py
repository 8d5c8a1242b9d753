"""One pass over a Supervisor: deaths and the window, significance, then stop right to left and start left to right.

A Supervisor touches no child: it tells each one, in its own status, whether to run and in which life (`token`); the child acts.
What is to be done next follows from the tokens and the children's statuses alone (docs/design/0011).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.agent_status import AgentState
from mabeam.api.base import Condition
from mabeam.api.names import ANNOTATION_RELEASE, ConditionType, Reason
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import (
    MAX_RESTARTS,
    AutoShutdown,
    ChildEnd,
    ChildKind,
    ChildRecord,
    ChildReference,
    GroupRestart,
    Supervisor,
    SupervisorStatus,
)
from mabeam.core import family, groups, objects
from mabeam.core.budget import LEDGER_FLOOR, within_budget
from mabeam.core.conditions import condition, settle
from mabeam.core.decision import Decision, Event
from mabeam.core.family import Child, End
from mabeam.core.snapshot import SupervisorSnapshot
from mabeam.core.verdict import Verdict, conditions_of

RELEASE_LENGTH: Final = 1024
MISSING: Final = "Missing"
# A token that has no successor was written by nobody honest.
LAST_TOKEN: Final = 2**31 - 2

Name = tuple[ChildKind, str]


@dataclass
class _Pass:
    """The working set of one pass; it never leaves this module."""

    snapshot: SupervisorSnapshot
    now: datetime
    children: dict[Name, Child]
    problems: tuple[str, ...]
    records: dict[Name, ChildRecord]
    window: list[GroupRestart]
    parked_at: datetime | None
    shut_down_at: datetime | None
    total: int
    supervision: Supervision | None
    events: list[Event] = field(default_factory=list)

    @property
    def supervisor(self) -> Supervisor:
        return self.snapshot.supervisor

    @property
    def told_to_run(self) -> bool:
        """Whether its own parent, if it has or names one, wants it to run."""
        if self.supervision is not None:
            return self.supervision.intent is Intent.START
        return self.snapshot.held is None

    @property
    def runs(self) -> bool:
        """Whether its children shall run at all."""
        return self.told_to_run and self.parked_at is None and self.shut_down_at is None

    def change(self, name: Name, **words: object) -> None:
        self.records[name] = self.records[name].model_copy(update=words)


def decide(snapshot: SupervisorSnapshot, now: datetime) -> Decision[SupervisorStatus]:
    """The Supervisor's next status, then its Events; it has no effects, for its children act on that status."""
    before = snapshot.supervisor.status
    children, problems = family.children_of(snapshot.supervisor, snapshot.agents, snapshot.supervisors)
    run = _Pass(
        snapshot,
        now,
        children,
        problems,
        _records(snapshot.supervisor, children),
        list(before.restarts),
        before.parked_at,
        before.shut_down_at,
        before.total_restarts,
        before.supervision,
    )
    _obey(run)
    _release(run)
    _note_ends(run)
    _judge_deaths(run)
    if not _stop(run):
        _start(run)
    return _conclude(run)


def _records(supervisor: Supervisor, children: Mapping[Name, Child]) -> dict[Name, ChildRecord]:
    """A record for each child, in start order; one that is listed no more is forgotten, and goes on by itself.

    A child that is in a later life than its record says is believed: the status lost its memory.
    """
    stored = {(r.kind, r.name): r for r in supervisor.status.children if r.token <= LAST_TOKEN}
    return {
        (ref.kind, ref.name): _record(ref, stored.get((ref.kind, ref.name)), children.get((ref.kind, ref.name)))
        for ref in supervisor.spec.children
    }


def _record(ref: ChildReference, stored: ChildRecord | None, child: Child | None) -> ChildRecord:
    lived = child.token if child is not None and child.token <= LAST_TOKEN else 0
    if stored is None:
        intent = child.intent if child is not None and child.intent is not None else Intent.STOP
        record = ChildRecord(kind=ref.kind, name=ref.name, intent=intent, token=max(1, lived))
    elif lived > stored.token:
        due = stored.due if stored.due is not None and stored.due > lived else None
        record = stored.model_copy(update={"token": lived, "due": due, "started": None})
    else:
        record = stored
    started = child is not None and child.up and child.token == record.token and record.intent is Intent.START
    return record.model_copy(
        update={
            "state": child.state if child is not None else MISSING,
            "started": True if started else record.started,
        }
    )


# --- beginning anew: the parent's word, a release, a changed spec --------------------------------------------------------


def _obey(run: _Pass) -> None:
    """Take the parent's word; a new life begins with an empty window and all children."""
    run.supervision, reborn = family.obeyed(run.supervision, run.snapshot.word)
    if reborn:
        _begin_anew(run)


def _release(run: _Pass) -> None:
    before = run.supervisor.status
    asked = _asked_release(run.supervisor)
    by_annotation = bool(asked) and asked != before.released_by
    changed = before.spec_hash is not None and before.spec_hash != _hash(run.supervisor)
    if not by_annotation and not changed:
        return
    over = run.parked_at is not None or run.shut_down_at is not None
    run.window.clear()
    if over:
        why = f"the annotation {ANNOTATION_RELEASE}" if by_annotation else "a spec change"
        run.events.append(Event(Reason.SUPERVISOR_RELEASED, f"released by {why}; its children start anew"))
        _begin_anew(run)


def _hash(supervisor: Supervisor) -> str:
    return objects.digest(supervisor.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def _asked_release(supervisor: Supervisor) -> str:
    return supervisor.metadata.annotations.get(ANNOTATION_RELEASE, "")[:RELEASE_LENGTH]


def _begin_anew(run: _Pass) -> None:
    run.window.clear()
    run.parked_at = run.shut_down_at = None
    for name, record in run.records.items():
        run.change(name, due=record.token + 1, end=None)


# --- deaths and the budget -----------------------------------------------------------------------------------------------


def _judge_deaths(run: _Pass) -> None:
    """Count each death once and give its group the next life; supervisor.erl restart/2, add_restart/1,3."""
    places = {name: place for place, name in enumerate(run.records)}
    dead = [
        (child.ended_at or run.now, places[name], name)
        for name, child in run.children.items()
        if child.end is End.DEATH and _is_current(run.records[name], child)
    ]
    for time, place, name in sorted(dead):
        if not run.runs:
            return
        if run.records[name].due is not None:
            continue  # it fell while its group was to be restarted anyway
        _judge_death(run, min(time, run.now), place, name)


def _is_current(record: ChildRecord, child: Child) -> bool:
    """Whether the child is in the life that it was told to lead, and this was not handled yet."""
    told = record.intent is Intent.START and record.due is None and record.end is None
    return told and child.token == record.token


def _judge_death(run: _Pass, time: datetime, place: int, name: Name) -> None:
    spec = run.supervisor.spec
    order = list(run.records)
    taken = [order[other] for other in groups.group(spec.strategy, place, range(len(order)))]
    group = tuple(other[1] for other in taken)
    within = within_budget((one.time for one in run.window), time, spec.max_restarts, spec.period_seconds)
    run.window.append(GroupRestart(time=time, child=name[1], group=group))
    if not within:
        run.parked_at = run.now
        run.events.append(Event(Reason.RESTART_BUDGET_EXHAUSTED, _exhausted(run), "Warning"))
        return
    run.total += 1
    for other in taken:
        _restart(run, other, failed=other == name)
    used = sum(1 for one in run.window if (time - one.time).total_seconds() <= spec.period_seconds)
    along = f", with {', '.join(one for one in group if one != name[1])}" if len(group) > 1 else ""
    note = f"{name[1]} gave up; restart {used} of {spec.max_restarts} in {spec.period_seconds} s{along}"
    run.events.append(Event(Reason.GROUP_RESTARTED, note, "Warning"))


def _restart(run: _Pass, name: Name, *, failed: bool) -> None:
    """The next life for one of the group; supervisor.erl restart_multiple_children/3 starts all that have a spec left."""
    record, child = run.records[name], run.children.get(name)
    if child is not None and child.temporary and not failed:
        run.change(name, end=ChildEnd.REMOVED)
    elif record.end is None or (record.end is ChildEnd.FINISHED and run.supervisor.spec.restart_finished):
        run.change(name, due=record.token + 1, end=None)


def _exhausted(run: _Pass) -> str:
    spec, last = run.supervisor.spec, run.window[-1]
    inside = sum(1 for one in run.window if (last.time - one.time).total_seconds() <= spec.period_seconds)
    return f"{inside} restarts in {spec.period_seconds} s (allowed: {spec.max_restarts}). Last: {last.child} gave up"


# --- ends that no restart follows, and their significance ------------------------------------------------------------------


def _note_ends(run: _Pass) -> None:
    """Note the children that ended by themselves since the last pass; supervisor.erl do_restart/3, do_auto_shutdown/2."""
    fresh = [
        name for name, child in run.children.items() if child.end in _ENDS and _is_current(run.records[name], child)
    ]
    for name in fresh:
        run.change(name, end=_ENDS[run.children[name].end])
    if run.runs and _is_significant(run, fresh):
        run.shut_down_at = run.now
        told = ", ".join(name for _, name in fresh)
        run.events.append(Event(Reason.AUTO_SHUTDOWN, f"{told} ended; all children are stopped"))


_ENDS: Final[Mapping[End | None, ChildEnd]] = {End.NORMAL: ChildEnd.FINISHED, End.FOR_GOOD: ChildEnd.REMOVED}


def _is_significant(run: _Pass, fresh: Sequence[Name]) -> bool:
    """Whether these ends are followed by an automatic shutdown: of any significant child, or of the last one that was active."""
    spec = run.supervisor.spec
    significant = {(ref.kind, ref.name) for ref in spec.children if ref.significant}
    if spec.auto_shutdown is AutoShutdown.NEVER or not significant.intersection(fresh):
        return False
    return spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or all(
        run.records[name].end is not None for name in significant
    )


# --- stop right to left, start left to right -------------------------------------------------------------------------------


def _stop(run: _Pass) -> bool:
    """Tell the last of those that have to stop, and the one before it when that one is down; whether one is not down yet."""
    for name in reversed(list(run.records)):
        record, child = run.records[name], run.children.get(name)
        if run.runs and record.due is None and record.end is not ChildEnd.REMOVED:
            continue
        run.change(name, intent=Intent.STOP)
        if child is not None and not child.down:
            return True
    return False


def _start(run: _Pass) -> None:
    """Tell the first one that shall run and does not to start; those after it wait until it was ready once."""
    if not run.runs:
        return
    for name, record in run.records.items():
        if record.end is not None:
            continue
        if record.due is not None or record.intent is Intent.STOP:
            token = record.due if record.due is not None else record.token
            run.change(name, intent=Intent.START, token=token, due=None, started=None)
            return
        if not record.started:
            return


# --- the status ------------------------------------------------------------------------------------------------------------


def _conclude(run: _Pass) -> Decision[SupervisorStatus]:
    supervisor, before = run.supervisor, run.supervisor.status
    all_down = all(child.down for child in run.children.values())
    verdict, state = _verdict(run, all_down)
    wanted = [*conditions_of(verdict), _resolved(run)]
    keep = max(LEDGER_FLOOR, supervisor.spec.max_restarts + 1)
    status = before.model_copy(
        update={
            "observed_generation": supervisor.metadata.generation,
            "state": str(state),
            "conditions": settle(before.conditions, wanted, supervisor.metadata.generation, run.now),
            "restarts": tuple(run.window[-min(keep, MAX_RESTARTS + 1) :]),
            "children": tuple(run.records.values()),
            "worst_case_restarts": family.worst_case(supervisor, run.snapshot.supervisors),
            "total_restarts": run.total,
            "spec_hash": _hash(supervisor),
            "parked_at": run.parked_at,
            "shut_down_at": run.shut_down_at,
            "released_by": _asked_release(supervisor) or before.released_by,
            "supervision": run.supervision,
        }
    )
    return Decision(status, _reason(before, status), (), tuple(run.events))


def _resolved(run: _Pass) -> Condition:
    if not run.problems:
        return condition(ConditionType.CHILDREN_RESOLVED, True, Reason.ALL_RESOLVED)
    return condition(ConditionType.CHILDREN_RESOLVED, False, Reason.CHILDREN_MISSING, "; ".join(run.problems[:4]))


def _verdict(run: _Pass, all_down: bool) -> tuple[Verdict, AgentState]:
    cycle = family.cycle_of(run.supervisor, run.snapshot.supervisors)
    if cycle:
        told = f"a cycle of Supervisors: {' → '.join(cycle)}; take one of them off another's children"
        return Verdict(False, Reason.INVALID_TREE, told, stalled=True), AgentState.REGISTERED
    if run.parked_at is not None:
        escalates = run.supervision is not None
        message = _exhausted(run) if run.window else "parked"
        message += "; its parent is told" if escalates else f". Fix it, then {_way_out(run.supervisor)}"
        verdict = Verdict(False, Reason.RESTART_BUDGET_EXHAUSTED, message, reconciling=escalates, stalled=not escalates)
        return verdict, AgentState.FAILED if all_down else AgentState.STOPPING
    if not run.runs and not all_down:
        going = ", ".join(child.name for child in run.children.values() if not child.down)
        return Verdict(False, Reason.STOPPING, f"waiting for {going} to stop", reconciling=True), AgentState.STOPPING
    if run.shut_down_at is not None:
        return Verdict(True, Reason.COMPLETED, "its significant children ended"), AgentState.STOPPED
    if not run.told_to_run:
        waits = Verdict(False, Reason.HELD, f"waits for Supervisor {run.snapshot.held} to start it", reconciling=True)
        stopped = Verdict(False, Reason.HELD, "stopped by its Supervisor", reconciling=True)
        return (stopped, AgentState.STOPPED) if run.supervision is not None else (waits, AgentState.REGISTERED)
    return _progress(run)


def _progress(run: _Pass) -> tuple[Verdict, AgentState]:
    total = len(run.records)
    up = [name for name in run.records if _is_up(run, name)]
    if len(up) == total:
        return Verdict(True, Reason.RUNNING, f"{total}/{total} children ready"), AgentState.RUNNING
    kind, name = next(name for name in run.records if name not in up)
    record, child = run.records[kind, name], run.children.get((kind, name))
    state = AgentState.RUNNING if all(r.started for r in run.records.values()) else AgentState.STARTING
    line = f"{len(up)}/{total} children ready; "
    if child is None:
        return Verdict(False, Reason.CHILDREN_MISSING, line + _problem_of(run, kind, name), reconciling=True), state
    if child.stalled:
        return Verdict(False, Reason.CHILD_FAILED, line + f"{name} is {child.state}", stalled=True), state
    doing = "stop" if record.intent is Intent.STOP else "be ready"
    return Verdict(False, Reason.PROGRESSING, line + f"waiting for {name} to {doing}", reconciling=True), state


def _is_up(run: _Pass, name: Name) -> bool:
    record, child = run.records[name], run.children.get(name)
    if child is None or record.end is not None:
        return record.end is not None
    return child.up and record.due is None and child.token == record.token


def _problem_of(run: _Pass, kind: ChildKind, name: str) -> str:
    return next(
        (problem for problem in run.problems if problem.startswith(f"{kind} {name} ")), f"{kind} {name} is missing"
    )


def _way_out(supervisor: Supervisor) -> str:
    meta = supervisor.metadata
    return (
        f"change the spec or: kubectl annotate msup {meta.name} -n {meta.namespace} "
        f'--overwrite {ANNOTATION_RELEASE}="$(date +%s)"'
    )


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
