"""Reading: from polled Kafka records to sealed items, before any lock is taken.

A few dozen entries are decoded, then sealed: few enough that the processor's caches still hold them, many enough that
they hold the code of each step for a while. What was decoded is dropped as soon as it is sealed, since a batch of it
takes several times what its drafts take, and is slow to make and to free for it. An entry that needs a key not at hand
waits for the end of the chunk: to make keys durable costs a sync of the disk, so a chunk's are made together.

Guarantees: every record gives its items, in order (none where it is an OTLP request without records); a key is durable
before anything is sealed under it; the event loop gets its turn every half a millisecond or so, or heartbeats of a
group would wait for a whole poll, and Postgres for its rows. A chunk is bounded by items and the bytes that they hold,
but for its last record, which has bounds of its own: what one record gives is committed with its offset or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

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
GROUP = 64  # entries decoded, then sealed
YIELD_EVERY = 32  # entries decoded or sealed between two looks at the sockets: Postgres waits there for its rows
YIELD_BYTES = 1 << 18  # and bytes, for large records
KEY_BYTES = 1024  # what the key of a data subject takes: an entry may name hundreds
HEADER_BYTES = 100  # and what a header takes, besides its name and value


class Stretch(msgspec.Struct):
    """Records of one partition that came one after another, `last` the last one's offset, and what they gave."""

    topic: str
    partition: int
    last: int
    records: int
    items: list[Item]
    held_bytes: int


class _Decoded(NamedTuple):
    """An entry to be sealed into `items`, and the record it is of. `again` makes it once more, of the record alone."""

    items: list[Item]
    pending: Pending
    given: Record
    again: Callable[[Record], Pending] | None


