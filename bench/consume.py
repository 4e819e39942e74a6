"""A child: one consumer process that drains the topic, and says how long it took from its first batch to the last."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bench.common import cpu_seconds, now, peak_memory_mb
from ingest.consumer import Consumer, ConsumerConfig
from ledger.keystore import SqliteKeyStore


async def consume(arguments: dict[str, Any]) -> dict[str, Any]:
    """Drain; return entries, seconds (from the assignment to the last commit), peak memory and counts."""
    with SqliteKeyStore(arguments["keys"], create=False) as keystore:
        config = ConsumerConfig(
            arguments["postgres"], arguments["kafka"], arguments["prefix"], unauthenticated=True, publish=True
        )
        consumer = Consumer(config, keystore)
        task = asyncio.create_task(consumer.run(until_idle_s=arguments.get("idle_s", 2.0)))
        await consumer.ready.wait()
        start = last = now()
        cpu_start = cpu_last = cpu_seconds()
        done = 0
        while not task.done():
            await asyncio.sleep(0.02)
            if consumer.progress.records > done:
                done, last, cpu_last = consumer.progress.records, now(), cpu_seconds()
        progress = await task
        return {
            "records": progress.records,
            "entries": progress.entries,
            "rejected": progress.rejected,
            "batches": progress.batches,
            "seconds": last - start,
            "cpu_seconds": cpu_last - cpu_start,
            "first": start,
            "last": last,
            "peak_memory_mb": peak_memory_mb(),
        }


if __name__ == "__main__":
    if len(sys.argv) > 2:
        import cProfile

        with cProfile.Profile() as profile:
            result = asyncio.run(consume(json.loads(sys.argv[1])))
        profile.dump_stats(sys.argv[2])
    else:
        result = asyncio.run(consume(json.loads(sys.argv[1])))
    print(json.dumps(result))
