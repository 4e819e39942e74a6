"""Several consumers: a rebalance in the middle of a batch, a zombie that wakes, the same records from the beginning."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.faults.support import PARTITIONS, Site, event


async def test_a_second_consumer_joining_in_the_middle_loses_and_repeats_nothing(site: Site) -> None:
    group = {"group": site.topic, "batch": 20, "idle_s": 3.0}
    await site.publish(400)
    first = await site.start(**group)
    await _until_some_are_in(site, 20)
    second = await site.start(**group)
    await site.publish(400)
    for process in (first, second):
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
    await site.check()


async def test_a_zombie_that_wakes_after_its_partitions_moved_commits_nothing(site: Site) -> None:
    await site.publish(300)
    zombie = await site.start(batch=20, idle_s=30.0)
    await _until_some_are_in(site, 20)
    os.kill(zombie.pid, signal.SIGSTOP)
    await site.publish(100)
    await site.consume()  # another group: Kafka gives it every partition while the zombie still believes it has them
    await site.publish(100)
    before = await _count(site)
    os.kill(zombie.pid, signal.SIGCONT)
    _, errors = await zombie.communicate()
    assert zombie.returncode == 1
    assert "another consumer has this partition" in errors.decode()
    assert await _count(site) == before
    await site.consume()
    await site.check()


# Three transactions before the batches register the intake logs; each copies twice.
@pytest.mark.parametrize(("step", "nth"), [("positions_held", 5), ("heads_locked", 5), ("rows_copied", 9)])
async def test_a_consumer_frozen_in_a_transaction_holds_nobody_up(site: Site, step: str, nth: int) -> None:
    await site.publish(200)
    frozen = await site.start(batch=50, idle_s=30.0, freeze_after=step, nth=nth, transaction_s_max=3)
    await _until_frozen(frozen.pid)
    await site.consume()
    await site.check()
    os.kill(frozen.pid, signal.SIGCONT)
    _, errors = await frozen.communicate()
    assert frozen.returncode == 1
    assert "another consumer has this partition" in errors.decode()
    await site.check()


async def test_redelivery_of_everything_appends_nothing(site: Site) -> None:
    await site.publish(200)
    await site.consume()
    sizes = await site.rows("SELECT log, tree_size FROM logs WHERE class = 'tenant'")
    first = await site.consume()  # a new group each time: Kafka's own offsets are gone, Postgres' are not
    assert first["records"] == 0
    await site.send(await _all_records(site))  # as a mirror or a producer without an acknowledgement sends again
    progress = await site.consume()
    assert progress["duplicates"] == 200
    assert await site.rows("SELECT log, tree_size FROM logs WHERE class = 'tenant'") == sizes
    await site.check()


async def test_twenty_producers_racing_one_id_give_one_event_and_conflicts(site: Site) -> None:
    same = event("run-1", 1, id=str(uuid.uuid4()))
    other = {**same, "data": {**same["data"], "status": "error"}}

    async def race(n: int) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=site.kafka, acks="all")
        await producer.start()
        try:
            for value in (same, other) if n % 2 else (other, same):
                await producer.send_and_wait(site.topic, json.dumps(value).encode(), key=f"key-{n}".encode())
        finally:
            await producer.stop()

    await asyncio.gather(*(race(n) for n in range(20)))
    both = {"group": site.topic, "batch": 5, "idle_s": 3.0}
    consumers = [await site.start(**both), await site.start(**both)]
    counts = []
    for process in consumers:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
        counts.append(json.loads(output.decode().splitlines()[-1]))
    site.sent.append(same["id"])
    await site.check()
    conflicts = await site.leaves("conflict")
    assert len(conflicts) == 20  # each of the twenty with the other content is kept, with its bytes
    assert all(leaf["data"]["of"] == same["id"] and "/received" in leaf["commit"] for leaf in conflicts)
    assert sum(count["duplicates"] for count in counts) == 19


async def _until_some_are_in(site: Site, wanted: int) -> None:
    async with asyncio.timeout(60):
        while await _count(site) < wanted:  # noqa: ASYNC110  (Postgres sets no event)
            await asyncio.sleep(0.02)


async def _until_frozen(pid: int) -> None:
    async with asyncio.timeout(60):
        while _state(pid) != "T":  # noqa: ASYNC110  (a process sets no event)
            await asyncio.sleep(0.02)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def _all_records(site: Site) -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=site.kafka)
    await consumer.start()
    try:
        partitions = [TopicPartition(site.topic, n) for n in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = []
        while len(found) < 200:
            batch = await consumer.getmany(timeout_ms=1000)
            found += [(r.key, r.value, list(r.headers)) for records in batch.values() for r in records]
        return found
    finally:
        await consumer.stop()


async def _count(site: Site) -> int:
    rows = await site.rows("SELECT count(*) FROM entries WHERE log = %s AND kind = 'tool_call'", site.origin)
    return int(rows[0][0])
