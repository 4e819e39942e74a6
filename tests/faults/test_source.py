"""What the broker no longer has is said, never skipped: retention, a topic made anew, an older copy of the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.faults.support import PARTITIONS, Site, make_site, make_topic
from tests.support.servers import Database, clone


async def test_retention_passing_the_stored_offset_is_a_source_gap(site: Site) -> None:
    await site.publish(90)
    await site.consume()
    lost = await site.publish(90)
    ends = await _delete_records(site)
    await site.publish(30)
    await site.consume()
    site.sent = [id for id in site.sent if id not in set(lost)]
    # Said by the intake log, and by the producers' numbers from the other side.
    await site.check(findings={"producer_gap", "source_hole"}, completeness="gaps")
    gaps = await _gaps(site)
    assert sum(gap["to"] - gap["from"] + 1 for gap in gaps) == 90
    assert {gap["cause"] for gap in gaps} == {"retention"}
    assert {gap["to"] + 1 for gap in gaps} <= set(ends.values())


async def test_a_topic_made_anew_is_a_source_gap_and_then_read_from_its_beginning(site: Site) -> None:
    await site.publish(60)
    await site.consume()
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        await admin.delete_topics([site.topic])
        async with asyncio.timeout(30):
            while site.topic in await admin.list_topics():  # noqa: ASYNC110  (the broker sets no event)
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await make_topic(site.kafka, site.topic)
    await site.publish(120)  # more than there were, so that only the topic's id tells
    await site.consume()
    await site.check(findings={"source_hole"}, completeness="gaps")  # what the old topic held last, nobody knows
    gaps = await _gaps(site)
    assert len(gaps) == PARTITIONS
    assert {gap["cause"] for gap in gaps} == {"topic_recreated"}


async def test_an_older_copy_of_the_database_is_refused(site: Site, database: Database, tmp_path: Path) -> None:
    await site.publish(60)
    await site.consume()
    older = await clone(database.server, database.name)
    await site.publish(60)
    await site.consume()
    newer, site.postgres = site.postgres, older.url()
    process = await site.start()
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "was published, the database has" in errors.decode()
    assert "tally recover" in errors.decode()
    assert await site.rows("SELECT count(*) FROM entries WHERE log = %s AND kind = 'tool_call'", site.origin) == [(60,)]
    site.postgres = newer
    await site.check()
    await older.drop()


async def test_a_clock_an_hour_off_never_moves_recorded_back(database: Database, kafka: str, tmp_path: Path) -> None:
    site = await make_site(database.url(), kafka, tmp_path)
    await site.publish(60)
    await site.consume(clock_offset_s=3600)
    await site.publish(60)
    await site.consume()
    await site.check()


async def _delete_records(site: Site) -> dict[int, int]:
    """Delete every record that the topic holds, as retention would; return the end offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=site.kafka)
    await consumer.start()
    partitions = [TopicPartition(site.topic, n) for n in range(PARTITIONS)]
    ends = await consumer.end_offsets(partitions)
    await consumer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
    finally:
        await admin.close()
    return {tp.partition: end for tp, end in ends.items()}


async def _gaps(site: Site) -> list[dict[str, int]]:
    found = []
    for partition in range(PARTITIONS):
        log = f"{site.prefix}/_intake/{site.topic}/{partition}"
        found += [leaf["data"] for leaf in await site.leaves("source_gap", log)]
    return found
