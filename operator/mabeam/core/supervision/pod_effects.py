"""Pod effects: the deletes, resizes and creates that bring an ordinal's pods to its record, once the record is stored.

Intent before act: a pass that changes a record writes nothing to that ordinal's pods (docs/design/0007-supervision.md).
"""

from dataclasses import dataclass
from datetime import timedelta

from mabeam.api.agent import MigrationStrategy, RecoveryStrategy, ShutdownPolicy, SupervisionStrategy
from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.names import LABEL_ENDED, Reason
from mabeam.core.conventions.metadata import owner_reference
from mabeam.core.decision import Effect, Event, soonest
from mabeam.core.pods import lifecycle
from mabeam.core.pods.body import BRUTAL_GRACE_SECONDS, PodRequest, pod_body
from mabeam.core.pods.resources import ContainerResources, has_resources
from mabeam.core.snapshot import AgentSnapshot, PodFacts
from mabeam.core.supervision.fencing import blocking_namesake, may_still_run
from mabeam.core.supervision.working_set import AgentPass


def act_on_stored_intent(pass_: AgentPass) -> None:
    """Append to `pass_.effects` the writes for every ordinal whose record is stored, and mark processes that still end."""
    _adopt_orphans(pass_)
    step = ordered_step(pass_)
    for ordinal, record in pass_.records.items():
        if same_intent(record, pass_.stored.get(ordinal)):
            _delete_pods(pass_, record, step)
            _resize_pod(pass_, record)
            _create_pod(pass_, record, step)
            _mark_ended_pods(pass_, record)
        pass_.records[ordinal] = _with_terminating(pass_, record)
    # What is to stop needs nobody's consent, and may free what a new pod waits for.
    pass_.effects.sort(key=lambda effect: effect.verb != "delete" or effect.can_wait)


def same_intent(record: PodRecord, stored: PodRecord | None) -> bool:
    """Whether the record desires the same of its pods as the stored one: only then may they be written."""
    if stored is None or record.incarnation != stored.incarnation:
        return False
    return record.state == stored.state or (record.is_alive and stored.is_alive)


def expects_follow_up(before: AgentStatus, after: AgentStatus) -> bool:
    """Whether the next pass has work because of what this one stores: an intent to act on, or directives to deliver."""
    stored = {record.ordinal: record for record in before.pods}
    same = all(same_intent(record, stored.get(record.ordinal)) for record in after.pods)
    return not same or len(before.pods) != len(after.pods) or before.directives != after.directives


def _with_terminating(pass_: AgentPass, record: PodRecord) -> PodRecord:
    """The record, `terminating` while a process may run though its end is decided: those before it in a tree wait for it."""
    is_live = any(map(lifecycle.is_live, pass_.pods_of(record)))
    terminating = True if record.is_at_rest and is_live else None
    return record if record.terminating == terminating else record.model_copy(update={"terminating": terminating})


# --- the order among ordinals that depend on each other ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderedStep:
    """Which ordinal may stop or start next; both None: none has to wait.

    Pods stop from the last ordinal down, and when no process is left to stop they start from the first ordinal up.
    """

    stopping: int | None = None  # the ordinal whose processes must end next
    starting: int | None = None  # the ordinal that must become ready next

    def may_stop(self, ordinal: int) -> bool:
        """Whether the ordinal's running pods may be deleted in this pass."""
        return self.stopping in (None, ordinal)

    def may_start(self, ordinal: int) -> bool:
        """Whether the ordinal's pod may be created in this pass."""
        return self.stopping is None and self.starting == ordinal


def ordered_step(pass_: AgentPass) -> OrderedStep | None:
    """The next step in start order; None when the ordinals are independent (OneForOne).

    It follows from records and pods alone: a process must end that may still run and is not of its ordinal's incarnation.
    """
    if pass_.snapshot.agent.spec.supervision_strategy is SupervisionStrategy.ONE_FOR_ONE:
        return None
    stopping = [
        ordinal
        for ordinal, record in pass_.records.items()
        if any(may_still_run(pass_.snapshot, pod) for pod in _pods_to_stop(pass_, record))
    ]
    starting = (
        ordinal
        for ordinal, record in pass_.records.items()
        if record.is_alive and not _is_ready(pass_.current_pod(record))
    )
    return OrderedStep(max(stopping, default=None), min(starting, default=None))


def _is_ready(pod: PodFacts | None) -> bool:
    return pod is not None and lifecycle.is_ready(pod)


# --- orphans ----------------------------------------------------------------------------------------------------------


