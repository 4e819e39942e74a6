"""The two signals that are recorded, and the forms of their requests. Pure.

Traces and logs have the same shape: resources (field 1 of a request) hold scopes (field 2), scopes hold records (field
2); field 1 of both is what they are of, field 3 a schema's URL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Signal = Literal["spans", "logs"]
Request = ExportTraceServiceRequest | ExportLogsServiceRequest


@dataclass(frozen=True, slots=True)
class Form:
    """A signal's messages, and the names of its lists."""

    request: type[ExportTraceServiceRequest] | type[ExportLogsServiceRequest]
    record: type[Message]
    resources: str
    scopes: str
    records: str
    resource: type[Message] = Resource
    scope: type[Message] = InstrumentationScope


FORMS: Final[dict[Signal, Form]] = {
    "spans": Form(ExportTraceServiceRequest, Span, "resource_spans", "scope_spans", "spans"),
    "logs": Form(ExportLogsServiceRequest, LogRecord, "resource_logs", "scope_logs", "log_records"),
}
