"""One partition as the gateway writes it: order, bounds, and what is told when Kafka takes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from ingest.otlp.partition import BATCH_BYTES, Acknowledged, PartitionWriter, Sealer
from ingest.otlp.recordbatch import headers_of
from tallystick.servers import ensure_topics
from tests.support.servers import PrivateKafka, run

TOPIC = "tally.gateway.spans"
HEADERS = headers_of([("n", b"1")])


@pytest.fixture(scope="module")
def freezing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateKafka]:
    """A Kafka that this module's tests may freeze."""
    server = PrivateKafka(tmp_path_factory.mktemp("freezing"))
    run(server.start())
    run(ensure_topics(server.bootstrap))
    yield server
    os.kill(server.pid, signal.SIGCONT)
    run(server.stop())


@asynccontextmanager
async def writing(bootstrap: str, partition: int) -> AsyncIterator[PartitionWriter]:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        sealer = Sealer()
        await producer.partitions_for(TOPIC)
        writer = PartitionWriter(producer, sealer, TOPIC, partition)
        try:
            yield writer
        finally:
            await writer.close(KafkaError("closed"))
            sealer.close()


async def add(writer: PartitionWriter, value: bytes) -> Acknowledged:
    while (acknowledged := writer.offer(b"key", value, HEADERS, 1)) is None:
        await writer.room()
    return acknowledged


async def fill(writer: PartitionWriter) -> tuple[list[bytes], set[Acknowledged]]:
    """Add records until there is no room for 2 s."""
    told: list[bytes] = []
    waiting: set[Acknowledged] = set()
    while True:
        value = b"%d %s" % (len(told), os.urandom(100_000))
        try:
            waiting.add(await asyncio.wait_for(add(writer, value), 2))
        except TimeoutError:
            return told, waiting
        told.append(value)


async def values(bootstrap: str, partition: int, first: int) -> Sequence[bytes]:
    """What the partition has, from that offset on."""
    where = TopicPartition(TOPIC, partition)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        end = (await consumer.end_offsets([where]))[where]
        consumer.assign([where])
        consumer.seek(where, first)
        found: list[bytes] = []
        while await consumer.position(where) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                assert {(record.key, record.headers) for record in records} == {(b"key", (("n", b"1"),))}
                found += [record.value for record in records]
        return found


async def end_of(bootstrap: str, partition: int) -> int:
    where = TopicPartition(TOPIC, partition)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        offset: int = (await consumer.end_offsets([where]))[where]
        return offset


async def test_records_of_any_size_are_there_in_their_order_when_it_is_said(freezing: PrivateKafka) -> None:
    first = await end_of(freezing.bootstrap, 0)
    sizes = [0, 10, 15_000, 17_000, 800_000, BATCH_BYTES - 100, BATCH_BYTES + 1, 3 * BATCH_BYTES, 5] * 3
    told = [b"%d %s" % (place, os.urandom(size // 4) * 4) for place, size in enumerate(sizes)]
    async with writing(freezing.bootstrap, 0) as writer:
        alone = await add(writer, told[0])
        await asyncio.wait_for(alone, 30)
        assert await values(freezing.bootstrap, 0, first) == told[:1]
        waiting = {await add(writer, value) for value in told[1:]}
        await asyncio.wait_for(writer.flush(), 60)
        assert all(one.done() and one.exception() is None for one in waiting)
    assert await values(freezing.bootstrap, 0, first) == told


async def test_what_waits_is_bounded_while_kafka_takes_nothing_and_sent_when_it_does(freezing: PrivateKafka) -> None:
    first = await end_of(freezing.bootstrap, 1)
    async with writing(freezing.bootstrap, 1) as writer:
        await asyncio.wait_for(await add(writer, b"before"), 30)
        os.kill(freezing.pid, signal.SIGSTOP)
        try:
            told, waiting = await fill(writer)
            assert sum(map(len, told)) <= 3 * BATCH_BYTES
            assert sum(map(len, told)) >= 1.5 * BATCH_BYTES
            assert not any(one.done() for one in waiting)
        finally:
            os.kill(freezing.pid, signal.SIGCONT)
        await asyncio.wait_for(writer.flush(), 60)
        assert all(one.done() and one.exception() is None for one in waiting)
    assert await values(freezing.bootstrap, 1, first) == [b"before", *told]


async def test_who_waits_is_told_when_a_writer_is_closed(freezing: PrivateKafka) -> None:
    async with writing(freezing.bootstrap, 2) as writer:
        await asyncio.wait_for(await add(writer, b"before"), 30)
        os.kill(freezing.pid, signal.SIGSTOP)
        try:
            waiting = [await add(writer, os.urandom(700_000)) for _ in range(5)]
            await writer.close(KafkaError("closed"))
        finally:
            os.kill(freezing.pid, signal.SIGCONT)
        assert {str(one.exception()) for one in waiting} == {"KafkaError: closed"}
