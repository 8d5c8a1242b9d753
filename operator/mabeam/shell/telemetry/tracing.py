"""Spans for OpenTelemetry: of coordination, and of what happens to agents. Off by default; `NoTracing` costs nothing.

A span is made after the writes of a pass that changed something, with the times at which the pass began and ended; other
passes leave none. The library is optional, so it is imported in this module alone, and not before tracing begins.
"""

import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from mabeam import __version__
from mabeam.api.agent import Agent
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.decision import Event
from mabeam.settings import BadSetting

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

COORDINATION: Final = "mabeam.coordination"
# The reason of an Event about an agent → the name of its span.
LIFECYCLE: Final = {
    Reason.AGENT_REGISTERED: "mabeam.agent.register",
    Reason.AGENT_STARTED: "mabeam.agent.start",
    Reason.AGENT_STOPPED: "mabeam.agent.stop",
    Reason.AGENT_FAILED: "mabeam.agent.fail",
    Reason.AGENT_DISRUPTED: "mabeam.agent.disrupt",
    Reason.AGENT_MIGRATED: "mabeam.agent.migrate",
    Reason.AGENT_RELEASED: "mabeam.agent.release",
    Reason.RESTART_BUDGET_EXHAUSTED: "mabeam.agent.park",
    Reason.PARKED_BY_RULE: "mabeam.agent.park",
}
# OTLP over HTTP first, as OpenTelemetry itself prefers.
EXPORTERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
)


class PassSpan(Protocol):
    """The span of one pass; its methods record the results of the pass."""

    def variable_decided(
        self, variable: OrchestrationVariable, after: OrchestrationVariableStatus, outcome: str
    ) -> None:
        """Record that a variable's status was written."""

    def agent_events(self, agent: Agent, events: Sequence[Event]) -> None:
        """Record the Events of an agent."""


class Tracing(Protocol):
    """Makes the spans of passes."""

    def begin(self) -> PassSpan:
        """The span of a pass that begins now."""

    def close(self) -> None:
        """Send the remaining spans; may take some seconds."""


class NoTracing:
    """A Tracing and a PassSpan that record nothing."""

    def begin(self) -> "NoTracing":
        """This object, which records nothing."""
        return self

    def close(self) -> None:
        """Nothing is to be sent."""

    def variable_decided(self, *_: object) -> None:
        """Record nothing."""

    def agent_events(self, *_: object) -> None:
        """Record nothing."""


class OpenTelemetryTracing:
    """Tracing by OpenTelemetry's SDK."""

    def __init__(self, provider: "TracerProvider") -> None:
        self.provider = provider
        self.tracer = provider.get_tracer("mabeam", __version__)

    def begin(self) -> "OpenTelemetryPassSpan":
        """The span of a pass that begins now."""
        return OpenTelemetryPassSpan(self, time.time_ns())

    def close(self) -> None:
        """Send the remaining spans; may take some seconds."""
        self.provider.shutdown()

    def span(self, name: str, start: int, attributes: dict[str, Any], wrong: str | None = None) -> None:
        """Send one span that ends now, with the events `start` and `stop`; `wrong` is the description of an error."""
        from opentelemetry.trace import Status, StatusCode

        end = time.time_ns()
        span = self.tracer.start_span(name, start_time=start, attributes=attributes)
        span.add_event("start", timestamp=start)
        span.add_event("stop", {"duration_ns": end - start}, timestamp=end)
        if wrong is not None:
            span.set_status(Status(StatusCode.ERROR, wrong))
        span.end(end)


class OpenTelemetryPassSpan:
    """The span of a pass that began at `start` (nanoseconds since the epoch)."""

    def __init__(self, spans: OpenTelemetryTracing, start: int) -> None:
        self.spans, self.start = spans, start

    def variable_decided(
        self, variable: OrchestrationVariable, after: OrchestrationVariableStatus, outcome: str
    ) -> None:
        """Send one span for a pass that changed the variable's status."""
        meta, rule = variable.metadata, after.last_decision.rule if after.last_decision is not None else ""
        attributes = {
            "mabeam.namespace": meta.namespace,
            "mabeam.variable": meta.name,
            "mabeam.type": str(variable.spec.type),
            "mabeam.round": after.round,
            "mabeam.rule": rule,
            "mabeam.outcome": outcome,
        }
        self.spans.span(COORDINATION, self.start, attributes, outcome if outcome == "failed" else None)

    def agent_events(self, agent: Agent, events: Sequence[Event]) -> None:
        """Send one span for each Event that tells of a change in the agent's life."""
        for event in events:
            name = LIFECYCLE.get(event.reason)
            if name is None:
                continue
            attributes = {
                "mabeam.namespace": agent.metadata.namespace,
                "mabeam.agent": agent.metadata.name,
                "mabeam.reason": str(event.reason),
                "mabeam.note": event.note,
            }
            self.spans.span(name, self.start, attributes, event.note if event.type == "Warning" else None)


def spans_to(processor: "SpanProcessor", identity: str = "") -> OpenTelemetryTracing:
    """Tracing whose spans go to a processor."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the name where they are set.
    named = Resource({"service.name": "mabeam"}).merge(OTELResourceDetector().detect())
    resource = named.merge(Resource({"service.version": __version__, "service.instance.id": identity}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return OpenTelemetryTracing(provider)


def tracing(enabled: bool, identity: str) -> Tracing:
    """Tracing by OTLP to the address in OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_…), or none; raises BadSetting."""
    if not enabled:
        return NoTracing()
    try:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise BadSetting(
            "MABEAM_OTEL is true, but OpenTelemetry is not installed: pip install 'mabeam[otel]'"
        ) from None
    return spans_to(BatchSpanProcessor(_exporter()), identity)


def _exporter() -> Any:
    for module in EXPORTERS:
        try:
            return importlib.import_module(module).OTLPSpanExporter()
        except ImportError:
            continue
    raise BadSetting(
        "MABEAM_OTEL is true, but no OTLP exporter is installed: pip install opentelemetry-exporter-otlp-proto-http"
    )
