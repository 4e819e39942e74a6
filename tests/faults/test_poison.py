"""Records that no decent producer sends, between good ones: each good event is in exactly once and in order, each bad
record is kept as `rejected` with its reason and its exact bytes, and nothing holds its partition up."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator, producer
from aiokafka.record import default_records

from ingest.rejected import find_rejected
from ledger.db import connect
from ledger.keystore import SqliteKeyStore
from schemas.ids import plain_id
from tests.faults.support import Site, event, make_site, make_topic
from tests.faults.test_consumers import _until_some_are_in as until_some_are_in
from tests.faults.test_servers import _ended_well as ended_well
from tests.support.proxy import CutProxy
from tests.support.servers import Database

Headers = list[tuple[str, bytes]]
KEY = b"one-partition"
LARGE = 10_000_000
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]


class RawName(str):
    """A header's name that is sent as these bytes, as clients do that send bytes."""

    def __new__(cls, name: bytes) -> RawName:
        made = super().__new__(cls, name.decode("latin-1"))
        made.name = name
        return made

    name: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.name


@pytest.fixture(autouse=True)
def send_any_header_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka's builder in C takes none but UTF-8 names; the one in Python asks the name itself."""
    for module in (message_accumulator, producer):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", default_records._DefaultRecordBatchBuilderPy)


@dataclass
class Poison:
    """A record that must be refused for `reason`. `make` gets the JSON of an event that is good but for it."""

    name: str
    reason: str
    make: Callable[[dict[str, Any]], tuple[bytes | None, Headers]]


def edited(**changes: Any) -> Callable[[dict[str, Any]], tuple[bytes | None, Headers]]:
    """The event with other attributes."""
    return lambda good: (json.dumps(good | changes).encode(), STRUCTURED)


def public(**changes: Any) -> Callable[[dict[str, Any]], tuple[bytes | None, Headers]]:
    """The event with other members of data."""
    return lambda good: (json.dumps(good | {"data": good["data"] | changes}).encode(), STRUCTURED)


def text(old: bytes, new: bytes) -> Callable[[dict[str, Any]], tuple[bytes | None, Headers]]:
    """The event's JSON with one place replaced."""

    def make(good: dict[str, Any]) -> tuple[bytes | None, Headers]:
        value = json.dumps(good).encode()
        assert old in value
        return value.replace(old, new, 1), STRUCTURED

    return make


def bytes_of(value: bytes | None) -> Callable[[dict[str, Any]], tuple[bytes | None, Headers]]:
    return lambda good: (value, STRUCTURED)


def under(*headers: tuple[str, bytes]) -> Callable[[dict[str, Any]], tuple[bytes | None, Headers]]:
    """The good event under odd headers."""
    return lambda good: (json.dumps(good).encode(), list(headers))


def binary(good: dict[str, Any], *more: tuple[str, bytes], **changes: bytes) -> tuple[bytes, Headers]:
    """The event in CloudEvents' binary mode."""
    attributes = {name: str(value).encode() for name, value in good.items() if name != "data"} | changes
    headers: Headers = [(f"ce_{name}", value) for name, value in attributes.items()]
    return json.dumps(good["data"]).encode(), [*headers, ("content-type", b"application/json"), *more]


def attested(value: str) -> Callable[[dict[str, Any]], tuple[bytes | None, Headers]]:
    return public(attestation={"key": "nobody", "value": value})


