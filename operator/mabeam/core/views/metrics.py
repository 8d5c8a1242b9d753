"""What changed from one status to the next, as counts and labels of metrics: every label is of a closed list."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.agent_status import AgentState, AgentStatus, Failure, FailureCause
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveAction, DirectiveReason, DirectiveState
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_blocks import ConsensusProtocol
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus
from mabeam.core.conventions.conditions import find_condition
from mabeam.core.decision import Event
from mabeam.core.directives.effective import OVERRULED_REASONS
from mabeam.core.supervision.ledger import new_failures

# --- agents -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentMetrics:
    """What one pass over an Agent adds to the operator's metrics."""

    restarts: int  # counted restarts
    stops: int  # replicas that the operator stopped
    failures: tuple[FailureCause, ...]  # causes of the new entries of the ledger
    directives: tuple[tuple[DirectiveAction, str], ...]  # as `directive_outcomes`
    recovery_seconds: float | None  # None: this pass completed no recovery


def agent_metrics(before: AgentStatus, after: AgentStatus, now: datetime) -> AgentMetrics:
    """The metrics of a pass that replaced the status `before` by the status `after`."""
    return AgentMetrics(
        restarts=max(0, after.restarts - before.restarts),
        stops=stopped_replicas(before, after),
        failures=tuple(failure.cause for failure in new_failures(before, after)),
        directives=directive_outcomes(before.directives, after.directives),
        recovery_seconds=recovery_seconds(before, after, now),
    )


def stopped_replicas(before: AgentStatus, after: AgentStatus) -> int:
    """The number of replicas that the operator has stopped since `before`: no failures, whatever their exit codes."""
    known = {record.name for record in before.pods if record.reason == Reason.STOPPED}
    return sum(1 for record in after.pods if record.reason == Reason.STOPPED and record.name not in known)


def recovery_seconds(before: AgentStatus, after: AgentStatus, now: datetime) -> float | None:
    """The seconds since the agent's last failure when this pass finds all its replicas ready again; None otherwise."""
    replicas = after.effective.replicas if after.effective is not None else 0
    is_complete, was_complete = after.ready_replicas >= replicas > 0, before.ready_replicas >= replicas > 0
    if not is_complete or was_complete or not after.failures or not _recovered(before, after, after.failures[-1]):
        return None
    return max(0.0, (now - after.failures[-1].time).total_seconds())


def _recovered(before: AgentStatus, after: AgentStatus, last: Failure) -> bool:
    """Whether the successor of the pod that failed last has started since: a scaling or a migration is no recovery."""
    record = next((record for record in after.pods if record.ordinal == last.ordinal), None)
    if record is None or last.pod is None or last.pod.rpartition("-")[2] != str(record.incarnation - 1):
        return False
    former = next((known for known in before.pods if known.ordinal == last.ordinal), None)
    ready = find_condition(before.conditions, ConditionType.READY)
    unready_since = ready.last_transition_time if ready is not None else None
    started_now = former is None or former.state is not AgentState.RUNNING or former.incarnation != record.incarnation
    return started_now or unready_since is None or record.start_time is None or record.start_time >= unready_since


# --- directives -------------------------------------------------------------------------------------------------------

ISSUED: Final = "issued"
ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
EXPIRED: Final = "expired"
OVERRULED: Final = "overruled"
LATE: Final = "late"
DIRECTIVE_OUTCOMES: Final = (ISSUED, ACKNOWLEDGED, REFUSED, EXPIRED, OVERRULED, LATE)

_FINAL_OUTCOMES: Final = {
    DirectiveState.ACKNOWLEDGED: ACKNOWLEDGED,
    DirectiveState.REFUSED: REFUSED,
    DirectiveState.EXPIRED: EXPIRED,
}


_OVERRULED: Final = OVERRULED_REASONS | {DirectiveReason.DROPPED}