def _adopt_orphans(pass_: AgentPass) -> None:
    """Take over the pods that lost their controller, as a ReplicaSet does: they run on, and count as the agent's from here on.

    Source: kubernetes pkg/controller/controller_ref_manager.go.
    """
    meta = pass_.snapshot.agent.metadata
    for pod in pass_.snapshot.pods:
        if pod.orphaned and not pod.deleting:
            reference = owner_reference("Agent", meta.name, meta.uid)
            body = {"metadata": {"uid": pod.uid, "ownerReferences": [reference]}}
            pass_.effects.append(Effect("adopt", "Pod", meta.namespace, pod.name, "orphaned", body, uid=pod.uid))
            pass_.events.append(Event(Reason.POD_ADOPTED, f"{pod.name} had no owner and is taken over", action="Adopt"))


# --- deletes ----------------------------------------------------------------------------------------------------------


def _delete_pods(pass_: AgentPass, record: PodRecord, step: OrderedStep | None) -> None:
    """Delete the pods that are to stop, then the ended ones whose logs are not kept."""
    reason = "superseded" if record.is_alive else "stopped"
    for pod in _pods_to_stop(pass_, record):
        waits = step is not None and not step.may_stop(record.ordinal) and may_still_run(pass_.snapshot, pod)
        if not pod.deleting and not waits and not _ends_by_itself(pass_, pod):
            pass_.effects.append(_delete(pass_, pod, reason))
    crowded = pass_.snapshot.pod_quota_used_up
    for pod in _ended_pods(pass_, record).outdated:
        why = "gives-way-in-quota" if crowded else "newer-log-kept"
        pass_.effects.append(_delete(pass_, pod, why, can_wait=not crowded))


def _pods_to_stop(pass_: AgentPass, record: PodRecord) -> tuple[PodFacts, ...]:
    """The ordinal's pods of which a process may run, and is not to."""
    current = pass_.current_pod(record) if record.is_alive else None
    overlaps = _overlaps(pass_, record)
    return tuple(
        pod
        for pod in pass_.pods_of(record)
        if lifecycle.is_live(pod) and pod is not current and not (overlaps and lifecycle.is_ready(pod))
    )


def _ends_by_itself(pass_: AgentPass, pod: PodFacts) -> bool:
    """Whether the kubelet is about to end the pod, which then stays for its log; requeues the pass for when it has not."""
    until = lifecycle.ends_by_itself_until(pod)
    if until is None or pass_.now >= until:
        return False
    pass_.requeue_at(until)
    return True


