"""One simulation: virtual time, what is to happen in it, the timeline and the figures.

Deterministic to the byte: time, chance and order come from the scenario and the seed alone.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mabeam.api.agent import Agent, AgentEscalationPolicy
from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.supervisor import Supervisor, SupervisorStatus
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.decision import AnyStatus, Event
from mabeam.core.snapshot import Key, NamespacedName
from mabeam.offline.world import World
from mabeam.simulation.availability import Availability
from mabeam.simulation.cluster import MemoryCluster, SimulatedReports
from mabeam.simulation.passes import SimulatedOperator
from mabeam.simulation.scenario import Fault, FaultKind, FaultRate, Scenario
from mabeam.state.cache import AGENT, NODE, RESOURCE_QUOTA, SUPERVISOR, VARIABLE, Cache
from mabeam.state.parse_objects import NodeFacts

START: Final = datetime(2026, 1, 1, tzinfo=UTC)

# What the timeline calls the operator's Events; every other Event keeps its own name.
EVENT_NAMES: Final[Mapping[Reason, str]] = {
    Reason.AGENT_REGISTERED: "registered",
    Reason.AGENT_STARTED: "start",
    Reason.AGENT_FAILED: "failure",
    Reason.AGENT_DISRUPTED: "disruption",
    Reason.AGENT_STOPPED: "end",
    Reason.AGENT_PROBED: "probe",
    Reason.AGENT_RELEASED: "release",
    Reason.GROUP_RESTARTED: "group restart",
    Reason.RESTART_BUDGET_EXHAUSTED: "park",
    Reason.PARKED_BY_RULE: "park",
    Reason.MIGRATING: "move",
    Reason.AGENT_MIGRATED: "start",
    Reason.AUTO_SHUTDOWN: "shutdown",
}

Moment = tuple[datetime, bool, Fault, NamespacedName | None]  # whether it is by chance


@dataclass
class Simulation:
    """One run of one scenario with one seed, from the moment at which the world's objects were applied.

    Statuses, pods, ConfigMaps and policies of the world are left out: everything begins as just applied.
    """

    world: World
    scenario: Scenario
    seed: int
    applied: Cache | None = None  # `world.cache()`, for those who simulate a world more than once
    cluster: MemoryCluster = field(init=False)
    operator: SimulatedOperator = field(init=False)
    timeline: list[JsonDict] = field(default_factory=list)
    availability: dict[Key, Availability] = field(default_factory=dict)  # of every Agent and Supervisor

    def __post_init__(self) -> None:
        self.cluster = MemoryCluster(self.scenario, START)
        _apply_world(self.world, self.applied or self.world.cache(), self.cluster.cache, self.seed)
        reports = SimulatedReports(self.cluster, self.world.reports)
        self.operator = SimulatedOperator(self.cluster, self._on_status, reports)
        keys = self.operator.all_keys()
        self.availability = {key: Availability() for key in keys if key.kind in (AGENT, SUPERVISOR)}

    def run(self, until: float) -> None:
        """Play the scenario for so many seconds of virtual time."""
        end = START + timedelta(seconds=until)
        script = self._script(until)
        upcoming = next(script, None)
        self.operator.settle(self.operator.all_keys())
        while True:
            look_again = min(self.operator.due.values(), default=end)
            due = self.cluster.due[0][0] if self.cluster.due else end
            at = min(look_again, due, upcoming[0] if upcoming else end)
            if at >= end:
                break
            self.cluster.now = max(self.cluster.now, at)
            self.cluster.tick()
            keys = [key for key, at in self.operator.due.items() if at <= self.cluster.now]
            while upcoming is not None and upcoming[0] <= self.cluster.now:
                keys += [Key(AGENT, *name) for name in self._inject(upcoming)]
                upcoming = next(script, None)
            self.operator.settle(keys)
        self.cluster.now = end
        for one in self.availability.values():
            one.pass_time(self.seconds())

    def seconds(self) -> float:
        """The virtual time, in seconds from the start."""
        return (self.cluster.now - START).total_seconds()

    # --- what is to come --------------------------------------------------------------------------------------------------

    def _script(self, until: float) -> Iterator[Moment]:
        """All faults in the order of their times, those by chance drawn as they are needed."""
        scripted = (
            (START + timedelta(seconds=fault.at), False, fault, self._place_of(fault))
            for fault in sorted(self.scenario.faults, key=lambda fault: fault.at)
        )
        streams = [
            self._by_chance(rate, number, place, ordinal, until)
            for number, rate in enumerate(self.scenario.rates)
            for place, agent in sorted(self.world.agents.items())
            if rate.agent in (None, place[1])
            for ordinal in range(agent.spec.replicas)
        ]
        return heapq.merge(scripted, *streams, key=lambda moment: moment[:2])

    def _place_of(self, fault: Fault) -> NamespacedName | None:
        return next((place for place in sorted(self.world.agents) if place[1] == fault.agent), None)

    def _by_chance(
        self, rate: FaultRate, number: int, place: NamespacedName, ordinal: int, until: float
    ) -> Iterator[Moment]:
        """A replica's own stream: another agent more or less changes nothing for it."""
        at = 0.0
        for draw in itertools.count():
            seed = f"{self.seed}:{number}:{'/'.join(place)}:{ordinal}:{draw}"
            unit = (int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest()) + 1) / (2**64 + 1)
            at += -math.log(unit) * rate.mean_seconds
            if at >= until:
                return
            fault = Fault(at=at, kind=rate.kind, agent=place[1], ordinal=ordinal, exit_code=rate.exit_code)
            yield START + timedelta(seconds=at), True, fault, place

    def _inject(self, moment: Moment) -> list[NamespacedName]:
        """The agents that a fault hit. A scripted fault that finds no process is noted; one by chance is not."""
        _, by_chance, fault, place = moment
        hit = self.cluster.inject(fault, place)
        note = f"{fault.kind} {fault.exit_code}" if fault.kind is FaultKind.EXIT else str(fault.kind)
        if hit or not by_chance:
            about = f"Node/{fault.node}" if place is None else f"Agent/{'/'.join(place)}"
            which = (
                "" if place is None or self.world.agents[place].spec.replicas == 1 else f" of replica {fault.ordinal}"
            )
            self._record("fault", about, note + which + ("" if hit else ": finds no running process, nothing happens"))
        return hit

    # --- what is kept -----------------------------------------------------------------------------------------------------

    def _on_status(self, key: Key, before: AnyStatus, after: AnyStatus, events: tuple[Event, ...]) -> None:
        name = (key.namespace, key.name)
        cache = self.cluster.cache
        found: Agent | Supervisor | None = None
        if isinstance(before, AgentStatus):
            found = cache.agents[name].agent
            kin = cache.supervisors_by_name(name[0])
            self.availability[key].see_agent(found, before, kin, self.seconds())
        elif isinstance(before, SupervisorStatus):
            found = cache.supervisors[name].supervisor
            self.availability[key].see_supervisor(found, before)
        for event in events:
            self._record(_event_name(event, found), f"{key.kind}/{'/'.join(name)}", event.note)

    def _record(self, what: str, about: str, note: str) -> None:
        self.timeline.append({"at": round(self.seconds(), 3), "what": what, "about": about, "note": note})


