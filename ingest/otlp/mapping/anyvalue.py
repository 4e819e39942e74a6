"""OTLP attribute values: as Python values to decide by, and as JSON text that loses nothing.

The JSON text (`json_text`) tells types apart: a string is a string; true and false are themselves; an integer is a
number without a point, or `{"int": "<digits>"}` beyond ±(2^53-1), where many JSON readers would round; a double always
has a point or an exponent, and is `{"double": "NaN"}` (`Infinity`, `-Infinity`) where JSON has no number; bytes are
`{"bytes": "<base64>"}`; an empty value is null; lists are arrays. A key-value list is an object, or
`{"kvlist": [[key, value], ...]}` where keys repeat or the object would read as one of those forms.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

import orjson
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from jiter import LosslessFloat
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from schemas.values import INTEGER_MAX

Value = Any  # str, bool, int, float, bytes, None, list[Value], dict[str, Value] or Pairs

_MARKS: Final = frozenset({"int", "double", "bytes", "kvlist"})


class Pairs(list[tuple[str, Any]]):
    """A key-value list whose keys repeat."""


def read(value: AnyValue) -> Value:
    """The value. Depth is bounded by the protobuf parser's own limit."""
    text = value.string_value
    if text:
        return text
    which = value.WhichOneof("value")
    if which == "array_value":
        return [read(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return _kvlist(value.kvlist_value.values)
    return None if which is None else getattr(value, which)


def _kvlist(pairs: Iterable[KeyValue]) -> Value:
    read_pairs = [(pair.key, read(pair.value)) for pair in pairs]
    values = dict(read_pairs)
    return values if len(values) == len(read_pairs) else Pairs(read_pairs)


def read_attributes(pairs: Iterable[KeyValue]) -> tuple[dict[str, Value], list[tuple[str, Value]]]:
    """Attributes by key, the first of a key counting; and the repeated ones, which no rule reads."""
    values: dict[str, Value] = {}
    repeated: list[tuple[str, Value]] = []
    for pair in pairs:
        key, value = pair.key, pair.value
        text = value.string_value
        if key in values:
            repeated.append((key, text or read(value)))
        else:
            values[key] = text or read(value)
    return values, repeated


def unknown_fields(message: Message) -> list[list[Any]]:
    """Fields of a newer protocol that this message has: number, wire type and value of each."""
    found: Any = UnknownFieldSet(message)  # its type stub forgets that it can be iterated
    return [[one.field_number, one.wire_type, _unknown_value(one.data)] for one in found] if len(found) else []


def _unknown_value(data: Any) -> Any:
    if isinstance(data, int | bytes):
        return data
    return [[one.field_number, one.wire_type, _unknown_value(one.data)] for one in data]  # a group


def json_text(value: Value) -> bytes:
    """The value as JSON text, as this module's docstring says."""
    kind = type(value)
    if kind is str:
        return orjson.dumps(value)
    if kind is bool:
        return b"true" if value else b"false"
    if kind is int:
        return b"%d" % value if -INTEGER_MAX <= value <= INTEGER_MAX else b'{"int":"%d"}' % value
    if kind is float:
        return _double(value)
    if kind is list:
        return b"[%b]" % b",".join([json_text(item) for item in value])
    if kind is dict:
        if len(value) == 1 and not _MARKS.isdisjoint(value):
            return _pairs(value.items())
        return b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(key), json_text(item)) for key, item in value.items()])
    if kind is LosslessFloat:  # out of a JSON text, with its digits
        return str(value).encode()
    if kind is bytes:
        return b'{"bytes":"%b"}' % b64encode(value)
    return _pairs(value) if kind is Pairs else b"null"


def _double(value: float) -> bytes:
    if math.isfinite(value):
        return repr(value).encode()
    name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return b'{"double":"%b"}' % name.encode()


def _pairs(pairs: Iterable[tuple[str, Value]]) -> bytes:
    return b'{"kvlist":[%b]}' % b",".join([b"[%b,%b]" % (orjson.dumps(key), json_text(item)) for key, item in pairs])
