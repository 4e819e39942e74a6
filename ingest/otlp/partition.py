"""A partition of a topic as the gateway writes it: records gather in a batch while the batch before is on its way.

Guarantees: the records of a partition are sent in the order in which they were added; what is held is bounded by two
batches on their way and one that gathers, each of BATCH_BYTES or of one record that is larger; a future of a batch is
resolved when all in-sync replicas have it, or has the error. A record added alone is sent at once.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError

from ingest.otlp.recordbatch import Records, Sealed

BATCH_BYTES: Final = 2 * 1024 * 1024  # before compression; what one flush to disk takes with it
FULL_BYTES: Final = 1024 * 1024  # from here on a batch need not wait until the one before is acknowledged
ALOFT_MAX: Final = 2  # batches: one in a request to Kafka, one for the next
INLINE_BYTES: Final = 16 * 1024  # compressed in less time than another thread needs to begin

log = structlog.get_logger("tallystick.otlp")

Acknowledged = asyncio.Future[None]


class Sealer:
    """Compresses batches, on a thread of its own: one core compresses more than the event loop's can take in."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "sealing")
        self._scratch = bytearray(BATCH_BYTES)

    async def seal(self, records: Records) -> Sealed:
        """The batch, to which nothing may be added any more."""
        if records.size < INLINE_BYTES:
            return records.seal(bytearray(INLINE_BYTES))
        return await asyncio.get_running_loop().run_in_executor(self._thread, records.seal, self._scratch)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


class PartitionWriter:
    """Writes to one partition by one producer (aiokafka's), from when it is made until `close`."""

    def __init__(self, producer: Any, sealer: Sealer, topic: str, partition: int) -> None:
        self._producer = producer
        self._sealer = sealer
        self._topic = topic
        self._partition = partition
        self._records = Records()
        self._acknowledged: Acknowledged = asyncio.get_running_loop().create_future()
        self._aloft: set[Acknowledged] = set()
        self._due = asyncio.Event()  # there is a batch to send
        self._taken = asyncio.Event()  # there is room again
        self._writing = asyncio.create_task(self._write())

    def offer(self, key: bytes | None, value: bytes, headers: bytes, now_ms: int) -> Acknowledged | None:
        """Add a record; what is returned resolves when Kafka has it. None where there is no room: see `room`."""
        records = self._records
        if records.count and records.size + len(value) > BATCH_BYTES:
            return None
        records.add(key, value, headers, now_ms)
        if not self._aloft or records.size >= FULL_BYTES:
            self._look()
        return self._acknowledged

    async def room(self) -> None:
        """Return when the batch that gathered is on its way."""
        self._taken.clear()
        await self._taken.wait()

    async def flush(self) -> None:
        """Return when nothing is left."""
        while self._records.count or self._aloft:
            await asyncio.wait({self._acknowledged, *self._aloft}, return_when=asyncio.FIRST_COMPLETED)

    async def close(self, error: KafkaError) -> None:
        """Send nothing more. What is not acknowledged has this error."""
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        for acknowledged in (self._acknowledged, *self._aloft):
            _fail(acknowledged, error)

    def _look(self) -> None:
        """See whether the batch that gathers is due."""
        if self._is_due():
            self._due.set()

    def _is_due(self) -> bool:
        size = self._records.size
        if not self._aloft:
            return size > 0
        return len(self._aloft) < ALOFT_MAX and FULL_BYTES <= size <= BATCH_BYTES + FULL_BYTES

    async def _write(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if not self._is_due():
                continue
            records, acknowledged = self._records, self._acknowledged
            self._records, self._acknowledged = Records(), asyncio.get_running_loop().create_future()
            self._aloft.add(acknowledged)
            self._taken.set()
            try:
                sent = await self._send(await self._sealer.seal(records))
            except (KafkaError, MemoryError) as error:
                self._landed(acknowledged, error)
            else:
                sent.add_done_callback(partial(self._told, acknowledged))
            del records

    async def _send(self, sealed: Sealed) -> asyncio.Future[Any]:
        while True:
            try:
                sent: asyncio.Future[Any] = await self._producer.send_batch(
                    sealed, self._topic, partition=self._partition
                )
                return sent
            except KafkaTimeoutError:  # the batch before is still there, and waits for Kafka: so does this one
                log.debug("Kafka takes no batch", topic=self._topic, partition=self._partition)

    def _told(self, acknowledged: Acknowledged, sent: asyncio.Future[Any]) -> None:
        if sent.cancelled():
            self._landed(acknowledged, KafkaError("the producer was closed"))
        else:
            self._landed(acknowledged, sent.exception())

    def _landed(self, acknowledged: Acknowledged, error: BaseException | None) -> None:
        self._aloft.discard(acknowledged)
        if error is not None:
            _fail(acknowledged, error if isinstance(error, KafkaError) else KafkaError(repr(error)))
        elif not acknowledged.done():
            acknowledged.set_result(None)
        self._look()


def _fail(acknowledged: Acknowledged, error: BaseException) -> None:
    """Whoever still waits gets the error; that nobody does is no mistake."""
    if not acknowledged.done():
        acknowledged.set_exception(error)
        acknowledged.exception()
