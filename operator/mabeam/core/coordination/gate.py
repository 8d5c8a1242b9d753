"""What a decided value passes before it is in force: constraints, the fallback of a failure, the vote and the approval."""

from dataclasses import dataclass, replace
from typing import Any, Final

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

# In the message of a failed decision whose author has said which value holds then.
BY_FALLBACK: Final = "by fallbackValue"


@dataclass(frozen=True)
class RoundResult:
    """The status after this pass's round: the stored one when no round was due, or when nothing came of it."""

    status: OrchestrationVariableStatus
    requeue: float | None = None  # seconds
    function_calls: tuple[FunctionCall, ...] = ()  # with any, the round goes on when their results are known
    waiting_for: Reason | None = None  # Evaluating, Voting or AwaitingApproval; None: for nothing
    attempted: bool = False  # whether a value was sought, with every function result that it needs


@dataclass(frozen=True)
class PendingCalls:
    """Function calls whose results are needed before the next step of the gate."""

    function_calls: tuple[FunctionCall, ...]


def pass_gate(inputs: StrategyInputs, trigger: str, result: StrategyResult, *, at_once: bool) -> RoundResult:
    """The status after the result went through the gate; what does not pass leaves the value in force.

    `trigger` is the hash of what starts a round at once, and `at_once` whether it changed.
    """
    before, rules = inputs.before, inputs.variable.spec.consensus
    decided = _value_in_force(inputs, result)
    constrained = _constrained(inputs, decided) if at_once or decided.value != before.value else decided
    rescued = _with_fallback(inputs, constrained) if isinstance(constrained, Decided) else constrained
    if isinstance(rescued, PendingCalls):
        return _evaluating(inputs, rescued)
    if rules is not None and rescued.value != _start_or_last(inputs):
        return _propose(inputs, rules, trigger, result, decided=rescued)
    after = record_round(inputs, trigger, result, decided=rescued, vote=_without_proposal(rules, before.consensus))
    return RoundResult(after if at_once or decided_content(after) != decided_content(before) else before)


def _evaluating(inputs: StrategyInputs, pending: PendingCalls) -> RoundResult:
    return RoundResult(inputs.before, function_calls=pending.function_calls, waiting_for=Reason.EVALUATING)


def _without_proposal(rules: Consensus | None, vote: ConsensusRound | None) -> ConsensusRound | None:
    """The vote on record once a round proposes nothing: an open proposal is superseded, and none is kept without a vote."""
    if rules is None or vote is None or vote.outcome != "Pending":
        return None if rules is None else vote
    return vote.model_copy(update={"outcome": "Rejected", "awaits_approval": None, "reason": "superseded"})


# --- the value ----------------------------------------------------------------------------------------------------------------


def _value_in_force(inputs: StrategyInputs, result: StrategyResult) -> Decided:
    """The strategy's value; without one, `spec.value` until the agents have decided once, then the last value."""
    if result.value is not None:
        return Decided(result.value.to_json(), result.rule, result.message)
    spec, before = inputs.variable.spec, inputs.before
    start = None if spec.value is None else domains.fit_or_none(spec.domain, spec.value)
    last = before.value
    has_domain = spec.type in (OrchestrationType.PARAMETER, OrchestrationType.ADAPTATION_RATE)
    if last is not None and has_domain and domains.empty_reason(spec.domain) is None:
        last = domains.fit_or_none(spec.domain, last)  # a domain that became narrower bounds the last value too
    never_decided = before.last_decision is None or before.last_decision.rule == SPEC_VALUE
    if start is not None and (last is None or never_decided):
        failed = result.rule in FAILED_RULES and result.rule != Reason.INVALID_CONFIGURATION
        message = f"{domains.format_value(start)} from spec.value: {result.message}"
        return Decided(start, result.rule if failed else SPEC_VALUE, message)
    if last is not None:
        return Decided(last, result.rule, f"{domains.format_value(last)} stays in force: {result.message}")
    return Decided(None, result.rule, result.message)


def _start_or_last(inputs: StrategyInputs) -> Any:
    """The JSON value in force while nothing is decided: the last value, else `spec.value`."""
    spec, before = inputs.variable.spec, inputs.before
    if before.value is not None or spec.value is None:
        return before.value
    return domains.fit_or_none(spec.domain, spec.value)


# --- constraints --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConstraintCheck:
    """The result of `constraints.rules`; the value is allowed when there is neither a call nor a broken rule."""

    function_calls: tuple[FunctionCall, ...] = ()
    broken: str | None = None  # the first broken rule, by its message or its CEL


def check_constraints(inputs: StrategyInputs, value: Any) -> ConstraintCheck:
    """Whether the variable's rules allow the JSON value; a rule that cannot be evaluated does not allow it."""
    constraints = inputs.variable.spec.constraints
    rules = (constraints.rules_ or ()) if constraints is not None else ()
    given = function_inputs(inputs, value) if rules else {}
    calls, broken = [], None
    for rule in rules:
        call, result = result_of_call(inputs, FunctionCall(Language.CEL, rule.cel, given))
        if result is None:
            calls.append(call)
        elif broken is None and result.value is not True:
            why = result.error or ("" if result.value is False else f"gave {result.value!r:.40}, not true or false")
            broken = f"{rule.message or rule.cel}{f' ({why})' if why else ''}"
    return ConstraintCheck(tuple(calls), broken)