class Reader:
    """Decodes and seals. `decoder` and `appender` are replaced by its owner when the registry or connection is new."""

    decoder: Decoder
    appender: Appender

    def __init__(
        self,
        chunk_items_max: int,
        position_of: Callable[[ConsumerRecord], Position | None],
        now: Callable[[], str],
    ) -> None:
        """`now`: the ledger's time as a leaf's timestamp."""
        self._chunk_items_max = chunk_items_max
        self._position_of = position_of
        self._now = now
        self._steps = 0
        self._bytes = 0
        self._group: list[_Decoded] = []
        self._waiting: list[tuple[int, _Decoded]] = []  # for a key, with their places among their items
        self._refresh: Callable[[], Awaitable[None]] | None = None

    async def read(
        self, records: Sequence[ConsumerRecord], at: int, refresh: Callable[[], Awaitable[None]]
    ) -> tuple[list[Stretch], int]:
        """Read one chunk of the records from `at` on: (what was read, where the next chunk begins).

        `refresh` reads the registry anew; awaited once, where a record may name a tenant or key that was registered
        since. Raises what the key store raises; nothing is remembered of a chunk that failed.
        """
        self._group, self._waiting, self._refresh = [], [], refresh
        stretches: list[Stretch] = []
        stretch = Stretch("", -1, -1, 0, [], 0)
        entries = size = 0
        read_at = self._now()
        decode = self.decoder.decode
        while at < len(records) and entries < self._chunk_items_max and size < CHUNK_BYTES_MAX:
            record = records[at]
            topic, partition, value = record.topic, record.partition, record.value
            at += 1
            if partition != stretch.partition or topic != stretch.topic:
                stretch = Stretch(topic, partition, -1, 0, [], 0)
                stretches.append(stretch)
                of_requests = is_otlp(topic)
                cluster, topic_id, intake = self._place_of(record)
            given = Record(
                cluster, topic, topic_id, partition, record.offset, value, record.headers, record.key, intake, read_at
            )
            held = _bytes_of(given)
            if self._is_due(held):
                await asyncio.sleep(0)
            if of_requests:
                found, held = await self._decode_request(stretch.items, given, held)
                entries += found
                decode = self.decoder.decode  # the registry may have been read anew
            else:
                pending = decode(given)
                if self.decoder.is_unknown(pending, topic) and await self._has_refreshed():
                    decode = self.decoder.decode
                    pending = decode(given)
                self._group.append(_Decoded(stretch.items, pending, given, decode if _is_quick(pending) else None))
                entries += 1
                held += _bytes_besides(pending)
            if len(self._group) >= GROUP:
                await self._seal_group()
            stretch.last = record.offset
            stretch.records += 1
            stretch.held_bytes += held
            size += held
        await self._seal_group()
        self.appender.prepare(decoded.pending for _, decoded in self._waiting)
        for place, decoded in self._waiting:
            if self._is_due(len(decoded.pending.received)):
                await asyncio.sleep(0)
            decoded.items[place] = self._seal(decoded)
        self._waiting.clear()
        return stretches, at

    def _place_of(self, record: ConsumerRecord) -> tuple[str, str | None, str]:
        """(cluster, topic id, intake log) of a record's partition; of one that is lost meanwhile nothing is used."""
        position = self._position_of(record)
        return (position.cluster, position.topic_id, position.log) if position else ("", None, "")

    async def _decode_request(self, items: list[Item], given: Record, size: int) -> tuple[int, int]:
        """Decode a record of that size, an OTLP request, into the group: (entries, bytes that they hold)."""
        await self._seal_group()  # so that the group is of this record alone, and can be taken back
        first, waiting = len(items), len(self._waiting)
        held = found = 0
        for pending in self.decoder.decode_request(given):
            if self.decoder.is_unknown(pending, given.topic) and await self._has_refreshed():
                self._take_back(items, first, waiting)
                return await self._decode_request(items, given, size)
            self._group.append(_Decoded(items, pending, given, None))
            found += 1
            if self._is_due(len(pending.received)):
                await asyncio.sleep(0)
            if len(self._group) >= GROUP:
                await self._seal_group()
            held += len(pending.received) + sum(len(one.value) for one in pending.event.content)
            held += KEY_BYTES * len(pending.event.subjects)
            if found > RECORD_ENTRIES_MAX or held > RECORD_HELD_BYTES_MAX:
                self._take_back(items, first, waiting)
                detail = (
                    f"the record gives more than {RECORD_ENTRIES_MAX:,} entries, or they hold more than"
                    f" {RECORD_HELD_BYTES_MAX:,} bytes"
                )
                refused = self.decoder.refuse(Refused("too_large", detail), given)
                self._group.append(_Decoded(items, refused, given, None))
                return 1, size
        return found, max(held, size)

    def _take_back(self, items: list[Item], first: int, waiting: int) -> None:
        """Forget what a record gave: everything in the group, and all from these places on."""
        self._group.clear()
        del items[first:], self._waiting[waiting:]

    async def _has_refreshed(self) -> bool:
        """Read the registry anew, unless that was done since the records of this chunk were fetched."""
        refresh, self._refresh = self._refresh, None
        if refresh is None:
            return False
        await refresh()
        return True

    async def _seal_group(self) -> None:
        """Seal what was decoded; what needs a key not at hand keeps its place and waits."""
        for decoded in self._group:
            items, pending, given, again = decoded
            if self._is_due(len(pending.received)):
                await asyncio.sleep(0)
            try:
                item = self.appender.seal_at_hand(pending, given, again)
            except LeafTooLarge:
                item = self._rejected(decoded)
            if item is None:
                self._waiting.append((len(items), decoded))
            items.append(item)  # type: ignore[arg-type]  # None until the chunk's keys are made
        self._group.clear()

    def _seal(self, decoded: _Decoded) -> Item:
        try:
            return self.appender.seal(decoded.pending, decoded.given, decoded.again)
        except LeafTooLarge:
            return self._rejected(decoded)

    def _rejected(self, decoded: _Decoded) -> Item:
        """In the place of an entry whose public part fits no leaf."""
        rejected = self.decoder.too_large(decoded.pending, decoded.given.headers, decoded.given.key)
        self.appender.prepare([rejected])
        return self.appender.seal(rejected)

    def _is_due(self, size: int) -> bool:
        """Count one entry decoded or sealed; whether others should have a turn now."""
        self._steps += 1
        self._bytes += size
        if self._steps < YIELD_EVERY and self._bytes < YIELD_BYTES:
            return False
        self._steps = self._bytes = 0
        return True


def _is_quick(pending: Pending) -> bool:
    """Whether an accepted event costs little to make again: no signature is checked."""
    return pending.received_sig is None and pending.event.attestation is None


def _bytes_besides(pending: Pending) -> int:
    """What an entry takes besides its record: keys of data subjects, and what is kept of a refused record once more."""
    event = pending.event
    kept = sum(len(one.value) for one in event.content) if event.kind == "rejected" else 0
    return kept + KEY_BYTES * len(event.subjects)


def _bytes_of(given: Record) -> int:
    """About what a record takes in memory."""
    size = len(given.value or b"") + len(given.key or b"")
    for name, value in given.headers:
        size += HEADER_BYTES + len(name) + len(value or b"")
    return size
