"""Everything in one call, for a process that has no OpenTelemetry providers of its own yet.

Reads what every OpenTelemetry SDK reads (OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _HEADERS, OTEL_RESOURCE_ATTRIBUTES …)
where it isn't told. Guarantees: spans and log records go to one place, each with its envelope; no attribute of a span
is dropped for its number. Doesn't: keep what the gateway did not take. An exporter tries for OTEL_EXPORTER_OTLP_TIMEOUT
(10 s) at most, and gives up earlier where the wait before its next try, which the gateway may ask for, would end after
that; then it drops the batch, and says so only in its own log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal, Unpack
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from .envelope import Members, Reach, resource_attributes
from .names import install_hint
from .processors import EnvelopeLogProcessor, EnvelopeSpanProcessor

Protocol = Literal["http/protobuf", "grpc"]
QUEUE_MAX: Final = 16_384  # spans, and as many log records, that wait for the exporter; about 25 MB of 1.5 kB each


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The providers that `start` made and set."""

    tracer_provider: TracerProvider
    logger_provider: LoggerProvider

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Hand everything to the exporters. False: not within the time. True doesn't mean that the gateway took it."""
        millis = int(timeout_s * 1000)
        return self.tracer_provider.force_flush(millis) and self.logger_provider.force_flush(millis)

    def shutdown(self) -> None:
        """Flush and end; the end of the process does it too."""
        self.tracer_provider.shutdown()
        self.logger_provider.shutdown()


def start(
    *,
    service: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    protocol: Protocol | None = None,
    accept: Reach = "nothing",
    **members: Unpack[Members],
) -> Telemetry:
    """Make and set the process's providers, exporting to `endpoint` (`http://localhost:4318`, or 4317 for gRPC).
    `token` is the tenant's. `members` hold for the whole process: agent, version, owner, environment, contract …

    Raises RuntimeError where a provider is set already (add the processors to it then), ValueError for a protocol or an
    endpoint that isn't one.
    """
    how = _checked(protocol or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf")
    if isinstance(trace.get_tracer_provider(), TracerProvider) or isinstance(get_logger_provider(), LoggerProvider):
        raise RuntimeError(
            "OpenTelemetry has a provider already: add EnvelopeSpanProcessor and EnvelopeLogProcessor to it"
        )
    try:
        spans, logs = _exporters(how, endpoint, {"authorization": f"Bearer {token}"} if token else None)
    except ModuleNotFoundError as error:
        raise install_hint(error) from error
    resource = Resource.create(resource_attributes(service=service, **members))
    tracers = TracerProvider(resource=resource, span_limits=_span_limits())
    tracers.add_span_processor(EnvelopeSpanProcessor(accept))
    tracers.add_span_processor(BatchSpanProcessor(spans, max_queue_size=QUEUE_MAX))
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(EnvelopeLogProcessor(accept))
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs, max_queue_size=QUEUE_MAX))
    trace.set_tracer_provider(tracers)
    set_logger_provider(loggers)
    return Telemetry(tracers, loggers)


def _checked(protocol: str) -> Protocol:
    if protocol not in ("http/protobuf", "grpc"):
        raise ValueError(f"protocol: expected http/protobuf or grpc, got {protocol!r}")
    return "grpc" if protocol == "grpc" else "http/protobuf"


def _exporters(
    protocol: Protocol, endpoint: str | None, headers: dict[str, str] | None
) -> tuple[SpanExporter, LogRecordExporter]:
    if endpoint is not None and urlsplit(endpoint).scheme not in ("http", "https"):
        raise ValueError(f"endpoint: expected http://… or https://…, got {endpoint!r}")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        return GrpcSpans(endpoint=endpoint, headers=headers), GrpcLogs(endpoint=endpoint, headers=headers)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = None if endpoint is None else endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=base and f"{base}/v1/traces", headers=headers),
        OTLPLogExporter(endpoint=base and f"{base}/v1/logs", headers=headers),
    )


def _span_limits() -> SpanLimits:
    """No limit on a span's attributes and events, where the environment sets none: what is dropped is no evidence."""
    set_by_hand = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"} & os.environ.keys()
    return SpanLimits(
        max_span_attributes=None if set_by_hand else SpanLimits.UNSET,
        max_events=None if "OTEL_SPAN_EVENT_COUNT_LIMIT" in os.environ else SpanLimits.UNSET,
    )
