"""The working set of one pass over an Agent: what the pass starts from, and what its stages change before it becomes a status."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Self

from mabeam.api.agent import MAX_REPLICAS, AgentEscalationPolicy
from mabeam.api.agent_status import DesiredState, Failure, PodRecord
from mabeam.api.supervision import Supervision
from mabeam.core.decision import Effect, Event, soonest
from mabeam.core.pods.resources import ContainerResources
from mabeam.core.snapshot import AgentSnapshot, Instructed, PodFacts, held_by

# The largest number that a status can hold (int32, api/base.py `Count`).
MAX_COUNT: Final = 2**31 - 1
# A stored record with this incarnation could have no successor. Only a hand-edited or corrupted status can hold it: ignored.
MAX_INCARNATION: Final = MAX_COUNT
# A pod further ahead of its ordinal's record than this is not the operator's: it stores a number before it makes the pod of
# that number, so only a status from a backup is behind, by the restarts since then.
MAX_LEAP: Final = 100_000


@dataclass(kw_only=True)
class AgentPass:
    """The mutable state of one pass over an Agent; it is discarded with the pass."""

    # --- what the pass starts from
    snapshot: AgentSnapshot  # `snapshot.agent.spec` is the effective spec: the user's, as directives override it
    now: datetime
    pod_hash: str  # the hash of all that a pod created now is made from
    resources: ContainerResources | None  # for the main container, by allocation; None: what the pod template declares
    supervision: Supervision | None  # the parent's instruction that this pass follows; None: there is none
    restarted: bool  # whether that instruction restarts the whole agent: every ordinal gets a new incarnation
    stored: dict[int, PodRecord]  # ordinal → the record in the stored status
    pods: dict[int, tuple[PodFacts, ...]]  # ordinal → its pods, oldest incarnation first

    # --- what its stages change
    migrations: int  # the number of migrations requested of the agent so far
    migrated_by: str | None  # the last value of the annotation mabeam.dev/migrate that was used
    ledger: list[Failure]  # oldest first; `ledger.trim` shortens it for the status
    restarts: int  # counted restarts over the agent's lifetime
    disruptions: int  # ends caused by the cluster (eviction, preemption, lost node) over the agent's lifetime
    parked_at: datetime | None  # since when the failure budget is exhausted; None: it is not
    probed_at: datetime | None  # when a parked agent was started on trial; None: it is not on trial
    released: bool = False  # whether this pass emptied the failure window
    probing: bool = False  # whether this pass starts a parked agent on trial
    records: dict[int, PodRecord] = field(default_factory=dict)  # ordinal → the record after this pass
    effects: list[Effect] = field(default_factory=list)  # writes to pods, in order
    events: list[Event] = field(default_factory=list)
    requeue_after: float | None = None  # seconds until the next deadline; None: there is none

    @classmethod
    def begin(
        cls,
        snapshot: AgentSnapshot,
        now: datetime,
        *,
        pod_hash: str,
        resources: ContainerResources | None,
        migrations: int,
        supervision: Supervision | None,
        restarted: bool,
    ) -> Self:
        """The working set of a pass that starts from the stored status and the observed pods."""
        before = snapshot.agent.status
        pods = believed_pods(snapshot)
        if len(pods) != len(snapshot.pods):
            snapshot = replace(snapshot, pods=pods)
        return cls(
            snapshot=snapshot,
            now=now,
            pod_hash=pod_hash,
            resources=resources,
            supervision=supervision,
            restarted=restarted,
            stored=stored_records(snapshot),
            pods=pods_by_ordinal(snapshot.pods),
            migrations=migrations,
            migrated_by=before.migrated_by,
            ledger=list(before.failures),
            restarts=before.restarts,
            disruptions=before.disruptions,
            parked_at=before.parked_at,
            probed_at=before.probed_at,
        )

    @property
    def starts_afresh(self) -> bool:
        """Whether ordinals at rest start again in this pass, and waiting ones without their delay."""
        return self.released or self.probing

    def pods_of(self, record: PodRecord) -> tuple[PodFacts, ...]:
        """The pods of the record's ordinal, oldest incarnation first."""
        return self.pods.get(record.ordinal, ())

    def current_pod(self, record: PodRecord) -> PodFacts | None:
        """The pod of the record's own incarnation; None when it does not exist."""
        return next((pod for pod in self.pods_of(record) if pod.incarnation == record.incarnation), None)

    def is_current(self, pod: PodFacts) -> bool:
        """Whether the pod is the one of its ordinal's record."""
        record = self.records.get(pod.ordinal)
        return record is not None and record.incarnation == pod.incarnation

    def requeue_at(self, at: datetime) -> None:
        """Have the next pass run at `at` at the latest."""
        self.requeue_after = soonest(self.requeue_after, max(0.0, (at - self.now).total_seconds()))


def stored_records(snapshot: AgentSnapshot) -> dict[int, PodRecord]:
    """The records of the stored status by ordinal, without those whose incarnation is out of range."""
    records = snapshot.agent.status.pods
    return {record.ordinal: record for record in records if record.incarnation < MAX_INCARNATION}


def believed_pods(snapshot: AgentSnapshot) -> tuple[PodFacts, ...]:
    """The agent's pods without those that the operator cannot have made: anybody who may create pods can name its uid.

    A pod of that name with an ordinal that no spec allows, or a number far ahead of the record, would push the agent's own pods
    out of sight, or its status past what the CRD takes.
    """
    stored = stored_records(snapshot)
    known = {ordinal: record.incarnation for ordinal, record in stored.items()}
    return tuple(
        pod
        for pod in snapshot.pods
        if (pod.ordinal < MAX_REPLICAS or pod.ordinal in known)
        and pod.incarnation <= min(known.get(pod.ordinal, 0) + MAX_LEAP, MAX_INCARNATION - 1)
    )


def pods_by_ordinal(pods: Iterable[PodFacts]) -> dict[int, tuple[PodFacts, ...]]:
    """The pods by ordinal, oldest incarnation first."""
    result: dict[int, tuple[PodFacts, ...]] = {}
    for pod in sorted(pods, key=lambda pod: (pod.ordinal, pod.incarnation)):
        result[pod.ordinal] = (*result.get(pod.ordinal, ()), pod)
    return result


def is_held(snapshot: AgentSnapshot) -> bool:
    """Whether the parent Supervisor keeps the agent from running: it instructed a stop, or has given no instruction yet."""
    return held_by(snapshot.parent) is not None


def is_stop_desired(snapshot: AgentSnapshot) -> bool:
    """Whether no replica is to run, by the spec's desired state or by the parent Supervisor."""
    return snapshot.agent.spec.desired_state is DesiredState.STOPPED or is_held(snapshot)


def escalates(snapshot: AgentSnapshot) -> bool:
    """Whether the parent Supervisor handles the agent's exhausted budget (`escalationPolicy: Escalate`)."""
    policy = snapshot.agent.spec.fault_tolerance.escalation_policy
    return isinstance(snapshot.parent, Instructed) and policy is AgentEscalationPolicy.ESCALATE
