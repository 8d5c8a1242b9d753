"""What is to happen: faults at given times, faults by chance at given rates, and how fast each agent's pods start and stop."""

import json
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict, KubeModel, ObjectName, Rule
from mabeam.offline.documents import InvalidWorld
from mabeam.offline.world import World
from mabeam.state.parse_objects import describe_validation_error

MAX_SECONDS = 31_536_000.0  # a year of virtual time
MIN_MEAN_SECONDS = 0.001
MAX_CHANCE_FAULTS = 1_000_000  # expected in one run: minutes of work
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
ExitCode = Annotated[int, Field(ge=0, le=255, description="Of the kind Exit; 0 is a normal exit.")]


class FaultKind(StrEnum):
    """The kinds of faults of a pod, or of a whole node."""

    EXIT = "Exit"
    OOM = "OOM"
    HANG = "Hang"
    EVICT = "Evict"
    PREEMPT = "Preempt"
    DELETE = "Delete"
    REPORT = "Report"
    NODE_LOST = "NodeLost"


_WHERE = Rule(
    None,
    "exactly one of `agent` and `node` must be set, and `node` goes with NodeLost alone",
    lambda fault: (
        (fault.node is not None) == (fault.kind is FaultKind.NODE_LOST)
        and (fault.agent is None) == (fault.node is not None)
    ),
)


class Fault(KubeModel):
    """One fault at one time, in seconds from the start."""

    at: Seconds
    kind: FaultKind = FaultKind.EXIT
    agent: ObjectName | None = None
    ordinal: Annotated[int, Field(ge=0, le=1000)] = 0
    node: ObjectName | None = None
    exit_code: ExitCode = 1
    rules: ClassVar[tuple[Rule, ...]] = (_WHERE,)


class FaultRate(KubeModel):
    """Faults of each replica of an agent (of every agent without one) by chance: exponential times, `meanSeconds` apart."""

    mean_seconds: Annotated[float, Field(ge=MIN_MEAN_SECONDS, le=MAX_SECONDS, allow_inf_nan=False)]
    kind: FaultKind = FaultKind.EXIT
    agent: ObjectName | None = None
    exit_code: ExitCode = 1
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            None,
            f"`kind` must be a fault of a pod, not of a node; allowed: {', '.join(k for k in FaultKind if k != 'NodeLost')}",
            lambda rate: rate.kind is not FaultKind.NODE_LOST,
        ),
    )


class Timing(KubeModel):
    """How fast one agent's pods start and stop, where that differs from all others'."""

    agent: ObjectName
    start_seconds: Seconds | None = None
    stop_seconds: Seconds | None = None


class Scenario(KubeModel):
    """The scripted and random faults of a simulation, and its times."""

    api_version: str = "mabeam.dev/simulate"
    kind: str = "Scenario"
    metadata: dict[str, Any] = {}
    start_seconds: Annotated[Seconds, Field(description="From a pod's creation to its being ready.")] = 2
    stop_seconds: Annotated[Seconds, Field(description="From being asked to stop to being gone.")] = 1
    timings: Annotated[tuple[Timing, ...], Field(max_length=1000)] = ()
    faults: Annotated[tuple[Fault, ...], Field(max_length=10_000)] = ()
    rates: Annotated[tuple[FaultRate, ...], Field(max_length=1000)] = ()

    def start_of(self, agent: str) -> float:
        """How long a pod of that agent takes to be ready."""
        return self._own.get(agent, self._others)[0]

    def stop_of(self, agent: str) -> float:
        """How long a pod of that agent takes to stop."""
        return self._own.get(agent, self._others)[1]

    @property
    def _others(self) -> tuple[float, float]:
        return self.start_seconds, self.stop_seconds

    @cached_property
    def _own(self) -> dict[str, tuple[float, float]]:
        return {
            one.agent: (
                self.start_seconds if one.start_seconds is None else one.start_seconds,
                self.stop_seconds if one.stop_seconds is None else one.stop_seconds,
            )
            for one in self.timings
        }


def read_scenario(world: World, document: JsonDict | None) -> Scenario:
    """The scenario in the world's document, an empty one without it; raises InvalidWorld naming the field."""
    try:
        scenario = Scenario.model_validate_json(json.dumps(document or {}), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidWorld(f"Scenario: {describe_validation_error(error, model=Scenario)}") from None
    problem = next(_problems(world, scenario), None)
    if problem is not None:
        raise InvalidWorld(f"Scenario: {problem}")
    return scenario


def check_length(world: World, scenario: Scenario, seconds: float) -> None:
    """Nothing when a run of so many seconds has a bounded number of faults by chance; raises InvalidWorld naming the rate."""
    for number, rate in enumerate(scenario.rates):
        replicas = sum(agent.spec.replicas for (_, name), agent in world.agents.items() if rate.agent in (None, name))
        expected = replicas * seconds / rate.mean_seconds
        if expected > MAX_CHANCE_FAULTS:
            raise InvalidWorld(
                f"Scenario: rates.{number}.meanSeconds: about {expected:.3g} faults in {seconds:g} s for {replicas} replicas; "
                f"at most {MAX_CHANCE_FAULTS:,} in a run: make it longer, or --until shorter"
            )


def _problems(world: World, scenario: Scenario) -> Iterator[str]:
    """What names something that the world has not: such a fault would silently never happen."""
    agents: dict[str, list[Agent]] = {}
    for (_, name), agent in sorted(world.agents.items()):
        agents.setdefault(name, []).append(agent)
    if not agents:
        yield "there is nothing to simulate: the world has no Agent"
    parts: tuple[tuple[str, Sequence[Fault | FaultRate | Timing]], ...] = (
        ("faults", scenario.faults),
        ("rates", scenario.rates),
        ("timings", scenario.timings),
    )
    for where, one in ((f"{part}.{at}", one) for part, found in parts for at, one in enumerate(found)):
        if one.agent is not None and one.agent not in agents:
            yield f"{where}.agent: {one.agent!r} is not in the world; allowed: {_some(agents)}"
        elif isinstance(one, Fault):
            yield from (f"{where}.{problem}" for problem in _of_fault(one, agents.get(one.agent or "", []), world))
        if isinstance(one, Fault | FaultRate) and one.kind is FaultKind.HANG:
            meant = [one.agent] if one.agent is not None else sorted(agents)
            blind = [name for name in meant if not all(map(_watches_progress, agents.get(name, ())))]
            if blind:
                yield f"{where}.kind: Hang is seen only with `progressTimeoutSeconds`, which {blind[0]} does not set"


def _of_fault(fault: Fault, agents: Sequence[Agent], world: World) -> Iterator[str]:
    nodes = world.nodes
    if len(agents) > 1:
        yield f"agent: {fault.agent!r} is in {len(agents)} namespaces; simulate one at a time"
    if fault.node is not None and fault.node not in nodes:
        hint = "" if nodes else "; give it one: {apiVersion: v1, kind: Node, metadata: {name: node-1}}"
        yield f"node: {fault.node!r} is not in the world; allowed: {_some(nodes)}{hint}"
    if any(fault.ordinal >= agent.spec.replicas for agent in agents):
        yield f"ordinal: {fault.agent} has {agents[0].spec.replicas} replicas, counted from 0 (found {fault.ordinal})"


def _watches_progress(agent: Agent) -> bool:
    return agent.spec.fault_tolerance.progress_timeout_seconds is not None


def _some(names: Iterable[str]) -> str:
    known = sorted(names)
    return ", ".join(known[:8]) + (" …" if len(known) > 8 else "") or "none, for the world has none"
