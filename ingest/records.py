"""Reading Kafka records whose header names are not UTF-8.

Kafka says that a header's name is UTF-8 and checks nothing: any client that sends bytes may send others. aiokafka
raises UnicodeDecodeError there, each time it comes to that batch, so one such record would hold its partition for ever.

Guarantees: such a batch is read again with the bytes that are not UTF-8 as lone surrogates (`surrogateescape`), which
`str.encode` turns back into the same bytes; intake then refuses the record and keeps it. Every other batch is read by
aiokafka as before. `install` changes aiokafka in this process: it has no hook for this.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_BATCH_OVERHEAD_BYTES = 12  # base offset and length, which the length does not count
_LENGTH = struct.Struct(">8xi")


def install() -> None:
    """Let consumers of this process read any header name. Doing it again changes nothing."""
    fetcher.MemoryRecords = _Records


class _Records:
    """aiokafka's MemoryRecords, with batches that can be read again."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._records: Any = MemoryRecords(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        first = self._at
        batch = self._records.next_batch()
        if batch is None:
            return None
        (length,) = _LENGTH.unpack_from(self._data, first)
        self._at = first + _BATCH_OVERHEAD_BYTES + length
        return _Batch(batch, self._data, first, self._at)


class _Batch:
    __slots__ = ("_batch", "_data", "_end", "_first")

    def __init__(self, batch: Any, data: bytes, first: int, end: int) -> None:
        self._batch = batch
        self._data = data
        self._first = first
        self._end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(list(_LenientBatch(self._data[self._first : self._end])))


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka ships no types
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _LenientBuffer(self._buffer)


class _LenientBuffer(bytearray):
    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _LenientText(found) if isinstance(found, bytearray) else found


class _LenientText(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "surrogateescape")
