"""Servers that die or can't be reached, and a disk that is full: the consumer waits, then goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg

from tests.faults.support import make_site
from tests.faults.test_consumers import _until_some_are_in
from tests.support.proxy import CutProxy
from tests.support.servers import Database, PrivateKafka, PrivatePostgres


async def test_postgres_killed_in_the_middle(private_postgres: PrivatePostgres, kafka: str, tmp_path: Path) -> None:
    database = await private_postgres.database()
    site = await make_site(database.url(), kafka, tmp_path)
    await site.publish(300)
    consumer = await site.start(batch=10, idle_s=4.0)
    await _until_some_are_in(site, 20)
    await private_postgres.kill()
    await private_postgres.restart()
    await _ended_well(consumer)
    await site.check()


async def test_kafka_killed_in_the_middle(database: Database, private_kafka: PrivateKafka, tmp_path: Path) -> None:
    site = await make_site(database.url(), private_kafka.bootstrap, tmp_path)
    await site.publish(300)
    consumer = await site.start(batch=10, idle_s=8.0)
    await _until_some_are_in(site, 20)
    await private_kafka.kill()
    await private_kafka.restart()
    await site.publish(50)
    await _ended_well(consumer)
    await site.check()


async def test_the_connection_to_postgres_is_cut_again_and_again(
    database: Database, kafka: str, tmp_path: Path
) -> None:
    direct = psycopg.conninfo.conninfo_to_dict(database.url())
    async with CutProxy(str(direct["host"]), int(direct["port"] or 5432)) as proxy:
        site = await make_site(database.url(), kafka, tmp_path)
        await site.publish(400)
        through = database.url().replace(f"{direct['host']}:{direct['port']}", proxy.address)
        consumer = await site.start(batch=10, idle_s=4.0, postgres=through)
        for wanted in (20, 60, 120, 200):
            await _until_some_are_in(site, wanted)
            proxy.cut()
        await _ended_well(consumer)
        assert proxy.cuts == 4
    await site.check()


async def _ended_well(consumer: asyncio.subprocess.Process) -> dict[str, int]:
    output, errors = await consumer.communicate()
    assert consumer.returncode == 0, errors.decode()[-3000:]
    return dict(json.loads(output.decode().splitlines()[-1]))
