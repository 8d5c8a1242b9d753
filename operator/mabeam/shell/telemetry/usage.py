"""What pods and nodes use, asked of metrics.k8s.io where a cluster has it; elsewhere nothing is known, and nobody is bothered.

A poll of many pods costs time, the metrics server's and ours: it takes a hundredth of it at the most.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from mabeam.api.base import JsonDict
from mabeam.api.rest import Capacity, Source, Usage
from mabeam.core.algorithms import quantity
from mabeam.core.snapshot import NamespacedName
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import ApiError

log = logging.getLogger("mabeam.usage")

PERIOD_SECONDS: Final = 15.0
# A cluster without the metrics API, or whose rights are older than this operator, is asked again after this.
AGAIN_SECONDS: Final = 300.0
SHARE_OF_TIME: Final = 0.01
# So many periods a measurement is believed.
FRESH_PERIODS: Final = 3
SLICE: Final = 200

POD_METRICS: Final = "PodMetrics"
NODE_METRICS: Final = "NodeMetrics"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Cores and bytes."""

    cpu: float
    memory: float


def parse_amount(text: object) -> float | None:
    """The number that a quantity such as `250m`, `1.5` or `64Mi` stands for; None when it is none, or negative."""
    try:
        found = quantity.parse(str(text))
    except ValueError:
        return None
    return float(found) if found >= 0 else None


def parse_amounts(document: Any) -> Amounts | None:
    """Cores and bytes of a resource list; None unless it tells both."""
    held: Mapping[str, Any] = document if isinstance(document, dict) else {}
    cpu, memory = parse_amount(held.get("cpu")), parse_amount(held.get("memory"))
    return Amounts(cpu, memory) if cpu is not None and memory is not None else None


def pod_usage(item: JsonDict) -> tuple[NamespacedName, Amounts]:
    """Where the pod is, and what its containers use together."""
    meta = item.get("metadata") or {}
    used = [found for c in item.get("containers") or () if (found := parse_amounts(c.get("usage"))) is not None]
    total = Amounts(sum(one.cpu for one in used), sum(one.memory for one in used))
    return (str(meta.get("namespace") or ""), str(meta.get("name"))), total


def node_usage(item: JsonDict) -> tuple[str, Amounts | None]:
    """The node's name, and what is used of it."""
    return str((item.get("metadata") or {}).get("name")), parse_amounts(item.get("usage"))


def capacity_of(used: Mapping[str, Amounts], allocatable: Mapping[str, Amounts]) -> Capacity | None:
    """The mean share of the nodes' cpu and memory that is used, over those of which both sides are known."""
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
    """The latest measurements. `scopes` are the namespaces that are watched, `allocatable` what the nodes have to give."""

    client: Client
    scopes: Iterable[str | None]
    allocatable: Callable[[], Mapping[str, Mapping[str, str]]]
    may_ask: Callable[[], bool] = lambda: True
    pods: dict[NamespacedName, Amounts] = field(default_factory=dict)
    nodes: dict[str, Amounts] = field(default_factory=dict)
    _measured_at: float = float("-inf")
    _period: float = PERIOD_SECONDS
    _last_logged: str = ""

    def of_pods(self, pods: Iterable[NamespacedName]) -> Usage | None:
        """What these pods use together; None when none of them was measured lately."""
        if not self._is_fresh():
            return None
        used = [self.pods[where] for where in pods if where in self.pods]
        if not used:
            return None
        cpu, memory = sum(one.cpu for one in used), sum(one.memory for one in used)
        return Usage(cpu=round(cpu, 6), memory=int(memory), pods=len(used), source=Source.METRICS_API)

    def capacity(self) -> Capacity | None:
        """How much of the nodes is used; None when that was not measured lately."""
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
        """Read both kinds; returns the seconds until it is worth asking again."""
        try:
            pods = [pod_usage(item) for scope in self.scopes async for item in self._items(POD_METRICS, scope)]
            nodes = [node_usage(item) async for item in self._items(NODE_METRICS, None)]
        except ApiError as problem:
            self._log_once(f"metrics.k8s.io is not read: {problem}", missing=problem.status == 404)
            return AGAIN_SECONDS if problem.status in (403, 404) else PERIOD_SECONDS
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            self._log_once(f"metrics.k8s.io is not read: {str(problem) or type(problem).__name__}")
            return PERIOD_SECONDS
        self.pods = dict(pods)
        self.nodes = {name: used for name, used in nodes if used is not None}
        self._measured_at = asyncio.get_running_loop().time()
        self._last_logged = ""
        return PERIOD_SECONDS

    async def _items(self, kind: str, scope: str | None) -> AsyncIterator[JsonDict]:
        """The objects, with a turn for others now and then: the metrics server knows no pages."""
        async for page in self.client.list_pages(kind, scope):
            for number, item in enumerate(page.items):
                yield item
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)

    def _log_once(self, text: str, *, missing: bool = False) -> None:
        # Once for each trouble: a cluster without the API is an ordinary one, and a metrics server restarts now and then.
        if text != self._last_logged:
            log.log(logging.DEBUG if missing else logging.INFO, text)
        self._last_logged = text
