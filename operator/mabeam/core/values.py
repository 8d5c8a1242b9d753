"""The value of an OrchestrationVariable as one frozen type per `spec.type`.

Strategies return these types, and the directives of the agents are made from them. Statuses, records and function calls carry
plain JSON: `parse_value` reads it, `to_json` writes it. A stored value may have been edited by hand, or may stem from another
`spec.type`: each part that cannot be read is left out, and None is returned when nothing can be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mabeam.api.base import JsonDict, format_time
from mabeam.api.directive import MAX_PARAMETER_NAME, MAX_PARAMETERS, DirectiveAction
from mabeam.api.variable import OrchestrationType
from mabeam.api.variable_blocks import CoordinationPattern
from mabeam.core.conventions.times import parse_instant

# --- a directive inside a value --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DesiredDirective:
    """One action of one agent that follows from a variable's value, before priority, delivery and acknowledgement."""

    action: DirectiveAction
    parameters: JsonDict = field(default_factory=dict)  # parameter name → JSON value

    def to_json(self) -> JsonDict:
        """`{action, parameters}`."""
        return {"action": str(self.action), "parameters": self.parameters}


def parse_directive(json: Any) -> DesiredDirective | None:
    """The directive in `{action, parameters?}`; None for an unknown action or parameters that no directive can carry."""
    if not isinstance(json, dict) or json.get("action") not in list(DirectiveAction):
        return None
    found = json.get("parameters")
    parameters = dict(found) if isinstance(found, dict) else {}
    return None if invalid_parameters(parameters) else DesiredDirective(DirectiveAction(json["action"]), parameters)


def invalid_parameters(parameters: JsonDict) -> str | None:
    """Why no directive can carry these parameters; None when one can."""
    if len(parameters) > MAX_PARAMETERS:
        return f"with more than {MAX_PARAMETERS} parameters"
    long = next((name for name in parameters if len(name) > MAX_PARAMETER_NAME), None)
    return f"whose parameter {long!r:.60} has more than {MAX_PARAMETER_NAME} characters" if long else None


# --- one type per spec.type ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParameterValue:
    """Parameter: a value of `spec.domain`, the same for every agent."""

    value: Any  # number, text or object, by `spec.domain.type`

    def to_json(self) -> Any:
        """The value itself."""
        return self.value


@dataclass(frozen=True, slots=True)
class RateValue:
    """AdaptationRate: the rate, the same for every agent."""

    rate: Any  # a number, unless `spec.domain` is one of choices or objects

    def to_json(self) -> Any:
        """The rate itself."""
        return self.rate


@dataclass(frozen=True, slots=True)
class SelectionValue:
    """AgentSelection: the agents that are active; every other agent of the variable is inactive."""

    active: tuple[str, ...]  # agent names, sorted

    def to_json(self) -> JsonDict:
        """`{active: [agent]}`."""
        return {"active": list(self.active)}


@dataclass(frozen=True, slots=True)
class AllocationValue:
    """ResourceAllocation: each agent's share; an agent without an entry keeps what its own spec declares."""

    shares: Mapping[str, JsonDict]  # agent name → resource name → quantity for each replica

    def to_json(self) -> JsonDict:
        """`{agent: {resource: quantity}}`."""
        return dict(self.shares)


@dataclass(frozen=True, slots=True)
class TopologyValue:
    """CommunicationTopology: the pattern and its members, from which each member's peers follow."""

    pattern: CoordinationPattern
    members: tuple[str, ...]  # agent names, in the order that the pattern uses
    hub: str | None = None  # centre of a Star, source of a Broadcast; None: the first member
    edges: tuple[tuple[str, str], ...] | None = None  # (from, to) of a Custom pattern; None for the named patterns

    def to_json(self) -> JsonDict:
        """`{pattern, members, hub?, edges?}`."""
        json: JsonDict = {"pattern": str(self.pattern), "members": list(self.members)}
        if self.hub is not None:
            json["hub"] = self.hub
        if self.edges is not None:
            json["edges"] = [list(edge) for edge in self.edges]
        return json


@dataclass(frozen=True, slots=True)
class ElectionValue:
    """CoordinationPattern: a topology, and the coordinator elected among its members."""

    topology: TopologyValue | None  # None: a stored value whose pattern cannot be read
    coordinator: str | None  # agent name; None: a stored value without a name
    term: int | None  # raised by one with each new coordinator; None: a stored value without a whole number

    def to_json(self) -> JsonDict:
        """`{pattern, members, edges?, coordinator, term}`."""
        json = self.topology.to_json() if self.topology is not None else {}
        own = {"coordinator": self.coordinator, "term": self.term}
        return json | {key: part for key, part in own.items() if part is not None}


@dataclass(frozen=True, slots=True)
class ThresholdEntry:
    """One agent whose metric went beyond the bound, or came back, and what it was directed to do then."""

    state: str  # "Breached" or "Recovered"; a stored value may hold anything
    directive: DesiredDirective
    since: datetime | None  # when the directive was decided, in whole seconds; None: no readable time

    def to_json(self) -> JsonDict:
        """`{state, action, parameters, since}`."""
        json = {"state": self.state, **self.directive.to_json()}
        return json if self.since is None else json | {"since": format_time(self.since)}


