"""A namespace in memory full of what its schema admits: passes go through the operator's own door and core until it rests.

Nothing is asserted here about what is decided, only what must hold of any decision: no exception, a status that the CRD's
schema takes whole, bodies that can be sent, a condition that says why, and an end of writing when nothing else happens.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from faults import schema
from faults.schema import JsonDict
from mabeam.api.names import API_VERSION
from mabeam.core.decision import AnyStatus, Decision, Effect
from mabeam.core.passes.decide import decide
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import AgentSnapshot, Key, PodRefused, ResizeRefused, Snapshot, SupervisorSnapshot
from mabeam.state.observe import Observer
from support.builders import at
from support.observed import FixedReports, node_body, observer_of

TIMEOUT = 12
# etcd takes 1.5 MB; a status beyond this would crowd out the spec.
MAX_STATUS_BYTES = 1_000_000


KINDS = ("Agent", "OrchestrationVariable", "Supervisor")


@dataclass
class RefusedPods:
    """An apiserver that refuses the pods of these agents, whatever their spec is by now."""

    agents: set[str]
    names_taken: dict[str, str] = field(default_factory=dict)

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """The refusal of the agent's pod."""
        name = uid.removeprefix("uid-of-")
        return PodRefused("spec.containers[0].image: Required value", 15.0) if name in self.agents else None

    def of_resizes(self, uid: str, namespace: str) -> Mapping[str, ResizeRefused]:
        """None."""
        return {}

    def by_pod_quota(self, namespace: str) -> frozenset[str]:
        """None: no quota refuses them."""
        return frozenset()


def parsed_status(snapshot: Snapshot) -> AnyStatus:
    """The stored status, as the snapshot has it."""
    if isinstance(snapshot, AgentSnapshot):
        return snapshot.agent.status
    return snapshot.supervisor.status if isinstance(snapshot, SupervisorSnapshot) else snapshot.variable.status


