"""Ordered start and reverse-order stop of a Supervisor's children."""

from mabeam.api.agent import SupervisionStrategy
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import ChildEnd
from mabeam.core.tree.working_set import SupervisorPass

# --- stop right to left, start left to right -------------------------------------------------------------------------------


def stop_next(run: SupervisorPass) -> bool:
    """Tell the last of those that have to stop, and the one before it when that one is down; whether one is not down yet.

    Restarts of OneForOne wait for nobody: none depends on another, and each child sees to it that it never runs twice.
    """
    alone = run.children_run and run.supervisor.spec.strategy is SupervisionStrategy.ONE_FOR_ONE
    for name in reversed(list(run.records)):
        record, child = run.records[name], run.children.get(name)
        if run.children_run and record.due is None and record.end is not ChildEnd.REMOVED:
            continue
        run.update_record(name, intent=Intent.STOP)
        if child is not None and not child.stopped and not alone:
            return True
    return False


def start_next(run: SupervisorPass) -> None:
    """Tell the first one that shall run and does not to start; those after it wait until it was ready once."""
    if not run.children_run:
        return
    for name, record in run.records.items():
        if record.end is not None:
            continue
        if record.due is not None or record.intent is Intent.STOP:
            token = record.due if record.due is not None else record.token
            run.update_record(name, intent=Intent.START, token=token, due=None, started=None)
            return
        if not record.started:
            return
