"""The fixtures that the other tests stand on."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tallystick.servers import ensure_topics
from tests.support.proxy import CutProxy
from tests.support.servers import Database


async def test_a_database_is_migrated_and_its_roles_can_log_in(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url("tally_auditor")) as connection:
        found = await connection.execute("SELECT count(*) FROM entries")
        assert await found.fetchone() == (0,)


async def test_what_is_produced_is_consumed(kafka: str) -> None:
    topic = f"t-{secrets.token_hex(6)}"
    assert await ensure_topics(kafka, {topic: 2}) == [topic]
    assert await ensure_topics(kafka, {topic: 2}) == []
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=16_000_000) as producer:
        await producer.send_and_wait(topic, b"small", partition=1)
        await producer.send_and_wait(topic, bytes(15_000_000), partition=1)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="none") as consumer:
        partition = TopicPartition(topic, 1)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        assert (await consumer.getone()).value == b"small"
        assert len((await consumer.getone()).value) == 15_000_000


async def test_the_proxy_cuts(database: Database) -> None:
    url = urlsplit(database.url())
    async with CutProxy(url.hostname or "", url.port or 0) as proxy:
        through = database.url().replace(f":{url.port}/", f":{proxy.port}/")
        connection = await psycopg.AsyncConnection.connect(through, autocommit=True)
        await connection.execute("SELECT 1")
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
        await connection.close()
        assert proxy.connections == 1