POISON = [
    Poison("not JSON", "not_json", bytes_of(b"step 7 went fine")),
    Poison("bytes", "not_json", bytes_of(bytes(range(256)))),
    Poison("no bytes", "not_json", bytes_of(b"")),
    Poison("tombstone", "tombstone", bytes_of(None)),
    Poison("an array", "schema", bytes_of(b"[]")),
    Poison("wrong schema", "schema", public(phase="half-way")),
    Poison("a member of another form", "schema", public(tool={"name": "x"})),
    Poison("ten megabytes", "not_json", bytes_of(b"x" * LARGE)),
    Poison("deep nesting", "too_deep", public(effect=json.loads("[" * 500 + "]" * 500))),
    Poison("duplicate members", "duplicate_member", text(b'"tool": ', b'"tool": "a", "tool": ')),
    Poison("duplicate attributes", "duplicate_member", text(b'"subject": ', b'"subject": "a", "subject": ')),
    Poison("NaN", "not_json", text(b'"status": "ok"', b'"latency_us": NaN')),
    Poison("a huge integer", "schema", text(b'"status": "ok"', b'"latency_us": ' + b"9" * 40)),
    Poison("an endless integer", "bad_number", text(b'"status": "ok"', b'"latency_us": ' + b"9" * 6000)),
    Poison("a lone surrogate", "lone_surrogate", text(b"payments.refund", b"\\ud800")),
    Poison("the year 10000", "bad_time", edited(time="10000-01-01T00:00:00Z")),
    Poison("a sequence that is none", "bad_sequence", edited(sequence="one", producerid="p")),
    Poison("a run id that is none", "bad_run", edited(subject="../../etc")),
    Poison("no id", "bad_id", edited(id="")),
    Poison("an unknown kind", "unknown_kind", edited(type="tallystick.wish.v1")),
    Poison("another version", "unknown_kind", edited(type="tallystick.tool_call.v9")),
    Poison("a reserved kind", "reserved_kind", edited(type="tallystick.rejected.v1")),
    Poison("another reserved kind", "reserved_kind", edited(type="tallystick.erasure.v1")),
    Poison(
        "a control kind among events",
        "reserved_kind",
        lambda good: (
            json.dumps(
                good
                | {
                    "type": "tallystick.kill_switch.v1",
                    "data": {"target": {"kind": "run", "id": "r"}, "action": "stop_run", "state": "requested"},
                }
            ).encode(),
            STRUCTURED,
        ),
    ),
    Poison("another tenant", "tenant_mismatch", edited(tenant="somebody-else")),
    Poison("a signature by nobody", "bad_signature", under(("tallystick-sig", b"key-1:" + b64encode(bytes(64))))),
    Poison("a signature that is none", "bad_signature", under(("tallystick-sig", b"\xff\xfe"))),
    Poison(
        "a signed binary record",
        "bad_signature",
        lambda good: binary(good, ("tallystick-sig", b"key-1:" + b64encode(bytes(64)))),
    ),
    Poison("an attestation by nobody", "bad_signature", attested("AAAA")),
    Poison("an attestation that is none", "bad_signature", attested("\u00e9")),
    Poison("a form nobody knows", "bad_header", under(("tallystick-form", b"\xff"))),
    Poison(
        "a line number beyond integers", "bad_header", under(("tallystick-file", b"f"), ("tallystick-line", b"9" * 99))
    ),
    Poison(
        "a file name beyond a leaf", "bad_header", under(("tallystick-file", b"f" * 70_000), ("tallystick-line", b"1"))
    ),
    Poison("two signatures", "bad_header", under(("tallystick-sig", b"a:"), ("tallystick-sig", b"b:"))),
    Poison("a binary header", "bad_header", lambda good: binary(good, subject=b"\xff\xfe")),
    Poison("binary mode with an empty type", "unknown_kind", lambda good: binary(good, type=b"")),
    Poison("bytes as data", "not_json", lambda good: (b"\x00\x01\x02", binary(good)[1])),
    Poison("a header name that is not UTF-8", "bad_header", under((RawName(b"caf\xe9"), b"1"), ("other", b"2"))),
    Poison("more than a leaf holds", "too_large", edited(source="s" * 70_000)),
]


def good_ones(run: str) -> list[tuple[str, bytes, Headers]]:
    """Events that look odd and are good: (id, value, headers)."""
    large = event(run, 1, data={"tool": "t", "phase": "finished", "call": "c", "output": "x" * LARGE})
    deep = event(run, 2)
    dup = event(run, 3)
    found = [
        (large["id"], json.dumps(large).encode(), STRUCTURED),
        (deep["id"], json.dumps(deep).encode().replace(b'"12.90"', b"[" * 900 + b"]" * 900), STRUCTURED),
        (dup["id"], json.dumps(dup).encode().replace(b'"12.90"', b'1, "amount": "\\ud800"'), STRUCTURED),
    ]
    in_binary = event(run, 4)
    found.append((in_binary["id"], *binary(in_binary, ("trace", b"\xff\xfe"))))
    under_bytes = event(run, 5)
    found.append((under_bytes["id"], json.dumps(under_bytes).encode(), [("trace", b"\x00\xff"), ("caf\u00e9", b"1")]))
    line = {"run_id": run, "step": 6, "type": "tool_call", "tool": "t", "input": {}, "output": {}, "latency_ms": 1}
    found.append((plain_id(run, "6", "tool_call"), json.dumps(line).encode(), [("tallystick-form", b"plain")]))
    return found


