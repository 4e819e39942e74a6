"""Topics and what is on them, for the emitter's tests."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from tallystick.servers.topics import ensure_topics


@dataclass(frozen=True)
class Record:
    key: str | None
    value: bytes
    headers: dict[str, bytes]

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.value)

    @property
    def kind(self) -> str:
        return self.event["type"].removeprefix("tallystick.").removesuffix(".v1")


async def new_topic(bootstrap: str, partitions: int = 3, **config: str) -> str:
    topic = f"emit-{secrets.token_hex(6)}"
    await ensure_topics(bootstrap, {topic: partitions}, config=config)
    return topic


async def read(bootstrap: str, topic: str) -> list[Record]:
    """Everything on the topic now, each partition in its order."""
    async with asyncio.timeout(60):
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        try:
            await consumer._client._wait_on_metadata(topic)
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Record] = []
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [
                        Record(record.key and record.key.decode(), record.value, dict(record.headers))
                        for record in records
                    ]
            return found
        finally:
            await consumer.stop()


def numbers(records: list[Record]) -> dict[tuple[str, str | None], list[int]]:
    """For each producer and run the sequence numbers in the order they arrived."""
    found: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for record in records:
        event = record.event
        found[event["producerid"], event.get("subject")].append(int(event["sequence"]))
    return dict(found)


def declared(records: list[Record]) -> dict[tuple[str, str | None], set[int]]:
    """The numbers that producer_gap events say were dropped; each range is checked against its count."""
    found: dict[tuple[str, str | None], set[int]] = defaultdict(set)
    for record in records:
        if record.kind == "producer_gap":
            data = record.event["data"]
            lost = set(range(data["from"], data["to"] + 1))
            assert data["count"] == len(lost)
            assert not lost & found[data["src"], record.event.get("subject")]
            found[data["src"], record.event.get("subject")] |= lost
    return dict(found)


def assert_accounted(records: list[Record]) -> None:
    """Each number of each series either arrived, once and in order, or was declared lost."""
    lost = declared(records)
    for series, arrived in numbers(records).items():
        assert arrived == sorted(set(arrived)), series
        gone = lost.get(series, set())
        assert not gone & set(arrived), series
        assert set(arrived) | gone == set(range(1, max(arrived) + 1)), series
