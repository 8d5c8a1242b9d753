"""The reference workload: a small team's workload, the same in every run. Each step waits for its condition, never for time.

Four agents on fake nodes: one Permanent, one Transient with two replicas, one Temporary, one without any budget. Two of them
share a variable. They fail, are parked, end, get another value, get another spec, are scaled away and deleted.
The tree's workload is in `tree.py`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from faults.arena import Arena
from faults.observer import Observer
from faults.schema import PLURALS
from support.async_api import JsonDict

API: Final = "mabeam.dev/v1alpha1"
# Longer than any backoff, refusal or resync that a fault can cost a step; a step that takes as long has lost something.
STEP_SECONDS: Final = 90.0

Step = Callable[[Arena], Awaitable[None]]


@dataclass(frozen=True)
class Workload:
    """A script of steps, and its name.

    Where `generations_vary`, how many contents an agent's file had on the way depends on what came together: its peers' addresses
    come and go with their pods. Then only that status, ConfigMap and pods agree on the last one is compared.
    """

    name: str
    steps: Sequence[Step]
    generations_vary: bool = False


# --- the objects ------------------------------------------------------------------------------------------------------


def agent(name: str, *, mark: str = "1", **spec: Any) -> JsonDict:
    """An Agent whose pods run on fake nodes; another `mark` is another pod template."""
    container = {"name": "agent", "image": "nothing:1", "env": [{"name": "MARK", "value": mark}]}
    fake = {
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
        "terminationGracePeriodSeconds": 1,
    }
    usual: JsonDict = {
        "template": {"spec": {"containers": [container], **fake}},
        "reports": {"source": "None"},
        # A day: how long a plan takes must not decide whether a failure is still inside the window.
        "faultTolerance": tolerance(5),
    }
    return {"apiVersion": API, "kind": "Agent", "metadata": {"name": name}, "spec": usual | spec}


def tolerance(failures: int, initial: float = 0) -> JsonDict:
    """A budget of so many failures a day; no delay before a restart unless asked for."""
    backoff = {"initialSeconds": initial, "factor": 1, "jitter": 0, "resetAfterSeconds": 86_400}
    return {"maxFailures": failures, "failureWindowSeconds": 86_400, "backoff": backoff}


def variable(name: str, agents: Sequence[str], **spec: Any) -> JsonDict:
    """A variable over some agents."""
    body = {"type": "Parameter", "agents": {"names": list(agents)}, **spec}
    return {"apiVersion": API, "kind": "OrchestrationVariable", "metadata": {"name": name}, "spec": body}


def prefers(value: float) -> list[JsonDict]:
    """The preference of an agent for the temperature."""
    return [{"variable": "temperature", "value": value, "weight": 1}]


# --- what is awaited --------------------------------------------------------------------------------------------------


def runs(name: str, *pods: str) -> Callable[[Observer], bool]:
    """Whether exactly these pods of an agent run, and its status says so for its present spec."""

    def look(seen: Observer) -> bool:
        status, body = seen.agent(name), seen.objects["agents"].get(name)
        if body is None or status.get("observedGeneration") != body["metadata"]["generation"]:
            return False
        records = status.get("pods") or ()
        return (
            {record["name"] for record in records} == set(pods)
            and all(record["state"] == "Running" for record in records)
            and status.get("readyReplicas") == len(pods)
            and status.get("state") == "Running"
            and all(_running(seen.objects["pods"].get(pod)) for pod in pods)
        )

    return look


def _running(pod: JsonDict | None) -> bool:
    return pod is not None and pod.get("status", {}).get("phase") == "Running"


def rests(name: str, state: str, reason: str) -> Callable[[Observer], bool]:
    """Whether an agent rests in that state, for that reason."""

    def look(seen: Observer) -> bool:
        status = seen.agent(name)
        reasons = {c["type"]: c["reason"] for c in status.get("conditions") or ()}
        return bool(status.get("state") == state and reason in (reasons.get("Ready"), reasons.get("Stalled")))

    return look


def has_value(value: float, generation: int, *agents: str, pods: Sequence[str] = ()) -> Callable[[Observer], bool]:
    """Whether a value was decided, every agent's ConfigMap holds it, and their pods were made to look."""

    def look(seen: Observer) -> bool:
        status = seen.variable("temperature")
        counts = status.get("directives") or {}
        if status.get("value") != value or counts.get("delivered") != len(agents):
            return False
        if any((seen.agent(name).get("directives") or {}).get("generation") != generation for name in agents):
            return False
        marks = (
            seen.objects["pods"].get(pod, {}).get("metadata", {}).get("annotations", {}).get(GENERATION) for pod in pods
        )
        return all(mark == str(generation) for mark in marks)

    return look


GENERATION: Final = "mabeam.dev/directives-generation"


# --- what users, kubelets and third parties do ----------------------------------------------------------------------------


async def create(arena: Arena, body: JsonDict) -> None:
    """A user creates an object of ours."""
    await arena.api.create(PLURALS[body["kind"]], body)


