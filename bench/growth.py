"""growth: the append rate of the last tenth of a long log against that of its first tenth, by one consumer."""

from __future__ import annotations

from bench.append import RUNS, TENANTS, consumer_arguments
from bench.common import Result, child, preload, staged

EVENTS = {"small": 60_000, "full": 1_000_000}
STRETCHES = 10


async def measure(size: str) -> Result:
    """Preload and drain a tenth at a time, so that the topic's own length plays no part."""
    stretch = EVENTS[size] // STRETCHES
    rates: list[float] = []
    cpu_us: list[float] = []
    peak = 0.0
    async with staged(TENANTS) as stage:
        for n in range(STRETCHES):
            await preload(stage.bootstrap, "tally.events", stretch, RUNS, TENANTS, first=n * stretch)
            done = await child("bench.consume", consumer_arguments(stage))
            if done["records"] != stretch:
                raise SystemExit(f"growth: expected {stretch} records, got {done}")
            rates.append(stretch / done["seconds"])
            cpu_us.append(done["cpu_seconds"] / stretch * 1e6)
            peak = max(peak, done["peak_memory_mb"])
    return Result(
        name="growth",
        value=rates[-1],
        unit="events/s in the last tenth",
        floor=rates[0],
        ratio=rates[-1] / rates[0],
        peak_memory_mb=peak,
        settings={"events": stretch * STRETCHES, "stretch": stretch, "runs": RUNS, "tenants": TENANTS},
        more={
            "rates": [round(rate) for rate in rates],
            "cpu_us_per_event": [round(each, 1) for each in cpu_us],
        },
    )
