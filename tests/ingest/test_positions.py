"""What the broker no longer has, as a table; and claiming, which fences."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.positions import Gap, Position, claim, find_gap, record_gap
from tests.ledger.appending import bench
from tests.support.servers import Database

A, B = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def at(next_offset: int, topic_id: str | None = A, stored: str | None = A) -> Position:
    return Position("c", "t", topic_id, 0, "log", 1, next_offset, stored)


@pytest.mark.parametrize(
    ("position", "beginning", "end", "gap"),
    [
        (at(0), 0, 0, None),
        (at(0), 0, 9, None),
        (at(5), 0, 9, None),
        (at(5), 5, 9, None),
        (at(9), 9, 9, None),
        (at(9), 0, 9, None),
        (at(5), 7, 9, Gap(5, 6, "retention", 7)),
        (at(0), 3, 9, Gap(0, 2, "retention", 3)),  # the first start begins at the beginning, and says what is gone
        (at(5), 9, 9, Gap(5, 8, "retention", 9)),
        (at(9), 0, 4, Gap(9, 3, "offsets_lost", 0)),
        (at(9), 2, 8, Gap(9, 7, "offsets_lost", 2)),
        (at(9, B), 0, 100, Gap(9, -1, "topic_recreated", 0)),
        (at(9, B), 0, 4, Gap(9, -1, "topic_recreated", 0)),
        (at(9, B), 3, 100, Gap(9, 2, "topic_recreated", 3)),
        (at(0, B), 0, 0, Gap(0, -1, "topic_recreated", 0)),
        # A broker that can't say topic ids, and positions stored from one.
        (at(9, None, A), 0, 100, None),
        (at(9, A, None), 0, 100, None),
        (at(9, None, None), 0, 4, Gap(9, 3, "offsets_lost", 0)),
        (at(9, None, None), 12, 20, Gap(9, 11, "retention", 12)),
    ],
)
def test_find_gap(position: Position, beginning: int, end: int, gap: Gap | None) -> None:
    assert find_gap(position, beginning, end) == gap


async def test_claiming_raises_the_epoch_and_keeps_the_offset(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as made:
        first = await claim(made.conn, "c", "t", A, 0, "log")
        assert (first.epoch, first.next_offset, first.stored_topic_id) == (1, 0, A)
        await made.conn.execute("UPDATE positions SET next_offset = 7")
        second = await claim(made.conn, "c", "t", B, 0, "log")
        assert (second.epoch, second.next_offset, second.topic_id, second.stored_topic_id) == (2, 7, B, A)
        assert (await claim(made.conn, "c", "t", B, 1, "log")).epoch == 1


async def test_a_gap_is_recorded_once_however_often_it_is_found(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as made:
        log = made.registry.intake("t", 0)
        appender = await made.appender()
        await made.registry.add_log(appender, log, "intake")
        position = await claim(made.conn, "c", "t", A, 0, log)
        gap = find_gap(position, 5, 9)
        assert gap is not None
        for _ in range(2):  # the second time: the process died before the offset was stored
            moved = await record_gap(made.conn, appender, position, gap)
        assert moved.next_offset == 5
        (leaf,) = await made.leaves(log)
        said = {"cluster": "c", "topic_id": A, "from": 0, "to": 4, "cause": "retention"}
        assert {name: leaf["data"][name] for name in said} == said
        assert await made.rows("SELECT next_offset FROM positions") == [(5,)]
        assert find_gap(moved, 5, 9) is None
        await made.sound()


async def test_a_gap_of_a_partition_that_moved_on_leaves_its_offset_alone(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path) as made:
        log = made.registry.intake("t", 0)
        appender = await made.appender()
        await made.registry.add_log(appender, log, "intake")
        zombie = await claim(made.conn, "c", "t", A, 0, log)
        await claim(made.conn, "c", "t", A, 0, log)
        await record_gap(made.conn, appender, zombie, Gap(0, 4, "retention", 5))
        assert await made.rows("SELECT next_offset, epoch FROM positions") == [(0, 2)]
