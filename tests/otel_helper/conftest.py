"""OpenTelemetry's SDK with its own in-memory exporters: what an exporter would send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer, format_span_id

from tallystick import otel
from tallystick.otel import EnvelopeLogProcessor, EnvelopeSpanProcessor, Members, Reach

DIGEST = "sha256:" + "0" * 64
EVERYTHING = Members(
    tenant="acme",
    agent="support-desk",
    version="1.4.0",
    principal="Ann Reyes",
    on_behalf_of="Jo Marsh",
    data_subjects=["Jo Marsh", "ann@example.org"],
    workflow="refunds",
    owner="payments-team",
    environment="test",
    autonomy="execute_with_approval",
    contract=DIGEST,
    policy_bundle=DIGEST,
    prompt={"name": "desk", "version": "7", "digest": DIGEST},
    model="gpt-5",
    budget={"max_steps": 9, "max_cost_usd_per_run": "0.05"},
    work_item={"system": "helpdesk", "id": "T-501"},
    release="2026-11",
    trace_level="full",
    session="T-501",
    parent_run="above",
    root_run="top",
    depth=2,
)


@dataclass
class Sent:
    """One process's providers, and what they export."""

    tracer: Tracer
    _spans: InMemorySpanExporter
    _logs: InMemoryLogRecordExporter

    def spans(self) -> dict[str, dict[str, Any]]:
        """Attributes of the spans that have ended, by their names."""
        return {span.name: dict(span.attributes or {}) for span in self._spans.get_finished_spans()}

    def traces(self) -> dict[str, tuple[int, bool]]:
        """Each span's trace, and whether it is a root."""
        return {span.name: (span.context.trace_id, span.parent is None) for span in self._spans.get_finished_spans()}

    def links(self) -> dict[str, list[str]]:
        """The ids of the spans that each span is linked to."""
        return {
            span.name: [format_span_id(link.context.span_id) for link in span.links]
            for span in self._spans.get_finished_spans()
        }

    def records(self) -> list[Any]:
        """The log records, as they were emitted."""
        return [one.log_record for one in self._logs.get_finished_logs()]

    def record(self) -> dict[str, Any]:
        """The attributes of the one log record."""
        (one,) = self.records()
        return dict(one.attributes)


def providers(accept: Reach = "nothing") -> Sent:
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(EnvelopeSpanProcessor(accept))
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(EnvelopeLogProcessor(accept))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    otel.use(loggers)
    return Sent(tracers.get_tracer("test"), spans, logs)


@pytest.fixture
def sent() -> Iterator[Sent]:
    yield providers()
    otel.use(None)


@pytest.fixture
def believing() -> Iterator[Sent]:
    """The same, of a process that takes all baggage that comes in for true."""
    yield providers("everything")
    otel.use(None)
