"""Reads the agents' reports: straight from the pod's own IP, or through the apiserver when the operator runs outside.

A pod is hostile until shown otherwise: 64 KiB, one second, no redirects, only the IP the kubelet reported for a pod that we
own, never a host-network, loopback or link-local address (a report must not become a way into the node's own services).
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import aiohttp

from mabeam.api.agent import Agent
from mabeam.api.names import REPORT_PATH, REPORT_PORT
from mabeam.core.lifecycle import is_running
from mabeam.core.reports import Remembered, Report, parse, remember
from mabeam.core.snapshot import PodFacts, Progress
from mabeam.shell.addresses import is_safe
from mabeam.shell.clock import Clock
from mabeam.shell.cluster import ApiError, Cluster, read_bounded

log = logging.getLogger("mabeam.reports")

MAX_BYTES: Final = 65_536
TIMEOUT: Final = aiohttp.ClientTimeout(total=1)
CONCURRENCY: Final = 32
FIRST_HURRY_SECONDS: Final = 0.1
DEFAULT_PERIOD_SECONDS: Final = 5
_LAST_SECOND: Final = 221_845_392_000.0  # the year 9000


@dataclass(frozen=True, slots=True)
class Target:
    """One pod to be read: of which agent, where, how often."""

    agent_uid: str
    namespace: str
    agent: str
    pod: str
    pod_uid: str
    ip: str
    port: int
    path: str
    period: float
    ordinal: int


def target_of(agent: Agent, pod: PodFacts) -> Target | None:
    """Where the pod's report is read, None when it must not or cannot be."""
    if not is_running(pod) or pod.host_network or not pod.ip or not is_safe(pod.ip):
        return None
    reports = agent.spec.reports
    return Target(
        agent_uid=agent.metadata.uid,
        namespace=agent.metadata.namespace,
        agent=agent.metadata.name,
        pod=pod.name,
        pod_uid=pod.uid,
        ip=pod.ip,
        port=reports.port if reports else REPORT_PORT,
        path=reports.path if reports else REPORT_PATH,
        period=reports.period_seconds if reports else DEFAULT_PERIOD_SECONDS,
        ordinal=pod.ordinal,
    )


