"""What is to happen: faults at given times, faults by chance at given rates, and how fast the cluster starts and stops a pod."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError

from mabeam.api.base import JsonDict, KubeModel, ObjectName, Rule
from mabeam.shell.parse import explain
from mabeam.worldfile import BadWorld, World

MAX_SECONDS = 31_536_000.0  # a year of virtual time
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


class FaultKind(StrEnum):
    """What befalls a pod, or a whole node."""

    EXIT = "Exit"
    OOM = "OOM"
    EVICT = "Evict"
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
    exit_code: Annotated[int, Field(ge=0, le=255)] = 1
    rules: ClassVar[tuple[Rule, ...]] = (_WHERE,)


class Rate(KubeModel):
    """Faults of each replica of an agent (of every agent without one) by chance: exponential times, `meanSeconds` apart."""

    mean_seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
    kind: FaultKind = FaultKind.EXIT
    agent: ObjectName | None = None
    exit_code: Annotated[int, Field(ge=0, le=255)] = 1
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(None, "`kind` must befall a pod, not a node", lambda rate: rate.kind is not FaultKind.NODE_LOST),
    )


class Scenario(KubeModel):
    """The script of a rehearsal."""

    api_version: str = "mabeam.dev/simulate"
    kind: str = "Scenario"
    metadata: dict[str, Any] = {}
    start_seconds: Annotated[Seconds, Field(description="From a pod's creation to its being ready.")] = 2
    stop_seconds: Annotated[Seconds, Field(description="From being asked to stop to being gone.")] = 1
    faults: Annotated[tuple[Fault, ...], Field(max_length=10_000)] = ()
    rates: Annotated[tuple[Rate, ...], Field(max_length=1000)] = ()


def read_scenario(world: World, document: JsonDict | None) -> Scenario:
    """The scenario in the world's document, an empty one without it; raises BadWorld naming the field."""
    try:
        scenario = Scenario.model_validate(document or {})
    except ValidationError as error:
        raise BadWorld(f"Scenario: {explain(error, model=Scenario)}") from None
    known = {name for _, name in world.agents}
    named = [(f"faults.{place}", fault.agent) for place, fault in enumerate(scenario.faults)]
    named += [(f"rates.{place}", rate.agent) for place, rate in enumerate(scenario.rates)]
    for where, agent in named:
        if agent is not None and agent not in known:
            allowed = ", ".join(sorted(known)[:8]) or "none, for the world has no Agent"
            raise BadWorld(f"Scenario: {where}.agent: {agent!r} is not in the world; allowed: {allowed}")
    return scenario
