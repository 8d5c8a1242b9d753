"""CommunicationTopology and CoordinationPattern: who talks to whom, and who coordinates."""

from typing import Any, Final

from mabeam.api.agent import Agent, AgentRole
from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable_blocks import CoordinationPattern, Topology
from mabeam.core.algorithms.peer_graph import LARGEST_MESH, build_peer_graph
from mabeam.core.coordination.strategies.interface import (
    StrategyInputs,
    StrategyResult,
    agent_input,
    failed_call,
    is_member,
)
from mabeam.core.functions import FunctionCall, Language

RULE: Final = "Wired"
# A predicate is asked of every ordered pair, and what it finds is kept in the status.
LARGEST_PREDICATE: Final = 300
MOST_EDGES: Final = 5000
PREDICATE_SECONDS: Final = 10.0


def topology(inputs: StrategyInputs) -> StrategyResult:
    """`{pattern, members}`, with `hub` for a Star or a Broadcast and `edges` for Custom."""
    members = tuple(agent for agent in inputs.agents if is_member(agent))
    if not members:
        return StrategyResult(Reason.AGENT_UNAVAILABLE, "no agent takes part: all are stopped, parked or at an end")
    shape = inputs.variable.spec.topology or Topology()
    names = [agent.metadata.name for agent in members]
    if shape.pattern is CoordinationPattern.MESH and len(names) > LARGEST_MESH:
        text = f"a Mesh of {len(names)} agents would tell {len(names) * (len(names) - 1)} peers; at most {LARGEST_MESH} agents"
        return _invalid(f"{text}. Use Ring, Star or Custom, or select fewer")
    value: JsonDict = {"pattern": str(shape.pattern), "members": names}
    told = f"{shape.pattern} of {len(names)}"
    if shape.pattern in (CoordinationPattern.STAR, CoordinationPattern.BROADCAST):
        value["hub"] = _hub(inputs.before.value, members)
    if shape.pattern is CoordinationPattern.CUSTOM:
        edges: Any = [[edge.from_, edge.to] for edge in shape.edges]
        if shape.cel is not None:
            found = _predicate(inputs, shape.cel, members)
            if isinstance(found, StrategyResult):
                return found
            edges = found
        value["edges"] = edges
        joined = build_peer_graph(shape.pattern, names, None, [(a, b) for a, b in edges]).joined
        told += f", {len(edges)} edges"
        strangers = {name for edge in edges for name in edge} - {agent.metadata.name for agent in inputs.agents}
        if strangers:
            told += f"; not among its agents: {', '.join(sorted(strangers)[:5])}"
        if joined:
            told += "; joined, so that nobody is cut off: " + ", ".join(f"{a}–{b}" for a, b in joined[:5])
    return StrategyResult(RULE, told, value)


def _hub(before: Any, members: tuple[Agent, ...]) -> str:
    """The hub in force while it takes part; else the first Coordinator among the members, else the first of them."""
    names = [agent.metadata.name for agent in members]
    held = before.get("hub") if isinstance(before, dict) else None
    if held in names:
        return str(held)
    return next((a.metadata.name for a in members if a.spec.role is AgentRole.COORDINATOR), names[0])


def _predicate(inputs: StrategyInputs, cel: str, members: tuple[Agent, ...]) -> StrategyResult | list[list[str]]:
    if len(members) > LARGEST_PREDICATE:
        text = f"a predicate is asked of every pair, so of at most {LARGEST_PREDICATE} agents, not of {len(members)}"
        return _invalid(f"{text}; list `edges`, or select fewer")
    # Metrics tick; who talks to whom follows from what agents are, not from how they do at the moment.
    agents = [{k: v for k, v in agent_input(inputs, agent).items() if k in _SETTLED} for agent in members]
    # So the answer to this very question comes, and no other does: one about other agents knows nothing of these.
    ask = FunctionCall(Language.CEL_EDGES, cel, {"agents": agents}, timeout_seconds=PREDICATE_SECONDS)
    answer = inputs.function_results.get(ask.id)
    if answer is None:
        return StrategyResult(RULE, "the predicate is being asked", function_calls=(ask,))
    if answer.error is not None:
        return failed_call(answer, "the predicate", ask)
    if len(answer.value) > MOST_EDGES:
        return _invalid(f"the predicate holds for {len(answer.value)} pairs; at most {MOST_EDGES}: use Mesh")
    return [[str(a), str(b)] for a, b in answer.value]


_SETTLED: Final = frozenset({"name", "role", "labels", "capabilities", "replicas"})


def _invalid(text: str) -> StrategyResult:
    return StrategyResult(Reason.INVALID_CONFIGURATION, text, error=Reason.INVALID_CONFIGURATION)
