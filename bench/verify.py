"""verify: entries a second of a whole verification, against a floor that reads and hashes the same rows."""

from __future__ import annotations

from bench.append import RUNS, TENANTS, consumer_arguments
from bench.common import Result, child, preload, staged

EVENTS = {"small": 40_000, "full": 200_000}


async def measure(size: str) -> Result:
    """The floor, then one process, then two."""
    events = EVENTS[size]
    async with staged(TENANTS) as stage:
        await preload(stage.bootstrap, "tally.events", events, RUNS, TENANTS)
        await child("bench.consume", consumer_arguments(stage))
        arguments = {"postgres": stage.admin, "keys": str(stage.keys)}
        floor = await child("bench.scan", arguments)
        one = await child("bench.verifying", arguments | {"workers": 1})
        two = await child("bench.verifying", arguments | {"workers": 2})
    for done in (one, two):
        if done["integrity"] != "ok" or done["findings"]:
            raise SystemExit(f"verify: the ledger came out as {done}")
    entries = floor["entries"]
    value, floor_value = entries / one["seconds"], entries / floor["seconds"]
    return Result(
        name="verify",
        value=value,
        unit="entries/s",
        floor=floor_value,
        ratio=value / floor_value,
        peak_memory_mb=max(one["peak_memory_mb"], two["peak_memory_mb"]),
        settings={"entries": entries, "runs": RUNS, "tenants": TENANTS, "processes": 1},
        more={
            "two_processes_entries_per_s": entries / two["seconds"],
            "two_to_one": one["seconds"] / two["seconds"],
            "two_processes_ratio": floor["seconds"] / two["seconds"],
        },
    )