@dataclass
class Reports:
    """The latest reports, and the timetable by which they are read.

    `heard(namespace, agent, acknowledged, changed)` is called when a report says something new: `acknowledged` when it
    is about directives, is bad, or brings the time nearer at which the process is taken for hung; `changed` when what it wants
    or measures changed.
    """

    cluster: Cluster | None
    through_apiserver: bool
    heard: Callable[[str, str, bool, bool], None]
    outcome: Callable[[str], None] = lambda outcome: None
    clock: Clock = field(default_factory=Clock)
    _targets: dict[str, Target] = field(default_factory=dict)
    _followed: dict[str, set[str]] = field(default_factory=dict)
    _latest: dict[str, Report] = field(default_factory=dict)
    _moved: dict[str, tuple[float, datetime]] = field(default_factory=dict)
    _remembered: dict[str, dict[int, Remembered]] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _hurry: dict[str, float] = field(default_factory=dict)
    _awaited: dict[str, int] = field(default_factory=dict)
    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    _session: aiohttp.ClientSession | None = None

    # --- what is known --------------------------------------------------------------------------------------------------

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """The newest report by pod name, of those pods that were read."""
        return {pod.name: self._latest[pod.uid] for pod in pods if pod.uid in self._latest}

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """How long each pod that counts its progress has made none, by pod name. What was before this process is not known."""
        found = {}
        for pod in pods:
            moved, latest = self._moved.get(pod.uid), self._latest.get(pod.uid)
            if moved is not None:
                waits = latest.waiting_until if latest is not None else None
                found[pod.name] = Progress(moved[1], _instant(waits))
        return found

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """What each agent says, by name: the word of its lowest ordinal that was heard, with what it remembers."""
        now = self.clock.now()
        found: dict[str, Report] = {}
        for agent in agents:
            ordinals = self._remembered.get(agent.metadata.uid)
            if ordinals:
                found[agent.metadata.name] = ordinals[min(ordinals)].at(now)
        return found

    # --- whom to read ---------------------------------------------------------------------------------------------------

    def follow(self, agent: Agent, targets: Iterable[Target], *, awaiting: int) -> None:
        """Read exactly these pods of the agent from now on, in a hurry while generation `awaiting` (0: none) is not answered."""
        wanted = {target.pod_uid: target for target in targets}
        for uid in self._followed.get(agent.metadata.uid, set()) - wanted.keys():
            self._drop(uid)
        if wanted:
            self._followed[agent.metadata.uid] = set(wanted)
        else:
            self._followed.pop(agent.metadata.uid, None)
        now = asyncio.get_running_loop().time()
        for uid, target in wanted.items():
            known = self._targets.get(uid)
            self._targets[uid] = target
            if known is None:
                self._schedule(uid, now)
            if awaiting and self._awaited.get(uid) != awaiting:
                self._awaited[uid] = awaiting
                self._hurry[uid] = FIRST_HURRY_SECONDS
                self._schedule(uid, now + FIRST_HURRY_SECONDS)
            elif not awaiting:
                self._awaited.pop(uid, None)
                self._hurry.pop(uid, None)

    def forget(self, agent_uid: str) -> None:
        """Read nothing of the agent any more, and forget what it said."""
        for uid in self._followed.pop(agent_uid, set()):
            self._drop(uid)
        self._remembered.pop(agent_uid, None)

    def _drop(self, uid: str) -> None:
        for book in (self._targets, self._latest, self._moved, self._due, self._hurry, self._awaited):
            book.pop(uid, None)

    def _schedule(self, uid: str, at: float) -> None:
        if self._due.get(uid, float("inf")) <= at:
            return
        self._due[uid] = at
        heapq.heappush(self._heap, (at, next(self._order), uid))
        self._wakeup.set()

    # --- reading --------------------------------------------------------------------------------------------------------

    async def read_for_ever(self) -> None:
        """Read every followed pod by its timetable."""
        loop = asyncio.get_running_loop()
        slots = asyncio.Semaphore(CONCURRENCY)
        running: set[asyncio.Task[None]] = set()
        connector = aiohttp.TCPConnector(limit=CONCURRENCY, force_close=True)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            while True:
                while self._heap and self._heap[0][0] <= loop.time():
                    at, _, uid = heapq.heappop(self._heap)
                    if self._due.get(uid) != at or uid not in self._targets:
                        continue
                    del self._due[uid]
                    await slots.acquire()
                    task = asyncio.create_task(self._read_one(self._targets[uid]))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    task.add_done_callback(lambda _: slots.release())
                self._wakeup.clear()
                try:  # not wait_for: up to Python 3.11 it loses a cancellation that comes with the wake-up
                    async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                        await self._wakeup.wait()
                except TimeoutError:
                    continue

    async def _read_one(self, target: Target) -> None:
        report: Report | None = None
        try:
            raw = await self._fetch(target)
            report = parse(raw)
            self.outcome("bad" if report.problems else "ok")
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as problem:
            self.outcome("unreachable")
            log.debug("report of %s/%s not read: %s", target.namespace, target.pod, problem)
        if target.pod_uid not in self._targets:
            return  # it was dropped while it was read
        self._digest(target, report)
        now = asyncio.get_running_loop().time()
        delay = target.period
        hurry = self._hurry.get(target.pod_uid)
        if hurry is not None:
            delay = min(hurry, target.period)
            self._hurry[target.pod_uid] = min(hurry * 1.6, target.period)
        self._schedule(target.pod_uid, now + delay)

    async def _fetch(self, target: Target) -> bytes:
        if self.through_apiserver and self.cluster is not None:
            async with asyncio.timeout(2):
                return await self.cluster.read_report(target.namespace, target.pod, target.port, target.path, MAX_BYTES)
        if self._session is None:
            raise RuntimeError("reports are read before `read_for_ever`")
        host = f"[{target.ip}]" if ":" in target.ip else target.ip
        url = f"http://{host}:{target.port}{target.path}"
        async with self._session.get(url, timeout=TIMEOUT, allow_redirects=False) as response:
            if response.status != 200:
                raise ApiError(response.status, "Report", f"HTTP {response.status}")
            # One byte more than allowed is read, so that the parser can tell "just fits" from "too large".
            return await read_bounded(response.content, MAX_BYTES + 1)

    def _digest(self, target: Target, report: Report | None) -> None:
        now = self.clock.now()
        ordinals = self._remembered.setdefault(target.agent_uid, {})
        known = ordinals.get(target.ordinal)
        before = known.at(now) if known is not None else Report()
        ordinals[target.ordinal] = remember(known, report, now, target.period)
        after = ordinals[target.ordinal].at(now)
        old = self._latest.get(target.pod_uid)
        nearer = False
        if report is not None:
            self._latest[target.pod_uid] = report
            moved = self._moved.get(target.pod_uid)
            nearer = report.progress is not None and (moved is None or _waits_less(old, report))
            if report.progress is not None and (moved is None or moved[0] != report.progress):
                self._moved[target.pod_uid] = (report.progress, now)
        acknowledged = report is not None and (nearer or old is None or _answers(old) != _answers(report))
        changed = _wants(before) != _wants(after)
        if acknowledged or changed:
            self.heard(target.namespace, target.agent, acknowledged, changed)


def _answers(report: Report) -> object:
    return report.applied_generation, report.refusals, report.problems


def _waits_less(old: Report | None, report: Report) -> bool:
    return old is not None and (old.waiting_until or 0) > (report.waiting_until or 0)


def _wants(report: Report) -> object:
    return report.numbers, report.choices, report.weights, report.bids


def _instant(seconds: float | None) -> datetime | None:
    """A Unix time as a time; what lies beyond the calendar is its end."""
    if seconds is None or seconds < 0:
        return None
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC)
