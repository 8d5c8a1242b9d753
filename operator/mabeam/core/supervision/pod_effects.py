"""Acts: what is done to an ordinal's pods, and only ever on an intent that is already stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from mabeam.api.agent import MigrationStrategy, RecoveryStrategy, ShutdownPolicy, SupervisionStrategy
from mabeam.api.agent_status import AgentState, PodRecord
from mabeam.core.decision import Effect, soonest
from mabeam.core.pods import lifecycle
from mabeam.core.pods import spec as objects
from mabeam.core.pods.resources import same_resources
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision.working_set import AgentPass, current_pod


def same_intent(record: PodRecord, stored: PodRecord | None) -> bool:
    """Whether the record wants of its pods what the stored one wanted: only then may anything be done to them."""
    if stored is None or record.incarnation != stored.incarnation:
        return False
    return record.state == stored.state or (record.is_alive and stored.is_alive)


@dataclass(frozen=True, slots=True)
class Turns:
    """Whose turn it is where ordinals depend on each other: pods go from the last one down, and then come from the first one up.

    None of both means that there is nothing to wait for.
    """

    goes: int | None = None
    comes: int | None = None


def turns(pass_: AgentPass, pods: Mapping[int, tuple[PodFacts, ...]]) -> Turns | None:
    """Whose turn it is; None when each ordinal stands for itself (OneForOne).

    Follows from records and pods alone: what must go is what still may run and is not its ordinal's current incarnation.
    """
    if pass_.snapshot.agent.spec.supervision_strategy is SupervisionStrategy.ONE_FOR_ONE:
        return None
    going = [
        ordinal
        for ordinal, record in pass_.records.items()
        if any(_may_still_run(pass_, pod) for pod in _doomed(pass_, record, pods.get(ordinal, ())))
    ]
    coming = (
        ordinal
        for ordinal, record in pass_.records.items()
        if record.is_alive and not _is_up(current_pod(record, pods.get(ordinal, ())))
    )
    return Turns(max(going, default=None), min(coming, default=None))


def _is_up(pod: PodFacts | None) -> bool:
    return pod is not None and lifecycle.is_ready(pod)


def _doomed(pass_: AgentPass, record: PodRecord, pods: tuple[PodFacts, ...]) -> tuple[PodFacts, ...]:
    """The ordinal's pods that may run and should not."""
    current = current_pod(record, pods) if record.is_alive else None
    serves = _overlaps(pass_, record)
    return tuple(
        pod
        for pod in pods
        if lifecycle.is_live(pod) and pod is not current and not (serves and lifecycle.is_ready(pod))
    )


def _overlaps(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the old pod of a moving replica serves until the new one is ready: where the others are its equals, and on request.

    A single replica must never run twice, and one that others depend on starts and stops in its turn.
    """
    spec = pass_.snapshot.agent.spec
    equals = spec.replicas > 1 and spec.supervision_strategy is SupervisionStrategy.ONE_FOR_ONE
    moves = record.migrating_from is not None and record.state is AgentState.STARTING
    return moves and equals and spec.migration_strategy is MigrationStrategy.MAKE_BEFORE_BREAK


def act(pass_: AgentPass, record: PodRecord, pods: tuple[PodFacts, ...], turn: Turns | None = None) -> None:
    """Add the writes that bring the ordinal's pods to what its record says: deletions first, then the creation.

    With `turn` only when it is the ordinal's.
    """
    alive = record.is_alive
    current = current_pod(record, pods)
    older = tuple(pod for pod in pods if pod is not current)
    doomed = _doomed(pass_, record, pods)
    for pod in doomed:
        waits = turn is not None and turn.goes not in (None, record.ordinal) and _may_still_run(pass_, pod)
        if not pod.deleting and not waits:
            pass_.effects.append(_delete(pass_, pod, "stopped" if not alive else "superseded"))
    for pod in _spent(record, current, older, pass_.snapshot.agent.spec.replicas):
        pass_.effects.append(_delete(pass_, pod, "newer-log-kept", can_wait=True))
    if alive and current is not None:
        _resize(pass_, current)
    if not alive or current is not None or any(_may_still_run(pass_, pod) for pod in doomed):
        return
    if turn is not None and (turn.goes is not None or turn.comes != record.ordinal):
        return
    # A time further away than any backoff can be was written by a clock that has since been stepped back.
    backoff = pass_.snapshot.agent.spec.fault_tolerance.backoff
    furthest = pass_.now + timedelta(seconds=backoff.max_seconds + 1)
    if record.next_restart_time is not None and pass_.now < record.next_restart_time <= furthest:
        pass_.wake(record.next_restart_time)
        return
    refused = pass_.snapshot.refused
    if refused is not None and not refused.retry:
        pass_.requeue = soonest(pass_.requeue, refused.ask_again_in)
        return
    agent = pass_.snapshot.agent
    generation = agent.status.directives.generation if agent.status.directives else 0
    body = objects.pod_body(
        agent,
        record.ordinal,
        record.incarnation,
        generation,
        pass_.snapshot.defaults,
        _to_avoid(pass_, record),
        pass_.shape,
        pass_.resources,
    )
    pass_.effects.append(Effect("create", "Pod", agent.metadata.namespace, record.name, "start", body))


def _resize(pass_: AgentPass, pod: PodFacts) -> None:
    """Ask the kubelet for what the main container is to have, when somebody allots it that."""
    wanted = pass_.resources
    if wanted is None or pod.deleting or not lifecycle.is_live(pod) or pod.resources is None or not pod.main_name:
        return
    if same_resources(pod.resources, wanted.to_wire()):
        return
    body = {"spec": {"containers": [{"name": pod.main_name, "resources": wanted.to_wire()}]}}
    space = pass_.snapshot.agent.metadata.namespace
    pass_.effects.append(Effect("patch", "Pod", space, pod.name, "resize", body, uid=pod.uid, subresource="resize"))


def _to_avoid(pass_: AgentPass, record: PodRecord) -> str | None:
    """The node the ordinal moves away from; or on which it failed last, when its agent is to come back elsewhere."""
    if record.migrating_from is not None:
        return record.migrating_from
    if pass_.snapshot.agent.spec.fault_tolerance.recovery_strategy is not RecoveryStrategy.RESCHEDULE:
        return None
    own = (failure for failure in reversed(pass_.ledger) if failure.ordinal == record.ordinal and failure.counted)
    return next((failure.node for failure in own if not failure.released), None)


def _spent(record: PodRecord, current: PodFacts | None, older: tuple[PodFacts, ...], replicas: int) -> list[PodFacts]:
    """Ended pods whose logs nobody needs: all but the newest of an ordinal, and all of one that was scaled away."""
    ended = [
        pod for pod in (*older, *((current,) if current else ())) if lifecycle.is_terminal(pod) and not pod.deleting
    ]
    return ended if record.ordinal >= replicas else ended[:-1]


def _may_still_run(pass_: AgentPass, pod: PodFacts) -> bool:
    """Fencing: a pod that is being deleted may run until it is gone, or until its node is."""
    nodes = pass_.snapshot.nodes
    return nodes is None or pod.node is None or pod.node in nodes


def _delete(pass_: AgentPass, pod: PodFacts, reason: str, *, can_wait: bool = False) -> Effect:
    agent = pass_.snapshot.agent
    brutal = agent.spec.shutdown.policy is ShutdownPolicy.BRUTAL
    grace = objects.BRUTAL_GRACE_SECONDS if brutal else None
    space = agent.metadata.namespace
    return Effect("delete", "Pod", space, pod.name, reason, uid=pod.uid, grace_seconds=grace, can_wait=can_wait)
