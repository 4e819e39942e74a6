"""OTLP requests under faults: a request is in whole or not at all, and a span sent again is one event."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from schemas.ids import span_id
from tests.faults.support import Site, make_site, make_topic
from tests.support.servers import Database

TRACE = bytes(range(16))
EACH = 40  # spans of a request: more than one fits a batch of the test's consumers, as it may be


@pytest.fixture
async def site(database: Database, kafka: str, tmp_path: Path) -> Site:
    site = await make_site(database.url(), kafka, tmp_path)
    site.topic = f"tally.otlp.spans.{site.tenant}"
    await make_topic(kafka, site.topic)
    return site


def tool_span(number: int, tool: str = "search") -> Span:
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "tallystick.run_id": f"run-{number % 5}"}
    return Span(
        trace_id=TRACE,
        span_id=(number + 1).to_bytes(8, "big"),
        parent_span_id=b"\xff" * 8,
        name=f"execute_tool {tool}",
        start_time_unix_nano=1_790_000_000_000_000_000 + number,
        end_time_unix_nano=1_790_000_000_000_002_000 + number,
        attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in said.items()],
    )


async def send(site: Site, *requests: list[Span]) -> None:
    """Publish requests in order, each new span once in what must be on the record."""
    records = []
    for spans in requests:
        request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
        records.append((b"one-partition", request.SerializeToString(), []))
        site.sent += [span_id(TRACE.hex(), span.span_id.hex()) for span in spans]
    await site.send(records)


def spans(first: int, count: int) -> list[Span]:
    return [tool_span(number) for number in range(first, first + count)]


@pytest.mark.parametrize("step", ["keys_created", "rows_copied", "committed"])
async def test_a_consumer_killed_in_a_request_loses_and_repeats_nothing(site: Site, step: str) -> None:
    await send(site, *(spans(EACH * n, EACH) for n in range(6)))
    await site.consume_and_die(die_after=step, nth=2, batch=100)
    await send(site, spans(EACH * 6, EACH))
    await site.consume(batch=100)
    await site.check()


async def test_a_span_sent_again_is_one_event_and_with_other_content_a_conflict(site: Site) -> None:
    await send(site, spans(0, 10))
    said = list(site.sent)
    await send(site, spans(5, 3), spans(0, 10))  # alone, with others, in another order of requests
    changed = [tool_span(3, tool="delete_all"), *spans(20, 1)]
    await send(site, changed)
    site.sent = [*said, site.sent[-1]]
    progress = await site.consume()
    assert (progress["records"], progress["duplicates"], progress["conflicts"]) == (4, 13, 1)
    await site.check()
    (conflict,) = await site.leaves("conflict")
    assert conflict["data"]["of"] == said[3]
    assert (conflict["data"]["second"]["offset"], conflict["data"]["second"]["item"]) == (3, 0)


async def test_the_account_of_a_partition_counts_records_and_what_they_gave(site: Site) -> None:
    await send(site, spans(0, 7), spans(7, 8))
    await site.send([(b"one-partition", b"\xff\xff", [])])
    progress = await site.consume(batch=1000)
    assert (progress["records"], progress["rejected"]) == (3, 1)
    logs = await site.rows("SELECT log FROM logs WHERE log LIKE %s", f"%/_intake/{site.topic}/%")
    accounts = [leaf["data"] for (log,) in logs for leaf in await site.leaves("intake", log)]
    assert sum(account["records"] for account in accounts) == 3
    assert sum(account["events"] for account in accounts) == 15
    assert sum(account["appended"] for account in accounts) == 15
    assert sum(account["rejected"] for account in accounts) == 1
    await site.check()


async def test_records_that_hold_nothing_hold_nobody_up(site: Site) -> None:
    """More bytes than a batch takes, and no item among them."""
    resource = ResourceSpans()
    resource.resource.attributes.append(KeyValue(key="k", value=AnyValue(string_value="x" * 900_000)))
    value = ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()
    await site.send([(b"one-partition", value, [])] * 20)
    await send(site, spans(0, 3))
    progress = await site.consume()
    assert (progress["records"], progress["entries"] >= 3) == (21, True)
    await site.check()
