"""Findings about variables: what the operator itself would say of them just after they are applied, and who competes.

Each variable is decided once by the operator's own path, over the world without statuses and pods. So a function that does not
compile, a selector that matches nothing or a misspelt protocol is found here in the operator's words.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Final

from mabeam.api.base import ConditionStatus, JsonDict
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.conventions.conditions import find_condition
from mabeam.core.coordination.gate import BY_FALLBACK
from mabeam.core.snapshot import Key, NamespacedName
from mabeam.offline.finding import Finding, Level
from mabeam.offline.plan import Planner
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
    spaces, competitors = {space for space, _ in world.agents}, _competitors(world)
    findings: list[Finding] = []
    for space, name in sorted(world.variables):
        about = f"OrchestrationVariable/{space}/{name}"
        wrong = _found_by_deciding(planner, (space, name), space not in spaces)
        findings += (Finding(level, about, text) for level, text in wrong)
        findings += (Finding("warning", about, text) for text in competitors.get((space, name), ()))
    return tuple(findings)


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
        refused = condition.type == ConditionType.ACCEPTED and condition.status is ConditionStatus.FALSE
        stalled = condition.type == ConditionType.STALLED and condition.status is ConditionStatus.TRUE
        if (refused or stalled) and condition.message not in seen:
            seen.add(condition.message)
            absent = condition.reason == Reason.AGENT_UNAVAILABLE
            yield (_absence(without_agents) if absent else "error"), condition.message
    ready = find_condition(decision.status.conditions, ConditionType.READY)
    for event in decision.events:
        if event.type == "Warning" and not any(text in event.note for text in seen):
            seen.add(event.note)
            yield _level_of_failure(ready.reason if ready is not None else "", event.note, without_agents), event.note


def _level_of_failure(reason: str, note: str, without_agents: bool) -> Level:
    """How grave the failure of a first decision is; one for which the author has named a fallback value is foreseen."""
    if BY_FALLBACK in note:
        return "note"
    if reason == Reason.AGENT_UNAVAILABLE:
        return _absence(without_agents)
    return "error" if reason == Reason.FUNCTION_FAILED else "warning"


def _absence(without_agents: bool) -> Level:
    """How grave missing agents are: files without any hold a part, and the agents are somewhere else."""
    return "note" if without_agents else "warning"


def _competitors(world: World) -> dict[NamespacedName, list[str]]:
    """By variable: what is to say of those later in the order of names that set the same parameter at the same priority."""
    alike: dict[tuple[str, str, int], list[NamespacedName]] = {}
    for place, variable in sorted(world.variables.items()):
        alike.setdefault((place[0], variable.parameter, variable.spec.priority), []).append(place)
    found: dict[NamespacedName, list[str]] = {}
    for (_, parameter, priority), places in alike.items():
        for first, second in combinations(places, 2):
            shared = _shared_agents(world, world.variables[first], world.variables[second])
            if shared:
                found.setdefault(first, []).append(
                    f"{second[1]} sets {parameter} of {', '.join(shared[:3])}{' …' if len(shared) > 3 else ''} too, with the"
                    f" same priority {priority}: the older one wins; give one of them another `spec.priority`"
                )
    return found


def _shared_agents(world: World, one: OrchestrationVariable, other: OrchestrationVariable) -> list[str]:
    return [
        name
        for (space, name), agent in sorted(world.agents.items())
        if space == one.metadata.namespace
        and all(variable.selects(name, agent.metadata.labels or {}) for variable in (one, other))
    ]
