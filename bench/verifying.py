"""A child: one verification of the whole ledger, in so many processes."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

from bench.common import now, peak_memory_mb
from ledger.keystore import SqliteKeyStore
from ledger.verify import verify


async def verifying(arguments: dict[str, Any]) -> dict[str, Any]:
    """Verify; return seconds, verdict and the peak memory of the largest process."""
    with SqliteKeyStore(arguments["keys"], create=False) as keystore:
        start = now()
        report = await verify(arguments["postgres"], keystore, workers=arguments["workers"])
        seconds = now() - start
    workers_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "integrity": report.integrity,
        "findings": len(report.findings),
        "peak_memory_mb": max(peak_memory_mb(), workers_mb),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(verifying(json.loads(sys.argv[1])))))
