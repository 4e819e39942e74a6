"""The lines a developer adds: spans (and logs, where a runtime has any) to the endpoint that the environment names.

`OTEL_EXPORTER_OTLP_ENDPOINT` says where to, `OTEL_EXPORTER_OTLP_PROTOCOL` how: http/protobuf, http/json or grpc.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def exporters() -> tuple[Any, Any]:
    """The exporters of spans and of logs for the protocol that is set."""
    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    elif protocol == "http/json":
        from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    return OTLPSpanExporter(), OTLPLogExporter()


def send_otlp(service: str) -> tuple[TracerProvider, LoggerProvider]:
    """Make every span and log record of this process go out by OTLP."""
    resource = Resource.create({"service.name": service})
    span_exporter, log_exporter = exporters()
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(span_exporter))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
    _logs.set_logger_provider(loggers)
    return tracers, loggers
