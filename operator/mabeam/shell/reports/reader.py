"""The reader of agents' reports: from the pod's IP, through the apiserver when the operator runs outside, or from Prometheus.

Every pod counts as hostile: 64 KiB, one second, no redirects, only the IP that the kubelet reported for a pod of an Agent, never
a host-network, loopback or link-local address (a report must not become a way into the node's own services).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import aiohttp

from mabeam.api.agent import Agent, ReportSource
from mabeam.core.pods.lifecycle import hang_deadline
from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.reading import Standstill, UnreadableReport
from mabeam.core.reports.report import RememberedReport, Report, remember, report_of_agent
from mabeam.core.snapshot import PodFacts, Progress
from mabeam.shell.kube.client import Client, read_bounded
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.reports.prometheus import CONCURRENCY as QUERIES_AT_ONCE
from mabeam.shell.reports.prometheus import MIN_QUERY_SECONDS, QUERY_SECONDS, Prometheus
from mabeam.shell.reports.schedule import PollSchedule
from mabeam.shell.reports.silence import Silence, describe_failure
from mabeam.shell.reports.targets import Target

log = logging.getLogger("mabeam.reports")

MAX_BYTES: Final = 65_536
READ_SECONDS: Final = 1.0
TIMEOUT: Final = aiohttp.ClientTimeout(total=READ_SECONDS)
CONCURRENCY: Final = 32
# Reads that have no answer yet, beside those: each holds a socket and at most MAX_BYTES.
SLOW_CONCURRENCY: Final = 224
FIRST_FAST_SECONDS: Final = 0.1
_LAST_SECOND: Final = 221_845_392_000.0  # the year 9000


@dataclass
class ReportReader:
    """Reads the reports of the pods that it was given to follow, and keeps the latest of each."""

    client: Client | None
    through_apiserver: bool
    # Called with namespace, agent, acknowledged, changed. acknowledged: a new report is about directives, or cannot be parsed, or
    # shows that the process hangs, or reports cannot be read any more, or can again; changed: what it has for variables changed.
    on_report: Callable[[str, str, bool, bool], None]
    count_outcome: Callable[[str], None] = lambda outcome: None  # ok, bad, unreachable or absent
    clock: ServerClock = field(default_factory=ServerClock)
    prometheus: Prometheus = field(default_factory=Prometheus)
    # By the uid of a pod, and by the uid of an Agent: one query of Prometheus covers all pods of an Agent.
    _pods: PollSchedule = field(
        default_factory=lambda: PollSchedule(CONCURRENCY, FIRST_FAST_SECONDS, slow_concurrency=SLOW_CONCURRENCY)
    )
    _queries: PollSchedule = field(
        default_factory=lambda: PollSchedule(QUERIES_AT_ONCE, MIN_QUERY_SECONDS, MIN_QUERY_SECONDS)
    )
    on_performance: Callable[[str, str], None] = lambda namespace, agent: (
        None
    )  # called when an agent's performance changed
    _targets: dict[str, Target] = field(default_factory=dict)  # by pod uid
    _followed: dict[str, set[str]] = field(default_factory=dict)  # Agent uid → uids of its pods that are read
    _latest: dict[str, Report] = field(default_factory=dict)  # by pod uid
    _standstills: dict[str, Standstill] = field(default_factory=dict)  # pod uid → how its progress stands
    _silences: dict[str, Silence] = field(default_factory=dict)  # pod uid → its failed reads since its last report
    _never_read: dict[str, UnreadableReport] = field(default_factory=dict)  # pod uid → why its report may not be read
    _passed_over: dict[str, set[str]] = field(default_factory=dict)  # Agent uid → uids of its pods in `_never_read`
    _remembered: dict[str, dict[int, RememberedReport]] = field(default_factory=dict)  # Agent uid → ordinal → report
    _session: aiohttp.ClientSession | None = None

    # --- what is known --------------------------------------------------------------------------------------------------

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """Pod name → its latest report, for the pods that have been read."""
        return {pod.name: self._latest[pod.uid] for pod in pods if pod.uid in self._latest}

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """Pod name → since when its progress has not changed (at most since this process began), where progress is reported."""
        found = ((pod.name, self._progress(pod.uid)) for pod in pods)
        return {name: progress for name, progress in found if progress is not None}

    def _progress(self, pod_uid: str) -> Progress | None:
        stands, latest = self._standstills.get(pod_uid), self._latest.get(pod_uid)
        if stands is None:
            return None
        return Progress(stands.since, _instant(latest.waiting_until if latest is not None else None), stands.read_at)

    def unreadable(self, pods: Iterable[PodFacts]) -> dict[str, UnreadableReport]:
        """Pod name → why its report is never read, or could not be read for some time."""
        found = ((pod.name, self._why_unreadable(pod.uid)) for pod in pods)
        return {name: why for name, why in found if why is not None}

    def _why_unreadable(self, pod_uid: str) -> UnreadableReport | None:
        silence = self._silences.get(pod_uid)
        return silence.why if silence is not None and silence.reported else self._never_read.get(pod_uid)

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """The report of each agent that has one, by name: that of its lowest ordinal that still says something."""
        now = self.clock.now()
        found = ((agent.metadata.name, self._remembered.get(agent.metadata.uid)) for agent in agents)
        return {name: report_of_agent(ordinals, now) for name, ordinals in found if ordinals}

    # --- whom to read ---------------------------------------------------------------------------------------------------

    def follow(self, agent: Agent, targets: Iterable[Target], *, awaiting: int) -> None:
        """Read exactly these pods of the agent from now on, faster while the directives `awaiting` (0: none) are open."""
        wanted = {target.pod_uid: target for target in targets}
        for uid in self._followed.get(agent.metadata.uid, set()) - wanted.keys():
            self._drop(uid)
        if wanted:
            self._followed[agent.metadata.uid] = set(wanted)
        else:
            self._followed.pop(agent.metadata.uid, None)
        for uid, target in wanted.items():
            known = self._targets.get(uid)
            self._targets[uid] = target
            schedule, key = self._schedule_of(target)
            if known is None or known.source is not target.source:
                self._pods.drop(uid)
                schedule.schedule(key, lane=target.agent_uid)
            schedule.expedite(key, awaiting)
        if not any(target.source is ReportSource.PROMETHEUS for target in wanted.values()):
            self._queries.drop(agent.metadata.uid)

    def pass_over(self, agent: Agent, pods: Iterable[tuple[PodFacts, UnreadableReport]]) -> None:
        """Never read exactly these pods of the agent, for the reason given with each."""
        meta, reasons = agent.metadata, {pod.uid: (pod.ordinal, why) for pod, why in pods}
        known = self._passed_over.pop(meta.uid, set())
        for uid in known - reasons.keys():
            del self._never_read[uid]
        if not reasons:
            return
        self._passed_over[meta.uid] = set(reasons)
        self._never_read.update({uid: why for uid, (_, why) in reasons.items()})
        for ordinal, _ in reasons.values():
            # As of a pod that does not answer, nothing is known of it, and nobody waits for its first report.
            self._remembered.setdefault(meta.uid, {}).setdefault(ordinal, RememberedReport())
        if reasons.keys() != known:
            self.on_report(meta.namespace, meta.name, True, True)

    def _schedule_of(self, target: Target) -> tuple[PollSchedule, str]:
        """The schedule by which the target is read, and its key there."""
        if target.source is ReportSource.PROMETHEUS:
            return self._queries, target.agent_uid
        return self._pods, target.pod_uid

    def forget(self, agent_uid: str) -> None:
        """Stop reading the agent's pods, and drop its reports."""
        for uid in self._followed.pop(agent_uid, set()):
            self._drop(uid)
        for uid in self._passed_over.pop(agent_uid, set()):
            del self._never_read[uid]
        self._remembered.pop(agent_uid, None)
        self._queries.drop(agent_uid)

    def _drop(self, uid: str) -> None:
        for known in (self._targets, self._latest, self._standstills, self._silences):
            known.pop(uid, None)
        self._pods.drop(uid)

    # --- reading --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read every followed pod, and query Prometheus for every agent whose reports are there, by their schedules."""
        connector = aiohttp.TCPConnector(limit=CONCURRENCY + SLOW_CONCURRENCY, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
            self.prometheus.session() as queries,
            asyncio.TaskGroup() as reading,
        ):
            self._session = session
            reading.create_task(self._pods.run(self._read_one))
            reading.create_task(self._queries.run(lambda agent_uid: self._query(agent_uid, queries)))

    async def _read_one(self, uid: str) -> None:
        target = self._targets.get(uid)
        if target is None:
            return
        report: Report | None = None
        error = ""
        try:
            raw = await self._fetch(target)
            report = parse(raw)
            self.count_outcome("bad" if report.problems else "ok")
        except REQUEST_ERRORS as problem:
            self.count_outcome("unreachable")
            error = describe_failure(problem, READ_SECONDS)
        if self._is_read(target):
            self._store(target, report, error)
            silence = self._silences.get(uid)
            self._pods.reschedule(uid, target.period if silence is None else silence.retry_seconds(target.period))

    async def _query(self, agent_uid: str, session: aiohttp.ClientSession) -> None:
        targets = [self._targets[uid] for uid in self._followed.get(agent_uid, ())]
        if not targets:
            return
        one, found = targets[0], dict[str, Report]()
        missing, error = "absent", "it has no samples of the pod"
        try:
            pods = [target.pod for target in targets]
            found = await self.prometheus.query(session, one.namespace, one.agent, pods, one.query)
        except REQUEST_ERRORS as problem:
            missing, error = "unreachable", describe_failure(problem, QUERY_SECONDS)
        still = [target for target in targets if self._is_read(target)]
        for target in still:
            report = found.get(target.pod)
            self.count_outcome(missing if report is None else "bad" if report.problems else "ok")
            self._store(target, report, error)
            if report is None or report.progress is None:
                # A gap in Prometheus does not mean that the process has stopped: no pod counts as hung for it.
                self._standstills.pop(target.pod_uid, None)
        if still:
            self._queries.reschedule(agent_uid, one.period)

    def _is_read(self, target: Target) -> bool:
        """Whether the target is still followed, from the same source: that may have changed while it was read."""
        known = self._targets.get(target.pod_uid)
        return known is not None and known.source is target.source

    async def _fetch(self, target: Target) -> bytes:
        if self.through_apiserver and self.client is not None:
            async with asyncio.timeout(2):
                return await self.client.read_report(target.namespace, target.pod, target.port, target.path, MAX_BYTES)
        if self._session is None:
            raise RuntimeError("reports are read before `run`")
        async with self._session.get(target.address, timeout=TIMEOUT, allow_redirects=False) as response:
            if response.status != 200:
                raise ApiError(response.status, "Report", f"HTTP {response.status}")
            # One byte more than allowed, so that the parser distinguishes a report that just fits from one that is too large.
            return await read_bounded(response.content, MAX_BYTES + 1)

    def _store(self, target: Target, report: Report | None, error: str = "") -> None:
        """Keep the report, or (None) why it could not be read, and tell what that changes."""
        now = self.clock.now()
        ordinals = self._remembered.setdefault(target.agent_uid, {})
        known = ordinals.get(target.ordinal)
        before = known.at(now) if known is not None else Report()
        ordinals[target.ordinal] = remember(known, report, now, target.period)
        after = ordinals[target.ordinal].at(now)
        if report is None:
            acknowledged = self._note_failure(target, error, now)
        else:
            old = self._latest.get(target.pod_uid)
            self._latest[target.pod_uid] = report
            answers = self._note_answer(target)
            hangs = self._note_progress(target, report, now)
            acknowledged = answers or hangs or old is None or _acknowledgement(old) != _acknowledgement(report)
        changed = _coordination_inputs(before) != _coordination_inputs(after)
        if acknowledged or changed:
            self.on_report(target.namespace, target.agent, acknowledged, changed)
        if before.performance != after.performance:
            self.on_performance(target.namespace, target.agent)

    def _note_failure(self, target: Target, error: str, now: datetime) -> bool:
        """Whether the pod counts as unreadable from this failed read on."""
        address = self.prometheus.url if target.source is ReportSource.PROMETHEUS else target.address
        why = UnreadableReport(address, error)
        begins = self._silences.setdefault(target.pod_uid, Silence(now, why)).failed_again(why, now)
        if begins:
            log.warning("the report of %s/%s cannot be read: %s", target.namespace, target.pod, why)
        return begins

    def _note_answer(self, target: Target) -> bool:
        """Whether the pod counted as unreadable until this report."""
        silence = self._silences.pop(target.pod_uid, None)
        if silence is None or not silence.reported:
            return False
        log.info("the report of %s/%s is read again", target.namespace, target.pod)
        return True

    def _note_progress(self, target: Target, report: Report, now: datetime) -> bool:
        """Whether the report shows that the process hangs."""
        uid = target.pod_uid
        if report.progress is None:
            return False
        stands = self._standstills.get(uid) or Standstill(report.progress, now)
        self._standstills[uid] = stands.read_again(report.progress, now, target.period + READ_SECONDS)
        progress, timeout = self._progress(uid), target.progress_timeout_seconds
        return timeout is not None and progress is not None and hang_deadline(progress, timeout) <= now


def _acknowledgement(report: Report) -> object:
    return report.applied_generation, report.refusals, report.problems


def _coordination_inputs(report: Report) -> object:
    return report.numbers, report.choices, report.weights, report.bids, report.votes


def _instant(seconds: float | None) -> datetime | None:
    """A Unix time as a datetime, at most the year 9000; None for a negative one."""
    if seconds is None or seconds < 0:
        return None
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC)
