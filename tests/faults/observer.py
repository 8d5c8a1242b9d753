"""Sees everything that happens to a namespace, straight from the apiserver, and holds it against what must always be true.

The events of one kind come in the order in which etcd took them, so what is kept of the pods at each event is what was true
at that revision.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp

from faults.apiserver import Api
from support.async_api import JsonDict, Refused

T = TypeVar("T")

SEEN: Final = ("agents", "orchestrationvariables", "supervisors", "pods", "configmaps")
# ConfigMaps that are there for reasons of their own: the cluster's, and the one in which a leader tells who it is.
BESIDE: Final = frozenset({"kube-root-ca.crt", "mabeam-service"})
POD_NAME: Final = re.compile(r"^(?P<agent>.+)-(?P<ordinal>\d+)-(?P<incarnation>\d+)$")
TERMINAL: Final = frozenset({"Succeeded", "Failed"})
TIMEOUT_SECONDS: Final = 60.0


class NotInTime(AssertionError):
    """What was awaited did not come."""


@dataclass
class Observer:
    """`objects` by kind and name as they are now; `violations` are what must never have happened, in words.

    `trusting` is for plans in which a third party writes into statuses: then numbers may move any way. `disowned` are pods that
    a third party has made nobody's. `order` are agents of a tree of which each one gets no pod while one before it is not ready.
    """

    api: Api
    trusting: bool = False
    disowned: set[str] = field(default_factory=set)
    order: Sequence[str] = ()
    objects: dict[str, dict[str, JsonDict]] = field(default_factory=lambda: {kind: {} for kind in SEEN})
    violations: list[str] = field(default_factory=list)
    created: Counter[str] = field(default_factory=Counter)
    events: int = 0
    watched: bool = False
    excused_until: float = float("-inf")
    _uids: set[str] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def __aenter__(self) -> "Observer":
        listed = {kind: asyncio.Event() for kind in SEEN}
        self._tasks = [asyncio.create_task(self._follow(kind, listed[kind])) for kind in SEEN]
        async with asyncio.timeout(30):
            for seen in listed.values():
                await seen.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, what: str, look: Callable[["Observer"], T], seconds: float = TIMEOUT_SECONDS) -> T:
        """What `look` returned once it was truthy; fails after the deadline, saying what was awaited."""
        began = time.monotonic()
        while True:
            self._changed.clear()
            found = look(self)
            if found:
                return found
            left = max(began, self.excused_until) + seconds - time.monotonic()
            if left <= 0:
                raise NotInTime(f"not within {seconds:.0f} s: {what}")
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def excuse(self, seconds: float) -> None:
        """Extend every timeout, of waits under way and to come, by so many seconds: the apiserver is away."""
        self.excused_until = time.monotonic() + seconds
        self._changed.set()

    def agent(self, name: str) -> JsonDict:
        """An agent's status; empty while there is none."""
        return (self.objects["agents"].get(name) or {}).get("status") or {}

    def variable(self, name: str) -> JsonDict:
        """A variable's status; empty while there is none."""
        return (self.objects["orchestrationvariables"].get(name) or {}).get("status") or {}

    def supervisor(self, name: str) -> JsonDict:
        """A Supervisor's status; empty while there is none."""
        return (self.objects["supervisors"].get(name) or {}).get("status") or {}

    def live_pods(self) -> dict[tuple[str, str], list[str]]:
        """The pods that may still run a process, by agent and ordinal; a dying one counts until it is gone."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, pod in self.objects["pods"].items():
            parts = POD_NAME.match(name)
            if parts and name not in self.disowned and pod.get("status", {}).get("phase") not in TERMINAL:
                found.setdefault((parts["agent"], parts["ordinal"]), []).append(name)
        return found

    async def _follow(self, kind: str, listed: asyncio.Event) -> None:
        while True:
            try:
                items, version = await self.api.list(kind)
                self._replace(kind, items)
                listed.set()
                while True:
                    async for event in self.api.watch(kind, version):
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            self._take(kind, event["type"], event["object"])
            except (Refused, aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.3)  # the apiserver itself may be what the plan disturbs

    def _replace(self, kind: str, items: list[JsonDict]) -> None:
        names = {item["metadata"]["name"] for item in items}
        for name in set(self.objects[kind]) - names:
            self._take(kind, "DELETED", self.objects[kind][name])
        # What ended comes first: a list is ordered by names, and so does not say what came before what.
        for item in sorted(items, key=lambda item: (item.get("status") or {}).get("phase") not in TERMINAL):
            self._take(kind, "MODIFIED", item)

    def _take(self, kind: str, type_: str, body: JsonDict) -> None:
        self.events += 1
        name = body["metadata"]["name"]
        before = self.objects[kind].get(name)
        if type_ == "DELETED":
            self.objects[kind].pop(name, None)
        else:
            self.objects[kind][name] = body
        if kind == "pods" and type_ != "DELETED":
            self._pod_seen(name, body)
        same = before is not None and before["metadata"]["uid"] == body["metadata"]["uid"]
        if type_ != "DELETED" and same and not self.trusting and before is not None:
            for what in CHECKS.get(kind, ()):
                problem = what(before.get("status") or {}, body.get("status") or {})
                if problem:
                    self.violations.append(f"{kind}/{name}: {problem}")
        self._changed.set()

    def _pod_seen(self, name: str, body: JsonDict) -> None:
        uid = body["metadata"]["uid"]
        if uid not in self._uids:
            self._uids.add(uid)
            self.created[name] += 1
            if self.created[name] > 1:
                self.violations.append(f"pod {name} came into being {self.created[name]} times")
            self._in_order(name)
        for (agent, ordinal), names in self.live_pods().items():
            if len(names) > 1:
                problem = f"two live pods of {agent}, ordinal {ordinal}: {', '.join(sorted(names))}"
                if problem not in self.violations:
                    self.violations.append(problem)

    def _in_order(self, name: str) -> None:
        agent = name.rsplit("-", 2)[0]
        if agent in self.order:
            for before in self.order[: self.order.index(agent)]:
                ready = any(
                    is_ready(pod) for other, pod in self.objects["pods"].items() if other.startswith(f"{before}-")
                )
                if not ready:
                    self.violations.append(f"pod {name} came into being while {before} was not ready")


def is_ready(body: JsonDict) -> bool:
    """Whether an object's condition says that it is ready."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


