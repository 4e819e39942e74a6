"""A ledger to verify and to tamper with: written by the real writer, changed by a superuser behind its back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from ledger.append import Account, Appender
from ledger.db import connect
from ledger.keystore import SqliteKeyStore
from ledger.publish import publish_heads
from ledger.registry import Registry, Tenant
from ledger.seal import Pending, Sealer
from ledger.verify import Report, verify
from schemas.event import Content, Event
from tests.support.servers import Database

PREFIX = "ledger.example.org"
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
TOPIC = "tally.events"
TOPIC_ID = "k1FJd3cWSSGLbbPaZvYbzA"


def event(
    rng: random.Random,
    kind: str,
    run: str | None,
    src: tuple[str, int] | None,
    *,
    subjects: tuple[str, ...] = (),
    persons: tuple[tuple[str, str], ...] = (),
) -> Event:
    """An event as normalization would give it, about 800 bytes with two content fields."""
    data: dict[str, Any] = {"tool": "payments.refund", "phase": "finished", "call": f"call-{rng.randrange(1000)}"}
    data |= {"latency_us": rng.randrange(10**6), "status": "ok", "vouched": "claimed", "from": "event"}
    if kind == "run_finished":
        data = {"status": "success", "vouched": "claimed", "from": "event"}
    return Event(
        id=f"{rng.getrandbits(32):08x}-{rng.getrandbits(16):04x}-4{rng.getrandbits(12):03x}-8{rng.getrandbits(12):03x}"
        f"-{rng.getrandbits(48):012x}",
        kind=kind,
        schema=1,
        tenant=None,
        run=run,
        src=None if src is None else {"id": src[0], "seq": src[1]},
        time="2026-11-21T10:00:00.000000Z",
        actor={"agent": "support-desk", "version": "2.3.1"},
        data=data,
        content=[
            Content("/input", "application/json", b'{"order":"P-%d","amount":12.90}' % rng.randrange(10**6)),
            Content("/output", "text/plain", rng.randbytes(rng.randrange(20, 200))),
        ],
        persons=list(persons),
        subjects=subjects,
        raw_unmapped=0,
        digest_input=b'{"order":"P-1"}' if kind == "tool_call" else None,
    )


@dataclass
class World:
    """A ledger, its writer and its key store."""

    database: Database
    keystore: SqliteKeyStore
    conn: psycopg.AsyncConnection[Any]
    appender: Appender
    registry: Registry
    rng: random.Random
    tenants: list[Tenant] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def origins(self) -> list[str]:
        """The tenants' logs."""
        return [origin for tenant in self.tenants for origin in tenant.origins]

    async def batch(
        self, tenant: Tenant, runs: list[str], count: int, *, partition: int = 0, finish: bool = False
    ) -> None:
        """Append a batch of events of these runs as if from one topic partition, with its account."""
        first = self.offsets.get(partition, 0)
        log = self.registry.intake(TOPIC, partition)
        if partition not in self.offsets:
            await self.registry.add_log(self.appender, log, "intake")
            await self.conn.execute(
                "INSERT INTO positions (cluster, topic, partition, topic_id, epoch) VALUES (%s, %s, %s, %s, 1)",
                (CLUSTER, TOPIC, partition, TOPIC_ID),
            )
        pendings = []
        kinds = ["tool_call"] * count + ["run_finished"] * (len(runs) if finish else 0)
        for number, kind in enumerate(kinds):
            run = runs[number % len(runs)] if kind == "tool_call" else runs[number - count]
            self.numbers[run] = self.numbers.get(run, 0) + 1
            made = event(
                self.rng,
                kind,
                run,
                (f"producer-{run}", self.numbers[run]),
                subjects=("customer-1", "customer-2")
                if number % 7 == 3
                else ("customer-1",)
                if number % 7 == 5
                else (),
                persons=(("/actor/principal", "ann"),) if number % 5 == 0 else (),
            )
            source = {"cluster": CLUSTER, "topic": TOPIC, "topic_id": TOPIC_ID, "partition": partition}
            source |= {"offset": first + number, "item": 0}
            pendings.append(Pending(made, tenant.tenant, tenant.origins[partition % len(tenant.origins)], source))
        account = Account(log, CLUSTER, TOPIC, TOPIC_ID, partition, 1, first, first, first + len(kinds) - 1, len(kinds))
        self.appender.prepare(pendings)
        items = [self.appender.seal(pending) for pending in pendings]
        for item in items:
            item.account = 0
        await self.appender.append(items, [account])
        self.offsets[partition] = first + len(kinds)

    async def publish(self) -> int:
        """One round of the heads publisher."""
        return await publish_heads(self.conn, self.keystore, self.registry.heads)

    async def verify(self, **options: Any) -> Report:
        """Verify this ledger."""
        return await verify(self.database.url("tally_auditor"), self.keystore, **options)


@asynccontextmanager
async def world(database: Database, folder: Path, seed: int = 7) -> AsyncIterator[World]:
    """An empty ledger with its writer."""
    keystore = SqliteKeyStore(folder / "keys")
    conn = await connect(database.url(None), "tally_writer")
    async with conn:
        appender = Appender(conn, keystore, Sealer(keystore))
        registry = Registry(conn, keystore, PREFIX)
        await registry.add_log(appender, registry.heads, "heads")
        yield World(database, keystore, conn, appender, registry, random.Random(seed))
    keystore.close()


async def small(database: Database, folder: Path) -> None:
    """Two tenants, one of two shards, some 1,900 entries of finished runs in many batches, and published heads."""
    async with world(database, folder) as made:
        for name, shards in (("acme", 1), ("globex", 2)):
            made.tenants.append(await made.registry.add_tenant(made.appender, name, slug=name, shards=shards))
        for round in range(6):
            for number, tenant in enumerate(made.tenants):
                for shard in range(len(tenant.origins)):
                    partition = number * 2 + shard
                    runs = [f"{tenant.slug}-{shard}-{round}-{at}" for at in range(8)]
                    await made.batch(tenant, runs, 50, partition=partition)
                    await made.batch(tenant, runs, made.rng.randrange(5, 40), partition=partition, finish=True)
            await made.publish()
        await made.publish()


@asynccontextmanager
async def tampering(database: Database) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A superuser's connection on which no trigger fires."""
    conn = await psycopg.AsyncConnection.connect(database.url(None), autocommit=True)
    async with conn:
        await conn.execute("SET session_replication_role = replica")
        yield conn


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962's leaf hash."""
    return hashlib.sha256(b"\0" + leaf).digest()


def found(report: Report) -> set[tuple[str, str, int | None]]:
    """The findings without their details."""
    return {(finding.kind, finding.log, finding.index) for finding in report.findings}


def kinds(report: Report) -> set[str]:
    """The kinds of the findings."""
    return {finding.kind for finding in report.findings}
