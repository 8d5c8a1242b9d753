"""The working set of one pass over a Supervisor: what each child is told so far, and how each one is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import ChildEnd, ChildKind, ChildRecord, ChildReference, GroupRestart, Supervisor
from mabeam.core.decision import Event
from mabeam.core.snapshot import SupervisorSnapshot, held_by
from mabeam.core.tree.child_state import LARGEST_VALID_TOKEN, Child

MISSING: Final = "Missing"
# A token that has no successor was written by nobody honest.
LAST_TOKEN: Final = 2**31 - 2

ChildKey = tuple[ChildKind, str]


@dataclass
class SupervisorPass:
    """The working set of one pass over a Supervisor; it never outlives the pass."""

    snapshot: SupervisorSnapshot
    now: datetime
    children: dict[ChildKey, Child]
    problems: tuple[str, ...]
    records: dict[ChildKey, ChildRecord]
    window: list[GroupRestart]
    parked_at: datetime | None
    shut_down_at: datetime | None
    total: int
    supervision: Supervision | None
    events: list[Event] = field(default_factory=list)

    @property
    def supervisor(self) -> Supervisor:
        """The Supervisor itself."""
        return self.snapshot.supervisor

    @property
    def is_wanted(self) -> bool:
        """Whether its own parent, if it has or names one, wants it to run."""
        return held_by(self.snapshot.parent) is None

    @property
    def children_run(self) -> bool:
        """Whether its children shall run at all."""
        return self.is_wanted and self.parked_at is None and self.shut_down_at is None

    def update_record(self, name: ChildKey, **words: object) -> None:
        """Tell a child something else."""
        self.records[name] = with_changes(self.records[name], **words)


def with_changes(record: ChildRecord, **words: object) -> ChildRecord:
    """The record with these words; the very same one when it says them already."""
    return (
        record
        if all(getattr(record, word) == said for word, said in words.items())
        else record.model_copy(update=words)
    )


def records_of(supervisor: Supervisor, children: Mapping[ChildKey, Child]) -> dict[ChildKey, ChildRecord]:
    """A record for each child, in start order; one that is listed no more is forgotten, and goes on by itself.

    A child that is in a later life than its record says is believed: the status lost its memory.
    """
    stored = {(r.kind, r.name): r for r in supervisor.status.children if r.token <= LAST_TOKEN}
    return {
        (ref.kind, ref.name): _record(ref, stored.get((ref.kind, ref.name)), children.get((ref.kind, ref.name)))
        for ref in supervisor.spec.children
    }


def _record(ref: ChildReference, stored: ChildRecord | None, child: Child | None) -> ChildRecord:
    lived = child.token if child is not None and child.token <= LARGEST_VALID_TOKEN else 0
    if stored is None:
        intent = child.intent if child is not None and child.intent is not None else Intent.STOP
        record = ChildRecord(kind=ref.kind, name=ref.name, intent=intent, token=max(1, lived))
    elif lived > stored.token:
        due = stored.due if stored.due is not None and stored.due > lived else None
        record = stored.model_copy(update={"token": lived, "due": due, "started": None})
    else:
        record = stored
    if child is not None and _lives_again(record, child):
        record = with_changes(record, end=None, started=None)
    started = child is not None and child.ready and child.token == record.token and record.intent is Intent.START
    state = child.state if child is not None else MISSING
    return with_changes(record, state=state, started=True if started else record.started)


def _lives_again(record: ChildRecord, child: Child) -> bool:
    """Whether a child that had ended is alive again though no group restart was: released by its user, or made anew.

    One that a sibling took along is told to stop, so it only ever comes back made anew.
    """
    if record.end is ChildEnd.REMOVED:
        return child.never_started
    told = record.end is ChildEnd.FINISHED and record.intent is Intent.START
    return told and not child.stopped and child.token == record.token
