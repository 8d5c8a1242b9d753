"""One pass over a Supervisor: deaths and the window, significance, then stop right to left and start left to right.

A Supervisor touches no child: it tells each one, in its own status, whether to run and in which life (`token`); the child acts.
What is to be done next follows from the tokens and the children's statuses alone (docs/design/0011).
"""

from datetime import datetime

from mabeam.api.supervisor import SupervisorStatus
from mabeam.core.decision import Decision
from mabeam.core.snapshot import SupervisorSnapshot
from mabeam.core.tree import lineage as family
from mabeam.core.tree.ordering import start_next, stop_next
from mabeam.core.tree.restarts import adopt_instruction, apply_release, record_ends, restart_after_failures
from mabeam.core.tree.status import conclude, invalid
from mabeam.core.tree.working_set import SupervisorPass, records_of


def decide(snapshot: SupervisorSnapshot, now: datetime) -> Decision[SupervisorStatus]:
    """The Supervisor's next status, then its Events; it has no effects, for its children act on that status."""
    before = snapshot.supervisor.status
    if snapshot.supervisor.metadata.deletion_timestamp is not None:
        return Decision(before, "unchanged")
    if snapshot.invalid is not None:
        return invalid(snapshot.supervisor, snapshot.invalid, now)
    children, problems = family.children_of(snapshot.supervisor, snapshot.agents, snapshot.supervisors)
    run = SupervisorPass(
        snapshot,
        now,
        children,
        problems,
        records_of(snapshot.supervisor, children),
        list(before.restarts),
        before.parked_at,
        before.shut_down_at,
        before.total_restarts,
        before.supervision,
    )
    if family.cycle_of(snapshot.supervisor, snapshot.supervisors):
        apply_release(run)
        return conclude(run)  # nobody's word can be trusted: all go on as they were told before
    adopt_instruction(run)
    apply_release(run)
    record_ends(run)
    restart_after_failures(run)
    if not stop_next(run):
        start_next(run)
    return conclude(run)
