"""A variable's value → what it tells one agent: one row per type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from mabeam.api.agent import AgentRole
from mabeam.api.base import JsonDict
from mabeam.api.directive import MAX_PARAMETER_NAME, MAX_PARAMETERS, DirectiveAction
from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.api.variable_blocks import CoordinationPattern
from mabeam.core.algorithms.peer_graph import Direction, PeerGraph, PeerLink, build_peer_graph
from mabeam.core.memoize import memoize_by_identity


@dataclass(frozen=True, slots=True)
class DesiredDirective:
    """What a variable's value means for one agent."""

    action: DirectiveAction
    parameters: JsonDict = field(default_factory=dict)


DirectivesByAgent = Callable[[str], tuple[DesiredDirective, ...]]
"""What each agent is told, by its name."""


def _parameter(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    same = (DesiredDirective(DirectiveAction.ADJUST_PARAMETERS, {variable.parameter: value}),)
    return lambda _: same


_ACTIVE: Final = (DesiredDirective(DirectiveAction.ACTIVATE, {"active": True}),)
_INACTIVE: Final[Mapping[str, tuple[DesiredDirective, ...]]] = {
    "Idle": (DesiredDirective(DirectiveAction.ACTIVATE, {"active": False}),),
    "Stop": (DesiredDirective(DirectiveAction.STOP),),
}


def _selection(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    requirements = variable.spec.task_requirements
    others = _INACTIVE[requirements.inactive_policy if requirements is not None else "Idle"]
    chosen = frozenset(_names(value, "active"))
    return lambda name: _ACTIVE if name in chosen else others


# The one parameter of AllocateResources that is no amount.
NETWORK_PRIORITY: Final = "networkPriority"


def _allocation(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    shares = value if isinstance(value, dict) else {}
    asked = variable.spec.resources
    besides = {NETWORK_PRIORITY: str(asked.network_priority)} if asked is not None and asked.network_priority else {}

    def tell(name: str) -> tuple[DesiredDirective, ...]:
        own = shares.get(name)
        return (DesiredDirective(DirectiveAction.ALLOCATE_RESOURCES, own | besides),) if isinstance(own, dict) else ()

    return tell


def wiring_of(value: Any) -> PeerGraph:
    """Who talks to whom by a topology's value; nobody to anybody when somebody else wrote it."""
    if not isinstance(value, dict) or value.get("pattern") not in list(CoordinationPattern):
        return PeerGraph({})
    found = value.get("edges")
    edges = [(str(e[0]), str(e[1])) for e in found if isinstance(e, list) and len(e) == 2] if _is_list(found) else []
    hub = _coordinator(value) or value.get("hub")
    return build_peer_graph(CoordinationPattern(value["pattern"]), _names(value, "members"), hub, edges)


_WIRED: Final = frozenset({OrchestrationType.COMMUNICATION_TOPOLOGY, OrchestrationType.COORDINATION_PATTERN})


NamesByAgent = Callable[[str], tuple[str, ...]]
"""Agents, by the name of one."""


@memoize_by_identity
def peers_named_by(variable: OrchestrationVariable) -> NamesByAgent:
    """Whom a variable names as an agent's peers by its stored status."""
    if variable.spec.type is OrchestrationType.CUSTOM:
        named = _named_peers(variable.status.value)
        return lambda name: named.get(name, ())
    if variable.spec.type not in _WIRED:
        return lambda _: ()
    wiring = wiring_of(variable.status.value)
    return lambda name: tuple(peer.name for peer in wiring.peers.get(name, ()))


@memoize_by_identity
def agents_naming_as_peer(variable: OrchestrationVariable) -> NamesByAgent:
    """To whom a variable names an agent as a peer; in a topology both ends of an edge know of each other."""
    if variable.spec.type is not OrchestrationType.CUSTOM:
        return peers_named_by(variable)
    named = _named_peers(variable.status.value)
    return lambda name: tuple(agent for agent, peers in named.items() if name in peers)


def _named_peers(value: Any) -> dict[str, tuple[str, ...]]:
    """The peers that a custom value's directives name, by agent."""
    found = value.get("directives") if isinstance(value, dict) else None
    named: dict[str, tuple[str, ...]] = {}
    for one in found if isinstance(found, list) else ():
        for told in parse_directive(one):
            if told.action is DirectiveAction.UPDATE_COMMUNICATION and invalid_peers(told.parameters) is None:
                named[str(one.get("agent"))] = tuple(peer["name"] for peer in told.parameters.get("peers") or ())
    return named


def invalid_peers(parameters: JsonDict) -> str | None:
    """What is wrong with the peers that a directive names; None when an agent can be told of them."""
    peers = parameters.get("peers", [])
    directions = (None, *map(str, Direction))
    sound = isinstance(peers, list) and all(
        isinstance(peer, dict) and isinstance(peer.get("name"), str) and peer.get("direction") in directions
        for peer in peers
    )
    if not sound:
        return f"`peers` must be a list of {{name, direction?}}, not {peers!r:.40}"
    leader = parameters.get("coordinator")
    return None if leader is None or isinstance(leader, str) else f"`coordinator` must be a name, not {leader!r:.40}"


def _topology(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    wiring = wiring_of(value)
    return lambda name: (_communication(wiring.peers[name], value),) if name in wiring.peers else ()


def _communication(peers: tuple[PeerLink, ...], value: Any) -> DesiredDirective:
    told: JsonDict = {"pattern": value["pattern"], "peers": [_peer(peer) for peer in peers]}
    if leader := _coordinator(value):
        told |= {"coordinator": leader, "term": _term(value)}
    return DesiredDirective(DirectiveAction.UPDATE_COMMUNICATION, told)


def _coordinator(value: Any) -> str | None:
    found = value.get("coordinator") if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None


def _term(value: JsonDict) -> int:
    found = value.get("term")
    return found if isinstance(found, int) and not isinstance(found, bool) else 1


def _peer(peer: PeerLink) -> JsonDict:
    return {"name": peer.name} | ({} if peer.direction is Direction.BOTH else {"direction": str(peer.direction)})


def _pattern(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    communicate = _topology(variable, value)
    leader = _coordinator(value)

    def tell(name: str) -> tuple[DesiredDirective, ...]:
        if name != leader:
            return communicate(name)
        told = {"role": str(AgentRole.COORDINATOR), "term": _term(value)}
        return (*communicate(name), DesiredDirective(DirectiveAction.CHANGE_ROLE, told))

    return tell


def _threshold(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    crossed = value if isinstance(value, dict) else {}
    return lambda name: parse_directive(crossed.get(name))


def _custom(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    """The value, as a parameter's; or the directives that it names."""
    if not isinstance(value, dict) or not isinstance(value.get("directives"), list):
        return _parameter(variable, value)
    told: dict[str, list[DesiredDirective]] = {}
    for one in value["directives"]:
        if isinstance(one, dict):
            told.setdefault(str(one.get("agent")), []).extend(parse_directive(one))
    return lambda name: tuple(told.get(name, ()))


def parse_directive(one: Any) -> tuple[DesiredDirective, ...]:
    """The directive that an object names; none when somebody else wrote it."""
    if not isinstance(one, dict) or one.get("action") not in list(DirectiveAction):
        return ()
    parameters = one.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    return (
        () if invalid_parameters(parameters) else (DesiredDirective(DirectiveAction(one["action"]), dict(parameters)),)
    )


def invalid_parameters(parameters: JsonDict) -> str | None:
    """Why no directive can carry these parameters; None when one can."""
    if len(parameters) > MAX_PARAMETERS:
        return f"with more than {MAX_PARAMETERS} parameters"
    long = next((name for name in parameters if len(name) > MAX_PARAMETER_NAME), None)
    return f"whose parameter {long!r:.60} has more than {MAX_PARAMETER_NAME} characters" if long else None


def _names(value: Any, key: str) -> tuple[str, ...]:
    found = value.get(key) if isinstance(value, dict) else None
    return tuple(name for name in found if isinstance(name, str)) if _is_list(found) else ()


def _is_list(found: Any) -> TypeGuard[list[Any]]:
    return isinstance(found, list)


DIRECTIVES_BY_TYPE: Final[Mapping[OrchestrationType, Callable[[OrchestrationVariable, Any], DirectivesByAgent]]] = {
    OrchestrationType.AGENT_SELECTION: _selection,
    OrchestrationType.RESOURCE_ALLOCATION: _allocation,
    OrchestrationType.COMMUNICATION_TOPOLOGY: _topology,
    OrchestrationType.ADAPTATION_RATE: _parameter,
    OrchestrationType.PERFORMANCE_THRESHOLD: _threshold,
    OrchestrationType.COORDINATION_PATTERN: _pattern,
    OrchestrationType.PARAMETER: _parameter,
    OrchestrationType.CUSTOM: _custom,
}


def _nothing(_: str) -> tuple[DesiredDirective, ...]:
    return ()


def directives_for_value(variable: OrchestrationVariable, value: Any) -> DirectivesByAgent:
    """What the variable tells each of its agents while `value` is in force."""
    return _nothing if value is None else DIRECTIVES_BY_TYPE[variable.spec.type](variable, value)


@memoize_by_identity
def desired_directives(variable: OrchestrationVariable) -> DirectivesByAgent:
    """What the variable tells each of its agents by its stored status; reckoned once, however many agents ask."""
    return directives_for_value(variable, variable.status.value)
