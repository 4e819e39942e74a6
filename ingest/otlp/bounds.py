"""Where the records of a request stand, found by protobuf's C parser instead of field by field. Pure.

The request is parsed a second time, by a form with the same fields that takes what a scope holds as bytes, so none of
it is built. That says how long each record is, and not where it stands: fields may come in any order, in longer frames
than need be, twice, or be unknown. So the sum of all frames, each as short as may be, must be the scope's length: then
there is nothing else in it, and only the order is left to look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError

from ingest.otlp.framing import Buffer, delimited, varint

USUAL_BYTES_MIN: Final = 64  # of a record with its frame, on average: smaller ones are read field by field, and counted
_SCOPE_TAG, _LIST, _SCHEMA_URL = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """A scope's records, one after the other: where each begins, and the last one ends; `widest`: the longest one's
    bytes. `own`: the scope's other fields, as from, to."""

    places: list[int]
    widest: int
    own: list[tuple[int, int]]


def framed(body: Buffer) -> Any:
    """The request's frame, whose `resources` have `scopes`, for `bounds_of`. None where the bytes are no protobuf."""
    taken: Any = body
    try:
        return _Request.FromString(taken)
    except DecodeError:
        return None


def is_usual(frame: Any, size: int) -> bool:
    """Whether the records of a request of that size are of a usual size: to parse many that hold nothing takes a
    hundred times their bytes."""
    resources = frame.resources
    if len(resources) * USUAL_BYTES_MIN > size:
        return False
    scopes = [resource.scopes for resource in resources]
    if sum(map(len, scopes)) * USUAL_BYTES_MIN > size:
        return False
    return sum(len(scope.records) for each in scopes for scope in each) * USUAL_BYTES_MIN <= size


def bounds_of(scope: Any, body: Buffer, start: int, end: int) -> Bounds | None:
    """Where the records of a scope stand, which is at these places of the body. None where that is not the usual:
    its scope first, its schema's URL after it or last, and its records together."""
    records = scope.records
    if not records or len(records) * USUAL_BYTES_MIN > end - start:
        return None
    lengths = map(len, records)
    sizes = [length + 3 if 0x80 <= length < 0x4000 else _framed_bytes(length) for length in lengths]
    told = _framed_bytes(len(scope.scope)) if scope.HasField("scope") else 0
    url = _framed_bytes(len(scope.schema_url)) if scope.HasField("schema_url") else 0
    if told + sum(sizes) + url != end - start or (told and body[start] != _tag(_SCOPE_TAG)):
        return None
    first = start + told
    last = not url or body[first] != _tag(_SCHEMA_URL)
    places = list(accumulate(sizes, initial=first if last else first + url))
    if url and last and not _begin_there(records, body, places):
        return None
    own = [(start, places[0]), (places[-1], end)]
    return Bounds(places, max(sizes), [(begin, stop) for begin, stop in own if begin < stop])


def _begin_there(records: Any, body: Buffer, places: list[int]) -> bool:
    """Whether the records begin at these places: then each ends where the next begins."""
    for record, place in zip(records, places, strict=False):
        head = delimited(_LIST, len(record))
        if body[place : place + len(head)] != head:
            return False
    return True


def _tag(number: int) -> int:
    return delimited(number, 0)[0]


def _framed_bytes(size: int) -> int:
    """A payload of so many bytes with its tag, of a number below 16, and its length."""
    if size < 0x80:
        return size + 2
    return size + 3 if size < 0x4000 else size + 1 + len(varint(size))


def _form() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="tallystick/framed.proto", package="tallystick", syntax="proto2")
    optional, repeated = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    taken, message = FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_MESSAGE
    scope = file.message_type.add(name="Scope")
    scope.field.add(name="scope", number=_SCOPE_TAG, label=optional, type=taken)
    scope.field.add(name="records", number=_LIST, label=repeated, type=taken)
    scope.field.add(name="schema_url", number=_SCHEMA_URL, label=optional, type=taken)
    resource = file.message_type.add(name="Resource")
    resource.field.add(name="scopes", number=2, label=repeated, type=message, type_name=".tallystick.Scope")
    request = file.message_type.add(name="Request")
    request.field.add(name="resources", number=1, label=repeated, type=message, type_name=".tallystick.Resource")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tallystick.Request"))


_Request: Final = _form()
