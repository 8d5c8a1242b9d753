"""The operator in a rehearsal: its own passes over a cluster in memory, rung as watches ring them, until nothing moves."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mabeam.api.agent_status import AgentStatus
from mabeam.api.supervisor import ChildKind, SupervisorStatus
from mabeam.core.decision import Decision, Event
from mabeam.core.passes import supervisor
from mabeam.core.passes.agent import decide as decide_agent
from mabeam.core.snapshot import AgentSnapshot, NamespacedName, PodDefaults, SupervisorSnapshot
from mabeam.core.tree import instruction
from mabeam.simulation.cluster import MemoryCluster

# Passes at one instant; far more than any tree needs, so what exceeds it never comes to rest.
PATIENCE: Final = 100_000
_DEFAULTS: Final = PodDefaults()

Key = tuple[ChildKind, NamespacedName]
Told = Callable[[Key, AgentStatus | SupervisorStatus, AgentStatus | SupervisorStatus, tuple[Event, ...]], None]


class DidNotSettle(RuntimeError):
    """The passes at one instant do not come to an end."""


@dataclass
class SimulatedOperator:
    """The passes of the operator, first in, first out, each key queued once; `told` is called with every new status."""

    cluster: MemoryCluster
    told: Told
    decisions: int = 0
    wakes: dict[NamespacedName, datetime] = field(default_factory=dict)
    _parents: dict[Key, list[Key]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (space, name), one in self.cluster.supervisors.items():
            for child in one.spec.children:
                self._parents.setdefault((child.kind, (space, child.name)), []).append(
                    (ChildKind.SUPERVISOR, (space, name))
                )

    def all_keys(self) -> list[Key]:
        """The keys of all there is, as an operator that starts finds them."""
        agents = [(ChildKind.AGENT, place) for place in self.cluster.agents]
        return [*agents, *((ChildKind.SUPERVISOR, place) for place in self.cluster.supervisors)]

    def settle(self, rung: Iterable[Key]) -> None:
        """Passes over these keys and over whatever they ring, until nothing is left to do; time stands still."""
        queue = dict.fromkeys(rung)
        for _ in range(PATIENCE):
            if not queue:
                return
            key = next(iter(queue))
            del queue[key]
            rings = self._agent(key) if key[0] is ChildKind.AGENT else self._supervisor(key)
            queue.update(dict.fromkeys(rings))
        raise DidNotSettle(
            f"the passes at {self.cluster.now:%Y-%m-%d %H:%M:%S} over {list(queue)[:3]} do not come to an end"
        )

    def _agent(self, key: Key) -> list[Key]:
        place = key[1]
        self.wakes.pop(place, None)
        agent = self.cluster.agents[place]
        decision = decide_agent(
            AgentSnapshot(
                agent,
                self.cluster.pods_of(place),
                nodes=self.cluster.node_names,
                progress=self.cluster.progress_of(place),
                defaults=_DEFAULTS,
                parent=instruction.parent_instruction(agent, self.cluster.supervisors_by_name(place[0])),
            ),
            self.cluster.now,
        )
        self.decisions += 1
        if decision.requeue_after is not None:
            self.wakes[place] = self.cluster.now + timedelta(seconds=decision.requeue_after)
        changed = decision.status_reason != "unchanged"
        if changed:
            self.cluster.agents[place] = agent.model_copy(update={"status": decision.status})
            self.told(key, agent.status, decision.status, decision.events)
        for effect in decision.effects:
            self.cluster.do(place, effect)
        rings = [key] if changed or decision.effects else []
        return rings + self._parents.get(key, []) if changed else rings

    def _supervisor(self, key: Key) -> list[Key]:
        space = key[1][0]
        found, kin = self.cluster.supervisors[key[1]], self.cluster.supervisors_by_name(space)
        listed = ((child.name, self.cluster.agents.get((space, child.name))) for child in found.spec.children)
        agents = {child: agent for child, agent in listed if agent is not None}
        decision = supervisor.decide(
            SupervisorSnapshot(found, agents, kin, instruction.parent_instruction(found, kin)), self.cluster.now
        )
        self.decisions += 1
        if decision.status_reason == "unchanged":
            return []
        self.cluster.put_supervisor(key[1], found.model_copy(update={"status": decision.status}))
        self.told(key, found.status, decision.status, decision.events)
        return [key, *self._parents.get(key, ()), *self._children(space, found.status, decision)]

    def _children(self, space: str, before: SupervisorStatus, decision: Decision[SupervisorStatus]) -> Iterable[Key]:
        """The children that are told something else; a real watch rings all of them, and the others find nothing to do."""
        was = {(record.kind, record.name): (record.intent, record.token) for record in before.children}
        for record in decision.status.children:
            kind, place = record.kind, (space, record.name)
            there = self.cluster.agents if kind is ChildKind.AGENT else self.cluster.supervisors
            if was.get((kind, record.name)) != (record.intent, record.token) and place in there:
                yield kind, place
