"""A full disk: told as such, and nothing that was acknowledged is lost once there is room again."""

from __future__ import annotations

import asyncio
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
        import shutil

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


async def test_postgres_runs_out_of_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "home", 240) as home:
        server = PrivatePostgres(home)
        await server.start()
        try:
            filler = leave(home, 40)
            kept = 0
            async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as connection:
                await connection.execute("CREATE TABLE t (n int, bulk bytea STORAGE EXTERNAL)")
                insert = "INSERT INTO t VALUES (%s, decode(repeat('ab', 1000000), 'hex'))"
                with pytest.raises(psycopg.Error, match="No space left|File too large|server closed|terminat"):
                    while True:
                        await connection.execute(insert, [kept])
                        kept += 1
            filler.unlink()
        finally:
            await server.stop()
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
                bootstrap_servers=server.bootstrap, acks="all", max_request_size=16_000_000, request_timeout_ms=3000
            ) as producer:
                while server.running:
                    try:
                        async with asyncio.timeout(5):
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
