"""A Collector's records on a real Kafka, through the consumer, in the ledger: each span once, whichever way it came."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.records import RECORDS, decode, sent
from tests.faults.support import Site, make_site, make_topic
from tests.support.servers import Database

SPANS = ["spans.bin", "spans.json", *(f"spans-by-trace-{n}.bin" for n in (1, 2, 3))]  # the same nine spans each time
LOGS = ["logs.bin", "logs.json", *(f"logs-by-trace-{n}.bin" for n in (1, 2, 3))]
LOGS += [f"logs-by-resource-{n}.bin" for n in (1, 2)]
LARGE_SPANS = 2_000  # about 1.9 MB: a record twice as large as the gateway's may be

Raw = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


@pytest.fixture
async def site(database: Database, kafka: str, tmp_path: Path) -> Site:
    site = await make_site(database.url(), kafka, tmp_path)
    for signal in ("spans", "logs"):
        await make_topic(kafka, f"tally.otlp.{signal}.{site.tenant}")
    return site


async def consume(site: Site, signal: str, *records: Raw) -> dict[str, Any]:
    """Send records to the tenant's topic of a signal, in order; what the consumer then counted."""
    site.topic = f"tally.otlp.{signal}.{site.tenant}"
    await site.send(list(records))
    return await site.consume()


def as_written(*names: str) -> list[Raw]:
    return [(RECORDS[name].key, RECORDS[name].value, RECORDS[name].headers) for name in names]


async def recorded(site: Site) -> Counter[str]:
    """How often each event of the runs is on the record."""
    query = "SELECT id::text FROM entries WHERE log = %s AND run IS NOT NULL AND kind <> 'run_head'"
    return Counter(row[0] for row in await site.rows(query, site.origin))


def ids(*names: str) -> set[str]:
    return {one.event.id for name in names for one in decode(RECORDS[name])}


def tool_calls(*names: str) -> list[str]:
    return [one.event.id for name in names for one in decode(RECORDS[name]) if one.event.kind == "tool_call"]


async def test_each_span_is_on_the_record_once_whatever_the_exporter_made_of_it(site: Site) -> None:
    past_the_collector: list[Raw] = [(None, sent(f"sent-traces-{n}.bin"), []) for n in (1, 2)]
    spans = await consume(site, "spans", *as_written(*SPANS), *past_the_collector, *as_written(*SPANS))
    events = ids("spans.bin")
    assert (spans["records"], spans["rejected"], spans["conflicts"]) == (2 * len(SPANS) + 2, 0, 0)
    assert spans["duplicates"] == 6 * len(events)  # each came seven times
    logs = await consume(site, "logs", *as_written(*LOGS), (None, sent("sent-logs-1.bin"), []), *as_written(*LOGS))
    assert (logs["records"], logs["rejected"], logs["conflicts"]) == (2 * len(LOGS) + 1, 0, 0)
    assert await recorded(site) == Counter(events | ids("logs.bin"))
    site.sent = tool_calls("spans.bin", "logs.bin")
    assert len(site.sent) == 3
    await site.check()


async def test_a_record_that_is_no_request_is_rejected_and_those_around_it_are_recorded(site: Site) -> None:
    good = as_written("spans-by-trace-1.bin", "spans-by-trace-2.bin", "spans-by-trace-3.bin")
    cut = RECORDS["spans.json"].value[:-50]
    counted = await consume(site, "spans", good[0], (b"k", cut, []), good[1], (None, b"\x0a\xff", []), good[2])
    assert (counted["records"], counted["rejected"]) == (5, 2)
    assert await recorded(site) == Counter(ids("spans.bin"))
    rejected = [leaf["data"] for leaf in await site.leaves("rejected")]
    assert [one["reason"] for one in rejected] == ["not_otlp", "not_otlp"]
    assert sorted(one["received_bytes"] for one in rejected) == [2, len(cut)]
    site.sent = tool_calls("spans.bin")
    await site.check()


async def test_records_are_read_whatever_they_are_compressed_by_and_however_large_the_batch(site: Site) -> None:
    site.topic = f"tally.otlp.spans.{site.tenant}"
    topic = site.topic
    large = many_spans()
    assert len(large) > 900_000 * 2
    for codec, value in zip(
        ("gzip", "snappy", "lz4", "zstd"), [*(value for _, value, _ in as_written(*SPANS[2:])), large], strict=True
    ):
        producer = AIOKafkaProducer(bootstrap_servers=site.kafka, compression_type=codec, max_request_size=16 << 20)
        await producer.start()
        try:
            await producer.send_and_wait(topic, value)
        finally:
            await producer.stop()
    counted = await site.consume()
    assert (counted["records"], counted["rejected"], counted["duplicates"]) == (4, 0, 0)
    assert len(await recorded(site)) == len(ids("spans.bin")) + LARGE_SPANS
    site.sent = tool_calls("spans.bin")
    await site.check()


def many_spans() -> bytes:
    """The record of one span many times over, with other ids."""
    request = ExportTraceServiceRequest.FromString(RECORDS["spans-by-trace-1.bin"].value)
    scope = request.resource_spans[0].scope_spans[0]
    one = next(span for span in scope.spans if span.name.startswith("chat"))
    del scope.spans[:]
    for number in range(LARGE_SPANS):
        span = scope.spans.add()
        span.CopyFrom(one)
        span.trace_id = (number // 10 + 1).to_bytes(16, "big")
        span.span_id = (number + 1).to_bytes(8, "big")
        span.attributes.add(key="text").value.string_value = "x" * 700
    return request.SerializeToString()