@dataclass
class HostileWorld:
    """Agents, variables, Supervisors, pods and ConfigMaps by name, and what the agents' processes report."""

    agents: dict[str, JsonDict] = field(default_factory=dict)
    variables: dict[str, JsonDict] = field(default_factory=dict)
    supervisors: dict[str, JsonDict] = field(default_factory=dict)
    pods: dict[str, JsonDict] = field(default_factory=dict)
    config_maps: dict[str, JsonDict] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    refuses_pods: bool = False
    refused: set[str] = field(default_factory=set)
    now: datetime = field(default_factory=lambda: at(60))
    written: list[str] = field(default_factory=list)

    def add(self, kind: str, name: str, spec: Any, status: JsonDict | None = None, **meta: Any) -> None:
        """Put an object there, as an apiserver that knows only the schema would have stored it."""
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "generation": 1, **meta},
            "spec": spec,
            "status": {"observedGeneration": -1} | (status or {}),
        }
        self.of(kind)[name] = body

    def of(self, kind: str) -> dict[str, JsonDict]:
        """The objects of a kind."""
        return {"Agent": self.agents, "OrchestrationVariable": self.variables, "Supervisor": self.supervisors}[kind]

    def settle(self) -> None:
        """Passes over everything until none writes; fails when that never comes."""
        for _ in range(TIMEOUT):
            before = len(self.written)
            for kind in KINDS:
                for name in self.of(kind):
                    self._pass(kind, name)
            if len(self.written) == before:
                return
        raise AssertionError(f"after {TIMEOUT} passes there are still writes, the last ones: {self.written[-6:]}")

    def conditions_of(self, kind: str, name: str) -> dict[str, tuple[str, str, str]]:
        """Status, reason and message of each condition of an object."""
        body = self.of(kind)[name]
        return {c["type"]: (c["status"], c["reason"], c["message"]) for c in body["status"].get("conditions", ())}

    # --- passes -------------------------------------------------------------------------------------------------------

    def _pass(self, kind: str, name: str) -> None:
        """One pass of the operator over an object: observe, decide, and carry out."""
        snapshot = self._observer().snapshot(Key(kind, "team", name), 0.0)
        assert snapshot is not None
        before = parsed_status(snapshot).to_wire()
        self._carry_out(kind, self.of(kind)[name], before, decide(snapshot, self.now))

    def _observer(self) -> Observer:
        bodies = (body for kind in KINDS for body in self.of(kind).values())
        cluster = (
            *({**pod, "kind": "Pod"} for pod in self.pods.values()),
            *({**found, "kind": "ConfigMap"} for found in self.config_maps.values()),
            node_body("node1"),
        )
        by_pod = {pod: self.reports[a] for pod in self.pods if (a := pod.rsplit("-", 2)[0]) in self.reports}
        return observer_of(
            *bodies, *cluster, reports=FixedReports(by_pod, self.reports), refusals=RefusedPods(self.refused)
        )

    def _carry_out(self, kind: str, body: JsonDict, before: JsonDict, decision: Decision[Any]) -> None:
        wire = decision.status.to_wire()
        wrong = schema.problem(schema.of(kind, "status"), wire)
        assert wrong is None, f"the apiserver would refuse the status of {kind} {body['metadata']['name']}: {wrong}"
        assert len(_sent(wire)) < MAX_STATUS_BYTES, "the status outgrows the object"
        silent = unsaid(kind, wire) if wire.get("observedGeneration", -1) >= 0 else None
        assert silent is None, f"{body['metadata']['name']}: {silent}"
        assert decision.requeue_after is None or 0 <= decision.requeue_after < math.inf, decision.requeue_after
        for event in decision.events:
            _sent([event.note, event.reason])
        if wire != before:
            body["status"] = wire
            self.written.append(f"status of {kind} {body['metadata']['name']} ({decision.status_reason})")
        for effect in decision.effects:
            if not self._do(effect, body["metadata"]):
                return

    # --- the apiserver ------------------------------------------------------------------------------------------------

    def _do(self, effect: Effect, owner: JsonDict) -> bool:
        """Whether the effect was done; the ones after one that was not are left undone, as the shell does."""
        _sent(effect.body)
        objects = self.pods if effect.kind == "Pod" else self.config_maps
        if effect.verb == "create" and effect.name in objects:
            return False
        if effect.verb == "create" and effect.kind == "Pod" and self.refuses_pods:
            self.refused.add(owner["name"])
            self.written.append(f"refused {effect.name}")
            return False
        if effect.name in objects or effect.verb == "create":
            self.written.append(f"{effect.verb} {effect.kind} {effect.name} ({effect.reason})")
        match effect.verb:
            case "create":
                body = copy.deepcopy(effect.body)
                body["metadata"] |= {"uid": f"{effect.name}-{len(self.written)}", "resourceVersion": "1"}
                if effect.kind == "Pod":  # what is left of the template once the apiserver has checked it
                    body |= {"spec": {"containers": [{"name": "agent"}]}, "status": {"phase": "Pending"}}
                objects[effect.name] = body
            case "delete":
                assert objects[effect.name]["metadata"]["uid"] == effect.uid, f"deletes another {effect.name}"
                del objects[effect.name]
            case "apply":
                objects[effect.name]["data"] = copy.deepcopy(effect.body["data"])
            case _ if effect.name in objects:
                meta = objects[effect.name]["metadata"]
                for field_, values in effect.body["metadata"].items():
                    meta[field_] = (meta.get(field_) or {}) | values
        return True


def unsaid(kind: str, status: JsonDict) -> str | None:
    """What the conditions of an object of ours fail to say, None when they say how it stands and why."""
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    missing = {"Accepted", "Ready", "Reconciling", "Stalled"} - conditions.keys()
    if missing:
        return f"{kind} has no condition {', '.join(sorted(missing))}"
    ready, stalled, going = (conditions[type_]["status"] == "True" for type_ in ("Ready", "Stalled", "Reconciling"))
    reason, message = conditions["Ready"]["reason"], conditions["Ready"]["message"]
    wrong = {
        "Ready has no reason": not reason,
        f"{kind} is not Ready ({reason}) and does not say why": not ready and not message,
        f"{kind} is neither Ready nor Stalled nor Reconciling ({reason})": not (ready or stalled or going)
        and kind != "OrchestrationVariable",
        f"{kind} is Ready and Stalled": ready and stalled,
    }
    return next((words for words, holds in wrong.items() if holds), None)


def _sent(value: Any) -> bytes:
    """The bytes on the wire; fails for what no JSON can carry."""
    wrong = schema.problem({schema.PRESERVE: True}, value)
    assert wrong is None, f"cannot be sent: {wrong}"
    return orjson.dumps(value)  # as the operator's own door does: it takes less than the standard library does
