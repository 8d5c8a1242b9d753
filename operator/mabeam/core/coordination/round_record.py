"""The record of a round of coordination in the variable's status: its inputs, its rule, its value."""

from dataclasses import dataclass
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable_status import ConsensusRound, LastDecision, NegotiationSession, OrchestrationVariableStatus
from mabeam.core.conventions.hashing import digest
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult

# Fields of the spec that no value depends on. `agents` is one: which agents are selected is hashed by `rounds._trigger`.
_NOT_INPUTS: Final = frozenset({"paused", "mode", "priority", "parameter", "agents", "fault_tolerance", "telemetry"})
LISTED: Final = 100
CANDIDATES: Final = 20
# The largest number that the schema of `status.round` allows; only an edited status can reach it, and then it stays there.
LAST_ROUND: Final = 2**53


@dataclass(frozen=True)
class Decided:
    """The value that a round puts into force, or leaves in force."""

    value: Any  # JSON; None: no value yet
    rule: str  # the rule that gave the value, or the Reason of a failure
    message: str


# The rules of rounds that failed: they are on record, and the value in force stayed.
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


def recorded_failure(status: OrchestrationVariableStatus) -> tuple[Reason, str] | None:
    """Reason and message of the last recorded round if it failed, else None; valid until another round is recorded."""
    last = status.last_decision
    if last is not None and last.rule in FAILED_RULES:
        return Reason(last.rule), last.message
    return None


def spec_inputs(inputs: StrategyInputs) -> Any:
    """The part of the spec that the value depends on, as JSON.

    Without defaults: an upgrade of the operator that adds one must not start a round.
    """
    return inputs.variable.spec.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=set(_NOT_INPUTS)
    )


def decided_content(status: OrchestrationVariableStatus) -> tuple[Any, ...]:
    """What a round decided, without its inputs: a round with the same content as the last one is not recorded."""
    session, last = status.negotiation, status.last_decision
    rule = last.rule if last is not None else None
    if session is None:
        return status.value, rule
    failed = rule in FAILED_RULES
    return status.value, session.state, session.reason, session.winner, session.payment, session.dropped, failed


def record_round(
    inputs: StrategyInputs, trigger: str, result: StrategyResult, *, decided: Decided, vote: ConsensusRound | None
) -> OrchestrationVariableStatus:
    """The stored status with this round recorded in it."""
    before = inputs.before
    number = min(before.round + 1, LAST_ROUND)
    changed = decided.value != before.value
    candidates = [candidate.to_wire() for candidate in result.candidates]
    hashed = [spec_inputs(inputs), [offer.to_wire() for offer in result.offers], *([candidates] if candidates else [])]
    return before.model_copy(
        update={
            "value": decided.value,
            "previous_value": before.value if changed and before.value is not None else before.previous_value,
            "round": number,
            "negotiation": _session(inputs, result, number),
            "consensus": vote,
            "last_decision": LastDecision(
                time=inputs.now,
                rule=decided.rule,
                inputs_hash=result.follow_up.used_call or digest(hashed),
                trigger_hash=trigger,
                message=decided.message[:1024],
                candidates=result.candidates[:CANDIDATES],
            ),
            "context": _context(inputs),
        }
    )


def _context(inputs: StrategyInputs) -> JsonDict | None:
    """The system's load and resources that the round used; None when nothing is known of them."""
    known = {key: value for key, value in inputs.context.to_wire().items() if value not in (None, "", {})}
    return known or None


def _session(inputs: StrategyInputs, result: StrategyResult, number: int) -> NegotiationSession | None:
    negotiation = inputs.variable.spec.negotiation
    if negotiation is None or inputs.variable.spec.function is not None:
        return None
    return NegotiationSession(
        id=f"{inputs.variable.metadata.name}-{number}",
        state="Failed" if result.value is None else "Completed",
        participants=tuple(offer.agent for offer in result.offers[:LISTED]),
        strategy=negotiation.strategy,
        offers=result.offers[:LISTED],
        outcome=None if result.value is None else result.value.to_json(),
        winner=result.winner,
        payment=result.payment,
        reason=result.rule,
        dropped=result.dropped[:LISTED],
    )
