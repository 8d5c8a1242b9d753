"""The strategy of CoordinationPattern: who coordinates, and in which term."""

from typing import Final

from mabeam.api.agent import AgentRole
from mabeam.api.variable_status import Candidate
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult, is_member, is_ready
from mabeam.core.coordination.strategies.topology import topology

ELECTED: Final = "Elected"


def pattern(inputs: StrategyInputs) -> StrategyResult:
    """The topology's value, `coordinator` and `term`: the coordinator stays while it takes part; each new one has a new term."""
    wired = topology(inputs)
    if wired.value is None:
        return wired
    before = inputs.before.value if isinstance(inputs.before.value, dict) else {}
    held, term = before.get("coordinator"), before.get("term")
    number = term if isinstance(term, int) and not isinstance(term, bool) and 0 <= term < 2**53 else 0
    members = tuple(agent for agent in inputs.agents if is_member(agent))
    ranked = sorted(members, key=lambda a: (not is_ready(a), a.spec.role is not AgentRole.COORDINATOR, a.metadata.name))
    stays = any(agent.metadata.name == held for agent in members)
    leader = str(held) if stays else ranked[0].metadata.name
    # Only who is ready is elected, when anybody is: a successor that never comes up would be no better than none.
    value = {key: found for key, found in wired.value.items() if key != "hub"}
    value |= {"coordinator": leader, "term": number if stays else number + 1}
    why = (
        f"{leader} stays coordinator (term {number})"
        if stays
        else f"{leader} is elected coordinator (term {number + 1})"
    )
    candidates = tuple(
        Candidate(
            name=agent.metadata.name,
            chosen=agent.metadata.name == leader,
            reason="in office"
            if stays and agent.metadata.name == leader
            else "ready"
            if is_ready(agent)
            else "not ready",
        )
        for agent in ranked
    )
    return StrategyResult(ELECTED, f"{why}; {wired.message}", value, candidates=candidates)
