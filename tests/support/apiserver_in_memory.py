"""An apiserver in memory with the methods of the operator's client: versions, merge patches, conflicts, a watch that may lag.

What it does not do: validation, subresources other than status and resize, pagination.
"""

import copy
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mabeam.api.base import JsonDict
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.list_page import ListPage
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.kube.unreadable import UnreadableObjects

Place = tuple[str, str, str]  # kind, namespace, name
TERMINAL = ("Succeeded", "Failed")


def patched(target: Any, patch: Any) -> Any:
    """The target after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


@dataclass
class ApiserverInMemory:
    """Stores bodies as JSON. Its watch events wait in `events` until `deliver` passes them to `on_event`.

    `refusals` holds the errors of writes, by (verb, kind, name) or (verb, kind); `before_write` is called before each write.
    """

    on_event: Callable[[str, str, JsonDict], None] = lambda kind, type_, body: None
    before_write: Callable[[str, str, str], None] = lambda verb, kind, name: None
    objects: dict[Place, JsonDict] = field(default_factory=dict)
    events: deque[tuple[str, str, JsonDict]] = field(default_factory=deque)
    refusals: dict[tuple[str, ...], Exception] = field(default_factory=dict)
    list_refusals: dict[tuple[str, str | None], Exception] = field(default_factory=dict)  # kind, namespace → error
    writes: list[tuple[str, str, str]] = field(default_factory=list)  # verb, kind, name
    clock: ServerClock = field(default_factory=ServerClock)
    unreadable: UnreadableObjects = field(default_factory=UnreadableObjects)
    connection: Any = field(default_factory=lambda: SimpleNamespace(in_cluster=True))
    observe_request: Callable[[str, str, int, float], None] = lambda verb, kind, status, seconds: None
    may_write: Callable[[], bool] = lambda: True
    version: int = 100

    # --- the cluster's users --------------------------------------------------------------------------------------------

    def put(self, body: JsonDict) -> JsonDict:
        """Store a body as it is, and tell the watch; returns what is stored."""
        meta = body["metadata"]
        place = (body["kind"], meta.get("namespace", ""), meta["name"])
        type_ = "MODIFIED" if place in self.objects else "ADDED"
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("uid", f"uid-{self.version}")
        self.objects[place] = body
        self.events.append((body["kind"], type_, copy.deepcopy(body)))
        return copy.deepcopy(body)

    def edit(self, kind: str, name: str, namespace: str = "team", **spec: Any) -> None:
        """Change fields of a spec, as a user does."""
        body = copy.deepcopy(self.objects[kind, namespace, name])
        body["spec"] = body["spec"] | spec
        body["metadata"]["generation"] = body["metadata"].get("generation", 1) + 1
        self.put(body)

    def remove(self, kind: str, name: str, namespace: str = "team") -> None:
        """Delete an object at once, and tell the watch."""
        body = copy.deepcopy(self.objects.pop((kind, namespace, name)))
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((kind, "DELETED", body))

    def deliver(self, count: int | None = None) -> None:
        """Let the watch tell its next events; all of them without a count."""
        for _ in range(len(self.events) if count is None else min(count, len(self.events))):
            kind, type_, body = self.events.popleft()
            self.on_event(kind, type_, body)

    def body(self, kind: str, name: str, namespace: str = "team") -> JsonDict:
        """The stored object; KeyError when there is none."""
        return self.objects[kind, namespace, name]

    def names(self, kind: str) -> list[str]:
        """The names of the stored objects of a kind, sorted."""
        return sorted(name for found, _, name in self.objects if found == kind)

    def run_kubelet(self) -> bool:
        """Start the pods that are pending and end those that are being deleted; whether there were any."""
        moved = False
        for (kind, namespace, name), found in list(self.objects.items()):
            if kind != "Pod":
                continue
            if found["metadata"].get("deletionTimestamp"):
                self.remove(kind, name, namespace)
                moved = True
            elif not found.get("status", {}).get("phase"):
                self.put(_started(copy.deepcopy(found)))
                moved = True
        return moved

    # --- the operator's client ------------------------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str, name: str) -> JsonDict | None:
        """The object; None when there is none."""
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def list_pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[ListPage]:
        """All objects of a kind, in one page."""
        if (
            refusal := self.list_refusals.get((kind, namespace)) or self.list_refusals.get(("", namespace))
        ) is not None:
            raise refusal
        places = [place for place in self.objects if place[0] == kind and namespace in (None, place[1])]
        yield ListPage([copy.deepcopy(self.objects[place]) for place in places], str(self.version))

    async def create(self, kind: str, namespace: str, body: JsonDict) -> JsonDict:
        """The created object; 409 when its name is taken."""
        name = body["metadata"]["name"]
        self._begin("create", kind, name)
        if (kind, namespace, name) in self.objects:
            raise ApiError(409, "AlreadyExists", "already exists")
        stored = copy.deepcopy(body)
        stored.setdefault("kind", kind)
        self.writes.append(("create", kind, name))
        return self.put(stored)

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        """The object after a merge patch; 409 when it names another resourceVersion than the stored one."""
        self._begin("patch", kind, name)
        return self._patch("patch", kind, namespace, name, body)

    async def patch_status(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        """The object after a merge patch of its status."""
        self._begin("status", kind, name)
        return self._patch("status", kind, namespace, name, body)

    async def resize(self, namespace: str, pod: str, body: JsonDict) -> JsonDict:
        """The pod, whose resources stay as they are."""
        self._begin("resize", "Pod", pod)
        return self._patch("resize", "Pod", namespace, pod, {})

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str | None, grace_seconds: int | None
    ) -> JsonDict | None:
        """The object that is being deleted; a pod whose containers run only gets its deletionTimestamp."""
        self._begin("delete", kind, name)
        found = self.objects.get((kind, namespace, name))
        if found is None or (uid is not None and found["metadata"]["uid"] != uid):
            return None
        self.writes.append(("delete", kind, name))
        body = copy.deepcopy(found)
        if kind == "Pod" and body.get("status", {}).get("phase") not in TERMINAL:
            body["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:09Z", "deletionGracePeriodSeconds": 5}
            return self.put(body)
        self.remove(kind, name, namespace)
        return body

    def accepts_again(self, namespace: str) -> None:
        """Nothing is kept of namespaces."""

    def unguarded(self) -> "ApiserverInMemory":
        """The same."""
        return self

    def _begin(self, verb: str, kind: str, name: str) -> None:
        self.before_write(verb, kind, name)
        refusal = self.refusals.get((verb, kind, name)) or self.refusals.get((verb, kind))
        if refusal is not None:
            raise refusal

    def _patch(self, verb: str, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        stored = self.objects.get((kind, namespace, name))
        if stored is None:
            raise ApiError(404, "NotFound", "not found")
        expected = (body.get("metadata") or {}).get("resourceVersion")
        if expected and expected != stored["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        after = patched(stored, body)
        self.writes.append((verb, kind, name))
        return copy.deepcopy(stored) if after == stored else self.put(copy.deepcopy(after))


def _started(pod: JsonDict) -> JsonDict:
    since = "2026-01-01T00:00:01Z"
    pod["spec"]["nodeName"] = "node1"
    pod["metadata"].setdefault("creationTimestamp", since)
    running = {"ready": True, "state": {"running": {"startedAt": since}}}
    pod["status"] = {
        "phase": "Running",
        "podIP": "10.0.0.9",
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": since},
        ],
        "containerStatuses": [{"name": c["name"], **running} for c in pod["spec"]["containers"]],
    }
    return pod
