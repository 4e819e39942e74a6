"""Protobuf's framing alone: where fields begin and end, without building what they hold. Pure.

A parsed protobuf takes up to thirty times the memory of its bytes (empty attributes, two bytes each). So whoever takes
protobuf from strangers looks at the framing first, counts, and parses only pieces of a size it chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor

Buffer = bytes | bytearray | memoryview

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10
_SHORT = tuple(bytes((value,)) for value in range(0x80))


class Malformed(ValueError):  # noqa: N818 - says what the bytes are
    """The bytes are not protobuf."""


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(tag, where the field begins, where its payload begins, where it ends) of each field, in order.

    A tag is field number << 3 | wire type, as it stands on the wire. Raises Malformed, groups included: nothing of
    OTLP uses them.
    """
    at = start
    while at < end:
        begin = at
        tag, at = _varint(data, at, end)
        wire = tag & 7
        if tag < 8:
            raise Malformed("a field has the number 0")
        if wire == DELIMITED:
            size, at = _varint(data, at, end)
            payload, at = at, at + size
        elif wire == VARINT:
            payload = at
            _, at = _varint(data, at, end)
        elif wire == FIXED64:
            payload, at = at, at + 8
        elif wire == FIXED32:
            payload, at = at, at + 4
        else:
            raise Malformed(f"a field has the wire type {wire}")
        if at > end:
            raise Malformed("a field is longer than what holds it")
        yield tag, begin, payload, at


def varint(value: int) -> bytes:
    """The value, not negative, as a varint."""
    if value < 0x80:
        return _SHORT[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number: int, size: int) -> bytes:
    """What stands before a payload of so many bytes in the field of that number."""
    return varint(number << 3 | DELIMITED) + varint(size)


def messages_within(data: Buffer, form: Descriptor, messages_max: int) -> bool:
    """Whether a message of that form holds, at all depths, no more than so many messages. Raises Malformed."""
    return all(count <= messages_max for count, _ in _messages(data, form))


def depth_within(data: Buffer, form: Descriptor, depth_max: int) -> bool:
    """Whether no more than so many messages are in each other. Raises Malformed."""
    return all(depth <= depth_max for _, depth in _messages(data, form))


def _messages(data: Buffer, form: Descriptor) -> Iterator[tuple[int, int]]:
    """(how many so far, how deep this one is) for each message within."""
    children = _children(form)
    count = 0
    waiting = [(0, len(data), form.full_name, 1)]
    while waiting:
        start, end, name, depth = waiting.pop()
        inner = children[name]
        for tag, _, payload, stop in fields(data, start, end):
            child = inner.get(tag)
            if child is not None:
                count += 1
                yield count, depth
                waiting.append((payload, stop, child, depth + 1))


def _children(form: Descriptor) -> Mapping[str, Mapping[int, str]]:
    """By message, the tags of its fields that hold messages, and which."""
    found: dict[str, Mapping[int, str]] = {}
    waiting = [form]
    while waiting:
        one = waiting.pop()
        if one.full_name in found:
            continue
        inner = [(field.number, field.message_type) for field in one.fields if field.message_type is not None]
        found[one.full_name] = {number << 3 | DELIMITED: message.full_name for number, message in inner}
        waiting += [message for _, message in inner]
    return found


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:  # the usual case
        return data[at], at + 1
    value = 0
    for place in range(at, min(end, at + _VARINT_BYTES_MAX)):
        byte = data[place]
        value |= (byte & 0x7F) << (7 * (place - at))
        if byte < 0x80:
            return value, place + 1
    raise Malformed("a varint has no end")
