"""The status of an OrchestrationVariable: its kstatus summary, its conditions and its Events."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mabeam.api.base import Condition
from mabeam.api.directive import VariableDirectives
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import Mode, OrchestrationVariable
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.conditions import KStatus, condition, kstatus_conditions, new_problem
from mabeam.core.coordination.ballots import approval_command, unmatched_answer
from mabeam.core.coordination.failure_budget import failure_events
from mabeam.core.coordination.gate import RoundResult
from mabeam.core.coordination.round_record import recorded_failure
from mabeam.core.coordination.working_set import VariablePass, missing_agents_message
from mabeam.core.decision import Event


def status_reason(before: OrchestrationVariableStatus, after: OrchestrationVariableStatus) -> str:
    """Why the status is written, in one word, for `mabeam plan` and the log."""
    if before == after:
        return "unchanged"
    if before.observed_generation < 0:
        return "registered"
    if before.round != after.round:
        return "decided"
    return "directives" if (before.directives or VariableDirectives()) != after.directives else "conditions"


# --- kstatus ------------------------------------------------------------------------------------------------------------------


def variable_kstatus(variable: OrchestrationVariable, result: RoundResult, delivery: tuple[Reason, str]) -> KStatus:
    """The outcome of the first of KSTATUS_RULES that applies; `delivery` is that of `convergence.overall_progress`."""
    facts = _Facts(variable, result.status, result.waiting_for, delivery)
    return next(outcome(facts) for applies, outcome in KSTATUS_RULES if applies(facts))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the summary of a variable depends on."""

    variable: OrchestrationVariable
    status: OrchestrationVariableStatus  # after this pass's round
    waiting_for: Reason | None  # what the round waits for
    delivery: tuple[Reason, str]  # how far the directives are

    @property
    def has_value(self) -> bool:
        """Whether a value is in force."""
        return self.status.value is not None

    @property
    def explanation(self) -> str:
        """The message of the last recorded round; empty without one."""
        last = self.status.last_decision
        return last.message if last is not None else ""

    @property
    def session_failure(self) -> str | None:
        """The reason why the last negotiation gave no value; None when it gave one."""
        session = self.status.negotiation
        return session.reason if session is not None and session.state == "Failed" else None

    @property
    def dropped(self) -> str:
        """The first offer of the last round that does not count, with the reason, and how many more; empty without one."""
        session = self.status.negotiation
        if session is None or not session.dropped:
            return ""
        more = len(session.dropped) - 1
        return f"; does not count: {session.dropped[0]}{f', and {more} more' if more else ''}"

    @property
    def rejected(self) -> ConsensusRound | None:
        """The last vote if it was lost."""
        vote = self.status.consensus
        return vote if vote is not None and vote.outcome == "Rejected" else None


def _waits(facts: _Facts) -> bool:
    """A variable that has a value stays Ready while its function is called again; a vote is always shown."""
    if facts.waiting_for is None:
        return False
    return facts.waiting_for is not Reason.EVALUATING or not facts.has_value


# Failures that may end without a change of the spec: the operator tries again by itself.
_TRANSIENT: Final = frozenset(
    {
        Reason.AGENT_UNAVAILABLE,
        Reason.RESOURCE_EXHAUSTED,
        Reason.TIMEOUT,
        Reason.FUNCTION_FAILED,
        Reason.CONSTRAINT_VIOLATION,
    }
)


def _failed(facts: _Facts) -> KStatus:
    reason, message = recorded_failure(facts.status) or (Reason.COORDINATION_FAILED, "")
    stalled = reason is Reason.INVALID_CONFIGURATION
    return KStatus(False, reason, message, stalled=stalled, reconciling=reason in _TRANSIENT)


def _misconfigured(facts: _Facts) -> KStatus:
    return KStatus(False, Reason.INVALID_CONFIGURATION, facts.explanation, stalled=True)


def _waiting(facts: _Facts) -> KStatus:
    vote = facts.status.consensus
    has_reason = vote is not None and vote.reason
    message = f"{domains.format_value(vote.proposed)}: {vote.reason}" if vote and has_reason else "in progress"
    if vote is not None and vote.awaits_approval:
        message = f"{_awaits_human(facts.variable, vote)}; {vote.reason}"
    if vote is not None:
        message += _unmatched(facts.variable, vote)
    return KStatus(False, facts.waiting_for or Reason.EVALUATING, message, reconciling=True)


