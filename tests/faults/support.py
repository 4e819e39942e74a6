"""A place to break things in: a tenant with its own topic, consumers as processes, and the checks after a fault."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ledger.append import Appender
from ledger.db import connect
from ledger.keystore import SqliteKeyStore
from ledger.registry import Registry
from ledger.seal import Sealer
from ledger.verify import verify

PARTITIONS = 3


def event(run: str, number: int, **changes: Any) -> dict[str, Any]:
    """A tool call with two content fields."""
    return {
        "specversion": "1.0",
        "type": "tallystick.tool_call.v1",
        "id": str(uuid.uuid4()),
        "source": "faults/runtime",
        "subject": run,
        "time": "2026-11-21T03:00:00.000001Z",
        "sequence": f"{number:016d}",
        "producerid": "producer-1",
        "data": {
            "tool": "payments.refund",
            "phase": "finished",
            "call": f"call-{number}",
            "status": "ok",
            "input": {"amount": "12.90"},
            "output": {"state": "done"},
        },
    } | changes


@dataclass(slots=True)
class Site:
    """One tenant's topic and log. `sent` are the acknowledged event ids."""

    postgres: str
    kafka: str
    keys: Path
    prefix: str
    tenant: str
    topic: str
    origin: str
    sent: list[str] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)

    async def publish(self, count: int, runs: int = 7) -> list[str]:
        """Publish events, acknowledged by all, runs in turn, each with its producer sequence."""
        values = []
        for n in range(count):
            run = f"run-{n % runs}"
            self.numbers[run] += 1
            values.append((run, event(run, self.numbers[run])))
        await self.send([(run.encode(), json.dumps(value).encode(), []) for run, value in values])
        ids = [value["id"] for _, value in values]
        self.sent.extend(ids)
        return ids

    async def send(self, records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]) -> list[Any]:
        """Send raw records (key, value, headers); return their metadata."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", max_request_size=16 << 20)
        await producer.start()
        try:
            waiting = [await producer.send(self.topic, value, key=key, headers=head) for key, value, head in records]
            return list(await asyncio.gather(*waiting))
        finally:
            await producer.stop()

    def arguments(self, **more: Any) -> str:
        """What tests.faults.child reads."""
        return json.dumps(
            {
                "postgres": self.postgres,
                "kafka": self.kafka,
                "keys": str(self.keys),
                "prefix": self.prefix,
                "topic": self.topic,
                # A group of its own each time: a dead member would hold its partitions until the session timeout,
                # and what fences is Postgres, not the group.
                "group": f"{self.topic}-{secrets.token_hex(4)}",
                "idle_s": 1.0,
            }
            | more
        )

    async def start(self, **more: Any) -> asyncio.subprocess.Process:
        """Start a consumer process."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.child",
            self.arguments(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def consume(self, **more: Any) -> dict[str, Any]:
        """Run a consumer until the topic is drained; return its progress."""
        process = await self.start(**more)
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
        return dict(json.loads(output.decode().splitlines()[-1]))

    async def consume_and_die(self, **more: Any) -> None:
        """Run a consumer that must die by SIGKILL."""
        process = await self.start(**more)
        _, errors = await process.communicate()
        assert process.returncode == -signal.SIGKILL, (process.returncode, errors.decode()[-2000:])

    async def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, as the auditor."""
        async with await connect(self.postgres, "tally_auditor") as conn:
            cursor = await conn.execute(query.encode(), parameters)
            return await cursor.fetchall()

    async def leaves(self, kind: str, log: str | None = None) -> list[dict[str, Any]]:
        """The leaves of a kind, in order."""
        rows = await self.rows(
            "SELECT leaf FROM entries WHERE log = %s AND kind = %s ORDER BY index", log or self.origin, kind
        )
        return [json.loads(bytes(row[0])) for row in rows]

    async def check(self, *, findings: set[str] = frozenset(), completeness: str | None = None) -> None:  # type: ignore[assignment]
        """Every acknowledged event is there exactly once, and the whole ledger verifies."""
        rows = await self.rows("SELECT id::text FROM entries WHERE log = %s AND kind = 'tool_call'", self.origin)
        assert Counter(row[0] for row in rows) == Counter(self.sent)
        with SqliteKeyStore(self.keys, create=False) as keystore:
            report = await verify(self.postgres, keystore, workers=1)
        assert {finding.kind for finding in report.findings} == set(findings), report.findings[:5]
        assert report.integrity == "ok"
        if completeness is not None:
            assert report.completeness == completeness


async def make_site(postgres: str, kafka: str, folder: Path) -> Site:
    """Register a tenant with a random slug, and make its topic."""
    slug = f"f-{secrets.token_hex(5)}"
    keys = folder / "keys"
    with SqliteKeyStore(keys) as keystore:
        prefix = keystore.prefix()
        async with await connect(postgres, "tally_writer") as conn:
            registry = Registry(conn, keystore, prefix)
            appender = Appender(conn, keystore, Sealer(keystore))
            await registry.add_log(appender, registry.heads, "heads")
            tenant = await registry.add_tenant(appender, slug, slug=slug)
    topic = f"tally.events.{slug}"
    await make_topic(kafka, topic)
    return Site(postgres, kafka, keys, prefix, slug, topic, tenant.origins[0])


async def make_topic(kafka: str, topic: str, **settings: str) -> None:
    """A topic of three partitions that takes large records."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        configs = {"max.message.bytes": str(16 << 20)} | settings
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=configs)])
    finally:
        await admin.close()
