"""What a pass came to, in a word of a closed list: for counters, whose labels must be bounded."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mabeam.api.agent_status import AgentState, AgentStatus, Failure
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveState
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable_blocks import ConsensusProtocol
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus
from mabeam.core.decision import Event
from mabeam.core.directives.effective import conflict_lost

ISSUED: Final = "issued"
ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
EXPIRED: Final = "expired"
OVERRULED: Final = "overruled"
LATE: Final = "late"
DIRECTIVE_OUTCOMES: Final = (ISSUED, ACKNOWLEDGED, REFUSED, EXPIRED, OVERRULED, LATE)

_ENDS: Final = {
    DirectiveState.ACKNOWLEDGED: ACKNOWLEDGED,
    DirectiveState.REFUSED: REFUSED,
    DirectiveState.EXPIRED: EXPIRED,
}


def is_overruled(told: AgentDirectives, item: AgentDirective) -> bool:
    """Whether the directive is set aside, so that nobody was asked: another variable won, or it came before a failure."""
    aside = conflict_lost(told.conflicts, item) is not None or bool(item.dropped)
    return item.state is DirectiveState.REFUSED and aside


def directive_outcomes(
    before: AgentDirectives | None, after: AgentDirectives | None
) -> tuple[tuple[DirectiveAction, str], ...]:
    """What became of an agent's directives from one status to the next, each as its action and one of `DIRECTIVE_OUTCOMES`.

    A directive is known by its variable and action, and is another one when its generation changes. Every one is issued
    once, unless it is overruled from the start; what is acknowledged after it had expired is late, not acknowledged.
    """
    told, was = after or AgentDirectives(), before or AgentDirectives()
    known = {(item.variable, item.action, item.generation): item for item in was.items}
    found: list[tuple[DirectiveAction, str]] = []
    for item in told.items:
        old = known.get((item.variable, item.action, item.generation))
        former, end = _end(was, old), _end(told, item)
        if end == OVERRULED:
            steps = () if former == OVERRULED else (OVERRULED,)
        else:
            issued = (ISSUED,) if old is None or former == OVERRULED else ()
            ended = (LATE if (former, end) == (EXPIRED, ACKNOWLEDGED) else end,) if end not in (None, former) else ()
            steps = (*issued, *ended)
        found += [(item.action, step) for step in steps if step is not None]
    return tuple(found)


def _end(told: AgentDirectives, item: AgentDirective | None) -> str | None:
    """What the directive came to; None as long as it is on its way, or was none."""
    if item is None:
        return None
    return OVERRULED if is_overruled(told, item) else _ENDS.get(item.state)


DECIDED: Final = "decided"
UNCHANGED: Final = "unchanged"
FAILED: Final = "failed"


def coordination_outcome(
    before: OrchestrationVariableStatus, after: OrchestrationVariableStatus, events: Sequence[Event]
) -> str:
    """What a pass over a variable came to: failed when something new is wrong with it, decided when a round is on record."""
    if any(event.type == "Warning" for event in events):
        return FAILED
    return DECIDED if after.round != before.round else UNCHANGED


def vote_outcome(before: ConsensusRound | None, after: ConsensusRound | None) -> str | None:
    """Accepted or Rejected when a vote came to that just now, else None."""
    if after is None or after.outcome == "Pending":
        return None
    was = (before.proposal, before.outcome) if before is not None else None
    return after.outcome if was != (after.proposal, after.outcome) else None


def protocol_label(protocol: str | None) -> str:
    """The protocol as a label: a plug-in's name is anybody's choice, so all of them are one."""
    return str(protocol) if protocol in set(ConsensusProtocol) else "plugin"


def stopped_replicas(before: AgentStatus, after: AgentStatus) -> int:
    """How many replicas the operator has stopped since: that is no failure, whatever their exit codes were."""
    known = {record.name for record in before.pods if record.reason == Reason.STOPPED}
    return sum(1 for record in after.pods if record.reason == Reason.STOPPED and record.name not in known)


def recovery_seconds(before: AgentStatus, after: AgentStatus, now: datetime) -> float | None:
    """How long the agent was not whole since its last failure, when this pass finds it whole again; None otherwise."""
    wanted = after.effective.replicas if after.effective is not None else 0
    whole, was_whole = after.ready_replicas >= wanted > 0, before.ready_replicas >= wanted > 0
    if not whole or was_whole or not after.failures or not _recovered(before, after, after.failures[-1]):
        return None
    return max(0.0, (now - after.failures[-1].time).total_seconds())


def _recovered(before: AgentStatus, after: AgentStatus, last: Failure) -> bool:
    """Whether the successor of the pod that failed last came up meanwhile: whole after a scaling or a move is no recovery."""
    record = next((record for record in after.pods if record.ordinal == last.ordinal), None)
    if record is None or last.pod is None or last.pod.rpartition("-")[2] != str(record.incarnation - 1):
        return False
    was = next((known for known in before.pods if known.ordinal == last.ordinal), None)
    ready = next((c for c in before.conditions if c.type == ConditionType.READY), None)
    broken_at = ready.last_transition_time if ready is not None else None
    came_now = was is None or was.state is not AgentState.RUNNING or was.incarnation != record.incarnation
    return came_now or broken_at is None or record.start_time is None or record.start_time >= broken_at
