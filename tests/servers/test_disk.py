"""A full disk: told as such, and nothing that was acknowledged is lost once there is room again."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tallystick.errors import ServerError
from tallystick.servers import EmbeddedKafka, EmbeddedPostgres, ensure_topics
from tests.support.servers import PrivateKafka, PrivatePostgres, small_disk

TIMEOUT_S = 60


def leave(folder: Path, megabytes: int) -> Path:
    """Fill the disk with one file (on a small one only), so that so much is left."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        room = shutil.disk_usage(folder).free - megabytes * 1024 * 1024
        if room < 1024 * 1024 * 1024:
            for _ in range(room // (1024 * 1024)):
                file.write(bytes(1024 * 1024))
    return filler


@pytest.mark.parametrize("server", [EmbeddedPostgres, EmbeddedKafka])
async def test_no_room_to_start(tmp_path: Path, server: type[EmbeddedPostgres] | type[EmbeddedKafka]) -> None:
    with small_disk(tmp_path / "home", 3) as home:
        with pytest.raises(ServerError, match="the disk is full") as told:
            async with server(home):
                pass
        assert str(home) in str(told.value)
        assert "TALLY_HOME" in told.value.fix


async def insert_until_refused(url: str) -> int:
    """How many megabytes, a commit each, were acknowledged before the disk was full."""
    kept = 0
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("CREATE TABLE t (n int, bulk bytea STORAGE EXTERNAL)")
            while True:
                insert = "INSERT INTO t VALUES (%s, decode(repeat('ab', 1000000), 'hex'))"
                await connection.execute(insert, [kept])
                kept += 1
    except psycopg.Error as error:
        if re.search("No space left|File too large|server closed|terminat", str(error)) is None:
            raise
        return kept


async def recovered(server: PrivatePostgres) -> bool:
    """Whether Postgres came back by itself, as it tries to, while the disk is full still; it ends otherwise."""
    while server.running:
        try:
            async with await psycopg.AsyncConnection.connect(server.url()):
                return True
        except psycopg.OperationalError:
            await asyncio.sleep(0.05)
    return False


async def test_postgres_runs_out_of_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 240) as home:
        server = PrivatePostgres(home)
        await server.start()
        try:
            filler = leave(home, 40)
            kept = await insert_until_refused(server.url())
            assert kept > 0
            if not await recovered(server):
                assert "the disk is full" in str(await server.ended())
                with pytest.raises(ServerError, match="the disk is full"):
                    await server.restart()
        finally:
            await server.stop()
        filler.unlink()
        await server.start()
        try:
            async with await psycopg.AsyncConnection.connect(server.url()) as connection:
                found = await connection.execute("SELECT count(*), max(n) FROM t WHERE n < %s", [kept])
                assert await found.fetchone() == (kept, kept - 1)
        finally:
            await server.stop()


async def test_kafka_runs_out_of_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 200) as home:
        server = PrivateKafka(home)
        await server.start()
        try:
            await ensure_topics(server.bootstrap, {"t": 1})
            filler = leave(home, 30)
            kept = 0
            async with AIOKafkaProducer(
                bootstrap_servers=server.bootstrap, acks="all", max_request_size=16_000_000, request_timeout_ms=1500
            ) as producer:
                while server.running:
                    try:
                        async with asyncio.timeout(1.5):
                            await producer.send_and_wait("t", bytes(4_000_000), partition=0)
                        kept += 1
                    except (KafkaError, TimeoutError):
                        continue
            async with asyncio.timeout(TIMEOUT_S):
                error = await server.ended()
            assert "the disk is full" in str(error)
            assert str(home) in str(error)
            filler.unlink()
        finally:
            await server.stop()
        await server.start()
        try:
            async with AIOKafkaConsumer(bootstrap_servers=server.bootstrap) as consumer:
                partition = TopicPartition("t", 0)
                assert (await consumer.end_offsets([partition]))[partition] >= kept > 0
        finally:
            await server.stop()
