"""The HTTP session that kopf is given: it answers kopf's LISTs, and reads each line of a WATCH before kopf does.

kopf parses lists and lines with Python's `json` and has no answer to an object that it cannot parse: one such object would end the
process, or the stream of its kind (docs/design/0014-kopf-for-every-kind.md). So nothing of an object's own nesting reaches it:

* A LIST of our kinds is made by the relister, in pages, and kopf is answered with an empty list of that resourceVersion.
* A WATCH line is parsed here. An object that cannot be parsed is reported and left out; so is an event that tells nothing new (the
  echo of the operator's own write). What remains is handed on as an envelope: the object's identity, and the object as one string.
* A stream that fails waits, and then ends or asks for a LIST; no error answer reaches kopf, which ends the process after a few.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
import orjson

from mabeam.api.base import JsonDict
from mabeam.shell.kube.client import WATCH_TIMEOUT, read_error
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError
from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.shell.kube.reflector import SHORTEST_SECONDS, WatchFailures
from mabeam.shell.kube.resources import RESOURCES
from mabeam.shell.kube.unreadable import UnreadableObjects
from mabeam.shell.kube.watch_events import CHANGES, UNREADABLE, StreamError, identity_in, lines, parse_event

# The member of an envelope that holds the object's JSON as a string.
CONTENT: Final = "content"
# A stream of nothing but events that are left out hands a bookmark on so often: kopf takes a silent stream for a dead one.
BOOKMARK_SECONDS: Final = 30.0
_GONE: Final = b'{"type":"ERROR","object":{"code":410}}\n'

Scope = tuple[str, str | None]  # kind, namespace (None: all of them)


def envelope(event: JsonDict) -> bytes:
    """The line that kopf is given for an event: the object's identity as an object, and all of it as the string `content`."""
    body = event["object"]
    metadata = body.get("metadata") or {}
    identity = {key: metadata[key] for key in ("namespace", "name", "uid", "resourceVersion") if key in metadata}
    kind = {key: body[key] for key in ("apiVersion", "kind") if key in body}
    small = {**kind, "metadata": identity, CONTENT: orjson.dumps(body).decode()}
    return orjson.dumps({"type": event["type"], "object": small}, option=orjson.OPT_APPEND_NEWLINE)


def open_envelope(small: Mapping[str, Any]) -> JsonDict:
    """The object that an envelope holds."""
    body: JsonDict = orjson.loads(small[CONTENT])
    return body


@dataclass
class ListedScopes:
    """What the session asks of the rest of the shell."""

    scopes: tuple[Scope, ...]
    first_version: Callable[[str, str | None], str]  # of the LIST that filled the cache
    relist: Callable[[str, str | None], Awaitable[str]]  # lists again; returns the resourceVersion
    is_news: Callable[[str, str, ObjectIdentity], bool]  # whether the event (kind, type, object) tells anything new
    unreadable: UnreadableObjects = field(default_factory=UnreadableObjects)


@dataclass
class _Watched:
    """The state of one scope between kopf's requests."""

    scope: Scope
    failures: WatchFailures
    listed: bool = False
    response: aiohttp.ClientResponse | None = None


