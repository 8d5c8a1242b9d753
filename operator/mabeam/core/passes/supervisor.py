"""One pass over a Supervisor: ended children and the restart budget, automatic shutdown, then ordered stop and start.

A Supervisor writes to no child: its own status holds an instruction for each, Start or Stop with a token, and the child acts on
it. What is to be done next follows from the tokens and the children's statuses alone (docs/design/0011-supervisor.md, "The
protocol").
"""

from datetime import datetime

from mabeam.api.supervisor import SupervisorStatus
from mabeam.core.decision import Decision
from mabeam.core.snapshot import SupervisorSnapshot
from mabeam.core.tree.lineage import cycle_of
from mabeam.core.tree.ordering import start_next, stop_next
from mabeam.core.tree.restarts import (
    adopt_parent_instruction,
    apply_release,
    record_ends,
    restart_after_failures,
)
from mabeam.core.tree.status import conclude, invalid
from mabeam.core.tree.working_set import SupervisorPass


def decide(snapshot: SupervisorSnapshot, now: datetime) -> Decision[SupervisorStatus]:
    """The Supervisor's next status and its Events; without effects, for the children act on that status.

    Rules: docs/design/0011-supervisor.md, "One pass over a Supervisor".
    """
    supervisor = snapshot.supervisor
    if supervisor.metadata.deletion_timestamp is not None:
        return Decision(supervisor.status, "unchanged")
    if snapshot.invalid is not None:
        return invalid(supervisor, snapshot.invalid, now)
    pass_ = SupervisorPass.begin(snapshot, now)
    if cycle_of(supervisor, snapshot.supervisors):
        # On a cycle nobody is above the others: every child keeps its last instruction.
        apply_release(pass_)
        return conclude(pass_)
    adopt_parent_instruction(pass_)
    apply_release(pass_)
    record_ends(pass_)
    restart_after_failures(pass_)
    if not stop_next(pass_):
        start_next(pass_)
    return conclude(pass_)
