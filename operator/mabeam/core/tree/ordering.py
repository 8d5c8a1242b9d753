"""The order among the children of a Supervisor: they stop from the last to the first and start from the first to the last."""

from mabeam.api.agent import SupervisionStrategy
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import ChildEnd
from mabeam.core.tree.working_set import SupervisorPass


def stop_next(pass_: SupervisorPass) -> bool:
    """Whether a child has still to stop before any may start; instructs the last such child to stop.

    The child before it is instructed when it has stopped. Restarts under OneForOne do not wait for each other: no child depends
    on another, and each Agent ensures by itself that its old pod has ended before the new one starts.
    """
    independent = pass_.children_run and pass_.supervisor.spec.strategy is SupervisionStrategy.ONE_FOR_ONE
    for key in reversed(list(pass_.records)):
        record, child = pass_.records[key], pass_.children.get(key)
        if pass_.children_run and record.due is None and record.end is not ChildEnd.REMOVED:
            continue
        pass_.update_record(key, intent=Intent.STOP)
        if child is not None and not child.stopped and not independent:
            return True
    return False


def start_next(pass_: SupervisorPass) -> None:
    """Instruct the first child that has to start and was not instructed yet; those after it wait until it was ready once."""
    if not pass_.children_run:
        return
    for key, record in pass_.records.items():
        if record.end is not None:
            continue
        if record.due is not None or record.intent is Intent.STOP:
            token = record.due if record.due is not None else record.token
            pass_.update_record(key, intent=Intent.START, token=token, due=None, started=None)
            return
        if not record.started:
            return
