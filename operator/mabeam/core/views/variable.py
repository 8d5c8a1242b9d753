"""The record of an OrchestrationVariable in the REST API `/v1`."""

from dataclasses import dataclass
from typing import Final

from mabeam.api.base import ConditionStatus
from mabeam.api.directive import VariableDirectives
from mabeam.api.names import ConditionType
from mabeam.api.rest import ConsensusInfo, DirectiveCounts, NegotiationInfo, SelectedAgents, VariableInfo
from mabeam.api.variable import CoordinationError, Mode, OrchestrationVariable
from mabeam.api.variable_blocks import Consensus
from mabeam.api.variable_status import ConsensusRound, NegotiationSession, ResolvedAgents
from mabeam.core.views.agent import ready_reason

_ERRORS: Final = frozenset(map(str, CoordinationError))


@dataclass(frozen=True, slots=True)
class ObservedVariable:
    """A variable as it is stored."""

    variable: OrchestrationVariable
    invalid: bool = False  # its spec cannot be read


def variable_info(observed: ObservedVariable) -> VariableInfo:
    """The variable's record."""
    variable, spec, status = observed.variable, observed.variable.spec, observed.variable.status
    reason, last = ready_reason(status.conditions), status.last_decision
    return VariableInfo(
        namespace=variable.metadata.namespace,
        name=variable.metadata.name,
        type=spec.type,
        parameter=variable.parameter,
        mode=spec.mode,
        paused=spec.paused,
        priority=spec.priority,
        active=is_in_force(observed),
        converged=has_converged(variable),
        reason=reason,
        error=CoordinationError(reason) if reason in _ERRORS else None,
        invalid=observed.invalid or None,
        value=status.value,
        previous_value=status.previous_value,
        round=status.round,
        decided_at=last.time if last is not None else None,
        rule=last.rule if last is not None else None,
        message=last.message if last is not None else None,
        agents=_agents(status.agents),
        negotiation=_negotiation(status.negotiation),
        consensus=_consensus(spec.consensus, status.consensus),
        directives=_directives(status.directives),
    )


def _agents(resolved: ResolvedAgents | None) -> SelectedAgents:
    if resolved is None:
        return SelectedAgents(selected=0, names=(), missing=())
    return SelectedAgents(selected=resolved.selected, names=resolved.names, missing=resolved.missing)


def _negotiation(session: NegotiationSession | None) -> NegotiationInfo | None:
    if session is None:
        return None
    return NegotiationInfo(
        strategy=session.strategy,
        state=session.state,
        participants=len(session.participants),
        winner=session.winner,
        payment=session.payment,
    )


def _consensus(rules: Consensus | None, vote: ConsensusRound | None) -> ConsensusInfo | None:
    if vote is None:
        return None
    return ConsensusInfo(
        protocol=rules.protocol if rules is not None else None,
        proposal=vote.proposal,
        outcome=vote.outcome,
        votes=len(vote.votes),
        deadline=vote.deadline,
    )


def _directives(counts: VariableDirectives | None) -> DirectiveCounts:
    if counts is None:
        return DirectiveCounts()
    return DirectiveCounts(
        issued=counts.issued,
        delivered=counts.delivered,
        acknowledged=counts.acknowledged,
        refused=counts.refused,
        expired=counts.expired,
    )


def is_in_force(observed: ObservedVariable) -> bool:
    """Whether its value is delivered to agents: it is accepted, not paused, in mode Active, and has a value."""
    variable = observed.variable
    refused = _is(variable, ConditionType.ACCEPTED, ConditionStatus.FALSE)
    spec = variable.spec
    return not (observed.invalid or refused or spec.paused) and spec.mode is Mode.ACTIVE and variable.status.decided


def has_converged(variable: OrchestrationVariable) -> bool:
    """Whether its condition Ready is True."""
    return _is(variable, ConditionType.READY, ConditionStatus.TRUE)


def _is(variable: OrchestrationVariable, type_: ConditionType, status: ConditionStatus) -> bool:
    return any(c.type == type_ and c.status is status for c in variable.status.conditions)
