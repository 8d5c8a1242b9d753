"""The directives that a variable's value means for each agent, and the agents that it names as peers."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mabeam.api.agent import AgentRole
from mabeam.api.base import JsonDict
from mabeam.api.directive import DirectiveAction
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.algorithms.peer_graph import Direction, PeerGraph, PeerLink, build_peer_graph
from mabeam.core.memoize import memoize_by_identity
from mabeam.core.values import (
    AllocationValue,
    CustomDirectives,
    CustomValue,
    DesiredDirective,
    ElectionValue,
    ParameterValue,
    RateValue,
    SelectionValue,
    ThresholdValue,
    TopologyValue,
    Value,
    parse_value,
)

# The one parameter of AllocateResources that is not an amount.
NETWORK_PRIORITY: Final = "networkPriority"

DirectivesByAgent = Callable[[str], tuple[DesiredDirective, ...]]
"""Agent name → its directives. A function, since a value may mean the same for every agent."""

NamesByAgent = Callable[[str], tuple[str, ...]]
"""Agent name → names of other agents."""


@memoize_by_identity
def stored_value(variable: OrchestrationVariable) -> Value | None:
    """The value in the variable's status; None when there is none, or it cannot be read."""
    return parse_value(variable.spec.type, variable.status.value)


@memoize_by_identity
def desired_directives(variable: OrchestrationVariable) -> DirectivesByAgent:
    """The directives of the variable's stored value."""
    return directives_for_value(variable, stored_value(variable))


def directives_for_value(variable: OrchestrationVariable, value: Value | None) -> DirectivesByAgent:
    """The directives of the variable while `value` is in force; none without a value."""
    match value:
        case None:
            return lambda _: ()
        case ParameterValue(parameter) | RateValue(parameter) | CustomValue(parameter):
            same = (DesiredDirective(DirectiveAction.ADJUST_PARAMETERS, {variable.parameter: parameter}),)
            return lambda _: same
        case SelectionValue():
            return _selection(variable, value)
        case AllocationValue():
            return _allocation(variable, value)
        case TopologyValue():
            return _topology(value)
        case ElectionValue():
            return _election(value)
        case ThresholdValue(entries):
            return lambda name: (entries[name].directive,) if name in entries else ()
        case CustomDirectives(by_agent):
            return lambda name: by_agent.get(name, ())


# --- AgentSelection and ResourceAllocation ----------------------------------------------------------------------------


_ACTIVE: Final = (DesiredDirective(DirectiveAction.ACTIVATE, {"active": True}),)
# inactivePolicy → the directives of an agent that is not selected
_INACTIVE: Final[Mapping[str, tuple[DesiredDirective, ...]]] = {
    "Idle": (DesiredDirective(DirectiveAction.ACTIVATE, {"active": False}),),
    "Stop": (DesiredDirective(DirectiveAction.STOP),),
}


def _selection(variable: OrchestrationVariable, value: SelectionValue) -> DirectivesByAgent:
    requirements = variable.spec.task_requirements
    inactive = _INACTIVE[requirements.inactive_policy if requirements is not None else "Idle"]
    active = frozenset(value.active)
    return lambda name: _ACTIVE if name in active else inactive


def _allocation(variable: OrchestrationVariable, value: AllocationValue) -> DirectivesByAgent:
    spec = variable.spec.resources
    bandwidth = {NETWORK_PRIORITY: str(spec.network_priority)} if spec is not None and spec.network_priority else {}

    def directives(name: str) -> tuple[DesiredDirective, ...]:
        share = value.shares.get(name)
        return () if share is None else (DesiredDirective(DirectiveAction.ALLOCATE_RESOURCES, share | bandwidth),)

    return directives


# --- CommunicationTopology and CoordinationPattern --------------------------------------------------------------------


