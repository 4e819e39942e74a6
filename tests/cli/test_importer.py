"""Import: lines go out unchanged, and what is counted is what became of them, whoever else is writing."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

import ingest.importer
from ingest.errors import ImportStopped
from ingest.importer import (
    LINE_BYTES_MAX,
    Offsets,
    Outcome,
    Publisher,
    count_outcome,
    form_of,
    read_lines,
    tree_sizes,
    until_committed,
)
from ledger.db import connect
from tests.cli.tally import PLAIN
from tests.faults.support import PARTITIONS, Site, event


def step(run: str, number: int, **more: Any) -> dict[str, Any]:
    return {"run_id": run, "step": number, "type": "validator", "rule": "r", "result": "pass"} | more


def lines_of(*steps: object) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in steps)


async def import_(site: Site, content: bytes, name: str = "steps.jsonl", **options: Any) -> Outcome:
    """Import a file's content with a consumer running until the topic is drained."""
    async with await connect(site.postgres, "tally_auditor") as conn:
        since = await tree_sizes(conn)
        async with Publisher(site.kafka, {}, site.topic) as publisher:
            for line in read_lines(io.BytesIO(content), name):
                await publisher.send(line.value, line.key, line.headers, name)
            await publisher.flush()
        if options.get("before_consumer"):
            await options["before_consumer"]()
        consuming = asyncio.create_task(site.consume())
        await until_committed(conn, publisher.sent, lambda *_: None)
        outcome = await count_outcome(conn, publisher.sent, since)
        await consuming
        return outcome


def counts(outcome: Outcome) -> tuple[int, int, int, int]:
    return outcome.appended, outcome.duplicate, outcome.conflict, outcome.rejected


# Lines


def test_lines_are_unchanged_and_numbered_as_in_the_file() -> None:
    content = b'\xef\xbb\xbf{"run_id":"r",  "weight":1.250}\r\n\n   \n{"specversion":"1.0","subject":"s"}\nno json'
    lines = list(read_lines(io.BytesIO(content), "a.jsonl"))
    assert [(line.number, line.value, line.form, line.key) for line in lines] == [
        (1, b'{"run_id":"r",  "weight":1.250}', "plain", b"r"),
        (4, b'{"specversion":"1.0","subject":"s"}', "event", b"s"),
        (5, b"no json", "plain", None),
    ]
    assert lines[1].headers == [
        ("tallystick-form", b"event"),
        ("tallystick-file", b"a.jsonl"),
        ("tallystick-line", b"4"),
    ]


def test_an_outcome_without_a_run_goes_by_its_work_item() -> None:
    said = {"specversion": "1.0", "data": {"outcome": "closed", "work_item": {"system": "desk", "id": "T-1"}}}
    assert form_of(json.dumps(said).encode()) == ("event", b"T-1")


@given(st.binary(max_size=200))
def test_any_bytes_have_a_form(value: bytes) -> None:
    form, key = form_of(value)
    assert form in ("plain", "event")
    assert key is None or isinstance(key, bytes)


def test_a_line_that_no_topic_takes_is_named() -> None:
    content = b'{"run_id":"r"}\n' + b"x" * (LINE_BYTES_MAX + 1) + b"\n"
    with pytest.raises(ImportStopped, match=r"big\.jsonl:2: expected a line of at most"):
        list(read_lines(io.BytesIO(content), "big.jsonl"))


@given(st.sets(st.integers(min_value=0, max_value=300), min_size=1))
def test_offsets_are_the_set_that_was_added(wanted: set[int]) -> None:
    offsets = Offsets()
    for offset in sorted(wanted):
        offsets.add(offset)
    assert {offset for offset in range(-1, 302) if offset in offsets} == wanted
    assert offsets.newest == max(wanted)


# Counting, on real servers


