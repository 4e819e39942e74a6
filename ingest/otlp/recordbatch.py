"""Kafka's record batch (message format 2; Kafka's protocol guide, "Record Batch"), made from records. Pure.

aiokafka's own builder copies a batch several times, and compresses it on the event loop's thread. Here it is copied
once, and sealing, which is nearly all compression, may be done on another thread.

Guarantees: a sealed batch is what aiokafka's producer takes for its `BatchBuilder`, closed; it may be written again and
again with the same bytes, as a producer does that tries again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

import cramjam
from aiokafka.record.util import calc_crc32c

ZSTD_LEVEL: Final = 1  # half the bytes of snappy in less than twice its time: what is written to disk costs more
_ZSTD, _PLAIN = 4, 0
_MAGIC: Final = 2
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH: Final = 12  # bytes that the length of a batch does not count
_CRC_FROM: Final = 21
_CRC: Final = struct.Struct(">I")


def _signed(value: int) -> bytes:
    """A value, not negative, as a varint of a signed number."""
    value <<= 1
    if value < 0x80:
        return _SHORT[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT: Final = tuple(bytes((value,)) for value in range(0x80))
_NULL: Final = b"\x01"  # -1


def headers_of(told: Iterable[tuple[str, bytes]]) -> bytes:
    """A record's headers as they stand in it."""
    pairs = [(name.encode(), value) for name, value in told]
    return _signed(len(pairs)) + b"".join(
        _signed(len(name)) + name + _signed(len(value)) + value for name, value in pairs
    )


class Records:
    """The records of a batch that is not sealed yet. `size`: in bytes, uncompressed."""

    __slots__ = ("_first_ms", "_last_ms", "_pieces", "count", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self._pieces: list[bytes] = []
        self._first_ms = self._last_ms = 0

    def add(self, key: bytes | None, value: bytes, headers: bytes, now_ms: int) -> None:
        """Add a record. `headers`: see `headers_of`. `now_ms`: its time, in milliseconds of the epoch."""
        if not self.count:
            self._first_ms = self._last_ms = now_ms
        self._last_ms = max(now_ms, self._last_ms)
        late, place = _signed(self._last_ms - self._first_ms), _signed(self.count)
        said = _NULL if key is None else _signed(len(key)) + key
        before = b"\x00" + late + place + said + _signed(len(value))
        inner = len(before) + len(value) + len(headers)
        length = _signed(inner)
        self._pieces += (length, before, value, headers)
        self.size += len(length) + inner
        self.count += 1

    def seal(self, scratch: bytearray) -> Sealed:
        """The batch, compressed where that makes it smaller. Another thread may run it; nothing may be added then.

        `scratch`: memory to compress to, of any size, used by nobody else meanwhile. Fresh memory for each batch would
        cost half as much as compressing does.
        """
        written = b"".join(self._pieces)
        if len(scratch) < len(written):
            scratch = bytearray(len(written))
        try:
            size = cramjam.zstd.compress_into(written, scratch, level=ZSTD_LEVEL)
        except cramjam.CompressionError:  # no room for what gets larger
            size = len(written)
        if size < len(written):
            return Sealed(bytes(memoryview(scratch)[:size]), _ZSTD, self.count, self._first_ms, self._last_ms)
        return Sealed(written, _PLAIN, self.count, self._first_ms, self._last_ms)


class Sealed:
    """A batch to which nothing is added. The names are those by which aiokafka's producer asks its `BatchBuilder`."""

    __slots__ = ("_attributes", "_count", "_first_ms", "_last_ms", "_packed", "_producer", "_size", "_whole")

    def __init__(self, packed: bytes, attributes: int, count: int, first_ms: int, last_ms: int) -> None:
        self._packed = packed
        self._size = _HEADER.size + len(packed)
        self._attributes = attributes
        self._count = count
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._producer = (-1, -1, -1)
        self._whole: bytearray | None = None

    def record_count(self) -> int:
        return self._count

    def closed(self) -> bool:
        return True

    def size(self) -> int:
        return self._size

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """The bytes of the batch, of the producer that was set."""
        if self._whole is None:
            length = self._size - _BEFORE_LENGTH
            times = (self._first_ms, self._last_ms)
            head = (0, length, -1, _MAGIC, 0, self._attributes, self._count - 1, *times, *self._producer, self._count)
            whole = bytearray(_HEADER.pack(*head))
            whole += self._packed
            self._packed = b""
            covered: Any = memoryview(whole)[_CRC_FROM:]
            _CRC.pack_into(whole, _CRC_FROM - _CRC.size, calc_crc32c(covered))
            self._whole = whole
        return self._whole
