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
from mabeam.core.coordination.gate import RoundResult, count_vote, pass_gate
from mabeam.core.coordination.round_record import recorded_failure, spec_inputs
from mabeam.core.coordination.strategies.interface import StrategyInputs
from mabeam.core.coordination.strategies.selection import active_in
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.decision import soonest
from mabeam.core.reports.report import expects_reports

# A restarted operator listens before it decides; it asks itself again after this.
LISTENING_SECONDS: Final = 1.0


def run_round(inputs: StrategyInputs) -> RoundResult:
    """The next round, or the next look at the vote that is under way."""
    before, last = inputs.before, inputs.before.last_decision
    trigger = digest(_trigger(inputs))
    at_once = last is None or last.trigger_hash != trigger
    vote, rules = before.consensus, inputs.variable.spec.consensus
    if rules is not None and vote is not None and vote.outcome == "Pending" and not at_once:
        return count_vote(inputs, rules, vote)
    if _awaits_first_reports(inputs):
        return RoundResult(before, LISTENING_SECONDS)
    again, wait = _period(inputs, at_once)
    if wait is not None and wait > 0:
        return RoundResult(before, wait if again is not None else None)
    outcome = STRATEGIES[inputs.variable.spec.type](inputs)
    again = soonest(again, outcome.again)
    if outcome.function_calls:
        return RoundResult(before, again, outcome.function_calls, Reason.EVALUATING)
    played = pass_gate(inputs, trigger, outcome, at_once=at_once)
    watched = played.status.model_copy(update={"watching": outcome.memory or None})
    return replace(played, status=watched, requeue=soonest(again, played.requeue), tried=not played.function_calls)


# --- when -------------------------------------------------------------------------------------------------------------------


def _is_periodic(inputs: StrategyInputs) -> bool:
    spec = inputs.variable.spec
    return spec.negotiation is not None or spec.function is not None


def _period(inputs: StrategyInputs, at_once: bool) -> tuple[float | None, float | None]:
    """After how many seconds to look by itself, and how many of those are left; None of the latter when a round is due.

    `lastDecision.time` is that of the last round on record, so the period is the least distance between two records. A function
    is given as much time between two hearings: what it says may come to nothing that is recorded, and still it was asked.
    """
    last = inputs.before.last_decision
    if not _is_periodic(inputs):
        return None, None
    period = (inputs.variable.spec.negotiation or Negotiation()).period_seconds
    # Memory of reports runs out without a word, so whoever counts on reports looks again by itself.
    counts = inputs.variable.spec.function is not None or any(o.source == "Report" for o in inputs.gathered.offers)
    again = float(period) if counts else None
    if (
        last is None
        or at_once
        or (recorded_failure(inputs.before) is not None and is_retry_due(inputs.variable, inputs.now))
    ):
        return again, None
    since = last.time
    if inputs.variable.spec.function is not None and inputs.results_used_at is not None:
        since = max(since, inputs.results_used_at)
    return again, (since - inputs.now).total_seconds() + period


def _awaits_first_reports(inputs: StrategyInputs) -> bool:
    """Whether an agent whose report counted last time has not been listened to since the operator started.

    Without this a restarted operator would take silence for a withdrawn offer, and decide anew, twice.
    """
    session, last = inputs.before.negotiation, inputs.before.last_decision
    counted = {offer.agent for offer in session.offers if offer.source == "Report"} if session is not None else set()
    if inputs.variable.spec.type is OrchestrationType.AGENT_SELECTION and last is not None:
        scored = {candidate.name for candidate in last.candidates if candidate.score is not None}
        counted |= scored & set(active_in(inputs.before.value))
    return any(
        agent.metadata.name in counted
        and agent.metadata.name not in inputs.reports
        and agent.status.ready_replicas > 0
        and expects_reports(agent)
        for agent in inputs.agents
    )


def _trigger(inputs: StrategyInputs) -> Any:
    """What starts a round at once."""
    own = spec_inputs(inputs)
    spec = inputs.variable.spec
    if spec.negotiation is None and spec.consensus is None:
        return own
    members = {
        agent.metadata.name: [
            p.model_dump(mode="json", by_alias=True, exclude_none=True)
            for p in agent.spec.preferences
            if p.variable == inputs.variable.metadata.name
        ]
        for agent in inputs.agents
    }
    return [own, members, [offer.agent for offer in inputs.gathered.offers]]
