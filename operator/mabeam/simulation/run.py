"""The rehearsal itself: virtual time, the operator's passes until nothing moves, the timeline and the figures.

Deterministic to the byte: time, chance and order come from the scenario and the seed alone.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState
from mabeam.api.base import JsonDict
from mabeam.api.supervisor import Supervisor
from mabeam.core import budget, family, supervision, supervisor
from mabeam.core.decision import Event
from mabeam.core.snapshot import AgentSnapshot, PodDefaults, SupervisorSnapshot
from mabeam.simulation.cluster import MemoryCluster, Place
from mabeam.simulation.scenario import Fault, Rate, Scenario
from mabeam.worldfile import World

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Passes at one instant; more than any tree needs, so what exceeds it never comes to rest.
PATIENCE: Final = 10_000


class Restless(RuntimeError):
    """The passes at one instant do not come to an end."""


@dataclass
class Life:
    """What is kept of one agent for the figures."""

    wanted: float = 0.0
    ready: float = 0.0
    outages: list[float] = field(default_factory=list)
    down_since: float | None = None
    was_ready: bool = False
    most_in_window: int = 0
    causes: dict[str, int] = field(default_factory=dict)


@dataclass
class Rehearsal:
    """One run of one scenario with one seed."""

    world: World
    scenario: Scenario
    seed: int
    cluster: MemoryCluster = field(init=False)
    timeline: list[JsonDict] = field(default_factory=list)
    lives: dict[Place, Life] = field(default_factory=dict)
    decisions: int = 0
    start: datetime = START
    _wakes: dict[Place, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = sorted(self.world.nodes) if self.world.nodes else ["node-1"]
        self.cluster = MemoryCluster(self.scenario, START, dict(self.world.agents), dict(self.world.supervisors), nodes)
        self.lives = {place: Life() for place in self.world.agents}

    def run(self, until: float) -> None:
        """Play the scenario for so many seconds of virtual time."""
        end = START + timedelta(seconds=until)
        script = self._script(until)
        upcoming = next(script, None)
        self._settle(list(self.cluster.agents))
        while True:
            moments = [at for at in (self._next_wake(), self._next_due(), upcoming[0] if upcoming else None) if at]
            at = min(moments, default=end)
            self._pass_time(min(at, end))
            if at >= end:
                return
            touched = self.cluster.tick()
            touched += [place for place, wake in self._wakes.items() if wake <= self.cluster.now]
            while upcoming is not None and upcoming[0] <= self.cluster.now:
                _, _, fault, place = upcoming
                hit = self.cluster.befall(fault, place)
                if hit:
                    what = fault.node or f"{'/'.join(place or ())} {fault.ordinal}"
                    self._tell("fault", what, f"{fault.kind}" + (f" {fault.exit_code}" if fault.kind == "Exit" else ""))
                touched += hit
                upcoming = next(script, None)
            self._settle(touched)

    # --- what is to come --------------------------------------------------------------------------------------------------

    def _script(self, until: float) -> Iterator[tuple[datetime, int, Fault, Place | None]]:
        """All faults in the order of their times, those by chance drawn as they are needed."""
        order = itertools.count()
        scripted = (
            (START + timedelta(seconds=fault.at), next(order), fault, self._place_of(fault))
            for fault in sorted(self.scenario.faults, key=lambda fault: fault.at)
        )
        streams = [
            self._by_chance(rate, number, place, ordinal, until)
            for number, rate in enumerate(self.scenario.rates)
            for place, agent in sorted(self.world.agents.items())
            if rate.agent in (None, place[1])
            for ordinal in range(agent.spec.replicas)
        ]
        return heapq.merge(scripted, *streams, key=lambda item: (item[0], item[1]))

    def _place_of(self, fault: Fault) -> Place | None:
        return next((place for place in sorted(self.world.agents) if place[1] == fault.agent), None)

    def _by_chance(
        self, rate: Rate, number: int, place: Place, ordinal: int, until: float
    ) -> Iterator[tuple[datetime, int, Fault, Place | None]]:
        """A replica's own stream: another agent more or less changes nothing for it."""
        at = 0.0
        for draw in itertools.count():
            seed = f"{self.seed}:{number}:{'/'.join(place)}:{ordinal}:{draw}"
            unit = (int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest()) + 1) / (2**64 + 1)
            at += -math.log(unit) * rate.mean_seconds
            if at >= until:
                return
            fault = Fault(at=at, kind=rate.kind, agent=place[1], ordinal=ordinal, exit_code=rate.exit_code)
            yield START + timedelta(seconds=at), number, fault, place

    def _next_wake(self) -> datetime | None:
        return min(self._wakes.values(), default=None)

    def _next_due(self) -> datetime | None:
        return self.cluster.due[0][0] if self.cluster.due else None

    # --- passes -----------------------------------------------------------------------------------------------------------

    def _settle(self, touched: list[Place]) -> None:
        """The operator's passes over whatever moved, until nothing does."""
        agents = dict.fromkeys(touched)
        supervisors = dict.fromkeys(self.cluster.supervisors) if touched else {}
        for _ in range(PATIENCE):
            if not agents and not supervisors:
                return
            for place in list(agents):
                del agents[place]
                if self._pass_agent(place):
                    agents[place] = None
                    supervisors.update(dict.fromkeys(self._above(place)))
            for place in list(supervisors):
                del supervisors[place]
                if self._pass_supervisor(place):
                    supervisors.update(dict.fromkeys(self._family(place)))
                    agents.update(dict.fromkeys(self._children(place)))
        raise Restless(f"at {self.seconds():g} s the passes over {list(agents)[:3]} do not come to an end")

    def _above(self, place: Place) -> list[Place]:
        named = self.cluster.agents[place].spec.supervisor
        above = (place[0], named or "")
        return [above] if above in self.cluster.supervisors else []

    def _family(self, place: Place) -> list[Place]:
        return [other for other in self.cluster.supervisors if other[0] == place[0]]

    def _children(self, place: Place) -> list[Place]:
        listed = ((place[0], child.name) for child in self.cluster.supervisors[place].spec.children)
        return [child for child in listed if child in self.cluster.agents]

    def _kin(self, namespace: str) -> dict[str, Supervisor]:
        return {name: one for (space, name), one in self.cluster.supervisors.items() if space == namespace}

    def _pass_agent(self, place: Place) -> bool:
        self._wakes.pop(place, None)
        agent = self.cluster.agents[place]
        word, held = family.word_for(agent, self._kin(place[0])) if agent.spec.supervisor else (None, None)
        snapshot = AgentSnapshot(
            agent,
            self.cluster.pods_of(place),
            nodes=frozenset(self.cluster.nodes),
            word=word,
            held=held,
            defaults=_DEFAULTS,
        )
        decision = supervision.decide(snapshot, self.cluster.now)
        self.decisions += 1
        changed = decision.status != agent.status
        if changed:
            self._note(place, agent.status, decision.status)
            self.cluster.agents[place] = agent.model_copy(update={"status": decision.status})
            self._tell_events("Agent", place, decision.events)
        for effect in decision.effects:
            self.cluster.do(place, effect)
        if decision.requeue_after is not None:
            self._wakes[place] = self.cluster.now + timedelta(seconds=decision.requeue_after)
        return changed or bool(decision.effects)

    def _pass_supervisor(self, place: Place) -> bool:
        found = self.cluster.supervisors[place]
        kin = self._kin(place[0])
        agents = {name: agent for (space, name), agent in self.cluster.agents.items() if space == place[0]}
        decision = supervisor.decide(
            SupervisorSnapshot(found, agents, kin, *family.word_for(found, kin)), self.cluster.now
        )
        self.decisions += 1
        if decision.status == found.status:
            return False
        self.cluster.supervisors[place] = found.model_copy(update={"status": decision.status})
        self._tell_events("Supervisor", place, decision.events)
        return True

    # --- what is kept -----------------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """The virtual time, in seconds from the start."""
        return (self.cluster.now - START).total_seconds()

    def _pass_time(self, at: datetime) -> None:
        seconds = max(0.0, (at - self.cluster.now).total_seconds())
        for place, life in self.lives.items():
            agent = self.cluster.agents[place]
            if agent.spec.desired_state is not DesiredState.RUNNING or agent.spec.replicas == 0:
                continue
            if agent.status.state is AgentState.STOPPED:
                continue  # finished: nobody wants it to run
            life.wanted += seconds
            if agent.status.ready_replicas >= agent.spec.replicas:
                life.ready += seconds
        self.cluster.now = max(self.cluster.now, at)

    def _note(self, place: Place, before: AgentStatus, after: AgentStatus) -> None:
        life, agent = self.lives[place], self.cluster.agents[place]
        ready = after.ready_replicas >= agent.spec.replicas
        if life.was_ready and not ready:
            life.down_since = self.seconds()
        elif ready and life.down_since is not None:
            life.outages.append(self.seconds() - life.down_since)
            life.down_since = None
        life.was_ready = ready
        known = {(failure.time, failure.pod) for failure in before.failures}
        for failure in after.failures:
            if (failure.time, failure.pod) not in known:
                life.causes[str(failure.cause)] = life.causes.get(str(failure.cause), 0) + 1
                window = agent.spec.fault_tolerance.failure_window_seconds
                inside = budget.failures_in_window(after.failures, failure.time, window)
                life.most_in_window = max(life.most_in_window, inside)

    def _tell_events(self, kind: str, place: Place, events: tuple[Event, ...]) -> None:
        for event in events:
            self._tell(str(event.reason), f"{kind}/{'/'.join(place)}", event.note)

    def _tell(self, what: str, about: str, note: str) -> None:
        self.timeline.append({"at": round(self.seconds(), 3), "what": what, "about": about, "note": note})


_DEFAULTS: Final = PodDefaults()