def _awaits_human(variable: OrchestrationVariable, vote: ConsensusRound) -> str:
    value = domains.format_value(vote.proposed)
    return f"{value} ({vote.proposal}) awaits the approval of a human: {approval_command(variable.metadata, vote.proposal)}"


def _unmatched(variable: OrchestrationVariable, vote: ConsensusRound) -> str:
    """The annotation that fits no open proposal, as the end of a message; empty without one."""
    found = unmatched_answer(variable.metadata, vote) if variable.spec.consensus is not None else None
    return f"; {found}" if found is not None else ""


def _paused_without_value(facts: _Facts) -> KStatus:
    return KStatus(False, Reason.PAUSED, "paused before anything was decided")


def _rejected_without_value(facts: _Facts) -> KStatus:
    return KStatus(False, Reason.CONSENSUS_REJECTED, facts.explanation, reconciling=True)


def _without_value(facts: _Facts) -> KStatus:
    failure = facts.session_failure
    # A stored status may have been edited: its reason need not be one of ours.
    reason = Reason(failure) if failure in set(Reason) else Reason.NO_OFFERS
    hint = "give an agent a preference for it, or set `spec.value`"
    message = f"no value yet: {facts.explanation or 'nothing was decided'}{facts.dropped}; {hint}"
    return KStatus(False, reason, message, reconciling=True)


def _advised(facts: _Facts) -> KStatus:
    value = domains.format_value(facts.status.value)
    return KStatus(True, Reason.ADVISED, f"{value}; mode Advise delivers nothing")


def _delivered(facts: _Facts) -> KStatus:
    reason, message = facts.delivery
    if facts.session_failure is not None:
        message = f"{message}; last round: {facts.session_failure}"
    if facts.rejected is not None:
        message = f"{message}; {facts.rejected.proposal} was rejected"
    message += facts.dropped
    return KStatus(reason is Reason.CONVERGED, reason, message, reconciling=reason is Reason.DELIVERING)


KSTATUS_RULES: Final[tuple[tuple[Callable[[_Facts], bool], Callable[[_Facts], KStatus]], ...]] = (
    (lambda facts: recorded_failure(facts.status) is not None, _failed),
    (lambda facts: facts.session_failure == Reason.INVALID_CONFIGURATION, _misconfigured),
    (_waits, _waiting),
    (lambda facts: not facts.has_value and facts.variable.spec.paused, _paused_without_value),
    (lambda facts: not facts.has_value and facts.rejected is not None, _rejected_without_value),
    (lambda facts: not facts.has_value, _without_value),
    (lambda facts: facts.variable.spec.mode is Mode.ADVISE, _advised),
    (lambda facts: True, _delivered),
)


# --- conditions ---------------------------------------------------------------------------------------------------------------


def variable_conditions(
    pass_: VariablePass, status: OrchestrationVariableStatus, kstatus: KStatus
) -> tuple[Condition, ...]:
    """The variable's conditions, without their times."""
    resolved = bool(pass_.agents) and not pass_.missing
    paused = pass_.variable.spec.paused
    return (
        *kstatus_conditions(kstatus),
        condition(
            ConditionType.AGENTS_RESOLVED,
            resolved,
            Reason.ALL_RESOLVED if resolved else Reason.AGENTS_MISSING,
            "" if resolved else missing_agents_message(pass_),
        ),
        condition(ConditionType.PAUSED, paused, Reason.PAUSED if paused else Reason.NOT_PAUSED),
        *_consensus_condition(pass_.variable, status.consensus),
        *_recorded_condition(pass_),
    )


def _recorded_condition(pass_: VariablePass) -> tuple[Condition, ...]:
    """Recorded, from the first ConfigMap on that was refused: a variable that never had one does not have it."""
    messages = sorted(one.message for one in pass_.snapshot.refused_writes.values())
    if messages:
        message = f"{'; '.join(messages)}: the decision is in force all the same"
        return (condition(ConditionType.RECORDED, False, Reason.RECORDS_REFUSED, message),)
    had_one = any(c.type == ConditionType.RECORDED for c in pass_.before.conditions)
    return (condition(ConditionType.RECORDED, True, Reason.RECORDS_STORED),) if had_one else ()


