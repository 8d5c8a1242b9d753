"""A cluster in memory: it stores the operator's writes, starts and stops pods as a kubelet does, and injects faults.

Its store is the operator's own Cache, filled with facts instead of bodies, for speed; what a pod runs plays no part. Conformance
with a real cluster is tested, not assumed (tests/e2e/test_simulation.py).
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import ANNOTATION_GENERATION, ANNOTATION_NUDGE, LABEL_ENDED, directives_config_map
from mabeam.api.supervisor import Supervisor
from mabeam.core.decision import AnyStatus, Effect
from mabeam.core.pods.lifecycle import is_live, is_running
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report, expects_reports
from mabeam.core.snapshot import ContainerFacts, Key, NamespacedName, PodFacts, Progress
from mabeam.simulation.scenario import Fault, FaultKind, Scenario
from mabeam.state.cache import (
    AGENT,
    CONFIG_MAP,
    NETWORK_POLICY,
    NODE,
    POD,
    STORES,
    SUPERVISOR,
    VARIABLE,
    Cache,
    Change,
    OwnedPod,
)
from mabeam.state.parse_objects import NodeFacts, ParsedAgent, ParsedSupervisor

_DISRUPTIONS: Final = {FaultKind.EVICT: "EvictionByEvictionAPI", FaultKind.PREEMPT: "PreemptionByScheduler"}
# How the facts about an object take a new status.
_WITH_STATUS: Final[Mapping[str, Callable[[Any, AnyStatus], object]]] = {
    AGENT: lambda parsed, status: replace(parsed, agent=parsed.agent.model_copy(update={"status": status})),
    VARIABLE: lambda parsed, status: replace(parsed, variable=parsed.variable.model_copy(update={"status": status})),
    SUPERVISOR: lambda parsed, status: replace(
        parsed, supervisor=parsed.supervisor.model_copy(update={"status": status})
    ),
}


@dataclass
class MemoryCluster:
    """All objects at one virtual time, and what the cluster itself will do to pods."""

    scenario: Scenario
    now: datetime
    cache: Cache = field(default_factory=Cache)
    changes: list[Change] = field(default_factory=list)  # since `take_changes`, in order
    # when, a number that keeps the order of equals, which pod, and whether it starts or is gone
    due: list[tuple[datetime, int, NamespacedName, str]] = field(default_factory=list)
    hung: dict[str, Progress] = field(default_factory=dict)  # uid of the pod → since when its progress stands still
    agent_of: dict[str, NamespacedName] = field(default_factory=dict)  # uid of the pod → its Agent
    grace_of: dict[str, float] = field(default_factory=dict)  # uid of the pod → its own grace, in seconds
    _order: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def of(
        cls, scenario: Scenario, now: datetime, agents: Iterable[Agent], supervisors: Iterable[Supervisor] = ()
    ) -> "MemoryCluster":
        """A cluster of these objects and one node, where nothing has happened yet."""
        cluster = cls(scenario, now)
        for agent in agents:
            cluster.cache.put(AGENT, (agent.metadata.namespace, agent.metadata.name), ParsedAgent(agent))
        for one in supervisors:
            cluster.cache.put(SUPERVISOR, (one.metadata.namespace, one.metadata.name), ParsedSupervisor(one))
        cluster.cache.put(NODE, ("", "node-1"), NodeFacts())
        return cluster

    def take_changes(self) -> list[Change]:
        """What changed since this was last asked."""
        taken, self.changes = self.changes, []
        return taken

    @property
    def agents(self) -> dict[NamespacedName, Agent]:
        """Every Agent, by namespace and name."""
        return {name: parsed.agent for name, parsed in self.cache.agents.items()}

    @property
    def supervisors(self) -> dict[NamespacedName, Supervisor]:
        """Every Supervisor, by namespace and name."""
        return {name: parsed.supervisor for name, parsed in self.cache.supervisors.items()}

    @property
    def second(self) -> datetime:
        """Now, as a kubelet writes it: in whole seconds."""
        return self.now.replace(microsecond=0)

    def pods_of(self, agent: NamespacedName) -> tuple[PodFacts, ...]:
        """The agent's pods, by name."""
        return self.cache.pods_owned_by(self.cache.agents[agent].agent)

    def put_status(self, key: Key, status: AnyStatus) -> None:
        """Store the status of an object that is reconciled."""
        name = (key.namespace, key.name)
        known = STORES[key.kind].objects(self.cache)[name]
        self._put(key.kind, name, _WITH_STATUS[key.kind](known, status))

    def _put(self, kind: str, name: NamespacedName, facts: object | None) -> None:
        self.changes.append(self.cache.put(kind, name, facts))

    # --- the operator's writes --------------------------------------------------------------------------------------------

    def apply(self, effect: Effect) -> None:
        """Carry out one write of the operator."""
        _WRITES[effect.kind](self, effect)

    def _write_object(self, effect: Effect) -> None:
        name = (effect.namespace, effect.name)
        if effect.verb == "delete":
            self._put(effect.kind, name, None)
            return
        number = next(self._order)
        known = STORES[effect.kind].objects(self.cache).get(name)
        uid = known.facts.uid if known is not None else f"{effect.name}-{number}"
        body = {**effect.body, "metadata": {**effect.body["metadata"], "uid": uid, "resourceVersion": str(number)}}
        self._put(effect.kind, name, STORES[effect.kind].parse(body, known))

    def _write_pod(self, effect: Effect) -> None:
        name = (effect.namespace, effect.name)
        if effect.verb == "create" and name not in self.cache.pods:
            self._create_pod(name, effect.body)
        elif effect.verb == "delete" and name in self.cache.pods:
            self._stop_pod(name, effect.grace_seconds)
        elif effect.verb == "patch" and name in self.cache.pods:
            self._patch_pod(name, effect)

    def _create_pod(self, name: NamespacedName, body: JsonDict) -> None:
        owned: OwnedPod | None = STORES[POD].parse(body, None)
        if owned is None:
            raise ValueError(f"{name[1]} is not a pod that the operator makes")
        number = next(self._order)
        agent = (name[0], owned.agent)
        nodes = sorted(self.cache.node_names - self.cache.cordoned)
        node = nodes[(hash_of(agent) + owned.pod.ordinal) % len(nodes)] if nodes else None
        pod = replace(
            owned.pod,
            uid=f"{name[1]}-{number}",
            node=node,
            ip=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            created_at=self.second,
            scheduled_at=self.second if node else None,
            phase="Pending",
        )
        self.agent_of[pod.uid] = agent
        self.grace_of[pod.uid] = float(body["spec"]["terminationGracePeriodSeconds"])
        self._put(POD, name, replace(owned, pod=pod))
        if node:
            self._after(self.scenario.start_of(owned.agent), name, "start")

    def _patch_pod(self, name: NamespacedName, effect: Effect) -> None:
        owned = self.cache.pods[name]
        annotations = effect.body.get("metadata", {}).get("annotations", {})
        changed: dict[str, object] = {}
        if ANNOTATION_GENERATION in annotations:
            changed["generation"] = int(annotations[ANNOTATION_GENERATION])
        if ANNOTATION_NUDGE in annotations:
            changed["nudge"] = annotations[ANNOTATION_NUDGE]
        if LABEL_ENDED in effect.body.get("metadata", {}).get("labels", {}):
            changed["marked_ended"] = True
        for container in effect.body.get("spec", {}).get("containers", ()):
            if container.get("name") == owned.pod.main_name:
                changed["resources"] = changed["actual"] = container["resources"]
        self._put(POD, name, replace(owned, pod=replace(owned.pod, **changed)))  # type: ignore[arg-type]

    # --- the kubelet --------------------------------------------------------------------------------------------------------

    def _stop_pod(self, name: NamespacedName, grace: int | None) -> None:
        owned = self.cache.pods[name]
        if owned.pod.deleting:
            return
        self._change_pod(name, deleting=True, deletion_requested_at=self.second, ready=False)
        allowed = self.grace_of[owned.pod.uid] if grace is None else grace
        seconds = min(self.scenario.stop_of(owned.agent), allowed)
        self._after(seconds if is_live(owned.pod) else 0.0, name, "gone")

    def _change_pod(self, name: NamespacedName, **fields: object) -> None:
        owned = self.cache.pods[name]
        self._put(POD, name, replace(owned, pod=replace(owned.pod, **fields)))  # type: ignore[arg-type]

    def _after(self, seconds: float, name: NamespacedName, what: str) -> None:
        heapq.heappush(self.due, (self.now + timedelta(seconds=seconds), next(self._order), name, what))

    def tick(self) -> None:
        """Do what is due by now."""
        while self.due and self.due[0][0] <= self.now:
            _, _, name, what = heapq.heappop(self.due)
            owned = self.cache.pods.get(name)
            if owned is None:
                continue
            if what == "gone":
                del self.agent_of[owned.pod.uid], self.grace_of[owned.pod.uid]
                self._put(POD, name, None)
            elif owned.pod.phase == "Pending" and not owned.pod.deleting:
                main = ContainerFacts("running", started_at=self.second)
                self._change_pod(name, phase="Running", ready=True, main=main)

    # --- faults -------------------------------------------------------------------------------------------------------------

    def inject(self, fault: Fault, agent: NamespacedName | None) -> list[NamespacedName]:
        """Let the fault happen; the agents whose pods it hit, none when no process was there to hit."""
        if fault.kind is FaultKind.NODE_LOST:
            return self._lose_node(fault.node or "")
        name = self._running(agent, fault.ordinal) if agent is not None else None
        if agent is None or name is None:
            return []
        pod = self.cache.pods[name].pod
        match fault.kind:
            case FaultKind.EXIT | FaultKind.OOM:
                code, reason = (137, "OOMKilled") if fault.kind is FaultKind.OOM else (fault.exit_code, "Error")
                self._change_pod(name, **self._ended(pod, code, "Completed" if code == 0 else reason))
            case FaultKind.HANG:
                self.hung[pod.uid] = Progress(self.now)
            case FaultKind.EVICT | FaultKind.PREEMPT:
                self._change_pod(name, disrupted_at=self.second, disruption=_DISRUPTIONS[fault.kind])
                self._stop_pod(name, None)
            case FaultKind.DELETE:
                self._stop_pod(name, None)
            case _:
                self._change_pod(name, reported_failed="the scenario says so")
        return [agent]

    def _running(self, agent: NamespacedName, ordinal: int) -> NamespacedName | None:
        found = [
            p for p in self.pods_of(agent) if p.ordinal == ordinal and p.main.state == "running" and not p.deleting
        ]
        newest = max(found, key=lambda pod: pod.incarnation, default=None)
        return (agent[0], newest.name) if newest is not None else None

    def _ended(self, pod: PodFacts, code: int, reason: str) -> dict[str, object]:
        main = ContainerFacts("terminated", reason, None, code, pod.main.started_at, self.second)
        return {"phase": "Succeeded" if code == 0 else "Failed", "ready": False, "main": main}

    def _lose_node(self, node: str) -> list[NamespacedName]:
        self._put(NODE, ("", node), None)
        hit = []
        for name, owned in list(self.cache.pods.items()):
            if owned.pod.node == node and is_live(owned.pod):
                ended = self._ended(owned.pod, 137, "NodeLost")
                self._change_pod(name, **ended, disrupted_at=self.second, disruption="DeletionByPodGC")
                self._stop_pod(name, None)
                hit.append((name[0], owned.agent))
        return hit


