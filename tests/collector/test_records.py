"""A Collector's records give the entries that the same spans give by the gateway, however its exporter wrote them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ledger.seal import Pending
from schemas.ids import span_id
from tests.collector.records import RECORDS, Record, decode, decode_as_gateway, of_run, recognized, said

WHOLE = [name for name in RECORDS if not name.startswith(("odd", "not-utf8", "newer"))]


def groups() -> dict[str, list[Record]]:
    """Records that one configuration of the exporter wrote of one thing that it was sent."""
    found: dict[str, list[Record]] = {}
    for name in WHOLE:
        stem, form = name.split(".")
        found.setdefault(f"{stem.rstrip('0123456789').rstrip('-')}.{form}", []).append(RECORDS[name])
    return found


@pytest.mark.parametrize("name", WHOLE)
def test_a_record_is_read_to_its_end_and_nothing_of_it_is_refused(name: str) -> None:
    pendings = decode(RECORDS[name])
    assert pendings
    assert [one.event.data for one in pendings if one.event.kind == "rejected"] == []


@pytest.mark.parametrize("records", groups().values(), ids=groups().keys())
def test_the_gateway_and_a_collector_give_the_same_events(records: list[Record]) -> None:
    tenant = "acme" if records[0].topic.endswith(".acme") else "default"
    by_gateway = [one for file in records[0].sent for one in decode_as_gateway(file, tenant)]
    by_collector = [one for record in records for one in decode(record)]
    assert recognized(by_collector) == recognized(by_gateway)
    assert sorted(map(said, by_collector), key=str) == sorted(map(said, by_gateway), key=str)


@pytest.mark.parametrize("name", [name for name in WHOLE if name.endswith(".json")])
def test_json_and_protobuf_give_the_same_entries(name: str) -> None:
    protobuf = decode(RECORDS[name.replace(".json", ".bin")])
    assert list(map(said, decode(RECORDS[name]))) == list(map(said, protobuf))


def test_a_record_of_several_runs_gives_the_entries_of_each() -> None:
    pendings = decode(RECORDS["spans.bin"])
    own = [one for one in pendings if one.event.data["from"] == "span" and "trace" in one.event.data]
    runs = Counter(one.event.run for one in own if one.event.id == span_id_of(one))
    traces = {one.event.data["trace"]["trace_id"] for one in own}
    assert len(traces) == 3
    (alone,) = traces & runs.keys()  # its resource names no run, so the trace is the run
    assert runs == {"run-of-two-traces": 6, alone: 3}


def span_id_of(pending: Pending) -> str:
    trace = pending.event.data["trace"]
    return span_id(trace["trace_id"], trace["span_id"])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_record_keyed_by_its_trace_holds_that_trace_only(number: int) -> None:
    record = RECORDS[f"spans-by-trace-{number}.bin"]
    assert record.key is not None
    assert {one.event.data["trace"]["trace_id"] for one in decode(record)} == {record.key.decode()}


def test_a_key_that_is_no_text_is_kept_from_no_record() -> None:
    records = [RECORDS[f"logs-by-resource-{n}.bin"] for n in (1, 2)]
    assert all(one.key is not None and len(one.key) == 16 for one in records)
    assert recognized([p for one in records for p in decode(one)]) == recognized(decode(RECORDS["logs.bin"]))


def test_a_topic_speaks_for_its_tenant_and_a_collectors_header_for_nobody() -> None:
    records = [RECORDS[f"tenant-{n}.bin"] for n in range(1, 5)]
    assert all(("tallystick-tenant", b"acme") in one.headers for one in records)
    assert {p.tenant for one in records for p in decode(one)} == {"acme"}
    elsewhere = [replace(one, topic=one.topic.removesuffix(".acme")) for one in records]
    assert {p.tenant for one in elsewhere for p in decode(one)} == {"default"}


@pytest.mark.parametrize("name", ["spans.bin", "spans.json", "logs.bin"])
@pytest.mark.parametrize("cut", [1, 100, 500])
def test_a_record_that_was_cut_is_rejected_with_its_bytes(name: str, cut: int) -> None:
    broken = replace(RECORDS[name], value=RECORDS[name].value[:-cut])
    (one,) = decode(broken)
    assert (one.event.kind, one.event.data["reason"]) == ("rejected", "not_otlp")
    assert one.received == broken.value


def test_one_span_that_no_reader_takes_costs_the_record_no_other() -> None:
    """A Collector passes on a text that isn't UTF-8, which protobuf refuses; here in one span of nine."""
    pendings = decode(RECORDS["not-utf8.bin"])
    (rejected,) = [one for one in pendings if one.event.kind == "rejected"]
    assert rejected.event.data["reason"] == "not_otlp"
    assert b"call-\xff" in rejected.received
    assert len({one.event.wire for one in pendings if one.event.wire}) == 8
    assert of_run(pendings, "run-of-two-traces") == of_run(decode(RECORDS["spans.bin"]), "run-of-two-traces")