def peer_graph_of(value: Value | None) -> PeerGraph:
    """The peers of each member of a topology or an election; an empty graph for any other value."""
    match value:
        case TopologyValue():
            return build_peer_graph(value.pattern, value.members, value.hub, value.edges or ())
        case ElectionValue(topology=TopologyValue() as topology):
            hub = value.coordinator or topology.hub
            return build_peer_graph(topology.pattern, topology.members, hub, topology.edges or ())
        case _:
            return PeerGraph({})


def _topology(value: TopologyValue) -> DirectivesByAgent:
    peers = peer_graph_of(value).peers
    return lambda name: (_communication(value, peers[name]),) if name in peers else ()


def _election(value: ElectionValue) -> DirectivesByAgent:
    topology, peers = value.topology, peer_graph_of(value).peers
    term = 1 if value.term is None else value.term
    coordinator: JsonDict = {"coordinator": value.coordinator, "term": term} if value.coordinator else {}

    def directives(name: str) -> tuple[DesiredDirective, ...]:
        communication: tuple[DesiredDirective, ...] = ()
        if topology is not None and name in peers:
            communication = (_communication(topology, peers[name], coordinator),)
        if name != value.coordinator:
            return communication
        role = {"role": str(AgentRole.COORDINATOR), "term": term}
        return (*communication, DesiredDirective(DirectiveAction.CHANGE_ROLE, role))

    return directives


def _communication(
    topology: TopologyValue, links: tuple[PeerLink, ...], coordinator: JsonDict | None = None
) -> DesiredDirective:
    peers = [_peer(link) for link in links]
    parameters = {"pattern": str(topology.pattern), "peers": peers} | (coordinator or {})
    return DesiredDirective(DirectiveAction.UPDATE_COMMUNICATION, parameters)


def _peer(link: PeerLink) -> JsonDict:
    """`{name, direction?}`; no direction means both."""
    return {"name": link.name} | ({} if link.direction is Direction.BOTH else {"direction": str(link.direction)})


# --- peers ------------------------------------------------------------------------------------------------------------


@memoize_by_identity
def peers_named_by(variable: OrchestrationVariable) -> NamesByAgent:
    """The peers that the variable's stored value names for an agent."""
    value = stored_value(variable)
    if isinstance(value, CustomDirectives):
        named = _custom_peers(value)
        return lambda name: named.get(name, ())
    peers = peer_graph_of(value).peers
    return lambda name: tuple(link.name for link in peers.get(name, ()))


@memoize_by_identity
def agents_naming_as_peer(variable: OrchestrationVariable) -> NamesByAgent:
    """The agents for which the variable's stored value names an agent as peer; in a topology every edge has both ends."""
    value = stored_value(variable)
    if not isinstance(value, CustomDirectives):
        return peers_named_by(variable)
    named = _custom_peers(value)
    return lambda name: tuple(agent for agent, peers in named.items() if name in peers)


def _custom_peers(value: CustomDirectives) -> dict[str, tuple[str, ...]]:
    """Agent name → its peers by the valid UpdateCommunication that it has last."""
    return {
        agent: tuple(peer["name"] for peer in one.parameters.get("peers") or ())
        for agent, directives in value.by_agent.items()
        for one in directives
        if one.action is DirectiveAction.UPDATE_COMMUNICATION and invalid_peers(one.parameters) is None
    }


def invalid_peers(parameters: JsonDict) -> str | None:
    """The problem with the parameters of an UpdateCommunication; None when its agent can be sent them."""
    peers = parameters.get("peers", [])
    if not isinstance(peers, list) or not all(_is_peer(peer) for peer in peers):
        return f"`peers` must be a list of {{name, direction?}}, not {peers!r:.40}"
    leader = parameters.get("coordinator")
    return None if leader is None or isinstance(leader, str) else f"`coordinator` must be a name, not {leader!r:.40}"


def _is_peer(peer: Any) -> bool:
    directions = (None, *map(str, Direction))
    return isinstance(peer, dict) and isinstance(peer.get("name"), str) and peer.get("direction") in directions