def record_events(before: OrchestrationVariableStatus, after: OrchestrationVariableStatus) -> tuple[Event, ...]:
    """The Event of a refused record, when that is new or has another cause."""
    problem = new_problem(before.conditions, after.conditions, ConditionType.RECORDED)
    return (Event(Reason.RECORDS_REFUSED, problem.message, "Warning", action="Record"),) if problem is not None else ()


def _consensus_condition(variable: OrchestrationVariable, vote: ConsensusRound | None) -> tuple[Condition, ...]:
    """ConsensusReached about the last proposal, Unknown without one; empty without `spec.consensus`."""
    if variable.spec.consensus is None:
        return ()
    if vote is None:
        return (condition(ConditionType.CONSENSUS_REACHED, None, Reason.NO_PROPOSAL),)
    holds, reason = _VOTES[vote.outcome]
    if vote.awaits_approval:
        reason = Reason.AWAITING_APPROVAL
    message = f"{vote.proposal}: {vote.reason}{_unmatched(variable, vote)}"
    return (condition(ConditionType.CONSENSUS_REACHED, holds, reason, message),)


_VOTES: Final = {
    "Pending": (None, Reason.VOTING),
    "Accepted": (True, Reason.CONSENSUS_REACHED),
    "Rejected": (False, Reason.CONSENSUS_REJECTED),
}


# --- Events -------------------------------------------------------------------------------------------------------------------


def variable_events(pass_: VariablePass, status: OrchestrationVariableStatus, kstatus: KStatus) -> tuple[Event, ...]:
    """The Events of what is new in this status: registration, a value, a step of the vote, a failure."""
    before, events = pass_.before, list[Event]()
    if before.observed_generation < 0:
        note = f"accepted; {len(pass_.agents)} agents selected" if kstatus.accepted else "registered, not accepted"
        events.append(Event(Reason.VARIABLE_REGISTERED, note, action="Register"))
    value_event = _value_event(pass_, status)
    found = (value_event, _vote_event(pass_.variable, status.consensus), _unmatched_event(pass_, status.consensus))
    events += [event for event in found if event is not None]
    # A value that came into force by a failure tells of the failure, too.
    announced = value_event is not None and value_event.reason is Reason.COORDINATION_FAILED
    return (*events, *(() if announced else failure_events(before, kstatus)))


def _value_event(pass_: VariablePass, status: OrchestrationVariableStatus) -> Event | None:
    """The Event of a value that came into force: a Warning of one that a failure put there."""
    before, last = pass_.before.value, status.last_decision
    if status.value is None or status.value == before or last is None:
        return None
    previous = "" if before is None else f" (was {domains.format_value(before)})"
    note = f"{pass_.variable.parameter} = {domains.format_value(status.value)}{previous} by {last.rule}: {last.message}"
    if recorded_failure(status) is not None:
        return Event(Reason.COORDINATION_FAILED, note, "Warning")
    return Event(Reason.COORDINATION_COMPLETED, note)


def _unmatched_event(pass_: VariablePass, vote: ConsensusRound | None) -> Event | None:
    """The Warning of an annotation that fits no open proposal, once; one that was there before the proposal is old."""
    before = pass_.before.consensus
    if vote is None or before is None or before.proposal != vote.proposal:
        return None
    found = _unmatched(pass_.variable, vote).removeprefix("; ")
    stored = next((c.message for c in pass_.before.conditions if c.type == ConditionType.CONSENSUS_REACHED), "")
    return Event(Reason.APPROVAL_UNMATCHED, found, "Warning", action="Vote") if found and found not in stored else None


def _vote_event(variable: OrchestrationVariable, vote: ConsensusRound | None) -> Event | None:
    """The Event of a vote that began, waits for approval or was lost; of one that was won, the new value has its own."""
    before = variable.status.consensus
    if vote is None or (before is not None and _stage(before) == _stage(vote)):
        return None
    proposal = f"{vote.proposal}: {domains.format_value(vote.proposed)}"
    if vote.outcome == "Rejected":
        return Event(Reason.CONSENSUS_REJECTED, f"{proposal} is rejected: {vote.reason}", "Warning", action="Vote")
    if vote.awaits_approval:
        return Event(Reason.AWAITING_APPROVAL, _awaits_human(variable, vote), action="Vote")
    if vote.outcome == "Pending":
        return Event(Reason.VOTING, f"{proposal} is proposed to {vote.eligible} agents", action="Vote")
    return None


def _stage(vote: ConsensusRound) -> tuple[str, str, bool | None]:
    return vote.proposal, vote.outcome, vote.awaits_approval