_WRITES: Final[Mapping[str, Callable[[MemoryCluster, Effect], None]]] = {
    POD: MemoryCluster._write_pod,
    CONFIG_MAP: MemoryCluster._write_object,
    NETWORK_POLICY: MemoryCluster._write_object,
}


def hash_of(name: NamespacedName) -> int:
    """A small number of the agent's own, the same in every process."""
    return sum(map(ord, "/".join(name)))


@dataclass
class SimulatedReports:
    """The reports of the processes of a cluster in memory: the world's Report of their Agent, and directives applied at once.

    A running process has read its ConfigMap, so it acknowledges the generation that the ConfigMap carries.
    """

    cluster: MemoryCluster
    reports: Mapping[NamespacedName, Report] = field(default_factory=dict)  # by Agent

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """The report of each pod that runs, by pod name."""
        cache, found = self.cluster.cache, {}
        if not cache.variables:
            return {}  # no directives to acknowledge, and nobody reads what agents prefer
        for pod in filter(is_running, pods):
            agent = self.cluster.agent_of[pod.uid]
            held = cache.config_maps.get((agent[0], directives_config_map(agent[1])))
            reads = held is not None and expects_reports(cache.agents[agent].agent)
            if reads or agent in self.reports:
                generation = held.facts.generation if held is not None else None
                found[pod.name] = replace(self.reports.get(agent, Report()), applied_generation=generation)
        return found

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """The progress of the pods that hang, by pod name; that of all others moves all the time."""
        hung = self.cluster.hung
        return {pod.name: hung[pod.uid] for pod in pods if pod.uid in hung} if hung else {}

    def unreadable(self, pods: Iterable[PodFacts]) -> dict[str, UnreadableReport]:
        """Nothing: every report of a simulated process is read."""
        return {}

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """The world's Report of each agent that has one, by agent name."""
        names = [(agent.metadata.namespace, agent.metadata.name) for agent in agents]
        return {name[1]: self.reports[name] for name in names if name in self.reports}
