"""The only room that talks to the cluster: the calls, the rights they need, the bound on how many fly at once.

The requests themselves are plain aiohttp: a typed call costs three times the CPU, and the bodies are parsed at our own door.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from mabeam.api.base import JsonDict
from mabeam.api.names import FIELD_MANAGER
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.resources import RESOURCES
from mabeam.shell.kube.server_time import ServerClock

log = logging.getLogger("mabeam.cluster")

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=5)
# A fifth of client-go's pages: what a page costs in memory while it is read stays with the process.
PAGE: Final = 100
WATCH_SECONDS: Final = 300
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=5, sock_read=75)
BUSY_TRIES: Final = 5
# A namespace that is being terminated never takes anything in again. This is how long that is known after it last mattered.
TERMINATING_SECONDS: Final = 60.0
# Its own writes are what makes a leader, and its resourceVersion is what guards them: they need no Lease.
LEASE: Final = "Lease"
STRATEGIC: Final = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The apiserver's no: its status code, reason and own words."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after

    @property
    def namespace_terminating(self) -> bool:
        """Whether the namespace is being terminated: final, whatever is retried."""
        return self.status == 403 and "because it is being terminated" in self.message


class NotLeading(Exception):
    """A write was about to happen without the Lease; it did not."""


class _GuardedBody(aiohttp.BytesPayload):
    """A body that leaves only while `may_write` says so, asked right before the socket.

    Between the first look and the sending lie a queue, a connection, and perhaps a pause of the whole process.
    """

    def __init__(self, body: bytes, may_write: Callable[[], bool]) -> None:
        super().__init__(body)
        self._may_write = may_write

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self._may_write():
            raise NotLeading("the lease was lost on the way")
        await super().write_with_length(writer, content_length)


@dataclass
class Client:
    """The calls. At most `max_in_flight` at once; a write is refused locally while `may_write` says no."""

    connection: Connection
    max_in_flight: int = 64
    may_write: Callable[[], bool] = lambda: True
    observe_request: Callable[[str, str, int, float], None] = lambda verb, kind, status, seconds: None
    clock: ServerClock = field(default_factory=ServerClock)
    _session: aiohttp.ClientSession | None = None
    _in_flight: asyncio.Semaphore = field(init=False)
    _terminating: dict[str, tuple[float, ApiError]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._in_flight = asyncio.Semaphore(self.max_in_flight)

    async def __aenter__(self) -> "Client":
        self._session = self.connection.session(authenticated=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # --- reads ---------------------------------------------------------------------------------------------------------

    async def list_pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[JsonDict]:
        """The pages (`items`, `metadata`) of a LIST of `kind` (all namespaces, or one), all as of one resourceVersion."""
        resource = RESOURCES[kind]
        parameters: dict[str, str] = {"limit": str(PAGE)}
        if resource.selector:
            parameters["labelSelector"] = resource.selector
        while True:
            page = await self._call("GET", kind, resource.path(namespace), parameters=parameters)
            yield page
            going_on = (page.get("metadata") or {}).get("continue")
            if not going_on:
                return
            parameters["continue"] = going_on

    async def watch(self, kind: str, namespace: str | None, version: str) -> AsyncIterator[JsonDict]:
        """The events of a WATCH of `kind` from `version` on, until the server ends it; raises what a broken stream raises.

        The apiserver sends a bookmark every minute: a stream that is silent for longer is dead, whatever the socket says.
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
            async for line in _lines(response.content):
                yield orjson.loads(line)

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
        """The object as created; raises ApiError (409 when the name is taken), unasked while the namespace is known to go."""
        if kind != LEASE and (known := self._refusal_of(namespace)) is not None:
            raise known
        try:
            return await self._write("POST", kind, RESOURCES[kind].path(namespace), body)
        except ApiError as problem:
            if problem.namespace_terminating:
                self._terminating[namespace] = asyncio.get_running_loop().time() + TERMINATING_SECONDS, problem
            raise

    def _refusal_of(self, namespace: str) -> ApiError | None:
        now = asyncio.get_running_loop().time()
        self._terminating = {name: known for name, known in self._terminating.items() if now < known[0]}
        return self._terminating[namespace][1] if namespace in self._terminating else None

    def accepts_again(self, namespace: str) -> None:
        """Something of others' came into being in the namespace: it is another one of the same name, and is asked again."""
        self._terminating.pop(namespace, None)

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        """The object after a JSON merge patch."""
        return await self._write("PATCH", kind, RESOURCES[kind].path(namespace, name), body)

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
        """The dying object (or a Status), None when it was gone already or is another one by now."""
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
                # The uid is another one, or somebody wrote at the same moment: then it is there still, and to be deleted.
                there = await self.get(kind, namespace, name)
                if there is None or there["metadata"]["uid"] != uid:
                    return None
            raise

    # --- the wire ------------------------------------------------------------------------------------------------------

    def _require_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the cluster is used before it is entered")
        return self._session

    def _address(self, path: str, parameters: Mapping[str, str] | None = None) -> URL:
        # Paths are made of names the apiserver has checked; yarl need not look at every character of them again.
        query = f"?{urlencode(parameters)}" if parameters else ""
        return URL(f"{self.connection.server}{path}{query}", encoded=True)

    async def _write(self, verb: str, kind: str, path: str, body: JsonDict, content_type: str = "") -> JsonDict:
        if kind != LEASE and not self.may_write():
            raise NotLeading(f"{verb} {path}")
        parameters = {} if verb == "DELETE" else {"fieldManager": FIELD_MANAGER}
        return await self._call(verb, kind, path, body=body, parameters=parameters, content_type=content_type)

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
        """One answered request. A 429 waits as long as the server asks, a few times: it refused before doing anything."""
        content_type = content_type or ("application/merge-patch+json" if verb == "PATCH" else "application/json")
        address = self._address(path, parameters)
        data: bytes | _GuardedBody | None = None if body is None else orjson.dumps(body)
        if isinstance(data, bytes) and kind != LEASE:
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
            if response.status < 500:  # a gateway in between says 502 by a clock of its own
                self.clock.observe_date(response.headers.get("Date"), started, answered)
            self.observe_request(verb, kind, response.status, answered - started)
            if response.status < 400:
                return orjson.loads(raw)  # type: ignore[no-any-return]
            error = _error(response.status, raw, response.headers.get("Retry-After"))
            if response.status != 429 or attempt == BUSY_TRIES - 1:
                raise error
            if verb != "GET" and kind != LEASE and not self.may_write():
                raise NotLeading(f"{verb} {path}")
            await asyncio.sleep(error.retry_after or 1)
        raise AssertionError("unreachable")


async def read_bounded(stream: aiohttp.StreamReader, limit: int) -> bytes:
    """What was sent, at most `limit` bytes of it; a single `read` would hand out only what has arrived."""
    raw = bytearray()
    while len(raw) < limit:
        part = await stream.read(limit - len(raw))
        if not part:
            break
        raw += part
    return bytes(raw)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The stream's lines, however long; others get their turn between two of its chunks even when it never pauses."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
        await asyncio.sleep(0)


def _error(status: int, raw: bytes, retry_after: str | None) -> ApiError:
    try:
        document: Any = orjson.loads(raw)
        reason, message = str(document.get("reason", "")), str(document.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", raw[:256].decode(errors="replace").strip()
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ApiError(status, reason, message, seconds)


def merge_patch(before: JsonDict, after: JsonDict) -> JsonDict:
    """The JSON merge patch (RFC 7386) that turns `before` into `after`; empty when they are the same."""
    patch: JsonDict = dict.fromkeys((key for key in before if key not in after), None)
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(before[key], dict):
            inner = merge_patch(before[key], value)
            if inner:
                patch[key] = inner
        elif before[key] != value:
            patch[key] = value
    return patch
