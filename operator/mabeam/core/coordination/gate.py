"""What a proposal passes before it is in force: constraints, a vote, an approval; and the fallback when it fails."""

from dataclasses import dataclass, replace
from typing import Any

from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationType
from mabeam.api.variable_blocks import Consensus, VariableRecovery
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.hashing import digest
from mabeam.core.coordination import ballots
from mabeam.core.coordination.round_record import (
    FAILED_RULES,
    LAST_ROUND,
    Decided,
    decided_content,
    record_round,
    spec_inputs,
)
from mabeam.core.coordination.strategies.interface import (
    StrategyInputs,
    StrategyResult,
    function_inputs,
    result_of_call,
)
from mabeam.core.coordination.strategies.parameter import SPEC_VALUE
from mabeam.core.functions import FunctionCall, Language


@dataclass(frozen=True)
class Fallback:
    """What a failure leaves in force, and why; or what is to be asked before that is known."""

    value: Any
    message: str
    function_calls: tuple[FunctionCall, ...] = ()


def fallback_for(inputs: StrategyInputs, value: Any, message: str) -> Fallback:
    """What a failure leaves in force, by `recoveryStrategy`. A fallback has to obey the domain and the rules like any value."""
    tolerance, spec = inputs.variable.spec.fault_tolerance, inputs.variable.spec
    if tolerance is None or tolerance.recovery_strategy is not VariableRecovery.FALLBACK:
        return Fallback(value, message)
    wanted = spec.value if tolerance.fallback_value is None else tolerance.fallback_value
    bounded = spec.type is not OrchestrationType.CUSTOM or "domain" in spec.model_fields_set
    fallback = domains.fit_or_none(spec.domain, wanted) if bounded and wanted is not None else wanted
    if fallback is None or fallback == value:
        return Fallback(value, message)
    checked = check_constraints(inputs, fallback)
    if checked.function_calls:
        return Fallback(value, message, checked.function_calls)
    if checked.broken is not None:
        return Fallback(
            value, f"{message}; nor is fallbackValue {domains.format_value(fallback)} allowed: {checked.broken}"
        )
    return Fallback(fallback, f"{domains.format_value(fallback)} by fallbackValue: {message}")


@dataclass(frozen=True)
class ConstraintCheck:
    """What is still to be asked, or which rule the value breaks; neither when it may be taken."""

    function_calls: tuple[FunctionCall, ...] = ()
    broken: str | None = None


def check_constraints(inputs: StrategyInputs, value: Any) -> ConstraintCheck:
    """Whether the variable's rules allow the value; a rule that cannot be evaluated does not."""
    constraints = inputs.variable.spec.constraints
    asks, broken = [], None
    given = function_inputs(inputs, value) if constraints is not None and constraints.rules_ else {}
    for rule in (constraints.rules_ or ()) if constraints is not None else ():
        ask, answer = result_of_call(inputs, FunctionCall(Language.CEL, rule.cel, given))
        if answer is None:
            asks.append(ask)
        elif broken is None and answer.value is not True:
            why = answer.error or ("" if answer.value is False else f"gave {answer.value!r:.40}, not true or false")
            broken = f"{rule.message or rule.cel}{f' ({why})' if why else ''}"
    return ConstraintCheck(tuple(asks), broken)


@dataclass(frozen=True)
class RoundResult:
    """The status after this pass's round, or as it was when none was due or nothing came of it; and when to look again.

    `waits` says what it waits for; `asks` are the questions that are to be answered; `tried` says that a value was looked for,
    and all that was asked for it answered.
    """

    status: OrchestrationVariableStatus
    requeue: float | None = None
    function_calls: tuple[FunctionCall, ...] = ()
    waits: Reason | None = None
    tried: bool = False


# --- the gate ---------------------------------------------------------------------------------------------------------------


def pass_gate(inputs: StrategyInputs, trigger: str, outcome: StrategyResult, *, at_once: bool) -> RoundResult:
    """The value through the gate: rules in CEL, then the vote; what does not pass leaves the value in force."""
    before, rules = inputs.before, inputs.variable.spec.consensus
    value, rule, message = _value_in_force(inputs, outcome)
    if value != before.value or at_once:
        checked = check_constraints(inputs, value) if value is not None else ConstraintCheck()
        if checked.function_calls:
            return RoundResult(before, None, checked.function_calls, Reason.EVALUATING)
        if checked.broken is not None:
            told = f"{domains.format_value(value)} is not allowed: {checked.broken}"
            rule, message = str(Reason.CONSTRAINT_VIOLATION), told
            outcome = replace(outcome, error=Reason.CONSTRAINT_VIOLATION)
            value, asks = _allowed_start(inputs)
            if asks:
                return RoundResult(before, None, asks, Reason.EVALUATING)
    if rule in FAILED_RULES:
        rescue = fallback_for(inputs, value, message)
        if rescue.function_calls:
            return RoundResult(before, None, rescue.function_calls, Reason.EVALUATING)
        value, message = rescue.value, rescue.message
    if rules is not None and value != _start_or_last(inputs):
        return _propose(inputs, rules, trigger, outcome, (value, rule, message))
    after = record_round(inputs, trigger, outcome, (value, rule, message), before.consensus)
    if rules is not None and after.consensus is not None and after.consensus.outcome == "Pending":
        # What was proposed is not what is wanted any more.
        over = {"outcome": "Rejected", "awaits_approval": None, "reason": "superseded"}
        after = after.model_copy(update={"consensus": after.consensus.model_copy(update=over)})
    if rules is None and after.consensus is not None:
        after = after.model_copy(update={"consensus": None})
    changed = at_once or decided_content(after) != decided_content(before)
    return RoundResult(after if changed else before)


