"""Which children a Supervisor restarts after one of them ended, and when its budget is spent (supervisor.erl, restart/2)."""

from collections.abc import Sequence
from datetime import datetime

from mabeam.api.names import Reason
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import AutoShutdown, ChildEnd, ChildRecord, GroupRestart
from mabeam.core.algorithms import otp as groups
from mabeam.core.algorithms.otp import count_in_window, within_budget
from mabeam.core.conventions.metadata import release_source
from mabeam.core.decision import Event
from mabeam.core.snapshot import supervision_of
from mabeam.core.tree import instruction
from mabeam.core.tree.child_state import Child, End
from mabeam.core.tree.status import budget_message, spec_hash
from mabeam.core.tree.working_set import ChildKey, SupervisorPass

# --- beginning anew: the parent's word, a release, a changed spec --------------------------------------------------------


def adopt_instruction(run: SupervisorPass) -> None:
    """Take the parent's word; a new life begins with an empty window and all children."""
    run.supervision, reborn = instruction.adopt_instruction(run.supervision, supervision_of(run.snapshot.parent))
    if reborn:
        _begin_anew(run)


def apply_release(run: SupervisorPass) -> None:
    before = run.supervisor.status
    changed = before.spec_hash is not None and before.spec_hash != spec_hash(run.supervisor.spec)
    source = release_source(run.supervisor.metadata, before.released_by, spec_changed=changed)
    if source is None:
        return
    over = run.parked_at is not None or run.shut_down_at is not None
    run.window.clear()
    if over:
        run.events.append(Event(Reason.SUPERVISOR_RELEASED, f"released by {source}; its children start anew"))
        _begin_anew(run)


def _begin_anew(run: SupervisorPass) -> None:
    run.window.clear()
    run.parked_at = run.shut_down_at = None
    for name, record in run.records.items():
        run.update_record(name, due=record.token + 1, end=None)


# --- deaths and the budget -----------------------------------------------------------------------------------------------


def restart_after_failures(run: SupervisorPass) -> None:
    """Count each death once and give its group the next life; supervisor.erl restart/2, add_restart/1,3."""
    places = {name: place for place, name in enumerate(run.records)}
    dead = [
        (child.ended_at or run.now, places[name], name)
        for name, child in run.children.items()
        if child.end is End.BUDGET_EXHAUSTED and _is_current(run.records[name], child)
    ]
    for time, place, name in sorted(dead):
        if not run.children_run:
            return
        if run.records[name].due is not None:
            continue  # it fell while its group was to be restarted anyway
        # Bounded by now and by the restart before: monotonic, as supervisor.erl's clock, whatever the nodes' clocks say.
        newest = run.window[-1].time if run.window else time
        time = min(max(time, newest), run.now)
        _judge_death(run, time, place, name)


def _is_current(record: ChildRecord, child: Child) -> bool:
    """Whether the child is in the life that it was told to lead, and this was not handled yet."""
    told = record.intent is Intent.START and record.due is None and record.end is None
    return told and child.token == record.token


def _judge_death(run: SupervisorPass, time: datetime, place: int, name: ChildKey) -> None:
    spec = run.supervisor.spec
    order = list(run.records)
    taken = [order[other] for other in groups.restart_group(spec.strategy, place, range(len(order)))]
    group = tuple(other[1] for other in taken)
    within = within_budget((one.time for one in run.window), time, spec.max_restarts, spec.period_seconds)
    run.window.append(GroupRestart(time=time, child=name[1], group=group))
    if not within:
        run.parked_at = run.now
        run.events.append(Event(Reason.RESTART_BUDGET_EXHAUSTED, budget_message(run), "Warning"))
        return
    run.total += 1
    running = [other for other in taken if run.records[other].end is None]
    for other in taken:
        _restart(run, other, failed=other == name)
    used = count_in_window((one.time for one in run.window), time, spec.period_seconds)
    again = [other[1] for other in taken if run.records[other].due is not None and other != name]
    gone = [other[1] for other in running if run.records[other].end is ChildEnd.REMOVED]
    along = f", with {', '.join(again)}" if again else ""
    along += f"; {', '.join(gone)} removed, as a Temporary agent is" if gone else ""
    note = f"{name[1]} gave up; restart {used} of {spec.max_restarts} in {spec.period_seconds} s{along}"
    run.events.append(Event(Reason.GROUP_RESTARTED, note, "Warning"))


def _restart(run: SupervisorPass, name: ChildKey, *, failed: bool) -> None:
    """The next life for one of the group; supervisor.erl restart_multiple_children/3 starts all that have a spec left."""
    record, child = run.records[name], run.children.get(name)
    if child is not None and child.temporary and not failed:
        if record.end is None and record.intent is Intent.START:  # else it is over, or its turn has not come yet
            run.update_record(name, end=ChildEnd.REMOVED)
    elif record.end is None or (child is not None and _starts_again(run, record)):
        run.update_record(name, due=record.token + 1, end=None)


def _starts_again(run: SupervisorPass, record: ChildRecord) -> bool:
    return record.end is ChildEnd.FINISHED and run.supervisor.spec.restart_finished


# --- ends that no restart follows, and their significance ------------------------------------------------------------------


def record_ends(run: SupervisorPass) -> None:
    """Note the children that ended by themselves since the last pass; supervisor.erl do_restart/3, do_auto_shutdown/2."""
    ends = (End.COMPLETED, End.ENDED)
    fresh = [
        name for name, child in run.children.items() if child.end in ends and _is_current(run.records[name], child)
    ]
    for name in fresh:
        run.update_record(name, end=ChildEnd.FINISHED)
    if run.children_run and _is_significant(run, fresh):
        run.shut_down_at = run.now
        told = ", ".join(name for _, name in fresh)
        run.events.append(Event(Reason.AUTO_SHUTDOWN, f"{told} ended; all children are stopped"))


def _is_significant(run: SupervisorPass, fresh: Sequence[ChildKey]) -> bool:
    """Whether these ends are followed by an automatic shutdown: of any significant child, or of the last one that was active."""
    spec = run.supervisor.spec
    significant = {(ref.kind, ref.name) for ref in spec.children if ref.significant}
    if spec.auto_shutdown is AutoShutdown.NEVER or not significant.intersection(fresh):
        return False
    return spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not any(_is_active(run, name) for name in significant)


def _is_active(run: SupervisorPass, name: ChildKey) -> bool:
    """Whether the child's end is still to come: not of one that ended, nor of one that rests by its user's wish."""
    child = run.children.get(name)
    return run.records[name].end is None and not (child is not None and child.ready and child.stopped)
