"""Appending: the one transaction that makes a batch part of the record.

In this order, and each step under the locks of those before it:

1. The batch's topic partitions: epoch and next offset must be what this consumer holds (`FencedOut` otherwise).
2. `runs`: insert the runs not seen before, in (tenant, run) order.
3. The heads of the logs concerned, `FOR UPDATE`, in origin order.
4. Run tails of runs this writer doesn't know; in a careful pass also the ids that the logs already hold.
5. Entries and content by COPY; tiles, heads, checkpoints, offsets; the `intake` entry of each partition is among them.

Guarantees: all of it commits or none does; indexes are dense; what Postgres holds is under a signature made in the same
transaction; no (log, id) and no (log, run, run_seq) twice, since unique indexes refuse it.

The first pass assumes that no id of the batch is in the logs yet and that the run tails remembered from earlier batches
still hold. A wrong assumption meets a unique index, the transaction rolls back, and a careful pass looks everything up
under the lock. So the usual batch pays for no look-up, and correctness never rests on what is remembered.

Does not: retry lost connections or decide what a failure means for the consumer. After any exception nothing of the
batch is known to be committed, except where the connection was lost during COMMIT: ask `positions`.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import orjson
import psycopg

from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.db import Connection
from ledger.draft import COPY_HEADER, COPY_TRAILER, Draft, copy_field, micros_text
from ledger.errors import FencedOut, LogMissing, LogRolledBack, RunMoved
from ledger.keystore import KeyStore
from ledger.merkle import Edge, Tile
from ledger.seal import Pending, Sealer, plain_draft

TAILS_REMEMBERED_MAX = 100_000  # about 35 MB; a run's entries come in one stretch of time
RECORDED_BACK_US_MAX = 10_000_000  # within a log `recorded` may step back at most this much
CAREFUL_BATCHES = 32  # after a duplicate was met, how many batches look ids up before they try
TURN_EVERY = 32  # entries sealed again between two turns of the event loop
_POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970, where Postgres' timestamps begin
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Parts of binary COPY rows: the number of fields, an int8 after its length, the length of a uuid, a null.
_ENTRY_FIELDS = struct.pack(">h", 8)
_CONTENT_FIELDS = struct.pack(">h", 6)
_INT8 = struct.Struct(">Iq")
_RECORDED_AND_LEAF = struct.Struct(">IqI")  # a timestamptz after its length, the length of the leaf
_UUID_LENGTH = struct.pack(">I", 16)
_NULL_FIELD = struct.pack(">i", -1)


@dataclass(slots=True)
class Account:
    """One topic partition's share of a batch: Kafka offsets `first`..`last` inclusive, and what became of them.

    `first` is the offset after the last batch's `last`, so accounts of a partition leave no hole; offsets that held no
    record (control records, compacted ones) are counted as skipped. `expected` is the stored next offset that the batch
    continues from, `epoch` the consumer's own.
    """

    log: str
    cluster: str
    topic: str
    topic_id: str | None
    partition: int
    epoch: int
    expected: int
    first: int
    last: int
    records: int
    number: int = 0  # its place among the batch's accounts, which pending entries name
    events: int = 0
    appended: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0


class Item(msgspec.Struct, gc=False):
    """A draft, and what it was sealed from, as sealing it again needs: the pending event, or what `again` makes it of.

    `erasure_epoch` is the head's as this writer knew it when it sealed; -1: not known yet. `account`: which of the
    batch's partition accounts it counts in; -1: none.
    """

    draft: Draft
    tenant: str
    erasure_epoch: int
    made_of: Any
    again: Callable[[Any], Pending] | None
    account: int = -1

    def pending(self) -> Pending:
        """The event it was sealed from."""
        pending: Pending = self.made_of if self.again is None else self.again(self.made_of)
        return pending


@dataclass(slots=True, frozen=True)
class _Known:
    """What an id stands for already: its fingerprint (None: erased, or the ledger's own entry) and its source."""

    fingerprint: bytes | None
    source: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a committed batch added: entries by log, and the accounts with their counts."""

    appended: int
    tree_sizes: dict[str, int]
    accounts: list[Account] = field(default_factory=list)


@dataclass(slots=True)
class _Head:
    edge: Edge
    recorded_us: int
    erasure_epoch: int


class _Tail(msgspec.Struct, gc=False):
    run_seq: int
    leaf_hash: bytes
    recorded_us: int


@dataclass(slots=True)
class _Placed:
    """A log's part of a batch, placed: the rows are ready and the head is the one after it."""

    head: _Head
    entries: list[bytes]
    contents: list[bytes]
    tiles: list[Tile]
    note: bytes
    root_hash: bytes


T = TypeVar("T")
_Tails = dict[tuple[str, str], _Tail]  # by (log, run)
_NOBODY = Account("", "", "", None, 0, 0, 0, 0, 0, 0)


def wall_clock_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Appender:
    """Appends batches over one connection, as `tally_writer`. One batch at a time; not to be shared between tasks."""

    def __init__(
        self, conn: Connection, keystore: KeyStore, sealer: Sealer, *, clock_us: Callable[[], int] = wall_clock_us
    ) -> None:
        self._conn = conn
        self._keystore = keystore
        self._sealer = sealer
        self._clock_us = clock_us
        self._heads: dict[str, _Head] = {}
        self._tails: OrderedDict[tuple[str, str], _Tail] = OrderedDict()
        self._epochs: dict[str, int] = {}
        self._careful = 0

    async def read_epochs(self) -> None:
        """Learn how often each log was erased from. What is sealed for a log that is not known yet is sealed twice."""
        cursor = await self._conn.execute("SELECT log, erasure_epoch FROM logs")
        self._epochs.update(await cursor.fetchall())

    def prepare(self, pendings: Iterable[Pending]) -> None:
        """Make the keys that these events need durable in the key store, before any of them is sealed."""
        self._sealer.prepare(pendings)

    def seal(self, pending: Pending, made_of: Any = None, again: Callable[[Any], Pending] | None = None) -> Item:
        """Seal a prepared event. Raises LeafTooLarge.

        `again` makes it once more of `made_of`. Without it the event itself is kept until it is appended, which takes
        several times what its draft does.
        """
        return self._item(pending, self._sealer.seal(pending), made_of, again)

    def seal_at_hand(
        self, pending: Pending, made_of: Any = None, again: Callable[[Any], Pending] | None = None
    ) -> Item | None:
        """`seal` for an event that need not be prepared; None where a key that it needs is not at hand."""
        draft = self._sealer.seal_at_hand(pending)
        return None if draft is None else self._item(pending, draft, made_of, again)

    def seal_instead(self, item: Item, pending: Pending) -> Item:
        """Seal an event in the place of an item: it counts in the same account. Raises LeafTooLarge."""
        sealed = self.seal(pending)
        sealed.account = item.account
        return sealed

    def _item(self, pending: Pending, draft: Draft, made_of: Any, again: Callable[[Any], Pending] | None) -> Item:
        kept = pending if again is None else made_of
        return Item(draft, pending.tenant, self._epochs.get(draft.log, -1), kept, again)

    async def append(self, items: Sequence[Item], accounts: Sequence[Account] = ()) -> Outcome:
        """Append a batch in its order. Raises FencedOut, LogRolledBack, LogMissing, RunMoved or psycopg.Error; then
        nothing was appended (but see the module's last paragraph)."""
        careful = self._careful > 0
        if careful:
            self._careful -= 1
        try:
            return await self._transaction(items, accounts, careful=careful)
        except psycopg.errors.UniqueViolation:
            if careful:
                raise
        self._careful = CAREFUL_BATCHES
        self._tails.clear()
        self._heads.clear()
        return await self._transaction(items, accounts, careful=True)

    async def _transaction(self, items: Sequence[Item], accounts: Sequence[Account], *, careful: bool) -> Outcome:
        for account in accounts:
            account.events = account.appended = account.duplicates = account.conflicts = account.rejected = 0
        conn = self._conn
        try:
            async with conn.transaction():
                await self._hold_positions(accounts)
                by_log = _by_log(items)
                runs = {
                    (log, item.draft.run): item.tenant
                    for log, part in by_log.items()
                    for item in part
                    if item.draft.run is not None
                }
                new_runs = await self._insert_runs(runs)
                heads = await self._lock_heads(sorted(by_log.keys() | {account.log for account in accounts}))
                await self._seal_again_where_erased(by_log, heads)
                by_log = await self._without_known(by_log, accounts, careful=careful)
                tails = await self._find_tails(runs, new_runs, careful=careful)
                drafts = {log: [item.draft for item in part] for log, part in by_log.items()}
                for draft in self._intake_drafts(accounts):
                    drafts.setdefault(draft.log, []).append(draft)
                placed = self._place(drafts, heads, tails)
                await self._write(placed, accounts)
        except BaseException:
            for log in {item.draft.log for item in items} | {account.log for account in accounts}:
                self._heads.pop(log, None)
            raise
        self._remember(placed, tails)
        return Outcome(
            appended=sum(len(part.entries) for part in placed.values()),
            tree_sizes={log: part.head.edge.tree_size for log, part in placed.items()},
            accounts=list(accounts),
        )

    # (1)
    async def _hold_positions(self, accounts: Sequence[Account]) -> None:
        if not accounts:
            return
        cursor = await self._conn.execute(
            "SELECT p.cluster, p.topic, p.partition, p.epoch, p.next_offset FROM positions p"
            " JOIN unnest(%s::text[], %s::text[], %s::integer[]) AS w(cluster, topic, partition)"
            " USING (cluster, topic, partition) ORDER BY p.cluster, p.topic, p.partition FOR UPDATE OF p",
            (
                [account.cluster for account in accounts],
                [account.topic for account in accounts],
                [account.partition for account in accounts],
            ),
        )
        stored = {(row[0], row[1], row[2]): (row[3], row[4]) for row in await cursor.fetchall()}
        for account in accounts:
            held = (account.epoch, account.expected)
            found = stored.get((account.cluster, account.topic, account.partition))
            if found != held:
                raise FencedOut(
                    f"{account.topic}/{account.partition}: expected epoch and next offset {held}, found {found};"
                    " another consumer has this partition"
                )

    # (2)
    async def _insert_runs(self, runs: Mapping[tuple[str, str], str]) -> set[tuple[str, str]]:
        """Insert the runs this writer doesn't remember; return those that were new, as (log, run)."""
        wanted = sorted((tenant, run, log) for (log, run), tenant in runs.items() if (log, run) not in self._tails)
        if not wanted:
            return set()
        columns = [list(column) for column in zip(*wanted, strict=True)]
        cursor = await self._conn.execute(
            "INSERT INTO runs (tenant, run, log) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])"
            " AS w(tenant, run, log) ORDER BY tenant, run ON CONFLICT DO NOTHING RETURNING log, run",
            columns,
        )
        created = {(row[0], row[1]) for row in await cursor.fetchall()}
        known = [(tenant, run) for tenant, run, log in wanted if (log, run) not in created]
        if known:
            cursor = await self._conn.execute(
                "SELECT tenant, run, log FROM runs JOIN unnest(%s::text[], %s::text[]) AS w(tenant, run)"
                " USING (tenant, run)",
                [list(column) for column in zip(*known, strict=True)],
            )
            home = {(tenant, run): log for tenant, run, log in await cursor.fetchall()}
            # A batch may ask for one run in several shards, as it comes from several partitions.
            # All at once: a batch may hold thousands of runs that live elsewhere, and each refusal costs a transaction.
            moved = {
                (tenant, run): home[tenant, run] for tenant, run, log in wanted if home.get((tenant, run), log) != log
            }
            if moved:
                raise RunMoved(moved)
        return created

    # (3)
    async def _lock_heads(self, logs: list[str]) -> dict[str, _Head]:
        cursor = await self._conn.execute(
            "SELECT log, tree_size, recorded, erasure_epoch FROM logs WHERE log = ANY(%s) ORDER BY log FOR UPDATE",
            (logs,),
        )
        rows = await cursor.fetchall()
        missing = set(logs) - {row[0] for row in rows}
        if missing:
            raise LogMissing(f"no such log: {', '.join(sorted(missing))}")
        heads: dict[str, _Head] = {}
        stale: list[str] = []
        for log, tree_size, recorded, erasure_epoch in rows:
            known = self._heads.get(log)
            if known is not None and tree_size < known.edge.tree_size:
                raise LogRolledBack(
                    f"{log}: the database is at {tree_size}, behind the {known.edge.tree_size} this writer committed;"
                    " it was restored from an older copy. See `tally recover`"
                )
            if known is None or known.edge.tree_size != tree_size:
                stale.append(log)
            else:
                heads[log] = _Head(known.edge, _micros(recorded), erasure_epoch)
        if stale:
            cursor = await self._conn.execute(
                "SELECT log, tree_size, edge, root_hash, recorded, erasure_epoch FROM logs WHERE log = ANY(%s)",
                (stale,),
            )
            for log, tree_size, edge_bytes, root_hash, recorded, erasure_epoch in await cursor.fetchall():
                edge = Edge.parse(tree_size, bytes(edge_bytes))
                if edge.root() != bytes(root_hash):
                    raise LogRolledBack(
                        f"{log}: the head's tiles don't give its root hash; run `tally verify --log {log}`"
                    )
                await refuse_fork(self._conn, self._keystore, log, tree_size)
                heads[log] = _Head(edge, _micros(recorded), erasure_epoch)
        return heads

    async def _seal_again_where_erased(self, by_log: dict[str, list[Item]], heads: dict[str, _Head]) -> None:
        """An erasure since sealing may have destroyed a key that was used: encrypt again under what is there now."""
        stale: list[tuple[list[Item], int]] = []
        for log, part in by_log.items():
            epoch = self._epochs[log] = heads[log].erasure_epoch
            stale += [(part, place) for place, item in enumerate(part) if item.erasure_epoch != epoch]
        if not stale:
            return
        self._sealer.forget()
        pendings: list[Pending] = []
        async for part, place in in_turns(stale):
            pendings.append(part[place].pending())
        self._sealer.prepare(pendings)
        async for (part, place), pending in in_turns(zip(stale, pendings, strict=True)):
            part[place] = self.seal_instead(part[place], pending)

    # (4)
    async def _without_known(
        self, by_log: dict[str, list[Item]], accounts: Sequence[Account], *, careful: bool
    ) -> dict[str, list[Item]]:
        """What to append, by log: without what the logs hold already, and with `conflict` entries for the ids that
        stand for something else there. Counts what became of each item in its account."""
        if careful or any(len({item.draft.id_bytes for item in part}) < len(part) for part in by_log.values()):
            items = [item for part in by_log.values() for item in part]
            by_log = _by_log(await self._without_repeated(items, accounts, careful=careful))
        for part in by_log.values():
            for (number, kind), count in Counter([(item.account, item.draft.kind) for item in part]).items():
                account = _account(accounts, number)
                if kind == "rejected":
                    account.rejected += count
                elif kind == "conflict":
                    account.conflicts += count
                else:
                    account.appended += count
        for account in accounts:
            account.events = account.appended + account.duplicates + account.conflicts
        return by_log

    async def _without_repeated(
        self, items: Sequence[Item], accounts: Sequence[Account], *, careful: bool
    ) -> list[Item]:
        """`_without_known` item by item; counts duplicates."""
        known: dict[tuple[str, bytes], _Known | Draft] = {}
        if careful:
            known.update(await self._known_ids(items))
        kept: list[Item] = []
        conflicts: list[Item] = []
        async for item in in_turns(items):
            draft = item.draft
            first = known.get((draft.log, draft.id_bytes))
            if first is None:
                known[(draft.log, draft.id_bytes)] = draft
                kept.append(item)
                continue
            if first.fingerprint is None or first.fingerprint == draft.fingerprint:
                _account(accounts, item.account).duplicates += 1
                continue
            pending = self._sealer.conflict(item.pending(), first.source)
            self._sealer.prepare([pending])
            conflicts.append(self.seal_instead(item, pending))
        if conflicts:
            known.update(await self._known_ids(conflicts))
        for item in conflicts:
            key = (item.draft.log, item.draft.id_bytes)
            if key in known:
                _account(accounts, item.account).duplicates += 1
            else:
                known[key] = item.draft
                kept.append(item)
        return kept

    async def _known_ids(self, items: Sequence[Item]) -> dict[tuple[str, bytes], _Known]:
        cursor = self._conn.cursor(binary=True)
        await cursor.execute(
            "SELECT e.log, e.id, c.fingerprint, e.leaf FROM unnest(%b::text[], %b::uuid[]) AS w(log, id)"
            " JOIN entries e ON e.log = w.log AND e.id = w.id"
            " LEFT JOIN content c ON c.log = e.log AND c.index = e.index",
            ([item.draft.log for item in items], [UUID(bytes=item.draft.id_bytes) for item in items]),
        )
        return {
            (log, id.bytes): _Known(fingerprint, orjson.loads(leaf)["source"])
            async for log, id, fingerprint, leaf in cursor
        }

    async def _find_tails(
        self, runs: Iterable[tuple[str, str]], new_runs: set[tuple[str, str]], *, careful: bool
    ) -> _Tails:
        """The last entry of each run concerned; runs without one are left out."""
        tails: _Tails = {}
        wanted: list[tuple[str, str]] = []
        for key in runs:
            if key in new_runs:
                continue
            tail = None if careful else self._tails.get(key)
            if tail is None:
                wanted.append(key)
            else:
                tails[key] = tail
        if wanted:
            cursor = self._conn.cursor(binary=True)
            await cursor.execute(
                "SELECT w.log, w.run, t.run_seq, t.leaf_hash, t.recorded"
                " FROM unnest(%b::text[], %b::text[]) AS w(log, run) CROSS JOIN LATERAL ("
                "  SELECT e.run_seq, sha256('\\x00'::bytea || e.leaf) AS leaf_hash, e.recorded FROM entries e"
                "  WHERE e.log = w.log AND e.run = w.run ORDER BY e.run_seq DESC LIMIT 1) t",
                [list(column) for column in zip(*wanted, strict=True)],
            )
            async for log, run, run_seq, leaf_hash, recorded in cursor:
                tails[(log, run)] = _Tail(run_seq, leaf_hash, _micros(recorded))
        return tails

    # (5)
    def _intake_drafts(self, accounts: Sequence[Account]) -> Iterator[Draft]:
        for account in accounts:
            source = {
                "ledger": f"intake/{account.cluster}/{account.topic}/{account.topic_id or '-'}"
                f"/{account.partition}/{account.first}/{account.epoch}"
            }
            data = {
                "cluster": account.cluster,
                "topic_id": account.topic_id,
                "from": account.first,
                "to": account.last,
                "records": account.records,
                "skipped": account.last - account.first + 1 - account.records,
                "events": account.events,
                "appended": account.appended,
                "duplicates": account.duplicates,
                "conflicts": account.conflicts,
                "rejected": account.rejected,
            }
            data = {name: value for name, value in data.items() if value is not None}
            yield plain_draft(account.log, "intake", source, data)

    def _place(self, by_log: dict[str, list[Draft]], heads: dict[str, _Head], tails: _Tails) -> dict[str, _Placed]:
        now_us = self._clock_us()
        placed: dict[str, _Placed] = {}
        for log in sorted(by_log):
            head = heads[log]
            floor_us = max(now_us, head.recorded_us - RECORDED_BACK_US_MAX)
            chain = _Chain(log, head.edge.tree_size, floor_us, tails)
            for draft in by_log[log]:
                chain.add(draft)
            edge = head.edge.copy()
            tiles = edge.extend(chain.hashes)
            root_hash = edge.root()
            note = sign_checkpoint(Checkpoint(log, edge.tree_size, root_hash), self._keystore.signer(log))
            placed[log] = _Placed(
                head=_Head(edge, max(head.recorded_us, chain.recorded_us_max), head.erasure_epoch),
                entries=chain.entries,
                contents=chain.contents,
                tiles=tiles,
                note=note,
                root_hash=root_hash,
            )
        return placed

    async def _write(self, placed: dict[str, _Placed], accounts: Sequence[Account]) -> None:
        conn = self._conn
        await self._copy(
            "COPY entries (log, index, id, kind, run, run_seq, recorded, leaf) FROM STDIN (FORMAT binary)",
            [part.entries for part in placed.values()],
        )
        await self._copy(
            "COPY content (log, index, fingerprint, pointers, types, sealed) FROM STDIN (FORMAT binary)",
            [part.contents for part in placed.values()],
        )
        tiles = [(log, tile.level, tile.index, tile.hashes) for log, part in placed.items() for tile in part.tiles]
        logs = list(placed)
        async with conn.pipeline():
            if tiles:
                await conn.execute(
                    "INSERT INTO tiles (log, level, index, hashes)"
                    " SELECT * FROM unnest(%b::text[], %b::smallint[], %b::bigint[], %b::bytea[])",
                    [list(column) for column in zip(*tiles, strict=True)],
                )
            await conn.execute(
                "UPDATE logs l SET tree_size = w.tree_size, root_hash = w.root_hash, edge = w.edge,"
                " recorded = w.recorded FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::bytea[],"
                " %b::timestamptz[]) AS w(log, tree_size, root_hash, edge, recorded) WHERE l.log = w.log",
                (
                    logs,
                    [part.head.edge.tree_size for part in placed.values()],
                    [part.root_hash for part in placed.values()],
                    [part.head.edge.dump() for part in placed.values()],
                    [_moment(part.head.recorded_us) for part in placed.values()],
                ),
            )
            await conn.execute(
                "INSERT INTO checkpoints (log, tree_size, root_hash, note)"
                " SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::bytea[])",
                (
                    logs,
                    [part.head.edge.tree_size for part in placed.values()],
                    [part.root_hash for part in placed.values()],
                    [part.note for part in placed.values()],
                ),
            )
            if accounts:
                await conn.execute(
                    "UPDATE positions p SET next_offset = w.next_offset, topic_id = w.topic_id"
                    " FROM unnest(%s::text[], %s::text[], %s::integer[], %s::bigint[], %s::text[])"
                    " AS w(cluster, topic, partition, next_offset, topic_id)"
                    " WHERE (p.cluster, p.topic, p.partition) = (w.cluster, w.topic, w.partition)",
                    (
                        [account.cluster for account in accounts],
                        [account.topic for account in accounts],
                        [account.partition for account in accounts],
                        [account.last + 1 for account in accounts],
                        [account.topic_id for account in accounts],
                    ),
                )

    async def _copy(self, statement: str, parts: Iterable[list[bytes]]) -> None:
        rows = [row for part in parts for row in part]
        if not rows:
            return
        async with self._conn.cursor().copy(statement.encode()) as copy:
            await copy.write(b"".join((COPY_HEADER, *rows, COPY_TRAILER)))

    def _remember(self, placed: dict[str, _Placed], tails: _Tails) -> None:
        for log, part in placed.items():
            self._heads[log] = part.head
        for key, tail in tails.items():
            self._tails[key] = tail
            self._tails.move_to_end(key)
        while len(self._tails) > TAILS_REMEMBERED_MAX:
            self._tails.popitem(last=False)


class _Chain:
    """Places drafts of one log: run chain, leaf, hash, and the COPY rows, in order.

    `recorded` is the time of this batch for all of them, but never before the run's previous entry.
    """

    def __init__(self, log: str, tree_size: int, recorded_us: int, tails: _Tails) -> None:
        self.hashes: list[bytes] = []
        self.entries: list[bytes] = []
        self.contents: list[bytes] = []
        self.recorded_us_max = recorded_us
        self._log = log
        self._index = tree_size
        self._tails = tails
        self._recorded_us = recorded_us
        self._recorded = micros_text(recorded_us)
        log_field = copy_field(log.encode())
        self._entry_head = _ENTRY_FIELDS + log_field
        self._content_head = _CONTENT_FIELDS + log_field

    def add(self, draft: Draft) -> None:
        run = draft.run
        if run is None:
            self._append(draft, draft.leaf(b"", 0, self._recorded), _NULL_FIELD, _NULL_FIELD, self._recorded_us)
            return
        key = (self._log, run)
        tail = self._tails.get(key)
        recorded, recorded_us = self._recorded, self._recorded_us
        if tail is None:
            run_seq, prev = 0, b""
        else:
            run_seq, prev = tail.run_seq + 1, tail.leaf_hash.hex().encode()
            if tail.recorded_us > recorded_us:
                recorded, recorded_us = micros_text(tail.recorded_us), tail.recorded_us
        leaf = draft.leaf(prev, run_seq, recorded)
        leaf_hash = self._append(draft, leaf, copy_field(run.encode()), _INT8.pack(8, run_seq), recorded_us)
        # A new object: the remembered one must stay as it is until the transaction has committed.
        self._tails[key] = _Tail(run_seq, leaf_hash, recorded_us)
        if draft.kind == "run_finished":
            self.add(_run_head(self._log, run, run_seq + 1, leaf_hash))

    def _append(self, draft: Draft, leaf: bytes, run: bytes, run_seq: bytes, recorded_us: int) -> bytes:
        index = _INT8.pack(8, self._index)
        self.entries.append(
            b"".join(
                (
                    self._entry_head,
                    index,
                    _UUID_LENGTH,
                    draft.id_bytes,
                    _kind_field(draft.kind),
                    run,
                    run_seq,
                    _RECORDED_AND_LEAF.pack(8, recorded_us - _POSTGRES_EPOCH_US, len(leaf)),
                    leaf,
                )
            )
        )
        if draft.content_row is not None:
            self.contents.append(b"".join((self._content_head, index, draft.content_row)))
        leaf_hash = hashlib.sha256(b"\0" + leaf).digest()
        self.hashes.append(leaf_hash)
        self._index += 1
        if recorded_us > self.recorded_us_max:
            self.recorded_us_max = recorded_us
        return leaf_hash


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items one after another, with a turn for the event loop's other tasks after every TURN_EVERY."""
    for at, item in enumerate(items, 1):
        yield item
        if at % TURN_EVERY == 0:
            await asyncio.sleep(0)


def _run_head(log: str, run: str, entries: int, last: bytes) -> Draft:
    source = {"ledger": f"run_head/{run}/{entries}"}
    return plain_draft(log, "run_head", source, {"entries": entries, "last": last.hex()}, run=run)


@lru_cache(maxsize=256)
def _kind_field(kind: str) -> bytes:
    return copy_field(kind.encode())


def _by_log(items: Iterable[Item]) -> dict[str, list[Item]]:
    """The items of each log, in their order."""
    by_log: dict[str, list[Item]] = {}
    for item in items:
        by_log.setdefault(item.draft.log, []).append(item)
    return by_log


def _account(accounts: Sequence[Account], number: int) -> Account:
    """The account of that number, or one that nobody reads."""
    return accounts[number] if number >= 0 else _NOBODY


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


async def refuse_fork(conn: Connection, keystore: KeyStore, log: str, tree_size: int) -> None:
    """Raise LogRolledBack unless the log extends what was published of it, which is recorded outside the database."""
    published = keystore.published(log)
    if published is None:
        return
    size, root_hash = published
    if size > tree_size:
        raise LogRolledBack(
            f"{log}: a checkpoint of size {size} was published, the database has {tree_size}:"
            " it is an older copy, and appending to it would fork the log. See `tally recover`"
        )
    if size == 0:
        return
    cursor = await conn.execute("SELECT root_hash FROM checkpoints WHERE log = %s AND tree_size = %s", (log, size))
    row = await cursor.fetchone()
    if row is None or bytes(row[0]) != root_hash:
        raise LogRolledBack(f"{log}: the published checkpoint of size {size} is not one of this database's")
