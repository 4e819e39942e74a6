"""Reading: from polled Kafka records to sealed items, before any lock is taken.

Guarantees: every record gives its items, in order (none where it is an OTLP request without records); the keys of a
chunk are durable before any of it is sealed; the event loop gets its turn about every millisecond, or heartbeats of a
group would wait for a whole poll. A chunk is bounded by items and the bytes that they hold, but for its last record,
which has bounds of its own: what one record gives is committed with its offset or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from ingest.authority import is_otlp
from ingest.decode import Decoder, Record
from ingest.errors import Refused
from ingest.positions import Position
from ledger.append import Appender, Item
from ledger.errors import LeafTooLarge
from ledger.seal import Pending

CHUNK_BYTES_MAX = 8 << 20
RECORD_HELD_BYTES_MAX = 48 << 20  # of all entries that one record gives: a resource stands in each of its spans again
RECORD_ENTRIES_MAX = 20_000  # about 100 MB while they wait; a record of 16 MiB holds about half as many spans
YIELD_EVERY = 32  # entries between two looks at the sockets, about a millisecond of work
YIELD_BYTES = 1 << 18  # and bytes, for large records

# A rejection for one of these may only mean that the registry was read before the tenant or key was added.
_REGISTRY_REASONS = frozenset({"unknown_tenant", "bad_signature"})


@dataclass(slots=True)
class Read:
    """One record and what it gave."""

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
        entries = size = 0
        while at < len(records) and entries < self._chunk_items_max and size < CHUNK_BYTES_MAX:
            record = records[at]
            at += 1
            read = await self._decode(record)
            for pending in read.pendings:
                if pending.event.kind == "rejected" and pending.event.data["reason"] in _REGISTRY_REASONS:
                    unknown.append(read)
                    break
            reads.append(read)
            entries += len(read.pendings)
            size += read.held_bytes
        if unknown:
            await refresh()
            for read in unknown:
                again = await self._decode(read.record)
                read.pendings, read.held_bytes = again.pendings, again.held_bytes
        self.appender.prepare(pending for read in reads for pending in read.pendings)
        for read in reads:
            for pending in read.pendings:
                if self._is_due(len(pending.received)):
                    await asyncio.sleep(0)
                read.items.append(self._seal(pending, read.record))
        return reads, at

    async def _decode(self, record: ConsumerRecord) -> Read:
        position = self._position_of(record)
        value = record.value
        given = Record(
            cluster=position.cluster if position else "",
            topic=record.topic,
            topic_id=position.topic_id if position else None,
            partition=record.partition,
            offset=record.offset,
            value=value,
            headers=record.headers,
            key=record.key,
            intake=position.log if position else "",
        )
        if not is_otlp(record.topic):
            if self._is_due(len(value or b"")):
                await asyncio.sleep(0)
            return Read(record, [self.decoder.decode(given)], len(value or b""), [])
        pendings: list[Pending] = []
        held_bytes = 0
        for pending in self.decoder.decode_request(given):
            pendings.append(pending)
            if self._is_due(len(pending.received)):
                await asyncio.sleep(0)
            held_bytes += len(pending.received) + sum(len(one.value) for one in pending.event.content)
            if len(pendings) > RECORD_ENTRIES_MAX or held_bytes > RECORD_HELD_BYTES_MAX:
                detail = (
                    f"the record gives more than {RECORD_ENTRIES_MAX:,} entries, or they hold more than"
                    f" {RECORD_HELD_BYTES_MAX:,} bytes"
                )
                refused = self.decoder.refuse(Refused("too_large", detail), given)
                return Read(record, [refused], len(value or b""), [])
        return Read(record, pendings, max(held_bytes, len(value or b"")), [])

    def _seal(self, pending: Pending, record: ConsumerRecord) -> Item:
        try:
            return self.appender.seal(pending)
        except LeafTooLarge:
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
