"""The instruction that a parent Supervisor gives to one child, and what the child adopts of it."""

from collections.abc import Mapping

from mabeam.api.agent import Agent
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import ChildEnd, ChildKind, ChildRecord, Supervisor
from mabeam.core.snapshot import Instructed, NoParent, Orphaned, ParentInstruction, WaitingFor
from mabeam.core.tree.child_state import LARGEST_VALID_TOKEN
from mabeam.core.tree.lineage import ancestors, parent_of

# --- what a child is told -----------------------------------------------------------------------------------------------


def parent_instruction(child: Agent | Supervisor, supervisors: Mapping[str, Supervisor]) -> ParentInstruction:
    """The instruction to the child in its parent's status; without one there, what follows from its own last instruction."""
    named = child.spec.supervisor
    if isinstance(child, Agent):
        kind, listed = ChildKind.AGENT, supervisors.get(named) if named else None
        parent = listed if listed is not None and _lists(listed, child.metadata.name) else None
    else:
        kind, parent = ChildKind.SUPERVISOR, parent_of(child, supervisors)
    name, before = parent.metadata.name if parent is not None else named, child.status.supervision
    if name is None:
        return NoParent()
    if parent is not None:
        record = next((r for r in parent.status.children if (r.kind, r.name) == (kind, child.metadata.name)), None)
        if record is not None:
            said = (name, record.intent, record.token)
            end = _permanent_stop(child, parent, record, supervisors) if record.intent is Intent.STOP else None
            if before is not None and (before.supervisor, before.intent, before.token) == said:
                return Instructed(before, end)
            return Instructed(Supervision(supervisor=name, intent=record.intent, token=record.token), end)
    last = before if before is not None and before.supervisor == name else None
    if parent is not None:
        return Instructed(last) if last is not None else WaitingFor(f"Supervisor {name}")
    why = f"Supervisor {name}, which {'does not list it as a child' if name in supervisors else 'does not exist'}"
    return Orphaned(last.model_copy(update={"intent": Intent.START}), why) if last is not None else WaitingFor(why)


def _permanent_stop(
    child: Agent | Supervisor, parent: Supervisor, record: ChildRecord, supervisors: Mapping[str, Supervisor]
) -> str | None:
    """Why a child that is told to stop is never started again; None when it may be.

    Of automatic shutdowns only the root's is the end: one below a parent is started again by it.
    """
    if record.end is ChildEnd.REMOVED and isinstance(child, Agent) and child.status.pods:
        return f"removed by Supervisor {parent.metadata.name}: a Temporary agent that a sibling took along; made anew it starts"
    root = (parent, *ancestors(parent, supervisors))[-1]
    if root.status.shut_down_at is None:
        return None
    return f"stopped for good: Supervisor {root.metadata.name} has completed; a release of it starts all anew"


def _lists(supervisor: Supervisor, agent: str) -> bool:
    return any(c.kind is ChildKind.AGENT and c.name == agent for c in supervisor.spec.children)


def adopt_instruction(before: Supervision | None, word: Supervision | None) -> tuple[Supervision | None, bool]:
    """What the child now acts on, and whether a new life begins with it.

    The first word of a Supervisor begins none: what runs goes on, what was held starts. Of an older life only the intent is read.
    """
    if word is None or before is None or before.supervisor != word.supervisor:
        return word, False
    if word == before:
        return before, False
    if before.token > max(word.token, LARGEST_VALID_TOKEN):
        return word, False
    if word.intent is Intent.START and word.token > before.token:
        return word, True
    return word.model_copy(
        update={"token": max(before.token, word.token) if word.intent is Intent.START else before.token}
    ), False
