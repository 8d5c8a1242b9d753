"""The working set of one agent pass: the ordinals' records, the failure ledger and the Events, before they become a status."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.agent import AgentEscalationPolicy
from mabeam.api.agent_status import AgentState, DesiredState, Failure, PodRecord
from mabeam.core.decision import Effect, Event, soonest
from mabeam.core.pods.resources import ContainerResources
from mabeam.core.snapshot import AgentSnapshot, Instructed, PodFacts, held_by

# The last number a status can hold: a record that carries it can have no successor, so nobody honest wrote it.
MAX_INCARNATION: Final = 2**31 - 1
# A pod beyond this is nobody's honest work either. Far below the last number: a record that follows a forged pod must not
# come to the number that is not believed, or each pass would undo the one before.
MAX_POD_INCARNATION: Final = 10**9


@dataclass
class AgentPass:
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
    resources: ContainerResources | None = None

    def is_current(self, pod: PodFacts) -> bool:
        """Whether the pod is the one that its ordinal's record stands for."""
        record = self.records.get(pod.ordinal)
        return record is not None and record.incarnation == pod.incarnation

    def wake(self, at: datetime) -> None:
        self.requeue = soonest(self.requeue, max(0.0, (at - self.now).total_seconds()))


def stored_records(snapshot: AgentSnapshot) -> dict[int, PodRecord]:
    """The records of the stored status by ordinal, without those that nobody honest wrote."""
    records = snapshot.agent.status.pods
    return {record.ordinal: record for record in records if record.incarnation < MAX_INCARNATION}


def by_ordinal(pods: tuple[PodFacts, ...]) -> dict[int, tuple[PodFacts, ...]]:
    """The pods by ordinal, each ordinal's in the order of their incarnations; without those that nobody honest made."""
    found: dict[int, tuple[PodFacts, ...]] = {}
    believed = (pod for pod in pods if pod.incarnation <= MAX_POD_INCARNATION)
    for pod in sorted(believed, key=lambda pod: (pod.ordinal, pod.incarnation)):
        found[pod.ordinal] = (*found.get(pod.ordinal, ()), pod)
    return found


def current_pod(record: PodRecord, pods: tuple[PodFacts, ...]) -> PodFacts | None:
    """The pod of the record's own incarnation."""
    return next((pod for pod in pods if pod.incarnation == record.incarnation), None)


def is_held(snapshot: AgentSnapshot) -> bool:
    """Whether its Supervisor does not want the agent to pass_, or has not spoken yet."""
    return held_by(snapshot.parent) is not None


def is_wanted_down(snapshot: AgentSnapshot) -> bool:
    """Whether its user or its Supervisor wants none of its replicas to pass_."""
    return snapshot.agent.spec.desired_state is DesiredState.STOPPED or is_held(snapshot)


def at_rest(records: Iterable[PodRecord]) -> bool:
    """Whether every ordinal ended as it should, so that nobody is left to acknowledge anything."""
    states = [record.state for record in records]
    return bool(states) and all(state is AgentState.STOPPED for state in states)


def escalates(snapshot: AgentSnapshot) -> bool:
    """Whether its exhausted budget is a death for its Supervisor to handle."""
    policy = snapshot.agent.spec.fault_tolerance.escalation_policy
    return isinstance(snapshot.parent, Instructed) and policy is AgentEscalationPolicy.ESCALATE
