"""What each ordinal of an agent should be: one incarnation number, the intent, in `status.pods`.

A restart is first a number here (`incarnation += 1`); the pods follow in a later pass (`acts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.agent import RestartStrategy, SupervisionStrategy
from mabeam.api.agent_status import (
    AgentState,
    DesiredState,
    Failure,
    PodRecord,
)
from mabeam.api.names import Reason, pod_name
from mabeam.core import groups, lifecycle, summary
from mabeam.core.decision import Effect, Event, soonest
from mabeam.core.resources import Amounts
from mabeam.core.snapshot import AgentSnapshot, PodFacts

# The last number a status can hold: a record that carries it can have no successor, so nobody honest wrote it.
LAST_INCARNATION: Final = 2**31 - 1
# A pod beyond this is nobody's honest work either. Far below the last number: a record that follows a forged pod must not
# come to the number that is not believed, or each pass would undo the one before.
LAST_BELIEVED_POD: Final = 10**9


@dataclass
class Pass:
    """The working set of one pass over an Agent; it never outlives the pass."""

    snapshot: AgentSnapshot
    now: datetime
    ledger: list[Failure]
    records: dict[int, PodRecord] = field(default_factory=dict)
    restarts: int = 0
    disruptions: int = 0
    parked_at: datetime | None = None
    probed_at: datetime | None = None
    migrations: int = 0
    effects: list[Effect] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    requeue: float | None = None
    shape: str = ""
    resources: Amounts | None = None

    def is_current(self, pod: PodFacts) -> bool:
        """Whether the pod is the one that its ordinal's record stands for."""
        record = self.records.get(pod.ordinal)
        return record is not None and record.incarnation == pod.incarnation

    def wake(self, at: datetime) -> None:
        self.requeue = soonest(self.requeue, max(0.0, (at - self.now).total_seconds()))


def stored_records(snapshot: AgentSnapshot) -> dict[int, PodRecord]:
    """The records of the stored status by ordinal, without those that nobody honest wrote."""
    records = snapshot.agent.status.pods
    return {record.ordinal: record for record in records if record.incarnation < LAST_INCARNATION}


def by_ordinal(pods: tuple[PodFacts, ...]) -> dict[int, tuple[PodFacts, ...]]:
    """The pods by ordinal, each ordinal's in the order of their incarnations; without those that nobody honest made."""
    found: dict[int, tuple[PodFacts, ...]] = {}
    believed = (pod for pod in pods if pod.incarnation <= LAST_BELIEVED_POD)
    for pod in sorted(believed, key=lambda pod: (pod.ordinal, pod.incarnation)):
        found[pod.ordinal] = (*found.get(pod.ordinal, ()), pod)
    return found


def current_pod(record: PodRecord, pods: tuple[PodFacts, ...]) -> PodFacts | None:
    """The pod of the record's own incarnation."""
    return next((pod for pod in pods if pod.incarnation == record.incarnation), None)


def next_record(
    run: Pass, ordinal: int, stored: PodRecord | None, pods: tuple[PodFacts, ...], wanted: bool, released: bool
) -> PodRecord | None:
    """The ordinal's record by what the user wants of it, before its pod's fate is judged; None when it is to be forgotten."""
    newest = max((pod.incarnation for pod in pods), default=0)
    if stored is None:
        if not wanted:
            return _adopted(run, ordinal, newest, AgentState.STOPPING) if pods else None
        return _adopted(run, ordinal, max(newest, 1), AgentState.STARTING)
    if newest > stored.incarnation:  # a status that lost its memory: the pods are the better witness
        stored = _adopted(run, ordinal, newest, stored.state)
    if not wanted:
        return _stopping(run, stored, pods)
    if stored.state in summary.ALIVE:
        fresh = released and stored.next_restart_time is not None
        return stored.model_copy(update={"next_restart_time": None}) if fresh else stored
    if released or not _ended_on_its_own(run, stored):
        return incarnate(run, stored, None)
    return stored


def _ended_on_its_own(run: Pass, record: PodRecord) -> bool:
    """Whether a resting record rests because its process ended, rather than because the user stopped it."""
    if record.state is AgentState.STOPPING:
        return False
    if record.reason is not None:
        return record.reason != Reason.STOPPED
    effective = run.snapshot.agent.status.effective
    stopped_by_user = effective is not None and effective.desired_state is DesiredState.STOPPED
    return not stopped_by_user and run.snapshot.agent.spec.restart_strategy is not RestartStrategy.PERMANENT


def _adopted(run: Pass, ordinal: int, incarnation: int, state: AgentState) -> PodRecord:
    """A record of that incarnation of which nothing is known yet but the number."""
    name = pod_name(run.snapshot.agent.metadata.name, ordinal, incarnation)
    return PodRecord(
        ordinal=ordinal,
        name=name,
        incarnation=incarnation,
        state=state,
        spec_hash=run.shape,
        migration=run.migrations or None,
    )


