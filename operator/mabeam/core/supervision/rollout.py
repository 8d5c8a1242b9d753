"""Replacement of pods whose spec is outdated or that shall move: one ordinal at a time, or a whole group."""

from collections.abc import Mapping, Sequence

from mabeam.api.agent import SupervisionStrategy
from mabeam.api.agent_status import PodRecord
from mabeam.api.names import Reason
from mabeam.core.algorithms import otp as groups
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision.records import incarnate, is_to_move
from mabeam.core.supervision.working_set import AgentPass, current_pod


def roll(pass_: AgentPass, pods: Mapping[int, tuple[PodFacts, ...]]) -> None:
    """A changed spec, or a migration: give stale ordinals a new incarnation, those that run one at a time, the others at once.

    Where ordinals depend on each other, the lowest stale one takes its group along, as if it had failed.

    A pod's own annotation says which spec it was made from; the record says it for one that is not made yet.
    """
    wanted = pass_.shape
    healthy_stale: list[PodRecord] = []
    replaced: list[PodRecord] = []
    settled = True
    for ordinal, record in pass_.records.items():
        if not record.is_alive:
            continue
        current = current_pod(record, pods.get(ordinal, ()))
        made_from = (current.spec_hash if current else None) or record.spec_hash or wanted
        moves = is_to_move(pass_, record)
        if made_from == wanted and not moves:
            pass_.records[ordinal] = (
                record if record.spec_hash == wanted else record.model_copy(update={"spec_hash": wanted})
            )
            settled = settled and current is not None and lifecycle.is_ready(current)
        elif current is None:
            pass_.records[ordinal] = record.model_copy(
                update={"spec_hash": wanted, "migration": pass_.migrations or None}
            )
            settled = False
        elif lifecycle.is_ready(current):
            healthy_stale.append(record)
        else:
            replaced.append(record.model_copy(update={"node": current.node}))
            pass_.records[ordinal] = incarnate(pass_, replaced[-1], None)
            settled = False
    strategy = pass_.snapshot.agent.spec.supervision_strategy
    if strategy is not SupervisionStrategy.ONE_FOR_ONE:
        _roll_group(pass_, strategy, [*replaced, *healthy_stale], pods)
    elif healthy_stale and settled:
        first = healthy_stale[0]
        pass_.records[first.ordinal] = incarnate(pass_, first, None)
        pass_.events.append(_replaced(pass_, first, first.name))


def _roll_group(
    pass_: AgentPass,
    strategy: SupervisionStrategy,
    stale: Sequence[PodRecord],
    pods: Mapping[int, tuple[PodFacts, ...]],
) -> None:
    if not stale:
        return
    first = min(stale, key=lambda record: record.ordinal)
    for ordinal in groups.restart_group(strategy, first.ordinal, list(pass_.records)):
        record = pass_.records[ordinal]
        # One without a pod of its own incarnation will be made from the new spec anyway.
        if record.is_alive and current_pod(record, pods.get(ordinal, ())) is not None:
            pass_.records[ordinal] = incarnate(pass_, record, None)
    pass_.events.append(_replaced(pass_, first, f"{first.name} and its group"))


def _replaced(pass_: AgentPass, record: PodRecord, who: str) -> Event:
    if is_to_move(pass_, record):
        return Event(Reason.MIGRATING, f"{who}: to move from {record.node}; not counted", action="Migrate")
    return Event(Reason.REPLACING, f"{who}: replaced, for the spec changed; not counted")
