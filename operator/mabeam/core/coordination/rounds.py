"""When a round of coordination is held, and its result: strategy → gate → record.

A round is recorded only when something came of it. Whatever starts one at once (the spec, the members, a static preference, an
offer that came or went) is hashed in `status.lastDecision.triggerHash`. Newly reported numbers start one no more often than
`negotiation.periodSeconds` where agents negotiate or a function is called. A pass over an unchanged world returns the stored
status.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from mabeam.api.names import Reason
from mabeam.api.variable import Negotiation, OrchestrationType
from mabeam.core.conventions.hashing import digest
from mabeam.core.coordination.failure_budget import is_retry_due
from mabeam.core.coordination.gate import RoundResult, count_vote, pass_gate
from mabeam.core.coordination.round_record import recorded_failure, spec_inputs
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.decision import soonest
from mabeam.core.reports.report import expects_reports
from mabeam.core.values import parse_selection

# How often a restarted operator checks whether the reports that counted before have arrived again.
REPORTS_RECHECK_SECONDS: Final = 1.0
# So long after it began to read reports, an operator waits for none that it has not seen.
MAX_AWAITED_SECONDS: Final = 60.0


def run_round(inputs: StrategyInputs) -> RoundResult:
    """The result of the next round, or of counting the vote that is open."""
    before, last = inputs.before, inputs.before.last_decision
    trigger = digest(_trigger(inputs))
    at_once = last is None or last.trigger_hash != trigger
    vote, rules = before.consensus, inputs.variable.spec.consensus
    if rules is not None and vote is not None and vote.outcome == "Pending" and not at_once:
        return count_vote(inputs, rules, vote)
    if _awaits_first_reports(inputs):
        return RoundResult(before, REPORTS_RECHECK_SECONDS)
    period, wait = _period(inputs, at_once)
    if wait is not None and wait > 0:
        return RoundResult(before, wait if period is not None else None)
    result = STRATEGIES[inputs.variable.spec.type](inputs)
    requeue = soonest(period, result.follow_up.after_seconds)
    calls = result.follow_up.function_calls
    if calls:
        return RoundResult(before, requeue, calls, Reason.EVALUATING)
    passed = pass_gate(inputs, trigger, result, at_once=at_once)
    status = passed.status.model_copy(update={"watching": result.follow_up.memory or None})
    return replace(passed, status=status, requeue=soonest(requeue, passed.requeue), attempted=not passed.function_calls)


def start_value(inputs: StrategyInputs, why: str) -> RoundResult:
    """The result of a round without agents: `spec.value` comes into force if nothing is yet; the stored status otherwise.

    `why` is the reason that there are none, as a phrase.
    """
    if inputs.before.value is not None or inputs.variable.spec.value is None:
        return RoundResult(inputs.before)
    return pass_gate(inputs, digest(_trigger(inputs)), StrategyResult(Reason.AGENT_UNAVAILABLE, why), at_once=True)


def _period(inputs: StrategyInputs, at_once: bool) -> tuple[float | None, float | None]:
    """(seconds until the variable has to be looked at again, seconds until the next round is due).

    The first is None when only an event can change anything, the second when a round is due now. `lastDecision.time` is the time
    of the last recorded round, so a period is the least distance between two records. The results of a function start a new
    period too: they may lead to nothing that is recorded, and the function was called nonetheless.
    """
    spec, last = inputs.variable.spec, inputs.before.last_decision
    if spec.negotiation is None and spec.function is None:
        return None, None
    period = (spec.negotiation or Negotiation()).period_seconds
    # A remembered report expires without an event, so whatever depends on reports is looked at again by time.
    gathered = inputs.gathered
    reported = any(offer.source == "Report" for offer in gathered.offers) or bool(gathered.dropped)
    uses_reports = spec.function is not None or reported
    recheck = float(period) if uses_reports else None
    retry = recorded_failure(inputs.before) is not None and is_retry_due(inputs.variable, inputs.now)
    if last is None or at_once or retry:
        return recheck, None
    since = last.time
    if spec.function is not None and inputs.results_used_at is not None:
        since = max(since, inputs.results_used_at)
    return recheck, (since - inputs.now).total_seconds() + period


def _awaits_first_reports(inputs: StrategyInputs) -> bool:
    """Whether an agent whose report counted in the last round has not been read since the operator started.

    Without this a restarted operator would take a missing report for a withdrawn offer, and decide again, twice. After
    MAX_AWAITED_SECONDS the report is missing indeed: the agent cannot be read any more, and must not hold up the others.
    """
    since = inputs.reading_since
    if since is not None and inputs.now >= since + timedelta(seconds=MAX_AWAITED_SECONDS):
        return False
    session, last = inputs.before.negotiation, inputs.before.last_decision
    counted = {offer.agent for offer in session.offers if offer.source == "Report"} if session is not None else set()
    if inputs.variable.spec.type is OrchestrationType.AGENT_SELECTION and last is not None:
        scored = {candidate.name for candidate in last.candidates if candidate.score is not None}
        counted |= scored & set(parse_selection(inputs.before.value).active)
    return any(
        agent.metadata.name in counted
        and agent.metadata.name not in inputs.reports
        and agent.status.ready_replicas > 0
        and expects_reports(agent)
        for agent in inputs.agents
    )


def _trigger(inputs: StrategyInputs) -> Any:
    """The JSON of everything that starts a round at once when it changes."""
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
    offering = [offer.agent for offer in inputs.gathered.offers]
    return [own, members, offering, *([list(inputs.gathered.dropped_by)] if inputs.gathered.dropped else [])]
