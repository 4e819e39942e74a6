"""What stands around spans and log records: their resource and scope, read once; and the bytes that recognize one.

`wire` of a span or log record is the deterministic protobuf of a request that holds its resource, its scope and it
alone, without schema URLs (a Collector may add or change those). The id of a log record is the SHA-256 of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from ingest.otlp.mapping.anyvalue import json_text, read_attributes

Record = Span | LogRecord

_FIRST, _SECOND = b"\x0a", b"\x12"  # the tags of length-delimited fields 1 and 2


@dataclass(slots=True)
class Origin:
    """A resource and a scope. `resource` are the resource's attributes; `scope_name` tells the instrumentation."""

    resource: dict[str, Any]
    resource_extra: list[tuple[str, bytes]]  # repeated attributes, dropped count, schema URL
    scope_name: str
    scope_raw: bytes | None  # the scope as JSON, for /raw
    resource_wire: bytes
    scope_wire: bytes

    def wire(self, record: bytes) -> bytes:
        """The bytes of a request with this resource, this scope and the one record."""
        scoped = self.scope_wire + _field(_SECOND, record)
        return _field(_FIRST, self.resource_wire + _field(_SECOND, scoped))


def origins(container: ResourceSpans | ResourceLogs) -> Iterator[tuple[Origin, Any]]:
    """Each scope of this resource with its spans or log records."""
    resource = container.resource
    attributes, repeated = read_attributes(resource.attributes)
    extra = [(f"repeated/{at}/{name}", json_text(value)) for at, (name, value) in enumerate(repeated)]
    if resource.dropped_attributes_count:
        extra.append(("dropped_attributes_count", b"%d" % resource.dropped_attributes_count))
    if container.schema_url:
        extra.append(("schema_url", json_text(container.schema_url)))
    resource_wire = _field(_FIRST, _bytes(resource)) if container.HasField("resource") else b""
    scopes = container.scope_spans if isinstance(container, ResourceSpans) else container.scope_logs
    for scoped in scopes:
        scope = scoped.scope
        origin = Origin(
            attributes,
            extra,
            scope.name,
            _scope_raw(scope, scoped.schema_url),
            resource_wire,
            _field(_FIRST, _bytes(scope)) if scoped.HasField("scope") else b"",
        )
        yield origin, scoped.spans if isinstance(container, ResourceSpans) else scoped.log_records


def span_bytes(span: Span) -> bytes:
    return span.SerializeToString(deterministic=True)


def log_bytes(record: LogRecord) -> bytes:
    """The record without its observed time if it has a time: a resend may have been observed again."""
    if record.time_unix_nano and record.observed_time_unix_nano:
        told = LogRecord()
        told.CopyFrom(record)
        told.ClearField("observed_time_unix_nano")
        record = told
    return record.SerializeToString(deterministic=True)


def _bytes(message: Resource | InstrumentationScope) -> bytes:
    return message.SerializeToString(deterministic=True)


def _scope_raw(scope: InstrumentationScope, schema_url: str) -> bytes | None:
    attributes, repeated = read_attributes(scope.attributes)
    said: dict[str, Any] = {
        "name": scope.name,
        "version": scope.version,
        "attributes": attributes,
        "repeated_attributes": [[name, value] for name, value in repeated],
        "dropped_attributes_count": scope.dropped_attributes_count,
        "schema_url": schema_url,
    }
    present = {name: value for name, value in said.items() if value}
    return json_text(present) if present else None


@lru_cache(maxsize=1024)
def _length(size: int) -> bytes:
    """A protobuf varint."""
    digits = bytearray()
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)


def _field(tag: bytes, payload: bytes) -> bytes:
    return tag + _length(len(payload)) + payload
