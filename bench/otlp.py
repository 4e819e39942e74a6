"""otlp: the gateway alone against the same server that parses and discards; from its topic to recorded; its memory.

A preloaded topic is recorded by one consumer, and so are events like those of the append benchmark, on the same
servers. Then three servers take turns on one Kafka, under the same load of 512 spans a request: one that only parses,
one that also cuts requests into parts, and the gateway. Then Kafka is frozen under load, and the gateway's memory read.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.append import RUNS, TENANTS, consumer_arguments
from bench.common import PARTITIONS, Result, Stage, child, preload, staged
from bench.spans import SPANS, request
from ingest.otlp.forward import TOPICS, Forward
from ingest.otlp.split import split
from tallystick.servers import EmbeddedKafka, ensure_topics

SECONDS = {"small": 2.5, "full": 10.0}
WARM_S = 2.5  # not measured
ROUNDS = {"small": 1, "full": 3}
REQUESTS = {"small": 30, "full": 300}  # preloaded
EVENTS = {"small": 15_000, "full": 100_000}
CONNECTIONS = 32
FROZEN_S = {"small": 5.0, "full": 30.0}


async def measure(size: str) -> Result:
    """The three measurements. Ends the benchmark where anything was refused or is missing."""
    async with recording() as stage:
        recorded = await recorded_rate(stage, REQUESTS[size])
        appended = await append_rate(stage, EVENTS[size])
    with tempfile.TemporaryDirectory(prefix="tally-bench-", ignore_cleanup_errors=True) as folder:
        async with EmbeddedKafka(Path(folder)) as kafka:
            await ensure_topics(kafka.bootstrap)
            await taken(kafka.bootstrap, WARM_S, "send")  # a Kafka that has just started compiles while it serves
            rounds: dict[str, list[dict[str, float]]] = {until: [] for until in ("parse", "cut", "send")}
            for _ in range(ROUNDS[size]):
                for until, done in rounds.items():
                    done.append(await taken(kafka.bootstrap, SECONDS[size], until))
            frozen = await frozen_memory(kafka, FROZEN_S[size])
    rate = {until: statistics.median(one["spans_per_s"] for one in done) for until, done in rounds.items()}
    cpu = {until: statistics.median(one["cpu_ms"] for one in done) for until, done in rounds.items()}
    return Result(
        name="otlp",
        value=rate["send"],
        unit="spans/s",
        floor=rate["parse"],
        ratio=rate["send"] / rate["parse"],
        peak_memory_mb=frozen,
        settings={
            "spans_of_request": SPANS,
            "span_bytes": len(request(0)) // SPANS,
            "attributes": 20,
            "connections": CONNECTIONS,
            "flush": "each batch, as the embedded Kafka does",
            "cpus": os.cpu_count(),
        },
        more={
            "cutting_and_discarding_spans_per_s": rate["cut"],
            "ratio_to_cutting_and_discarding": rate["send"] / rate["cut"],
            "cpu_ms_of_request": cpu["send"],
            "cutting_cpu_ms_of_request": cpu["cut"],
            "parsing_cpu_ms_of_request": cpu["parse"],
            "recorded_spans_per_s": recorded["spans_per_s"],
            "recorded_entries_of_span": recorded["entries_of_span"],
            "append_events_per_s": appended,
            "recorded_to_append": recorded["spans_per_s"] / appended,
            "memory_mb_while_kafka_is_frozen": frozen,
        },
    )


@asynccontextmanager
async def recording() -> AsyncIterator[Stage]:
    """A ledger with the topics of the gateway and of events."""
    async with staged(TENANTS) as stage:
        await ensure_topics(stage.bootstrap, {TOPICS["spans"]: PARTITIONS})
        yield stage


async def recorded_rate(stage: Stage, requests: int) -> dict[str, float]:
    """Spans a second of one consumer, from requests as the gateway writes them to committed entries."""
    forward = Forward(stage.bootstrap, delivery_s=60.0)
    async with forward.running():
        await forward.started(60)
        for n in range(requests):
            await forward.send("spans", split("spans", request(n)).parts(), f"tenant-{n % TENANTS}", "")
    done = await child("bench.consume", consumer_arguments(stage))
    spans = requests * SPANS
    if done["rejected"] or done["entries"] < spans:
        raise SystemExit(f"otlp: expected {spans} spans recorded, got {done}")
    return {"spans_per_s": spans / done["seconds"], "entries_of_span": done["entries"] / spans}


async def append_rate(stage: Stage, events: int) -> float:
    """Events a second of one consumer on the same servers, as the append benchmark measures it."""
    await preload(stage.bootstrap, "tally.events", events, RUNS, TENANTS)
    done = await child("bench.consume", consumer_arguments(stage))
    if done["records"] != events or done["rejected"]:
        raise SystemExit(f"otlp: expected {events} events appended, got {done}")
    return float(events / done["seconds"])


@asynccontextmanager
async def serving(bootstrap: str, until: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A server in a process of its own that goes that far (bench.gateway), and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.gateway",
        json.dumps({"until": until, "kafka": bootstrap}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if process.stdout is None:
        raise SystemExit("otlp: no pipe")
    yield process, json.loads(await process.stdout.readline())["port"]
    if process.returncode is None:
        await used(process)


async def used(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """End a gateway; what it used."""
    out, _ = await process.communicate(b"\n")
    said = [line for line in out.splitlines() if line.startswith(b"{")]  # it logs there too
    return dict(json.loads(said[-1]))


async def taken(bootstrap: str, seconds: float, until: str) -> dict[str, float]:
    """Spans a second that a server takes, and its processor time."""
    async with serving(bootstrap, until) as (process, port):
        posted = await child("bench.posting", {"port": port, "seconds": seconds, "connections": CONNECTIONS})
        cost = await used(process)
    count = posted["statuses"].get("200", 0)
    if posted["statuses"].keys() != {"200"}:
        raise SystemExit(f"otlp: expected every request to be taken, got {posted['statuses']}")
    return {
        "spans_per_s": count * SPANS / posted["seconds"],
        "cpu_ms": cost["cpu_seconds"] / count * 1000,
    }


async def frozen_memory(kafka: EmbeddedKafka, seconds: float) -> float:
    """The most memory, in MB, that a gateway has while Kafka takes nothing and senders don't stop."""
    async with serving(kafka.bootstrap, "send") as (process, port):
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            posted = await child("bench.posting", {"port": port, "seconds": seconds, "connections": CONNECTIONS * 4})
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        cost = await used(process)
    if posted["statuses"].keys() != {"503"}:
        raise SystemExit(f"otlp: expected every request to be told to come again, got {posted['statuses']}")
    return float(cost["peak_memory_mb"])
