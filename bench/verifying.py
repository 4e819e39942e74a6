"""A child: one verification of the whole ledger, in so many processes."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

from bench.common import cpu_seconds, now, peak_memory_mb
from ledger.keystore import SqliteKeyStore
from ledger.verify import verify


async def verifying(arguments: dict[str, Any]) -> dict[str, Any]:
    """Verify; return seconds, verdict, and of its processes the processor time and the largest one's peak memory."""
    with SqliteKeyStore(arguments["keys"], create=False) as keystore:
        start, cpu_start = now(), cpu_seconds()
        report = await verify(arguments["postgres"], keystore, workers=arguments["workers"])
        seconds, cpu = now() - start, cpu_seconds() - cpu_start
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "integrity": report.integrity,
        "findings": len(report.findings),
        "cpu_seconds": cpu + workers.ru_utime + workers.ru_stime,
        "peak_memory_mb": max(peak_memory_mb(), workers.ru_maxrss / 1024),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(verifying(json.loads(sys.argv[1])))))
