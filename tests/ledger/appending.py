"""A database, a key store and as many appenders as a test wants; and what was appended, read back."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.append import Account, Appender, Outcome, wall_clock_us
from ledger.content import open_field
from ledger.db import Connection, connect
from ledger.keystore import SqliteKeyStore
from ledger.registry import Registry, Tenant
from ledger.seal import Pending, Sealer
from ledger.verify import Report, verify
from schemas.event import Content, Event
from tests.support.servers import Database

PREFIX = "ledger.example.org"
CLUSTER, TOPIC = "cluster-1", "tally.events"


def make_event(
    run: str | None, *, id: str | None = None, kind: str = "tool_call", output: bytes = b'"done"', **data: Any
) -> Event:
    """A normalized event with one content field."""
    public = {"tool": "t", "phase": "finished", "call": "c", "from": "event"} if kind == "tool_call" else {}
    public |= {"status": "success", "from": "event"} if kind == "run_finished" else {}
    return Event(
        id=id or str(uuid.uuid4()),
        kind=kind,
        schema=1,
        tenant=None,
        run=run,
        src=None,
        time="2026-11-21T10:00:00.000000Z",
        actor={"agent": "desk"},
        data=public | data,
        content=[Content("/output", "application/json", output)],
        persons=[],
        subjects=(),
        raw_unmapped=0,
        digest_input=None,
    )


@dataclass
class Bench:
    """A ledger under test. `offset` numbers the records."""

    database: Database
    keystore: SqliteKeyStore
    conn: Connection
    registry: Registry
    stack: AsyncExitStack
    offset: int = 0

    async def appender(self, clock_us: Callable[[], int] = wall_clock_us) -> Appender:
        """A writer with a connection and a memory of its own."""
        conn = await self.stack.enter_async_context(await connect(self.database.url(), "tally_writer"))
        return Appender(conn, self.keystore, Sealer(self.keystore), clock_us=clock_us)

    async def tenant(self, name: str = "acme", shards: int = 1) -> Tenant:
        return await self.registry.add_tenant(await self.appender(), name, slug=name, shards=shards)

    def pending(self, tenant: Tenant, event: Event, shard: int = 0, **more: Any) -> Pending:
        """The event as ingest hands it over, from the next offset."""
        source = {"cluster": CLUSTER, "topic": TOPIC, "topic_id": None, "partition": shard, "offset": self.offset}
        self.offset += 1
        event.data.setdefault("vouched", "claimed")
        received = json.dumps([event.id, event.data]).encode()
        return Pending(event, tenant.tenant, tenant.origins[shard], source | {"item": 0}, received=received, **more)

    async def append(
        self, appender: Appender, pendings: Sequence[Pending], accounts: Sequence[Account] = ()
    ) -> Outcome:
        """With accounts, all of it counts in the first."""
        appender.prepare(pendings)
        items = [appender.seal(pending) for pending in pendings]
        for item in items:
            item.account = 0 if accounts else -1
        return await appender.append(items, accounts)

    async def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = await self.conn.execute(query.encode(), parameters)
        return await cursor.fetchall()

    async def raw_leaves(self, log: str) -> list[bytes]:
        return [bytes(row[0]) for row in await self.rows("SELECT leaf FROM entries WHERE log = %s ORDER BY index", log)]

    async def leaves(self, log: str, kind: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(leaf) for leaf in await self.raw_leaves(log)]
        return [leaf for leaf in found if kind in (None, leaf["kind"])]

    async def opened(self, leaf: dict[str, Any], pointer: str) -> bytes:
        """A content field of an entry, opened with the key store."""
        ((pointers, types, sealed),) = await self.rows(
            "SELECT c.pointers, c.types, c.sealed FROM entries e JOIN content c USING (log, index)"
            " WHERE e.log = %s AND e.id = %s",
            leaf["log"],
            leaf["id"],
        )
        at = pointers.index(pointer)
        refs = leaf["commit"][pointer]["k"]
        keys = self.keystore.keys_by_ref(refs)
        _, value = open_field(
            [keys[ref] for ref in refs], bytes(sealed[at]), leaf["log"], leaf["id"], pointer, types[at]
        )
        return value

    async def verify(self) -> Report:
        return await verify(self.database.url("tally_auditor"), self.keystore, workers=1)

    async def sound(self) -> None:
        """The whole ledger verifies. Most batches here come without an account of their partition, which shows."""
        report = await self.verify()
        assert report.integrity == "ok", report.findings[:5]
        assert {finding.kind for finding in report.findings} <= {"source_hole"}, report.findings[:5]


@asynccontextmanager
async def bench(database: Database, folder: Path) -> AsyncIterator[Bench]:
    """An empty ledger: `_system` and `heads` are there."""
    async with AsyncExitStack() as stack:
        keystore = stack.enter_context(SqliteKeyStore(folder / "keys"))
        conn = await stack.enter_async_context(await connect(database.url(), "tally_writer"))
        registry = Registry(conn, keystore, PREFIX)
        made = Bench(database, keystore, conn, registry, stack)
        await registry.add_log(await made.appender(), registry.heads, "heads")
        yield made


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def naive_root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, by the letter."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + naive_root(hashes[:split]) + naive_root(hashes[split:])).digest()
