"""The cpu and memory that pods and nodes use, read from metrics.k8s.io; a cluster without that API has none to show.

That API has neither watches nor pages, so it is polled, for a hundredth of the time at most.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.rest import Capacity, Source, Usage
from mabeam.core.algorithms import quantity
from mabeam.core.snapshot import NamespacedName
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, error_text

log = logging.getLogger("mabeam.usage")

PERIOD_SECONDS: Final = 15.0
# Seconds until a cluster that lacks the API (404), or whose roles are older than this operator (403), is asked again.
AGAIN_SECONDS: Final = 300.0
SHARE_OF_TIME: Final = 0.01
# A measurement is used for so many periods.
FRESH_PERIODS: Final = 3
# Other tasks run after every so many objects.
YIELD_EVERY: Final = 200

POD_METRICS: Final = "PodMetrics"
NODE_METRICS: Final = "NodeMetrics"


@dataclass(frozen=True, slots=True)
class Amounts:
    """An amount of cpu and memory."""

    cpu: float  # cores
    memory: float  # bytes


def parse_amount(text: object) -> float | None:
    """The number that a quantity such as `250m`, `1.5` or `64Mi` stands for; None when it is no quantity, or negative."""
    try:
        found = quantity.parse(str(text))
    except ValueError:
        return None
    return float(found) if found >= 0 else None


def parse_amounts(document: Any) -> Amounts | None:
    """The cores and bytes of a resource list; None unless it has both."""
    held: Mapping[str, Any] = document if isinstance(document, dict) else {}
    cpu, memory = parse_amount(held.get("cpu")), parse_amount(held.get("memory"))
    return Amounts(cpu, memory) if cpu is not None and memory is not None else None


def pod_usage(item: JsonDict) -> tuple[NamespacedName, Amounts]:
    """The namespace and name of the pod, and the sum of what its containers use."""
    meta = item.get("metadata") or {}
    used = [found for c in item.get("containers") or () if (found := parse_amounts(c.get("usage"))) is not None]
    total = Amounts(sum(one.cpu for one in used), sum(one.memory for one in used))
    return (str(meta.get("namespace") or ""), str(meta.get("name"))), total


def node_usage(item: JsonDict) -> tuple[str, Amounts | None]:
    """The node's name, and how much of it is used."""
    return str((item.get("metadata") or {}).get("name")), parse_amounts(item.get("usage"))


def capacity_of(used: Mapping[str, Amounts], allocatable: Mapping[str, Amounts]) -> Capacity | None:
    """The mean share of the nodes' cpu and memory that is used, over the nodes whose use and capacity are both known."""
    known = [(used[name], allocatable[name]) for name in used if name in allocatable]
    shares = [(u.cpu / a.cpu, u.memory / a.memory) for u, a in known if a.cpu > 0 and a.memory > 0]
    if not shares:
        return None
    return Capacity(
        nodes=len(shares),
        cpu=round(min(1.0, sum(min(1.0, cpu) for cpu, _ in shares) / len(shares)), 4),
        memory=round(min(1.0, sum(min(1.0, memory) for _, memory in shares) / len(shares)), 4),
    )


@dataclass
class UsageReader:
    """Polls the metrics API and keeps the latest measurements."""

    client: Client
    scopes: Iterable[str | None]  # the namespaces that are watched; None: all
    allocatable: Callable[[], Mapping[str, Mapping[str, str]]]
    may_ask: Callable[[], bool] = lambda: True  # only the leader polls
    pods: dict[NamespacedName, Amounts] = field(default_factory=dict)
    nodes: dict[str, Amounts] = field(default_factory=dict)
    _measured_at: float = float("-inf")
    _period: float = PERIOD_SECONDS
    _last_logged: str = ""

    def of_pods(self, pods: Iterable[NamespacedName]) -> Usage | None:
        """The sum of what these pods use; None when none of them was measured lately."""
        if not self._is_fresh():
            return None
        used = [self.pods[where] for where in pods if where in self.pods]
        if not used:
            return None
        cpu, memory = sum(one.cpu for one in used), sum(one.memory for one in used)
        return Usage(cpu=round(cpu, 6), memory=int(memory), pods=len(used), source=Source.METRICS_API)

    def capacity(self) -> Capacity | None:
        """The share of the nodes that is used; None when it was not measured lately."""
        if not self._is_fresh():
            return None
        held = ((name, parse_amounts(given)) for name, given in self.allocatable().items())
        return capacity_of(self.nodes, {name: given for name, given in held if given is not None})

    def _is_fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self._measured_at <= FRESH_PERIODS * self._period

    async def run(self) -> None:
        """Measure every period while this process leads."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            wait = await self._poll() if self.may_ask() else PERIOD_SECONDS
            self._period = max(PERIOD_SECONDS, (clock() - started) / SHARE_OF_TIME)
            await asyncio.sleep(max(wait, self._period))

    async def _poll(self) -> float:
        """Read the metrics of pods and nodes; returns the seconds until the next attempt."""
        try:
            pods = await self._pods()
            nodes = [node_usage(item) async for item in self._items(NODE_METRICS, None)]
        except ApiError as problem:
            self._log_once(f"metrics.k8s.io is not read: {problem}", missing=problem.status == 404)
            return AGAIN_SECONDS if problem.status in (403, 404) else PERIOD_SECONDS
        except REQUEST_ERRORS as problem:
            self._log_once(f"metrics.k8s.io is not read: {error_text(problem)}")
            return PERIOD_SECONDS
        self.pods = dict(pods)
        self.nodes = {name: used for name, used in nodes if used is not None}
        self._measured_at = asyncio.get_running_loop().time()
        self._last_logged = ""
        return PERIOD_SECONDS

    async def _pods(self) -> list[tuple[NamespacedName, Amounts]]:
        """What the pods of all scopes use; a scope that is denied, such as a namespace that is gone, has none."""
        found: list[tuple[NamespacedName, Amounts]] = []
        denied: list[ApiError] = []
        scopes = tuple(self.scopes)
        for scope in scopes:
            try:
                found += [pod_usage(item) async for item in self._items(POD_METRICS, scope)]
            except ApiError as problem:
                denied.append(problem)
                if problem.status != 403 or len(denied) == len(scopes):
                    raise
        return found

    async def _items(self, kind: str, scope: str | None) -> AsyncIterator[JsonDict]:
        """The objects of all pages; other tasks run in between, because the metrics server answers with one large page."""
        async for page in self.client.list_pages(kind, scope):
            for number, item in enumerate(page.items):
                yield item
                if number % YIELD_EVERY == YIELD_EVERY - 1:
                    await asyncio.sleep(0)

    def _log_once(self, text: str, *, missing: bool = False) -> None:
        # Once for each problem: a cluster without the API is an ordinary one, and a metrics server restarts now and then.
        if text != self._last_logged:
            log.log(logging.DEBUG if missing else logging.INFO, text)
        self._last_logged = text
