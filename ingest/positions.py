"""The stored offsets: taking a topic partition over, and what the broker no longer has.

Guarantees: who claims a partition raises its epoch, so that whoever held it before can commit nothing more; where the
broker can't give the next offset, a `source_gap` entry says so before anything after the gap is appended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ledger.append import Appender
from ledger.db import Connection
from ledger.registry import append_pending
from ledger.seal import Pending, ledger_event


@dataclass(frozen=True, slots=True)
class Position:
    """A claimed topic partition: this consumer's epoch, and the next offset to append from."""

    cluster: str
    topic: str
    topic_id: str | None
    partition: int
    log: str
    epoch: int
    next_offset: int
    stored_topic_id: str | None


async def claim(conn: Connection, cluster: str, topic: str, topic_id: str | None, partition: int, log: str) -> Position:
    """Take a topic partition over: raise its epoch and read its stored offset (0 where there is none yet)."""
    cursor = await conn.execute(
        "INSERT INTO positions AS p (cluster, topic, partition, topic_id, epoch) VALUES (%s, %s, %s, %s, 1)"
        " ON CONFLICT (cluster, topic, partition) DO UPDATE SET epoch = p.epoch + 1"
        " RETURNING epoch, next_offset, topic_id",
        (cluster, topic, partition, topic_id),
    )
    row = await cursor.fetchone()
    if row is None:  # an upsert always returns its row
        raise RuntimeError("claiming a position returned no row")
    return Position(cluster, topic, topic_id, partition, log, row[0], row[1], row[2])


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that the broker can't give: `first` to `last` inclusive (`last` < `first`: the log began anew), and where
    to go on."""

    first: int
    last: int
    cause: str
    resume: int


def find_gap(position: Position, beginning: int, end: int) -> Gap | None:
    """Compare a position with what the broker has: offsets `beginning` to `end` - 1. Pure."""
    recreated = (
        position.topic_id is not None
        and position.stored_topic_id is not None
        and position.topic_id != position.stored_topic_id
    )
    if recreated:
        return Gap(position.next_offset, beginning - 1, "topic_recreated", beginning)
    if end < position.next_offset:
        return Gap(position.next_offset, end - 1, "offsets_lost", beginning)
    if beginning > position.next_offset:
        return Gap(position.next_offset, beginning - 1, "retention", beginning)
    return None


async def record_gap(conn: Connection, appender: Appender, position: Position, gap: Gap) -> Position:
    """Append the `source_gap` entry, then move the stored offset past the gap. Run again, it appends nothing twice."""
    source = {
        "ledger": f"source_gap/{position.cluster}/{position.topic}/{position.stored_topic_id or '-'}"
        f"/{position.partition}/{gap.first}/{position.topic_id or '-'}"
    }
    data = {"cluster": position.cluster, "from": gap.first, "to": gap.last, "cause": gap.cause}
    if position.topic_id is not None:
        data["topic_id"] = position.topic_id
    event = ledger_event("source_gap", source, data=data)
    await append_pending(appender, Pending(event, "", position.log, source))
    await conn.execute(
        "UPDATE positions SET next_offset = %s, topic_id = %s"
        " WHERE cluster = %s AND topic = %s AND partition = %s AND epoch = %s",
        (gap.resume, position.topic_id, position.cluster, position.topic, position.partition, position.epoch),
    )
    return replace(position, next_offset=gap.resume, stored_topic_id=position.topic_id)
