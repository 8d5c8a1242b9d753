"""An informer for the kinds of which there are many: LIST by the sweep, WATCH from where it ended, and a LIST again when told so.

kopf spends 0.5 ms and more on an event before a handler runs (docs/performance.md); a line of JSON and a look at the cache
take a tenth of that. The protocol is client-go's reflector: resume at the last resourceVersion, bookmarks keep it young, 410
means that history is gone. The relist finds what was deleted meanwhile, so nothing deleted is believed in for ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from mabeam.api.base import JsonDict
from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.shell.kube.client import ApiError, Client

log = logging.getLogger("mabeam.watch")

FIRST_BACKOFF_SECONDS: Final = 0.2
MAX_BACKOFF_SECONDS: Final = 5.0
# A stream that ends sooner and says nothing comes from a server on its way out: opening it again at once would be a storm.
SHORTEST_SECONDS: Final = 1.0
# A stream that fails so often in a row at the same place is not resumed there any more.
RELIST_AFTER_FAILURES: Final = 3
CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})

OnEvent = Callable[[str, str, JsonDict], None]


class StreamError(Exception):
    """The apiserver's ERROR event, or a line that is none of its words."""


@dataclass
class Reflector:
    """Follows one kind in one namespace (or in all) and tells every change; `relist` gives the version to go on from."""

    client: Client
    kind: str
    namespace: str | None
    on_event: OnEvent
    relist: Callable[[], Awaitable[str]]
    version: str = ""
    failures: int = 0
    _following: "asyncio.Task[None] | None" = None

    async def run(self, version: str) -> None:
        """Watch from `version` on; no failure of a stream ends it."""
        self.version = version
        while True:
            self._following = asyncio.create_task(self._follow(), name=f"watch of {self.kind}")
            try:
                await asyncio.wait([self._following])
            except asyncio.CancelledError:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)
                raise
            if self._following.cancelled():
                continue  # asked to start anew
            problem = self._following.exception()
            if problem is None:
                self.failures = 0
            else:
                await self._recover(problem)

    def restart(self) -> None:
        """Drop the stream, which says nothing any more, and open another one where it stopped."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        events, began = 0, asyncio.get_running_loop().time()
        async for event in self.client.watch(self.kind, self.namespace, self.version):
            kind_of_event, body = str(event.get("type")), event.get("object")
            if not isinstance(body, dict) or kind_of_event == "ERROR":
                raise _error(body)
            if kind_of_event in CHANGES:
                self.on_event(self.kind, kind_of_event, body)
            self.version = str((body.get("metadata") or {}).get("resourceVersion") or self.version)
            self.failures = 0
            events += 1
        if not events and asyncio.get_running_loop().time() - began < SHORTEST_SECONDS:
            raise StreamError("it ended as soon as it began")

    async def _recover(self, problem: BaseException) -> None:
        self.failures += 1
        gone = isinstance(problem, ApiError) and problem.status == 410
        expected = isinstance(
            problem, ApiError | StreamError | aiohttp.ClientError | TimeoutError | OSError | ValueError
        )
        log.log(
            logging.INFO if gone else logging.WARNING,
            "the watch of %s broke off: %s",
            self.kind,
            str(problem) or type(problem).__name__,
            exc_info=None if expected else problem,
        )
        if not gone or self.failures > 1:
            delay = capped_exponential(self.failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
            await asyncio.sleep(delay)
        if gone or self.failures >= RELIST_AFTER_FAILURES:
            await self._relist()

    async def _relist(self) -> None:
        try:
            self.version = await self.relist()
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as problem:
            log.warning("%s could not be listed: %s", self.kind, str(problem) or type(problem).__name__)
            await asyncio.sleep(MAX_BACKOFF_SECONDS / 2)


def _error(body: object) -> Exception:
    status = body if isinstance(body, dict) else {}
    code = status.get("code")
    if isinstance(code, int):
        return ApiError(code, str(status.get("reason", "")), str(status.get("message", "")))
    return StreamError(f"an event without an object: {str(body)[:120]}")
