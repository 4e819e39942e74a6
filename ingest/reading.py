"""Reading: from polled Kafka records to sealed items, before any lock is taken.

A dozen of entries or so are decoded, then sealed: few enough that the processor's caches still hold them, many enough
that they hold the code of each step for a while. One that needs a key not at hand waits, with what comes after it in
its record, for the end of the chunk: to make keys durable costs a sync of the disk, so a chunk's are made together.

Guarantees: every record gives its items, in order (none where it is an OTLP request without records); a key is durable
before anything is sealed under it; the event loop gets its turn every half a millisecond or so, or heartbeats of a
group would wait for a whole poll, and Postgres for its rows. A chunk is bounded by items and the bytes that they hold,
but for its last record, which has bounds of its own: what one record gives is committed with its offset or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec
from aiokafka import ConsumerRecord

from ingest.authority import is_otlp
from ingest.decode import Decoder, Record
from ingest.errors import Refused
from ingest.positions import Position
from ledger.append import Appender, Item
from ledger.errors import LeafTooLarge
from ledger.seal import Pending

CHUNK_BYTES_MAX = 4 << 20
RECORD_HELD_BYTES_MAX = 48 << 20  # of all entries that one record gives: a resource stands in each of its spans again
RECORD_ENTRIES_MAX = 20_000  # about 100 MB while they wait; a record of 16 MiB holds about half as many spans
YIELD_EVERY = 16  # entries decoded, then sealed, between two looks at the sockets: Postgres waits there for its rows
YIELD_BYTES = 1 << 18  # and bytes, for large records

# A rejection for one of these may only mean that the registry was read before the tenant or key was added.
_REGISTRY_REASONS = frozenset({"unknown_tenant", "bad_signature"})


class Read(msgspec.Struct):
    """One record and what it gave: `items` are its entries sealed; while its chunk is read, the first of them."""

    record: ConsumerRecord
    pendings: list[Pending]
    held_bytes: int
    items: list[Item]


class Reader:
    """Decodes and seals. `decoder` and `appender` are replaced by its owner when the registry or connection is new."""

    decoder: Decoder
    appender: Appender

    def __init__(self, chunk_items_max: int, position_of: Callable[[ConsumerRecord], Position | None]) -> None:
        self._chunk_items_max = chunk_items_max
        self._position_of = position_of
        self._entries = 0
        self._bytes = 0

    async def read(
        self, records: Sequence[ConsumerRecord], at: int, refresh: Callable[[], Awaitable[None]]
    ) -> tuple[list[Read], int]:
        """Read one chunk of the records from `at` on: (what was read, where the next chunk begins).

        `refresh` reads the registry anew; awaited where a record may name a tenant or key that was registered since.
        Raises what the key store raises; nothing is remembered of a chunk that failed.
        """
        reads: list[Read] = []
        unknown: list[Read] = []
        sealed = entries = size = 0
        while at < len(records) and entries < self._chunk_items_max and size < CHUNK_BYTES_MAX:
            record = records[at]
            at += 1
            if self._is_due(len(record.value or b"")):
                self._seal_at_hand(reads[sealed:])
                sealed = len(reads)
                await asyncio.sleep(0)
            read = await self._decode_request(record) if is_otlp(record.topic) else self._decode(record)
            for pending in read.pendings:
                if pending.event.kind == "rejected" and pending.event.data["reason"] in _REGISTRY_REASONS:
                    unknown.append(read)
                    break
            reads.append(read)
            entries += len(read.pendings)
            size += read.held_bytes
        self._seal_at_hand(reads[sealed:])
        if unknown:
            await refresh()
            for read in unknown:
                record = read.record
                again = await self._decode_request(record) if is_otlp(record.topic) else self._decode(record)
                read.pendings, read.held_bytes, read.items = again.pendings, again.held_bytes, again.items
        waiting = [read for read in reads if len(read.items) < len(read.pendings)]
        self.appender.prepare(pending for read in waiting for pending in read.pendings)
        for read in waiting:
            for pending in read.pendings[len(read.items) :]:
                if self._is_due(len(pending.received)):
                    await asyncio.sleep(0)
                read.items.append(self._seal(pending, read.record))
        return reads, at

    def _decode(self, record: ConsumerRecord) -> Read:
        return Read(record, [self.decoder.decode(self._given(record))], len(record.value or b""), [])

    async def _decode_request(self, record: ConsumerRecord) -> Read:
        given = self._given(record)
        size = len(given.value or b"")
        read = Read(record, [], 0, [])
        for pending in self.decoder.decode_request(given):
            read.pendings.append(pending)
            if self._is_due(len(pending.received)):
                self._seal_at_hand([read])
                await asyncio.sleep(0)
            read.held_bytes += len(pending.received) + sum(len(one.value) for one in pending.event.content)
            if len(read.pendings) > RECORD_ENTRIES_MAX or read.held_bytes > RECORD_HELD_BYTES_MAX:
                detail = (
                    f"the record gives more than {RECORD_ENTRIES_MAX:,} entries, or they hold more than"
                    f" {RECORD_HELD_BYTES_MAX:,} bytes"
                )
                return Read(record, [self.decoder.refuse(Refused("too_large", detail), given)], size, [])
        read.held_bytes = max(read.held_bytes, size)
        return read

    def _given(self, record: ConsumerRecord) -> Record:
        position = self._position_of(record)
        cluster, topic_id, intake = (position.cluster, position.topic_id, position.log) if position else ("", None, "")
        value, headers, key = record.value, record.headers, record.key
        return Record(cluster, record.topic, topic_id, record.partition, record.offset, value, headers, key, intake)

    def _seal_at_hand(self, reads: Iterable[Read]) -> None:
        """Seal the entries of each record up to the first one that needs a key not at hand."""
        for read in reads:
            items, pendings = read.items, read.pendings
            while len(items) < len(pendings):
                pending = pendings[len(items)]
                try:
                    item = self.appender.seal_at_hand(pending)
                except LeafTooLarge:
                    item = self._rejected(pending, read.record)
                if item is None:
                    break
                items.append(item)

    def _seal(self, pending: Pending, record: ConsumerRecord) -> Item:
        try:
            return self.appender.seal(pending)
        except LeafTooLarge:
            return self._rejected(pending, record)

    def _rejected(self, pending: Pending, record: ConsumerRecord) -> Item:
        """In the place of an entry whose public part fits no leaf."""
        rejected = self.decoder.too_large(pending, record.headers, record.key)
        self.appender.prepare([rejected])
        return self.appender.seal(rejected)

    def _is_due(self, size: int) -> bool:
        """Count one entry; whether others should have a turn now."""
        self._entries += 1
        self._bytes += size
        if self._entries < YIELD_EVERY and self._bytes < YIELD_BYTES:
            return False
        self._entries = self._bytes = 0
        return True
