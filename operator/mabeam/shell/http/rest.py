"""`/v1`: what the operator knows, as JSON, read-only; the records are the core's (`core/views`).

Every replica answers from its cache; only the leader decides, reads reports and counts, so each answer says whether it is the
leader's. An answer is bounded: whoever asks cannot make the operator work for long.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import orjson
from aiohttp import web

from mabeam import __version__
from mabeam.api.base import JsonDict, KubeModel
from mabeam.api.rest import AgentList, LostNamespace, OperatorInfo, Problem, VariableList
from mabeam.api.rest_openapi import DEFAULT_LIMIT, DOCUMENT, LIST_QUERY, MAX_LIMIT, PATHS, STATUS_QUERY, document
from mabeam.core.snapshot import NamespacedName
from mabeam.core.views import variable
from mabeam.core.views.agent import ObservedAgent, agent_info
from mabeam.core.views.system import ProcessCounters, system_status
from mabeam.core.views.variable import ObservedVariable
from mabeam.shell.kube.event_recorder import EventRecorder
from mabeam.shell.kube.relist import LostScope
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.telemetry.load import LoadMeter
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.shell.telemetry.usage import UsageReader
from mabeam.state.cache import Cache
from mabeam.state.parse_objects import ParsedAgent, ParsedVariable

# Seconds for which one computed status answers all requests; more when it takes long to compute, so that computing takes at
# most SHARE_OF_TIME.
STATUS_CACHE_SECONDS: Final = 1.0
SHARE_OF_TIME: Final = 0.05
# So many requests are answered or wait at once; each further one is refused after a pause, so that asking again costs little.
MAX_REQUESTS: Final = 16
REFUSAL_SECONDS: Final = 1.0
# Other tasks run after every so many records.
YIELD_EVERY: Final = 50

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.Response]]


class BadRequest(Exception):
    """A request that is refused: its HTTP status, the reason, and what is allowed instead."""

    def __init__(self, status: int, detail: str, allowed: Iterable[str] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.allowed = status, detail, tuple(allowed)


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that a request asks for."""

    namespace: str | None  # None: all
    limit: int
    after: NamespacedName | None  # the last object of the page before


_TITLES: Final[Mapping[int, str]] = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {405: {"Allow": "GET, HEAD"}, 503: {"Retry-After": "1"}}


def page_of(query: Mapping[str, str]) -> Page:
    """The page that a query asks for; raises `Unanswerable`."""
    _only(query, LIST_QUERY)
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 9 and 1 <= int(limit) <= MAX_LIMIT):
        raise BadRequest(400, f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit[:64]!r}")
    after = query.get("continue")
    if after is not None and len(after.split("/")) != 2:
        raise BadRequest(400, f"continue must be the `continue` of the page before, not {after[:64]!r}")
    where = tuple(after.split("/")) if after is not None else None
    return Page(query.get("namespace"), int(limit), (where[0], where[1]) if where is not None else None)


def _only(query: Mapping[str, str], allowed: Iterable[JsonDict]) -> None:
    names = [str(parameter["name"]) for parameter in allowed]
    unknown = sorted(set(query) - set(names))
    if unknown:
        raise BadRequest(400, f"there is no parameter {unknown[0][:64]!r}", names)
    twice = [name for name in names if len(getattr(query, "getall", lambda n, _: [n])(name, [])) > 1]
    if twice:
        raise BadRequest(400, f"{twice[0]} is given twice")


def page_keys(everything: Iterable[NamespacedName], page: Page) -> tuple[list[NamespacedName], int]:
    """The names on the page, sorted, and the number of those after it."""
    wanted = [
        where
        for where in everything
        if page.namespace in (None, where[0]) and (page.after is None or where > page.after)
    ]
    return heapq.nsmallest(page.limit, wanted), max(0, len(wanted) - page.limit)


