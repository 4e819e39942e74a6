"""verify: entries a second of a whole verification, against a floor that reads and hashes the same rows.

Floor, one process and two take turns, three times, and the fastest of each counts: on a machine with other work, what
is lost to that differs from run to run. The processor time of each is reported beside it, Postgres' too: beside one
process Postgres has the other core to itself, beside two it takes its time from them. So on two cores two processes
can't be faster than half of the sum, and what that comes to is reported as well (`two_to_one_at_most`, which leaves out
that the second has to start). Nor can they gain more than two loops that share nothing, which are timed too.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from bench.append import RUNS, TENANTS, consumer_arguments
from bench.common import Result, Stage, child, preload, staged

EVENTS = {"small": 40_000, "full": 400_000}
ROUNDS = 3
REAPED_AFTER_S = 0.5  # until Postgres has counted the processor time of connections that were closed


async def measure(size: str) -> Result:
    """The floor, one process, two: the fastest of each."""
    events = EVENTS[size]
    async with staged(TENANTS) as stage:
        await preload(stage.bootstrap, "tally.events", events, RUNS, TENANTS)
        await child("bench.consume", consumer_arguments(stage))
        floors, ones, twos, worth = [], [], [], []
        for _ in range(ROUNDS):
            worth.append(await _second_process())
            floors.append(await _timed(stage, "bench.scan", {}))
            ones.append(await _timed(stage, "bench.verifying", {"workers": 1}))
            twos.append(await _timed(stage, "bench.verifying", {"workers": 2}))
    for done in ones + twos:
        if done["integrity"] != "ok" or done["findings"]:
            raise SystemExit(f"verify: the ledger came out as {done}")
    floor, one, two = (min(runs, key=lambda done: done["seconds"]) for runs in (floors, ones, twos))
    entries = floor["entries"]
    value, floor_value = entries / one["seconds"], entries / floor["seconds"]
    return Result(
        name="verify",
        value=value,
        unit="entries/s",
        floor=floor_value,
        ratio=value / floor_value,
        peak_memory_mb=max(one["peak_memory_mb"], two["peak_memory_mb"]),
        settings={"entries": entries, "runs": RUNS, "tenants": TENANTS, "processes": 1, "rounds": ROUNDS},
        more={
            "two_processes_entries_per_s": entries / two["seconds"],
            "two_to_one": one["seconds"] / two["seconds"],
            "two_to_one_at_most": min(2.0, 2 * one["seconds"] / (one["cpu_seconds"] + one["postgres_cpu_seconds"])),
            "two_processes_ratio": floor["seconds"] / two["seconds"],
            "two_to_one_of_mere_loops": max(worth),
        }
        | {
            f"{name}_cpu_us_per_entry{of}": min(done[key] for done in runs) / entries * 1e6
            for name, runs in (("floor", floors), ("one_process", ones), ("two_processes", twos))
            for of, key in (("", "cpu_seconds"), ("_of_postgres", "postgres_cpu_seconds"))
        },
    )


async def _second_process() -> float:
    """What two processes that share nothing do, as a multiple of one."""
    one = await child("bench.spinning", {})
    two = await asyncio.gather(child("bench.spinning", {}), child("bench.spinning", {}))
    return float(2 * one["seconds"] / max(done["seconds"] for done in two))


async def _timed(stage: Stage, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a child returned, and the processor time that Postgres used meanwhile."""
    before = _postgres_cpu_seconds(stage)
    done = await child(module, {"postgres": stage.admin, "keys": str(stage.keys)} | arguments)
    await asyncio.sleep(REAPED_AFTER_S)
    return done | {"postgres_cpu_seconds": _postgres_cpu_seconds(stage) - before}


def _postgres_cpu_seconds(stage: Stage) -> float:
    """Processor time of Postgres and its connections so far, as Linux counts it."""
    pid = int((stage.home / "servers/postgres/data/postmaster.pid").read_text().split()[0])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
