"""Spans: one for each thing that came about, none for a pass of which nothing came, and none at all unless asked for."""

import sys
from collections.abc import Sequence

import pytest

from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.decision import Event
from mabeam.settings import BadSetting
from mabeam.shell.telemetry import tracing
from mabeam.shell.telemetry.tracing import LIFECYCLE, NoTracing, spans_to
from support.builders import an_agent
from support.overview import temperature_body

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel`")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode


def test_a_round_is_a_span_with_its_start_and_its_stop() -> None:
    exporter = InMemorySpanExporter()
    spans = spans_to(SimpleSpanProcessor(exporter), "me")
    variable = OrchestrationVariable.model_validate(temperature_body())
    spans.begin().variable_decided(variable, variable.status, "decided")
    (span,) = exporter.get_finished_spans()
    assert span.name == "mabeam.coordination"
    assert dict(span.attributes or {}) == {
        "mabeam.namespace": "team",
        "mabeam.variable": "temperature",
        "mabeam.type": "Parameter",
        "mabeam.round": 1,
        "mabeam.rule": "WeightedMean",
        "mabeam.outcome": "decided",
    }
    assert [event.name for event in span.events] == ["start", "stop"]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time
    assert (span.resource.attributes["service.name"], span.resource.attributes["service.instance.id"]) == (
        "mabeam",
        "me",
    )
    assert span.status.status_code is StatusCode.UNSET


def test_a_failed_round_is_an_error_even_when_nothing_was_ever_decided() -> None:
    exporter = InMemorySpanExporter()
    variable = OrchestrationVariable.model_validate(temperature_body())
    spans_to(SimpleSpanProcessor(exporter)).begin().variable_decided(variable, OrchestrationVariableStatus(), "failed")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["mabeam.rule"] == ""


def agent_events(*events: Event) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    spans_to(SimpleSpanProcessor(exporter)).begin().agent_events(an_agent(), events)
    return exporter.get_finished_spans()


def test_what_becomes_of_an_agent_is_a_span_each() -> None:
    spans = agent_events(
        Event(Reason.AGENT_FAILED, "a-0-1 failed", "Warning"),
        Event(Reason.AGENT_STARTED, "a-0-2 runs on node1"),
        Event(Reason.NOT_DELIVERABLE, "no lifecycle"),
    )
    assert [span.name for span in spans] == ["mabeam.agent.fail", "mabeam.agent.start"]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.UNSET]
    assert (spans[0].attributes or {})["mabeam.agent"] == "a"


def test_a_pass_of_which_nothing_came_leaves_no_span() -> None:
    assert agent_events() == ()


@pytest.mark.parametrize("word", ["start", "stop", "fail", "migrate"])
def test_every_turn_of_a_life_has_its_span(word: str) -> None:
    assert f"mabeam.agent.{word}" in LIFECYCLE.values()


def test_the_environment_of_opentelemetry_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "overseer")
    spans = spans_to(SimpleSpanProcessor(InMemorySpanExporter()))
    assert spans.provider.resource.attributes["service.name"] == "overseer"


def test_silence_unless_asked_for() -> None:
    assert isinstance(tracing.tracing(False, "me"), NoTracing)
    NoTracing().begin().agent_events(an_agent(), (Event(Reason.AGENT_STARTED, ""),))
    NoTracing().close()


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in tracing.EXPORTERS:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadSetting, match="MABEAM_OTEL is true, but no OTLP exporter is installed: pip install opentel"):
        tracing.tracing(True, "me")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(
        BadSetting, match="MABEAM_OTEL is true, but OpenTelemetry is not installed: pip install 'mabeam"
    ):
        tracing.tracing(True, "me")


def test_the_exporter_that_is_there_is_taken_and_what_is_left_is_sent_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = InMemorySpanExporter()
    stand_in = type(sys)("stand_in")
    stand_in.OTLPSpanExporter = lambda: exporter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, tracing.EXPORTERS[0], stand_in)
    found = tracing.tracing(True, "me")
    found.begin().agent_events(an_agent(), (Event(Reason.AGENT_STARTED, "runs"),))
    found.close()
    assert [span.name for span in exporter.get_finished_spans()] == ["mabeam.agent.start"]
