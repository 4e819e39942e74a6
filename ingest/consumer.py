"""The consumer: Kafka records to committed batches, exactly once.

FastStream hands over raw batches (`subscription`); they are decoded and sealed (`reading`) while Postgres commits the
batch before. A batch is closed by size or age. One task appends, so batches commit in the order they were read.

Guarantees: a record's effect and its offset commit together or not at all; a partition is read from its stored offset
only, never from Kafka's own commit or a default; after any failure it goes on from what Postgres says. Memory is
bounded by two batches and what aiokafka prefetches.
Does not: skip a record, ever. What can't be normalized is appended as `rejected`.

Invariant: `Held.committed` <= `Held.queued`; records below `queued`, of partitions not held, or read before the last
rebalance or failure (another `_generation`) are dropped unread, since the seek that followed brings them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from ingest.authority import TOPIC_PATTERN, Authority
from ingest.batch import Batch, Held, Partition
from ingest.books import Books
from ingest.cluster import describe
from ingest.decode import Decoder
from ingest.errors import ClusterUnreachable, ConsumerEnded
from ingest.positions import Position, find_gap
from ingest.reading import Reader, Stretch
from ingest.retry import Pauses, pause_s
from ingest.signatures import SIGNATURE_HEADER, Keys
from ingest.subscription import make_subscriber
from ledger.append import Appender, Item, in_turns
from ledger.db import Connection, connect
from ledger.errors import AppendError, DatabaseUnreachable, ForkRefused, LeafTooLarge, RunMoved
from ledger.keystore import KeyStore
from ledger.publish import PUBLISH_EVERY_S, publish_heads
from ledger.registry import Tenant
from ledger.seal import Sealer

BATCH_ITEMS_MAX = 4_000  # signatures and statements cost a batch milliseconds, whatever its size
BATCH_BYTES_MAX = 8 << 20  # received and content; sealed and waiting they take some times as much
BATCH_AGE_S = 0.1
KAFKA_COMMIT_EVERY_S = 5.0  # only lag tools read it
WATCH_EVERY_S = 2.0
FLUSH_S = 15.0
TRANSACTION_S_MAX = 30  # a process that froze in the middle of a batch holds its locks no longer than this
REFUSALS_MAX = 5  # one after another, by a server that answers

log = structlog.get_logger("tallystick.ingest")


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """What a consumer needs to know. `kafka`: further arguments for aiokafka's clients, like TLS and SASL."""

    postgres_url: str
    bootstrap: str
    prefix: str
    group: str = "tallystick"
    topics: str = TOPIC_PATTERN
    events_tenant: str | None = None
    default_tenant: str | None = "default"
    unauthenticated: bool = False
    publish: bool = True
    batch_items_max: int = BATCH_ITEMS_MAX
    batch_age_s: float = BATCH_AGE_S
    transaction_s_max: int = TRANSACTION_S_MAX
    kafka: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """What a consumer did since it started; counts of records and entries."""

    records: int = 0
    entries: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    batches: int = 0
    failures: int = 0


