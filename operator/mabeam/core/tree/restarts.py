"""Which children a Supervisor restarts after one of them failed, and when its restart budget is exhausted.

Source: OTP's supervisor.erl, restart/2, add_restart/1,3 and do_auto_shutdown/2.
"""

from collections.abc import Sequence
from datetime import datetime

from mabeam.api.names import Reason
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import AutoShutdown, ChildEnd, ChildRecord, GroupRestart
from mabeam.core.algorithms.otp import count_in_window, restart_group, within_budget
from mabeam.core.conventions.metadata import release_source
from mabeam.core.decision import Event
from mabeam.core.snapshot import supervision_of
from mabeam.core.tree.child_state import Child, End
from mabeam.core.tree.instruction import adopt_instruction
from mabeam.core.tree.status import budget_message, spec_hash
from mabeam.core.tree.working_set import ChildKey, SupervisorPass

# --- starting over: an instruction of the parent, a release, a changed spec --------------------------------------------------


def adopt_parent_instruction(pass_: SupervisorPass) -> None:
    """Adopt the parent's instruction; one that restarts the Supervisor empties the window and restarts all children."""
    pass_.supervision, restarted = adopt_instruction(pass_.supervision, supervision_of(pass_.snapshot.parent))
    if restarted:
        _restart_all(pass_)


def apply_release(pass_: SupervisorPass) -> None:
    """Empty the window when the user releases the Supervisor; restart all children if it was parked or had shut down."""
    before = pass_.supervisor.status
    changed = before.spec_hash is not None and before.spec_hash != spec_hash(pass_.supervisor.spec)
    source = release_source(pass_.supervisor.metadata, before.released_by, spec_changed=changed)
    if source is None:
        return
    pass_.window.clear()
    if pass_.parked_at is not None or pass_.shut_down_at is not None:
        pass_.events.append(Event(Reason.SUPERVISOR_RELEASED, f"released by {source}; its children start again"))
        _restart_all(pass_)


def _restart_all(pass_: SupervisorPass) -> None:
    pass_.window.clear()
    pass_.parked_at = pass_.shut_down_at = None
    for key, record in pass_.records.items():
        pass_.update_record(key, due=record.token + 1, end=None)


# --- failed children and the budget ------------------------------------------------------------------------------------------


def restart_after_failures(pass_: SupervisorPass) -> None:
    """Count each child that exhausted its own budget once, and give its group new tokens; park when that is one too many."""
    places = {key: place for place, key in enumerate(pass_.records)}
    failed = [
        (child.ended_at or pass_.now, places[key], key)
        for key, child in pass_.children.items()
        if child.end is End.BUDGET_EXHAUSTED and _is_current(pass_.records[key], child)
    ]
    for time, place, key in sorted(failed):
        if not pass_.children_run:
            return
        if pass_.records[key].due is not None:
            continue  # the restart of another child's group includes it
        # Not before the last restart and not after now: monotonic, as supervisor.erl's clock, whatever the nodes' clocks say.
        newest = pass_.window[-1].time if pass_.window else time
        _restart_group(pass_, min(max(time, newest), pass_.now), place, key)


def _is_current(record: ChildRecord, child: Child) -> bool:
    """Whether the child's state belongs to the start that its record is about, and was not handled yet."""
    started = record.intent is Intent.START and record.due is None and record.end is None
    return started and child.token == record.token


def _restart_group(pass_: SupervisorPass, time: datetime, place: int, key: ChildKey) -> None:
    """Enter the failure of the child at `place` into the window; restart its group within the budget, else park."""
    spec = pass_.supervisor.spec
    order = list(pass_.records)
    group = [order[other] for other in restart_group(spec.strategy, place, range(len(order)))]
    within = within_budget((one.time for one in pass_.window), time, spec.max_restarts, spec.period_seconds)
    pass_.window.append(GroupRestart(time=time, child=key[1], group=tuple(name for _, name in group)))
    if not within:
        pass_.parked_at = pass_.now
        pass_.events.append(Event(Reason.RESTART_BUDGET_EXHAUSTED, budget_message(pass_), "Warning"))
        return
    pass_.total += 1
    not_ended = [other for other in group if pass_.records[other].end is None]
    for other in group:
        _restart_child(pass_, other, failed=other == key)
    removed = [other[1] for other in not_ended if pass_.records[other].end is ChildEnd.REMOVED]
    restarted = [other[1] for other in group if pass_.records[other].due is not None and other != key]
    used = count_in_window((one.time for one in pass_.window), time, spec.period_seconds)
    note = f"{key[1]} gave up; restart {used} of {spec.max_restarts} in {spec.period_seconds} s"
    note += f", with {', '.join(restarted)}" if restarted else ""
    note += f"; {', '.join(removed)} removed, as a Temporary agent is" if removed else ""
    pass_.events.append(Event(Reason.GROUP_RESTARTED, note, "Warning"))


def _restart_child(pass_: SupervisorPass, key: ChildKey, *, failed: bool) -> None:
    """A new token for one child of the group, or its removal.

    supervisor.erl restart_multiple_children/3 starts all that have a child spec left: that of a Temporary child is deleted when
    it stops.
    """
    record, child = pass_.records[key], pass_.children.get(key)
    if child is not None and child.temporary and not failed:
        if record.end is None and record.intent is Intent.START:  # else it ended before, or was never started
            pass_.update_record(key, end=ChildEnd.REMOVED)
    elif record.end is None or (child is not None and _restarts_finished(pass_, record)):
        pass_.update_record(key, due=record.token + 1, end=None)


def _restarts_finished(pass_: SupervisorPass, record: ChildRecord) -> bool:
    return record.end is ChildEnd.FINISHED and pass_.supervisor.spec.restart_finished


# --- ends without a restart, and significant children ------------------------------------------------------------------------


def record_ends(pass_: SupervisorPass) -> None:
    """Record the children that ended and are not restarted; shut down when their significance demands it.

    Source: supervisor.erl do_restart/3, do_auto_shutdown/2.
    """
    ends = (End.COMPLETED, End.ENDED)
    ended = [
        key for key, child in pass_.children.items() if child.end in ends and _is_current(pass_.records[key], child)
    ]
    for key in ended:
        pass_.update_record(key, end=ChildEnd.FINISHED)
    if pass_.children_run and _requires_shutdown(pass_, ended):
        pass_.shut_down_at = pass_.now
        names = ", ".join(name for _, name in ended)
        pass_.events.append(Event(Reason.AUTO_SHUTDOWN, f"{names} ended; all children are stopped"))


def _requires_shutdown(pass_: SupervisorPass, ended: Sequence[ChildKey]) -> bool:
    """Whether an automatic shutdown follows: any significant child ended, or the last significant one that was active."""
    spec = pass_.supervisor.spec
    significant = {(ref.kind, ref.name) for ref in spec.children if ref.significant}
    if spec.auto_shutdown is AutoShutdown.NEVER or not significant.intersection(ended):
        return False
    return spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not any(_is_active(pass_, key) for key in significant)


def _is_active(pass_: SupervisorPass, key: ChildKey) -> bool:
    """Whether the child has not ended and was not stopped by its user."""
    child = pass_.children.get(key)
    return pass_.records[key].end is None and not (child is not None and child.ready and child.stopped)
