"""The operator's process: its parts, the order in which they start, and what ends it."""

import asyncio
import itertools
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

import kopf

from mabeam import __version__
from mabeam.core.snapshot import PodDefaults
from mabeam.settings import Settings
from mabeam.shell.functions.scheduler import FunctionScheduler
from mabeam.shell.http import server as http
from mabeam.shell.http.rest import RestApi
from mabeam.shell.http.service_entry import ServiceEntry
from mabeam.shell.kube import kopf_watch
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.connection import connect
from mabeam.shell.kube.event_recorder import EventRecorder
from mabeam.shell.kube.kopf_session import KopfSession
from mabeam.shell.kube.kopf_watch import KOPF_KINDS
from mabeam.shell.kube.leader_election import LeaderElector
from mabeam.shell.kube.reflector import Reflector
from mabeam.shell.kube.relist import Relister
from mabeam.shell.reconcile.applier import Applier
from mabeam.shell.reconcile.queue import WorkQueue
from mabeam.shell.reconcile.reconciler import Reconciler
from mabeam.shell.reconcile.refused_pods import Refusals
from mabeam.shell.reconcile.refused_writes import RefusedWrites, WritesWithoutEffect
from mabeam.shell.reconcile.router import EventRouter
from mabeam.shell.reports.prometheus import Prometheus
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.telemetry.load import LoadMeter
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.shell.telemetry.tracing import tracing
from mabeam.shell.telemetry.usage import UsageReader
from mabeam.state.cache import Cache, Change, SharedInput
from mabeam.state.observe import Observer

log = logging.getLogger("mabeam")

# A key that has waited so long for a worker fails the liveness probe.
STUCK_SECONDS: Final = 120.0
# Every so many LISTs all keys are enqueued, whether or not anything changed.
LISTS_PER_RESYNC: Final = 10
# The kinds that the cluster has by the thousand; kopf brings the operator's own (`kopf_watch.KOPF_KINDS`).
REFLECTED_KINDS: Final = ("Pod", "ConfigMap", "NetworkPolicy", "ResourceQuota", "Node")
LAG_PERIOD_SECONDS: Final = 0.05
LOAD_PERIOD_SECONDS: Final = 5.0
ELECTION_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 8.0
LAST_SPANS_SECONDS: Final = 2.0


