"""Snapshot → Decision, for every kind that is reconciled."""

from datetime import datetime

from mabeam.core.decision import AnyDecision
from mabeam.core.passes import agent, supervisor, variable
from mabeam.core.snapshot import AgentSnapshot, Snapshot, SupervisorSnapshot


def decide(snapshot: Snapshot, now: datetime) -> AnyDecision:
    """The decision of one pass over the object that the snapshot is about."""
    if isinstance(snapshot, AgentSnapshot):
        return agent.decide(snapshot, now)
    if isinstance(snapshot, SupervisorSnapshot):
        return supervisor.decide(snapshot, now)
    return variable.decide(snapshot, now)