def is_overruled(item: AgentDirective) -> bool:
    """Whether the operator set the directive aside: another variable's won, none won, or RestoreLastGood dropped it."""
    return item.reason in _OVERRULED


def directive_outcomes(
    before: AgentDirectives | None, after: AgentDirectives | None
) -> tuple[tuple[DirectiveAction, str], ...]:
    """The new outcomes of an agent's directives from one status to the next: action and one of DIRECTIVE_OUTCOMES.

    A directive is identified by variable, action and generation. Each is issued once, unless it is overruled from the
    start; an acknowledgement after its expiry is `late`, and not `acknowledged`.
    """
    old_set, new_set = before or AgentDirectives(), after or AgentDirectives()
    known = {(item.variable, item.action, item.generation): item for item in old_set.items}
    outcomes: list[tuple[DirectiveAction, str]] = []
    for item in new_set.items:
        old = known.get((item.variable, item.action, item.generation))
        former, latest = _final_outcome(old), _final_outcome(item)
        outcomes += [(item.action, outcome) for outcome in _steps(former, latest, is_new=old is None)]
    return tuple(outcomes)


def _steps(former: str | None, latest: str | None, *, is_new: bool) -> tuple[str, ...]:
    if latest == OVERRULED:
        return () if former == OVERRULED else (OVERRULED,)
    issued = (ISSUED,) if is_new or former == OVERRULED else ()
    if latest is None or latest == former:
        return issued
    return (*issued, LATE if (former, latest) == (EXPIRED, ACKNOWLEDGED) else latest)


def _final_outcome(item: AgentDirective | None) -> str | None:
    """The directive's outcome; None while it is on its way, or when there is no directive."""
    if item is None:
        return None
    return OVERRULED if is_overruled(item) else _FINAL_OUTCOMES.get(item.state)


# --- variables --------------------------------------------------------------------------------------------------------

DECIDED: Final = "decided"
UNCHANGED: Final = "unchanged"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class VariableMetrics:
    """What one pass over a variable adds to the operator's metrics."""

    outcome: str  # DECIDED, UNCHANGED or FAILED
    round: tuple[str, str] | None  # the negotiation strategy and how the new round ended; None: no new round
    vote: tuple[str, str] | None  # the consensus protocol and how the vote ended; None: no vote ended


def variable_metrics(
    variable: OrchestrationVariable, after: OrchestrationVariableStatus, events: Sequence[Event]
) -> VariableMetrics:
    """The metrics of a pass that replaced the variable's status by the status `after`."""
    before, session, consensus = variable.status, after.negotiation, variable.spec.consensus
    vote = vote_outcome(before.consensus, after.consensus)
    ended = (str(session.strategy), str(session.state)) if session else ("None", "Completed")
    return VariableMetrics(
        outcome=coordination_outcome(before, after, events),
        round=ended if after.round != before.round else None,
        vote=(protocol_label(consensus.protocol if consensus else None), vote) if vote is not None else None,
    )


def coordination_outcome(
    before: OrchestrationVariableStatus, after: OrchestrationVariableStatus, events: Sequence[Event]
) -> str:
    """The outcome of a pass over a variable: FAILED with a new warning, DECIDED with a new round, else UNCHANGED."""
    if any(event.type == "Warning" for event in events):
        return FAILED
    return DECIDED if after.round != before.round else UNCHANGED


def vote_outcome(before: ConsensusRound | None, after: ConsensusRound | None) -> str | None:
    """Accepted or Rejected when a vote ended with that in this pass; None otherwise."""
    if after is None or after.outcome == "Pending":
        return None
    former = (before.proposal, before.outcome) if before is not None else None
    return after.outcome if former != (after.proposal, after.outcome) else None


def protocol_label(protocol: str | None) -> str:
    """The protocol as a label; every plug-in's is "plugin", because users choose plug-in names."""
    return str(protocol) if protocol in set(ConsensusProtocol) else "plugin"
