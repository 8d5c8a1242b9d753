"""The record of a round of coordination: its inputs, its rule, its result, in the variable's status."""

from collections.abc import Mapping
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable_status import ConsensusRound, LastDecision, NegotiationSession, OrchestrationVariableStatus
from mabeam.core.conventions.hashing import digest
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult

# What a round does not depend on: how it is delivered and what failures lead to, and the agents (the members stand for them).
_NOT_INPUTS: Final = frozenset({"paused", "mode", "priority", "parameter", "agents", "fault_tolerance", "telemetry"})
LISTED: Final = 100
CANDIDATES: Final = 20
# The last number a status can hold; nobody honest comes to it, and from there it stands still.
LAST_ROUND: Final = 2**53


def recorded_failure(status: OrchestrationVariableStatus) -> tuple[Reason, str] | None:
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


def spec_inputs(inputs: StrategyInputs) -> Any:
    """The part of the spec that bears on the value. Defaults are left out: an upgrade that adds one starts no round."""
    return inputs.variable.spec.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=set(_NOT_INPUTS)
    )


Decided = tuple[Any, str, str]
"""A value, by which rule, and why."""


# --- the record -------------------------------------------------------------------------------------------------------------


def decided_content(status: OrchestrationVariableStatus) -> tuple[Any, ...]:
    """What a round came to, without what it came from: while this is the same, nothing new is recorded."""
    session, last = status.negotiation, status.last_decision
    rule = last.rule if last is not None else None
    if session is None:
        return status.value, rule
    return status.value, session.state, session.reason, session.winner, session.payment, rule in FAILED_RULES


def record_round(
    inputs: StrategyInputs, trigger: str, outcome: StrategyResult, taken: Decided, vote: ConsensusRound | None
) -> OrchestrationVariableStatus:
    before = inputs.before
    value, rule, message = taken
    number = min(before.round + 1, LAST_ROUND)
    changed = value != before.value
    candidates = [candidate.to_wire() for candidate in outcome.candidates]
    hashed = [spec_inputs(inputs), [offer.to_wire() for offer in outcome.offers], *([candidates] if candidates else [])]
    return before.model_copy(
        update={
            "value": value,
            "previous_value": before.value if changed and before.value is not None else before.previous_value,
            "round": number,
            "negotiation": _session(inputs, outcome, number),
            "consensus": vote,
            "last_decision": LastDecision(
                time=inputs.now,
                rule=rule,
                inputs_hash=outcome.asked or digest(hashed),
                trigger_hash=trigger,
                message=message[:1024],
                candidates=outcome.candidates[:CANDIDATES],
            ),
            "context": _context(inputs),
        }
    )


def _context(inputs: StrategyInputs) -> JsonDict | None:
    """The system as the round saw it, where there was anything to see."""
    seen: Mapping[str, Any] = inputs.context.to_wire()
    known = {key: value for key, value in seen.items() if value not in (None, "", {})}
    return known or None


def _session(inputs: StrategyInputs, outcome: StrategyResult, number: int) -> NegotiationSession | None:
    negotiation = inputs.variable.spec.negotiation
    if negotiation is None or inputs.variable.spec.function is not None:
        return None
    return NegotiationSession(
        id=f"{inputs.variable.metadata.name}-{number}",
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