def _constrained(inputs: StrategyInputs, decided: Decided) -> Decided | PendingCalls:
    """The value if the rules allow it; else the value that stays, with the broken rule."""
    if decided.value is None:
        return decided
    checked = check_constraints(inputs, decided.value)
    if checked.function_calls:
        return PendingCalls(checked.function_calls)
    if checked.broken is None:
        return decided
    stays = _allowed_start(inputs)
    if isinstance(stays, PendingCalls):
        return stays
    message = f"{domains.format_value(decided.value)} is not allowed: {checked.broken}"
    return Decided(stays.value, str(Reason.CONSTRAINT_VIOLATION), message)


@dataclass(frozen=True)
class _Stays:
    """The JSON value that stays in force while another one is refused or proposed; None: no value yet."""

    value: Any


def _allowed_start(inputs: StrategyInputs) -> _Stays | PendingCalls:
    """The last value; without one, `spec.value` if the rules allow it."""
    value = _start_or_last(inputs)
    if value is None or inputs.before.value is not None:
        return _Stays(value)
    checked = check_constraints(inputs, value)
    if checked.function_calls:
        return PendingCalls(checked.function_calls)
    return _Stays(value if checked.broken is None else None)


# --- fallback -----------------------------------------------------------------------------------------------------------------


def _with_fallback(inputs: StrategyInputs, decided: Decided) -> Decided | PendingCalls:
    """The fallback value after a failure under `recoveryStrategy: Fallback`, if domain and rules allow it; else `decided`."""
    tolerance, spec = inputs.variable.spec.fault_tolerance, inputs.variable.spec
    if decided.rule not in FAILED_RULES:
        return decided
    if tolerance is None or tolerance.recovery_strategy is not VariableRecovery.FALLBACK:
        return decided
    wanted = spec.value if tolerance.fallback_value is None else tolerance.fallback_value
    bounded = spec.type is not OrchestrationType.CUSTOM or "domain" in spec.model_fields_set
    fallback = domains.fit_or_none(spec.domain, wanted) if bounded and wanted is not None else wanted
    if fallback is None or fallback == decided.value:
        return decided
    checked = check_constraints(inputs, fallback)
    if checked.function_calls:
        return PendingCalls(checked.function_calls)
    shown = domains.format_value(fallback)
    if checked.broken is not None:
        message = f"{decided.message}; nor is fallbackValue {shown} allowed: {checked.broken}"
        return replace(decided, message=message)
    return replace(decided, value=fallback, message=f"{shown} {BY_FALLBACK}: {decided.message}")


# --- vote ---------------------------------------------------------------------------------------------------------------------


def _propose(
    inputs: StrategyInputs, rules: Consensus, trigger: str, result: StrategyResult, *, decided: Decided
) -> RoundResult:
    """The status with the changed value as a proposal; a rejected value is proposed again only when it or the spec changes."""
    before = inputs.before
    last = before.consensus
    stays = _allowed_start(inputs)
    if isinstance(stays, PendingCalls):
        return _evaluating(inputs, stays)
    spec_hash = digest(spec_inputs(inputs))
    same = last is not None and last.proposed == decided.value and last.spec_hash == spec_hash
    shown = domains.format_value(decided.value)
    rule = _rule_in_force(before, decided.rule)
    if same and last is not None and last.outcome == "Rejected":
        in_force = Decided(stays.value, rule, f"{shown} was rejected: {last.reason}")
        after = record_round(inputs, trigger, result, decided=in_force, vote=last)
        known = before.last_decision is not None and before.last_decision.trigger_hash == trigger
        return RoundResult(before if known and decided_content(after) == decided_content(before) else after)
    if same and last is not None and last.outcome == "Pending":
        vote = last  # other agents or offers that lead to the same value: the vote on it goes on
    else:
        number = min(before.round + 1, LAST_ROUND)
        vote = ballots.new_proposal(inputs, rules, number, value=decided.value, spec_hash=spec_hash)
        vote = vote.model_copy(update={"rule": decided.rule})
    in_force = Decided(stays.value, rule, f"{shown} is proposed: {decided.message}")
    after = record_round(inputs, trigger, result, decided=in_force, vote=vote)
    return count_vote(replace(inputs, variable=inputs.variable.model_copy(update={"status": after})), rules, vote)


def _rule_in_force(before: OrchestrationVariableStatus, proposed_by: str) -> str:
    """The rule of the value in force while another value is proposed; a failure stays on record as the rule."""
    last = before.last_decision
    if proposed_by in FAILED_RULES:
        return proposed_by
    return SPEC_VALUE if last is None or last.rule in FAILED_RULES else last.rule


def count_vote(inputs: StrategyInputs, rules: Consensus, vote: ConsensusRound) -> RoundResult:
    """The status after counting the ballots cast by now: an accepted value comes into force, a rejected one does not."""
    before = inputs.before
    progress = ballots.count_ballots(inputs, rules, vote)
    vote = progress.vote
    after = before if vote == before.consensus else before.model_copy(update={"consensus": vote})
    if vote.outcome == "Pending":
        waiting_for = Reason.AWAITING_APPROVAL if vote.awaits_approval else Reason.VOTING
        return RoundResult(after, progress.recheck_seconds, progress.function_calls, waiting_for)
    accepted = vote.outcome == "Accepted"
    message = f"{domains.format_value(vote.proposed)} is {vote.outcome.lower()}: {vote.reason}"
    decision = before.last_decision
    if decision is not None:
        decision = decision.model_copy(update={"time": inputs.now, "message": message[:1024]})
        if accepted and vote.rule:
            decision = decision.model_copy(update={"rule": vote.rule})
    changes: JsonDict = {"last_decision": decision}
    if accepted:
        previous = before.previous_value if before.value is None else before.value
        changes |= {"value": vote.proposed, "previous_value": previous}
    return RoundResult(after.model_copy(update=changes))
