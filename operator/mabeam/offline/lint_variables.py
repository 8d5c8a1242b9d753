"""Findings about variables: what the operator itself would say of them just after they are applied, and who competes.

Each variable is decided once by the operator's own path, over the world without statuses and pods. So a function that does not
compile, a selector that matches nothing or a misspelt protocol is found here in the operator's words.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.snapshot import Key, NamespacedName
from mabeam.offline.finding import Finding, Level
from mabeam.offline.plan import Planner
from mabeam.offline.plan_summary import FALLBACK
from mabeam.offline.world import World
from mabeam.state.cache import AGENT, NODE, RESOURCE_QUOTA, SUPERVISOR, VARIABLE

# Of no consequence but for times in statuses, which nobody reads here.
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_APPLIED: Final = (AGENT, VARIABLE, SUPERVISOR, NODE, RESOURCE_QUOTA)


def of_variables(world: World) -> tuple[Finding, ...]:
    """What is found about variables, in order of their names."""
    if not world.variables:
        return ()
    planner = Planner(_just_applied(world))
    spaces = {space for space, _ in world.agents}
    return tuple(
        Finding(level, f"OrchestrationVariable/{space}/{name}", text)
        for space, name in sorted(world.variables)
        for level, text in (
            *_found_by_deciding(planner, (space, name), space not in spaces),
            *_competitors(world, (space, name)),
        )
    )


def _just_applied(world: World) -> World:
    """The world as it is right after `kubectl apply`: without statuses, pods and what the operator has made."""
    bodies = {
        kind: {name: _without_status(kind, body) for name, body in world.bodies.get(kind, {}).items()}
        for kind in _APPLIED
    }
    return replace(world, bodies={kind: found for kind, found in bodies.items() if found})


def _without_status(kind: str, body: JsonDict) -> JsonDict:
    if kind in (NODE, RESOURCE_QUOTA):
        return body  # what a node offers and a quota leaves is no status of the operator's
    return {field: value for field, value in body.items() if field != "status"}


def _found_by_deciding(planner: Planner, name: NamespacedName, without_agents: bool) -> Iterator[tuple[Level, str]]:
    """What a first decision says is wrong, each thing once."""
    decision = planner.decide(Key(VARIABLE, *name), _NOW)
    seen: set[str] = set()
    for condition in decision.status.conditions:
        refused = condition.type == "Accepted" and condition.status == "False"
        stalled = condition.type == "Stalled" and condition.status == "True"
        if (refused or stalled) and condition.message not in seen:
            seen.add(condition.message)
            absent = condition.reason == Reason.AGENT_UNAVAILABLE
            yield (_level(str(condition.reason), without_agents) if absent else "error"), condition.message
    for event in decision.events:
        if event.type == "Warning" and not any(text in event.note for text in seen):
            seen.add(event.note)
            yield _level(event.note, without_agents), event.note


def _level(note: str, without_agents: bool) -> Level:
    """How grave a Warning of a first decision is. Files without an Agent hold a part: the agents are somewhere else."""
    if FALLBACK in note or (without_agents and str(Reason.AGENT_UNAVAILABLE) in note):
        return "note"
    return "error" if f" by {Reason.FUNCTION_FAILED}: " in note else "warning"


def _competitors(world: World, name: NamespacedName) -> Iterator[tuple[Level, str]]:
    """The variables later in the order of names that set the same parameter of the same agent with the same priority."""
    for first, second in combinations(sorted(world.variables), 2):
        if first != name or second[0] != name[0]:
            continue
        one, other = world.variables[first], world.variables[second]
        shared = _shared_agents(world, one, other)
        if one.parameter == other.parameter and one.spec.priority == other.spec.priority and shared:
            yield (
                "warning",
                f"{second[1]} sets {one.parameter} of {', '.join(shared[:3])}{' …' if len(shared) > 3 else ''} too, with the"
                f" same priority {one.spec.priority}: the older one wins; give one of them another `spec.priority`",
            )


def _shared_agents(world: World, one: OrchestrationVariable, other: OrchestrationVariable) -> list[str]:
    return [
        name
        for (space, name), agent in sorted(world.agents.items())
        if space == one.metadata.namespace
        and all(variable.selects(name, agent.metadata.labels or {}) for variable in (one, other))
    ]