class _JsonLines(logging.Formatter):
    """One JSON object a line, for log collectors."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(settings: Settings) -> None:
    """Log to stderr; of kopf and aiohttp only warnings and errors, except at level debug."""
    stream = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    stream.setFormatter(_JsonLines() if settings.log_format == "json" else plain)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[stream], force=True)
    if settings.log_level != "debug":
        for noisy in ("kopf", "aiohttp.access"):
            logging.getLogger(noisy).setLevel(logging.WARNING)


class Process:
    """The operator in one event loop; `run` returns its exit code."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self.stop = asyncio.Event()
        self.failed = False
        self.listed_as_leader = False
        self.lists = itertools.count(1)
        self.telemetry = Telemetry()
        client.observe_request = self.telemetry.observe_request
        client.unreadable.count = self.telemetry.count_unreadable
        self.tracing = tracing(settings.otel, settings.holder)
        self.leader = LeaderElector(
            client.unguarded(), settings.lease_namespace, settings.lease_name, settings.holder, settings.lease_seconds
        )
        if settings.leader_election:
            client.may_write = self.leader.may_write
        self.cache = Cache()
        self.queue = WorkQueue()
        self.refusals = Refusals()
        self.refused_writes = RefusedWrites()
        self.functions = FunctionScheduler(self.queue.add)
        self.recorder = EventRecorder(client, settings.holder, lambda: self.queue.depth() > 0)
        self.router = EventRouter(
            self.cache,
            self.queue,
            client,
            self.refusals,
            self.telemetry,
            forget_reports=lambda uid: self.reports.forget(uid),
            note_report=lambda kind, namespace: self.relister.note_report(kind, namespace),
            refused_writes=self.refused_writes,
        )
        self.reports = self._report_reader()
        self._wire_watches()
        self._wire_http()

    def _report_reader(self) -> ReportReader:
        settings, scraped = self.settings, self.telemetry.scrapes
        outside = not self.client.connection.in_cluster
        return ReportReader(
            self.client,
            {"auto": outside, "direct": False, "proxy": True}[settings.scrape],
            self.router.route_report,
            lambda outcome: scraped.labels(outcome).inc(),
            self.client.clock,
            Prometheus(settings.prometheus_url, settings.prometheus_token_file, settings.prometheus_queries == "any"),
            on_performance=self.router.route_performance,
        )

    def _wire_watches(self) -> None:
        self.relister = Relister(
            self.client,
            self.cache,
            self._missed,
            self.settings.watch_namespaces,
            self._relisted,
        )
        self.reflectors = [
            Reflector(
                self.client, kind, scope, self.router.route_event, partial(self.relister.relist_scope, kind, scope)
            )
            for kind in REFLECTED_KINDS
            for scope in self.relister.scopes(kind)
        ]
        self.kopf_session: KopfSession | None = None

    def _wire_http(self) -> None:
        settings = self.settings
        self.usage = UsageReader(
            self.client,
            tuple(self.relister.scopes("Pod")),
            lambda: self.cache.allocatable,
            lambda: self.telemetry.leads,
        )
        self.load_meter = LoadMeter(self.usage.capacity)
        self.rest_api = RestApi(
            self.cache,
            self.reports,
            self.usage,
            self.load_meter,
            self.recorder,
            self.telemetry,
            self.client.clock,
            settings.holder,
            lost_namespaces=lambda: self.relister.lost,
        )
        self.service = ServiceEntry(
            self.client, settings.lease_namespace, settings.endpoint, settings.holder, lambda: self.telemetry.leads
        )

    async def run(self) -> int:
        """Run until a signal, a lost lease or a fatal error; 0 only after a signal."""
        routes = self.rest_api.routes(lambda: self.relister.synced.is_set())
        runner = await http.serve(self.settings.http_port, self._alive, self._ready, self._metrics, routes)
        self._handle_signals()
        background = [
            self._guarded("queue timer", self.queue.run_timers()),
            self._guarded("lists", self._list()),
            self._guarded("reports", self.reports.run()),
            self._guarded("events", self.recorder.run()),
            self._guarded("usage", self.usage.run()),
            self._guarded("service entry", self.service.run()),
            self._guarded("loop lag", self._measure_lag()),
            self._guarded("load", self._follow_load()),
            self._guarded("kopf", self._run_kopf()),
            *(self._guarded(f"watch of {reflector.kind}", self._follow(reflector)) for reflector in self.reflectors),
        ]
        if self.settings.leader_election:
            background.append(self._guarded("lease", self.leader.run()))
        workers = self._guarded("workers", self._work())
        await self.stop.wait()
        await self._shut_down(workers, background)
        await runner.cleanup()
        return 1 if self.failed else 0

    def _handle_signals(self) -> None:
        for signal_ in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_, self.stop.set)

    async def _list(self) -> None:
        """LIST everything every period; half a second is left for the Lease first, because a leader need not list again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ELECTION_SECONDS if self.settings.leader_election else 0):
                await self.leader.elected.wait()
        self.listed_as_leader = self.leader.elected.is_set()
        await self.relister.run(self.settings.resync_seconds)

    async def _follow(self, reflector: Reflector) -> None:
        await self.relister.synced.wait()
        await reflector.run(self.relister.versions.get((reflector.kind, reflector.namespace), ""))

    async def _run_kopf(self) -> None:
        """Run kopf, after the first LISTs: it looks for the kinds once, and would never watch one that is created later.

        It installs signal handlers when it starts; ours replace them before the loop runs anything else. `ignored`: at its end
        it would wait for every task that is not its own, and then cancel the workers in the middle of a write.
        """
        await self.relister.synced.wait()
        registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
        kopf_watch.register(registry, self.client.connection, self._open_session, self.router.route_event)
        kopf_watch.configure(settings)
        ours = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not self.settings.watch_namespaces,
            namespaces=self.settings.watch_namespaces,
        )
        self._handle_signals()
        await kopf.run_tasks(tasks, ignored=ours)

    def _open_session(self) -> KopfSession:
        self.kopf_session = KopfSession(self.client, self.relister, KOPF_KINDS)
        return self.kopf_session

    async def _work(self) -> None:
        """Start the workers once everything is listed and the Lease is held: no decision is made on a part of the facts."""
        await self.relister.synced.wait()
        if self.settings.leader_election and not self.listed_as_leader:
            await self.leader.elected.wait()
            # The former leader may have written a moment ago, and a watch may lag behind: list everything again first.
            await self.relister.list_until_success()
        self.telemetry.lead()
        known = self.router.enqueue_all()
        reconciler = self.make_reconciler()
        log.info("%d objects known, %d workers start", known, self.settings.workers)
        await asyncio.gather(*(reconciler.work() for _ in range(self.settings.workers)))

    def make_reconciler(self) -> Reconciler:
        """The reconciler over this process's cache, queue and client."""
        defaults = PodDefaults(self.settings.runner_image, self.settings.runner_image_pull_policy)
        return Reconciler(
            self.client,
            self.cache,
            self.queue,
            Observer(
                self.cache,
                self.reports,
                self.refusals,
                defaults=defaults,
                functions=self.functions,
                load=self.load_meter.load,
                refused_writes=self.refused_writes.of,
                reading_since=self.client.clock.now(),
            ),
            Applier(
                self.client,
                self.cache,
                self.recorder,
                self.router.route_change,
                WritesWithoutEffect(self.telemetry.count_write_without_effect),
            ),
            self.reports,
            self.refusals,
            self.telemetry,
            self.functions,
            refused_writes=self.refused_writes,
            tracing=self.tracing,
        )

    async def _shut_down(self, workers: "asyncio.Task[None]", background: "list[asyncio.Task[None]]") -> None:
        """Let passes in progress finish their writes, end all other tasks, and then release the Lease."""
        self.queue.close()
        if not self.telemetry.leads:
            workers.cancel()  # they wait for the Lease, or for the first LIST
        await asyncio.wait([workers], timeout=DRAIN_SECONDS)
        for task in (workers, *background):
            task.cancel()
        await asyncio.gather(workers, *background, return_exceptions=True)
        await self.functions.close()
        if self.settings.leader_election:
            await self.leader.release()  # last: nothing renews it any more, and nothing is written after it
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SPANS_SECONDS):
                await asyncio.to_thread(self.tracing.close)

    def _guarded(self, what: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("%s failed; the process ends, to be started again", what)
            if not self.stop.is_set():
                self.failed = True
                self.stop.set()

        return asyncio.create_task(guarded(), name=what)

    # --- LISTs ------------------------------------------------------------------------------------------------------------

    def _missed(self, change: Change) -> None:
        """Handle a change that a LIST found: all of them at the start, later those that no watch has reported."""
        if self.relister.synced.is_set():
            self.telemetry.missed.labels(change.kind).inc()
        self.router.route_change(change)

    def _relisted(self) -> None:
        """Restart the watches that were silent while LISTs found changes; now and then enqueue every key, over one period."""
        self.telemetry.lost_namespaces.set(len(self.relister.lost))
        for (kind, scope), missed in self.relister.missed_in_a_row.items():
            if missed and kind in KOPF_KINDS and self.kopf_session is not None:
                self.kopf_session.restart(kind, scope)
        for reflector in self.reflectors:
            if self.relister.missed_in_a_row[reflector.kind, reflector.namespace]:
                reflector.restart()
        if next(self.lists) % LISTS_PER_RESYNC == 0 and self.telemetry.leads:
            self.router.enqueue_all(self.settings.resync_seconds)

    # --- probes ----------------------------------------------------------------------------------------------------------

    def _alive(self) -> list[str]:
        wrong = [
            f"the watch of {kind}{f' in {scope}' if scope else ''} is silent"
            for kind, scope in self.relister.silent_watches()
        ]
        if self.telemetry.leads and self.queue.oldest_seconds() > STUCK_SECONDS:
            wrong.append(f"a key has waited {self.queue.oldest_seconds():.0f} s for a worker")
        return wrong

    def _ready(self) -> list[str]:
        age = asyncio.get_running_loop().time() - self.relister.last_success
        if not self.relister.synced.is_set():
            return [f"the cluster has not been listed yet: {self.relister.problem}"]
        limit = 3 * self.settings.resync_seconds + 15
        return [f"the cluster could not be listed for {age:.0f} s: {self.relister.problem}"] if age > limit else []

    def _metrics(self) -> bytes:
        self.telemetry.depth.set(self.queue.depth())
        self.telemetry.oldest.set(self.queue.oldest_seconds())
        self.telemetry.delayed.set(self.queue.delayed())
        for kind, known in self.cache.versions.items():
            self.telemetry.known.labels(kind).set(len(known))
        return self.telemetry.exposition()

    async def _follow_load(self) -> None:
        """Wake the variables that yield to load whenever it changes, in the tenths in which it counts."""
        last: object = None
        while True:
            if self.telemetry.leads and self.cache.sharing[SharedInput.LOAD]:
                found = self.load_meter.load()
                measured = (round(found[0], 1), found[1]) if found is not None else None
                if measured != last:
                    self.router.route_load()
                last = measured
            await asyncio.sleep(LOAD_PERIOD_SECONDS)

    async def _measure_lag(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            await asyncio.sleep(LAG_PERIOD_SECONDS)
            self.telemetry.lag.observe(max(0.0, clock() - before - LAG_PERIOD_SECONDS))


async def run(settings: Settings) -> int:
    """Run the operator; returns the exit code of the process."""
    configure_logging(settings)
    connection = await connect(settings.context)
    log.info("mabeam %s on %s", __version__, connection.description)
    async with Client(connection, settings.max_in_flight) as client:
        return await Process(settings, client).run()
