"""OTLP's JSON as protobuf bytes. Pure.

As the OTLP specification says: trace and span ids in hex, enumerations as integers (names are taken too), unknown
members ignored; and as protobuf's JSON says: lowerCamelCase or the original name, null for what is absent, 64-bit
integers as text or numbers, bytes in base64.

Guarantees: memory is bounded, whatever the text says: it is first cut into records by a parser that builds nothing of
what it passes over, then one record at a time is built. Nesting is bounded. A member that is said twice, under one name
or two, is refused where anything would be lost by taking one of them. A record that is refused stands in the request as
the text it came as, behind a zero byte, with which no field begins: it alone is rejected, and kept as it came, as a
broken record of a request in protobuf is. Where no record can be read, the request is refused for the first. Raises
Refused only.
"""

from __future__ import annotations

import binascii
import re
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ingest.errors import Refused
from ingest.otlp.forms import Form
from ingest.otlp.framing import delimited

OBJECTS_MAX: Final = 3_000_000  # in the text, its strings included: each takes 24 bytes while they are counted
PIECE_BYTES_MAX: Final = 2 * 1024 * 1024  # of a record, a resource or a scope: building it takes up to 45 times as much
DEPTH_MAX: Final = 90  # messages in each other; what passes here passes protobuf's own limit of 100

_HEX: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_RESOURCES: Final = ("resource_spans", "resource_logs", "resource_metrics")
_LISTS: Final = (*_RESOURCES, "scope_spans", "scope_logs", "spans", "log_records")
_LEVEL_MEMBERS: Final = (*_LISTS, "resource", "scope", "schema_url")

_NO_FIELD: Final = b"\0"  # the text itself may read as protobuf: `{` begins a group


@dataclass(frozen=True, slots=True)
class Converted:
    """A request as protobuf; `lost` of its records are left out, being larger as text than PIECE_BYTES_MAX. `broken`:
    why the first of those is refused that stand in it as text."""

    value: bytearray
    lost: int
    broken: Refused | None = None


