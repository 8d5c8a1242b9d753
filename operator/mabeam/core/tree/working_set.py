"""The working set of one pass over a Supervisor: its children, and the records that become its status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import ChildEnd, ChildKind, ChildRecord, ChildReference, GroupRestart, Supervisor
from mabeam.core.decision import Event
from mabeam.core.snapshot import SupervisorSnapshot, held_by
from mabeam.core.tree.child_state import LARGEST_VALID_TOKEN, Child
from mabeam.core.tree.lineage import children_of

MISSING: Final = "Missing"
# Records with larger tokens are ignored: only an edited status holds them, and the next token must not overflow int32.
LAST_TOKEN: Final = 2**31 - 2

ChildKey = tuple[ChildKind, str]


@dataclass
class SupervisorPass:
    """The working set of one pass over a Supervisor; it never outlives the pass."""

    snapshot: SupervisorSnapshot
    now: datetime
    children: dict[ChildKey, Child]  # those that exist, in start order
    problems: tuple[str, ...]  # a sentence for each listed child that is not its own
    records: dict[ChildKey, ChildRecord]  # one per listed child, in start order
    window: list[GroupRestart]  # restarts in or near the window, oldest first
    parked_at: datetime | None
    shut_down_at: datetime | None
    total: int  # restarts since the Supervisor was created
    supervision: Supervision | None  # the parent's instruction that it acts on
    events: list[Event] = field(default_factory=list)

    @classmethod
    def begin(cls, snapshot: SupervisorSnapshot, now: datetime) -> "SupervisorPass":
        """The pass as the stored status and the children's statuses start it."""
        before = snapshot.supervisor.status
        children, problems = children_of(snapshot.supervisor, snapshot.agents, snapshot.supervisors)
        return cls(
            snapshot=snapshot,
            now=now,
            children=children,
            problems=problems,
            records=_records_of(snapshot.supervisor, children),
            window=list(before.restarts),
            parked_at=before.parked_at,
            shut_down_at=before.shut_down_at,
            total=before.total_restarts,
            supervision=before.supervision,
        )

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
        """Whether its children are to run at all."""
        return self.is_wanted and self.parked_at is None and self.shut_down_at is None

    def update_record(self, key: ChildKey, **fields: object) -> None:
        """Set fields of one child's record, and so the instruction that the child gets."""
        self.records[key] = _with_changes(self.records[key], **fields)


def _with_changes(record: ChildRecord, **fields: object) -> ChildRecord:
    """The record with these fields; the very same object when it has them already, so that equal statuses are cheap to find."""
    same = all(getattr(record, name) == value for name, value in fields.items())
    return record if same else record.model_copy(update=fields)


def _records_of(supervisor: Supervisor, children: Mapping[ChildKey, Child]) -> dict[ChildKey, ChildRecord]:
    """A record for each listed child, in start order; a child that is no longer listed keeps running, without a record."""
    stored = {(r.kind, r.name): r for r in supervisor.status.children if r.token <= LAST_TOKEN}
    return {
        (ref.kind, ref.name): _record(ref, stored.get((ref.kind, ref.name)), children.get((ref.kind, ref.name)))
        for ref in supervisor.spec.children
    }


def _record(ref: ChildReference, stored: ChildRecord | None, child: Child | None) -> ChildRecord:
    reached = child.token if child is not None and child.token <= LARGEST_VALID_TOKEN else 0
    if stored is None:
        intent = child.intent if child is not None and child.intent is not None else Intent.STOP
        record = ChildRecord(kind=ref.kind, name=ref.name, intent=intent, token=max(1, reached))
    elif reached > stored.token:
        # The Supervisor's status was lost or restored from a backup: the child's token is the later truth.
        due = stored.due if stored.due is not None and stored.due > reached else None
        record = stored.model_copy(update={"token": reached, "due": due, "started": None})
    else:
        record = stored
    if child is not None and _runs_again(record, child):
        record = _with_changes(record, end=None, started=None)
    started = child is not None and child.ready and child.token == record.token and record.intent is Intent.START
    state = child.state if child is not None else MISSING
    return _with_changes(record, state=state, started=True if started else record.started)


def _runs_again(record: ChildRecord, child: Child) -> bool:
    """Whether a child that had ended runs again without a group restart: its user released it, or created it anew.

    A child that a sibling's restart removed is instructed to stop, so only a newly created one can be back.
    """
    if record.end is ChildEnd.REMOVED:
        return child.never_started
    finished = record.end is ChildEnd.FINISHED and record.intent is Intent.START
    return finished and not child.stopped and child.token == record.token
