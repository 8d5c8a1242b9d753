"""The record of an OrchestrationVariable in the REST API `/v1`."""

from dataclasses import dataclass
from typing import Final

from mabeam.api.base import ConditionStatus
from mabeam.api.names import ConditionType
from mabeam.api.rest import ConsensusInfo, DirectiveCounts, NegotiationInfo, SelectedAgents, VariableInfo
from mabeam.api.variable import CoordinationError, Mode, OrchestrationVariable
from mabeam.core.views.agent import ready_reason

_ERRORS: Final = frozenset(map(str, CoordinationError))


@dataclass(frozen=True, slots=True)
class SeenVariable:
    """A variable, and whether its spec cannot be read."""

    variable: OrchestrationVariable
    invalid: bool = False


# --- one variable -----------------------------------------------------------------------------------------------------


def variable_info(seen: SeenVariable) -> VariableInfo:
    """One variable's record."""
    variable, spec, status = seen.variable, seen.variable.spec, seen.variable.status
    reason, last, told = ready_reason(status.conditions), status.last_decision, status.directives
    session, round_, found = status.negotiation, status.consensus, status.agents
    return VariableInfo(
        namespace=variable.metadata.namespace,
        name=variable.metadata.name,
        type=spec.type,
        parameter=variable.parameter,
        mode=spec.mode,
        paused=spec.paused,
        priority=spec.priority,
        active=is_in_force(seen),
        converged=has_converged(variable),
        reason=reason,
        error=CoordinationError(reason) if reason in _ERRORS else None,
        invalid=seen.invalid or None,
        value=status.value,
        previous_value=status.previous_value,
        round=status.round,
        decided_at=last.time if last is not None else None,
        rule=last.rule if last is not None else None,
        message=last.message if last is not None else None,
        agents=SelectedAgents(
            selected=found.selected if found is not None else 0,
            names=found.names if found is not None else (),
            missing=found.missing if found is not None else (),
        ),
        negotiation=NegotiationInfo(
            strategy=session.strategy,
            state=session.state,
            participants=len(session.participants),
            winner=session.winner,
            payment=session.payment,
        )
        if session is not None
        else None,
        consensus=ConsensusInfo(
            protocol=spec.consensus.protocol if spec.consensus is not None else None,
            proposal=round_.proposal,
            outcome=round_.outcome,
            votes=len(round_.votes),
            deadline=round_.deadline,
        )
        if round_ is not None
        else None,
        directives=DirectiveCounts(
            issued=told.issued,
            delivered=told.delivered,
            acknowledged=told.acknowledged,
            refused=told.refused,
            expired=told.expired,
        )
        if told is not None
        else DirectiveCounts(),
    )


def is_in_force(seen: SeenVariable) -> bool:
    """Whether agents are told a value of it: accepted, not paused, in the mode Active, and with a value."""
    variable = seen.variable
    refused = _is(variable, ConditionType.ACCEPTED, ConditionStatus.FALSE)
    spec = variable.spec
    return not (seen.invalid or refused or spec.paused) and spec.mode is Mode.ACTIVE and variable.status.decided


def has_converged(variable: OrchestrationVariable) -> bool:
    """Whether it is Ready."""
    return _is(variable, ConditionType.READY, ConditionStatus.TRUE)


def _is(variable: OrchestrationVariable, type_: ConditionType, status: ConditionStatus) -> bool:
    return any(c.type == type_ and c.status is status for c in variable.status.conditions)
