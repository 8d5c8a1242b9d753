"""A cluster in memory: it keeps what the operator writes, starts and stops pods as a kubelet does, and lets faults befall them.

Facts instead of bodies and models instead of JSON, for speed; what a pod is made of plays no part. Conformance with a real
cluster is tested, not assumed (tests/e2e/test_simulation.py).
"""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.supervisor import Supervisor
from mabeam.core.decision import Effect
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.snapshot import ContainerFacts, NamespacedName, PodFacts, Progress
from mabeam.simulation.scenario import Fault, FaultKind, Scenario
from mabeam.state.parse_pods import parse_pod


@dataclass
class MemoryCluster:
    """Agents, Supervisors and pods at one virtual time; `due` has what the cluster itself will do, and when."""

    scenario: Scenario
    now: datetime
    agents: dict[NamespacedName, Agent]
    supervisors: dict[NamespacedName, Supervisor]
    nodes: list[str]
    pods: dict[NamespacedName, dict[str, PodFacts]] = field(default_factory=dict)
    due: list[tuple[datetime, int, NamespacedName, str, str]] = field(default_factory=list)
    hung: dict[str, Progress] = field(default_factory=dict)  # by the pod's uid
    node_names: frozenset[str] = frozenset()
    _families: dict[str, dict[str, Supervisor]] = field(default_factory=dict)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.node_names = frozenset(self.nodes)
        for place, supervisor in self.supervisors.items():
            self.put_supervisor(place, supervisor)

    def put_supervisor(self, place: NamespacedName, supervisor: Supervisor) -> None:
        """Store a Supervisor."""
        self.supervisors[place] = self._families.setdefault(place[0], {})[place[1]] = supervisor

    def supervisors_by_name(self, namespace: str) -> dict[str, Supervisor]:
        """The Supervisors of a namespace, by name."""
        return self._families.get(namespace, {})

    @property
    def second(self) -> datetime:
        """Now, as a kubelet writes it: in whole seconds."""
        return self.now.replace(microsecond=0)

    def pods_of(self, place: NamespacedName) -> tuple[PodFacts, ...]:
        """The agent's pods, by name."""
        found = self.pods.get(place, {})
        return tuple(found[name] for name in sorted(found))

    def progress_of(self, place: NamespacedName) -> dict[str, Progress]:
        """The progress of those of the agent's pods that hang; the others' moves all the time."""
        if not self.hung:
            return {}
        return {pod.name: self.hung[pod.uid] for pod in self.pods_of(place) if pod.uid in self.hung}

    def do(self, place: NamespacedName, effect: Effect) -> None:
        """Carry out a write about a pod; what is said in ConfigMaps plays no part here."""
        if effect.kind != "Pod":
            return
        pods = self.pods.setdefault(place, {})
        if effect.verb == "create" and effect.name not in pods:
            facts = parse_pod(effect.body)
            if facts is None:
                raise ValueError(f"{effect.name} is no name that the operator gives")
            node = self.nodes[(hash_of(place) + facts.ordinal) % len(self.nodes)] if self.nodes else None
            pods[effect.name] = replace(
                facts,
                uid=f"{effect.name}-{next(self._order)}",
                node=node,
                created_at=self.second,
                scheduled_at=self.second if node else None,
                phase="Pending",
            )
            if node:
                self._after(self.scenario.start_of(place[1]), place, effect.name, "start")
        elif effect.verb == "delete" and effect.name in pods:
            self._ask_to_stop(place, effect.name, effect.grace_seconds)

    def _ask_to_stop(self, place: NamespacedName, name: str, grace: int | None) -> None:
        pod = self.pods[place][name]
        if pod.deleting:
            return
        self.pods[place][name] = replace(pod, deleting=True, deletion_requested_at=self.second, ready=False)
        stop = self.scenario.stop_of(place[1])
        seconds = stop if grace is None else min(stop, grace)
        self._after(seconds if is_live(pod) else 0.0, place, name, "gone")

    def _after(self, seconds: float, place: NamespacedName, name: str, what: str) -> None:
        heapq.heappush(self.due, (self.now + timedelta(seconds=seconds), next(self._order), place, name, what))

    def tick(self) -> list[NamespacedName]:
        """Do what is due by now; the agents that it is about."""
        touched = []
        while self.due and self.due[0][0] <= self.now:
            _, _, place, name, what = heapq.heappop(self.due)
            pod = self.pods.get(place, {}).get(name)
            if pod is None:
                continue
            if what == "gone":
                del self.pods[place][name]
            elif pod.phase == "Pending" and not pod.deleting:
                main = ContainerFacts("running", started_at=self.second)
                self.pods[place][name] = replace(pod, phase="Running", ready=True, main=main)
            touched.append(place)
        return touched

    # --- faults ---------------------------------------------------------------------------------------------------------

    def inject(self, fault: Fault, place: NamespacedName | None) -> list[NamespacedName]:
        """Let it happen; the agents it is about, none when there is nothing that it could befall."""
        if fault.kind is FaultKind.NODE_LOST:
            return self._lose(fault.node or "")
        name = self._running(place, fault.ordinal) if place is not None else None
        if place is None or name is None:
            return []
        pod = self.pods[place][name]
        match fault.kind:
            case FaultKind.EXIT | FaultKind.OOM:
                code, reason = (137, "OOMKilled") if fault.kind is FaultKind.OOM else (fault.exit_code, "Error")
                self.pods[place][name] = self._ended(pod, code, "Completed" if code == 0 else reason)
            case FaultKind.HANG:
                self.hung[pod.uid] = Progress(self.now)
            case FaultKind.EVICT | FaultKind.PREEMPT:
                self.pods[place][name] = replace(pod, disrupted_at=self.second, disruption=_DISRUPTIONS[fault.kind])
                self._ask_to_stop(place, name, None)
            case FaultKind.DELETE:
                self._ask_to_stop(place, name, None)
            case _:
                self.pods[place][name] = replace(pod, reported_failed="the scenario says so")
        return [place]

    def _running(self, place: NamespacedName, ordinal: int) -> str | None:
        found = [
            name
            for name, pod in self.pods.get(place, {}).items()
            if pod.ordinal == ordinal and pod.main.state == "running" and not pod.deleting
        ]
        return max(found, key=lambda name: self.pods[place][name].incarnation, default=None)

    def _ended(self, pod: PodFacts, code: int, reason: str) -> PodFacts:
        started = pod.main.started_at
        main = ContainerFacts("terminated", reason, None, code, started, self.second)
        return replace(pod, phase="Succeeded" if code == 0 else "Failed", ready=False, main=main)

    def _lose(self, node: str) -> list[NamespacedName]:
        self.nodes = [one for one in self.nodes if one != node]
        self.node_names = frozenset(self.nodes)
        touched = []
        for place, pods in self.pods.items():
            for name, pod in pods.items():
                if pod.node == node and is_live(pod):
                    pods[name] = replace(
                        self._ended(pod, 137, "NodeLost"), disrupted_at=self.second, disruption="DeletionByPodGC"
                    )
                    self._ask_to_stop(place, name, None)
                    touched.append(place)
        return touched


_DISRUPTIONS: Final = {FaultKind.EVICT: "EvictionByEvictionAPI", FaultKind.PREEMPT: "PreemptionByScheduler"}


def hash_of(place: NamespacedName) -> int:
    """A small number of the agent's own, the same in every process."""
    return sum(map(ord, "/".join(place)))
