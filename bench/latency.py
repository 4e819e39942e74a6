"""latency: from produced to committed at a steady rate, by one consumer; percentiles in milliseconds."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import psycopg
from aiokafka import AIOKafkaProducer

from bench.append import TENANTS, consumer_arguments
from bench.common import Result, child, make_event, now, staged

EVENTS_PER_S = 1_000
SECONDS = {"small": 10, "full": 60}
RUNS = 500
WARM_UP_S = 3
TARGET_P99_MS = 300


async def measure(size: str) -> Result:
    """Each event carries when it was handed to the producer; Postgres says when its transaction ended.

    The commit time is Postgres' own (`track_commit_timestamp`), on the same clock as the producer's, so nothing is
    polled. The floor is the transport alone: the time until Kafka acknowledged the event.
    """
    seconds = SECONDS[size]
    async with staged(TENANTS, postgres_settings={"track_commit_timestamp": "on"}) as stage:
        arguments = consumer_arguments(stage) | {"idle_s": WARM_UP_S + 3.0}
        consuming = asyncio.create_task(child("bench.consume", arguments))
        sent, acknowledged = await produce(stage.bootstrap, seconds)
        consumed = await consuming
        committed = await commit_times(stage.admin)
    waits = sorted((committed[id] - at) * 1000 for n, (id, at) in enumerate(sent) if n >= WARM_UP_S * EVENTS_PER_S)
    if len(committed) != len(sent):
        raise SystemExit(f"latency: {len(sent)} sent, {len(committed)} committed")
    floor = sorted(acknowledged)
    p99, floor_p99 = percentile(waits, 0.99), percentile(floor, 0.99)
    return Result(
        name="latency",
        value=p99,
        unit="ms p99",
        floor=floor_p99,
        ratio=p99 / floor_p99,
        peak_memory_mb=consumed["peak_memory_mb"],
        settings={"events_per_s": EVENTS_PER_S, "seconds": seconds, "warm_up_s": WARM_UP_S, "tenants": TENANTS},
        more={
            "p50_ms": percentile(waits, 0.5),
            "p90_ms": percentile(waits, 0.9),
            "max_ms": waits[-1],
            "under_target": p99 < TARGET_P99_MS,
        },
    )


async def produce(bootstrap: str, seconds: int) -> tuple[list[tuple[str, float]], list[float]]:
    """Send at the steady rate; return (id, wall time in s) of each, and the acknowledgement times in ms."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, enable_idempotence=True)
    await producer.start()
    sent: list[tuple[str, float]] = []
    took: list[float] = []
    waiting: set[asyncio.Task[None]] = set()

    async def acknowledged(future: asyncio.Future[Any], start: float) -> None:
        await future
        took.append((now() - start) * 1000)

    start = now()
    for n in range((seconds + WARM_UP_S) * EVENTS_PER_S):
        key, value = make_event(n, RUNS, TENANTS)
        sent.append((json.loads(value)["id"], time.time()))
        task = asyncio.create_task(acknowledged(await producer.send("tally.events", value, key=key), now()))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        ahead = start + n / EVENTS_PER_S - now()
        if ahead > 0.002:
            await asyncio.sleep(ahead)
    await asyncio.gather(*waiting)
    await producer.stop()
    return sent, took


async def commit_times(admin: str) -> dict[str, float]:
    """When the transaction of each event's entry was committed, in seconds since 1970, by event id."""
    async with await psycopg.AsyncConnection.connect(admin) as conn:
        cursor = await conn.execute(
            "SELECT id::text, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM entries"
            " WHERE kind = 'tool_call'"
        )
        return dict(await cursor.fetchall())


def percentile(ordered: list[float], share: float) -> float:
    """The value below which that share of an ordered list lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
