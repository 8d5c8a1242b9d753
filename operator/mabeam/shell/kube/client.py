"""The requests to the apiserver; the only client of the cluster. `rbac.py` holds the rights that they need.

Plain aiohttp: a typed call of the official client costs three times the CPU, and `state` parses the bodies anyway.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from mabeam.api.base import JsonDict
from mabeam.api.names import FIELD_MANAGER
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.errors import ApiError, NotLeading, UnreadableAnswer
from mabeam.shell.kube.list_page import ListPage, parse_page, parse_page_by_item
from mabeam.shell.kube.resources import RESOURCES
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.kube.unreadable import UnreadableObjects
from mabeam.shell.kube.watch_events import lines, parse_event

log = logging.getLogger("mabeam.cluster")

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=5)
# A fifth of client-go's pages at most: what a page costs in memory while it is read stays with the process. An object may have
# 1.5 MiB, so the first page is short, and each further one as long as the objects of the page before allow.
PAGE: Final = 100
FIRST_PAGE: Final = 20
PAGE_BYTES: Final = 4 * 1024 * 1024
WATCH_SECONDS: Final = 300
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=5, sock_read=75)
BUSY_TRIES: Final = 5
# A 429 that asks for a longer pause is raised: whoever called must not hold a worker for so long.
MAX_BUSY_SECONDS: Final = 2.0
# Seconds for which creates in a namespace that is being terminated are refused without a request: it accepts none again.
TERMINATING_SECONDS: Final = 60.0
STRATEGIC: Final = "application/strategic-merge-patch+json"


class _GuardedBody(aiohttp.BytesPayload):
    """A request body that is sent only while `may_write` returns True, checked right before it goes to the socket.

    Between the first check and the sending lie a queue, a connection, and perhaps a pause of the whole process.
    """

    def __init__(self, body: bytes, may_write: Callable[[], bool]) -> None:
        super().__init__(body)
        self._may_write = may_write

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self._may_write():
            raise NotLeading("the lease was lost on the way")
        await super().write_with_length(writer, content_length)


_STRICT: Final = {"fieldValidation": "Strict"}
_NONE: Final[Mapping[str, str]] = {}


@dataclass
class Client:
    """Requests to the apiserver, at most `max_in_flight` at once. While `may_write` returns False a write raises NotLeading."""

    connection: Connection
    max_in_flight: int = 64
    may_write: Callable[[], bool] = lambda: True
    # verb, kind, status code, seconds
    observe_request: Callable[[str, str, int, float], None] = lambda verb, kind, status, seconds: None
    clock: ServerClock = field(default_factory=ServerClock)
    unreadable: UnreadableObjects = field(default_factory=UnreadableObjects)
    terminating_seconds: float = TERMINATING_SECONDS
    _session: aiohttp.ClientSession | None = None
    _in_flight: asyncio.Semaphore = field(init=False)
    # namespace → until when (monotonic seconds) creates are refused locally, and with which error
    _terminating: dict[str, tuple[float, ApiError]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._in_flight = asyncio.Semaphore(self.max_in_flight)

    async def __aenter__(self) -> "Client":
        self._session = self.connection.session(authenticated=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def unguarded(self) -> "Client":
        """A client over the same connection whose writes need no Lease: for the Lease itself.

        Writing it is what makes a leader, and its resourceVersion guards the write.
        """
        other = replace(self, may_write=lambda: True, terminating_seconds=0.0, _terminating={})
        other._in_flight = self._in_flight
        return other

    # --- reads ---------------------------------------------------------------------------------------------------------

    async def list_pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[ListPage]:
        """The pages of a LIST of `kind` (all namespaces, or one), all as of one resourceVersion; reports what it cannot read."""
        resource = RESOURCES[kind]
        parameters: dict[str, str] = {"limit": str(FIRST_PAGE)}
        if resource.selector:
            parameters["labelSelector"] = resource.selector
        while True:
            raw = await self._request("GET", kind, resource.path(namespace), parameters=parameters)
            page, size = await _read_page(raw), len(raw)
            del raw  # a page of large objects is not kept twice while they are parsed
            for found in page.unreadable:
                self.unreadable.report(kind, found)
            token, limit = page.next_token, next_limit(len(page.items) + len(page.unreadable), size)
            yield page
            if not token:
                return
            parameters |= {"continue": token, "limit": str(limit)}
            del page

    @asynccontextmanager
    async def open_watch(self, kind: str, namespace: str | None, version: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The stream of a WATCH of `kind` from `version` on; raises ApiError when the apiserver refuses it.

        The apiserver sends a bookmark every minute: a stream that is silent for longer is dead, and its read times out.
        """
        resource = RESOURCES[kind]
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        if resource.selector:
            parameters["labelSelector"] = resource.selector
        address = self._address(resource.path(namespace), parameters)
        headers = await self.connection.authorization()
        async with self._require_session().get(address, headers=headers, timeout=WATCH_TIMEOUT) as response:
            if response.status >= 400:
                raise _error(response.status, await read_bounded(response.content, 4096), None)
            yield response

    async def watch(self, kind: str, namespace: str | None, version: str) -> AsyncIterator[JsonDict]:
        """The events of a WATCH (`watch_events.parse_event`), until the server ends it; raises what a broken stream raises."""
        async with self.open_watch(kind, namespace, version) as response:
            async for line in lines(response.content):
                yield parse_event(line)

    async def get(self, kind: str, namespace: str, name: str) -> JsonDict | None:
        """The object, None when there is none of that name."""
        try:
            return await self._call("GET", kind, RESOURCES[kind].path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def version(self) -> str:
        """The apiserver's own version, such as v1.35.4."""
        return str((await self._call("GET", "Version", "/version")).get("gitVersion", ""))

    async def read_report(self, namespace: str, pod: str, port: int, path: str, limit: int) -> bytes:
        """At most `limit` + 1 bytes of a pod's report, fetched through the apiserver's pod proxy."""
        url = f"{RESOURCES['Pod'].path(namespace, f'{pod}:{port}')}/proxy{path}"
        session, headers = self._require_session(), await self.connection.authorization()
        timeout = aiohttp.ClientTimeout(total=2)
        async with (
            self._in_flight,
            session.get(self._address(url), headers=headers, timeout=timeout, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ApiError(response.status, "Report", f"HTTP {response.status} from {pod}")
            return await read_bounded(response.content, limit + 1)

    # --- writes --------------------------------------------------------------------------------------------------------

    async def create(self, kind: str, namespace: str, body: JsonDict) -> JsonDict:
        """The created object. Raises ApiError: 409 when the name is taken; without a request while the namespace terminates."""
        if (known := self._refusal_of(namespace)) is not None:
            raise known
        try:
            # A field that the apiserver does not know, such as a misspelt probe of a template, is refused in its words. Else
            # it would be dropped, with a warning that only the operator sees (KEP-2885).
            return await self._write("POST", kind, RESOURCES[kind].path(namespace), body, parameters=_STRICT)
        except ApiError as problem:
            if problem.namespace_terminating:
                self._terminating[namespace] = asyncio.get_running_loop().time() + self.terminating_seconds, problem
            raise

    def _refusal_of(self, namespace: str) -> ApiError | None:
        now = asyncio.get_running_loop().time()
        self._terminating = {name: known for name, known in self._terminating.items() if now < known[0]}
        return self._terminating[namespace][1] if namespace in self._terminating else None

    def accepts_again(self, namespace: str) -> None:
        """Send creates to the namespace again: somebody created an object in it, so it is a new namespace of the same name."""
        self._terminating.pop(namespace, None)

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        """The object after a JSON merge patch."""
        return await self._write("PATCH", kind, RESOURCES[kind].path(namespace, name), body)

    async def adopt(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        """The object after a strategic merge patch, which adds owners to those that it has; `metadata.uid` guards it (409)."""
        return await self._write("PATCH", kind, RESOURCES[kind].path(namespace, name), body, STRATEGIC)

    async def resize(self, namespace: str, pod: str, body: JsonDict) -> JsonDict:
        """The pod after a strategic merge patch of its subresource `resize`: containers are found by their names."""
        path = RESOURCES["Pod"].path(namespace, pod, "resize")
        return await self._write("PATCH", "Pod", path, body, STRATEGIC)

    async def patch_status(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        """The object after a JSON merge patch of its status; `metadata.resourceVersion` in the body guards it (409)."""
        return await self._write("PATCH", kind, RESOURCES[kind].path(namespace, name, "status"), body)

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str | None, grace_seconds: int | None
    ) -> JsonDict | None:
        """The object that is being deleted (or a Status); None when there is none of that uid."""
        options: JsonDict = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            return await self._write("DELETE", kind, RESOURCES[kind].path(namespace, name), options)
        except ApiError as error:
            if error.status == 404:
                return None
            if error.status == 409:
                # Either the uid is another one, or somebody wrote at the same moment: then the object is still to be deleted.
                there = await self.get(kind, namespace, name)
                if there is None or there["metadata"]["uid"] != uid:
                    return None
            raise

    # --- the wire ------------------------------------------------------------------------------------------------------

    def _require_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with` block")
        return self._session

    def _address(self, path: str, parameters: Mapping[str, str] | None = None) -> URL:
        # Paths are made of names the apiserver has checked; yarl need not look at every character of them again.
        query = f"?{urlencode(parameters)}" if parameters else ""
        return URL(f"{self.connection.server}{path}{query}", encoded=True)

    async def _write(
        self,
        verb: str,
        kind: str,
        path: str,
        body: JsonDict,
        content_type: str = "",
        *,
        parameters: Mapping[str, str] = _NONE,
    ) -> JsonDict:
        if not self.may_write():
            raise NotLeading(f"{verb} {path}")
        named = {} if verb == "DELETE" else {"fieldManager": FIELD_MANAGER}
        return await self._call(
            verb, kind, path, body=body, parameters={**named, **parameters}, content_type=content_type
        )

    async def _call(
        self,
        verb: str,
        kind: str,
        path: str,
        *,
        body: JsonDict | None = None,
        parameters: dict[str, str] | None = None,
        content_type: str = "",
    ) -> JsonDict:
        """The parsed answer to `_request`; raises UnreadableAnswer as well."""
        raw = await self._request(verb, kind, path, body=body, parameters=parameters, content_type=content_type)
        try:
            return orjson.loads(raw)  # type: ignore[no-any-return]
        except ValueError as problem:
            raise UnreadableAnswer(f"{verb} {path}: {problem}") from None

    async def _request(
        self,
        verb: str,
        kind: str,
        path: str,
        *,
        body: JsonDict | None = None,
        parameters: dict[str, str] | None = None,
        content_type: str = "",
    ) -> bytes:
        """The answer to a request. A 429, which did nothing, is waited out a few times if the server asks for little."""
        content_type = content_type or ("application/merge-patch+json" if verb == "PATCH" else "application/json")
        address = self._address(path, parameters)
        data: bytes | _GuardedBody | None = None if body is None else orjson.dumps(body)
        if isinstance(data, bytes):
            data = _GuardedBody(data, self.may_write)
        for attempt in range(BUSY_TRIES):
            headers = await self.connection.authorization()
            if data is not None:
                headers["Content-Type"] = content_type
            started = asyncio.get_running_loop().time()
            request = self._require_session().request(
                verb, address, data=data, headers=headers, timeout=REQUEST_TIMEOUT
            )
            try:
                async with self._in_flight, request as response:
                    raw = await response.read()
            except aiohttp.ClientConnectionError as problem:
                if isinstance(problem.__cause__, NotLeading):
                    raise problem.__cause__ from None
                raise
            answered = asyncio.get_running_loop().time()
            if response.status < 500:  # a 502 comes from a gateway in between, dated by another clock
                self.clock.observe_date(response.headers.get("Date"), started, answered)
            self.observe_request(verb, kind, response.status, answered - started)
            if response.status < 400:
                return raw
            error = _error(response.status, raw, response.headers.get("Retry-After"))
            pause = error.retry_after or 1.0
            if response.status != 429 or attempt == BUSY_TRIES - 1 or pause > MAX_BUSY_SECONDS:
                raise error
            if verb != "GET" and not self.may_write():
                raise NotLeading(f"{verb} {path}")
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")


def next_limit(count: int, size: int) -> int:
    """How many objects to ask for after a page of `count` objects in `size` bytes, so that the next has PAGE_BYTES or less."""
    return max(1, min(PAGE, PAGE_BYTES * max(1, count) // max(1, size)))


async def _read_page(raw: bytes) -> ListPage:
    try:
        return parse_page(raw)
    except ValueError:
        pass
    try:
        return await asyncio.to_thread(parse_page_by_item, raw)
    except ValueError as problem:
        raise UnreadableAnswer(f"a list that cannot be parsed: {problem}") from None


async def read_bounded(stream: aiohttp.StreamReader, limit: int) -> bytes:
    """The first `limit` bytes of the stream; a single `read` would return only what has arrived so far."""
    raw = bytearray()
    while len(raw) < limit:
        part = await stream.read(limit - len(raw))
        if not part:
            break
        raw += part
    return bytes(raw)


def _error(status: int, raw: bytes, retry_after: str | None) -> ApiError:
    try:
        document: Any = orjson.loads(raw)
        reason, message = str(document.get("reason", "")), str(document.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", raw[:256].decode(errors="replace").strip()
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ApiError(status, reason, message, seconds)
