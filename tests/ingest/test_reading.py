"""From polled records to sealed items: order, chunks, who is looked up once more, and what is kept of an event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import ingest.reading
from ingest.authority import Authority
from ingest.consumer import Consumer, ConsumerConfig
from ingest.decode import Decoder, Record
from ingest.otlp.wire import TENANT_HEADER
from ingest.reading import Reader, Stretch
from ingest.signatures import SIGNATURE_HEADER
from ledger.append import Item
from ledger.note import vkey_text
from ledger.registry import Tenant
from ledger.seal import Pending
from tests.ingest.test_decode import DECODER as SIGNED_DECODER
from tests.ingest.test_decode import attested, envelope
from tests.ingest.test_decode import signed as signed_by_producer
from tests.ingest.test_requests import ACME, DECODER, GATEWAY, attribute, request, said, span
from tests.ledger.appending import bench
from tests.support.servers import Database

EVENTS = "tally.events"
DATA_SUBJECT = "tallystick.data_subject"
NOW = "2026-11-21T12:00:00.000000Z"


class Sealing:
    """Stands for an appender. Its items are (what was sealed, what of, how once more); `at_hand` tells which entries
    have their keys."""

    def __init__(self, at_hand: Callable[[Pending], bool]) -> None:
        self.prepared: list[Pending] = []
        self._at_hand = at_hand

    def prepare(self, pendings: Iterable[Pending]) -> None:
        self.prepared += pendings

    def seal(self, pending: Pending, *again: Any) -> tuple[Pending, Any]:
        assert any(pending is one for one in self.prepared)
        return pending, again

    def seal_at_hand(self, pending: Pending, *again: Any) -> tuple[Pending, Any] | None:
        return (pending, again) if self._at_hand(pending) else None


async def _no_refresh() -> None:
    raise AssertionError("every tenant is known")


def _record(offset: int, value: bytes, topic: str = GATEWAY, partition: int = 0) -> ConsumerRecord[bytes, bytes]:
    headers = ((TENANT_HEADER, b"acme"),) if topic == GATEWAY else ()
    return ConsumerRecord(topic, partition, offset, 0, 0, b"k", value, None, 1, len(value), headers)


def _event(id: str, **more: Any) -> bytes:
    return json.dumps(envelope(id=id, **more)).encode()


def _reader(items_max: int, at_hand: Callable[[Pending], bool] = lambda pending: False) -> Reader:
    reader = Reader(items_max, lambda record: None, lambda: NOW)
    reader.decoder, reader.appender = DECODER, Sealing(at_hand)  # type: ignore[assignment]
    return reader


def _pendings(stretch: Stretch) -> list[Pending]:
    return [item[0] for item in stretch.items]  # type: ignore[index]  # as Sealing makes them


def _places(stretches: Iterable[Stretch]) -> list[tuple[int, int]]:
    """(offset, number within the record) of each item, in order."""
    return [(one.source["offset"], one.source["item"]) for part in stretches for one in _pendings(part)]


@given(
    sizes=st.lists(st.integers(0, 5) | st.sampled_from([60, 64, 65, 130]) | st.none(), max_size=8),
    turns=st.lists(st.integers(0, 1), min_size=8, max_size=8),
    missing=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 129)), max_size=40),
)
def test_all_is_sealed_once_and_in_order(
    sizes: list[int | None], turns: list[int], missing: set[tuple[int, int]]
) -> None:
    """Events (None) and requests of so many spans, of two partitions; the keys of some entries are missing."""

    def at_hand(pending: Pending) -> bool:
        return (pending.source["offset"], pending.source["item"]) not in missing

    records = [
        _record(offset, _event(f"e-{offset}"), EVENTS, turn)
        if size is None
        else _record(offset, request(*(span(1_000 * offset + n + 1) for n in range(size))), GATEWAY, turn)
        for offset, (size, turn) in enumerate(zip(sizes, turns, strict=False))
    ]
    reader = _reader(10_000, at_hand)
    stretches, at = asyncio.run(reader.read(records, 0, _no_refresh))
    assert at == len(records)
    expected = [(n, item) for n, size in enumerate(sizes) for item in range(1 if size is None else size)]
    assert _places(stretches) == expected
    assert sum(part.records for part in stretches) == len(records)
    assert [part.last for part in stretches][-1:] == [len(records) - 1][: len(stretches)]
    sealing: Any = reader.appender
    assert len(sealing.prepared) == len([place for place in expected if place in missing])


async def test_an_event_is_not_kept_but_what_makes_it_again() -> None:
    data = {"call": "c", "phase": "finished", "provider": "deepseek", "model": "deepseek-chat"}
    data |= {"input_tokens": 1_000_000}
    event = json.dumps(envelope("model_call", time="1970-01-01T00:00:00Z", data=data)).encode()
    records = [_record(0, event, EVENTS), _record(1, request(span(1)))]
    reader, times = _reader(10), iter(["2026-11-21T16:29:00.000000Z", "2026-11-21T16:31:00.000000Z"])
    reader._now = lambda: next(times)
    found = []
    for _ in range(2):
        stretches, _ = await reader.read(records, 0, _no_refresh)
        (pending, (record, again)), (one, (_, none)) = (part.items[0] for part in stretches)  # type: ignore[misc]
        assert isinstance(record, Record)
        assert (again(record), none) == (pending, None)
        assert one.event.kind == "span"
        found.append(pending.enriched["price"])
    assert found[0] != found[1]  # which is of the time when it was read
    assert reader._waiting == []


async def test_an_event_whose_signature_was_checked_is_kept() -> None:
    signed = signed_by_producer(envelope())
    records = [_record(0, signed.received, EVENTS), _record(1, json.dumps(attested()).encode(), EVENTS)]
    records[0].headers = ((SIGNATURE_HEADER, signed.received_sig),)
    reader = _reader(10)
    reader.decoder = SIGNED_DECODER
    (stretch,), _ = await reader.read(records, 0, _no_refresh)
    found = [(pending.enriched["vouched"], again) for pending, (_, again) in stretch.items]  # type: ignore[misc]
    assert found == [("signed", None), ("attested", None)]


async def test_an_event_is_made_again_by_the_decoder_that_read_it() -> None:
    reader, records = _reader(10), [_record(0, _event("e-0", tenant="globex"), EVENTS)]
    (stretch,), _ = await reader.read(records, 0, _no_refresh)
    ((pending, (record, again)),) = stretch.items  # type: ignore[misc]
    reader.decoder = Decoder(Authority({"acme": ACME}, unauthenticated=True), {})  # globex is gone
    assert again(record) == pending


async def test_a_chunk_ends_with_the_record_that_fills_it() -> None:
    reader = _reader(5)
    records = [_record(n, request(*(span(3 * n + k) for k in range(3)))) for n in range(5)]
    at, sizes = 0, []
    while at < len(records):
        stretches, at = await reader.read(records, at, _no_refresh)
        sizes.append([len(part.items) for part in stretches])
    assert sizes == [[6], [6], [3]]


async def test_a_record_of_more_entries_than_a_batch_may_hold_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.reading, "RECORD_ENTRIES_MAX", 100)
    reader = _reader(1_000, lambda pending: pending.source["item"] % 3 == 0)
    values = [request(*map(span, range(1, count + 1))) for count in (100, 101, 2)]
    (stretch,), _ = await reader.read([_record(n, value) for n, value in enumerate(values)], 0, _no_refresh)
    pendings = _pendings(stretch)
    assert said(pendings[:100]) == [("p/acme", "span")] * 100
    assert said(pendings[100:]) == [("p/acme", "rejected: too_large"), ("p/acme", "span"), ("p/acme", "span")]
    assert pendings[100].received == values[1]


async def test_a_record_whose_entries_would_hold_too_much_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.reading, "RECORD_HELD_BYTES_MAX", 100_000)
    value = request(*map(span, range(1, 30)), tenant="a" * 4_000)  # the resource is in each of them
    (stretch,), _ = await _reader(100).read([_record(0, value)], 0, _no_refresh)
    assert said(_pendings(stretch)) == [("p/acme", "rejected: too_large")]
    assert len(value) < stretch.held_bytes < 10_000


async def test_a_chunk_is_bounded_by_what_its_entries_hold() -> None:
    reader = _reader(1_000)
    values = [request(*map(span, range(1 + 30 * n, 31 + 30 * n)), tenant="a" * 100_000) for n in range(3)]
    at, chunks = 0, 0
    while at < len(values):
        _, at = await reader.read([_record(n, value) for n, value in enumerate(values)], at, _no_refresh)
        chunks += 1
    assert chunks > 1


async def test_headers_keys_and_data_subjects_count_in_what_is_held() -> None:
    """Each fills a chunk, and none of them is in the value."""
    plain = _record(0, _event("e-0"), EVENTS)
    with_headers, with_key = (_record(0, _event("e-0"), EVENTS) for _ in range(2))
    with_headers.headers = (("trace", b"x" * 3_000_000),)
    with_key.key = b"k" * 3_000_000
    names = " ".join(f"person-{n}" for n in range(256))
    of_many = _record(0, _event("e-0", datasubject=names), EVENTS)
    of_small_headers = _record(0, _event("e-0"), EVENTS)
    of_small_headers.headers = (("", b""),) * 25_000
    refused = _record(0, b"{", EVENTS)
    refused.headers = (("trace", b"x" * 1_000_000),)
    spans = _record(0, request(*(span(n, attribute(DATA_SUBJECT, names)) for n in range(1, 3))))
    for record, chunk in (
        (plain, 20),
        (with_headers, 2),
        (with_key, 2),
        (of_many, 16),
        (of_small_headers, 2),
        (refused, 2),  # its headers once more, as they are kept
        (spans, 8),
    ):
        _, at = await _reader(1_000).read([record] * 20, 0, _no_refresh)
        assert at == chunk


async def test_a_topic_that_names_an_unknown_tenant_is_looked_up_whatever_it_says() -> None:
    """Else a record would be of nobody, and of the tenant when it is read again."""
    reader, refreshed = _reader(10), 0

    async def refresh() -> None:
        nonlocal refreshed
        refreshed += 1
        reader.decoder = Decoder(Authority({"late": Tenant("late", "late", ("p/late",))}), {})

    (stretch,), _ = await reader.read([_record(0, b"not json", "tally.events.late")], 0, refresh)
    assert (refreshed, said(_pendings(stretch))) == (1, [("p/late", "rejected: not_json")])
    for topic in (EVENTS, "tally.control", "tally.findings"):
        await reader.read([_record(0, b"not json", topic)], 0, _no_refresh)


async def test_a_setting_that_names_an_unknown_tenant_is_looked_up() -> None:
    reader, refreshed = _reader(10), 0

    def decoder(*tenants: Tenant) -> Decoder:
        return Decoder(Authority({one.tenant: one for one in tenants}, events_tenant="late"), {})

    async def refresh() -> None:
        nonlocal refreshed
        refreshed += 1
        reader.decoder = decoder(Tenant("late", "late", ("p/late",)))

    reader.decoder = decoder(ACME)
    records = [_record(0, b"not json", EVENTS), _record(1, b"\xff", "tally.otlp.spans")]
    stretches, _ = await reader.read(records, 0, refresh)
    assert refreshed == 1
    pendings = [one for part in stretches for one in _pendings(part)]
    assert said(pendings) == [("p/late", "rejected: not_json"), ("p/late", "rejected: not_otlp")]
    reader.decoder = decoder(ACME)
    await reader.read(records[1:], 0, refresh)
    assert refreshed == 2


async def test_the_decoder_is_kept_while_the_registry_is_the_same(database: Database, tmp_path: Path) -> None:
    """Entries that wait hold the decoder that read them: one a refresh would hold as many registries."""
    async with bench(database, tmp_path) as made:
        await made.tenant()
        consumer = Consumer(ConsumerConfig(database.url(), "", "ledger.example.org"), made.keystore)
        try:
            await consumer._books.open()
            await consumer._refresh()
            first = consumer._reader.decoder
            await consumer._refresh()
            assert consumer._reader.decoder is first
            globex = await made.tenant("globex")
            await consumer._refresh()
            second = consumer._reader.decoder
            assert second is not first
            vkey = vkey_text("key", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
            await made.registry.add_producer_key(await made.appender(), globex, "key", vkey, "producer")
            await consumer._refresh()
            assert consumer._reader.decoder is not second
        finally:
            await consumer._disconnect()


async def test_a_request_without_records_is_a_record_without_items() -> None:
    (stretch,), at = await _reader(100).read([_record(0, request())], 0, _no_refresh)
    assert (at, stretch.records, stretch.items) == (1, 1, [])


async def test_the_registry_is_read_anew_once_a_chunk_for_a_tenant_that_nobody_knows() -> None:
    """What was read before it stays, what the same record gave is read again, and what is unknown still is refused."""
    reader = _reader(1_000, lambda pending: pending.source["item"] % 2 == 0)
    tenants = {"acme": ACME}

    def decoder() -> Decoder:
        return Decoder(Authority(dict(tenants), default_tenant="acme", unauthenticated=True), {})

    reader.decoder = decoder()
    refreshed = 0

    async def refresh() -> None:
        nonlocal refreshed
        refreshed += 1
        tenants["late"] = Tenant("late", "late", ("p/late",))
        reader.decoder = decoder()

    mixed = request(*map(span, range(1, 71))) + request(span(71), tenant="late") + request(span(72), tenant="never")
    records = [
        _record(0, _event("e-0"), EVENTS),
        _record(1, mixed, "tally.otlp.spans"),
        _record(2, _event("e-2", tenant="late"), EVENTS),
        _record(3, _event("e-3", tenant="never"), EVENTS),
    ]
    stretches, _ = await reader.read(records, 0, refresh)
    assert _places(stretches) == [(0, 0), *((1, n) for n in range(72)), (2, 0), (3, 0)]
    assert said([one for part in stretches for one in _pendings(part)]) == [
        ("p/acme", "tool_call"),
        *[("p/acme", "span")] * 70,
        ("p/late", "span"),
        ("", "rejected: unknown_tenant"),
        ("p/late", "tool_call"),
        ("", "rejected: unknown_tenant"),
    ]
    assert refreshed == 1
    await reader.read(records[2:], 0, refresh)
    assert refreshed == 2  # "never" may be known by now


async def test_what_is_sealed_again_is_made_again_of_its_record(database: Database, tmp_path: Path) -> None:
    """An erasure between sealing and appending, and an id that stands for something else: neither has the event."""
    async with bench(database, tmp_path) as made:
        tenant, appender = await made.tenant(), await made.appender()
        await appender.read_epochs()
        authority = Authority({"acme": tenant}, default_tenant="acme", unauthenticated=True)
        reader = Reader(100, lambda record: None, lambda: NOW)
        reader.decoder, reader.appender = Decoder(authority, {}), appender
        data = {"tool": "t", "phase": "finished", "call": "c"}
        values = [_event("a", data=data | {"input": 1}), _event("a", data=data | {"input": 2}), _event("b")]
        (stretch,), _ = await reader.read([_record(n, v, EVENTS) for n, v in enumerate(values)], 0, _no_refresh)
        assert all(type(item) is Item and type(item.made_of) is Record for item in stretch.items)
        await made.conn.execute(
            "UPDATE logs SET erasure_epoch = erasure_epoch + 1 WHERE log = %s", (tenant.origins[0],)
        )
        await appender.append(stretch.items)
        first, second, conflict = (await made.leaves(tenant.origins[0]))[-3:]
        assert [leaf["kind"] for leaf in (first, second, conflict)] == ["tool_call", "tool_call", "conflict"]
        assert await made.opened(first, "/input") == b"1"
        assert await made.opened(conflict, "/received") == values[1]
        assert (conflict["data"]["first"], conflict["source"]["offset"]) == (first["source"], 1)
        await made.sound()
