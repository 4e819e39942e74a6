"""Records of a Collector that are odd, or that a Collector with the wrong topic wrote: nothing of them goes unsaid."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.ids import span_id
from tests.collector.records import RECORDS, decode, decode_as_gateway, of_run, recognized, said

ODD_SPANS = 42
ODD_LOGS = 7
ODD = ["odd-spans.bin", "odd-spans.json", "odd-logs.bin", "odd-logs.json"]


@pytest.mark.parametrize("name", ODD)
def test_what_a_collector_adds_that_says_nothing_makes_no_other_event(name: str) -> None:
    by_gateway = decode_as_gateway(*RECORDS[name].sent)
    by_collector = decode(RECORDS[name])
    assert [one.event.data for one in by_collector if one.event.kind == "rejected"] == []
    assert recognized(by_collector) == recognized(by_gateway)
    assert list(map(said, by_collector)) == list(map(said, by_gateway))


def test_every_span_and_log_record_of_a_request_is_there() -> None:
    own = {one.event.id for one in decode(RECORDS["odd-spans.bin"])}
    assert {span_id("0102030405060708090a0b0c0d0e0f10", f"{0x1000 + n:016x}") for n in range(1, ODD_SPANS + 1)} <= own
    assert len({one.event.wire for one in decode(RECORDS["odd-logs.bin"])}) == ODD_LOGS


def test_a_resource_that_no_reader_takes_costs_no_other_resource() -> None:
    pendings = decode(RECORDS["not-utf8-resource.bin"])
    rejected = [one for one in pendings if one.event.kind == "rejected"]
    assert {one.event.data["reason"] for one in rejected} == {"not_otlp"}
    assert all(b"desk-\xff" in one.received for one in rejected)
    assert of_run(pendings, "run-of-two-traces") == of_run(decode(RECORDS["spans.bin"]), "run-of-two-traces")


@pytest.mark.parametrize("name", ["spans.bin", "spans.json", "logs.bin", "logs.json"])
def test_a_signal_in_the_other_signals_topic_is_rejected(name: str) -> None:
    swapped = "tally.otlp.logs" if name.startswith("spans") else "tally.otlp.spans"
    (one,) = decode(replace(RECORDS[name], topic=swapped))
    assert (one.event.kind, one.event.data["reason"]) == ("rejected", "not_otlp")
    assert one.received == RECORDS[name].value


def test_a_field_that_the_collector_is_too_old_for_is_gone_and_that_shows_if_the_span_also_comes_directly() -> None:
    passed_on, direct = decode(RECORDS["newer.bin"]), decode_as_gateway("sent-newer.bin")
    assert [one.event.id for one in passed_on] == [one.event.id for one in direct]
    of_the_first_span = [one.event.wire == direct[0].event.wire for one in direct]
    assert [a.event.wire != b.event.wire for a, b in zip(passed_on, direct, strict=True)] == of_the_first_span
    assert b"abc" in direct[0].received
    assert b"abc" not in passed_on[0].received
