"""When each pod was first seen, ran, failed and went: from a watch, by one clock.

The events are not parsed as JSON but searched (a few regular expressions instead of a JSON document of four kilobytes), so that
the observer takes little of the cores which it shares with what it observes.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from benchmarks.arena.api import Api

_TYPE: Final = re.compile(rb'\{"type":"([A-Z]+)"')
_NAME: Final = re.compile(rb'"metadata":\{"name":"([^"]+)"')
_OWNER: Final = re.compile(rb'"ownerReferences":\[\{"apiVersion":"[^"]*","kind":"[^"]*","name":"([^"]*)"')
_PHASE: Final = b'"phase":"'


class PodEvent(NamedTuple):
    """What a watch event holds of a pod."""

    type: str
    name: str
    owner: str
    phase: str


def parse_pod_event(line: bytes) -> PodEvent:
    """The event's type, and the pod's name, owner and phase; raises ValueError when the event is about no pod."""
    type_, name, owner = _TYPE.match(line), _NAME.search(line), _OWNER.search(line)
    if type_ is None or name is None or type_[1] not in (b"ADDED", b"MODIFIED", b"DELETED"):
        raise ValueError(f"not an event of a pod: {line[:300]!r}")
    # The last one: a pod's status comes after everything that its owner may have written into it.
    start = line.rfind(_PHASE)
    phase = line[start + len(_PHASE) : line.index(b'"', start + len(_PHASE))] if start >= 0 else b""
    return PodEvent(type_[1].decode(), name[1].decode(), owner[1].decode() if owner else "", phase.decode())


@dataclass
class PodTimeline:
    """The pods of one namespace, since the watch began; times are `time.monotonic()`."""

    api: Api
    path: str
    seen: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    failed: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    of_owner: dict[str, list[str]] = field(default_factory=dict)
    events: int = 0
    _task: "asyncio.Task[None] | None" = None

    async def __aenter__(self) -> Self:
        version = await self.api.version(self.path)
        self._task = asyncio.create_task(self._read(version))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _read(self, version: str) -> None:
        async for line in self.api.watch(self.path, version):
            self.note(parse_pod_event(line), time.monotonic())

    def note(self, seen: PodEvent, now: float) -> None:
        """Write down what is new in it."""
        self.events += 1
        name = seen.name
        if name not in self.seen:
            self.seen[name] = now
            self.of_owner.setdefault(seen.owner, []).append(name)
        if seen.type == "DELETED":
            self.gone.setdefault(name, now)
        elif seen.phase == "Running":
            self.running.setdefault(name, now)
        elif seen.phase == "Failed":
            self.failed.setdefault(name, now)

    def replaced(self, owner: str, pod: str) -> float | None:
        """When the owner's next pod after that one was seen; None while there is none."""
        pods = self.of_owner.get(owner, [])
        if pod not in pods or pods[-1] == pod:
            return None
        return self.seen[pods[pods.index(pod) + 1]]

    async def until(self, what: str, look: Callable[[], bool], deadline: float) -> None:
        """Returns once `look` holds; raises TimeoutError, with what was seen, after so many seconds."""
        end = time.monotonic() + deadline
        while not look():
            if self._task is not None and self._task.done():
                await self._task
            if time.monotonic() > end:
                raise TimeoutError(
                    f"not within {deadline:.0f} s: {what}; pods seen {len(self.seen)}, "
                    f"running {len(self.running)}, failed {len(self.failed)}, gone {len(self.gone)}"
                )
            await asyncio.sleep(0.02)