def _overlaps(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the old pod of a migrating replica runs until the new one is ready (MakeBeforeBreak).

    Only beside other, independent replicas: a single replica must never run twice, and ordinals that depend on each other
    stop and start in order.
    """
    spec = pass_.snapshot.agent.spec
    independent = spec.replicas > 1 and spec.supervision_strategy is SupervisionStrategy.ONE_FOR_ONE
    migrating = record.migrating_from is not None and record.state is AgentState.STARTING
    return migrating and independent and spec.migration_strategy is MigrationStrategy.MAKE_BEFORE_BREAK


@dataclass(frozen=True, slots=True)
class _EndedPods:
    """An ordinal's ended pods that are not being deleted: those that are, and the one that is kept for its log (at most one)."""

    outdated: list[PodFacts]
    kept: list[PodFacts]


def _ended_pods(pass_: AgentPass, record: PodRecord) -> _EndedPods:
    """The ordinal's ended pods: the newest one is kept, unless the ordinal was scaled away.

    None is kept while ended pods take up the quota that a pod is refused for.
    """
    current = pass_.current_pod(record)
    by_age = sorted(pass_.pods_of(record), key=lambda pod: pod is current)  # the current one counts as the newest
    ended = [pod for pod in by_age if lifecycle.is_terminal(pod) and not pod.deleting]
    keeps_none = record.ordinal >= pass_.snapshot.agent.spec.replicas or pass_.snapshot.pod_quota_used_up
    return _EndedPods(ended, []) if keeps_none else _EndedPods(ended[:-1], ended[-1:])


def _mark_ended_pods(pass_: AgentPass, record: PodRecord) -> None:
    """Label the kept pod as ended, after all that matters more: a HorizontalPodAutoscaler counts only pods without the label.

    It would take a Succeeded pod for one whose metrics are missing (kubernetes podautoscaler/replica_calculator.go).
    """
    space = pass_.snapshot.agent.metadata.namespace
    for pod in _ended_pods(pass_, record).kept:
        if not pod.marked_ended:
            body = {"metadata": {"labels": {LABEL_ENDED: "true"}}}
            pass_.effects.append(Effect("patch", "Pod", space, pod.name, "ended", body, uid=pod.uid, can_wait=True))


def _delete(pass_: AgentPass, pod: PodFacts, reason: str, *, can_wait: bool = False) -> Effect:
    agent = pass_.snapshot.agent
    brutal = agent.spec.shutdown.policy is ShutdownPolicy.BRUTAL
    grace = BRUTAL_GRACE_SECONDS if brutal else None
    space = agent.metadata.namespace
    return Effect("delete", "Pod", space, pod.name, reason, uid=pod.uid, grace_seconds=grace, can_wait=can_wait)


# --- resizes ----------------------------------------------------------------------------------------------------------


def _resize_pod(pass_: AgentPass, record: PodRecord) -> None:
    """Resize the main container in place (KEP-1287) when an allocation gives it other resources than it has."""
    wanted, pod = pass_.resources, pass_.current_pod(record)
    if wanted is None or pod is None or not record.is_alive:
        return
    if pod.deleting or not lifecycle.is_live(pod) or pod.resources is None or not pod.main_name:
        return
    refused = pass_.snapshot.refused_resizes.get(pod.name)
    if has_resources(pod.resources, wanted.to_wire()):
        return
    if refused is not None and refused.resources == wanted.to_wire() and not refused.is_retry_due:
        return
    body = {"spec": {"containers": [{"name": pod.main_name, "resources": wanted.to_wire()}]}}
    space = pass_.snapshot.agent.metadata.namespace
    pass_.effects.append(Effect("patch", "Pod", space, pod.name, "resize", body, uid=pod.uid, subresource="resize"))


# --- creates ----------------------------------------------------------------------------------------------------------


def _create_pod(pass_: AgentPass, record: PodRecord, step: OrderedStep | None) -> None:
    """Create the record's pod, when none of the ordinal's processes may run, it is the ordinal's turn, and no delay is left."""
    if not record.is_alive or pass_.current_pod(record) is not None:
        return
    if any(may_still_run(pass_.snapshot, pod) for pod in _pods_to_stop(pass_, record)):
        return
    if blocking_namesake(pass_.snapshot, record) is not None:
        return
    if (step is not None and not step.may_start(record.ordinal)) or _must_wait(pass_, record):
        return
    agent = pass_.snapshot.agent
    request = PodRequest(
        agent=agent,
        ordinal=record.ordinal,
        incarnation=record.incarnation,
        generation=_written_generation(pass_.snapshot),
        defaults=pass_.snapshot.defaults,
        avoided_node=_node_to_avoid(pass_, record),
        pod_hash=pass_.pod_hash,
        resources=_allotted_resources(pass_),
    )
    body = pod_body(request)
    pass_.effects.append(Effect("create", "Pod", agent.metadata.namespace, record.name, "start", body))


def _allotted_resources(pass_: AgentPass) -> ContainerResources | None:
    """The amounts of a new pod; None, as the spec declares, after a refusal: an allotment must not keep the agent from running.

    If the allotment was what refused it, the resize of the new pod is refused as well, and so is the directive then.
    """
    refused = pass_.snapshot.refused
    return pass_.resources if refused is None or refused.of_server else None


def _written_generation(snapshot: AgentSnapshot) -> int:
    """The generation of directives that a new pod finds: the stored one, or that of a ConfigMap that could not be written yet."""
    directives, config_map = snapshot.agent.status.directives, snapshot.config_map
    stored = directives.generation if directives is not None else 0
    return min(stored, config_map.generation) if config_map is not None and config_map.owned else stored


def _must_wait(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the pod waits for its backoff, or for the retry of a create that the apiserver refused; requeues the pass."""
    # A time beyond the longest backoff was written by a clock that has been set back since: ignored.
    longest = pass_.snapshot.agent.spec.fault_tolerance.backoff.max_seconds + 1
    at = record.next_restart_time
    if at is not None and pass_.now < at <= pass_.now + timedelta(seconds=longest):
        pass_.requeue_at(at)
        return True
    refused = pass_.snapshot.refused
    concerned = refused is not None and (not refused.of_server or refused.pod == record.name)
    if refused is not None and concerned and not refused.is_retry_due:
        pass_.requeue_after = soonest(pass_.requeue_after, refused.retry_in)
        return True
    return False


def _node_to_avoid(pass_: AgentPass, record: PodRecord) -> str | None:
    """The node that the ordinal migrates from; under `recoveryStrategy: Reschedule` the one on which it failed last."""
    if record.migrating_from is not None:
        return record.migrating_from
    if pass_.snapshot.agent.spec.fault_tolerance.recovery_strategy is not RecoveryStrategy.RESCHEDULE:
        return None
    own = (failure for failure in reversed(pass_.ledger) if failure.ordinal == record.ordinal and failure.counted)
    return next((failure.node for failure in own if not failure.released), None)
