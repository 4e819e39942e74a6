"""The bounded buffer between an agent and Kafka: sequence numbers, what may be dropped, and what is said of it.

Three states of an entry: queued (may be dropped if it is not critical), in flight (handed to Kafka, fate unknown, never
dropped), settled (acknowledged, or given up and declared). Everything here is memory under one lock; nothing waits.

Invariants: numbers are dense from 1 per (producer id, run); each number is of an entry in one of the three states, or
in a gap that is declared or pending; queued entries of a run leave in the order of their numbers; `bytes` and `count`
are those of queued and in-flight entries and never pass the soft limits plus the reserve.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from .encode import SEQUENCE
from .errors import EmitError, RefusedError

RUNS_MAX = 65_536  # counters kept; then a new producer id begins, all from 1 again
RANGES_MAX = 4096  # gap ranges kept apart, of all runs; beyond it a run's last one is widened, its count stays exact
GAPS_AT_ONCE = 64  # declarations made under the lock at a time: about a millisecond that an emit() may have to wait
GAP_INTERVAL_S = 1.0  # under lasting overload, one declaration a run and second
ENTRY_OVERHEAD_BYTES = 400  # what an entry costs beside its bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What an emitter may hold. Beyond `events_max` or `bytes_max` events are dropped, and declared; critical ones
    may use the reserve on top. `event_bytes_max` bounds one event: keep it under the topic's max.message.bytes."""

    events_max: int = 20_000
    bytes_max: int = 32 * 1024 * 1024
    reserve_events: int = 20_000
    reserve_bytes: int = 32 * 1024 * 1024
    event_bytes_max: int = 900_000

    def __post_init__(self) -> None:
        if min(self.events_max, self.bytes_max, self.reserve_events, self.reserve_bytes, self.event_bytes_max) < 1:
            raise ValueError(f"every limit must be at least 1, got {self}")


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the emitter was made, and what it holds now."""

    emitted: int
    delivered: int
    dropped: int
    queued: int
    queued_bytes: int
    connected: bool
    problem: str | None


@dataclass(slots=True, eq=False)
class Entry:
    """One event on its way. `head` and `tail` are its bytes but for the producer's id and number; `alone`: not to
    share a batch; `dead`: dropped while queued."""

    head: bytes
    tail: bytes
    run: str | None
    key: bytes | None
    critical: bool
    waiter: Future[None] | None = None
    producer: str = ""
    number: int = 0
    ordinal: int = 0
    size: int = 0
    alone: bool = False
    dead: bool = False

    def value(self) -> bytes:
        return b"%s%s%s%016d%s" % (self.head, self.producer.encode(), SEQUENCE, self.number, self.tail)


@dataclass(slots=True)
class Gap:
    """Of the numbers first to last of a series, `count` were dropped: all of them, unless the range was widened."""

    first: int
    last: int
    count: int
    cause: str


@dataclass(slots=True)
class _Barrier:
    ordinal: int
    remaining: int
    done: Future[None] = field(default_factory=Future)


class Buffer:
    """See the module. `declare(run, producer, gap)` makes the producer_gap entry; `wake()` is called, without the
    lock, when somebody waits. What nobody waits for is fetched within milliseconds: waking another thread at each
    event would cost the agent a system call and a contest for the interpreter lock."""

    def __init__(self, limits: Limits, declare: Callable[[str | None, str, Gap], Entry]) -> None:
        self._limits, self._declare = limits, declare
        self.wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._queue: deque[Entry] = deque()
        self._droppable: deque[Entry] = deque()  # the queued entries that may be dropped, in the queue's order
        self._in_flight: dict[int, Entry] = {}
        self._gaps: dict[tuple[str, str | None], list[Gap]] = {}
        self._barriers: list[_Barrier] = []
        self._producer = secrets.token_hex(16)
        self._numbers: dict[str | None, int] = {}
        self._ranges = 0
        self._ordinal = 0
        self._declared_at = 0.0
        self._closed = False
        self._count = self._bytes = self.emitted = self.delivered = self.dropped = 0

    # -- the agent's side

    def put(self, entry: Entry) -> None:
        """Queue the entry, or drop it and remember the gap. One with a waiter is queued, or RefusedError is raised."""
        entry.size = len(entry.head) + len(entry.tail) + ENTRY_OVERHEAD_BYTES
        with self._lock:
            if self._closed:
                if entry.waiter is not None:
                    raise RefusedError("the emitter is closed")
                self.dropped += 1
                return
            fits = self._make_room(entry)
            if not fits and entry.waiter is not None:
                raise RefusedError(
                    f"the buffer and its reserve are full: {self._count} events, {self._bytes} bytes wait for Kafka"
                )
            self._next_number(entry)
            self.emitted += 1
            if fits:
                self._admit(entry)
            else:
                self._drop(entry, "reserve_full" if entry.critical else "buffer_full")
        if entry.waiter is not None:
            self.wake()

    def skip(self, run: str | None, cause: str) -> None:
        """Count an event that cannot be sent at all: it takes a number, and the gap is declared."""
        entry = Entry(b"", b"", run, None, True)
        with self._lock:
            self._next_number(entry)
            self.emitted += 1
            self._drop(entry, cause)

    def flush(self) -> Future[None]:
        """A future that is done when everything emitted so far is settled, pending gap declarations included."""
        with self._lock:
            self._declare_gaps()
            barrier = _Barrier(self._ordinal, len(self._in_flight) + sum(not entry.dead for entry in self._queue))
            barrier.done.set_running_or_notify_cancel()  # one who stops waiting does not cancel it
            if barrier.remaining == 0:
                barrier.done.set_result(None)
            else:
                self._barriers.append(barrier)
        self.wake()
        return barrier.done

    def close(self) -> int:
        """Take nothing more, fail the waiters, and say how many events are left unsent."""
        with self._lock:
            self._closed = True
            left = [entry for entry in (*self._in_flight.values(), *self._queue) if not entry.dead]
            for entry in left:
                self._settle_waiter(entry, RefusedError("the emitter was closed before Kafka acknowledged the event"))
            return len(left)

    @property
    def gaps_pending(self) -> bool:
        return bool(self._gaps)

    def stats(self, connected: bool, problem: str | None) -> Stats:
        with self._lock:
            return Stats(self.emitted, self.delivered, self.dropped, self._count, self._bytes, connected, problem)

    # -- the courier's side

    def take(self) -> Entry | None:
        """The next entry, now in flight, or None. Pending gaps are queued first, so that they leave in order."""
        with self._lock:
            if self._gaps and (not self._queue or time.monotonic() - self._declared_at >= GAP_INTERVAL_S):
                self._declare_gaps()
            while self._queue:
                entry = self._queue.popleft()
                if entry.dead:
                    continue
                if self._droppable and self._droppable[0] is entry:
                    self._droppable.popleft()
                self._in_flight[entry.ordinal] = entry
                return entry
            return None

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def acknowledge(self, entry: Entry) -> None:
        """Kafka has the entry, in all replicas in sync."""
        self._settle(entry, None)

    def give_up(self, entry: Entry, cause: str) -> None:
        """Kafka will never take this entry: declare the gap."""
        self._settle(entry, cause)

    def _settle(self, entry: Entry, cause: str | None) -> None:
        with self._lock:
            if self._in_flight.pop(entry.ordinal, None) is None:
                return  # settled before, or queued again after its connection was given up
            if cause is None:
                self.delivered += 1
                self._settle_waiter(entry, None)
            else:
                self._drop(entry, cause)
                self._settle_waiter(entry, RefusedError(f"Kafka will not take the event: {cause}"))
            self._release(entry)

    def recover(self) -> None:
        """Queue again, in order, what was in flight on a connection that is gone. Sent twice at worst: the event id
        is the same, and the ledger appends it once."""
        with self._lock:
            again = [self._in_flight[ordinal] for ordinal in sorted(self._in_flight)]
            self._in_flight.clear()
            self._queue.extendleft(reversed(again))

    # -- under the lock

    def _fits(self, size: int, spare_events: int = 0, spare_bytes: int = 0) -> bool:
        limits = self._limits
        return self._count < limits.events_max + spare_events and self._bytes + size <= limits.bytes_max + spare_bytes

    def _make_room(self, entry: Entry) -> bool:
        if self._fits(entry.size):
            return True
        if not entry.critical:
            return False
        while self._droppable and not self._fits(entry.size):
            victim = self._droppable.popleft()
            self._drop(victim, "buffer_full")
            self._release(victim)
            victim.dead, victim.head, victim.tail = True, b"", b""
        return self._fits(entry.size, self._limits.reserve_events, self._limits.reserve_bytes)

    def _next_number(self, entry: Entry) -> None:
        if len(self._numbers) >= RUNS_MAX and entry.run not in self._numbers:
            self._producer, self._numbers = secrets.token_hex(16), {}
        entry.producer = self._producer
        entry.number = self._numbers[entry.run] = self._numbers.get(entry.run, 0) + 1

    def _admit(self, entry: Entry) -> None:
        self._ordinal += 1
        entry.ordinal = self._ordinal
        self._count += 1
        self._bytes += entry.size
        self._queue.append(entry)
        if not entry.critical:
            self._droppable.append(entry)

    def _release(self, entry: Entry) -> None:
        self._count -= 1
        self._bytes -= entry.size
        for barrier in self._barriers:
            if entry.ordinal <= barrier.ordinal:
                barrier.remaining -= 1
                if barrier.remaining == 0:
                    barrier.done.set_result(None)
        if self._barriers:
            self._barriers = [barrier for barrier in self._barriers if barrier.remaining]

    def _drop(self, entry: Entry, cause: str) -> None:
        self.dropped += 1
        number, gaps = entry.number, self._gaps.setdefault((entry.producer, entry.run), [])
        for gap in gaps[-2:]:  # two grow at a time: the oldest that are pushed out, the newest that don't get in
            if gap.cause == cause and gap.first - 1 <= number <= gap.last + 1:
                gap.first, gap.last, gap.count = min(gap.first, number), max(gap.last, number), gap.count + 1
                return
        if not gaps or self._ranges < RANGES_MAX:
            gaps.append(Gap(number, number, 1, cause))
            self._ranges += 1
        else:
            gap = gaps[-1]
            gap.first, gap.last, gap.count = min(gap.first, number), max(gap.last, number), gap.count + 1

    def _declare_gaps(self) -> None:
        """Turn pending gaps into entries while the reserve has room; what is left waits, as numbers only."""
        self._declared_at = time.monotonic()
        for _ in range(GAPS_AT_ONCE):
            if not self._gaps:
                return
            (producer, run), gaps = next(iter(self._gaps.items()))
            entry = self._declare(run, producer, gaps[0])
            entry.size = len(entry.head) + len(entry.tail) + ENTRY_OVERHEAD_BYTES
            if not self._fits(entry.size, self._limits.reserve_events, self._limits.reserve_bytes):
                return
            self._ranges -= 1
            gaps.pop(0)
            if not gaps:
                del self._gaps[producer, run]
            self._next_number(entry)
            self.emitted += 1
            self._admit(entry)
        self._declared_at = 0.0  # there are more: go on at the next occasion

    @staticmethod
    def _settle_waiter(entry: Entry, problem: EmitError | None) -> None:
        if entry.waiter is None or entry.waiter.done():
            return
        if problem is None:
            entry.waiter.set_result(None)
        else:
            entry.waiter.set_exception(problem)