def incarnate(run: Pass, record: PodRecord, next_restart_time: datetime | None) -> PodRecord:
    """The intent to start anew: the number goes up; everything else about the pod is still to be seen.

    Whatever it is started anew for: one that was to move moves with it, and goes on moving until it runs.
    """
    fresh = _adopted(run, record.ordinal, record.incarnation + 1, AgentState.STARTING)
    leaves = record.migrating_from or (record.node if is_to_move(run, record) else None)
    return fresh.model_copy(update={"next_restart_time": next_restart_time, "migrating_from": leaves})


def is_to_move(run: Pass, record: PodRecord) -> bool:
    """Whether the agent was told to move and this replica has not taken part in it yet."""
    return (record.migration or 0) < run.migrations


# What is said of a replica on its way up, and of none that goes down.
_AT_AN_END: Final = {"next_restart_time": None, "migrating_from": None}


def _stopping(run: Pass, record: PodRecord, pods: tuple[PodFacts, ...]) -> PodRecord | None:
    scaled_away = record.ordinal >= run.snapshot.agent.spec.replicas
    if record.state in summary.ALIVE:
        record = record.model_copy(update={**_AT_AN_END, "state": AgentState.STOPPING, "reason": None})
        if any(lifecycle.is_live(pod) for pod in pods):
            return record
    if scaled_away:
        return None if not pods else record.model_copy(update={"state": AgentState.STOPPING})
    if record.state is AgentState.STOPPING and not any(lifecycle.is_live(pod) for pod in pods):
        why = "as its Supervisor wants" if summary.is_held(run.snapshot) else "as desired"
        if run.parked_at is not None:
            why = "with its agent, which is parked"
        run.events.append(Event(Reason.AGENT_STOPPED, f"{record.name} stopped, {why}", action="Stop"))
        return record.model_copy(update={"state": AgentState.STOPPED, "reason": Reason.STOPPED})
    if record.state is not AgentState.STOPPING and run.snapshot.agent.spec.desired_state is DesiredState.STOPPED:
        return record.model_copy(update={"state": AgentState.STOPPED, "reason": Reason.STOPPED})
    return record


def roll(run: Pass, pods: Mapping[int, tuple[PodFacts, ...]]) -> None:
    """A changed spec, or a migration: give stale ordinals a new incarnation, those that run one at a time, the others at once.

    Where ordinals depend on each other, the lowest stale one takes its group along, as if it had failed.

    A pod's own annotation says which spec it was made from; the record says it for one that is not made yet.
    """
    wanted = run.shape
    healthy_stale: list[PodRecord] = []
    replaced: list[PodRecord] = []
    settled = True
    for ordinal, record in run.records.items():
        if record.state not in summary.ALIVE:
            continue
        current = current_pod(record, pods.get(ordinal, ()))
        made_from = (current.spec_hash if current else None) or record.spec_hash or wanted
        moves = is_to_move(run, record)
        if made_from == wanted and not moves:
            run.records[ordinal] = (
                record if record.spec_hash == wanted else record.model_copy(update={"spec_hash": wanted})
            )
            settled = settled and current is not None and lifecycle.is_ready(current)
        elif current is None:
            run.records[ordinal] = record.model_copy(update={"spec_hash": wanted, "migration": run.migrations or None})
            settled = False
        elif lifecycle.is_ready(current):
            healthy_stale.append(record)
        else:
            replaced.append(record.model_copy(update={"node": current.node}))
            run.records[ordinal] = incarnate(run, replaced[-1], None)
            settled = False
    strategy = run.snapshot.agent.spec.supervision_strategy
    if strategy is not SupervisionStrategy.ONE_FOR_ONE:
        _roll_group(run, strategy, [*replaced, *healthy_stale], pods)
    elif healthy_stale and settled:
        first = healthy_stale[0]
        run.records[first.ordinal] = incarnate(run, first, None)
        run.events.append(_replaced(run, first, first.name))


def _roll_group(
    run: Pass, strategy: SupervisionStrategy, stale: Sequence[PodRecord], pods: Mapping[int, tuple[PodFacts, ...]]
) -> None:
    if not stale:
        return
    first = min(stale, key=lambda record: record.ordinal)
    for ordinal in groups.group(strategy, first.ordinal, list(run.records)):
        record = run.records[ordinal]
        # One without a pod of its own incarnation will be made from the new spec anyway.
        if record.state in summary.ALIVE and current_pod(record, pods.get(ordinal, ())) is not None:
            run.records[ordinal] = incarnate(run, record, None)
    run.events.append(_replaced(run, first, f"{first.name} and its group"))


def _replaced(run: Pass, record: PodRecord, who: str) -> Event:
    if is_to_move(run, record):
        return Event(Reason.MIGRATING, f"{who}: to move from {record.node}; not counted", action="Migrate")
    return Event(Reason.REPLACING, f"{who}: replaced, for the spec changed; not counted")
