"""What API objects, logs and reports say: pure functions, so that the demo's judgement can be tested without a cluster."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JsonDict = dict[str, Any]

_TEMPERATURE = re.compile(r"temperature (?P<value>[0-9.]+) \(directives of generation (?P<generation>\d+)\)")
_APPLIED = re.compile(r"^mabeam_applied_generation (?P<generation>[0-9.e+]+)", re.MULTILINE)
_RELEASE = re.compile(r"kubectl annotate .*$", re.DOTALL)


def status_of(obj: Mapping[str, Any]) -> JsonDict:
    """An object's status, empty when it has none."""
    return dict(obj.get("status") or {})


def condition(obj: Mapping[str, Any], kind: str) -> JsonDict:
    """A condition, empty when it is not there."""
    conditions = status_of(obj).get("conditions") or []
    return next((dict(one) for one in conditions if one["type"] == kind), {})


def state_of(obj: Mapping[str, Any]) -> str:
    """An agent's state word."""
    return str(status_of(obj).get("state") or "not seen yet")


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Whether the operator has seen the newest spec, and calls the object Ready."""
    ready = condition(obj, "Ready")
    newest = (obj.get("metadata") or {}).get("generation")
    return ready.get("status") == "True" and ready.get("observedGeneration") == newest


def failures_of(agent: Mapping[str, Any]) -> list[JsonDict]:
    """An agent's ledger, oldest entry first."""
    return list(status_of(agent).get("failures") or [])


def current_pod(agent: Mapping[str, Any]) -> str:
    """The name of the pod that stands for the agent's first replica now; empty when there is none yet."""
    pods = status_of(agent).get("pods") or []
    return str(pods[0].get("name") or "") if pods else ""


def incarnation(agent: Mapping[str, Any]) -> int:
    """How often the first replica was given a pod."""
    pods = status_of(agent).get("pods") or []
    return int(pods[0]["incarnation"]) if pods else 0


def container_restarts(pod: Mapping[str, Any]) -> int:
    """How often the kubelet started the pod's first container anew."""
    containers = status_of(pod).get("containerStatuses") or []
    return int(containers[0].get("restartCount") or 0) if containers else 0


@dataclass(frozen=True)
class Obeyed:
    """What a process itself says: the temperature it works at, and the generation that told it."""

    temperature: float
    generation: int


def obeyed(log: str) -> Obeyed | None:
    """The newest temperature in a process's log, None when there is none."""
    found = list(_TEMPERATURE.finditer(log))
    return Obeyed(float(found[-1]["value"]), int(found[-1]["generation"])) if found else None


def first_obeyed(log: str) -> Obeyed | None:
    """The first temperature a process was told."""
    found = _TEMPERATURE.search(log)
    return Obeyed(float(found["value"]), int(found["generation"])) if found else None


def applied_generation(report: str) -> int:
    """The generation that a process's report acknowledges; 0 for none."""
    found = _APPLIED.search(report)
    return int(float(found["generation"])) if found else 0


def release_command(message: str) -> str | None:
    """The command a parked agent's message gives to release it."""
    found = _RELEASE.search(message)
    return found[0].strip() if found else None


def is_live(pod: Mapping[str, Any]) -> bool:
    """Whether a process of the pod may run. The kubelet tells of an ended container before it tells of the phase."""
    status = status_of(pod)
    ended = ["terminated" in (one.get("state") or {}) for one in status.get("containerStatuses") or []]
    return status.get("phase") in ("Pending", "Running") and not (ended and all(ended))


@dataclass(frozen=True)
class Track:
    """What must not be lost or doubled of an agent: incarnation, ledger, counted restarts, and its live pods by uid."""

    incarnation: int
    failures: int
    restarts: int
    pods: tuple[str, ...]


def track(agent: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> Track:
    """The track of an agent at this moment; ended pods, kept for their logs, are not live."""
    live = tuple(
        sorted(
            str(pod["metadata"]["uid"])
            for pod in pods
            if (pod["metadata"].get("labels") or {}).get("mabeam.dev/agent") == agent["metadata"]["name"]
            and is_live(pod)
        )
    )
    return Track(incarnation(agent), len(failures_of(agent)), int(status_of(agent).get("restarts") or 0), live)


def differences(before: Mapping[str, Track], after: Mapping[str, Track], restarted: str) -> list[str]:
    """What was lost or doubled while `restarted`, and it alone, was restarted once; empty when all is as it should be."""
    wrong = []
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            wrong.append(f"{name} is gone")
            continue
        once = int(name == restarted)
        for what, old, new in (
            ("incarnation", was.incarnation, now.incarnation),
            ("ledger entries", was.failures, now.failures),
            ("restarts", was.restarts, now.restarts),
        ):
            if new != old + once:
                wrong.append(f"{name}: {what} {old} → {new}, expected {old + once}")
        if once and (len(now.pods) != 1 or now.pods == was.pods):
            wrong.append(f"{name}: {len(now.pods)} live pods, expected one new one")
        if not once and now.pods != was.pods:
            wrong.append(f"{name}: its pod was replaced")
    return wrong


def pods_of(agents: Iterable[str], incarnations: Mapping[str, int]) -> list[str]:
    """The names of the agents' pods in these incarnations, in their order."""
    return [f"{name}-0-{incarnations[name]}" for name in agents]


def not_ready(names: Iterable[str], pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which of these pods are not there and ready."""
    ready = {pod["metadata"]["name"] for pod in pods if condition(pod, "Ready").get("status") == "True"}
    return [name for name in names if name not in ready]


def early(order: Sequence[str], pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which pods of a tree, as it is at one moment, came before their turn: one before them is not ready."""
    there, waited_for = {pod["metadata"]["name"] for pod in pods}, not_ready(order, pods)
    return [
        f"{name} is there, and {before} is not ready"
        for place, name in enumerate(order)
        for before in order[:place]
        if name in there and before in waited_for
    ]


def overlapping(old: Iterable[str], new: Sequence[str], pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of the new pods of a group are there, at one moment, while an old one may still run."""
    there = {pod["metadata"]["name"] for pod in pods}
    alive = {pod["metadata"]["name"] for pod in pods if is_live(pod)}
    return [
        f"{name} is there, and {before} still runs"
        for before in old
        if before in alive
        for name in new
        if name in there
    ]


def group_restarts(supervisor: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """A Supervisor's restarts: who failed, and who was started anew."""
    return [(one["child"], tuple(one.get("group") or ())) for one in status_of(supervisor).get("restarts") or []]


def ledger_line(entry: Mapping[str, Any]) -> str:
    """An entry of the ledger on one line."""
    words = [
        f"{key}: {str(entry[key]).lower() if isinstance(entry[key], bool) else entry[key]}"
        for key in ("time", "cause", "exitCode", "pod", "counted")
        if key in entry
    ]
    return ", ".join(words)