class KopfSession:
    """As much of `aiohttp.ClientSession` as kopf uses; requests for other resources (discovery) go to the apiserver as they are."""

    def __init__(self, connection: Connection, listed: ListedScopes) -> None:
        self._http = connection.session()
        self._server = connection.server
        self._listed = listed
        self._watched = {
            RESOURCES[kind].path(namespace): _Watched((kind, namespace), WatchFailures(kind))
            for kind, namespace in listed.scopes
        }
        self.headers = self._http.headers

    @property
    def closed(self) -> bool:
        """Whether the session has been closed."""
        return self._http.closed

    async def close(self) -> None:
        """Close the session and every stream of it."""
        for watched in self._watched.values():
            if watched.response is not None:
                watched.response.close()
        await self._http.close()

    def restart(self, kind: str) -> None:
        """Close the streams of a kind that have gone silent; kopf opens them again at the same resourceVersion."""
        for watched in self._watched.values():
            if watched.scope[0] == kind and watched.response is not None:
                watched.response.close()

    async def request(self, method: str, url: str, **options: Any) -> "aiohttp.ClientResponse | Answer":
        """The answer to a request of kopf's."""
        address = urlsplit(url.removeprefix(self._server))
        watched = self._watched.get(address.path)
        if watched is None or method.lower() != "get":
            return await self._http.request(method, url, **options)
        query = parse_qs(address.query)
        if "watch" not in query:
            return Answer({"metadata": {"resourceVersion": await self._list(watched)}, "items": []})
        return await self._watch(watched, url, query.get("resourceVersion", [""])[0])

    async def _list(self, watched: _Watched) -> str:
        """The version to watch from: of the LIST that filled the cache, and of a new LIST whenever kopf asks again."""
        if not watched.listed:
            watched.listed = True
            return self._listed.first_version(*watched.scope)
        while True:
            try:
                return await self._listed.relist(*watched.scope)
            except REQUEST_ERRORS as problem:
                await watched.failures.list_failed(problem)

    async def _watch(self, watched: _Watched, url: str, version: str) -> "aiohttp.ClientResponse | Answer":
        try:
            response = await self._http.request("get", url, timeout=WATCH_TIMEOUT)
            if response.status == 401:
                return response  # kopf logs in anew
            if response.status >= 400:
                async with response:
                    raise await read_error(response)
        except REQUEST_ERRORS as problem:
            return Answer(stream=self._after_failure(watched, problem))
        watched.response = response
        return Answer(stream=self._read(watched, response, version), response=response)

    async def _read(self, watched: _Watched, response: aiohttp.ClientResponse, version: str) -> AsyncIterator[bytes]:
        """The lines that kopf is given, until the stream ends or fails; then what a failure asks for."""
        clock = asyncio.get_running_loop().time
        began = handed_on = clock()
        events = 0
        try:
            async for line in lines(response.content):
                event = parse_event(line)
                version = identity_in(event).resource_version or version
                watched.failures.count = 0
                events += 1
                small = self._line(watched.scope[0], event)
                if small is None and clock() - handed_on > BOOKMARK_SECONDS:
                    small = _bookmark(version)
                if small is not None:
                    handed_on = clock()
                    yield small
            if not events and clock() - began < SHORTEST_SECONDS and not response.closed:
                raise StreamError("it ended as soon as it began")
        except (*REQUEST_ERRORS, StreamError) as problem:
            async for small in self._after_failure(watched, problem):
                yield small

    def _line(self, kind: str, event: JsonDict) -> bytes | None:
        """What kopf is given of an event; None: nothing."""
        found = identity_in(event)
        if event["type"] == UNREADABLE:
            self._listed.unreadable.report(kind, found)
            return None
        if event["type"] not in CHANGES:
            return _bookmark(found.resource_version)
        return envelope(event) if self._listed.is_news(kind, event["type"], found) else None

    async def _after_failure(self, watched: _Watched, problem: BaseException) -> AsyncIterator[bytes]:
        """Nothing, after a wait, so that kopf watches on from where it is; or the error at which it LISTs again."""
        if await watched.failures.wait(problem):
            yield _GONE


def _bookmark(version: str) -> bytes:
    event = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


class Answer:
    """As much of `aiohttp.ClientResponse` as kopf uses: a document, or a stream of lines."""

    status: Final = 200

    def __init__(
        self,
        document: JsonDict | None = None,
        *,
        stream: AsyncIterator[bytes] | None = None,
        response: aiohttp.ClientResponse | None = None,
    ) -> None:
        self._document = document
        self._stream = stream
        self._response = response
        self.content = self

    async def json(self) -> Any:
        """A copy of the document: kopf writes into what it parses."""
        return json.loads(orjson.dumps(self._document))

    def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        """The lines of the stream."""
        if self._stream is None:
            raise RuntimeError("this answer is no stream")
        return self._stream

    def close(self) -> None:
        """Close the connection that the stream comes from."""
        if self._response is not None:
            self._response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
