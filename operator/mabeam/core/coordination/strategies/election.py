"""The strategy of CoordinationPattern: a topology, its coordinator, and the term of that coordinator."""

from dataclasses import replace
from typing import Final

from mabeam.api.agent import Agent, AgentRole
from mabeam.api.variable_status import Candidate
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult, is_member, is_ready
from mabeam.core.coordination.strategies.topology import topology
from mabeam.core.values import ElectionValue, TopologyValue, parse_election

ELECTED: Final = "Elected"
# The largest term that a JSON number holds exactly.
_LAST_TERM: Final = 2**53


def elect(inputs: StrategyInputs) -> StrategyResult:
    """An `ElectionValue`: the coordinator in office while it takes part; else the best candidate, with the next term.

    Ready agents come first, since a successor that never starts would be no better than none; then those whose role is
    Coordinator, then by name.
    """
    graph = topology(inputs)
    if not isinstance(graph.value, TopologyValue):
        return graph
    before = parse_election(inputs.before.value)
    members = tuple(agent for agent in inputs.agents if is_member(agent))
    ranked = sorted(members, key=lambda a: (not is_ready(a), a.spec.role is not AgentRole.COORDINATOR, a.metadata.name))
    in_office = before.coordinator if before is not None else None
    stays = in_office is not None and any(agent.metadata.name == in_office for agent in members)
    coordinator = in_office if stays and in_office is not None else ranked[0].metadata.name
    term = _last_term(before) + (0 if stays else 1)
    message = f"{coordinator} {'stays' if stays else 'is elected'} coordinator (term {term})"
    return StrategyResult(
        ELECTED,
        f"{message}; {graph.message}",
        # The coordinator is the hub of a pattern that has one.
        ElectionValue(replace(graph.value, hub=None), coordinator, term),
        candidates=tuple(_candidate(agent, coordinator, stays) for agent in ranked),
    )


def _last_term(before: ElectionValue | None) -> int:
    """The term in force; 0 before the first election, and for a stored number that no election can have given."""
    term = before.term if before is not None else None
    return term if term is not None and 0 <= term < _LAST_TERM else 0


def _candidate(agent: Agent, coordinator: str, stays: bool) -> Candidate:
    chosen = agent.metadata.name == coordinator
    reason = "in office" if stays and chosen else "ready" if is_ready(agent) else "not ready"
    return Candidate(name=agent.metadata.name, chosen=chosen, reason=reason)