# --- what only ever grows ---------------------------------------------------------------------------------------------


def _counter(*path: str) -> Callable[[JsonDict, JsonDict], str | None]:
    def check(before: JsonDict, after: JsonDict) -> str | None:
        old, new = _at(before, path), _at(after, path)
        return f"{'.'.join(path)} went back from {old} to {new}" if new < old else None

    return check


def _at(status: JsonDict, path: tuple[str, ...]) -> int:
    value: Any = status
    for part in path:
        value = (value or {}).get(part) or 0
    return int(value or 0)


def _incarnations(before: JsonDict, after: JsonDict) -> str | None:
    old = {record["ordinal"]: record["incarnation"] for record in before.get("pods") or ()}
    for record in after.get("pods") or ():
        if record["incarnation"] < old.get(record["ordinal"], 0):
            return f"the incarnation of ordinal {record['ordinal']} went back to {record['incarnation']}"
    return None


def _ledger(before: JsonDict, after: JsonDict) -> str | None:
    old = [failure["pod"] for failure in before.get("failures") or ()]
    new = [failure["pod"] for failure in after.get("failures") or ()]
    if len(set(new)) < len(new):
        return f"a failure was recorded twice: {new}"
    return f"failures were lost: {old} became {new}" if new[: len(old)] != old else None


def _tokens(before: JsonDict, after: JsonDict) -> str | None:
    old = {(record["kind"], record["name"]): record["token"] for record in before.get("children") or ()}
    for record in after.get("children") or ():
        if record["token"] < old.get((record["kind"], record["name"]), 0):
            return f"the token of {record['name']} went back to {record['token']}"
        if record.get("due", record["token"] + 1) <= record["token"]:
            return f"{record['name']} is due a life of {record['due']}, and was told of {record['token']}"
    return None


CHECKS: Final = {
    "agents": (
        _counter("restarts"),
        _counter("disruptions"),
        _counter("directives", "generation"),
        _counter("directives", "appliedGeneration"),
        _counter("supervision", "token"),
        _incarnations,
        _ledger,
    ),
    "orchestrationvariables": (_counter("round"),),
    "supervisors": (_counter("totalRestarts"), _counter("supervision", "token"), _tokens),
}