@dataclass
class RestApi:
    """Answers requests from memory: no request leads to one to the apiserver."""

    cache: Cache
    reports: ReportReader
    usage: UsageReader
    load_meter: LoadMeter
    recorder: EventRecorder
    telemetry: Telemetry
    clock: ServerClock
    identity: str
    lost_namespaces: Callable[[], Mapping[str, LostScope]] = dict
    since: datetime = field(init=False)
    _status_cache: dict[str | None, tuple[float, bytes]] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _requests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_REQUESTS))

    def __post_init__(self) -> None:
        self.since = self.clock.now()

    def routes(self, synced: Callable[[], bool] = lambda: True) -> list[web.RouteDef]:
        """The routes. They answer 503 until `synced`, because a part of the agents would look like all of them."""
        answers: dict[str, Handler] = {
            "/v1/status": self._status,  # computed once a second, whoever asks
            "/v1/agents": self._bounded(self._agents),
            "/v1/agents/{namespace}/{name}": self._bounded(self._agent),
            "/v1/variables": self._bounded(self._variables),
            "/v1/variables/{namespace}/{name}": self._bounded(self._variable),
        }
        routes = [web.get(path, _answering(answer, synced)) for path, answer in answers.items()]
        routes.append(web.get(DOCUMENT, _answering(_document)))
        return [*routes, web.route("*", "/v1{rest:(/.*)?}", _answering(_nothing))]

    async def _status(self, request: web.Request) -> web.Response:
        _only(request.query, STATUS_QUERY)
        namespace = request.query.get("namespace")
        clock = asyncio.get_running_loop().time
        async with self._one_at_a_time:  # a request that waited finds what the one before computed
            now = clock()
            self._status_cache = {name: held for name, held in self._status_cache.items() if now < held[0]}
            held = self._status_cache.get(namespace)
            if held is None:
                computed = await self._compute_status(namespace)
                held = now + max(STATUS_CACHE_SECONDS, (clock() - now) / SHARE_OF_TIME), computed
                self._status_cache[namespace] = held
        return _json(held[1])

    async def _compute_status(self, namespace: str | None) -> bytes:
        agents, variables = list(self.cache.agents), list(self.cache.variables)
        if namespace is not None:
            agents = [(namespace, name) for name in self.cache.agents_in.get(namespace, ())]
            variables = [(namespace, name) for name in self.cache.variables_in.get(namespace, ())]
        # In a thread: it takes a tenth of a second for ten thousand agents, and everything that it reads is immutable.
        status = await asyncio.to_thread(
            system_status,
            self._operator_info(),
            await self._each(agents, self._seen_agent),
            await self._each(variables, self._seen_variable),
            ProcessCounters(
                directives=dict(self.telemetry.directive_counts),
                recoveries=tuple(self.telemetry.recoveries),
                events=tuple(self.recorder.recent),
                nodes=self.usage.capacity(),
                load=self.load_meter.record(),
            ),
            self.clock.now(),
            namespace,
        )
        return orjson.dumps(status.to_wire())

    def _operator_info(self) -> OperatorInfo:
        lost = sorted(self.lost_namespaces().items())
        return OperatorInfo(
            version=__version__,
            identity=self.identity,
            leader=self.telemetry.leads,
            since=self.since,
            lost_namespaces=tuple(LostNamespace(name=n, message=s.problem, since=s.since) for n, s in lost),
        )

    def _bounded(self, answer: Handler) -> Handler:
        """The handler, for at most MAX_REQUESTS at once: nobody is known here, and the leader needs the time."""

        async def handle(request: web.Request) -> web.Response:
            if self._requests.locked():
                await asyncio.sleep(REFUSAL_SECONDS)
                raise BadRequest(503, f"{MAX_REQUESTS} requests are being answered; ask again later")
            async with self._requests:
                return await answer(request)

        return handle

    async def _agents(self, request: web.Request) -> web.Response:
        page = page_of(request.query)

        def record(seen: list[ObservedAgent], keys: list[NamespacedName], remaining: int) -> bytes:
            return _bytes(AgentList(**self._page(keys, remaining), items=tuple(agent_info(one) for one in seen)))

        return await self._list(self.cache.agents, page, self._seen_agent, record)

    async def _variables(self, request: web.Request) -> web.Response:
        page = page_of(request.query)

        def record(seen: list[ObservedVariable], keys: list[NamespacedName], remaining: int) -> bytes:
            items = tuple(variable.variable_info(one) for one in seen)
            return _bytes(VariableList(**self._page(keys, remaining), items=items))

        return await self._list(self.cache.variables, page, self._seen_variable, record)

    async def _list(
        self,
        everything: Iterable[NamespacedName],
        page: Page,
        look: Callable[[NamespacedName], T | None],
        record: Callable[[list[T], list[NamespacedName], int], bytes],
    ) -> web.Response:
        """One page of records. Made in a thread, one page at a time: 500 take tenths of a second, all of it immutable facts."""
        async with self._one_at_a_time:
            keys, remaining = page_keys(everything, page)
            return _json(await asyncio.to_thread(record, await self._each(keys, look), keys, remaining))

    def _page(self, keys: list[NamespacedName], remaining: int) -> JsonDict:
        going_on = "/".join(keys[-1]) if remaining else None
        return {"leader": self.telemetry.leads, "continue": going_on, "remaining": remaining}

    async def _agent(self, request: web.Request) -> web.Response:
        _only(request.query, ())
        seen = self._seen_agent(_where(request))
        if seen is None:
            raise BadRequest(404, f"there is no Agent {'/'.join(_where(request))}", ("/v1/agents",))
        return _record(agent_info(seen))

    async def _variable(self, request: web.Request) -> web.Response:
        _only(request.query, ())
        seen = self._seen_variable(_where(request))
        if seen is None:
            detail = f"there is no OrchestrationVariable {'/'.join(_where(request))}"
            raise BadRequest(404, detail, ("/v1/variables",))
        return _record(variable.variable_info(seen))

    # --- records from memory --------------------------------------------------------------------------------------------------

    async def _each(self, keys: Iterable[NamespacedName], look: Callable[[NamespacedName], T | None]) -> list[T]:
        """The records of those that still exist; other tasks run in between."""
        found = []
        for number, where in enumerate(keys, start=1):
            seen = look(where)
            if seen is not None:
                found.append(seen)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return found

    def _seen_agent(self, where: NamespacedName) -> ObservedAgent | None:
        parsed: ParsedAgent | None = self.cache.agents.get(where)
        if parsed is None:
            return None
        agent = parsed.agent
        pods = [(where[0], pod.name) for pod in self.cache.pods_owned_by(agent)]
        report = self.reports.of_agents((agent,)).get(agent.metadata.name)
        return ObservedAgent(agent, parsed.invalid is not None, report, self.usage.of_pods(pods))

    def _seen_variable(self, where: NamespacedName) -> ObservedVariable | None:
        parsed: ParsedVariable | None = self.cache.variables.get(where)
        return ObservedVariable(parsed.variable, parsed.invalid is not None) if parsed is not None else None


