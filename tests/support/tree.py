"""A namespace in memory with Supervisors and Agents: each pass is the operator's own, each kubelet a `World`'s."""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION
from mabeam.api.supervisor import Supervisor, SupervisorStatus
from mabeam.core.decision import Event
from mabeam.core.passes import supervisor
from support.builders import NO_BACKOFF, agent_body, stamp
from support.observed import observer_of
from support.world import World

PATIENCE = 400


def supervisor_body(name: str, *children: str | JsonDict, created: float = 0, **spec: Any) -> JsonDict:
    """A Supervisor as the apiserver would store it; a child is an Agent's name, `/name` for a Supervisor, or a reference."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Supervisor",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-of-{name}",
            "generation": 1,
            "creationTimestamp": stamp(created),
        },
        "spec": {"children": [_reference(child) for child in children], **spec},
        "status": {"observedGeneration": -1},
    }


def _reference(child: str | JsonDict) -> JsonDict:
    if isinstance(child, dict):
        return {"kind": "Agent", **child}
    return {"kind": "Supervisor" if child.startswith("/") else "Agent", "name": child.removeprefix("/")}


def child_body(name: str, parent: str | None, *, max_failures: int = 0, window: int = 60, **words: Any) -> JsonDict:
    """An Agent whose every crash is its Supervisor's (plain OTP), unless told otherwise."""
    tolerance = {
        "maxFailures": max_failures,
        "failureWindowSeconds": window,
        "escalationPolicy": words.pop("escalation", "Escalate"),
        "backoff": NO_BACKOFF,
    }
    under = {"supervisor": parent} if parent else {}
    return agent_body(name, faultTolerance=tolerance, **under, **words)


@dataclass
class Tree:
    """Supervisors and the worlds of their agents; `log` has who started and who stopped, in order."""

    supervisors: dict[str, JsonDict] = field(default_factory=dict)
    worlds: dict[str, World] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    writes: int = 0
    seconds: float = 0
    stubborn: set[str] = field(default_factory=set)  # these agents' processes do not start
    lingering: set[str] = field(default_factory=set)  # and these take their time to end
    lose: int | None = None  # the number of the Supervisors' write that the operator does not live to make

    @classmethod
    def of(cls, *bodies: JsonDict) -> "Tree":
        """A tree of these objects, where nothing has happened yet."""
        tree = cls()
        for body in bodies:
            tree.add(body)
        return tree

    def add(self, body: JsonDict) -> None:
        """One more object."""
        name = body["metadata"]["name"]
        if body["kind"] == "Supervisor":
            self.supervisors[name] = body
        else:
            self.worlds[name] = World(body, prompt=False)
            self.worlds[name].tick(self.seconds)

    def supervisor(self, name: str) -> Supervisor:
        """The Supervisor as it is stored."""
        return Supervisor.model_validate(copy.deepcopy(self.supervisors[name]))

    def agent(self, name: str) -> Agent:
        """The agent as it is stored."""
        return self.worlds[name].look().agent

    def running(self) -> list[str]:
        """The agents with a live pod, by name."""
        return sorted(name for name, world in self.worlds.items() if world.live())

    def ready(self, name: str) -> tuple[str, str, str]:
        """A Supervisor's condition Ready."""
        found = next(c for c in self.supervisor(name).status.conditions if c.type == "Ready")
        return str(found.status), found.reason, found.message

    def lives(self, name: str) -> dict[str, int]:
        """In which life each child of a Supervisor is."""
        return {record.name: record.token for record in self.supervisor(name).status.children}

    def pass_supervisor(self, name: str) -> bool:
        """One pass over a Supervisor; whether it wrote."""
        bodies = (*self.supervisors.values(), *(world.agent for world in self.worlds.values()))
        snapshot = observer_of(*bodies).supervisor("team", name)
        assert snapshot is not None
        decision = supervisor.decide(snapshot, next(iter(self.worlds.values())).now)
        assert decision.effects == ()
        if decision.status == snapshot.supervisor.status:
            assert decision.status_reason == "unchanged"
            return False
        if self.lose == self.writes:
            self.lose = None
            return True
        wire = json.loads(json.dumps(decision.status.to_wire()))
        assert SupervisorStatus.model_validate(wire).to_wire() == wire
        self.supervisors[name]["status"] = wire
        self.events.extend(decision.events)
        self.writes += 1
        return True

    def pass_agent(self, name: str) -> bool:
        """One pass over an agent and its kubelet's next doing; whether anything moved."""
        world = self.worlds[name]
        world.supervisors = list(self.supervisors.values())
        wrote = world.pass_once()
        moved = self._kubelet(name, world)
        return bool(wrote) or moved

    def _kubelet(self, name: str, world: World) -> bool:
        moved = False
        for pod in list(world.pods):
            meta, status = world.pods[pod]["metadata"], world.pods[pod]["status"]
            if "deletionTimestamp" in meta:
                if name in self.lingering:
                    continue
                world.reap(pod)
                self.log.append(f"-{name}")
                moved = True
            elif status["phase"] == "Pending" and not status.get("conditions") and name not in self.stubborn:
                world.start(pod)
                self.log.append(f"+{name}")
                moved = True
        return moved

    def settle(self, order: Iterable[str] | None = None) -> None:
        """Passes until nothing moves."""
        names = list(order) if order is not None else [*self.supervisors, *self.worlds]
        for _ in range(PATIENCE):
            moved = [
                self.pass_supervisor(name) if name in self.supervisors else self.pass_agent(name) for name in names
            ]
            if not any(moved):
                return
        raise AssertionError(f"still busy after {PATIENCE} rounds: {self.log[-10:]}")

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        for world in self.worlds.values():
            world.tick(seconds)

    def end(self, name: str, code: int = 1) -> None:
        """The agent's process exits."""
        [pod] = self.worlds[name].live()
        self.worlds[name].end(pod, code)
        self.log.append(f"!{name}")

    def happened(self) -> str:
        """What happened since the last time this was asked: `!` ended by itself, `-` stopped, `+` started."""
        told = " ".join(self.log)
        self.log.clear()
        return told
