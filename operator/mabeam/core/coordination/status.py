"""The status of an OrchestrationVariable: conditions, consensus and Events."""

from typing import Final

from mabeam.api.base import Condition
from mabeam.api.directive import VariableDirectives
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import Mode
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.conditions import KStatus, condition, kstatus_conditions
from mabeam.core.coordination.failure_budget import failure_events
from mabeam.core.coordination.gate import RoundResult
from mabeam.core.coordination.round_record import recorded_failure
from mabeam.core.coordination.working_set import VariablePass, missing_agents_message
from mabeam.core.decision import Event

_REASONS: Final = frozenset(map(str, Reason))


def status_reason(before: OrchestrationVariableStatus, after: OrchestrationVariableStatus) -> str:
    """A word for why the status is config_map_effect, for `mabeam plan` and the log."""
    if before == after:
        return "unchanged"
    if before.observed_generation < 0:
        return "registered"
    if before.round != after.round:
        return "decided"
    return "directives" if (before.directives or VariableDirectives()) != after.directives else "conditions"


# --- record -----------------------------------------------------------------------------------------------------------


def variable_kstatus(run: VariablePass, played: RoundResult, delivery: tuple[Reason, str]) -> KStatus:
    status = played.status
    session = status.negotiation
    explanation = status.last_decision.message if status.last_decision is not None else ""
    failure = recorded_failure(status)
    if failure is not None:
        reason, message = failure
        return KStatus(
            False, reason, message, stalled=reason is Reason.INVALID_CONFIGURATION, reconciling=reason in _PASSING
        )
    failed = session is not None and session.state == "Failed"
    if failed and session is not None and session.reason == Reason.INVALID_CONFIGURATION:
        return KStatus(False, Reason.INVALID_CONFIGURATION, explanation, stalled=True)
    if played.waiting_for is not None and (played.waiting_for is not Reason.EVALUATING or status.value is None):
        vote = status.consensus
        told = (
            f"{domains.format_value(vote.proposed)}: {vote.reason}"
            if vote is not None and vote.reason
            else "in progress"
        )
        return KStatus(False, played.waiting_for, told, reconciling=True)
    if status.value is None and run.variable.spec.paused:
        return KStatus(False, Reason.PAUSED, "paused before anything was decided")
    if status.value is None:
        known = session is not None and session.reason in _REASONS  # a stored status may have been edited
        reason = Reason(session.reason) if failed and known and session is not None else Reason.NO_OFFERS
        hint = "; give an agent a preference for it, or set `spec.value`"
        if status.consensus is not None and status.consensus.outcome == "Rejected":
            return KStatus(False, Reason.CONSENSUS_REJECTED, explanation, reconciling=True)
        return KStatus(False, reason, f"no value yet: {explanation or 'nothing was decided'}{hint}", reconciling=True)
    if run.variable.spec.mode is Mode.ADVISE:
        return KStatus(True, Reason.ADVISED, f"{domains.format_value(status.value)}; mode Advise delivers nothing")
    reason, message = delivery
    if failed and session is not None:
        message = f"{message}; last round: {session.reason}"
    if status.consensus is not None and status.consensus.outcome == "Rejected":
        message = f"{message}; {status.consensus.proposal} was rejected"
    return KStatus(reason is Reason.CONVERGED, reason, message, reconciling=reason is Reason.DELIVERING)


# Failures that other people's doing may end: the operator looks again by itself.
_PASSING: Final = frozenset(
    {
        Reason.AGENT_UNAVAILABLE,
        Reason.RESOURCE_EXHAUSTED,
        Reason.TIMEOUT,
        Reason.FUNCTION_FAILED,
        Reason.CONSTRAINT_VIOLATION,
    }
)


def variable_conditions(
    run: VariablePass, status: OrchestrationVariableStatus, verdict: KStatus
) -> tuple[Condition, ...]:
    resolved = bool(run.agents) and not run.missing
    paused = run.variable.spec.paused
    return (
        *kstatus_conditions(verdict),
        condition(
            ConditionType.AGENTS_RESOLVED,
            resolved,
            Reason.ALL_RESOLVED if resolved else Reason.AGENTS_MISSING,
            "" if resolved else missing_agents_message(run),
        ),
        condition(ConditionType.PAUSED, paused, Reason.PAUSED if paused else Reason.NOT_PAUSED),
        *_consensus(run, status),
    )


def _consensus(run: VariablePass, status: OrchestrationVariableStatus) -> tuple[Condition, ...]:
    """Whether the agents agree on the last proposal; Unknown while there was none."""
    if run.variable.spec.consensus is None:
        return ()
    vote = status.consensus
    if vote is None:
        return (condition(ConditionType.CONSENSUS_REACHED, None, Reason.NO_PROPOSAL),)
    holds, reason = _VOTES[vote.outcome]
    if vote.awaits_approval:
        reason = Reason.AWAITING_APPROVAL
    return (condition(ConditionType.CONSENSUS_REACHED, holds, reason, f"{vote.proposal}: {vote.reason}"),)


_VOTES: Final = {
    "Pending": (None, Reason.VOTING),
    "Accepted": (True, Reason.CONSENSUS_REACHED),
    "Rejected": (False, Reason.CONSENSUS_REJECTED),
}


def variable_events(run: VariablePass, status: OrchestrationVariableStatus, verdict: KStatus) -> tuple[Event, ...]:
    before, events = run.before, []
    if before.observed_generation < 0:
        about = f"accepted; {len(run.agents)} agents selected" if verdict.accepted else "registered, not accepted"
        events.append(Event(Reason.VARIABLE_REGISTERED, about, action="Register"))
    if status.value is not None and status.value != before.value and status.last_decision is not None:
        was = "" if before.value is None else f" (was {domains.format_value(before.value)})"
        note = f"{run.variable.parameter} = {domains.format_value(status.value)}{was} by {status.last_decision.rule}: "
        events.append(Event(Reason.COORDINATION_COMPLETED, f"{note}{status.last_decision.message}"))
    events.extend(_of_the_vote(before, status))
    return (*events, *failure_events(before, verdict))


def _of_the_vote(before: OrchestrationVariableStatus, status: OrchestrationVariableStatus) -> list[Event]:
    """What is told of a vote: that it began, that a human is waited for, that it was lost. What it won is told by the value."""
    vote, was = status.consensus, before.consensus
    if vote is None or (was is not None and (was.proposal, was.outcome, was.awaits_approval) == _mark(vote)):
        return []
    told = f"{vote.proposal}: {domains.format_value(vote.proposed)}"
    if vote.outcome == "Rejected":
        return [Event(Reason.CONSENSUS_REJECTED, f"{told} is rejected: {vote.reason}", "Warning", action="Vote")]
    if vote.awaits_approval:
        return [
            Event(
                Reason.AWAITING_APPROVAL,
                f"{told} needs the annotation mabeam.dev/approve={vote.proposal}",
                action="Vote",
            )
        ]
    if vote.outcome == "Pending":
        return [Event(Reason.VOTING, f"{told} is proposed to {vote.eligible} agents", action="Vote")]
    return []


def _mark(vote: ConsensusRound) -> tuple[str, str, bool | None]:
    return vote.proposal, vote.outcome, vote.awaits_approval