class Consumer:
    """One member of the consumer group. `run` ends when `stop` is set, when idle as asked, or by raising."""

    def __init__(
        self, config: ConsumerConfig, keystore: KeyStore, *, clock_us: Callable[[], int] | None = None
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._clock_us = clock_us
        self.progress = Progress()
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()  # partitions are assigned and their offsets stored
        self._failed: BaseException | None = None
        self._held: dict[Partition, Held] = {}
        self._generation = 0
        self._batch = Batch()
        self._changed = asyncio.Condition()
        self._commit_lock = asyncio.Lock()
        self._committing = False
        self._flushing = False
        self._active_at = time.monotonic()
        self._refusals = 0
        self._failures_in_a_row = 0
        self._registry: tuple[dict[str, Tenant], Keys] | None = None
        self._reader = Reader(config.batch_items_max, self._position, _now)
        self._connections: list[Connection] = []
        self._books = Books(keystore, config.prefix, self._connect, self._new_appender)

    async def run(self, *, until_idle_s: float | None = None) -> Progress:
        """Consume until stopped, or until every partition is drained and nothing came for `until_idle_s`.

        Raises ConsumerEnded, DatabaseUnreachable, ClusterUnreachable. What was not committed will be read again.
        """
        config = self._config
        _collect_seldom()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._disconnect)
            await self._write_over(await self._connect())
            await self._books.open()
            await self._refresh()
            await self._subscribe(stack)
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._commit_batches()), tasks.create_task(self._watch())]
                running.append(tasks.create_task(self._commit_to_kafka()))
                if config.publish:
                    running.append(tasks.create_task(self._publish()))
                if until_idle_s is not None:
                    running.append(tasks.create_task(self._stop_when_idle(until_idle_s)))
                await self.stop.wait()
                with contextlib.suppress(TimeoutError):
                    await self._flush()
                for task in running:
                    task.cancel()
        if self._failed is not None:
            raise self._failed
        return self.progress

    async def _subscribe(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        broker, subscriber = make_subscriber(
            config.bootstrap,
            config.topics,
            config.group,
            config.batch_items_max,
            config.kafka,
            self,
            self._handle,
        )
        self._subscriber = subscriber  # it has its consumer before the first assignment, which comes within start()
        try:
            await broker.start()
        except KafkaError as error:
            raise ClusterUnreachable(f"Kafka at {config.bootstrap} can't be reached: {error!r}") from error
        stack.push_async_callback(broker.stop)

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        consumer: AIOKafkaConsumer = self._subscriber.consumer
        return consumer

    async def _write_over(self, conn: Connection) -> None:
        """Append batches over this connection, which is kept for that alone."""
        appender = self._new_appender(conn)
        await appender.read_epochs()
        self._writer = conn
        self._appender = self._reader.appender = appender

    async def _disconnect(self) -> None:
        for conn in self._connections:
            with contextlib.suppress(psycopg.Error):
                await conn.close()

    async def _connect(self) -> Connection:
        conn = await _writer(self._config)
        self._connections = [other for other in self._connections if not other.closed] + [conn]
        return conn

    def _new_appender(self, conn: Connection) -> Appender:
        sealer = Sealer(self._keystore)
        if self._clock_us is None:
            return Appender(conn, self._keystore, sealer)
        return Appender(conn, self._keystore, sealer, clock_us=self._clock_us)

    def end(self, error: BaseException) -> None:
        """End this consumer: the point of no return of every failure that a retry can't mend."""
        if self._failed is None:
            self._failed = error
            log.error("consumer ends", reason=str(error))
        self.stop.set()

    # Reading

    async def _handle(self, records: Sequence[ConsumerRecord]) -> None:
        if self._failed is not None:  # records before these were given up; these would leave a hole
            return
        generation = self._generation
        wanted = self._wanted(records)
        at = 0
        while at < len(wanted) and generation == self._generation:
            try:
                stretches, at = await self._reader.read(wanted, at, self._refresh_when_postgres_answers)
            except Exception as error:  # nothing is decided here: what fails is a defect or a broken key store
                self.end(error)
                return
            await self._enqueue(generation, stretches)

    def _wanted(self, records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
        """The records of partitions that are held, from the next of each on."""
        wanted: list[ConsumerRecord] = []
        for key, group in groupby(records, key=attrgetter("topic", "partition")):
            part = list(group)
            held = self._held.get(key)
            if held is not None and not self._is_sought(key, part[-1].offset):
                wanted += part if part[0].offset >= held.queued else [r for r in part if r.offset >= held.queued]
        return wanted

    def _is_sought(self, key: Partition, last: int) -> bool:
        """Whether a partition was sought elsewhere since records up to `last` were fetched. They may begin beyond the
        offset sought, and what lies between would count as skipped; aiokafka brings them again in their order."""
        subscription = self._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return True
        state = subscription.assignment.state_value(TopicPartition(*key))
        return state is None or not state.has_valid_position or state.position <= last

    def _position(self, record: ConsumerRecord) -> Position | None:
        held = self._held.get((record.topic, record.partition))
        return held.position if held else None

    async def _enqueue(self, generation: int, stretches: Sequence[Stretch]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room() or generation != self._generation)
            if generation != self._generation:
                return
            if not self._batch.accounts:
                self._batch.opened_at = time.monotonic()
            for stretch in stretches:
                self._batch.add(self._held[stretch.topic, stretch.partition], stretch)
            self._active_at = time.monotonic()
            self._changed.notify_all()

    def _has_room(self) -> bool:
        batch = self._batch
        return len(batch.items) < self._config.batch_items_max and batch.bytes < BATCH_BYTES_MAX

    # Appending

    async def _commit_batches(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._batch.accounts))  # a record may hold no item
                with contextlib.suppress(TimeoutError):
                    age = time.monotonic() - self._batch.opened_at
                    async with asyncio.timeout(max(0.0, self._config.batch_age_s - age)):
                        await self._changed.wait_for(lambda: not self._has_room() or self._flushing)
                batch, self._batch = self._batch, Batch()
                generation = self._generation
                self._committing = True
                self._changed.notify_all()
            try:
                async with self._commit_lock:
                    if batch.accounts and generation == self._generation:
                        await self._commit(batch, generation)
            except (AppendError, ForkRefused) as error:
                if generation == self._generation:
                    self.end(ConsumerEnded.by(error))
                    return
            finally:
                async with self._changed:
                    self._committing = False
                    self._changed.notify_all()

    async def _commit(self, batch: Batch, generation: int) -> None:
        accounts = list(batch.accounts.values())
        while True:
            try:
                outcome = await self._appender.append(batch.items, accounts)
                break
            except RunMoved as moved:
                batch.items = await self._reroute(batch.items, moved)
            except psycopg.Error as error:
                self.progress.failures += 1
                self._failures_in_a_row += 1
                log.warning("append failed; going on from the stored offsets", error=str(error).split("\n")[0])
                if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                    self._refusals += 1  # not a lost server: the same batch may be refused for ever
                    if self._refusals >= REFUSALS_MAX:
                        self.end(ConsumerEnded(f"Postgres refuses the batch: {str(error).splitlines()[0]}"))
                        return
                await self._recover(generation)
                return
        self._refusals = self._failures_in_a_row = 0
        for account in outcome.accounts:
            held = self._held.get((account.topic, account.partition))
            if held is not None and held.position.epoch == account.epoch:
                held.committed = account.last + 1
            self.progress.records += account.records
            self.progress.duplicates += account.duplicates
            self.progress.conflicts += account.conflicts
            self.progress.rejected += account.rejected
        self.progress.entries += outcome.appended
        self.progress.batches += 1
        self._active_at = time.monotonic()

    async def _reroute(self, items: Sequence[Item], moved: RunMoved) -> list[Item]:
        """Runs that were first seen elsewhere, by another consumer: their entries go to the logs they live in."""
        rerouted: list[Item] = []
        async for item in in_turns(items):
            home = moved.homes.get((item.tenant, item.draft.run or ""))
            if home is None or home == item.draft.log:
                rerouted.append(item)
                continue
            pending = item.pending()
            pending.log = home
            try:
                rerouted.append(self._appender.seal_instead(item, pending))
            except LeafTooLarge:  # this log's name is longer than that of the one it was sealed for
                signature = pending.received_sig
                headers = [] if signature is None else [(SIGNATURE_HEADER, signature)]
                rejected = self._reader.decoder.too_large(pending, headers, None)
                self._appender.prepare([rejected])
                rerouted.append(self._appender.seal_instead(item, rejected))
        return rerouted

    async def _recover(self, generation: int) -> None:
        """Forget what was read and not committed; go on from what Postgres says, when it answers again."""
        if generation != self._generation:
            return
        await self._drop_uncommitted()
        if self._failures_in_a_row > 1:  # it answers, and can't do it: a full disk, say
            await asyncio.sleep(pause_s(self._failures_in_a_row - 2))
        pauses = Pauses()
        while not self.stop.is_set():
            try:
                with contextlib.suppress(psycopg.Error):
                    await self._writer.close()
                await self._write_over(await self._connect())
                await self._seek_to_stored()
                return
            except (DatabaseUnreachable, psycopg.Error) as error:
                await pauses.after("Postgres is not ready", error)

    async def _drop_uncommitted(self) -> None:
        async with self._changed:
            self._generation += 1
            self._batch = Batch()
            self._changed.notify_all()

    async def _seek_to_stored(self) -> None:
        """Go on from what Postgres says. Only while no batch is being committed: the caller holds `_commit_lock`."""
        cursor = await self._writer.execute("SELECT cluster, topic, partition, epoch, next_offset FROM positions")
        stored = {(row[1], row[2]): (row[0], row[3], row[4]) for row in await cursor.fetchall()}
        async with self._changed:
            # What was read while Postgres was asked goes too: it began at offsets that may not be the stored ones.
            self._generation += 1
            self._batch = Batch()
            for key, held in self._held.items():
                position = held.position
                found = stored.get(key)
                if found is None or (found[0] == position.cluster and found[1] < position.epoch):
                    # Claimed since Postgres was asked, in a rebalance; nothing was committed since then.
                    held.queued = held.committed
                elif found[:2] == (position.cluster, position.epoch):
                    held.committed = held.queued = found[2]
                else:
                    self.end(ConsumerEnded(f"{key[0]}/{key[1]}: another consumer has this partition"))
                    return
                self._consumer.seek(TopicPartition(*key), held.queued)
            self._changed.notify_all()

    async def _flush(self) -> None:
        """Wait until what was read is committed. Raises TimeoutError."""
        async with asyncio.timeout(FLUSH_S), self._changed:
            self._flushing = True
            try:
                self._changed.notify_all()
                await self._changed.wait_for(lambda: not self._batch.accounts and not self._committing)
            finally:
                self._flushing = False

    # Partitions

    async def revoked(self) -> None:
        """Before a rebalance: commit what was read, then hold nothing."""
        try:
            await self._flush()
        except TimeoutError:
            log.warning("a rebalance came before the last batch was committed; the next holder reads it again")
        await self._drop_uncommitted()
        self._held.clear()

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """After a rebalance: claim each partition in Postgres and go to its stored offset."""
        wanted = sorted(partitions)
        # Before any other task runs: nothing may be fetched from where Kafka believes we are, nor its belief asked for.
        self._consumer.pause(*wanted)
        for tp in wanted:
            self._consumer.seek(tp, 0)
        await self._claim(wanted)
        self._active_at = time.monotonic()
        self.ready.set()

    async def _claim(self, partitions: Sequence[TopicPartition]) -> None:
        pauses = Pauses()
        while not self.stop.is_set():
            try:
                await self._claim_once(self._assigned_of(partitions))
                return
            except (DatabaseUnreachable, ClusterUnreachable, psycopg.Error, KafkaError) as error:
                await pauses.after("can't claim the partitions", error)
                await self._books.renew()
            except (AppendError, ForkRefused) as error:
                self.end(ConsumerEnded.by(error))

    async def _claim_once(self, partitions: Sequence[TopicPartition]) -> None:
        if not partitions:
            return
        cluster, topic_ids = await describe(self._consumer._client, sorted({tp.topic for tp in partitions}))
        beginnings = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        for tp in partitions:
            offered = (beginnings[tp], ends[tp])
            await self._books.claim(cluster, tp.topic, topic_ids[tp.topic], tp.partition, offered, self._hold)
        self._consumer.resume(*partitions)

    def _hold(self, position: Position) -> None:
        key = (position.topic, position.partition)
        self._consumer.seek(TopicPartition(*key), position.next_offset)  # raises where a rebalance took it meanwhile
        self._held[key] = Held(position, position.next_offset, position.next_offset)

    def _assigned_of(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those that are still ours: to claim another would fence out the consumer that has it now."""
        assigned = self._consumer.assignment()
        return [tp for tp in partitions if tp in assigned]

    async def _refresh(self) -> None:
        """Read the registry anew: tenants and producers' keys."""
        registry = await self._books.read()
        if registry == self._registry:  # entries that wait keep the decoder that read them, and its registry with it
            return
        self._registry = tenants, keys = registry
        authority = Authority(
            tenants, self._config.events_tenant, self._config.default_tenant, self._config.unauthenticated
        )
        self._reader.decoder = Decoder(authority, keys)

    async def _refresh_when_postgres_answers(self) -> None:
        """Records wait for this: what the registry may have learned since decides whether they are rejected."""
        pauses = Pauses()
        while not self.stop.is_set():
            try:
                await self._refresh()
                return
            except (DatabaseUnreachable, psycopg.Error) as error:
                await pauses.after("can't read the registry", error)
                await self._books.renew()
        raise ConsumerEnded("stopped while Postgres did not answer; what was read will be read again")

    # Beside the main path

    async def _watch(self) -> None:
        """Find what a fetch can't tell: offsets that retention removed, topics that were made anew."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                moved = await self._partitions_that_moved()
            except (KafkaError, ClusterUnreachable) as error:
                log.warning("Kafka doesn't answer", error=repr(error))
                continue
            if not moved:
                continue
            with contextlib.suppress(TimeoutError):
                await self._flush()
            async with self._commit_lock:
                await self._drop_uncommitted()
                moved = self._assigned_of(moved)  # a rebalance may have come meanwhile
                self._consumer.pause(*moved)
                for tp in moved:
                    self._held.pop((tp.topic, tp.partition), None)
                await self._claim(moved)
                try:
                    await self._seek_to_stored()
                except (DatabaseUnreachable, psycopg.Error):
                    await self._recover(self._generation)

    async def _partitions_that_moved(self) -> list[TopicPartition]:
        held = {TopicPartition(*key): value for key, value in self._held.items()}
        if not held:
            return []
        _, topic_ids = await describe(self._consumer._client, sorted({tp.topic for tp in held}))
        beginnings = await self._consumer.beginning_offsets(list(held))
        ends = await self._consumer.end_offsets(list(held))
        return [
            tp
            for tp, value in held.items()
            if tp.topic in topic_ids
            and find_gap(
                replace(
                    value.position,
                    topic_id=topic_ids[tp.topic],
                    stored_topic_id=value.position.topic_id,
                    next_offset=value.queued,
                ),
                beginnings[tp],
                ends[tp],
            )
            is not None
        ]

    async def _publish(self) -> None:
        """Keep the heads log up to date; a failure is told and tried again, a fork ends the consumer."""
        conn: Connection | None = None
        try:
            while True:
                await asyncio.sleep(PUBLISH_EVERY_S)
                try:
                    if conn is None or conn.closed:
                        conn = await _writer(self._config)
                    await publish_heads(conn, self._keystore, self._books.registry.heads)
                except (DatabaseUnreachable, psycopg.Error) as error:
                    log.warning("heads are not published", error=str(error).split("\n")[0])
                except (AppendError, ForkRefused) as error:
                    self.end(ConsumerEnded.by(error))
        finally:
            if conn is not None:
                with contextlib.suppress(psycopg.Error):
                    await publish_heads(conn, self._keystore, self._books.registry.heads)
                await conn.close()

    async def _commit_to_kafka(self) -> None:
        while True:
            await asyncio.sleep(KAFKA_COMMIT_EVERY_S)
            offsets = {TopicPartition(*key): held.committed for key, held in self._held.items()}
            try:
                if offsets:
                    await self._consumer.commit(offsets)
            except KafkaError as error:  # nothing rests on it: Postgres holds the offsets
                log.debug("offsets not committed to Kafka", error=repr(error))

    async def _stop_when_idle(self, idle_s: float) -> None:
        await self.ready.wait()
        while True:
            await asyncio.sleep(min(idle_s, 0.2))
            if time.monotonic() - self._active_at < idle_s:
                continue
            held = {TopicPartition(*key): value for key, value in self._held.items()}
            with contextlib.suppress(KafkaError):
                ends = await self._consumer.end_offsets(list(held)) if held else {}
                behind = [tp for tp, value in held.items() if await self._consumer.position(tp) < ends[tp]]
                if not behind and not self._batch.accounts and not self._committing:
                    self.stop.set()
                    return


def _collect_seldom() -> None:
    """A batch is tens of thousands of objects in no cycle: by default the collector walks them again and again, for a
    fifth of the processor's time. What start-up made is left out of its walks altogether."""
    gc.freeze()
    gc.set_threshold(500_000, 20, 20)


async def _writer(config: ConsumerConfig) -> Connection:
    conn = await connect(config.postgres_url, "tally_writer", application="tallystick ingest")
    # Else whoever takes its partitions over would wait for a frozen process as long as its connection lives. Before
    # version 17 Postgres knows only the second, which leaves out a client that froze while it sent rows.
    await conn.execute(
        "SELECT set_config(name, %s, false) FROM pg_settings"
        " WHERE name IN ('transaction_timeout', 'idle_in_transaction_session_timeout')",
        (f"{config.transaction_s_max}s",),
    )
    return conn


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
