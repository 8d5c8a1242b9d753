"""Metrics; the sole importer of the metrics library. Labels are bounded: kinds, verbs, outcomes, never names or uids."""

from collections import Counter as Counts
from collections import deque
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from mabeam import __version__
from mabeam.core.views.metrics import AgentMetrics, VariableMetrics

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 5)
_RECOVERY = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)

# The last so many recoveries are kept for /v1/status.
RECOVERIES: Final = 256


class Telemetry:
    """The operator's metrics, and the few numbers of them that `/v1/status` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Info("mabeam_build", "The operator's version.", registry=self.registry).info({"version": __version__})
        self.reconciles = Histogram(
            "mabeam_reconcile_duration_seconds",
            "Time of one pass.",
            ("kind", "outcome"),
            buckets=_FAST,
            registry=self.registry,
        )
        self.requests = Histogram(
            "mabeam_api_request_duration_seconds",
            "Time of one API request.",
            ("verb", "kind", "code"),
            buckets=_FAST,
            registry=self.registry,
        )
        self.failures = Counter(
            "mabeam_agent_failures", "Failures in agents' ledgers.", ("cause",), registry=self.registry
        )
        self.restarts = Counter("mabeam_agent_restarts", "Counted restarts of agents.", registry=self.registry)
        self.stops = Counter(
            "mabeam_agent_stops",
            "Replicas stopped by the operator: no failures.",
            registry=self.registry,
        )
        self.recovery = Histogram(
            "mabeam_agent_recovery_seconds",
            "From an agent's last failure until all of it is ready again.",
            buckets=_RECOVERY,
            registry=self.registry,
        )
        self.group_restarts = Counter(
            "mabeam_supervisor_restarts", "Restarts of groups by Supervisors.", registry=self.registry
        )
        self.rounds = Counter(
            "mabeam_coordination_rounds", "Rounds decided.", ("strategy", "outcome"), registry=self.registry
        )
        self.coordination = Histogram(
            "mabeam_coordination_duration_seconds",
            "Time of one pass over a variable, its writes included.",
            ("type", "outcome"),
            buckets=_FAST,
            registry=self.registry,
        )
        self.directives = Counter(
            "mabeam_directives", "Directives to agents.", ("action", "outcome"), registry=self.registry
        )
        self.votes = Counter(
            "mabeam_consensus_rounds", "Votes that ended.", ("protocol", "outcome"), registry=self.registry
        )
        # The one metric with names in its labels: of variables that ask for it (`telemetry.storageBackend: Prometheus`).
        self.variables = Gauge(
            "mabeam_variable",
            "A variable's value, and the means of what its agents measure.",
            ("namespace", "variable", "metric"),
            registry=self.registry,
        )
        self._variable_metrics: dict[tuple[str, str], frozenset[str]] = {}
        self.scrapes = Counter(
            "mabeam_report_scrapes",
            "Reports read from agents' pods, or in Prometheus.",
            ("outcome",),
            registry=self.registry,
        )
        self.unreadable = Counter(
            "mabeam_unreadable_objects",
            "Objects passed over because their JSON cannot be parsed, each time that one is met.",
            ("kind",),
            registry=self.registry,
        )
        self.writes_without_effect = Counter(
            "mabeam_writes_without_effect",
            "Writes that the API server accepted, and of which something else is read back.",
            ("kind",),
            registry=self.registry,
        )
        self.missed = Counter(
            "mabeam_watch_missed", "Changes that the sweep found before the watch.", ("kind",), registry=self.registry
        )
        self.lost_namespaces = Gauge(
            "mabeam_lost_namespaces",
            "Namespaces of MABEAM_WATCH_NAMESPACES that the apiserver does not let the operator list.",
            registry=self.registry,
        )
        self.depth = Gauge("mabeam_workqueue_depth", "Keys waiting for a worker.", registry=self.registry)
        self.oldest = Gauge(
            "mabeam_workqueue_oldest_seconds", "Age of the longest-waiting key.", registry=self.registry
        )
        self.delayed = Gauge("mabeam_workqueue_delayed", "Keys waiting for their time.", registry=self.registry)
        self.known = Gauge("mabeam_known_objects", "Objects in the cache.", ("kind",), registry=self.registry)
        self.lag = Histogram(
            "mabeam_event_loop_lag_seconds",
            "How late the event loop's timers are.",
            buckets=_LAG,
            registry=self.registry,
        )
        self.leading = Gauge("mabeam_leader", "1 while this process leads.", registry=self.registry)

        self.directive_counts: Counts[str] = Counts()
        self.recoveries: deque[float] = deque(maxlen=RECOVERIES)

    leads = False

    def lead(self) -> None:
        """Record that this process leads from now on."""
        self.leads = True
        self.leading.set(1)

    def set_variable_metrics(self, namespace: str, variable: str, values: Mapping[str, float]) -> None:
        """Set the exported metrics of a variable to exactly these: metric name → value; others of it are removed."""
        place = (namespace, variable)
        for metric in self._variable_metrics.get(place, frozenset()) - values.keys():
            self.variables.remove(namespace, variable, metric)
        for metric, value in values.items():
            self.variables.labels(namespace, variable, metric).set(value)
        if values:
            self._variable_metrics[place] = frozenset(values)
        else:
            self._variable_metrics.pop(place, None)

    def record_agent(self, figures: AgentMetrics) -> None:
        """Count what a pass over an Agent changed."""
        self.restarts.inc(figures.restarts)
        self.stops.inc(figures.stops)
        for cause in figures.failures:
            self.failures.labels(str(cause)).inc()
        for action, outcome in figures.directives:
            self.directives.labels(str(action), outcome).inc()
            self.directive_counts[outcome] += 1
        if figures.recovery_seconds is not None:
            self.observe_recovery(figures.recovery_seconds)

    def record_variable(self, figures: VariableMetrics) -> None:
        """Count what a pass over a variable changed, once it is written."""
        if figures.round is not None:
            self.rounds.labels(*figures.round).inc()
        if figures.vote is not None:
            self.votes.labels(*figures.vote).inc()

    def observe_recovery(self, seconds: float) -> None:
        """Count one recovery."""
        self.recovery.observe(seconds)
        self.recoveries.append(seconds)

    def count_unreadable(self, kind: str) -> None:
        """Count one object that was passed over because its JSON cannot be parsed."""
        self.unreadable.labels(kind).inc()

    def count_write_without_effect(self, kind: str) -> None:
        """Count one write of which something else is read back."""
        self.writes_without_effect.labels(kind).inc()

    def observe_request(self, verb: str, kind: str, code: int, seconds: float) -> None:
        """Count one API request."""
        self.requests.labels(verb, kind, str(code)).observe(seconds)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)
