"""Emitter and AsyncEmitter: the same events, buffer and courier; they differ in whose loop carries and how to wait.

`Emitter` carries on a daemon thread with its own loop, `AsyncEmitter` in a task on the running loop. `emit()` of either
may be called from any thread. A forked child begins anew: empty buffer, own producer id; the parent keeps its events.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import datetime as dt
import logging
import os
import ssl
import threading
import time
import weakref
from collections.abc import Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from . import encode
from .buffer import Buffer, Entry, Gap, Limits, Stats
from .courier import ABANDON_TIMEOUT_S, BackgroundLoop, Courier
from .encode import Signer
from .errors import EventError, NotYetRecordedError, RefusedError
from .kinds import Envelope, RunOptions
from .run import Run

log = logging.getLogger("tallystick.emit")

FRAME_BYTES = 128  # what stands between and after head and data

R = TypeVar("R")
_LIVE: weakref.WeakSet[_Base[Any]] = weakref.WeakSet()
_LEFT_TO_PARENT: list[object] = []  # loops and tasks a forked child must neither run nor let be collected


def kafka_from_environment() -> dict[str, Any]:
    """aiokafka's settings from TALLY_KAFKA_*, the same names as the server's. Raises EventError without an address."""

    def env(name: str) -> str | None:
        return os.environ.get(f"TALLY_KAFKA_{name}") or None

    if (bootstrap := env("BOOTSTRAP")) is None:
        raise EventError("bootstrap: expected host:port of Kafka as an argument or in TALLY_KAFKA_BOOTSTRAP, got none")
    protocol = env("SECURITY_PROTOCOL") or "PLAINTEXT"
    found = {
        "bootstrap_servers": bootstrap,
        "security_protocol": protocol,
        "sasl_mechanism": env("SASL_MECHANISM") or "SCRAM-SHA-512",
        "sasl_plain_username": env("SASL_USERNAME"),
        "sasl_plain_password": env("SASL_PASSWORD"),
        "ssl_context": ssl.create_default_context(cafile=env("CA_FILE")) if protocol.endswith("SSL") else None,
    }
    return {name: value for name, value in found.items() if value is not None}


class _Base(Generic[R]):
    """What both have. R is what a durable record gives: str, or an awaitable of it."""

    def __init__(
        self,
        bootstrap: str | None = None,
        *,
        source: str,
        tenant: str | None = None,
        topic: str = "tally.events",
        signer: Signer | None = None,
        limits: Limits | None = None,
        kafka: Mapping[str, Any] | None = None,
        exit_timeout_s: float = 5.0,
    ) -> None:
        """Connects to nothing yet. `source` names the runtime (CloudEvents `source`); `kafka` holds further
        arguments of AIOKafkaProducer (TLS, SASL). A signer needs a tenant: the signature covers it."""
        if signer is not None and tenant is None:
            raise EventError("tenant: expected one, since the signature covers it, got None")
        if not source:
            raise EventError("source: expected the runtime's name or URI, got ''")
        settings = {"bootstrap_servers": bootstrap} if bootstrap else kafka_from_environment()
        self._limits = limits or Limits()
        self._kafka = settings | {"max_request_size": self._limits.event_bytes_max + 64 * 1024} | dict(kafka or {})
        self._topic, self._tenant, self._signer = topic, tenant, signer
        self._head = encode.envelope_head(source, tenant)
        self._exit_timeout_s = exit_timeout_s
        self._begin()
        _LIVE.add(self)

    def _begin(self) -> None:
        """A new buffer (and producer id) and courier: at first, and in a forked child."""
        self._starting = threading.Lock()
        self._closed = False
        self._buffer = Buffer(self._limits, self._gap_entry)
        self._courier = Courier(self._buffer, self._topic, self._tenant, self._signer, self._kafka)

    # -- emitting

    def emit(self, kind: str, data: Mapping[str, Any] | None = None, **envelope: Unpack[Envelope]) -> str:
        """Queue one event and return its id, at once. `data` holds the kind's members (`actor` too).

        Raises EventError for an event that is wrong in itself, nothing for reasons of transport: what can't be kept
        is dropped and declared."""
        event_id, entry = self._entry(kind, data or {}, **envelope)
        if entry is not None:
            self._buffer.put(entry)
        else:
            log.error("%s event %s is too large without its content, too: dropped and declared", kind, event_id)
            self._buffer.skip(envelope.get("run"), "too_large")
        self._start()
        return event_id

    def record(
        self, kind: str, data: Mapping[str, Any] | None = None, *, timeout: float = 10.0, **envelope: Unpack[Envelope]
    ) -> R:
        """Emit, and return the event's id only when Kafka has it (acks=all); for use before a write.

        Raises NotYetRecordedError after `timeout` seconds (the event stays queued), RefusedError if it can't be
        queued or was given up, EventError if it is wrong in itself. On any of them: don't write."""
        raise NotImplementedError

    def run(self, run_id: str | None = None, **given: Unpack[RunOptions]) -> Run[R]:
        """A run, to be used as `with emitter.run(workflow=…, agent=…) as run:` (in async code too: it never waits)."""
        return Run(self, run_id, given)

    def _durably(
        self, kind: str, data: Mapping[str, Any], envelope: Envelope
    ) -> tuple[str, concurrent.futures.Future[None]]:
        event_id, entry = self._entry(kind, data, **envelope)
        if entry is None:
            raise RefusedError(f"the event is over {self._limits.event_bytes_max} bytes without its content, too")
        entry.waiter = concurrent.futures.Future()
        entry.waiter.set_running_or_notify_cancel()  # a caller that gives up does not withdraw the event
        entry.critical = True
        self._buffer.put(entry)
        self._start()
        return event_id, entry.waiter

    def _entry(
        self,
        kind: str,
        data: Mapping[str, Any],
        *,
        run: str | None = None,
        event_id: str | None = None,
        at: dt.datetime | None = None,
        traceparent: str | None = None,
        data_subjects: Iterable[str] = (),
    ) -> tuple[str, Entry | None]:
        if run is not None:
            encode.check_run_id(run)
        encode.check_amounts(kind, data)
        event_id = event_id or encode.uuid7()
        subjects = (data_subjects,) if isinstance(data_subjects, str) else data_subjects
        head = encode.envelope(self._head, kind, event_id, run, encode.timestamp(at), traceparent, subjects)
        members = data if isinstance(data, dict) else dict(data)
        body: bytes | None = encode.encode_data(members)
        room = self._limits.event_bytes_max - len(head) - FRAME_BYTES
        if body is not None and len(body) > room:
            body = encode.trimmed(members, room)
        if body is None:
            return event_id, None
        return event_id, Entry(head, encode.envelope_tail(body), run, _key(run, data), encode.is_critical(kind, data))

    def _gap_entry(self, run: str | None, producer: str, gap: Gap) -> Entry:
        data = {"src": producer, "from": gap.first, "to": gap.last, "count": gap.count, "cause": gap.cause}
        head = encode.envelope(self._head, "producer_gap", encode.uuid7(), run, encode.timestamp(), None, ())
        return Entry(head, encode.envelope_tail(encode.encode_data(data)), run, _key(run, data), True)

    @property
    def stats(self) -> Stats:
        """Counts, what is held, whether Kafka is connected and, if not, why."""
        return self._buffer.stats(self._courier.connected, self._courier.problem)

    def _not_yet(self, timeout: float) -> NotYetRecordedError:
        why = self._courier.problem or "Kafka did not acknowledge it"
        return NotYetRecordedError(f"not recorded within {timeout} s, still queued: {why}")

    # -- life

    def _start(self) -> None:
        raise NotImplementedError

    def _at_exit(self) -> None:
        raise NotImplementedError

    def _left_behind(self) -> list[object]:
        """What a forked child must keep but not touch."""
        raise NotImplementedError

    def _end(self) -> bool:
        self._closed = True
        left = self._buffer.close()
        if left:
            log.error("closed with %d events that Kafka did not acknowledge: they are lost", left)
        return not left


