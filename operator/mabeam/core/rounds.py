"""One round over a variable: value → gate → record. A round is recorded only when something came of it.

What starts one at once (the spec, the members, a static preference, an offer that came or went) is hashed in
`status.lastDecision.triggerHash`; numbers that were reported anew are looked at no more often than `negotiation.periodSeconds`
where agents negotiate or a function is asked. A pass over an unchanged world returns the stored status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.blocks import Consensus
from mabeam.api.names import Reason
from mabeam.api.variable import Negotiation, OrchestrationType
from mabeam.api.variable_status import (
    ConsensusRound,
    LastDecision,
    NegotiationSession,
    OrchestrationVariableStatus,
)
from mabeam.core import ballots, guardrails
from mabeam.core import domain as domains
from mabeam.core.decision import soonest
from mabeam.core.delivery import expects_reports
from mabeam.core.digest import digest
from mabeam.core.fallback import recovered
from mabeam.core.outcome import Outcome
from mabeam.core.questions import Ask
from mabeam.core.setbacks import is_retry_due
from mabeam.core.strategies.round import Round
from mabeam.core.strategies.selection import active_in
from mabeam.core.strategies.table import STRATEGIES
from mabeam.core.strategies.valued import SPEC_VALUE

# What a round does not depend on: how it is delivered and what failures lead to, and the agents (the members stand for them).
_NOT_INPUTS: Final = frozenset({"paused", "mode", "priority", "parameter", "agents", "fault_tolerance", "telemetry"})
LISTED: Final = 100
CANDIDATES: Final = 20
# The last number a status can hold; nobody honest comes to it, and from there it stands still.
LAST_ROUND: Final = 2**53
# A restarted operator listens before it decides; it asks itself again after this.
LISTENING_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Played:
    """The status after this pass's round, or as it was when none was due or nothing came of it; and when to look again.

    `waits` says what it waits for; `asks` are the questions that are to be answered; `tried` says that a value was looked for,
    and all that was asked for it answered.
    """

    status: OrchestrationVariableStatus
    requeue: float | None = None
    asks: tuple[Ask, ...] = ()
    waits: Reason | None = None
    tried: bool = False


def play(round_: Round) -> Played:
    """The next round, or the next look at the vote that is under way."""
    before, last = round_.before, round_.before.last_decision
    trigger = digest(_trigger(round_))
    at_once = last is None or last.trigger_hash != trigger
    vote, rules = before.consensus, round_.variable.spec.consensus
    if rules is not None and vote is not None and vote.outcome == "Pending" and not at_once:
        return _vote(round_, rules, vote)
    if _unheard(round_):
        return Played(before, LISTENING_SECONDS)
    again, wait = _period(round_, at_once)
    if wait is not None and wait > 0:
        return Played(before, wait if again is not None else None)
    outcome = STRATEGIES[round_.variable.spec.type](round_)
    again = soonest(again, outcome.again)
    if outcome.asks:
        return Played(before, again, outcome.asks, Reason.EVALUATING)
    played = _gated(round_, trigger, outcome, at_once=at_once)
    watched = played.status.model_copy(update={"watching": outcome.memory or None})
    return replace(played, status=watched, requeue=soonest(again, played.requeue), tried=not played.asks)


def failure_of(status: OrchestrationVariableStatus) -> tuple[Reason, str] | None:
    """What the last round on record came to, when that was a failure: it stands until another round is recorded."""
    last = status.last_decision
    if last is not None and last.rule in FAILED_RULES:
        return Reason(last.rule), last.message
    return None


# The rules under which a round is on record that came to nothing for a failure.
FAILED_RULES: Final = frozenset(
    map(
        str,
        (
            Reason.AGENT_UNAVAILABLE,
            Reason.RESOURCE_EXHAUSTED,
            Reason.TIMEOUT,
            Reason.FUNCTION_FAILED,
            Reason.INVALID_CONFIGURATION,
            Reason.CONSTRAINT_VIOLATION,
        ),
    )
)


# --- when -------------------------------------------------------------------------------------------------------------------


def _is_periodic(round_: Round) -> bool:
    spec = round_.variable.spec
    return spec.negotiation is not None or spec.function is not None


def _period(round_: Round, at_once: bool) -> tuple[float | None, float | None]:
    """After how many seconds to look by itself, and how many of those are left; None of the latter when a round is due.

    `lastDecision.time` is that of the last round on record, so the period is the least distance between two records. A function
    is given as much time between two hearings: what it says may come to nothing that is recorded, and still it was asked.
    """
    last = round_.before.last_decision
    if not _is_periodic(round_):
        return None, None
    period = (round_.variable.spec.negotiation or Negotiation()).period_seconds
    # Memory of reports runs out without a word, so whoever counts on reports looks again by itself.
    counts = round_.variable.spec.function is not None or any(o.source == "Report" for o in round_.gathered.offers)
    again = float(period) if counts else None
    if last is None or at_once or (failure_of(round_.before) is not None and is_retry_due(round_.variable, round_.now)):
        return again, None
    since = last.time
    if round_.variable.spec.function is not None and round_.heard_at is not None:
        since = max(since, round_.heard_at)
    return again, (since - round_.now).total_seconds() + period


def _unheard(round_: Round) -> bool:
    """Whether an agent whose report counted last time has not been listened to since the operator started.

    Without this a restarted operator would take silence for a withdrawn offer, and decide anew, twice.
    """
    session, last = round_.before.negotiation, round_.before.last_decision
    counted = {offer.agent for offer in session.offers if offer.source == "Report"} if session is not None else set()
    if round_.variable.spec.type is OrchestrationType.AGENT_SELECTION and last is not None:
        scored = {candidate.name for candidate in last.candidates if candidate.score is not None}
        counted |= scored & set(active_in(round_.before.value))
    return any(
        agent.metadata.name in counted
        and agent.metadata.name not in round_.reports
        and agent.status.ready_replicas > 0
        and expects_reports(agent)
        for agent in round_.agents
    )


def _trigger(round_: Round) -> Any:
    """What starts a round at once."""
    own = spec_inputs(round_)
    spec = round_.variable.spec
    if spec.negotiation is None and spec.consensus is None:
        return own
    members = {
        agent.metadata.name: [
            p.model_dump(mode="json", by_alias=True, exclude_none=True)
            for p in agent.spec.preferences
            if p.variable == round_.variable.metadata.name
        ]
        for agent in round_.agents
    }
    return [own, members, [offer.agent for offer in round_.gathered.offers]]


def spec_inputs(round_: Round) -> Any:
    """The part of the spec that bears on the value. Defaults are left out: an upgrade that adds one starts no round."""
    return round_.variable.spec.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=set(_NOT_INPUTS)
    )


# --- the gate ---------------------------------------------------------------------------------------------------------------


def _gated(round_: Round, trigger: str, outcome: Outcome, *, at_once: bool) -> Played:
    """The value through the gate: rules in CEL, then the vote; what does not pass leaves the value in force."""
    before, rules = round_.before, round_.variable.spec.consensus
    value, rule, message = _in_force(round_, outcome)
    if value != before.value or at_once:
        checked = guardrails.check(round_, value) if value is not None else guardrails.Checked()
        if checked.asks:
            return Played(before, None, checked.asks, Reason.EVALUATING)
        if checked.broken is not None:
            told = f"{domains.plain(value)} is not allowed: {checked.broken}"
            rule, message = str(Reason.CONSTRAINT_VIOLATION), told
            outcome = replace(outcome, error=Reason.CONSTRAINT_VIOLATION)
            value, asks = _allowed_start(round_)
            if asks:
                return Played(before, None, asks, Reason.EVALUATING)
    if rule in FAILED_RULES:
        rescue = recovered(round_, value, message)
        if rescue.asks:
            return Played(before, None, rescue.asks, Reason.EVALUATING)
        value, message = rescue.value, rescue.message
    if rules is not None and value != _start_or_last(round_):
        return _proposed(round_, rules, trigger, outcome, (value, rule, message))
    after = _record(round_, trigger, outcome, (value, rule, message), before.consensus)
    if rules is not None and after.consensus is not None and after.consensus.outcome == "Pending":
        # What was proposed is not what is wanted any more.
        over = {"outcome": "Rejected", "awaits_approval": None, "reason": "superseded"}
        after = after.model_copy(update={"consensus": after.consensus.model_copy(update=over)})
    if rules is None and after.consensus is not None:
        after = after.model_copy(update={"consensus": None})
    changed = at_once or _gist(after) != _gist(before)
    return Played(after if changed else before)


def _start_or_last(round_: Round) -> Any:
    """What is in force while nothing is decided: the last value, else `spec.value`."""
    spec, before = round_.variable.spec, round_.before
    if before.value is not None or spec.value is None:
        return before.value
    return domains.adopt(spec.domain, spec.value)


def _allowed_start(round_: Round) -> tuple[Any, tuple[Ask, ...]]:
    """What stays in force where the rules refuse a value: the last one; the start, if they allow that; else nothing yet."""
    value = _start_or_last(round_)
    if value is None or round_.before.value is not None:
        return value, ()
    checked = guardrails.check(round_, value)
    return (value if checked.broken is None else None), checked.asks


Taken = tuple[Any, str, str]
"""A value, by which rule, and why."""


def _proposed(round_: Round, rules: Consensus, trigger: str, outcome: Outcome, taken: Taken) -> Played:
    """A changed value becomes a proposal; one that was rejected is not proposed again until it differs, or the spec does."""
    before = round_.before
    value, rule, message = taken
    last = before.consensus
    stays, asks = _allowed_start(round_)
    if asks:
        return Played(before, None, asks, Reason.EVALUATING)
    spec_hash = digest(spec_inputs(round_))
    same = last is not None and last.proposed == value and last.spec_hash == spec_hash
    if same and last is not None and last.outcome == "Rejected":
        told = f"{domains.plain(value)} was rejected: {last.reason}"
        after = _record(round_, trigger, outcome, (stays, _rule_in_force(before, rule), told), last)
        known = before.last_decision is not None and before.last_decision.trigger_hash == trigger
        return Played(before if known and _gist(after) == _gist(before) else after)
    vote = ballots.propose(round_, rules, min(before.round + 1, LAST_ROUND), value, spec_hash)
    vote = vote.model_copy(update={"rule": rule})
    if same and last is not None and last.outcome == "Pending":
        vote = last  # other agents, or other offers, but the same value: the vote on it goes on
    told = f"{domains.plain(value)} is proposed: {message}"
    after = _record(round_, trigger, outcome, (stays, _rule_in_force(before, rule), told), vote)
    return _vote(replace(round_, variable=round_.variable.model_copy(update={"status": after})), rules, vote)


def _rule_in_force(before: OrchestrationVariableStatus, proposed_by: str) -> str:
    """By which rule the value in force came about, while another one is only proposed; a failure that is told stays told."""
    last = before.last_decision
    if proposed_by in FAILED_RULES:
        return proposed_by
    return SPEC_VALUE if last is None or last.rule in FAILED_RULES else last.rule


def _vote(round_: Round, rules: Consensus, vote: ConsensusRound) -> Played:
    """The status after the ballots of this moment: an accepted value is in force, a rejected one is not."""
    before = round_.before
    counted = ballots.count(round_, rules, vote)
    vote = counted.vote
    after = before if vote == before.consensus else before.model_copy(update={"consensus": vote})
    if vote.outcome == "Pending":
        waits = Reason.AWAITING_APPROVAL if vote.awaits_approval else Reason.VOTING
        return Played(after, counted.again, counted.asks, waits)
    accepted = vote.outcome == "Accepted"
    last = before.last_decision
    told = f"{domains.plain(vote.proposed)} is {vote.outcome.lower()}: {vote.reason}"
    decided = last.model_copy(update={"time": round_.now, "message": told[:1024]}) if last is not None else None
    taken: JsonDict = {"last_decision": decided}
    if accepted and decided is not None and vote.rule:
        taken["last_decision"] = decided.model_copy(update={"rule": vote.rule})
    if accepted:
        was = before.previous_value if before.value is None else before.value
        taken |= {"value": vote.proposed, "previous_value": was}
    return Played(after.model_copy(update=taken))


# --- the record -------------------------------------------------------------------------------------------------------------


def _gist(status: OrchestrationVariableStatus) -> tuple[Any, ...]:
    """What a round came to, without what it came from: while this is the same, nothing new is recorded."""
    session, last = status.negotiation, status.last_decision
    rule = last.rule if last is not None else None
    if session is None:
        return status.value, rule
    return status.value, session.state, session.reason, session.winner, session.payment, rule in FAILED_RULES


def _record(
    round_: Round, trigger: str, outcome: Outcome, taken: Taken, vote: ConsensusRound | None
) -> OrchestrationVariableStatus:
    before = round_.before
    value, rule, message = taken
    number = min(before.round + 1, LAST_ROUND)
    changed = value != before.value
    candidates = [candidate.to_wire() for candidate in outcome.candidates]
    inputs = [spec_inputs(round_), [offer.to_wire() for offer in outcome.offers], *([candidates] if candidates else [])]
    return before.model_copy(
        update={
            "value": value,
            "previous_value": before.value if changed and before.value is not None else before.previous_value,
            "round": number,
            "negotiation": _session(round_, outcome, number),
            "consensus": vote,
            "last_decision": LastDecision(
                time=round_.now,
                rule=rule,
                inputs_hash=outcome.asked or digest(inputs),
                trigger_hash=trigger,
                message=message[:1024],
                candidates=outcome.candidates[:CANDIDATES],
            ),
            "context": _context(round_),
        }
    )


def _context(round_: Round) -> JsonDict | None:
    """The system as the round saw it, where there was anything to see."""
    seen: Mapping[str, Any] = round_.context.to_wire()
    known = {key: value for key, value in seen.items() if value not in (None, "", {})}
    return known or None


def _in_force(round_: Round, outcome: Outcome) -> Taken:
    """The value in force after a round, by which rule, and the explanation: what came out, else start or last good.

    A value that came from `spec.value` goes on following it until the agents have decided once.
    """
    if outcome.value is not None:
        return outcome.value, outcome.rule, outcome.message
    spec, before = round_.variable.spec, round_.before
    start = None if spec.value is None else domains.adopt(spec.domain, spec.value)
    last = before.value
    valued = spec.type in (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE)
    if last is not None and valued and domains.problem(spec.domain) is None:
        last = domains.adopt(spec.domain, last)  # a domain that shrank bounds the last good value too
    never_decided = before.last_decision is None or before.last_decision.rule == SPEC_VALUE
    failed = outcome.rule in FAILED_RULES and outcome.rule != Reason.INVALID_CONFIGURATION
    if start is not None and (last is None or never_decided):
        return (
            start,
            outcome.rule if failed else SPEC_VALUE,
            f"{domains.plain(start)} from spec.value: {outcome.message}",
        )
    if last is not None:
        return last, outcome.rule, f"{domains.plain(last)} stays in force: {outcome.message}"
    return None, outcome.rule, outcome.message


def _session(round_: Round, outcome: Outcome, number: int) -> NegotiationSession | None:
    negotiation = round_.variable.spec.negotiation
    if negotiation is None or round_.variable.spec.function is not None:
        return None
    return NegotiationSession(
        id=f"{round_.variable.metadata.name}-{number}",
        state="Failed" if outcome.value is None else "Completed",
        participants=tuple(offer.agent for offer in outcome.offers[:LISTED]),
        strategy=negotiation.strategy,
        offers=outcome.offers[:LISTED],
        outcome=outcome.value,
        winner=outcome.winner,
        payment=outcome.payment,
        reason=outcome.rule,
        dropped=outcome.dropped[:LISTED],
    )
