"""What stands around spans and log records: their resource and scope, read once; and the bytes that recognize one.

`wire` of a span or log record is the deterministic protobuf of a request that holds its resource, its scope and it
alone, without schema URLs (a Collector may add or change those). The id of a log record is the SHA-256 of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from ingest.otlp.mapping.anyvalue import json_text, read_attributes
from ingest.otlp.mapping.normal import normal_around, normal_log

_FIRST, _SECOND = b"\x0a", b"\x12"  # the tags of length-delimited fields 1 and 2


@dataclass(slots=True)
class Origin:
    """A resource and a scope. `resource` are the resource's attributes; `scope_name` tells the instrumentation."""

    resource: dict[str, Any]
    resource_rest: dict[str, Any]  # repeated attributes, dropped count, schema URL
    scope_name: str
    scope_said: dict[str, Any]
    dropped: int  # attributes that the resource and the scope say they lost
    resource_wire: bytes
    scope_wire: bytes
    raw_known: dict[frozenset[str], list[tuple[str, bytes]]] = field(default_factory=dict)

    def wire(self, record: bytes) -> bytes:
        """The bytes of a request with this resource, this scope and the one record."""
        scoped = self.scope_wire + _field(_SECOND, record)
        return _field(_FIRST, self.resource_wire + _field(_SECOND, scoped))

    def raw(self, without: frozenset[str]) -> list[tuple[str, bytes]]:
        """Resource and scope as /raw has them: all that they said but these attributes (persons, who stand as
        references)."""
        raw = self.raw_known.get(without)
        if raw is None:
            said = {name: value for name, value in self.resource.items() if name not in without}
            resource = {"attributes": said, **self.resource_rest} if said else self.resource_rest
            raw = [("otlp:resource", json_text(resource))] if resource else []
            if self.scope_said:
                raw.append(("otlp:scope", json_text(self.scope_said)))
            self.raw_known[without] = raw
        return raw


def origins(container: Any) -> Iterator[tuple[Origin, Any]]:
    """Each scope of this `ResourceSpans` or `ResourceLogs`, with its spans or log records."""
    resource = container.resource
    attributes, repeated = read_attributes(resource.attributes)
    rest: dict[str, Any] = {
        "repeated_attributes": [list(pair) for pair in repeated],
        "dropped_attributes_count": resource.dropped_attributes_count,
        "schema_url": container.schema_url,
    }
    resource_wire = _around(resource)
    is_spans = isinstance(container, ResourceSpans)
    for scoped in container.scope_spans if is_spans else container.scope_logs:
        scope = scoped.scope
        origin = Origin(
            attributes,
            _present(rest),
            scope.name,
            _scope_said(scope, scoped.schema_url),
            resource.dropped_attributes_count + scope.dropped_attributes_count,
            resource_wire,
            _around(scope),
        )
        yield origin, scoped.spans if is_spans else scoped.log_records


def log_bytes(record: LogRecord) -> bytes:
    """The record without its observed time if it has a time: a resend may have been observed again."""
    if record.time_unix_nano and record.observed_time_unix_nano:
        told = LogRecord()
        told.CopyFrom(record)
        told.ClearField("observed_time_unix_nano")
        normal_log(record)
        return normal_log(told)
    return normal_log(record)


def _around(message: Resource | InstrumentationScope) -> bytes:
    said = normal_around(message)
    return _field(_FIRST, said) if said else b""


def _scope_said(scope: InstrumentationScope, schema_url: str) -> dict[str, Any]:
    attributes, repeated = read_attributes(scope.attributes)
    return _present(
        {
            "name": scope.name,
            "version": scope.version,
            "attributes": attributes,
            "repeated_attributes": [list(pair) for pair in repeated],
            "dropped_attributes_count": scope.dropped_attributes_count,
            "schema_url": schema_url,
        }
    )


def _present(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value}


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
