"""A cluster in memory with one Agent: it applies Decisions, keeps virtual time, and refuses impossible states.

Objects are kept as the JSON that an apiserver would hand out and go through the operator's own door at every look, so a
status that does not survive its own serialisation is found here. The operator has no memory: a pass that breaks off
(`crash_at`) followed by another pass is all there is to a crash and a restart.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.base import JsonDict, format_time
from mabeam.api.names import ANNOTATION_FAILED
from mabeam.core.decision import Decision, Effect, Event
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot, Key, Progress
from mabeam.core.supervision.ledger import failures_in_window
from mabeam.core.supervision.working_set import MAX_INCARNATION
from mabeam.shell.reconcile.early_writes import DeferredStatus
from mabeam.state.parse_objects import parse_agent
from support.builders import START
from support.observed import FixedReports, node_body, observer_of

TERMINAL = ("Succeeded", "Failed")
PATIENCE = 60
KEY = Key("Agent", "team", "a")


class ImpossibleState(AssertionError):
    """Something that no sequence of events may ever lead to."""


class OperatorDied(Exception):
    """The operator broke off between two writes."""


@dataclass(frozen=True)
class Write:
    """One write of the operator, as it was done."""

    verb: str
    kind: str
    name: str
    reason: str


@dataclass
class World:
    """One Agent, its pods and its nodes; the operator's passes and the cluster's doings are methods.

    `prompt` lets the kubelet act at once whenever the world settles: it starts what is pending and removes what is being
    deleted. `nodes` is None while nobody looks at nodes. `crash_at` is the number of the write the operator does not
    live to make. An `implying` operator makes the first pods before it stores anything, as the shell does.
    """

    agent: JsonDict
    now: datetime = START
    prompt: bool = True
    nodes: set[str] | None = None
    cordoned: set[str] = field(default_factory=set)
    taints: dict[str, list[str]] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)
    crash_at: int | None = None
    implying: bool = False
    supervisors: list[JsonDict] = field(default_factory=list)
    progress: dict[str, Progress] = field(default_factory=dict)
    deferred_status: DeferredStatus = field(default_factory=DeferredStatus)
    pods: dict[str, JsonDict] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    deaths: int = 0
    wake_at: datetime | None = None
    arrange: Callable[[list[Any]], list[Any]] = list
    _uids: int = 0

    # --- what is there ------------------------------------------------------------------------------------------------

    @property
    def status(self) -> AgentStatus:
        """The stored status."""
        return parse_agent(self.agent).agent.status

    @property
    def state(self) -> str:
        """The agent's state, in its word."""
        return str(self.status.state)

    def record(self, ordinal: int = 0) -> PodRecord:
        """What the status says of an ordinal."""
        return next(record for record in self.status.pods if record.ordinal == ordinal)

    def condition(self, type_: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        found = next(c for c in self.status.conditions if c.type == type_)
        return str(found.status), found.reason, found.message

    def live(self) -> list[str]:
        """The names of the pods whose processes may run."""
        return sorted(name for name, pod in self.pods.items() if pod["status"]["phase"] not in TERMINAL)

    def ended(self) -> list[str]:
        """The names of the pods that have ended and are kept."""
        return sorted(name for name, pod in self.pods.items() if pod["status"]["phase"] in TERMINAL)

    def made(self) -> list[str]:
        """The names of the pods created so far, in order."""
        return [write.name for write in self.writes if write.verb == "create"]

    def told(self, reason: str) -> list[str]:
        """The notes of the Events of that reason."""
        return [event.note for event in self.events if event.reason == reason]

    def counted(self) -> list[int]:
        """The seconds after the start at which counted failures happened."""
        return [int((f.time - START).total_seconds()) for f in self.status.failures if f.counted]

    # --- the operator -------------------------------------------------------------------------------------------------

    def look(self) -> AgentSnapshot:
        """What the operator sees now."""
        nodes = [
            node_body(
                name,
                cordoned=name in self.cordoned,
                taints=self.taints.get(name, ()),
                boot_id=self.boots.get(name, ""),
            )
            for name in sorted((self.nodes or set()) | self.cordoned)
        ]
        meta = self.agent["metadata"]
        snapshot = observer_of(
            self.agent,
            *self.pods.values(),
            *self.supervisors,
            *nodes,
            reports=FixedReports(progress=self.progress),
            nodes_observed=self.nodes is not None,
        ).agent(meta["namespace"], meta["name"], 0.0)
        assert snapshot is not None
        return replace(snapshot, pods=tuple(self.arrange(list(snapshot.pods))))

    def pass_once(self) -> int:
        """One pass, carried out; the number of its writes. A crash ends it early."""
        snapshot = self.look()
        decision = decide(snapshot, self.now)
        self._judge_pass(snapshot, decision)
        if self.implying:
            moment = (self.now - START).total_seconds()
            decision = self.deferred_status.defer(KEY, snapshot, decision, self.now, moment)
        before = len(self.writes)
        try:
            self._carry_out(decision)
        except OperatorDied:
            self.deaths += 1
            self.crash_at = None
            self.deferred_status = DeferredStatus()  # all that it remembers
            return max(1, len(self.writes) - before)
        self.wake_at = None
        if decision.requeue_after is not None:
            self.wake_at = self.now + timedelta(seconds=decision.requeue_after)
        return len(self.writes) - before

    def settle(self) -> None:
        """Passes (and a prompt kubelet's doings) until nothing is left to do; time stands still."""
        for _ in range(PATIENCE):
            deaths = self.deaths
            wrote = self.pass_once()
            if self.deaths > deaths:
                continue  # it comes back to the very world it left
            moved = self._kubelet() if self.prompt else False
            if not wrote and not moved:
                return
        raise ImpossibleState(f"after {PATIENCE} passes the operator still writes: {self.writes[-5:]}")

    def advance(self, seconds: float) -> None:
        """Let time pass; the operator wakes when it asked to."""
        end = self.now + timedelta(seconds=seconds)
        self.settle()
        while self.wake_at is not None and self.wake_at <= end:
            self.now = max(self.now, self.wake_at)
            self.settle()
            if self.wake_at is not None and self.wake_at <= self.now:
                raise ImpossibleState("the operator asks to be woken at once, again and again")
        self.now = end
        self.settle()

    def _carry_out(self, decision: Decision[AgentStatus]) -> None:
        wire = decision.status.to_wire()
        if decision.status != self.status and wire != self.agent["status"]:
            self._about_to_write()
            if AgentStatus.model_validate(wire).to_wire() != wire:
                raise ImpossibleState("the status does not survive its own serialisation")
            self.agent["status"] = wire
            self.writes.append(Write("patch-status", "Agent", self.agent["metadata"]["name"], decision.status_reason))
        for effect in decision.effects:
            self._about_to_write()
            self._do(effect)
            self.writes.append(Write(effect.verb, effect.kind, effect.name, effect.reason))
        self.events.extend(decision.events)

    def _about_to_write(self) -> None:
        if self.crash_at is not None and len(self.writes) >= self.crash_at:
            raise OperatorDied

    def _do(self, effect: Effect) -> None:
        if effect.kind != "Pod":
            raise ImpossibleState(f"this world has no {effect.kind}")
        match effect.verb:
            case "patch" if "labels" in effect.body["metadata"]:
                if (pod := self.pods.get(effect.name)) is not None:
                    labels = pod["metadata"].get("labels", {}) | effect.body["metadata"]["labels"]
                    self.pods[effect.name] = pod | {"metadata": pod["metadata"] | {"labels": labels}}
            case "create":
                if effect.name in self.pods:
                    raise ImpossibleState(f"{effect.name} is created twice")
                self._uids += 1
                body = copy.deepcopy(effect.body)
                body["metadata"] |= {"uid": f"pod-{self._uids}", "creationTimestamp": format_time(self.now)}
                self.pods[effect.name] = body | {"status": {"phase": "Pending"}}
            case "delete":
                pod = self.pods.get(effect.name)
                if pod is None or pod["metadata"]["uid"] != effect.uid:
                    raise ImpossibleState(f"{effect.name} is deleted, but there is no such pod")
                self._mark_deleted(pod, effect.grace_seconds)
            case _:
                raise ImpossibleState(f"{effect.verb} of a pod without directives")
        self._check()

    # --- what must hold at every instant ------------------------------------------------------------------------------

    def _judge_pass(self, snapshot: AgentSnapshot, decision: Decision[AgentStatus]) -> None:
        stored = {record.ordinal: record for record in snapshot.agent.status.pods}
        after = {record.ordinal: record for record in decision.status.pods}
        for ordinal, record in after.items():
            if ordinal in stored and record.incarnation < stored[ordinal].incarnation < MAX_INCARNATION:
                raise ImpossibleState(f"the incarnation of ordinal {ordinal} shrinks")
        for effect in decision.effects:
            ordinal = int(effect.name.rsplit("-", 2)[1])
            if ordinal not in stored or stored[ordinal].incarnation != after[ordinal].incarnation:
                raise ImpossibleState(f"{effect.verb} {effect.name} in the very pass that changes its record")
        tolerance = snapshot.agent.spec.fault_tolerance
        for failure in decision.status.failures:
            in_window = failures_in_window(decision.status.failures, failure.time, tolerance.failure_window_seconds)
            if in_window > tolerance.max_failures + 1:
                raise ImpossibleState("more failures were counted in one window than the budget has room for")
        if decision.status.parked_at is not None and any(effect.verb == "create" for effect in decision.effects):
            raise ImpossibleState("a parked agent gets a pod")

    def _check(self) -> None:
        alive: dict[int, list[str]] = {}
        for name in self.live():
            node = self.pods[name]["spec"].get("nodeName")
            if self.nodes is None or node is None or node in self.nodes:
                alive.setdefault(int(name.rsplit("-", 2)[1]), []).append(name)
        for ordinal, names in alive.items():
            if len(names) > (2 if self._may_overlap() else 1):
                raise ImpossibleState(f"two live pods of ordinal {ordinal} at one instant: {', '.join(names)}")

    def _may_overlap(self) -> bool:
        spec = self.agent["spec"]
        equals = spec["replicas"] > 1 and spec.get("supervisionStrategy", "OneForOne") == "OneForOne"
        asked = spec.get("migrationStrategy") == "MakeBeforeBreak"
        return equals and asked and bool(self.status.migrations or self.status.disruptions)

    # --- the cluster --------------------------------------------------------------------------------------------------

    def tick(self, seconds: float) -> None:
        """Move the clock, and nothing else."""
        if seconds < 0:
            raise ImpossibleState("time goes backwards")
        self.now += timedelta(seconds=seconds)

    def _kubelet(self) -> bool:
        waiting = [
            name
            for name in self.live()
            if self.pods[name]["status"]["phase"] == "Pending"
            and "deletionTimestamp" not in self.pods[name]["metadata"]
            and not self.pods[name]["status"].get("conditions")
        ]
        for name in waiting:
            self.start(name, self._elsewhere(name))
        going = [name for name, pod in self.pods.items() if "deletionTimestamp" in pod["metadata"]]
        for name in going:
            self.reap(name)
        return bool(waiting or going)

    def _elsewhere(self, name: str) -> str:
        """node1, or node2 for a pod that would rather not be on node1, or when node1 takes none."""
        affinity = self.pods[name]["spec"].get("affinity", {}).get("nodeAffinity", {})
        preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        avoided = {
            v for term in preferred for e in term["preference"].get("matchExpressions", []) for v in e.get("values", [])
        }
        return "node2" if "node1" in avoided | self.cordoned else "node1"

    def start(self, name: str, node: str = "node1", ready: bool = True) -> None:
        """The kubelet starts the pod's containers."""
        self.schedule(name, node)
        running = {"state": {"running": {"startedAt": format_time(self.now)}}, "ready": ready}
        self._status(
            name,
            phase="Running",
            containerStatuses=[{"name": c["name"], **copy.deepcopy(running)} for c in self._containers(name)],
        )
        self._condition(name, "Ready", "True" if ready else "False")

    def schedule(self, name: str, node: str = "node1") -> None:
        """The scheduler finds a node for the pod."""
        self.pods[name]["spec"]["nodeName"] = node
        self._condition(name, "PodScheduled", "True")

    def cannot_schedule(self, name: str, message: str = "0/3 nodes are available: insufficient memory") -> None:
        """The scheduler finds no node for the pod."""
        self._condition(name, "PodScheduled", "False", "Unschedulable", message)

    def cannot_start(self, name: str, reason: str, message: str = "") -> None:
        """The kubelet cannot start the main container, and says why."""
        if not self.pods[name]["spec"].get("nodeName"):
            self.schedule(name)
        state = {"waiting": {"reason": reason, "message": message}}
        self._status(name, containerStatuses=[{"name": c["name"], "state": state} for c in self._containers(name)])

    def end(
        self, name: str, code: int = 1, reason: str | None = None, *, message: str | None = None, alone: bool = False
    ) -> None:
        """The main container exits, with a termination message or none; the others with it, unless it ends `alone`."""
        started = self._main(name)["state"].get("running", {}).get("startedAt")
        ended = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error")}
        ended |= {"finishedAt": format_time(self.now)} | ({"startedAt": started} if started else {})
        ended |= {"message": message} if message else {}
        self._main(name)["state"] = {"terminated": ended}
        self._condition(name, "Ready", "False")
        if not alone:
            self._status(name, phase="Succeeded" if code == 0 else "Failed")

    def end_at(self, name: str, when: datetime, code: int = 1) -> None:
        """The main container exited then; the kubelet was cut off, and says so only now."""
        now, self.now = self.now, when
        self.end(name, code)
        self.now = now

    def reject(self, name: str, reason: str) -> None:
        """The kubelet's admission rejects the pod: it never runs."""
        self.schedule(name)
        self._status(name, phase="Failed", reason=reason, message=f"Pod was rejected: {reason}")

    def announce(self, name: str, reason: str, status: str = "True") -> None:
        """A controller is about to disrupt the pod, or is not any more."""
        self._condition(name, "DisruptionTarget", status, reason)

    def unready(self, name: str) -> None:
        """The pod's readiness probe fails."""
        self._condition(name, "Ready", "False")

    def delete(self, name: str, grace: int = 5) -> None:
        """Somebody who is not the operator deletes the pod."""
        self._mark_deleted(self.pods[name], grace)

    def evict(self, name: str) -> None:
        """The kubelet evicts the pod: it stays, Failed."""
        self._condition(name, "DisruptionTarget", "True", "TerminationByKubelet")
        self._status(name, phase="Failed", reason="Evicted", message="the node was low on memory")

    def drain(self, name: str, reason: str = "EvictionByEvictionAPI") -> None:
        """The pod is asked to go: by a drain, a preempting scheduler or the taint manager."""
        self._condition(name, "DisruptionTarget", "True", reason)
        self._mark_deleted(self.pods[name], 5)

    def report_failed(self, name: str, reason: str) -> None:
        """An outside observer marks the pod as failed."""
        self.pods[name]["metadata"].setdefault("annotations", {})[ANNOTATION_FAILED] = reason

    def reap(self, name: str) -> None:
        """The pod's processes are gone, and so is the object."""
        del self.pods[name]

    def forget(self, names: Iterable[str] | None = None) -> None:
        """Pods vanish without having been seen terminating."""
        for name in list(names if names is not None else self.pods):
            del self.pods[name]

    # --- the user -----------------------------------------------------------------------------------------------------

    def change(self, **spec: Any) -> None:
        """The user changes the spec."""
        self.agent["spec"] |= spec
        self.agent["metadata"]["generation"] += 1

    def annotate(self, key: str, value: str) -> None:
        """The user annotates the Agent."""
        self.agent["metadata"]["annotations"][key] = value

    def lose_status(self, status: JsonDict | None = None) -> None:
        """Somebody wipes the status, or writes something else into it."""
        self.agent["status"] = status if status is not None else {"observedGeneration": -1}

    # --- the JSON -----------------------------------------------------------------------------------------------------

    def _containers(self, name: str) -> list[JsonDict]:
        return list(self.pods[name]["spec"]["containers"])

    def _main(self, name: str) -> JsonDict:
        statuses = self.pods[name]["status"]["containerStatuses"]
        return next((s for s in statuses if s["name"] == "agent"), statuses[0])

    def _status(self, name: str, **fields: Any) -> None:
        self.pods[name]["status"] |= fields

    def _condition(self, name: str, type_: str, status: str, reason: str = "", message: str = "") -> None:
        conditions = [c for c in self.pods[name]["status"].get("conditions", []) if c["type"] != type_]
        found = {"type": type_, "status": status, "lastTransitionTime": format_time(self.now)}
        found |= {"reason": reason, "message": message}
        self._status(name, conditions=[*conditions, found])

    def _mark_deleted(self, pod: JsonDict, grace: int | None) -> None:
        if pod["status"]["phase"] in TERMINAL:
            del self.pods[pod["metadata"]["name"]]  # nothing runs any more: the apiserver removes it at once
            return
        seconds = grace if grace is not None else pod["spec"].get("terminationGracePeriodSeconds", 30)
        gone = format_time(self.now + timedelta(seconds=seconds))
        pod["metadata"] |= {"deletionTimestamp": gone, "deletionGracePeriodSeconds": seconds}


def up(agent: JsonDict, **options: Any) -> World:
    """A world whose agent is up: every ordinal's first pod runs and is ready, and the operator has nothing to do."""
    world = World(agent, **options)
    prompt, world.prompt = world.prompt, True
    world.settle()
    world.prompt = prompt
    wanted = AgentState.RUNNING if agent["spec"]["replicas"] else AgentState.STOPPED
    if world.state != wanted:
        raise ImpossibleState(f"the agent is {world.state}, not {wanted}")
    return world
