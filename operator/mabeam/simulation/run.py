"""The rehearsal itself: virtual time, what is to happen in it, the timeline and the figures.

Deterministic to the byte: time, chance and order come from the scenario and the seed alone.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from mabeam.api.agent import Agent, AgentEscalationPolicy
from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.supervisor import ChildKind, Supervisor, SupervisorStatus
from mabeam.core.decision import Event
from mabeam.core.snapshot import NamespacedName
from mabeam.offline.world import World
from mabeam.simulation.availability import Availability
from mabeam.simulation.cluster import MemoryCluster
from mabeam.simulation.passes import Key, SimulatedOperator
from mabeam.simulation.scenario import Fault, FaultKind, Rate, Scenario

START: Final = datetime(2026, 1, 1, tzinfo=UTC)

# What the timeline calls the operator's Events; every other Event keeps its own name.
WORDS: Final[Mapping[Reason, str]] = {
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
    """One run of one scenario with one seed, from the moment at which the world's objects were applied."""

    world: World
    scenario: Scenario
    seed: int
    cluster: MemoryCluster = field(init=False)
    passes: SimulatedOperator = field(init=False)
    timeline: list[JsonDict] = field(default_factory=list)
    availability: dict[Key, Availability] = field(default_factory=dict)

    def __post_init__(self) -> None:
        agents = {place: _as_applied(agent, self.seed) for place, agent in self.world.agents.items()}
        supervisors = {
            place: one.model_copy(update={"status": SupervisorStatus()})
            for place, one in self.world.supervisors.items()
        }
        nodes = sorted(self.world.nodes) if self.world.nodes else ["node-1"]
        self.cluster = MemoryCluster(self.scenario, START, agents, supervisors, nodes)
        self.passes = SimulatedOperator(self.cluster, self._hear)
        self.availability = {key: Availability() for key in self.passes.all_keys()}

    def run(self, until: float) -> None:
        """Play the scenario for so many seconds of virtual time."""
        end = START + timedelta(seconds=until)
        script = self._script(until)
        upcoming = next(script, None)
        self.passes.settle(self.passes.all_keys())
        while True:
            wake = min(self.passes.wakes.values(), default=end)
            due = self.cluster.due[0][0] if self.cluster.due else end
            at = min(wake, due, upcoming[0] if upcoming else end)
            if at >= end:
                break
            self.cluster.now = max(self.cluster.now, at)
            touched = self.cluster.tick()
            touched += [place for place, wake in self.passes.wakes.items() if wake <= self.cluster.now]
            while upcoming is not None and upcoming[0] <= self.cluster.now:
                touched += self._inject(upcoming)
                upcoming = next(script, None)
            self.passes.settle((ChildKind.AGENT, place) for place in touched)
        self.cluster.now = end
        for life in self.availability.values():
            life.pass_time(self.seconds())

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
        self, rate: Rate, number: int, place: NamespacedName, ordinal: int, until: float
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
        """Let a fault happen. One by chance finds nobody while the pod starts; of a scripted one that is worth a word."""
        _, by_chance, fault, place = moment
        hit = self.cluster.inject(fault, place)
        note = f"{fault.kind} {fault.exit_code}" if fault.kind is FaultKind.EXIT else str(fault.kind)
        if hit or not by_chance:
            about = f"Node/{fault.node}" if place is None else f"Agent/{'/'.join(place)}"
            which = (
                "" if place is None or self.world.agents[place].spec.replicas == 1 else f" of replica {fault.ordinal}"
            )
            self._tell("fault", about, note + which + ("" if hit else ": finds no running process, nothing happens"))
        return hit

    # --- what is kept -----------------------------------------------------------------------------------------------------

    def _hear(
        self,
        key: Key,
        before: AgentStatus | SupervisorStatus,
        after: AgentStatus | SupervisorStatus,
        events: tuple[Event, ...],
    ) -> None:
        kind, place = key
        found: Agent | Supervisor
        if isinstance(before, AgentStatus):
            found = self.cluster.agents[place]
            self.availability[key].see_agent(found, before, self.cluster.supervisors_by_name(place[0]), self.seconds())
        else:
            found = self.cluster.supervisors[place]
            self.availability[key].see_supervisor(found, before)
        for event in events:
            self._tell(_word(event, found), f"{kind}/{'/'.join(place)}", event.note)

    def _tell(self, what: str, about: str, note: str) -> None:
        self.timeline.append({"at": round(self.seconds(), 3), "what": what, "about": about, "note": note})


def _as_applied(agent: Agent, seed: int) -> Agent:
    """The agent without its history; one without a uid gets its own, which differs from run to run as on a cluster."""
    uid = agent.metadata.uid or f"{seed}:{agent.metadata.namespace}/{agent.metadata.name}"
    metadata = agent.metadata.model_copy(update={"uid": uid})
    return agent.model_copy(update={"metadata": metadata, "status": AgentStatus()})


def _word(event: Event, found: Agent | Supervisor) -> str:
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
    return WORDS.get(event.reason, str(event.reason))
