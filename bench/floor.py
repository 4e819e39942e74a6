"""A child: the floor of the append benchmark, one process that does nothing but move the same bytes.

It reads the same records by aiokafka's bare `getmany`, and copies the same sealed rows into two tables with the same
keys, in batches of the same size, each committed: what no consumer that stores these bytes can do without.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from typing import Any

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.common import PARTITIONS, cpu_seconds, now, peak_memory_mb
from ledger.draft import COPY_HEADER, COPY_TRAILER

_I32, _I16 = struct.Struct(">i"), struct.Struct(">h")


def batches_of(data: bytes, rows: int) -> list[bytes]:
    """Cut the output of a binary COPY TO into inputs for COPY FROM of so many rows each."""
    at, out, start, count = len(COPY_HEADER), [], len(COPY_HEADER), 0
    while True:
        (fields,) = _I16.unpack_from(data, at)
        if fields < 0:
            break
        at += 2
        for _ in range(fields):
            (length,) = _I32.unpack_from(data, at)
            at += 4 + max(length, 0)
        count += 1
        if count == rows:
            out.append(b"".join((COPY_HEADER, data[start:at], COPY_TRAILER)))
            start, count = at, 0
    if count:
        out.append(b"".join((COPY_HEADER, data[start:at], COPY_TRAILER)))
    return out


async def read_all(conn: psycopg.AsyncConnection[Any], query: str) -> bytes:
    """The whole output of a binary COPY TO."""
    async with conn.cursor().copy(query.encode()) as copy:
        return b"".join([bytes(part) async for part in copy])


async def floor(arguments: dict[str, Any]) -> dict[str, Any]:
    """Copy what the ledger holds into the floor's database while reading the topic; return records and seconds."""
    rows = arguments["batch"]
    where = "WHERE log IN (SELECT log FROM logs WHERE class = 'tenant')"
    async with await psycopg.AsyncConnection.connect(arguments["postgres"], autocommit=True) as source:
        columns = "log, index, id, kind, run, run_seq, recorded, leaf"
        entries = batches_of(
            await read_all(source, f"COPY (SELECT {columns} FROM entries {where}) TO STDOUT (FORMAT binary)"), rows
        )
        columns = "log, index, fingerprint, pointers, types, sealed"
        contents = batches_of(
            await read_all(source, f"COPY (SELECT {columns} FROM content {where}) TO STDOUT (FORMAT binary)"), rows
        )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=arguments["kafka"], auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    partitions = [TopicPartition(arguments.get("topic", "tally.events"), n) for n in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    total, read, at = sum(ends.values()), 0, 0
    async with await psycopg.AsyncConnection.connect(arguments["floor_postgres"], autocommit=True) as conn:
        start, cpu_start = now(), cpu_seconds()
        while read < total or at < len(entries):
            if read < total:
                found = await consumer.getmany(timeout_ms=1000, max_records=rows)
                read += sum(len(records) for records in found.values())
            while at < len(entries) and (read >= total or (at + 1) * rows <= read):
                async with conn.transaction():
                    async with conn.cursor().copy(b"COPY entries FROM STDIN (FORMAT binary)") as copy:
                        await copy.write(entries[at])
                    if at < len(contents):
                        async with conn.cursor().copy(b"COPY content FROM STDIN (FORMAT binary)") as copy:
                            await copy.write(contents[at])
                at += 1
        seconds, cpu = now() - start, cpu_seconds() - cpu_start
    await consumer.stop()
    return {"records": read, "seconds": seconds, "cpu_seconds": cpu, "peak_memory_mb": peak_memory_mb()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(floor(json.loads(sys.argv[1])))))
