"""The HTTP session that kopf is given: it answers kopf's LISTs, and reads each line of a WATCH before kopf does.

kopf parses lists and lines with Python's `json` and has no answer to an object that it cannot parse: one such object would end
the process (docs/design/0014-kopf-for-every-kind.md). So nothing of an object's own nesting reaches it:

* A LIST of our kinds is made by the relister, in pages; kopf is answered with an empty list of that resourceVersion.
* A WATCH line is parsed here. An object that cannot be parsed is reported and left out; so is an event that tells nothing new,
  such as the echo of the operator's own write. kopf is given envelopes: what an object is called, and all of it as one string.
* A stream that fails waits, and then ends or asks for a LIST; no error answer reaches kopf, which ends the process after a few.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
import orjson

from mabeam.api.base import JsonDict
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS
from mabeam.shell.kube.reflector import SHORTEST_SECONDS, WatchFailures
from mabeam.shell.kube.relist import Relister
from mabeam.shell.kube.resources import RESOURCES
from mabeam.shell.kube.watch_events import CHANGES, UNREADABLE, StreamError, identity_in, lines, parse_event

# The member of an envelope's object that holds the line of the apiserver, unchanged, as a string.
LINE: Final = "line"
# A stream in which every event is left out hands a bookmark on so often: kopf takes a stream without a line for a dead one.
BOOKMARK_SECONDS: Final = 30.0
_LIST_AGAIN: Final = b'{"type":"ERROR","object":{"code":410}}\n'


def envelope(kind: str, event: JsonDict, line: bytes) -> bytes:
    """The line that kopf is given for an event: what its object is called, and the line of the apiserver as a string.

    kopf makes a queue and a task for each `uid`. Here it is the kind: events of a kind are handled in the order in which the
    apiserver sent them, and cost half as much. Nothing is serialised of the object itself: orjson writes 254 levels at most.
    """
    found = identity_in(event)
    metadata = {
        "namespace": found.namespace,
        "name": found.name,
        "uid": kind,
        "resourceVersion": found.resource_version,
    }
    small = {"kind": kind, "metadata": metadata, LINE: line.decode(errors="replace")}
    return orjson.dumps({"type": event["type"], "object": small}, option=orjson.OPT_APPEND_NEWLINE)


def open_envelope(small: Mapping[str, Any]) -> JsonDict:
    """The object that an envelope holds."""
    body: JsonDict = parse_event(small[LINE].encode())["object"]
    return body


@dataclass
class _Watch:
    """What the session knows of one kind in one namespace (None: in all) between kopf's requests."""

    kind: str
    namespace: str | None
    failures: WatchFailures = field(init=False)
    listed: bool = False  # whether kopf has had the version of the relister's first LIST
    response: aiohttp.ClientResponse | None = None  # the stream that is open

    def __post_init__(self) -> None:
        self.failures = WatchFailures(self.kind)


class KopfSession:
    """As much of `aiohttp.ClientSession` as kopf uses; requests for anything else (discovery) go to the apiserver as they are."""

    def __init__(self, client: Client, relister: Relister, kinds: Collection[str]) -> None:
        self._client = client
        self._relister = relister
        self._http = client.connection.session()
        watches = [_Watch(kind, namespace) for kind in kinds for namespace in relister.scopes(kind)]
        self._watches = {RESOURCES[watch.kind].path(watch.namespace): watch for watch in watches}
        self.headers = self._http.headers

    @property
    def closed(self) -> bool:
        """Whether the session has been closed."""
        return self._http.closed

    async def close(self) -> None:
        """Close the session and its streams."""
        for watch in self._watches.values():
            _hang_up(watch)
        await self._http.close()

    def restart(self, kind: str, namespace: str | None) -> None:
        """Close the stream of a kind that has gone silent; kopf opens it again at the same resourceVersion."""
        for watch in self._watches.values():
            if (watch.kind, watch.namespace) == (kind, namespace):
                _hang_up(watch)

    async def request(self, method: str, url: str, **options: Any) -> "aiohttp.ClientResponse | Answer":
        """The answer to a request of kopf's."""
        address = urlsplit(url.removeprefix(self._client.connection.server))
        watch = self._watches.get(address.path)
        if watch is None or method.lower() != "get":
            return await self._http.request(method, url, **options)
        query = parse_qs(address.query)
        if "watch" in query:
            return Answer(stream=self._stream(watch, query.get("resourceVersion", [""])[0]))
        return Answer({"metadata": {"resourceVersion": await self._list(watch)}, "items": []})

    async def _list(self, watch: _Watch) -> str:
        """The version to watch from: of the LIST that filled the cache, and whenever kopf asks again, of a new one."""
        listed = self._relister.versions.get((watch.kind, watch.namespace))
        if not watch.listed and listed is not None:
            watch.listed = True
            return listed
        while True:
            try:
                return await self._relister.relist_scope(watch.kind, watch.namespace)
            except REQUEST_ERRORS as problem:
                await watch.failures.list_failed(problem)

    async def _stream(self, watch: _Watch, version: str) -> AsyncGenerator[bytes, None]:
        """The lines that kopf is given. After a failure and a wait they end, and kopf watches on; or they tell it to LIST."""
        try:
            async with aclosing(self._lines(watch, version)) as found:
                async for line in found:
                    yield line
        except Exception as problem:  # no failure of a stream may end the process that all others need
            if await watch.failures.wait(problem):
                yield _LIST_AGAIN

    async def _lines(self, watch: _Watch, version: str) -> AsyncGenerator[bytes, None]:
        clock = asyncio.get_running_loop().time
        began = handed_on = clock()
        events = 0
        async with self._client.open_watch(watch.kind, watch.namespace, version) as response:
            watch.response = response
            async for line in lines(response.content):
                event = parse_event(line)
                watch.failures.succeeded()
                events += 1
                for_kopf = self._for_kopf(watch.kind, event, line, clock() - handed_on > BOOKMARK_SECONDS)
                if for_kopf is not None:
                    handed_on = clock()
                    yield for_kopf
        if not events and clock() - began < SHORTEST_SECONDS:
            raise StreamError("it ended as soon as it began")

    def _for_kopf(self, kind: str, event: JsonDict, line: bytes, bookmark_due: bool) -> bytes | None:
        """The line that kopf is given for an event; None: none."""
        found = identity_in(event)
        if event["type"] in CHANGES and self._relister.is_news(kind, event["type"], found):
            return envelope(kind, event, line)
        if event["type"] == UNREADABLE:
            self._client.unreadable.report(kind, found)
        if event["type"] == "BOOKMARK" or bookmark_due:
            bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": found.resource_version}}}
            return orjson.dumps(bookmark, option=orjson.OPT_APPEND_NEWLINE)
        return None


def _hang_up(watch: _Watch) -> None:
    if watch.response is not None:
        watch.response.close()


class Answer:
    """As much of `aiohttp.ClientResponse` as kopf uses: a document, or a stream of lines."""

    status: Final = 200

    def __init__(self, document: JsonDict | None = None, *, stream: AsyncGenerator[bytes, None] | None = None) -> None:
        self._document = document
        self._stream = stream

    @property
    def content(self) -> Self:
        """Itself, for `content.iter_chunked`."""
        return self

    async def json(self) -> Any:
        """The document."""
        return self._document

    def iter_chunked(self, _: int) -> AsyncGenerator[bytes, None]:
        """The lines of the stream, one a chunk."""
        if self._stream is None:
            raise RuntimeError("this answer is no stream")
        return self._stream

    def close(self) -> None:
        """Nothing is open: a stream ends with the task that reads it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.aclose()