def _start_or_last(inputs: StrategyInputs) -> Any:
    """What is in force while nothing is decided: the last value, else `spec.value`."""
    spec, before = inputs.variable.spec, inputs.before
    if before.value is not None or spec.value is None:
        return before.value
    return domains.fit_or_none(spec.domain, spec.value)


def _allowed_start(inputs: StrategyInputs) -> tuple[Any, tuple[FunctionCall, ...]]:
    """What stays in force where the rules refuse a value: the last one; the start, if they allow that; else nothing yet."""
    value = _start_or_last(inputs)
    if value is None or inputs.before.value is not None:
        return value, ()
    checked = check_constraints(inputs, value)
    return (value if checked.broken is None else None), checked.function_calls


def _propose(
    inputs: StrategyInputs, rules: Consensus, trigger: str, outcome: StrategyResult, taken: Decided
) -> RoundResult:
    """A changed value becomes a proposal; one that was rejected is not proposed again until it differs, or the spec does."""
    before = inputs.before
    value, rule, message = taken
    last = before.consensus
    stays, asks = _allowed_start(inputs)
    if asks:
        return RoundResult(before, None, asks, Reason.EVALUATING)
    spec_hash = digest(spec_inputs(inputs))
    same = last is not None and last.proposed == value and last.spec_hash == spec_hash
    if same and last is not None and last.outcome == "Rejected":
        told = f"{domains.format_value(value)} was rejected: {last.reason}"
        after = record_round(inputs, trigger, outcome, (stays, _rule_in_force(before, rule), told), last)
        known = before.last_decision is not None and before.last_decision.trigger_hash == trigger
        return RoundResult(before if known and decided_content(after) == decided_content(before) else after)
    vote = ballots.new_proposal(inputs, rules, min(before.round + 1, LAST_ROUND), value, spec_hash)
    vote = vote.model_copy(update={"rule": rule})
    if same and last is not None and last.outcome == "Pending":
        vote = last  # other agents, or other offers, but the same value: the vote on it goes on
    told = f"{domains.format_value(value)} is proposed: {message}"
    after = record_round(inputs, trigger, outcome, (stays, _rule_in_force(before, rule), told), vote)
    return count_vote(replace(inputs, variable=inputs.variable.model_copy(update={"status": after})), rules, vote)


def _rule_in_force(before: OrchestrationVariableStatus, proposed_by: str) -> str:
    """By which rule the value in force came about, while another one is only proposed; a failure that is told stays told."""
    last = before.last_decision
    if proposed_by in FAILED_RULES:
        return proposed_by
    return SPEC_VALUE if last is None or last.rule in FAILED_RULES else last.rule


def count_vote(inputs: StrategyInputs, rules: Consensus, vote: ConsensusRound) -> RoundResult:
    """The status after the ballots of this moment: an accepted value is in force, a rejected one is not."""
    before = inputs.before
    counted = ballots.count_ballots(inputs, rules, vote)
    vote = counted.vote
    after = before if vote == before.consensus else before.model_copy(update={"consensus": vote})
    if vote.outcome == "Pending":
        waits = Reason.AWAITING_APPROVAL if vote.awaits_approval else Reason.VOTING
        return RoundResult(after, counted.again, counted.function_calls, waits)
    accepted = vote.outcome == "Accepted"
    last = before.last_decision
    told = f"{domains.format_value(vote.proposed)} is {vote.outcome.lower()}: {vote.reason}"
    decided = last.model_copy(update={"time": inputs.now, "message": told[:1024]}) if last is not None else None
    taken: JsonDict = {"last_decision": decided}
    if accepted and decided is not None and vote.rule:
        taken["last_decision"] = decided.model_copy(update={"rule": vote.rule})
    if accepted:
        was = before.previous_value if before.value is None else before.value
        taken |= {"value": vote.proposed, "previous_value": was}
    return RoundResult(after.model_copy(update=taken))


def _value_in_force(inputs: StrategyInputs, outcome: StrategyResult) -> Decided:
    """The value in force after a round, by which rule, and the explanation: what came out, else start or last good.

    A value that came from `spec.value` goes on following it until the agents have decided once.
    """
    if outcome.value is not None:
        return outcome.value, outcome.rule, outcome.message
    spec, before = inputs.variable.spec, inputs.before
    start = None if spec.value is None else domains.fit_or_none(spec.domain, spec.value)
    last = before.value
    valued = spec.type in (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE)
    if last is not None and valued and domains.empty_reason(spec.domain) is None:
        last = domains.fit_or_none(spec.domain, last)  # a domain that shrank bounds the last good value too
    never_decided = before.last_decision is None or before.last_decision.rule == SPEC_VALUE
    failed = outcome.rule in FAILED_RULES and outcome.rule != Reason.INVALID_CONFIGURATION
    if start is not None and (last is None or never_decided):
        return (
            start,
            outcome.rule if failed else SPEC_VALUE,
            f"{domains.format_value(start)} from spec.value: {outcome.message}",
        )
    if last is not None:
        return last, outcome.rule, f"{domains.format_value(last)} stays in force: {outcome.message}"
    return None, outcome.rule, outcome.message