def _apply_world(world: World, applied: Cache, cache: Cache, seed: int) -> None:
    """Fill a new cache with the world's objects as they are right after `kubectl apply`: without statuses and pods.

    An agent without a uid gets its own, which differs from run to run as on a cluster: jitter depends on it.
    """
    for name, written in world.agents.items():
        parsed = applied.agents[name]
        uid = written.metadata.uid or f"{seed}:{'/'.join(name)}"
        metadata = parsed.agent.metadata.model_copy(update={"uid": uid})
        agent = parsed.agent.model_copy(update={"metadata": metadata, "status": AgentStatus(conditions=())})
        cache.put(AGENT, name, replace(parsed, agent=agent))
    for name in world.variables:
        variable = applied.variables[name]
        fresh = variable.variable.model_copy(update={"status": OrchestrationVariableStatus(conditions=())})
        cache.put(VARIABLE, name, replace(variable, variable=fresh))
    for name in world.supervisors:
        supervisor = applied.supervisors[name]
        reset = supervisor.supervisor.model_copy(update={"status": SupervisorStatus(conditions=())})
        cache.put(SUPERVISOR, name, replace(supervisor, supervisor=reset))
    for name, quota in applied.quotas.items():
        cache.put(RESOURCE_QUOTA, name, quota)
    for name, node in (applied.nodes or {("", "node-1"): NodeFacts()}).items():
        cache.put(NODE, name, node)


def _event_name(event: Event, found: Agent | Supervisor | None) -> str:
    if found is None:
        return str(event.reason)
    if (
        event.reason in (Reason.RESTART_BUDGET_EXHAUSTED, Reason.PARKED_BY_RULE)
        and found.status.supervision is not None
    ):
        policy = found.spec.fault_tolerance.escalation_policy if isinstance(found, Agent) else None
        return "escalation" if policy in (None, AgentEscalationPolicy.ESCALATE) else "park"
    if event.reason is Reason.AGENT_STARTED and isinstance(found, Agent):
        return "start" if event.note.partition(" ")[0].endswith("-1") else "restart"
    if event.action == "Stop":
        return "stop"
    return EVENT_NAMES.get(event.reason, str(event.reason))
