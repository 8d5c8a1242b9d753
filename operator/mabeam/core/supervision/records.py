"""What each ordinal of an agent should be: one incarnation number, the intent, in `status.pods`.

A restart is first a number here (`incarnation += 1`); the pods follow in a later pass (`acts`).
"""

from datetime import datetime
from typing import Final

from mabeam.api.agent import RestartStrategy
from mabeam.api.agent_status import AgentState, DesiredState, PodRecord
from mabeam.api.names import Reason, pod_name
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision import working_set
from mabeam.core.supervision.working_set import AgentPass


def next_record(
    pass_: AgentPass, ordinal: int, stored: PodRecord | None, pods: tuple[PodFacts, ...], wanted: bool, released: bool
) -> PodRecord | None:
    """The ordinal's record by what the user wants of it, before its pod's fate is judged; None when it is to be forgotten."""
    newest = max((pod.incarnation for pod in pods), default=0)
    if stored is None:
        if not wanted:
            return _adopted(pass_, ordinal, newest, AgentState.STOPPING) if pods else None
        return _adopted(pass_, ordinal, max(newest, 1), AgentState.STARTING)
    if newest > stored.incarnation:  # a status that lost its memory: the pods are the better witness
        stored = _adopted(pass_, ordinal, newest, stored.state)
    if not wanted:
        return _stopping(pass_, stored, pods)
    if stored.is_alive:
        fresh = released and stored.next_restart_time is not None
        return stored.model_copy(update={"next_restart_time": None}) if fresh else stored
    if released or not _ended_on_its_own(pass_, stored):
        return incarnate(pass_, stored, None)
    return stored


def _ended_on_its_own(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether a resting record rests because its process ended, rather than because the user stopped it."""
    if record.state is AgentState.STOPPING:
        return False
    if record.reason is not None:
        return record.reason != Reason.STOPPED
    effective = pass_.snapshot.agent.status.effective
    stopped_by_user = effective is not None and effective.desired_state is DesiredState.STOPPED
    return not stopped_by_user and pass_.snapshot.agent.spec.restart_strategy is not RestartStrategy.PERMANENT


def _adopted(pass_: AgentPass, ordinal: int, incarnation: int, state: AgentState) -> PodRecord:
    """A record of that incarnation of which nothing is known yet but the number."""
    name = pod_name(pass_.snapshot.agent.metadata.name, ordinal, incarnation)
    return PodRecord(
        ordinal=ordinal,
        name=name,
        incarnation=incarnation,
        state=state,
        spec_hash=pass_.shape,
        migration=pass_.migrations or None,
    )


def incarnate(pass_: AgentPass, record: PodRecord, next_restart_time: datetime | None) -> PodRecord:
    """The intent to start anew: the number goes up; everything else about the pod is still to be seen.

    Whatever it is started anew for: one that was to move moves with it, and goes on moving until it runs.
    """
    fresh = _adopted(pass_, record.ordinal, record.incarnation + 1, AgentState.STARTING)
    leaves = record.migrating_from or (record.node if is_to_move(pass_, record) else None)
    return fresh.model_copy(update={"next_restart_time": next_restart_time, "migrating_from": leaves})


def is_to_move(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the agent was told to move and this replica has not taken part in it yet."""
    return (record.migration or 0) < pass_.migrations


# What is said of a replica on its way up, and of none that goes down.
_AT_AN_END: Final = {"next_restart_time": None, "migrating_from": None}


def _stopping(pass_: AgentPass, record: PodRecord, pods: tuple[PodFacts, ...]) -> PodRecord | None:
    scaled_away = record.ordinal >= pass_.snapshot.agent.spec.replicas
    if record.is_alive:
        record = record.model_copy(update={**_AT_AN_END, "state": AgentState.STOPPING, "reason": None})
        if any(lifecycle.is_live(pod) for pod in pods):
            return record
    if scaled_away:
        return None if not pods else record.model_copy(update={"state": AgentState.STOPPING})
    if record.state is AgentState.STOPPING and not any(lifecycle.is_live(pod) for pod in pods):
        why = "as its Supervisor wants" if working_set.is_held(pass_.snapshot) else "as desired"
        if pass_.parked_at is not None:
            why = "with its agent, which is parked"
        pass_.events.append(Event(Reason.AGENT_STOPPED, f"{record.name} stopped, {why}", action="Stop"))
        return record.model_copy(update={"state": AgentState.STOPPED, "reason": Reason.STOPPED})
    if record.state is not AgentState.STOPPING and pass_.snapshot.agent.spec.desired_state is DesiredState.STOPPED:
        return record.model_copy(update={"state": AgentState.STOPPED, "reason": Reason.STOPPED})
    return record
