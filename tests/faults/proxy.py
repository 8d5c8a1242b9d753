"""Between the operator and the apiserver: passes everything on, counts and records the writes, and does what a Script says.

A fault on a request is a function of the request and of `forward`, which passes it on: it may wait, call somebody, answer
itself, or `raise Reset`, which cuts the connection. A fault on a watch is a function of an event and of the stream it is
about to enter. Nothing here is random: rules that want a share of the requests derive it from a seed and the number.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from support.async_api import JsonDict, lines_of

# Told apart from what is counted: the Lease ticks, and Events are a courtesy.
UNCOUNTED: Final = frozenset({"leases", "events"})
PASSED_ON: Final = ("Content-Type", "Accept", "User-Agent")
HANDED_BACK: Final = ("Content-Type", "Retry-After", "Date")
REASONS: Final = {
    400: "BadRequest",
    403: "Forbidden",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Reset(Exception):
    """Raised by a fault: the client's connection is cut."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asks. `number` counts from 1: writes for themselves, reads for themselves."""

    number: int
    verb: str
    kind: str
    name: str
    sub: str
    time: float
    path: str
    query: dict[str, str]
    body: JsonDict | None = None

    @property
    def is_watch(self) -> bool:
        """Whether it opens a watch."""
        return self.verb == "GET" and self.query.get("watch") in ("true", "1")

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.number}: {self.verb} {self.kind}/{self.name}{'/' + self.sub if self.sub else ''}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """A write and what became of it; `status` is the apiserver's answer, None when it was never asked."""

    request: Request
    status: int | None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch; `number` counts over all watches from 1, bookmarks apart."""

    number: int
    kind: str
    type: str
    name: str
    line: bytes


@dataclass
class WatchStream:
    """One open watch: what went through it, and the ways to misuse it."""

    request: Request
    response: web.StreamResponse
    transport: asyncio.Transport | None
    history: list[bytes] = field(default_factory=list)
    stalled: bool = False

    async def send(self, line: bytes) -> None:
        """Let the client have a line."""
        await self.response.write(line)

    async def error(self, code: int) -> None:
        """End the stream as the apiserver does when it cannot go on: by an ERROR event."""
        event = {"type": "ERROR", "object": status(code, "the fault campaign says so")}
        await self.send(json.dumps(event).encode() + b"\n")
        raise EndOfWatch


class EndOfWatch(Exception):
    """Raised by a fault: the stream ends in good order."""


Forward = Callable[[], Awaitable[Answer]]
Fault = Callable[[Request, Forward], Awaitable[Answer]]
WatchFault = Callable[[WatchEvent, WatchStream], Awaitable[None]]


@dataclass(frozen=True)
class Rule:
    """A fault for the requests that `when` is true of; the first rule that applies is the one."""

    when: Callable[[Request], bool]
    fault: Fault


@dataclass(frozen=True)
class WatchRule:
    """A fault for the events that `when` is true of."""

    when: Callable[[WatchEvent], bool]
    fault: WatchFault


@dataclass(frozen=True)
class Script:
    """What goes wrong. `page` makes the apiserver hand out lists in pages of so many."""

    writes: Sequence[Rule] = ()
    reads: Sequence[Rule] = ()
    events: Sequence[WatchRule] = ()
    page: int | None = None


# --- when -------------------------------------------------------------------------------------------------------------


def nth(number: int) -> Callable[[Request], bool]:
    """The n-th write (or read)."""
    return lambda request: request.number == number


def share(part: float, seed: int, what: Callable[[Request], bool] = lambda _: True) -> Callable[[Request], bool]:
    """That part of the requests, the same ones for the same seed and the same requests.

    By path and by how often that path was asked for, not by number: numbers shift when requests race.
    """
    asked: dict[str, int] = {}

    def when(request: Request) -> bool:
        if not what(request):
            return False
        identity = f"{request.verb} {request.kind}/{request.name}/{request.sub}"
        asked[identity] = asked.get(identity, 0) + 1
        digest = hashlib.sha256(f"{seed}:{identity}:{asked[identity]}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64 < part

    return when


# --- faults on requests -----------------------------------------------------------------------------------------------


def before(call: Callable[[], Awaitable[object]]) -> Fault:
    """Call somebody (who kills the operator, say) instead of passing the request on; the apiserver never hears of it."""

    async def fault(_: Request, __: Forward) -> Answer:
        await call()
        raise Reset

    return fault


def after(call: Callable[[], Awaitable[object]]) -> Fault:
    """Pass the request on, then call somebody; nobody hears the answer."""

    async def fault(_: Request, forward: Forward) -> Answer:
        await forward()
        await call()
        raise Reset

    return fault


async def lose_answer(_: Request, forward: Forward) -> Answer:
    """The apiserver does it; the client sees its connection reset."""
    await forward()
    raise Reset


def late(seconds: float) -> Fault:
    """Pass the request on after a while."""

    async def fault(_: Request, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward()

    return fault


async def cut(_: Request, __: Forward) -> Answer:
    """Nobody is there: the connection is reset, and the apiserver never hears of it."""
    raise Reset


def done_but_unknown(seconds: float) -> Fault:
    """Writes are carried out; whoever asks for anything is told after a while that nobody knows: 504."""

    async def fault(request: Request, forward: Forward) -> Answer:
        if request.verb != "GET":
            await forward()
        await asyncio.sleep(seconds)
        return await refuse(504)(request, forward)

    return fault


def refuse(code: int, message: str = "the fault campaign says so", retry_after: int | None = None) -> Fault:
    """Answer in the apiserver's place."""

    async def fault(request: Request, _: Forward) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Retry-After": str(retry_after)} if retry_after else {})
        body = status(code, message)
        if code == 409 and request.verb == "POST":
            body["reason"] = "AlreadyExists"  # what a 409 to a creation means
        return Answer(code, json.dumps(body).encode(), headers)

    return fault


