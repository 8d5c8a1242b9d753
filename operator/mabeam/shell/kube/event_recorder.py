"""Events on `events.k8s.io/v1`: a repeated one becomes a series, a full queue drops its oldest, and no pass waits for them.

While keys wait for a worker, Events wait too, for a bounded time: the apiserver's time is for pods and statuses then.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION, CONTROLLER
from mabeam.core.decision import Event, RecordedEvent
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, NotLeading

log = logging.getLogger("mabeam.events")

SERIES_SECONDS: Final = 600.0
QUEUE_LIMIT: Final = 4096
# An Event waits for keys at most so long, and looks so often whether any still wait.
MAX_YIELD_SECONDS: Final = 20.0
YIELD_POLL_SECONDS: Final = 0.1
MEMORY_LIMIT: Final = 4096
# The last so many are kept for /v1/status.
RECENT: Final = 100
# The longest note that the apiserver takes, in bytes.
NOTE_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass
class EventRecorder:
    """Queues Events, and posts them in the background."""

    client: Client
    instance: str
    is_busy: Callable[[], bool] = lambda: False
    max_yield_seconds: float = MAX_YIELD_SECONDS
    _queue: "asyncio.Queue[tuple[Regarding, Event, datetime, float]]" = field(
        default_factory=lambda: asyncio.Queue(QUEUE_LIMIT)
    )
    _series: OrderedDict[str, tuple[str, int, float]] = field(default_factory=OrderedDict)
    dropped: int = 0
    recent: deque[RecordedEvent] = field(default_factory=lambda: deque(maxlen=RECENT))

    def record(self, regarding: Regarding, events: tuple[Event, ...]) -> None:
        """Queue Events; a full queue drops its oldest: Events inform, and the status is what counts."""
        for event in events:
            if self._queue.full():
                self._queue.get_nowait()
                self.dropped += 1
            now = self.client.clock.now()
            self._queue.put_nowait((regarding, event, now, asyncio.get_running_loop().time()))
            about = (regarding.kind, regarding.namespace, regarding.name)
            self.recent.append(RecordedEvent(now, event.type, str(event.reason), *about, event.action, event.note))

    async def run(self) -> None:
        """Post the queued Events, one after the other, for ever; one that fails is logged and dropped."""
        while True:
            regarding, event, when, since = await self._queue.get()
            await self._yield_to_work(since)
            try:
                await self._post(regarding, event, when)
            except (*REQUEST_ERRORS, NotLeading) as problem:
                if not (isinstance(problem, ApiError) and problem.namespace_terminating):
                    log.warning(
                        "event %s on %s/%s not posted: %s", event.reason, regarding.namespace, regarding.name, problem
                    )

    async def _yield_to_work(self, since: float) -> None:
        # Polled: an asyncio.Event for each change of the queue would be paid for by every key.
        while self.is_busy() and asyncio.get_running_loop().time() - since < self.max_yield_seconds:  # noqa: ASYNC110
            await asyncio.sleep(YIELD_POLL_SECONDS)

    async def _post(self, regarding: Regarding, event: Event, when: datetime) -> None:
        identity = f"{regarding.uid}|{event.type}|{event.reason}|{event.note}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        now = asyncio.get_running_loop().time()
        name, count, last = self._series.pop(digest, ("", 0, 0.0))
        stamp = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if count and now - last < SERIES_SECONDS:
            body = {"series": {"count": count + 1, "lastObservedTime": stamp}}
            await self.client.patch("Event", regarding.namespace, name, body)
            self._remember(digest, (name, count + 1, now))
            return
        name = f"{regarding.name}.{digest[:8]}{int(when.timestamp() * 1000):x}"
        await self.client.create("Event", regarding.namespace, self._body(name, regarding, event, stamp))
        self._remember(digest, (name, 1, now))

    def _remember(self, digest: str, entry: tuple[str, int, float]) -> None:
        self._series[digest] = entry
        while len(self._series) > MEMORY_LIMIT:
            self._series.popitem(last=False)

    def _body(self, name: str, regarding: Regarding, event: Event, stamp: str) -> JsonDict:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": regarding.namespace},
            "eventTime": stamp,
            "type": event.type,
            "reason": str(event.reason),
            "action": event.action,
            "note": event.note.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
            "reportingController": CONTROLLER,
            "reportingInstance": self.instance[:128],
        }
