"""Rollout: new incarnations for pods that are made from an outdated spec or must migrate; one ordinal at a time, or its group."""

from collections.abc import Sequence

from mabeam.api.agent import SupervisionStrategy
from mabeam.api.agent_status import PodRecord
from mabeam.api.names import ANNOTATION_RESTART, Reason
from mabeam.core.algorithms.otp import restart_group
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.supervision.records import has_halted_roll, made_from, must_migrate, new_incarnation
from mabeam.core.supervision.working_set import AgentPass


def replace_outdated(pass_: AgentPass) -> None:
    """Give outdated ordinals a new incarnation: those that are not ready at once, the ready ones one at a time.

    A replica of the new spec that failed for good halts the roll: the others go on with the earlier one.

    Where ordinals depend on each other, the lowest outdated one takes its group along, as if it had failed
    (docs/design/0011-supervisor.md, "Replicas").
    """
    ready: list[PodRecord] = []  # outdated, and their pods are ready
    not_ready: list[PodRecord] = []  # outdated, replaced below
    settled = not has_halted_roll(pass_)  # whether every other ordinal has a ready pod of the new spec
    for ordinal, record in pass_.records.items():
        if not record.is_alive:
            continue
        current = pass_.current_pod(record)
        if not _is_outdated(pass_, record):
            pass_.records[ordinal] = _with_hash(pass_, record)
            settled = settled and current is not None and lifecycle.is_ready(current)
        elif current is None:  # its pod will be made from the new spec
            made_anew = {"spec_hash": pass_.pod_hash, "migration": pass_.migrations or None}
            pass_.records[ordinal] = record.model_copy(update=made_anew)
            settled = False
        elif lifecycle.is_ready(current):
            ready.append(record)
        else:
            not_ready.append(record.model_copy(update={"node": current.node}))
            pass_.records[ordinal] = new_incarnation(pass_, not_ready[-1], None)
            settled = False
    strategy = pass_.snapshot.agent.spec.supervision_strategy
    if strategy is not SupervisionStrategy.ONE_FOR_ONE:
        _replace_group(pass_, strategy, [*not_ready, *ready])
    elif ready and settled:
        first = ready[0]
        pass_.records[first.ordinal] = new_incarnation(pass_, first, None)
        pass_.events.append(_replaced(pass_, first, first.name))


def _is_outdated(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the ordinal's pod is made from another spec, or has to migrate."""
    return made_from(pass_, record) != pass_.pod_hash or must_migrate(pass_, record)


def _with_hash(pass_: AgentPass, record: PodRecord) -> PodRecord:
    return record if record.spec_hash == pass_.pod_hash else record.model_copy(update={"spec_hash": pass_.pod_hash})


def _replace_group(pass_: AgentPass, strategy: SupervisionStrategy, outdated: Sequence[PodRecord]) -> None:
    if not outdated:
        return
    first = min(outdated, key=lambda record: record.ordinal)
    for ordinal in restart_group(strategy, first.ordinal, list(pass_.records)):
        record = pass_.records[ordinal]
        # An ordinal without a pod of its own incarnation gets one that is made from the new spec anyway.
        if record.is_alive and pass_.current_pod(record) is not None:
            pass_.records[ordinal] = new_incarnation(pass_, record, None)
    pass_.events.append(_replaced(pass_, first, f"{first.name} and its group"))


def _replaced(pass_: AgentPass, record: PodRecord, subject: str) -> Event:
    if must_migrate(pass_, record):
        return Event(Reason.MIGRATING, f"{subject}: migrating from {record.node}; not counted", action="Migrate")
    asked = annotation_request(pass_.snapshot.agent.metadata, ANNOTATION_RESTART)
    why = f"the spec changed, or {ANNOTATION_RESTART}={asked[:64]} asks for it" if asked else "the spec changed"
    return Event(Reason.REPLACING, f"{subject}: replaced because {why}; not counted")
