"""Keeping a consumer running: what passes is waited out, what lasts is not tried again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from ingest.consumer import ConsumerConfig
from ingest.errors import ConsumerEnded
from ledger.db import connect
from ledger.errors import FencedOut, ForkRefused, LogRolledBack
from ledger.keystore import SqliteKeyStore
from tallystick import consume
from tallystick.consume import Consuming, root_cause
from tests.faults.support import Site, event, make_site
from tests.support.servers import PrivatePostgres


def config_of(site: Site, postgres: str | None = None) -> ConsumerConfig:
    return ConsumerConfig(
        postgres or site.postgres,
        site.kafka,
        site.prefix,
        group=f"{site.topic}-{secrets.token_hex(4)}",
        topics=f"^{re.escape(site.topic)}$",
    )


@asynccontextmanager
async def consuming(site: Site) -> AsyncIterator[tuple[Consuming, asyncio.Task[None]]]:
    with SqliteKeyStore(site.keys, create=False) as keystore:
        found = Consuming()
        task = asyncio.create_task(found.run(config_of(site), keystore))
        try:
            yield found, task
        finally:
            task.cancel()
            with contextlib.suppress(BaseException):
                await task


async def appended(site: Site, count: int) -> None:
    """Return when so many tool calls are on the record."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(psycopg.Error):
                if len(await site.leaves("tool_call")) >= count:
                    return
            await asyncio.sleep(0.1)


def test_the_cause_is_found_under_what_it_ended() -> None:
    fenced = FencedOut("x")
    assert root_cause(ExceptionGroup("g", [ConsumerEnded.by(fenced)])) is fenced
    alone = ConsumerEnded("x")
    assert root_cause(alone) is alone


async def test_one_that_was_fenced_out_starts_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "PAUSES_S", (0.1,))
    async with consuming(site) as (found, task):
        await asyncio.wait_for(found.ready.wait(), 60)
        async with await connect(site.postgres, "tally_writer") as conn:
            await conn.execute("UPDATE positions SET epoch = epoch + 1 WHERE topic = %s", (site.topic,))
        await site.publish(50)
        await appended(site, 50)
        assert not task.done()
        assert found.total()["entries"] >= 50
    await site.check()


async def test_a_database_that_is_older_than_what_was_published_is_not_tried_again(site: Site) -> None:
    await site.publish(10)
    await site.consume()
    with SqliteKeyStore(site.keys) as keystore:
        size, root = keystore.published(site.origin) or (0, b"")
        keystore.publish(site.origin, size + 5, root)
    await site.publish(1)
    async with consuming(site) as (_, task):
        with pytest.raises((ForkRefused, LogRolledBack)):
            await asyncio.wait_for(asyncio.shield(task), 60)


async def test_cancelled_it_commits_what_it_read(site: Site) -> None:
    async with consuming(site) as (found, task):
        await asyncio.wait_for(found.ready.wait(), 60)
        await site.publish(200)
        await appended(site, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done = found.total()
    counted = (await site.rows("SELECT count(*) FROM entries WHERE log = %s AND kind = 'tool_call'", site.origin))[0][0]
    assert done["records"] == counted
    await site.consume()
    await site.check()


async def test_a_postgres_that_is_away_at_the_start_is_waited_for(
    private_postgres: PrivatePostgres, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "PAUSES_S", (0.2,))
    database = await private_postgres.database()
    site = await make_site(database.url(), kafka, tmp_path)
    await private_postgres.kill()
    async with consuming(site) as (found, task):
        await asyncio.sleep(1.0)
        assert not task.done()
        assert not found.ready.is_set()
        await private_postgres.restart()
        await site.send([(b"r", json.dumps(event("r", 1)).encode(), [])])
        await appended(site, 1)