def to_protobuf(form: Form, body: bytes | bytearray, parts_max: int) -> Converted:
    """The request that the JSON text says. `parts_max`: how many resources, scopes and records it may have together.

    Raises Refused: not_otlp, too_deep, too_large.
    """
    if body.count(b"{") > OBJECTS_MAX:
        raise Refused("too_large", f"the JSON text has more than {OBJECTS_MAX:,} objects")
    try:
        return _Conversion(form, parts_max).run(body)
    except RecursionError as error:
        raise Refused("too_deep", "the JSON text is nested too deeply") from error
    except (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise Refused("not_otlp", "the body is not the JSON of an OTLP request") from error


class _Conversion:
    def __init__(self, form: Form, parts_max: int) -> None:
        self._form = form
        self._left = parts_max
        self._max = parts_max
        self._lost = 0
        self._built = 0
        self._broken: Refused | None = None

    def run(self, body: bytes | bytearray) -> Converted:
        form = self._form
        out = bytearray()
        level = _level(body)
        if _is_empty(_member(level, form.resources)) and not all(
            _is_empty(_member(level, name)) for name in _RESOURCES
        ):
            raise Refused("not_otlp", f"no {form.resources} in it, but what another signal's requests hold")
        for resource in self._elements(body, level, form.resources):
            _put(out, 1, self._resource(resource))
        if self._broken is not None and not self._built:
            raise self._broken
        return Converted(out, self._lost, self._broken)

    def _resource(self, text: msgspec.Raw) -> bytearray:
        form = self._form
        level = _level(text)
        out = self._around(level, "resource", form.resource)
        for scope in self._elements(text, level, form.scopes, "resource"):
            _put(out, 2, self._scope(scope))
        return out

    def _scope(self, text: msgspec.Raw) -> bytearray:
        form = self._form
        level = _level(text)
        out = self._around(level, "scope", form.scope)
        for record in self._elements(text, level, form.records, "scope"):
            if len(memoryview(record)) > PIECE_BYTES_MAX:
                self._lost += 1
                continue
            _put(out, 2, self._record(record))
        return out

    def _record(self, text: msgspec.Raw) -> bytes:
        """A record in protobuf; one that can't be read as its text."""
        try:
            built = _built(text, self._form.record)
        except (Refused, orjson.JSONDecodeError) as error:
            if self._broken is None:
                unread = Refused("not_otlp", f"{self._form.record.DESCRIPTOR.name}: this is not JSON in UTF-8")
                self._broken = error if isinstance(error, Refused) else unread
            return _NO_FIELD + bytes(memoryview(text))
        self._built += 1
        return built

    def _around(self, level: Any, name: str, form: type[Message]) -> bytearray:
        """A resource's or scope's own members: fields 1 and 3."""
        out = bytearray()
        text = _member(level, name)
        if len(memoryview(text)) > PIECE_BYTES_MAX:
            raise Refused("too_large", f"{name}: more than {PIECE_BYTES_MAX:,} bytes of JSON")
        if not _is_null(text):
            _put(out, 1, _built(text, form))
        url = orjson.loads(memoryview(_member(level, "schema_url")))
        if url is not None:
            if type(url) is not str:
                raise Refused("not_otlp", "schemaUrl: expected text")
            _put(out, 3, url.encode())
        return out

    def _elements(
        self, within: bytes | bytearray | msgspec.Raw, level: Any, name: str, beside: str | None = None
    ) -> Iterator[msgspec.Raw]:
        """The objects of a list, counted before anything is made of them. `within`: what holds the list, and what it is
        of under the name `beside`: neither may be there twice."""
        text = _member(level, name)
        self._left -= _counted(within, name, beside)
        if self._left < 0:
            raise Refused("too_large", f"more than {self._max:,} resources, scopes and records in a request")
        return iter(() if _is_null(text) else msgspec.json.decode(text, type=list[msgspec.Raw]))


class _Told(threading.local):
    """How many objects were passed over, by one thread."""

    count = 0


_told: Final = _Told()


class _Object(msgspec.Struct, gc=False):
    """Any object; nothing of it is built. It counts also where a later member of the same name replaces it."""

    def __post_init__(self) -> None:
        _told.count += 1


@cache
def _holder(name: str, beside: str | None) -> Any:
    """The form of what holds a list: nothing else of it is looked at."""
    lists = [(one, list[_Object] | None, None) for one in {name, _camel(name)}]
    return msgspec.defstruct("_Holder", [*lists, *([(beside, _Object | None, None)] if beside else ())])


def _counted(text: bytes | bytearray | msgspec.Raw, name: str, beside: str | None) -> int:
    """How many objects the list has. Raises Refused where more were passed over than are there in the end."""
    _told.count = 0
    holder = msgspec.json.decode(text, type=_holder(name, beside))
    count = sum(len(getattr(holder, one) or ()) for one in {name, _camel(name)})
    if _told.count > count + (beside is not None and getattr(holder, beside) is not None):
        raise Refused("not_otlp", f"{_camel(name)}, or what it is of, is there more than once")
    return count


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


_ABSENT: Final = msgspec.Raw(b"null")
_Level: Final = msgspec.defstruct(
    "_Level",
    [(name, msgspec.Raw, _ABSENT) for name in {*_LEVEL_MEMBERS, *map(_camel, _LEVEL_MEMBERS)}],
)


def _level(text: bytes | bytearray | msgspec.Raw) -> Any:
    return msgspec.json.decode(text, type=_Level)


def _member(level: Any, name: str) -> msgspec.Raw:
    found: msgspec.Raw = getattr(level, _camel(name))
    other: msgspec.Raw = getattr(level, name)
    if _is_null(found):
        return other
    if other is not found and not _is_null(other):
        raise Refused("not_otlp", f"{_camel(name)} is there under two names")
    return found


def _is_null(text: msgspec.Raw) -> bool:
    return bytes(memoryview(text)[:4]) == b"null"


def _is_empty(text: msgspec.Raw) -> bool:
    return _is_null(text) or _EMPTY.fullmatch(memoryview(text)) is not None


def _put(out: bytearray, number: int, payload: bytes | bytearray) -> None:
    out += delimited(number, len(payload))
    out += payload


def _built(text: msgspec.Raw, form: type[Message]) -> bytes:
    message = form()
    value = orjson.loads(_MINUS_ZERO.sub(rb"\1.0", bytes(memoryview(text))))
    if type(value) is not dict:
        raise Refused("not_otlp", f"{form.DESCRIPTOR.name}: expected an object")
    _fill(message, value, 0)
    return message.SerializeToString()


_EMPTY: Final = re.compile(rb"\[\s*\]")
# Read as an integer, it would be another number than in protobuf. No text within a string has this form: its quotes are
# escaped.
_MINUS_ZERO: Final = re.compile(rb'("double(?:V|_v)alue"\s*:\s*-0)(?![0-9.eE])')

_Put = Callable[[Message, Any, int], None]


def _fill(message: Message, members: Mapping[str, Any], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise Refused("too_deep", f"more than {DEPTH_MAX} objects and lists of OTLP in each other")
    puts, others = _puts(message.DESCRIPTOR)
    for name, value in members.items():
        put = puts.get(name)
        if put is not None and value is not None:
            if name in others and members.get(others[name]) is not None:
                raise Refused("not_otlp", f"{others[name]} is there under two names")
            put(message, value, depth)


@cache
def _puts(form: Descriptor) -> tuple[Mapping[str, _Put], Mapping[str, str]]:
    """How to set each field of a form, by both of its names; and of an original name, the other."""
    found: dict[str, _Put] = {}
    for field in form.fields:
        found[field.name] = found[field.json_name] = _put_of(field)
    return found, {field.name: field.json_name for field in form.fields if field.name != field.json_name}


def _put_of(field: FieldDescriptor) -> _Put:
    where = field.json_name
    single = _put_message(field, where) if field.message_type is not None else _put_scalar(field, where)
    return _put_list(field, where) if field.is_repeated else single


def _put_message(field: FieldDescriptor, where: str) -> _Put:
    name, oneof = field.name, _oneof(field)

    def put(message: Message, value: Any, depth: int) -> None:
        if type(value) is not dict:
            raise Refused("not_otlp", f"{where}: expected an object")
        _expect_alone(message, oneof, where)
        inner = getattr(message, name)
        inner.SetInParent()
        _fill(inner, value, depth + 1)

    return put


def _put_scalar(field: FieldDescriptor, where: str) -> _Put:
    name, convert = field.name, _converter(field, where)
    oneof = _oneof(field)

    def put(message: Message, value: Any, _depth: int) -> None:
        _expect_alone(message, oneof, where)
        converted = convert(value)
        if converted is not None:
            setattr(message, name, converted)

    return put


def _oneof(field: FieldDescriptor) -> str | None:
    return field.containing_oneof.name if field.containing_oneof is not None else None


def _expect_alone(message: Message, oneof: str | None, where: str) -> None:
    if oneof is not None and message.WhichOneof(oneof) is not None:
        raise Refused("not_otlp", f"{where}: a value of another type stands beside it")


def _put_list(field: FieldDescriptor, where: str) -> _Put:
    name = field.name
    convert = None if field.message_type is not None else _converter(field, where)

    def put(message: Message, value: Any, depth: int) -> None:
        if type(value) is not list:
            raise Refused("not_otlp", f"{where}: expected a list")
        target = getattr(message, name)
        for item in value:
            if convert is not None:
                target.append(convert(item))
            elif type(item) is dict:
                _fill(target.add(), item, depth + 1)
            else:
                raise Refused("not_otlp", f"{where}: expected a list of objects")

    return put


def _converter(field: FieldDescriptor, where: str) -> Callable[[Any], Any]:
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        return lambda value: _expect(value if type(value) is str else None, where, "text")
    if kind == FieldDescriptor.TYPE_BOOL:
        return lambda value: _expect(value if type(value) is bool else None, where, "true or false")
    if kind == FieldDescriptor.TYPE_DOUBLE:
        return lambda value: _expect(_double(value), where, "a number")
    if kind == FieldDescriptor.TYPE_BYTES and field.name in _HEX:
        return lambda value: _expect(_hex(value), where, "hex digits")
    if kind == FieldDescriptor.TYPE_BYTES:
        return lambda value: _expect(_base64(value), where, "base64")
    if field.enum_type is not None:
        numbers = {value.name: value.number for value in field.enum_type.values}
        return lambda value: numbers.get(value) if type(value) is str else _number(value, 32, True, where)
    bits, signed = _INTEGERS[kind]
    return lambda value: _number(value, bits, signed, where)


_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")
_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (32, True),
    FieldDescriptor.TYPE_INT64: (64, True),
    FieldDescriptor.TYPE_UINT32: (32, False),
    FieldDescriptor.TYPE_FIXED32: (32, False),
    FieldDescriptor.TYPE_FIXED64: (64, False),
}


def _expect(value: Any, where: str, what: str) -> Any:
    if value is None:
        raise Refused("not_otlp", f"{where}: expected {what}")
    return value


def _number(value: Any, bits: int, signed: bool, where: str) -> int:
    """An integer that fits: a number, or its digits as text."""
    number: int | None = None
    if type(value) is int:
        number = value
    elif (type(value) is float and value.is_integer()) or (type(value) is str and _DIGITS.fullmatch(value)):
        number = int(value)
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if number is None or not low <= number < high:
        raise Refused("not_otlp", f"{where}: expected {'an' if signed else 'a non-negative'} integer of {bits} bits")
    return number


def _double(value: Any) -> float | None:
    if type(value) in (int, float):
        return float(value)
    if type(value) is str and value.strip() == value and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _hex(value: Any) -> bytes | None:
    try:
        return binascii.unhexlify(value) if type(value) is str else None
    except ValueError:
        return None


def _base64(value: Any) -> bytes | None:
    if type(value) is not str:
        return None
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
