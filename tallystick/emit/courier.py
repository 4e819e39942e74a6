"""Carries entries from the buffer to Kafka: one task, on whichever loop it is given.

Guarantees: an entry is acknowledged only when all replicas in sync have it (acks=all); one producer is idempotent, so
its retries add nothing twice and keep the order. When a producer has to be given up (broker state lost, nothing moved
for STALL_S), what was in flight is sent again, in order, by a new one: at least once, under the same event ids, which
the ledger appends once. It never ends by itself: Kafka down, a wrong password, a missing topic are waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError

from .buffer import Buffer, Entry
from .encode import Signer

log = logging.getLogger("tallystick.emit")

STALL_S = 30.0
CONNECT_TIMEOUT_S = 15.0
ABANDON_TIMEOUT_S = 1.0
BACKOFF_S = (0.2, 5.0)  # first and longest pause between two attempts to connect
LINGER_S = 0.005  # how often to look for events, and let a burst gather; at once when somebody waits
IDLE_S, IDLE_LOOK_S = 1.0, 0.02  # after this long without events, look this often
EVENTS_A_TURN = 16  # then the loop's other tasks have theirs: it may be the agent's loop
BATCH_BYTES = 256 * 1024  # a partition's batch; a larger event travels alone
DEFAULTS = {"max_batch_size": BATCH_BYTES, "request_timeout_ms": int(STALL_S * 1000), "retry_backoff_ms": 500}
GUARANTEES = {"acks": "all", "enable_idempotence": True}  # not to be configured away
CONTENT_TYPE = ("content-type", b"application/cloudevents+json")
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class BackgroundLoop(asyncio.SelectorEventLoop):
    """A loop that looks names up in its own thread. The default executor refuses work once the interpreter is on
    its way out, which is just when the last events must be sent."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> Any:
        return socket.getaddrinfo(host, port, **hints)


class Courier:
    """`run()` delivers until it is cancelled; `connected` and `problem` say how it stands."""

    def __init__(
        self, buffer: Buffer, topic: str, tenant: str | None, signer: Signer | None, kafka: Mapping[str, Any]
    ) -> None:
        self._buffer, self._topic, self._tenant, self._signer = buffer, topic, tenant or "", signer
        self._kafka = kafka
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._broken: BaseException | None = None
        self._moved_at = self._busy_at = 0.0
        self.connected = False
        self.problem: str | None = None

    def wake(self) -> None:
        """From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended; whoever starts a courier again wakes it
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Connect, deliver, and start over on any trouble. Ends only by cancellation; then what was in flight is
        queued again, for whoever comes next."""
        self._loop = asyncio.get_running_loop()
        self._buffer.wake = self.wake
        pause = BACKOFF_S[0]
        while True:
            producer: AIOKafkaProducer | None = None
            try:
                producer = AIOKafkaProducer(**(DEFAULTS | dict(self._kafka) | GUARANTEES))
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await producer.start()
                self._report(None)
                pause = BACKOFF_S[0]
                await self._deliver(producer)
            except TOO_LARGE as problem:  # Kafka is there: what failed is sent again, one by one
                log.warning("Kafka refused a batch: %s", problem)
            except Exception as problem:  # whatever the driver raises, the agent must not feel it: say it, try again
                self._report(problem)
            finally:
                self.connected = False
                if producer is not None:
                    await _abandon(producer)
                await asyncio.sleep(0)  # acknowledgements that just came in are still counted
                self._broken = None
                self._buffer.recover()
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACKOFF_S[1])

    async def _deliver(self, producer: AIOKafkaProducer) -> None:
        for turn in itertools.count():
            if turn % EVENTS_A_TURN == 0:
                await asyncio.sleep(0)
            if self._broken is not None:
                raise self._broken
            if not self._buffer.in_flight:
                self._moved_at = time.monotonic()
            elif time.monotonic() - self._moved_at >= STALL_S:
                raise KafkaTimeoutError(f"no acknowledgement for {STALL_S:.0f} s")
            entry = self._buffer.take()
            if entry is None:
                await self._rest()
                continue
            self._busy_at = time.monotonic()
            try:
                value = entry.value()
                headers = [CONTENT_TYPE]
                if self._signer is not None:
                    headers.append(("tallystick-sig", self._signer.header(self._tenant, value)))
                if entry.alone:
                    await _flush(producer)
                sent = await producer.send(self._topic, value, key=entry.key, headers=headers)
            except TOO_LARGE:
                self._buffer.give_up(entry, "too_large")
            else:
                sent.add_done_callback(partial(self._settled, entry))
                if entry.alone:
                    await _flush(producer)

    def _settled(self, entry: Entry, sent: asyncio.Future[Any]) -> None:
        problem = None if sent.cancelled() else sent.exception()
        if sent.cancelled():
            return
        self._moved_at = time.monotonic()
        if problem is None:
            self._buffer.acknowledge(entry)
            return
        if isinstance(problem, TOO_LARGE):
            if entry.alone:
                self._buffer.give_up(entry, "too_large")
            entry.alone = True  # which of the batch was it? each is sent again by itself
        self._broken = problem  # the broker expects other numbers now: only a new producer can go on
        self._wake.set()

    async def _rest(self) -> None:
        """Until somebody waits for an event, or it is time to look."""
        idle = time.monotonic() - self._busy_at > IDLE_S
        self._wake.clear()
        # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the result.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_LOOK_S if idle else LINGER_S):
                await self._wake.wait()

    def _report(self, problem: BaseException | None) -> None:
        """One line when Kafka goes and one when it is back, not one an attempt."""
        text = None if problem is None else f"{type(problem).__name__}: {problem}"
        if text is None and self.problem is not None:
            log.info("Kafka is there again: sending what was kept")
        elif text is not None and self.problem is None:
            log.warning("events can't be delivered to Kafka; they are kept, and sending is tried again: %s", text)
        self.connected, self.problem = problem is None, text


async def _flush(producer: AIOKafkaProducer) -> None:
    async with asyncio.timeout(STALL_S):
        await producer.flush()


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Close a producer without waiting for what it still holds: `stop()` would wait for Kafka, for ever when it is
    down. Reaches into aiokafka 0.14 (pinned), which has no such call."""
    producer._closed = True
    for close in (producer._sender.close, producer.client.close):
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(ABANDON_TIMEOUT_S):
                await close()
