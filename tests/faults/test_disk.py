"""A full disk under Postgres, and under the key store: the consumer says so, and nothing is lost or repeated when there
is room again."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.support import Site, event, make_site
from tests.servers.test_disk import leave
from tests.support.servers import PrivatePostgres, small_disk

DISK_MB = 700  # of which Postgres, its log and what failed attempts leave take up to 300
LEFT_MB = 40
RECORD_BYTES = 1_000_000
RECORDS_AT_ONCE = 20
RECORDS_MAX = 600


async def test_postgres_has_no_room(kafka: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", DISK_MB) as home:
        server = PrivatePostgres(home)
        await server.start()
        try:
            database = await server.database()
            site = await make_site(database.url(), kafka, tmp_path)
            filler = leave(home, LEFT_MB)
            consumer = await site.start(batch=5, idle_s=4.0)
            full = asyncio.create_task(_said(consumer, b"append failed"))
            while not full.done():
                assert len(site.sent) < RECORDS_MAX
                await _publish_large(site)
            filler.unlink()
            await _make_room(server)
            await consumer.communicate()
            if consumer.returncode != 0:  # where the limit is on files, Postgres calls it a defect
                await site.consume()
            await site.check()
        finally:
            await server.stop()


async def test_the_key_store_has_no_room(site: Site) -> None:
    await site.publish(20)
    await site.consume()
    await site.publish(500, runs=500)  # each run needs a key
    with _files_up_to(4096):
        consumer = await site.start()
    _, errors = await consumer.communicate()
    assert consumer.returncode == 1
    assert "KeyStoreError" in errors.decode() or "disk" in errors.decode()
    await site.consume()
    await site.check()


async def _publish_large(site: Site) -> None:
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = []
    for _ in range(RECORDS_AT_ONCE):
        site.numbers["large"] += 1
        made = event("large", site.numbers["large"])
        made["data"]["output"] = os.urandom(RECORD_BYTES // 2).hex()
        site.sent.append(made["id"])
        records.append((b"large", json.dumps(made).encode(), []))
    await site.send(records)


async def _said(process: asyncio.subprocess.Process, words: bytes) -> None:
    """Return when the process prints these words, or ends."""
    assert process.stdout is not None
    async for line in process.stdout:
        if words in line:
            return


async def _make_room(server: PrivatePostgres) -> None:
    """Postgres ends itself where its log has no room; where files are limited, it must be started without the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await server.restart()
    elif not server.running:
        await server.restart()


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """Processes started in here can write no file beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