@dataclass(frozen=True, slots=True)
class ThresholdValue:
    """PerformanceThreshold: the agents that have a directive."""

    entries: Mapping[str, ThresholdEntry]  # agent name → its entry

    def to_json(self) -> JsonDict:
        """`{agent: {state, action, parameters, since}}`."""
        return {name: entry.to_json() for name, entry in self.entries.items()}


@dataclass(frozen=True, slots=True)
class CustomValue:
    """Custom: what the function returned, the same for every agent."""

    value: Any

    def to_json(self) -> Any:
        """The value itself."""
        return self.value


@dataclass(frozen=True, slots=True)
class CustomDirectives:
    """Custom: the directives that the function returned, agent by agent."""

    by_agent: Mapping[str, tuple[DesiredDirective, ...]]  # agent name → its directives

    def to_json(self) -> JsonDict:
        """`{directives: [{agent, action, parameters}]}`."""
        listed = [{"agent": agent, **one.to_json()} for agent, own in self.by_agent.items() for one in own]
        return {"directives": listed}


Value = (
    ParameterValue
    | RateValue
    | SelectionValue
    | AllocationValue
    | TopologyValue
    | ElectionValue
    | ThresholdValue
    | CustomValue
    | CustomDirectives
)


# --- JSON → value ----------------------------------------------------------------------------------------------------------


def parse_value(type_: OrchestrationType, json: Any) -> Value | None:
    """The value that JSON holds for a variable of that type; None for null and for JSON of another shape."""
    return None if json is None else PARSERS[type_](json)


def parse_selection(json: Any) -> SelectionValue:
    """The active agents of `{active: [agent]}`; no agent is active by any other JSON."""
    return SelectionValue(_names(json, "active"))


def parse_allocation(json: Any) -> AllocationValue | None:
    """The shares of `{agent: {resource: quantity}}`; quantities are checked where the directive is (`directives/validity`)."""
    if not isinstance(json, dict):
        return None
    return AllocationValue({name: share for name, share in json.items() if isinstance(share, dict)})


def parse_topology(json: Any) -> TopologyValue | None:
    """The topology of `{pattern, members, hub?, edges?}`; None without a known pattern."""
    if not isinstance(json, dict) or json.get("pattern") not in list(CoordinationPattern):
        return None
    edges = json.get("edges")
    return TopologyValue(
        pattern=CoordinationPattern(json["pattern"]),
        members=_names(json, "members"),
        hub=_name(json.get("hub")),
        edges=tuple((str(e[0]), str(e[1])) for e in edges if isinstance(e, list) and len(e) == 2)
        if isinstance(edges, list)
        else None,
    )


def parse_election(json: Any) -> ElectionValue | None:
    """The election of `{pattern, members, edges?, coordinator, term}`; None for JSON that is not an object."""
    if not isinstance(json, dict):
        return None
    term = json.get("term")
    return ElectionValue(
        topology=parse_topology(json),
        coordinator=_name(json.get("coordinator")),
        term=term if isinstance(term, int) and not isinstance(term, bool) else None,
    )


def parse_threshold(json: Any) -> ThresholdValue | None:
    """The entries of `{agent: {state, action, parameters?, since?}}` whose directive can be read."""
    if not isinstance(json, dict):
        return None
    entries = {name: entry for name, item in json.items() if (entry := parse_threshold_entry(item)) is not None}
    return ThresholdValue(entries)


def parse_threshold_entry(json: Any) -> ThresholdEntry | None:
    """The entry of `{state, action, parameters?, since?}`; None without a readable directive."""
    directive = parse_directive(json)
    if directive is None:
        return None
    state = json.get("state")
    return ThresholdEntry(state if isinstance(state, str) else "", directive, parse_instant(json.get("since")))


def parse_custom(json: Any) -> CustomValue | CustomDirectives:
    """The directives of `{directives: [{agent, action, parameters?}]}`, without those that cannot be read; else the value."""
    found = json.get("directives") if isinstance(json, dict) else None
    if not isinstance(found, list):
        return CustomValue(json)
    by_agent: dict[str, tuple[DesiredDirective, ...]] = {}
    for item in found:
        directive = parse_directive(item)
        if directive is not None:
            name = str(item.get("agent"))
            by_agent[name] = (*by_agent.get(name, ()), directive)
    return CustomDirectives(by_agent)


def _names(json: Any, key: str) -> tuple[str, ...]:
    found = json.get(key) if isinstance(json, dict) else None
    return tuple(name for name in found if isinstance(name, str)) if isinstance(found, list) else ()


def _name(json: Any) -> str | None:
    return json if isinstance(json, str) and json else None


PARSERS: Final[Mapping[OrchestrationType, Callable[[Any], Value | None]]] = {
    OrchestrationType.AGENT_SELECTION: parse_selection,
    OrchestrationType.RESOURCE_ALLOCATION: parse_allocation,
    OrchestrationType.COMMUNICATION_TOPOLOGY: parse_topology,
    OrchestrationType.ADAPTATION_RATE: RateValue,
    OrchestrationType.PERFORMANCE_THRESHOLD: parse_threshold,
    OrchestrationType.COORDINATION_PATTERN: parse_election,
    OrchestrationType.PARAMETER: ParameterValue,
    OrchestrationType.CUSTOM: parse_custom,
}
