"""The strategy of CommunicationTopology: which agents communicate with which."""

from collections.abc import Sequence
from typing import Final

from mabeam.api.agent import Agent, AgentRole
from mabeam.api.names import Reason
from mabeam.api.variable_blocks import CoordinationPattern, Topology
from mabeam.core.algorithms.peer_graph import LARGEST_MESH, build_peer_graph
from mabeam.core.coordination.strategies.interface import (
    NO_MEMBER,
    FollowUp,
    StrategyInputs,
    StrategyResult,
    agent_input,
    failed_call,
    failure,
    is_member,
)
from mabeam.core.functions import FunctionCall, Language
from mabeam.core.values import TopologyValue, parse_topology

RULE: Final = "Wired"
# A predicate is evaluated for every ordered pair of agents, and the pairs it holds for are stored in the status.
LARGEST_PREDICATE: Final = 300
MOST_EDGES: Final = 5000
PREDICATE_SECONDS: Final = 10.0

_Edges = tuple[tuple[str, str], ...]


def topology(inputs: StrategyInputs) -> StrategyResult:
    """A `TopologyValue` of the agents that take part; its edges are the spec's own, or the pairs a predicate holds for."""
    members = tuple(agent for agent in inputs.agents if is_member(agent))
    if not members:
        return StrategyResult(Reason.AGENT_UNAVAILABLE, NO_MEMBER)
    shape = inputs.variable.spec.topology or Topology()
    names = tuple(agent.metadata.name for agent in members)
    if shape.pattern is CoordinationPattern.MESH and len(names) > LARGEST_MESH:
        text = f"a Mesh of {len(names)} agents has {len(names) * (len(names) - 1)} peers in all; at most {LARGEST_MESH} agents"
        return failure(Reason.INVALID_CONFIGURATION, f"{text}. Use Ring, Star or Custom, or select fewer")
    message = f"{shape.pattern} of {len(names)}"
    if shape.pattern is CoordinationPattern.CUSTOM:
        edges = _edges(inputs, shape, members)
        if isinstance(edges, StrategyResult):
            return edges
        message = f"{message}{_edges_message(inputs, names, edges)}"
        return StrategyResult(RULE, message, TopologyValue(shape.pattern, names, edges=edges))
    centred = shape.pattern in (CoordinationPattern.STAR, CoordinationPattern.BROADCAST)
    return StrategyResult(
        RULE, message, TopologyValue(shape.pattern, names, hub=_hub(inputs, members) if centred else None)
    )


def _hub(inputs: StrategyInputs, members: Sequence[Agent]) -> str:
    """The hub in force while it takes part; else the first Coordinator among the members, else the first member."""
    names = [agent.metadata.name for agent in members]
    before = parse_topology(inputs.before.value)
    if before is not None and before.hub in names:
        return str(before.hub)
    return next((a.metadata.name for a in members if a.spec.role is AgentRole.COORDINATOR), names[0])


def _edges(inputs: StrategyInputs, shape: Topology, members: Sequence[Agent]) -> _Edges | StrategyResult:
    """The edges of a Custom pattern; a result without a value while they are not known, or cannot be."""
    if shape.cel is None:
        return tuple((edge.from_, edge.to) for edge in shape.edges)
    if len(members) > LARGEST_PREDICATE:
        text = (
            f"a predicate is evaluated for every pair of agents; at most {LARGEST_PREDICATE} agents, not {len(members)}"
        )
        return failure(Reason.INVALID_CONFIGURATION, f"{text}; list `edges`, or select fewer")
    agents = [{k: v for k, v in agent_input(inputs, agent).items() if k in _STABLE_INPUTS} for agent in members]
    call = FunctionCall(Language.CEL_EDGES, shape.cel, {"agents": agents}, timeout_seconds=PREDICATE_SECONDS)
    # By its id, not by `result_of_call`: the result of a call about other agents does not contain these.
    result = inputs.function_results.get(call.id)
    if result is None:
        return StrategyResult(RULE, "the predicate is being evaluated", follow_up=FollowUp(function_calls=(call,)))
    if result.error is not None:
        return failed_call(result, "the predicate", call)
    if len(result.value) > MOST_EDGES:
        text = f"the predicate holds for {len(result.value)} pairs; at most {MOST_EDGES}: use Mesh"
        return failure(Reason.INVALID_CONFIGURATION, text)
    return tuple((str(a), str(b)) for a, b in result.value)


# What a predicate may use: properties of an agent that last, not metrics, which change with every report.
_STABLE_INPUTS: Final = frozenset({"name", "role", "labels", "capabilities", "replicas"})


def _edges_message(inputs: StrategyInputs, members: Sequence[str], edges: _Edges) -> str:
    """How many edges there are, which name no agent of the variable, and which were added to connect the graph."""
    message = f", {len(edges)} edges"
    unknown = {name for edge in edges for name in edge} - {agent.metadata.name for agent in inputs.agents}
    if unknown:
        message += f"; not among its agents: {', '.join(sorted(unknown)[:5])}"
    joined = build_peer_graph(CoordinationPattern.CUSTOM, members, None, edges).joined
    if joined:
        message += "; edges added so that every agent is connected: " + ", ".join(f"{a}–{b}" for a, b in joined[:5])
    return message