def _where(request: web.Request) -> NamespacedName:
    return request.match_info["namespace"], request.match_info["name"]


def _answering(answer: Handler, synced: Callable[[], bool] = lambda: True) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            if not synced():
                raise BadRequest(503, "the cluster has not been listed yet")
            return await answer(request)
        except BadRequest as no:
            problem = Problem(title=_TITLES[no.status], status=no.status, detail=no.detail, allowed=no.allowed)
            headers = _HEADERS.get(no.status, {})
            return _json(orjson.dumps(problem.to_wire()), no.status, "application/problem+json", headers)

    return handle


async def _document(_: web.Request) -> web.Response:
    return _json(orjson.dumps(document()))


async def _nothing(request: web.Request) -> web.Response:
    if request.method not in ("GET", "HEAD"):
        raise BadRequest(405, f"{request.method} is not answered: everything here is read-only", ("GET", "HEAD"))
    raise BadRequest(404, f"there is nothing at {request.path[:128]}", PATHS)


def _record(model: KubeModel) -> web.Response:
    return _json(_bytes(model))


def _bytes(model: KubeModel) -> bytes:
    return orjson.dumps(model.to_wire())


def _json(
    body: bytes, status: int = 200, content: str = "application/json", headers: Mapping[str, str] | None = None
) -> web.Response:
    fixed = {"Content-Type": content, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=body, status=status, headers={**fixed, **(headers or {})})
