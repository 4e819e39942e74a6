"""append: events from Kafka to committed, by one consumer process, against the floor of bench/floor.py."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.common import Result, Stage, child, preload, staged
from ingest.consumer import BATCH_ITEMS_MAX
from ledger.append import Appender
from ledger.db import connect
from ledger.keystore import SqliteKeyStore
from ledger.note import vkey_text
from ledger.registry import Registry
from ledger.seal import Sealer

EVENTS = {"small": 40_000, "full": 200_000}
RUNS = 5_000
TENANTS = 10
FLOOR_TABLES = """
CREATE TABLE entries (
    log text NOT NULL, index bigint NOT NULL, id uuid, kind text, run text, run_seq bigint, recorded timestamptz,
    leaf bytea NOT NULL, PRIMARY KEY (log, index)
);
ALTER TABLE entries ALTER COLUMN leaf SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX ON entries (log, id);
CREATE UNIQUE INDEX ON entries (log, run, run_seq) WHERE run IS NOT NULL;
CREATE TABLE content (
    log text NOT NULL, index bigint NOT NULL, fingerprint bytea, pointers text[] NOT NULL, types text[] NOT NULL,
    sealed bytea[] NOT NULL, PRIMARY KEY (log, index)
);
ALTER TABLE content ALTER COLUMN sealed SET STORAGE EXTERNAL;
"""


def consumer_arguments(stage: Stage) -> dict[str, Any]:
    """What bench.consume needs."""
    return {"keys": str(stage.keys), "postgres": stage.admin, "kafka": stage.bootstrap, "prefix": stage.prefix}


async def make_floor_database(stage: Stage) -> str:
    """A database with the same two tables and keys, and nothing else; its address."""
    async with await psycopg.AsyncConnection.connect(stage.admin, autocommit=True) as conn:
        await conn.execute("DROP DATABASE IF EXISTS floor")
        await conn.execute("CREATE DATABASE floor")
        await conn.execute("CHECKPOINT")
    url = stage.database("floor")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute(FLOOR_TABLES.encode())
    return url


async def measure(size: str) -> Result:
    """One consumer, then the floor, then (on topics of their own) two consumers, on the same servers."""
    events = EVENTS[size]
    async with staged(TENANTS) as stage:
        event_bytes = await preload(stage.bootstrap, "tally.events", events, RUNS, TENANTS)
        one = await child("bench.consume", consumer_arguments(stage))
        floor_url = await make_floor_database(stage)
        floor = await child(
            "bench.floor",
            {"postgres": stage.admin, "floor_postgres": floor_url, "kafka": stage.bootstrap, "batch": BATCH_ITEMS_MAX},
        )
    if one["records"] != events or one["rejected"]:
        raise SystemExit(f"append: expected {events} records appended, got {one}")
    value, floor_value = events / one["seconds"], events / floor["seconds"]
    two = await two_consumers(events)
    signed = await signed_variant(events)
    return Result(
        name="append",
        value=value,
        unit="events/s",
        floor=floor_value,
        ratio=value / floor_value,
        peak_memory_mb=one["peak_memory_mb"],
        settings={
            "events": events,
            "event_bytes": event_bytes,
            "runs": RUNS,
            "tenants": TENANTS,
            "batch": BATCH_ITEMS_MAX,
            "fsync": "on",
            "synchronous_commit": "on",
            "consumers": 1,
        },
        more={
            "cpu_us_per_event": one["cpu_seconds"] / events * 1e6,
            "floor_cpu_us_per_event": floor["cpu_seconds"] / events * 1e6,
            "two_consumers_events_per_s": two,
            "two_to_one": two / value,
            "signed_events_per_s": signed,
            "signed_to_unsigned": signed / value,
        },
    )


async def two_consumers(events: int) -> float:
    """Events a second of two consumers in one group over the same tenants."""
    async with staged(TENANTS) as stage:
        await preload(stage.bootstrap, "tally.events", events, RUNS, TENANTS)
        arguments = consumer_arguments(stage) | {"total": events, "idle_s": 4.0}
        done = await asyncio.gather(child("bench.consume", arguments), child("bench.consume", arguments))
    if sum(result["records"] for result in done) != events:
        raise SystemExit(f"append: two consumers appended {done}, not {events} records")
    return events / (max(result["last"] for result in done) - min(result["first"] for result in done))


async def signed_variant(events: int) -> float:
    """Events a second of one consumer where every event carries its producer's signature, which is checked and kept."""
    async with staged(TENANTS) as stage:
        signer = Ed25519PrivateKey.generate()
        public = signer.public_key().public_bytes_raw()
        with SqliteKeyStore(stage.keys) as keystore:
            async with await connect(stage.admin, "tally_writer") as conn:
                registry = Registry(conn, keystore, stage.prefix)
                appender = Appender(conn, keystore, Sealer(keystore))
                for name, tenant in (await registry.tenants()).items():
                    await registry.add_producer_key(appender, tenant, "bench", vkey_text(name, public), "producer")
        await preload(stage.bootstrap, "tally.events", events, RUNS, TENANTS, signer=signer)
        done = await child("bench.consume", consumer_arguments(stage))
    if done["records"] != events or done["rejected"]:
        raise SystemExit(f"append: expected {events} signed records appended, got {done}")
    return float(events / done["seconds"])