def _key(run: str | None, data: Mapping[str, Any]) -> bytes | None:
    """The run's id; for an event of no run its work item's id (outcomes), else none."""
    if run is not None:
        return run.encode()
    item = data.get("work_item")
    return str(item["id"]).encode(errors="replace") if isinstance(item, Mapping) and "id" in item else None


class Emitter(_Base[str]):
    """For synchronous agents. `with Emitter(…) as emitter:` flushes at the end; so does the interpreter's exit."""

    def _begin(self) -> None:
        super()._begin()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def _left_behind(self) -> list[object]:
        return [self._thread, self._loop, self._task, self._courier]

    def _start(self) -> None:
        if self._thread is not None or self._closed:
            return
        with self._starting:
            if self._thread is None:
                self._loop = BackgroundLoop()
                self._thread = threading.Thread(target=self._carry, args=(self._loop,), name="tallystick-emit")
                self._thread.daemon = True
                self._thread.start()

    def _carry(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._task = loop.create_task(self._courier.run())
        try:
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(self._task)
        finally:
            loop.close()

    def record(
        self, kind: str, data: Mapping[str, Any] | None = None, *, timeout: float = 10.0, **envelope: Unpack[Envelope]
    ) -> str:
        event_id, waiter = self._durably(kind, data or {}, envelope)
        try:
            waiter.result(timeout)
        except TimeoutError:
            raise self._not_yet(timeout) from None
        return event_id

    def flush(self, timeout: float = 10.0) -> bool:
        """Whether everything emitted so far was acknowledged (or dropped and declared) within `timeout` seconds."""
        self._start()
        end = time.monotonic() + timeout
        while True:
            try:
                self._buffer.flush().result(max(0.0, end - time.monotonic()))
            except concurrent.futures.TimeoutError:
                return False
            if not self._buffer.gaps_pending:
                return True

    def close(self, timeout: float = 10.0) -> bool:
        """Flush, then stop. False if events were left unsent: they are lost, and the log says how many."""
        if self._closed:
            return True
        if self._thread is not None:
            self.flush(timeout)
        complete = self._end()
        if self._thread is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lambda: self._task.cancel() if self._task else None)
            self._thread.join(2 * ABANDON_TIMEOUT_S + 1)
        return complete

    def _at_exit(self) -> None:
        self.close(self._exit_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncEmitter(_Base[Coroutine[Any, Any, str]]):
    """For agents on asyncio. `async with AsyncEmitter(…) as emitter:` flushes at the end. `emit()` is a plain call."""

    def _begin(self) -> None:
        super()._begin()
        self._task: asyncio.Task[None] | None = None

    def _left_behind(self) -> list[object]:
        return [self._task, self._courier]

    def _start(self) -> None:
        task = self._task
        if self._closed or (task is not None and not task.done() and task.get_loop().is_running()):
            return
        with contextlib.suppress(RuntimeError), self._starting:  # not on a loop: queued until somebody is
            loop = asyncio.get_running_loop()
            if task is not None:  # that loop has ended, its courier may have been left in the middle
                self._buffer.recover()
                self._courier = Courier(self._buffer, self._topic, self._tenant, self._signer, self._kafka)
            self._task = loop.create_task(self._courier.run(), name="tallystick-emit")

    async def record(
        self,
        kind: str,
        data: Mapping[str, Any] | None = None,
        *,
        timeout: float = 10.0,  # noqa: ASYNC109  Emitter's signature
        **envelope: Unpack[Envelope],
    ) -> str:
        event_id, waiter = self._durably(kind, data or {}, envelope)
        if not await _done(waiter, timeout):
            raise self._not_yet(timeout)
        waiter.result()
        return event_id

    async def flush(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109  Emitter's signature
        """Whether everything emitted so far was acknowledged (or dropped and declared) within `timeout` seconds."""
        self._start()
        end = time.monotonic() + timeout
        while True:
            if not await _done(self._buffer.flush(), max(0.0, end - time.monotonic())):
                return False
            if not self._buffer.gaps_pending:
                return True

    async def close(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109  Emitter's signature
        """Flush, then stop. False if events were left unsent: they are lost, and the log says how many."""
        if self._closed:
            return True
        await self.flush(timeout)
        complete = self._end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        return complete

    def _at_exit(self) -> None:
        """The agent's loop has ended without close(): send what is left on a loop of our own."""
        if self._closed:
            return
        with contextlib.closing(BackgroundLoop()) as loop:
            loop.run_until_complete(self.close(self._exit_timeout_s))

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


async def _done(future: concurrent.futures.Future[None], seconds: float) -> bool:
    wrapped = asyncio.wrap_future(future)
    wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for, so not logged as missed
    await asyncio.wait([wrapped], timeout=seconds)
    return future.done()


def _close_all() -> None:
    for emitter in list(_LIVE):
        emitter._at_exit()


def _after_fork() -> None:
    for emitter in list(_LIVE):
        _LEFT_TO_PARENT.extend(emitter._left_behind())
        emitter._begin()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