def status(code: int, message: str) -> JsonDict:
    """The apiserver's Status object."""
    reason = REASONS.get(code, "Unknown")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


# --- faults on watches ------------------------------------------------------------------------------------------------


async def swallow(_: WatchEvent, __: WatchStream) -> None:
    """The event is lost; the stream goes on."""


async def stall(_: WatchEvent, stream: WatchStream) -> None:
    """From this event on the stream is open and silent."""
    stream.stalled = True


def fail(code: int) -> WatchFault:
    """The event is not told; an ERROR of that code ends the stream."""

    async def fault(_: WatchEvent, stream: WatchStream) -> None:
        await stream.error(code)

    return fault


async def cut_in_half(event: WatchEvent, stream: WatchStream) -> None:
    """Half of the event's line, then a reset."""
    await stream.send(event.line[: len(event.line) // 2])
    await asyncio.sleep(0.05)  # let the half arrive before the reset overtakes it
    raise Reset


async def replay(event: WatchEvent, stream: WatchStream) -> None:
    """The event, and then the whole past of the stream again, as from a server that lags behind."""
    past = list(stream.history)
    await stream.send(event.line)
    for line in past:
        await stream.send(line)


# --- the proxy --------------------------------------------------------------------------------------------------------


@dataclass
class Proxy:
    """Plain HTTP on loopback for one operator (or several of one plan); `server` is what goes into its kubeconfig.

    `outage` is what every request meets while it is set, those for Leases and new watches too.
    """

    upstream: str
    session: aiohttp.ClientSession
    script: Script = Script()
    outage: Fault | None = None
    writes: list[Record] = field(default_factory=list)
    courtesies: int = 0
    reads: int = 0
    events: int = 0
    fired: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    last_write: float = field(default_factory=time.monotonic)
    server: str = ""
    _numbers: int = 0
    _runner: web.AppRunner | None = None
    _watching: set[asyncio.Transport] = field(default_factory=set)

    async def __aenter__(self) -> "Proxy":
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.server = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def count(self) -> int:
        """How many writes were asked for so far, answered or not."""
        return self._numbers

    def cut_watches(self) -> None:
        """Reset every watch that is open now."""
        for transport in tuple(self._watching):
            transport.abort()

    def bodies(self, kind: str, verb: str) -> list[Request]:
        """The writes of a kind that the apiserver carried out."""
        done = (r.request for r in self.writes if r.status is not None and r.status < 400)
        return [request for request in done if request.kind == kind and request.verb == verb]

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        raw = await incoming.read()
        request = self._read(incoming, raw)
        rule = self._rule_for(request)
        if request.is_watch and rule is None:
            return await self._watch(incoming, request)

        async def forward() -> Answer:
            return await self._forward(request, raw)

        # Shielded: what the apiserver was asked for happens, whether or not the one who asked lives to hear of it.
        answer = await asyncio.shield(asyncio.ensure_future(self._answer(rule, request, forward)))
        if answer is None:
            return _cut(incoming)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _rule_for(self, request: Request) -> Rule | None:
        if self.outage is not None:
            return Rule(lambda _: True, self.outage)
        rules = self.script.reads if request.verb == "GET" else self.script.writes if _counts(request) else ()
        return next((rule for rule in rules if rule.when(request)), None)

    async def _answer(self, rule: Rule | None, request: Request, forward: Forward) -> Answer | None:
        """What the client gets, None when its connection is to be cut."""
        known = len(self.writes)
        try:
            if rule is None:
                return await forward()
            self.fired += 1
            return await rule.fault(request, forward)
        except (Reset, aiohttp.ClientError, TimeoutError):
            return None
        finally:
            if (
                rule is not None
                and _counts(request)
                and all(record.request is not request for record in self.writes[known:])
            ):
                self.writes.append(Record(request, None))

    def _read(self, incoming: web.Request, raw: bytes) -> Request:
        path = incoming.path
        kind, name, sub = place(path)
        number = 0
        if incoming.method == "GET":
            self.reads += 1
            number = self.reads
        elif kind in UNCOUNTED:
            self.courtesies += 1
        else:
            self._numbers += 1
            number = self._numbers
            self.last_write = time.monotonic()
        body = json.loads(raw) if raw and incoming.method != "GET" else None
        return Request(number, incoming.method, kind, name, sub, time.monotonic(), path, dict(incoming.query), body)

    def _url(self, request: Request) -> URL:
        query = dict(request.query)
        if self.script.page and request.verb == "GET" and not request.name and not request.is_watch:
            query["limit"] = str(self.script.page)
        return URL(self.upstream).with_path(request.path).with_query(query)

    async def _forward(self, request: Request, raw: bytes) -> Answer:
        headers = {"Accept-Encoding": "identity"} | self._identity(request)
        if request.body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if request.verb == "PATCH" else "application/json"
        async with self.session.request(
            request.verb, self._url(request), data=raw or None, headers=headers, allow_redirects=False
        ) as response:
            answer = Answer(
                response.status,
                await response.read(),
                {key: response.headers[key] for key in HANDED_BACK if key in response.headers},
            )
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if _counts(request):
            self.writes.append(Record(request, answer.status))
            self.last_write = time.monotonic()
        return answer

    def _identity(self, request: Request) -> dict[str, str]:
        return {"Accept": "application/json", "User-Agent": "mabeam-through-a-proxy"}

    async def _watch(self, incoming: web.Request, request: Request) -> web.StreamResponse:
        out = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream = WatchStream(request, out, incoming.transport)
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=10)
        if stream.transport is not None:
            self._watching.add(stream.transport)
        try:
            async with self.session.get(
                self._url(request), headers={"Accept-Encoding": "identity"} | self._identity(request), timeout=quiet
            ) as response:
                out.set_status(response.status)
                await out.prepare(incoming)
                if response.status != 200:
                    await out.write(await response.read())
                    return out
                async for line in lines_of(response.content):
                    await self._pass_on(line, stream)
        except (Reset, aiohttp.ClientError, TimeoutError, ConnectionError):
            return _cut(incoming)
        except EndOfWatch:
            pass
        finally:
            if stream.transport is not None:
                self._watching.discard(stream.transport)
        await out.write_eof()
        return out

    async def _pass_on(self, line: bytes, stream: WatchStream) -> None:
        head = json.loads(line)
        if head["type"] in ("BOOKMARK", "ERROR"):
            if not stream.stalled:
                await stream.send(line)
            return
        self.events += 1
        name = head["object"]["metadata"]["name"]
        event = WatchEvent(self.events, stream.request.kind, head["type"], name, line)
        rule = next((rule for rule in self.script.events if rule.when(event)), None)
        if rule is not None and not stream.stalled:
            self.fired += 1
            await rule.fault(event, stream)
        elif not stream.stalled:
            await stream.send(line)
        stream.history.append(line)


def _counts(request: Request) -> bool:
    return request.verb != "GET" and request.kind not in UNCOUNTED


def _cut(incoming: web.Request) -> web.StreamResponse:
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response(status=500)


def place(path: str) -> tuple[str, str, str]:
    """The plural, the name and the subresource that a path of the API names; what is not there is empty."""
    parts = [part for part in path.split("/") if part]
    parts = parts[2:] if parts[:1] == ["api"] else parts[3:] if parts[:1] == ["apis"] else []
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    plural, name, *subs = [*parts, "", ""][: max(len(parts), 3)]
    return plural, name, "/".join(sub for sub in subs if sub)


def numbered(script: Script, *rules: Rule) -> Script:
    """The script with further rules on writes."""
    return replace(script, writes=(*script.writes, *rules))