async def ends(arena: Arena, pod: str, code: int) -> None:
    """The kubelet tells that the container of a running pod ended with a code."""
    await arena.observer.until(f"{pod} runs", lambda seen: _running(seen.objects["pods"].get(pod)), STEP_SECONDS)
    body = await arena.api.get("pods", pod)
    statuses = body["status"].get("containerStatuses") or [{"name": "agent", "image": "nothing:1", "imageID": ""}]
    started = (statuses[0].get("state") or {}).get("running", {}).get("startedAt")
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": started}
    ended |= {"startedAt": started} if started else {}
    first = statuses[0] | {"ready": False, "restartCount": 0, "state": {"terminated": ended}}
    phase = "Succeeded" if code == 0 else "Failed"
    await arena.api.patch("pods", pod, {"status": {"phase": phase, "containerStatuses": [first]}}, "status")


# --- the steps --------------------------------------------------------------------------------------------------------


async def _begin_steady(arena: Arena) -> None:
    await create(arena, agent("steady", preferences=prefers(0.2), faultTolerance=tolerance(5, initial=0.5)))
    await _await(arena, "steady runs", runs("steady", "steady-0-1"))


async def _begin_pair(arena: Arena) -> None:
    await create(arena, agent("pair", restartStrategy="Transient", replicas=2, preferences=prefers(0.8)))
    await _await(arena, "pair runs", runs("pair", "pair-0-1", "pair-1-1"))


async def _begin_others(arena: Arena) -> None:
    await create(arena, agent("once", restartStrategy="Temporary"))
    await create(arena, agent("fragile", faultTolerance=tolerance(0)))
    await _await(arena, "once runs", runs("once", "once-0-1"))
    await _await(arena, "fragile runs", runs("fragile", "fragile-0-1"))


async def _negotiate(arena: Arena) -> None:
    domain = {"type": "Number", "minimum": 0, "maximum": 1, "step": 0.1}
    spec = {"domain": domain, "value": 0.1, "negotiation": {"strategy": "WeightedConsensus"}}
    await create(arena, variable("temperature", ["steady", "pair"], **spec))
    pods = ("steady-0-1", "pair-0-1", "pair-1-1")
    await _await(arena, "a temperature of 0.5", has_value(0.5, 1, "steady", "pair", pods=pods))


async def _fail_one(arena: Arena) -> None:
    await ends(arena, "pair-1-1", 2)
    await _await(arena, "pair runs again", runs("pair", "pair-0-1", "pair-1-2"))


async def _fail_twice(arena: Arena) -> None:
    await ends(arena, "steady-0-1", 1)
    await _await(arena, "steady runs again", runs("steady", "steady-0-2"))
    await ends(arena, "steady-0-2", 1)
    await _await(arena, "steady runs again, after a delay", runs("steady", "steady-0-3"))


async def _end_others(arena: Arena) -> None:
    await ends(arena, "fragile-0-1", 7)
    await _await(arena, "fragile is parked", rests("fragile", "Failed", "RestartBudgetExhausted"))
    await ends(arena, "once-0-1", 0)
    await _await(arena, "once is done", rests("once", "Stopped", "Completed"))


async def _change_minds(arena: Arena) -> None:
    await arena.api.patch("agents", "steady", {"spec": {"preferences": prefers(0.6)}})
    pods = ("steady-0-3", "pair-0-1", "pair-1-2")
    await _await(arena, "a temperature of 0.7", has_value(0.7, 2, "steady", "pair", pods=pods))


async def _change_spec(arena: Arena) -> None:
    body = agent("steady", mark="2")["spec"]["template"]
    await arena.api.patch("agents", "steady", {"spec": {"template": body}})
    await _await(arena, "steady runs by its new spec", runs("steady", "steady-0-4"))


async def _scale_away(arena: Arena) -> None:
    await arena.api.patch("agents", "pair", {"spec": {"replicas": 0}})
    await _await(arena, "pair rests", rests("pair", "Stopped", "Stopped"))
    await _await(arena, "pair's pods are gone", lambda seen: not _pods_of(seen, "pair"))


async def _delete(arena: Arena) -> None:
    await arena.api.delete("agents", "fragile", propagationPolicy="Background")
    await _await(arena, "fragile's pods are gone", lambda seen: not _pods_of(seen, "fragile"))


def _pods_of(seen: Observer, name: str) -> list[str]:
    return [pod for pod in seen.objects["pods"] if pod.rsplit("-", 2)[0] == name]


async def _await(arena: Arena, what: str, look: Callable[[Observer], bool]) -> None:
    await arena.observer.until(what, look, STEP_SECONDS)


STEPS: Final[Sequence[Step]] = (
    _begin_steady,
    _begin_pair,
    _begin_others,
    _negotiate,
    _fail_one,
    _fail_twice,
    _end_others,
    _change_minds,
    _change_spec,
    _scale_away,
    _delete,
)
TEAM: Final = Workload("team", STEPS)


async def drive(arena: Arena, steps: Sequence[Step]) -> None:
    """Play the steps; fails when one takes too long."""
    for step in steps:
        await step(arena)
