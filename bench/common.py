"""What the benchmarks share: servers in a temporary home, preloaded topics, children with their own memory, results."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psycopg
from aiokafka import AIOKafkaProducer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import sql

from ingest.signatures import PRODUCER_DOMAIN, SIGNATURE_HEADER
from ledger.append import Appender
from ledger.content import lp
from ledger.db import connect, migrate
from ledger.keystore import SqliteKeyStore
from ledger.registry import Registry
from ledger.seal import Sealer
from tallystick.servers import EmbeddedPostgres, ensure_topics, stack

RESULTS = Path(__file__).parent / "results"
PARTITIONS = 8


@dataclass(slots=True)
class Result:
    """One benchmark's outcome, as it is written to bench/results/NAME.json."""

    name: str
    value: float
    unit: str
    floor: float | None
    ratio: float | None
    peak_memory_mb: float | None
    settings: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self) | {"machine": machine()}, indent=2) + "\n")
        floor = "" if self.floor is None else f", floor {self.floor:,.0f}, ratio {self.ratio:.2f}"
        memory = "" if self.peak_memory_mb is None else f", peak {self.peak_memory_mb:.0f} MB"
        print(f"{self.name}: {self.value:,.1f} {self.unit}{floor}{memory}")
        for name, value in self.more.items():
            print(f"  {name}: {value}")


def machine() -> dict[str, Any]:
    """What numbers depend on beside the code. An interpreter built without optimization by profile does the same in
    about a third more time; which this one is, a loop tells."""
    start, steps = now(), 2_000_000
    for _ in range(steps):
        pass
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "loop_ns_per_step": round((now() - start) / steps * 1e9, 1),
    }


@dataclass(frozen=True, slots=True)
class Stage:
    """Running servers with a migrated database, and where the key store is."""

    home: Path
    admin: str
    bootstrap: str
    prefix: str

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    def database(self, name: str) -> str:
        """The administrator's address of another database on the same server."""
        return psycopg.conninfo.make_conninfo(self.admin, dbname=name)


@asynccontextmanager
async def staged(
    tenants: int, topic: str = "tally.events", postgres_settings: dict[str, str] | None = None
) -> AsyncIterator[Stage]:
    """Servers in a temporary home, the ledger migrated, `tenants` registered as tenant-0, tenant-1, …"""
    with tempfile.TemporaryDirectory(prefix="tally-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        async with stack(home / "servers") as servers:
            if postgres_settings:
                await _set_and_restart(servers.pg, postgres_settings)
            admin = servers.pg.url()
            await migrate(admin)
            await ensure_topics(servers.kafka.bootstrap, {topic: PARTITIONS})
            with SqliteKeyStore(home / "keys") as keystore:
                stage = Stage(home, admin, servers.kafka.bootstrap, keystore.prefix())
                async with await connect(admin, "tally_writer") as conn:
                    registry = Registry(conn, keystore, stage.prefix)
                    appender = Appender(conn, keystore, Sealer(keystore))
                    await registry.add_log(appender, registry.heads, "heads")
                    for n in range(tenants):
                        await registry.add_tenant(appender, f"tenant-{n}")
            yield stage


async def _set_and_restart(postgres: EmbeddedPostgres, settings: dict[str, str]) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.url(), autocommit=True) as conn:
        for name, value in settings.items():
            await conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    await postgres.stop()
    await postgres.start()


def make_event(n: int, runs: int, tenants: int) -> tuple[bytes, bytes]:
    """(key, value) of the n-th event: a tool call of about 800 bytes with two content fields, the runs in turn."""
    run = f"run-{n % runs:05d}"
    event = {
        "specversion": "1.0",
        "type": "tallystick.tool_call.v1",
        "id": str(uuid.uuid4()),
        "source": "bench/runtime",
        "subject": run,
        "time": "2026-11-21T03:00:00.123456Z",
        "sequence": f"{n // runs + 1:016d}",
        "producerid": "bench-1",
        "tenant": f"tenant-{n % runs % tenants}",
        "data": {
            "actor": {"agent": "returns-desk", "version": "1.4.2"},
            "tool": "payments.refund",
            "phase": "finished",
            "call": f"call-{n}",
            "access": "write",
            "risk": "high",
            "latency_us": 12345 + n,
            "status": "ok",
            "effect": {"system": "payments", "resource": f"charge/{n}", "action": "refund", "count": 1},
            "input": {"charge": f"ch_{n:012d}", "amount": "12.90", "note": "x" * 60},
            "output": {"refund": f"re_{n:012d}", "state": "done", "note": "y" * 70},
        },
    }
    return run.encode(), orjson.dumps(event)


async def preload(
    bootstrap: str,
    topic: str,
    events: int,
    runs: int,
    tenants: int,
    first: int = 0,
    signer: Ed25519PrivateKey | None = None,
) -> int:
    """Publish the events, acknowledged by all; return the mean size of a value in bytes.

    With a signer each is signed as its tenant's producer `bench` (kinds.md, "Who may say what").
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=20, max_batch_size=1 << 19, enable_idempotence=True
    )
    size = 0
    await producer.start()
    try:
        waiting: list[asyncio.Future[Any]] = []
        for n in range(first, first + events):
            key, value = make_event(n, runs, tenants)
            size += len(value)
            headers = []
            if signer is not None:
                tenant = f"tenant-{n % runs % tenants}".encode()
                signature = signer.sign(PRODUCER_DOMAIN + lp(tenant) + lp(value))
                headers = [(SIGNATURE_HEADER, b"bench:" + b64encode(signature))]
            waiting.append(await producer.send(topic, value, key=key, headers=headers))
            if len(waiting) == 10_000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
    return size // events


async def child(module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run `python -m module` with JSON arguments in a process of its own; return the JSON it prints last."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, json.dumps(arguments), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{module} ended with status {process.returncode}")
    return dict(json.loads(output.decode().strip().splitlines()[-1]))


def peak_memory_mb() -> float:
    """This process's largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds() -> float:
    """Processor time that this process has used so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def now() -> float:
    """Seconds, monotonic."""
    return time.perf_counter()
