"""What a sender of OTLP is told: answers and failures, the same over HTTP and gRPC. Pure.

A failure that may pass says when to try again; a sender drops what every other failure was about (OTLP specification,
"Failures"). So Kafka's troubles, ours, and a full buffer are always `unavailable`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # ships no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # the same
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ingest.errors import IngestError, Refused
from ingest.otlp.split import Split
from ingest.otlp.wire import Encoding, Signal

Reason = Literal[
    "bad_request", "unauthenticated", "no_such_path", "bad_method", "timeout", "too_large", "unsupported", "unavailable"
]

# By reason: HTTP status, and the code of google.rpc.Status, which is gRPC's too.
STATUS: Final[dict[Reason, tuple[int, int]]] = {
    "bad_request": (400, 3),
    "unauthenticated": (401, 16),
    "no_such_path": (404, 12),
    "bad_method": (405, 12),
    "timeout": (408, 4),
    "too_large": (413, 8),
    "unsupported": (415, 3),
    "unavailable": (503, 14),
}
METRICS_WARNING: Final = "metrics are accepted and counted, not recorded"

MEDIA_TYPES: Final[dict[Encoding, bytes]] = {"proto": b"application/x-protobuf", "json": b"application/json"}


class Failure(IngestError):  # noqa: N818 - the word of OTLP
    """A request that was not taken. `retry_s`: after how many seconds to try again; None: don't."""

    def __init__(self, reason: Reason, message: str, retry_s: int | None = None) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
        self.retry_s = retry_s

    @classmethod
    def of(cls, refused: Refused) -> Failure:
        """The failure that a body which can't be read is."""
        return cls("too_large" if refused.code == "too_large" else "bad_request", str(refused))

    @property
    def http_status(self) -> int:
        return STATUS[self.reason][0]

    def status(self) -> Status:
        """As the body of an error, or the details of gRPC's."""
        status = Status(code=STATUS[self.reason][1], message=self.message)
        if self.retry_s is not None:
            detail: AnyMessage = status.details.add()
            detail.Pack(RetryInfo(retry_delay=Duration(seconds=self.retry_s)))
        return status

    def body(self, encoding: Encoding) -> bytes:
        """The body of an HTTP answer."""
        status = self.status()
        return status.SerializeToString() if encoding == "proto" else MessageToJson(status, indent=None).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that was taken; `rejected` of its records are wrong for good, and `message` says why."""

    signal: Signal | Literal["metrics"]
    rejected: int = 0
    message: str = ""

    def body(self, encoding: Encoding) -> bytes:
        """The response's bytes."""
        if encoding == "json":
            return json.dumps(self._json()).encode()
        response: Any
        if self.signal == "spans":
            response = ExportTraceServiceResponse()
            counted = "rejected_spans"
        elif self.signal == "logs":
            response, counted = ExportLogsServiceResponse(), "rejected_log_records"
        else:
            response, counted = ExportMetricsServiceResponse(), "rejected_data_points"
        if self.message:
            setattr(response.partial_success, counted, self.rejected)
            response.partial_success.error_message = self.message
        return bytes(response.SerializeToString())

    def _json(self) -> dict[str, Any]:
        if not self.message:
            return {}
        counted = {"spans": "rejectedSpans", "logs": "rejectedLogRecords", "metrics": "rejectedDataPoints"}[self.signal]
        partial: dict[str, Any] = {"errorMessage": self.message}
        if self.rejected:
            partial[counted] = str(self.rejected)  # a 64-bit integer, as protobuf's JSON writes it
        return {"partialSuccess": partial}


def answer_of(signal: Signal, split: Split, lost: int, record_bytes_max: int) -> Answer:
    """The answer to a request whose parts Kafka has. `lost`: records that were too large to be cut out at all."""
    told = []
    if split.too_large:
        told.append(f"{split.too_large} larger than {record_bytes_max:,} bytes: kept as rejected")
    if split.lost + lost:
        told.append(f"{split.lost + lost} too large to be kept at all")
    if split.broken:
        told.append(f"{split.broken} that can't be read: kept as rejected")
    if split.bad_id:
        told.append(f"{split.bad_id} without a valid trace id and span id: kept as rejected")
    what = "spans" if signal == "spans" else "log records"
    message = f"{what} not accepted: {'; '.join(told)}" if told else ""
    return Answer(signal, split.rejected + lost, message)
