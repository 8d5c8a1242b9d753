"""Eventually stable reconciliation. When faults end, the cluster comes to the undisturbed run's end, and rests.

What is compared are the Agents, variables and Supervisors with their whole status, the pods, and the ConfigMaps'
directives; uids, nodes and times apart. What must hold at every instant is the observer's part.
"""

import asyncio
import difflib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from faults.arena import Arena
from faults.observer import BESIDE, SEEN, Observer
from faults.reference_workload import GENERATION, Workload
from mabeam.api.names import decision_config_map
from support.async_api import JsonDict

SETTLE_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 5.0

End = Mapping[str, JsonDict]

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NODE: Final = re.compile(r"\bkwok-\d+\b")
_IGNORED_ANNOTATIONS: Final = frozenset({"mabeam.dev/directives-nudge"})


@dataclass(frozen=True)
class Undisturbed:
    """What a run without faults came to, and how long it is in writes and watch events: other runs are compared with it."""

    workload: Workload
    end: End
    created: tuple[str, ...]
    writes: int
    events: int
    seconds: float
    journal: tuple[str, ...] = ()


def end_of(seen: Observer, *, generations_vary: bool = False) -> End:
    """The state of a namespace, without what differs from run to run."""
    found = {}
    for kind in SEEN:
        for name, body in seen.objects[kind].items():
            if name not in BESIDE:
                shown = _SHOWN[kind](body)
                if generations_vary:
                    shown = _without_numbers(shown, _newest(seen, kind, name))
                found[f"{kind}/{name}"] = _scrubbed(shown)
    return found


_NUMBERED: Final = frozenset({"generation", "appliedGeneration", GENERATION})


def _newest(seen: Observer, kind: str, name: str) -> int | None:
    """The generation that the agent's status stands for, of whom the object is."""
    owner = {"pods": lambda: name.rsplit("-", 2)[0], "configmaps": lambda: name.removesuffix("-mabeam")}
    agent = owner.get(kind, lambda: name)()
    number = (seen.agent(agent).get("directives") or {}).get("generation") if agent in seen.objects["agents"] else None
    return number if isinstance(number, int) else None


def _without_numbers(value: Any, newest: int | None) -> Any:
    """The same with the newest generation called that, and of a single directive none: when it was shown is chance."""
    if isinstance(value, dict):
        single = "action" in value and "variable" in value
        return {
            key: ("<some>" if single else "<newest>" if str(inner) == str(newest) else inner)
            if key in _NUMBERED
            else _without_numbers(inner, newest)
            for key, inner in value.items()
        }
    return [_without_numbers(inner, newest) for inner in value] if isinstance(value, list) else value


def _own(body: JsonDict) -> JsonDict:
    return {"labels": _meta(body, "labels"), "spec": body["spec"], "status": body.get("status")}


def _pod(body: JsonDict) -> JsonDict:
    status = body.get("status") or {}
    annotations = {k: v for k, v in _meta(body, "annotations").items() if k not in _IGNORED_ANNOTATIONS}
    states = [sorted(c.get("state") or {}) for c in status.get("containerStatuses") or ()]
    shown = {"phase": status.get("phase"), "containers": states, "dying": "deletionTimestamp" in body["metadata"]}
    return {"labels": _meta(body, "labels"), "annotations": annotations, "owners": _owners(body), "status": shown}


def _config_map(body: JsonDict) -> JsonDict:
    if body["metadata"]["name"].endswith(decision_config_map("")):
        # What a decision rested on is seen at a moment of its own in every run; that there is a record is not.
        return {"labels": _meta(body, "labels"), "owners": _owners(body)}
    data = {key: json.loads(text) for key, text in (body.get("data") or {}).items()}
    return {"labels": _meta(body, "labels"), "owners": _owners(body), "data": data}


_SHOWN: Final = {
    "agents": _own,
    "orchestrationvariables": _own,
    "supervisors": _own,
    "pods": _pod,
    "configmaps": _config_map,
}


def _meta(body: JsonDict, key: str) -> JsonDict:
    return dict(body["metadata"].get(key) or {})


def _owners(body: JsonDict) -> list[str]:
    return [f"{owner['kind']}/{owner['name']}" for owner in body["metadata"].get("ownerReferences") or ()]


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _scrubbed(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_scrubbed(inner) for inner in value]
    if isinstance(value, str):
        return _NODE.sub("<node>", _UID.sub("<uid>", _TIME.sub("<time>", value)))
    return value


def difference(expected: End, actual: End) -> str:
    """Where two ends differ, as a diff of YAML; empty when they do not."""
    lines: list[str] = []
    for name in sorted({*expected, *actual}):
        one, other = (_lines(end.get(name)) for end in (expected, actual))
        if one != other:
            lines += difflib.unified_diff(one, other, f"undisturbed {name}", f"this run {name}", lineterm="", n=2)
    return "\n".join(lines)


def _lines(value: Any) -> list[str]:
    return yaml.safe_dump(value, width=200).splitlines() if value is not None else []


async def check(
    arena: Arena,
    undisturbed: Undisturbed,
    *,
    settle: float = SETTLE_SECONDS,
    quiet: float = QUIET_SECONDS,
    ignoring: frozenset[str] = frozenset(),
) -> None:
    """Fail unless, faults having ended, the cluster comes to the undisturbed end within `settle` seconds, and rests.

    `ignoring` names objects (`pods/x-0-1`) that a plan itself has made different.
    """
    expected = {name: body for name, body in undisturbed.end.items() if name not in ignoring}
    began = time.monotonic()

    def now() -> str:
        actual = {
            name: body
            for name, body in end_of(arena.observer, generations_vary=undisturbed.workload.generations_vary).items()
            if name not in ignoring
        }
        return difference(expected, actual)

    while True:
        differs = await _equal_by(began + settle, now)
        waited = await rest(arena, quiet, began + settle + quiet)
        if waited and not differs and not (differs := now()):
            break
        if time.monotonic() >= began + settle:
            problem = (
                f"differs from the undisturbed end:\n{differs}" if differs else f"no {quiet:.0f} s without a write"
            )
            fail(arena, f"after {settle:.0f} s: {problem}")
    arena.note("seconds to the end", max(0.0, time.monotonic() - began - quiet))
    arena.note("writes more than undisturbed", arena.proxy.count - undisturbed.writes)
    created = tuple(sorted(arena.observer.created.elements()))
    if not ignoring and created != undisturbed.created:
        fail(arena, f"the pods that were ever created are {created}, undisturbed {undisturbed.created}")
    clean(arena)


def clean(arena: Arena) -> None:
    """Fail if the observer saw what must never happen."""
    if arena.observer.violations:
        fail(arena, "\n".join(arena.observer.violations[:10]))


def fail(arena: Arena, problem: str) -> None:
    """Raise the plan's failure: what differs, the writes up to it, and the end of the operator's log."""
    writes = "\n".join(f"{record.request} -> {record.status}" for record in arena.proxy.writes[-30:])
    raise AssertionError(f"{problem}\n--- the last writes\n{writes}\n{arena.words()}")


async def _equal_by(deadline: float, now: Any) -> str:
    while True:
        differs: str = now()
        if not differs or time.monotonic() >= deadline:
            return differs
        await asyncio.sleep(0.25)


async def rest(arena: Arena, quiet: float, deadline: float) -> bool:
    """Whether a window of so many seconds without any write but the Lease and Events began before the deadline."""
    while True:
        since = time.monotonic() - arena.proxy.last_write
        if since >= quiet:
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(min(quiet - since, 0.5) + 0.01)
