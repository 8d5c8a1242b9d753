"""The record of each ordinal in `status.pods`: the desired incarnation and state, which the pods follow in a later pass.

A restart is first a number here (`incarnation += 1`); `pod_effects` acts on it once it is stored.
"""

from datetime import datetime

from mabeam.api.agent import RestartStrategy
from mabeam.api.agent_status import AgentState, DesiredState, PodRecord
from mabeam.api.names import Reason, pod_name
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision import working_set
from mabeam.core.supervision.summary import stop_reason
from mabeam.core.supervision.working_set import AgentPass


def advance_records(pass_: AgentPass) -> None:
    """Set `pass_.records` by what is desired of each ordinal; the ends of its pods are handled later (`exits`)."""
    replicas = pass_.snapshot.agent.spec.replicas
    may_run = pass_.parked_at is None and not working_set.is_stop_desired(pass_.snapshot)
    for ordinal in sorted({*pass_.stored, *pass_.pods, *range(replicas)}):
        stored, desired = pass_.stored.get(ordinal), may_run and ordinal < replicas
        record = _next_record(pass_, ordinal, stored, desired=desired)
        if record is None:
            continue
        if pass_.restarted and desired and record.incarnation == (stored.incarnation if stored is not None else 0):
            record = new_incarnation(pass_, record, None)
        pass_.records[ordinal] = record


def _next_record(pass_: AgentPass, ordinal: int, stored: PodRecord | None, *, desired: bool) -> PodRecord | None:
    """The ordinal's record by what is desired of it; None when the ordinal needs none (any more)."""
    pods = pass_.pods.get(ordinal, ())
    newest = max((pod.incarnation for pod in pods), default=0)
    if stored is None:
        if not desired:
            return _new_record(pass_, ordinal, newest, AgentState.STOPPING) if pods else None
        return _new_record(pass_, ordinal, max(newest, 1), AgentState.STARTING)
    if newest > stored.incarnation:  # the status is older than the pods (a restored backup): the pods are right
        stored = _new_record(pass_, ordinal, newest, stored.state)
    if not desired:
        return _stopped_record(pass_, stored, pods)
    if stored.is_alive:
        no_delay = pass_.starts_afresh and stored.next_restart_time is not None
        return stored.model_copy(update={"next_restart_time": None}) if no_delay else stored
    if pass_.starts_afresh or not _ended_by_itself(pass_, stored):
        return new_incarnation(pass_, stored, None)
    return stored


def _ended_by_itself(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the record is at rest because its process ended, and not because the operator stopped it."""
    if record.state is AgentState.STOPPING:
        return False
    if record.reason is not None:
        return record.reason != Reason.STOPPED
    effective = pass_.snapshot.agent.status.effective
    stopped_by_user = effective is not None and effective.desired_state is DesiredState.STOPPED
    return not stopped_by_user and pass_.snapshot.agent.spec.restart_strategy is not RestartStrategy.PERMANENT


def _new_record(pass_: AgentPass, ordinal: int, incarnation: int, state: AgentState) -> PodRecord:
    """A record of an incarnation of whose pod nothing was observed yet."""
    return PodRecord(
        ordinal=ordinal,
        name=pod_name(pass_.snapshot.agent.metadata.name, ordinal, incarnation),
        incarnation=incarnation,
        state=state,
        spec_hash=pass_.pod_hash,
        migration=pass_.migrations or None,
    )


def new_incarnation(pass_: AgentPass, record: PodRecord, next_restart_time: datetime | None) -> PodRecord:
    """The record of the ordinal's next incarnation, Starting, to be created at `next_restart_time` (None: at once).

    A pending or unfinished migration goes on with it, whatever the reason for the new incarnation.
    """
    fresh = _new_record(pass_, record.ordinal, record.incarnation + 1, AgentState.STARTING)
    leaves = record.migrating_from or (record.node if must_migrate(pass_, record) else None)
    return fresh.model_copy(update={"next_restart_time": next_restart_time, "migrating_from": leaves})


def must_migrate(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the agent has a requested migration in which this replica has not taken part yet."""
    return (record.migration or 0) < pass_.migrations


def made_from(pass_: AgentPass, record: PodRecord) -> str:
    """The hash of the spec that the ordinal's pod is made from: the pod's own annotation, or the record's without a pod."""
    current = pass_.current_pod(record)
    return (current.spec_hash if current else None) or record.spec_hash or pass_.pod_hash


def serves_earlier_spec(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the ordinal has a ready pod that the roll to the present spec has not reached yet."""
    current = pass_.current_pod(record)
    ready = record.is_alive and current is not None and lifecycle.is_ready(current)
    return ready and made_from(pass_, record) != pass_.pod_hash


def has_halted_roll(pass_: AgentPass) -> bool:
    """Whether a replica has failed for good by a spec that others have not got: the roll goes no further than to that one.

    A Temporary replica ends for many reasons; only one that was made from the present spec speaks against it.
    """
    temporary = pass_.snapshot.agent.spec.restart_strategy is RestartStrategy.TEMPORARY
    return any(
        record.state is AgentState.FAILED
        and not must_migrate(pass_, record)
        and (not temporary or record.spec_hash == pass_.pod_hash)
        for record in pass_.records.values()
    )


def _stopped_record(pass_: AgentPass, record: PodRecord, pods: tuple[PodFacts, ...]) -> PodRecord | None:
    """The record of an ordinal that is not to run: Stopping while a process may run, then Stopped; None once scaled away."""
    scaled_away = record.ordinal >= pass_.snapshot.agent.spec.replicas
    is_live = any(lifecycle.is_live(pod) for pod in pods)
    if record.is_alive:
        cleared = {"next_restart_time": None, "migrating_from": None}
        record = record.model_copy(update={**cleared, "state": AgentState.STOPPING, "reason": None})
        if is_live:
            return record
    if scaled_away:
        return None if not pods else record.model_copy(update={"state": AgentState.STOPPING})
    if record.state is AgentState.STOPPING and not is_live:
        note = f"{record.name} stopped, {_stop_reason(pass_)}"
        pass_.events.append(Event(Reason.AGENT_STOPPED, note, action="Stop"))
        return record.model_copy(update={"state": AgentState.STOPPED, "reason": Reason.STOPPED})
    if record.state is not AgentState.STOPPING and pass_.snapshot.agent.spec.desired_state is DesiredState.STOPPED:
        return record.model_copy(update={"state": AgentState.STOPPED, "reason": Reason.STOPPED})
    return record


def _stop_reason(pass_: AgentPass) -> str:
    if pass_.parked_at is not None:
        return "because its agent is parked"
    return "as its Supervisor instructed" if working_set.is_held(pass_.snapshot) else stop_reason(pass_.snapshot)
