"""The list-and-watch of one kind, by the protocol of client-go's reflector, for the kinds of which there are many.

The relister LISTs; the WATCH goes on from the resourceVersion of the last LIST or event, bookmarks keep that version young, and a
410 (the apiserver no longer holds the events since then) leads to another LIST, which also finds what was deleted meanwhile.
An object that cannot be parsed is reported and passed over; the stream goes on after it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, error_text
from mabeam.shell.kube.watch_events import CHANGES, UNREADABLE, StreamError, identity_in

log = logging.getLogger("mabeam.watch")

FIRST_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 5.0
# A request that is denied is not asked soon again: only a change of rights, or of the namespace, helps.
DENIED_BACKOFF_SECONDS: Final = 30.0
# A stream that ends sooner without an event comes from an apiserver that is shutting down: it is not opened again at once.
SHORTEST_SECONDS: Final = 1.0
# So many different failures in a row are logged once; more of them are logged each time.
MAX_LOGGED: Final = 16
# After so many failures in a row at one resourceVersion, the watch does not go on from there any more.
RELIST_AFTER_FAILURES: Final = 3

OnEvent = Callable[[str, str, JsonDict], None]  # kind, ADDED | MODIFIED | DELETED, the object


@dataclass
class WatchFailures:
    """The failures in a row of one kind's watch, and what follows from them."""

    kind: str
    count: int = 0
    _logged: set[str] = field(default_factory=set)  # since the last success

    async def wait(self, problem: BaseException) -> bool:
        """Whether the kind is to be listed anew before the next watch, after the backoff that this failure asks for."""
        self.count += 1
        gone = isinstance(problem, ApiError) and problem.status == 410
        expected = isinstance(problem, (*REQUEST_ERRORS, StreamError))
        text = f"the watch of {self.kind} broke off: {error_text(problem)}"
        self._log(logging.INFO if gone else logging.WARNING, text, None if expected else problem)
        if not gone or self.count > 1:
            longest = DENIED_BACKOFF_SECONDS if _is_denied(problem) else MAX_BACKOFF_SECONDS
            await asyncio.sleep(capped_exponential(self.count, FIRST_BACKOFF_SECONDS, longest))
        return gone or self.count >= RELIST_AFTER_FAILURES

    async def list_failed(self, problem: BaseException) -> None:
        """Log a LIST that failed, and wait before the next attempt."""
        self._log(logging.WARNING, f"{self.kind} could not be listed: {error_text(problem)}", None)
        await asyncio.sleep(DENIED_BACKOFF_SECONDS if _is_denied(problem) else MAX_BACKOFF_SECONDS / 2)

    def succeeded(self) -> None:
        """Begin anew: the watch works."""
        self.count = 0
        self._logged.clear()

    def _log(self, level: int, text: str, problem: BaseException | None) -> None:
        # A namespace that is gone fails in the same way for hours, and the relister has said so.
        log.log(logging.DEBUG if text in self._logged else level, text, exc_info=problem)
        if len(self._logged) < MAX_LOGGED:
            self._logged.add(text)


def _is_denied(problem: BaseException) -> bool:
    return isinstance(problem, ApiError) and problem.status in (403, 404)


@dataclass
class Reflector:
    """Watches one kind in one namespace (None: in all) and passes every change to `on_event`."""

    client: Client
    kind: str
    namespace: str | None
    on_event: OnEvent
    relist: Callable[[], Awaitable[str]]  # lists the kind; returns the resourceVersion to watch from
    version: str = ""
    failures: WatchFailures = field(init=False)
    _stream: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self.failures = WatchFailures(self.kind)

    async def run(self, version: str) -> None:
        """Watch from `version` on (empty: from a LIST); no failure of a stream ends it."""
        self.version = version
        while not self.version:
            await self._relist()
        while True:
            self._stream = asyncio.create_task(self._read_stream(), name=f"watch of {self.kind}")
            try:
                await asyncio.wait([self._stream])
            except asyncio.CancelledError:
                self._stream.cancel()
                await asyncio.gather(self._stream, return_exceptions=True)
                raise
            if self._stream.cancelled():
                continue  # by `restart`
            problem = self._stream.exception()
            if problem is None:
                self.failures.succeeded()
            elif await self.failures.wait(problem):
                await self._relist()

    def restart(self) -> None:
        """Close a stream that has gone silent, and open another one at the same resourceVersion."""
        if self._stream is not None:
            self._stream.cancel()

    async def _read_stream(self) -> None:
        events, began = 0, asyncio.get_running_loop().time()
        async for event in self.client.watch(self.kind, self.namespace, self.version):
            if event["type"] in CHANGES:
                self.on_event(self.kind, event["type"], event["object"])
            elif event["type"] == UNREADABLE:
                self.client.unreadable.report(self.kind, identity_in(event))
            self.version = identity_in(event).resource_version or self.version
            self.failures.succeeded()
            events += 1
        if not events and asyncio.get_running_loop().time() - began < SHORTEST_SECONDS:
            raise StreamError("it ended as soon as it began")

    async def _relist(self) -> None:
        try:
            self.version = await self.relist()
        except REQUEST_ERRORS as problem:
            await self.failures.list_failed(problem)
