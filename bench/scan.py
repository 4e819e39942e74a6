"""A child: the floor of the verify benchmark. One process reads the same rows and hashes each leaf and content once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from typing import Any

import psycopg

from bench.common import cpu_seconds, now, peak_memory_mb


async def scan(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read every entry and content row by binary COPY; return entries, seconds, processor time and peak memory."""
    entries = 0
    sha256 = hashlib.sha256
    start, cpu_start = now(), cpu_seconds()
    async with await psycopg.AsyncConnection.connect(arguments["postgres"], autocommit=True) as conn:
        query = (
            b"COPY (SELECT log, index, id, kind, run, run_seq, recorded, leaf FROM entries) TO STDOUT (FORMAT binary)"
        )
        async with conn.cursor().copy(query) as copy:
            copy.set_types(["text", "int8", "uuid", "text", "text", "int8", "timestamptz", "bytea"])
            async for row in copy.rows():
                sha256(row[7]).digest()
                entries += 1
        query = b"COPY (SELECT log, index, pointers, types, sealed FROM content) TO STDOUT (FORMAT binary)"
        async with conn.cursor().copy(query) as copy:
            copy.set_types(["text", "int8", "text[]", "text[]", "bytea[]"])
            async for row in copy.rows():
                for sealed in row[4]:
                    sha256(sealed).digest()
    return {
        "entries": entries,
        "seconds": now() - start,
        "cpu_seconds": cpu_seconds() - cpu_start,
        "peak_memory_mb": peak_memory_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(scan(json.loads(sys.argv[1])))))
