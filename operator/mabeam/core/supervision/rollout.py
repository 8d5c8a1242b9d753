"""Replacement of pods whose spec is outdated or that shall move: one ordinal at a time, or a whole group."""

from collections.abc import Mapping, Sequence

from mabeam.api.agent import SupervisionStrategy
from mabeam.api.agent_status import PodRecord
from mabeam.api.names import Reason
from mabeam.core.algorithms import otp as groups
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision import working_set
from mabeam.core.supervision.records import incarnate, is_to_move
from mabeam.core.supervision.working_set import Pass, current_pod


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
        if record.state not in working_set.ALIVE:
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
    for ordinal in groups.restart_group(strategy, first.ordinal, list(run.records)):
        record = run.records[ordinal]
        # One without a pod of its own incarnation will be made from the new spec anyway.
        if record.state in working_set.ALIVE and current_pod(record, pods.get(ordinal, ())) is not None:
            run.records[ordinal] = incarnate(run, record, None)
    run.events.append(_replaced(run, first, f"{first.name} and its group"))


def _replaced(run: Pass, record: PodRecord, who: str) -> Event:
    if is_to_move(run, record):
        return Event(Reason.MIGRATING, f"{who}: to move from {record.node}; not counted", action="Migrate")
    return Event(Reason.REPLACING, f"{who}: replaced, for the spec changed; not counted")
