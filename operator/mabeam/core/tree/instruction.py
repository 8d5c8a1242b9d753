"""The instruction of a parent Supervisor to one child, and what the child adopts of it.

Protocol: docs/design/0011-supervisor.md, "The protocol".
"""

from collections.abc import Mapping

from mabeam.api.agent import Agent
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import ChildEnd, ChildKind, ChildRecord, Supervisor
from mabeam.core.snapshot import Instructed, NoParent, Orphaned, ParentInstruction, WaitingFor
from mabeam.core.tree.child_state import LARGEST_VALID_TOKEN
from mabeam.core.tree.lineage import ancestors, parent_of


def parent_instruction(child: Agent | Supervisor, supervisors: Mapping[str, Supervisor]) -> ParentInstruction:
    """The instruction for the child in its parent's status; without one, what follows from the child's last instruction."""
    kind, parent = _kind_and_parent(child, supervisors)
    name = parent.metadata.name if parent is not None else child.spec.supervisor
    if name is None:
        return NoParent()
    last = child.status.supervision
    if last is not None and last.supervisor != name:
        last = None
    if parent is None:
        exists = "does not list it as a child" if name in supervisors else "does not exist"
        because = f"Supervisor {name}, which {exists}"
        if last is None:
            return WaitingFor(because)
        return Orphaned(last.model_copy(update={"intent": Intent.START}), because)
    record = next((r for r in parent.status.children if (r.kind, r.name) == (kind, child.metadata.name)), None)
    if record is None:
        return Instructed(last) if last is not None else WaitingFor(f"Supervisor {name}")
    permanent = _permanent_stop(child, parent, record, supervisors) if record.intent is Intent.STOP else None
    # The very same object when nothing changed: equal statuses are found equal at once.
    if last is not None and (last.intent, last.token) == (record.intent, record.token):
        return Instructed(last, permanent)
    return Instructed(Supervision(supervisor=name, intent=record.intent, token=record.token), permanent)


def _kind_and_parent(
    child: Agent | Supervisor, supervisors: Mapping[str, Supervisor]
) -> tuple[ChildKind, Supervisor | None]:
    if isinstance(child, Supervisor):
        return ChildKind.SUPERVISOR, parent_of(child, supervisors)
    named = supervisors.get(child.spec.supervisor) if child.spec.supervisor else None
    return ChildKind.AGENT, named if named is not None and _lists(named, child.metadata.name) else None


def _lists(supervisor: Supervisor, agent: str) -> bool:
    return any(c.kind is ChildKind.AGENT and c.name == agent for c in supervisor.spec.children)


def _permanent_stop(
    child: Agent | Supervisor, parent: Supervisor, record: ChildRecord, supervisors: Mapping[str, Supervisor]
) -> str | None:
    """Why a child that is instructed to stop is never started again, for messages; None when it may be.

    An automatic shutdown is permanent only at the root: a nested Supervisor that shut down is restarted by its parent.
    """
    if record.end is ChildEnd.REMOVED and isinstance(child, Agent) and child.status.pods:
        name = parent.metadata.name
        return f"removed by Supervisor {name}: a Temporary agent stopped by a sibling's restart; delete and create it to start it"
    root = (parent, *ancestors(parent, supervisors))[-1]
    if root.status.shut_down_at is None:
        return None
    return f"stopped for good: Supervisor {root.metadata.name} has completed; releasing it starts all children again"


def adopt_instruction(before: Supervision | None, given: Supervision | None) -> tuple[Supervision | None, bool]:
    """The instruction that the child acts on from now on, and whether it restarts the child.

    The first instruction of a Supervisor restarts nothing: a running child keeps running, a held one starts. Of an instruction
    with an older token than the child's own only the intent is adopted.
    """
    if given is None or before is None or before.supervisor != given.supervisor:
        return given, False
    if given == before:
        return before, False
    if before.token > max(given.token, LARGEST_VALID_TOKEN):
        return given, False
    if given.intent is Intent.STOP:
        return given.model_copy(update={"token": before.token}), False
    if given.token > before.token:
        return given, True
    return given.model_copy(update={"token": before.token}), False
