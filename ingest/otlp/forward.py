"""The gateway's way to Kafka.

Guarantees: `send` returns when every record of a request is acknowledged by all in-sync replicas, and raises Failure
within DELIVERY_S (more, where it is large) otherwise; what it holds is bounded by a batch or two per partition. A
request that failed may be in Kafka in part, or come to be later: sent again it is the same spans, which the ledger
takes once.

While Kafka does not take anything, one request at a time is tried; the others are told at once to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest.otlp.answers import Failure
from ingest.otlp.split import Part
from ingest.otlp.wire import OVERSIZED_HEADER, TENANT_HEADER, Signal

DELIVERY_S: Final = 3.0  # exporters give a batch 10 s with all its retries: a second try must fit
DELIVERY_BYTES_S: Final = 16 * 1024 * 1024  # a request gets a second more for each so many bytes,
DELIVERY_MORE_S: Final = 4.0  # up to that
RETRY_S: Final = 1
RETRY_LONG_S: Final = 5  # when Kafka is away for longer than LONG_S, and there is no hurry any more
LONG_S: Final = 15.0
AHEAD_MAX: Final = 512  # records of one request whose acknowledgement is not in yet
BATCH_BYTES: Final = 2 * 1024 * 1024  # of a partition; what one flush to disk takes with it
COMPRESSION: Final = "snappy"  # text shrinks to less than half; what is flushed to disk is the bound
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
CLOSE_S: Final = 5.0

TOPICS: Final[Mapping[Signal, str]] = {"spans": "tally.gateway.spans", "logs": "tally.gateway.logs"}

log = structlog.get_logger("tallystick.otlp")


@dataclass(slots=True)
class Forward:
    """Sends to one Kafka. `client`: security settings for aiokafka. Run within `running`."""

    bootstrap: str
    client: Mapping[str, Any] = field(default_factory=dict)
    topics: Mapping[Signal, str] = field(default_factory=lambda: TOPICS)
    delivery_s: float = DELIVERY_S
    _producer: AIOKafkaProducer | None = None
    _broken: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _stalled: bool = False
    _well_at: float = field(default_factory=time.monotonic)  # when Kafka was last known to take records
    _probing: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a producer while this lasts, with whatever Kafka does; what was sent is flushed at the end."""
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def started(self, timeout_s: float) -> bool:
        """Whether Kafka answers, having waited for it that long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._started.wait()
        return self._started.is_set()

    def check(self) -> None:
        """Raise Failure where a request would not be tried now, so that it need not be read."""
        if self._producer is None:
            raise self._unavailable("Kafka does not answer")
        if self._stalled and self._probing:
            raise self._unavailable("Kafka does not take records")

    def _unavailable(self, message: str) -> Failure:
        """Come again: soon at first, while what fails may be a moment's, as when a partition gets another leader."""
        away_s = time.monotonic() - self._well_at
        return Failure("unavailable", message, RETRY_S if away_s < LONG_S else RETRY_LONG_S)

    async def send(
        self, signal: Signal, parts: Iterable[Part], tenant: str | None, default: str, size: int = 0
    ) -> None:
        """Return when Kafka has all parts, of so many bytes. `tenant`: the sender's; None: a part's or the default."""
        self.check()
        delivery_s = self.delivery_s + min(size / DELIVERY_BYTES_S, DELIVERY_MORE_S)
        if not self._stalled:
            self._well_at = time.monotonic()
        probe = self._stalled
        self._probing |= probe
        try:
            async with asyncio.timeout(delivery_s):
                await self._send(self._producer, signal, parts, tenant, default)
        except TimeoutError as error:
            if not self._stalled:
                log.warning("Kafka does not take records", waited_s=round(delivery_s, 1))
            self._stalled = True
            raise self._unavailable(f"Kafka did not acknowledge in {delivery_s:.0f} s") from error
        except KafkaError as error:
            log.warning("Kafka refused a record; a new producer is made", reason=f"{type(error).__name__}: {error}")
            self._broken.set()
            raise self._unavailable(f"Kafka: {type(error).__name__}") from error
        finally:
            if probe:
                self._probing = False
        if self._stalled:
            log.info("Kafka takes records again")
        self._stalled = False
        self._well_at = time.monotonic()

    async def _send(
        self, producer: Any, signal: Signal, parts: Iterable[Part], tenant: str | None, default: str
    ) -> None:
        topic = self.topics[signal]
        waiting: list[asyncio.Future[Any]] = []
        headers: dict[tuple[str, bool], list[tuple[str, bytes]]] = {}
        for part in parts:
            whose = tenant or part.tenant or default
            said = headers.get((whose, part.oversized))
            if said is None:
                said = [(TENANT_HEADER, whose.encode())]
                if part.oversized:
                    said.append((OVERSIZED_HEADER, b"1"))
                headers[(whose, part.oversized)] = said
            waiting.append(await producer.send(topic, part.value, key=part.key, headers=said))
            if len(waiting) >= AHEAD_MAX:
                await _acknowledged(waiting)
                waiting = []
        await _acknowledged(waiting)

    async def _keep(self) -> None:
        tries = 0
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                acks="all",
                enable_idempotence=True,
                compression_type=COMPRESSION,
                partitioner=_partition,
                max_batch_size=BATCH_BYTES,
                max_request_size=REQUEST_BYTES_MAX,
                request_timeout_ms=10_000,
                **self.client,
            )
            try:
                await producer.start()
                tries = 0
                self._broken.clear()
                self._producer = producer
                self._started.set()
                await self._broken.wait()
            except (KafkaError, OSError) as error:
                if tries == 0:
                    log.warning("Kafka does not answer", bootstrap=self.bootstrap, reason=str(error))
            finally:
                self._producer = None
                await _close(producer)
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1


def _partition(key: bytes | None, every: list[int], available: list[int]) -> int:
    """The partition of a run: always the same. Kafka's usual hash takes ten times as long here."""
    return random.choice(available or every) if key is None else every[zlib.crc32(key) % len(every)]  # noqa: S311


async def _acknowledged(waiting: list[asyncio.Future[Any]]) -> None:
    """Return when all are acknowledged. Raises the first failure."""
    if waiting:
        done, _ = await asyncio.wait(waiting)
        failures = [error for future in done if (error := future.exception()) is not None]
        if failures:
            raise failures[0]


async def _close(producer: AIOKafkaProducer) -> None:
    """Flush and close; a producer whose Kafka is away would wait for ever."""
    began = time.monotonic()
    stopping = asyncio.create_task(producer.stop())
    await asyncio.wait([stopping], timeout=CLOSE_S)
    if not stopping.done():
        log.warning("a producer could not be closed in order", waited_s=round(time.monotonic() - began, 1))
        stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
