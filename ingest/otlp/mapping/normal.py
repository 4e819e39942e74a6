"""One form of a span or log record for all that say the same of it, whichever way it came. Pure.

A Collector writes what it passes on anew: it adds empty messages where there were none (a status, a resource, a scope,
a log's body, an attribute's value) and leaves ids of zero bytes empty. A sender may do either itself. Neither says
anything, so neither is in this form.

Guarantees: forms are equal for a message and what a Collector makes of it (tests/collector), unless it has fields of a
newer protocol, which a Collector drops and this keeps; what says something is never left out: an empty text, a zero, an
empty list, repeated attributes and the order of attributes all stay. The message itself is brought into that form, so
that what is read of it afterwards is the same as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_EMPTY_VALUE = b"\x12\x00"  # how an attribute's empty value is written; other fields may hold these bytes too


def normal_span(span: Span) -> bytes:
    """The deterministic protobuf of a span, brought into its normal form."""
    if span.HasField("status") and not span.status.ByteSize():
        span.ClearField("status")
    if _is_zero(span.parent_span_id):
        span.parent_span_id = b""
    for link in span.links:
        _clear_zero_ids(link)
    written = span.SerializeToString(deterministic=True)
    if _EMPTY_VALUE not in written:
        return written
    _clear_empty(span.attributes)
    for event in span.events:
        _clear_empty(event.attributes)
    for link in span.links:
        _clear_empty(link.attributes)
    return span.SerializeToString(deterministic=True)


def normal_log(record: LogRecord) -> bytes:
    """The deterministic protobuf of a log record, brought into its normal form."""
    if record.HasField("body"):
        if record.body.WhichOneof("value") is None:
            record.ClearField("body")
        else:
            _clear_empty_within(record.body)
    _clear_zero_ids(record)
    _clear_empty(record.attributes)
    return record.SerializeToString(deterministic=True)


def normal_around(message: Resource | InstrumentationScope) -> bytes:
    """The deterministic protobuf of a resource or scope, brought into its normal form; empty where it says nothing."""
    _clear_empty(message.attributes)
    return message.SerializeToString(deterministic=True)


def _is_zero(value: bytes) -> bool:
    return value[:1] == b"\x00" and not value.strip(b"\x00")


def _clear_zero_ids(message: Any) -> None:
    if _is_zero(message.trace_id):
        message.trace_id = b""
    if _is_zero(message.span_id):
        message.span_id = b""


def _clear_empty(attributes: Iterable[KeyValue]) -> None:
    for attribute in attributes:
        if attribute.HasField("value"):
            if attribute.value.WhichOneof("value") is None:
                attribute.ClearField("value")
            else:
                _clear_empty_within(attribute.value)


def _clear_empty_within(value: Any) -> None:
    """Of the values in a list or map. Recursion ends: protobuf parses no more than 100 messages in each other."""
    held = value.WhichOneof("value")
    if held == "kvlist_value":
        _clear_empty(value.kvlist_value.values)
    elif held == "array_value":
        for one in value.array_value.values:
            _clear_empty_within(one)
