"""One round over a variable: value → gate → record. A round is recorded only when something came of it.

What starts one at once (the spec, the members, a static preference, an offer that came or went) is hashed in
`status.lastDecision.triggerHash`; numbers that were reported anew are looked at no more often than `negotiation.periodSeconds`
where agents negotiate or a function is asked. A pass over an unchanged world returns the stored status.
"""

from dataclasses import replace
from typing import Any, Final

from mabeam.api.names import Reason
from mabeam.api.variable import Negotiation, OrchestrationType
from mabeam.core.conventions.hashing import digest
from mabeam.core.coordination.failure_budget import is_retry_due
from mabeam.core.coordination.gate import Played, _gated, _vote
from mabeam.core.coordination.round_record import failure_of, spec_inputs
from mabeam.core.coordination.strategies.interface import Round
from mabeam.core.coordination.strategies.selection import active_in
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.decision import soonest
from mabeam.core.reports.report import expects_reports

# A restarted operator listens before it decides; it asks itself again after this.
LISTENING_SECONDS: Final = 1.0


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
    if outcome.function_calls:
        return Played(before, again, outcome.function_calls, Reason.EVALUATING)
    played = _gated(round_, trigger, outcome, at_once=at_once)
    watched = played.status.model_copy(update={"watching": outcome.memory or None})
    return replace(played, status=watched, requeue=soonest(again, played.requeue), tried=not played.function_calls)


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