async def test_importing_twice_appends_nothing_the_second_time(site: Site) -> None:
    content = PLAIN.read_bytes()
    assert counts(await import_(site, content)) == (5, 0, 0, 0)
    assert counts(await import_(site, content)) == (0, 5, 0, 0)
    rows = await site.rows("SELECT count(*) FROM entries WHERE log = %s AND kind <> 'run_head'", site.origin)
    assert rows == [(6,)]  # with the tenant's entry
    sources = [leaf["source"] for leaf in await site.leaves("tool_call")]
    assert [(source["file"], source["line"]) for source in sources] == [("steps.jsonl", 2), ("steps.jsonl", 4)]


async def test_each_line_is_counted_for_what_became_of_it(site: Site) -> None:
    content = lines_of(
        step("a", 1),
        step("a", 1),  # again: a duplicate
        step("a", 1, rule="other"),  # the same step with other content
        b"not json",
        step("b", 1),
        event("c", 1, tenant="somebody else"),  # the topic says otherwise
        event("c", 2),
    )
    outcome = await import_(site, content)
    assert counts(outcome) == (3, 1, 1, 2)
    assert outcome.lines == 7
    assert [(one.line, one.reason) for one in outcome.rejections] == [(4, "not_json"), (6, "tenant_mismatch")]
    (conflict,) = outcome.conflicts
    (entry,) = await site.leaves("conflict")
    assert (conflict.file, conflict.line, conflict.id, conflict.of) == (
        "steps.jsonl",
        3,
        entry["id"],
        entry["data"]["of"],
    )


async def test_the_first_lines_are_listed_in_their_order(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.importer, "LISTED_MAX", 5)
    outcome = await import_(site, lines_of(*(step(f"run-{n}", 1) if n % 3 else b"no %d" % n for n in range(60))))
    assert (outcome.rejected, [one.line for one in outcome.rejections]) == (20, [1, 4, 7, 10, 13])


async def test_what_others_send_meanwhile_is_not_counted(site: Site) -> None:
    async def others() -> None:
        await site.publish(50)
        await site.send([(b"k", b"nonsense", [])])

    content = lines_of(*(step(f"run-{n % 7}", n) for n in range(100)))
    await site.publish(30)
    assert counts(await import_(site, content, before_consumer=others)) == (100, 0, 0, 0)
    rejected = await site.leaves("rejected")
    assert len(rejected) == 1
    await site.check()


async def test_what_kafka_holds_is_the_line_to_the_byte(site: Site) -> None:
    raw = b'{ "run_id" : "7f31" , "step":1, "type":"tool_call","tool":"t","input":{"w":1.2500,"e":1e2} }'
    await import_(site, raw + b"\r\n")
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(site.topic, n) for n in range(PARTITIONS)])
        record = await consumer.getone()
    assert record.value == raw
    assert record.key == b"7f31"


async def test_nobody_consuming_is_told_and_loses_nothing(site: Site) -> None:
    async with await connect(site.postgres, "tally_auditor") as conn:
        async with Publisher(site.kafka, {}, site.topic) as publisher:
            await publisher.send(
                b'{"run_id":"r","step":1,"type":"validator","rule":"r","result":"pass"}', b"r", [], "x"
            )
            await publisher.flush()
        with pytest.raises(ImportStopped, match=r"1 lines are in Kafka.*when a consumer runs"):
            await until_committed(conn, publisher.sent, lambda *_: None, stall_s=0.5)
        with pytest.raises(ImportStopped, match=r"1 lines are in Kafka.*nothing is appended any more: a fork"):
            await until_committed(conn, publisher.sent, lambda *_: None, ended=lambda: "a fork")


async def test_a_topic_that_is_not_there_is_told(kafka: str) -> None:
    with pytest.raises(ImportStopped, match=r"has no topic tally\.events\.no-such"):
        async with Publisher(kafka, {}, "tally.events.no-such"):
            pass


def test_files_are_looked_at_before_anything_is_sent(tmp_path: Path) -> None:
    from tests.cli.tally import Tally

    told = Tally.at(tmp_path / "home")("import", PLAIN, "missing.jsonl").one_line()
    assert "missing.jsonl" in told