async def test_every_bad_record_is_kept_and_every_good_one_is_in_exactly_once(site: Site) -> None:
    good = good_ones("run-odd")
    records: list[tuple[bytes | None, bytes | None, Headers]] = []
    poison: dict[int, tuple[Poison, bytes, Headers]] = {}
    for n, bad in enumerate(POISON):
        made = event("run-bad", n, sequence=None, producerid=None)
        value, headers = bad.make({name: part for name, part in made.items() if part is not None})
        poison[len(records)] = (bad, value or b"", headers)
        records.append((KEY, value, headers))
        between = event("run-good", n + 1)
        good.insert(2 * n, (between["id"], json.dumps(between).encode(), STRUCTURED))
    # Bad and good in turn: one bad, one good, and the rest of the good at the end.
    mixed: list[tuple[bytes | None, bytes | None, Headers]] = []
    wanted: dict[int, tuple[Poison, bytes, Headers]] = {}
    remaining = iter(good)
    for n, record in enumerate(records):
        wanted[len(mixed)] = poison[n]
        mixed.append(record)
        for id, value, headers in [next(remaining)]:
            site.sent.append(id)
            mixed.append((KEY, value, headers))
    for id, value, headers in remaining:
        site.sent.append(id)
        mixed.append((KEY, value, headers))
    metadata = await site.send(mixed)
    assert [one.offset for one in metadata] == list(range(len(mixed)))
    partition = metadata[0].partition

    progress = await site.consume(batch=20)

    assert progress["records"] == len(mixed)
    assert progress["rejected"] == len(POISON)
    await site.check()
    rows = await site.rows(
        "SELECT leaf FROM entries WHERE log = %s AND kind IN ('tool_call', 'rejected') ORDER BY index", site.origin
    )
    leaves = [json.loads(bytes(row[0])) for row in rows]
    offsets = [leaf["source"]["offset"] for leaf in leaves]
    assert offsets == sorted(offsets)
    assert [leaf["id"] for leaf in leaves if leaf["kind"] == "tool_call"] == site.sent
    intake = await site.leaves("rejected", f"{site.prefix}/_intake/{site.topic}/{partition}")
    rejected = {leaf["source"]["offset"]: leaf for leaf in [*leaves, *intake] if leaf["kind"] == "rejected"}
    assert {offset: leaf["data"]["reason"] for offset, leaf in rejected.items()} == {
        offset: bad.reason for offset, (bad, _, _) in wanted.items()
    }
    assert {leaf["data"]["reason"] for leaf in intake} == {"tenant_mismatch"}
    async with await connect(site.postgres, "tally_auditor") as conn:
        with SqliteKeyStore(site.keys, create=False) as keystore:
            for offset, (bad, value, headers) in wanted.items():
                said, received = await find_rejected(conn, keystore, rejected[offset]["id"])
                assert received.value == value, bad.name
                assert received.key == KEY
                assert received.headers == [(n, v) for n, v in headers if not isinstance(n, RawName)], bad.name
                assert said.received_bytes == len(value)


async def test_a_topic_of_no_tenant_keeps_its_records_in_the_intake_log(site: Site) -> None:
    site.topic = f"{site.topic}-gone"
    await make_topic(site.kafka, site.topic)
    value = json.dumps(event("run-1", 1)).encode()
    metadata = await site.send([(KEY, value, []), (KEY, b"?", [])])
    await site.consume()
    await site.check()
    leaves = await site.leaves("rejected", f"{site.prefix}/_intake/{site.topic}/{metadata[0].partition}")
    assert [leaf["data"]["reason"] for leaf in leaves] == ["unknown_tenant", "not_json"]


async def test_a_signature_by_nobody_after_the_connections_were_cut_leaves_no_hole(
    database: Database, kafka: str, tmp_path: Path
) -> None:
    """Such a record has the registry read anew, over a connection that is gone."""
    direct = psycopg.conninfo.conninfo_to_dict(database.url())
    async with CutProxy(str(direct["host"]), int(direct["port"] or 5432)) as proxy:
        site = await make_site(database.url(), kafka, tmp_path)
        await site.publish(30)
        through = database.url().replace(f"{direct['host']}:{direct['port']}", proxy.address)
        consumer = await site.start(idle_s=4.0, postgres=through)
        await until_some_are_in(site, 30)
        proxy.cut()
        ids = [str(uuid.uuid4()) for _ in range(6)]
        values = [json.dumps(event("run-cut", n + 1, id=id)).encode() for n, id in enumerate(ids)]
        records: list[tuple[bytes | None, bytes | None, Headers]] = [(KEY, value, []) for value in values]
        records.insert(3, (KEY, values[0], [("tallystick-sig", b"key-1:" + b64encode(bytes(64)))]))
        await site.send(records)
        site.sent += ids
        progress = await ended_well(consumer)
    assert progress["rejected"] == 1
    await site.check()


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
async def test_a_header_name_that_is_not_utf8_holds_nothing_up(site: Site, compression: str | None) -> None:
    """Sent in one batch with good ones before and behind, and alone."""
    ids = [str(uuid.uuid4()) for _ in range(5)]
    values = [json.dumps(event("run-1", n + 1, id=id)).encode() for n, id in enumerate(ids)]
    records: list[tuple[bytes | None, bytes | None, Headers]] = [(KEY, value, []) for value in values]
    records.insert(2, (KEY, b"{}", [(RawName(b"\xff\x00"), b"1")]))
    await _send(site, records, compression)
    await _send(site, [(KEY, b"{}", [(RawName(b"\xff\x00"), b"1")])], compression)
    site.sent = ids
    progress = await site.consume(batch=3)
    assert (progress["records"], progress["rejected"]) == (7, 2)
    await site.check()
    async with await connect(site.postgres, "tally_auditor") as conn:
        with SqliteKeyStore(site.keys, create=False) as keystore:
            for leaf in await site.leaves("rejected"):
                assert leaf["data"]["reason"] == "bad_header"
                _, received = await find_rejected(conn, keystore, leaf["id"])
                assert (received.value, received.headers) == (b"{}", [])


async def _send(site: Site, records: list[tuple[bytes | None, bytes | None, Headers]], compression: str | None) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=site.kafka, acks="all", compression_type=compression, linger_ms=50
    ) as sender:
        waiting = [await sender.send(site.topic, value, key=key, headers=headers) for key, value, headers in records]
        await asyncio.gather(*waiting)
