"""The dead-letter list: what is on it, what was received, and sending it again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.errors import RejectedUnknown, Unrepairable
from ingest.importer import Publisher
from ingest.received import Said, said
from ingest.rejected import (
    REASONS,
    Received,
    Rejected,
    Repair,
    find_rejected,
    list_rejected,
    plan_repair,
    with_reference,
)
from ledger.db import connect
from ledger.errors import MalformedLeaf, MissingKey, SealedFieldError
from ledger.keystore import SqliteKeyStore
from schemas.normalize import normalize_plain, normalize_structured
from tests.cli.tally import ROOT
from tests.faults.support import Site, event

ID = "90bb2ee7-1a52-56fa-8957-22e45d313d4d"
REJECTED = Rejected("log", 0, ID, "2026-11-21T00:00:00.000000Z", "schema", "", 1, {"topic": "tally.events.x"})


# What a refused record says


def test_the_docs_name_every_reason_and_no_other() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("| reason | what was wrong |")[1].split("\n\n")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]

    assert set(re.findall("`([a-z_]+)`", " ".join(first))) == REASONS


def otlp(**attributes: str) -> bytes:
    """A request with one span."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.add(key="tallystick.run_id").value.string_value = "of the resource"
    span = of_resource.scope_spans.add().spans.add()
    for name, value in attributes.items():
        span.attributes.add(key=f"tallystick.{name}").value.string_value = value
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("topic", "value", "headers", "expected"),
    [
        ("tally.events", b'{"run_id":"r","type":"dance","step":1}', [], Said(None, "dance", "r")),
        (
            "tally.events",
            b'{"specversion":"1.0","tenant":"nope","type":"tallystick.x.v1","subject":"s"}',
            [],
            Said("nope", "tallystick.x.v1", "s"),
        ),
        (
            "tally.events",
            b"{}",
            [("ce_specversion", b"1.0"), ("ce_type", b"t"), ("ce_tenant", b"n")],
            Said("n", "t", None),
        ),
        ("tally.gateway.spans", otlp(kind="dance", run_id="r"), [("tallystick-tenant", b"a")], Said("a", "dance", "r")),
        ("tally.otlp.spans", otlp(tenant="nope"), [], Said("nope", None, "of the resource")),
        ("tally.otlp.logs", b"\xff", [], Said()),
        ("tally.events", b"[1]", [], Said()),
        ("tally.events", b'{"tenant":1,"type":[]}', [], Said()),
        ("tally.events", b'{"tenant":"%s"}' % (b"x" * 200), [], Said(tenant="x" * 128)),
    ],
)
def test_a_record_is_read_as_far_as_it_can_be(
    topic: str, value: bytes, headers: list[tuple[str, bytes]], expected: Said
) -> None:
    assert said(topic, value, headers) == expected


@given(st.sampled_from(["tally.events", "tally.otlp.spans", "tally.gateway.logs"]), st.binary() | st.just(b"[" * 9999))
def test_no_record_makes_the_reading_of_it_raise(topic: str, value: bytes) -> None:
    said(topic, value, [("ce-x", value)])


# Deciding what to send


def test_an_event_gets_a_public_reference_and_keeps_every_other_byte() -> None:
    value = b'{"specversion":"1.0","type":"tallystick.tool_call.v1","id":"1","source":"s","subject":"r","data":'
    value += b'{"tool":"t","phase":"finished","call":"c","input":{"w":1.2500,"e":1E2,"w":1},'
    value += b'"refs":[{"what":"rule","id":"7"}]}}'
    changed = normalize_structured(with_reference(value, ID))
    before = normalize_structured(value)
    assert changed.data["refs"] == [{"what": "rule", "id": "7"}, {"what": "rejected", "id": ID}]
    assert [item.value for item in changed.content] == [item.value for item in before.content]
    assert changed.id == before.id


def test_a_plain_line_keeps_its_id_and_the_reference_is_kept_beside() -> None:
    value = b'{"run_id":"r","step":1,"type":"tool_call","tool":"t","input":{"w":1.2500}}'
    changed, before = normalize_plain(with_reference(value, ID)), normalize_plain(value)
    assert changed.id == before.id
    assert {item.pointer: item.value for item in changed.content} == {
        "/input": b'{"w":1.2500}',
        "/raw": b'{"refs":[{"what":"rejected","id":"%s"}]}' % ID.encode(),
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name not in ("refs", "specversion")), JSON, max_size=6))
def test_any_object_is_the_same_but_for_the_reference(said: dict[str, Any]) -> None:
    found = json.loads(with_reference(json.dumps(said).encode(), ID))
    assert found.pop("refs") == [{"what": "rejected", "id": ID}]
    assert found == said


@pytest.mark.parametrize(
    "value", [b"", b"not json", b"[1]", b'{"data":1,"specversion":"1.0"}', b'{"refs":1}', b"[" * 9999]
)
def test_what_has_no_place_for_a_reference_asks_for_a_corrected_one(value: bytes) -> None:
    with pytest.raises(Unrepairable, match="--with FILE"):
        with_reference(value, ID)


def test_a_signed_record_is_sent_as_it_came() -> None:
    headers = [("tallystick-sig", b"k:AAAA")]
    plan = plan_repair(REJECTED, Received(b'{"specversion":"1.0"}', headers, b"r"), None)
    assert plan == Repair("tally.events.x", b'{"specversion":"1.0"}', b"r", headers, refers=False)


def test_an_edited_one_loses_signature_and_binary_headers_and_keeps_its_place_in_the_file() -> None:
    headers = [
        ("tallystick-sig", b"k:AAAA"),
        ("tallystick-form", b"event"),
        ("tallystick-file", b"f"),
        ("tallystick-line", b"3"),
        ("ce_specversion", b"1.0"),
    ]
    edited = b'{"run_id":"r","step":1,"type":"validator","rule":"a","result":"pass"}'
    plan = plan_repair(REJECTED, Received(b"{", headers, b"old"), edited)
    assert plan.key == b"r"
    assert plan.headers == [("tallystick-file", b"f"), ("tallystick-line", b"3"), ("tallystick-form", b"plain")]
    assert plan.refers


# On real servers


async def listed(site: Site, **wanted: Any) -> list[Rejected]:
    async with await connect(site.postgres, "tally_auditor") as conn:
        return [found async for found in list_rejected(conn, **wanted)]


async def found(site: Site, id: str) -> tuple[Rejected, Received]:
    with SqliteKeyStore(site.keys, create=False) as keystore:
        async with await connect(site.postgres, "tally_auditor") as conn:
            return await find_rejected(conn, keystore, id)


async def tamper(site: Site, statement: str, rejected: Rejected) -> None:
    async with await connect(site.postgres, None) as conn:
        await conn.execute("SET session_replication_role = replica")
        await conn.execute(statement.encode(), (rejected.log, rejected.index))


async def test_what_was_refused_is_listed_with_its_reason_and_opens_to_the_byte(site: Site) -> None:
    headers = [("tallystick-form", b"event"), ("x-other", b"\xff\x00")]
    poison = b'{"specversion": \xff\xfe'
    await site.send([(b"\x00key", poison, headers), (b"k", b"also not json", [])])
    await site.publish(3)
    await site.consume()
    both = await listed(site)
    assert [(one.reason, one.received_bytes, one.log) for one in both if one.received_bytes == len(poison)] == [
        ("not_json", len(poison), site.origin)
    ]
    assert len(both) == 2
    assert await listed(site, tenant=site.tenant) == both
    assert await listed(site, tenant="nobody") == await listed(site, reason="bad_time") == []
    assert len(await listed(site, limit=1)) == 1
    id = next(one.id for one in both if one.received_bytes == len(poison))
    rejected, received = await found(site, id)
    assert rejected.id == id
    assert received == Received(poison, headers, b"\x00key")


async def test_a_repaired_one_is_appended_once_and_says_what_it_repairs(site: Site) -> None:
    wrong = event("run-1", 1)
    del wrong["data"]["tool"]
    await site.send([(b"run-1", json.dumps(wrong).encode(), [])])
    await site.consume()
    (rejected,) = await listed(site)
    right = event("run-1", 1) | {"id": wrong["id"]}
    plan = plan_repair(
        (await found(site, rejected.id))[0], (await found(site, rejected.id))[1], json.dumps(right).encode()
    )
    for _ in range(2):
        async with Publisher(site.kafka, {}, plan.topic) as publisher:
            await publisher.send(plan.value, plan.key, plan.headers, "test")
            await publisher.flush()
    await site.consume()
    (leaf,) = await site.leaves("tool_call")
    assert leaf["data"]["refs"] == [{"what": "rejected", "id": rejected.id}]
    assert await listed(site) == [rejected]
    site.sent.append(wrong["id"])
    await site.check()


async def test_they_are_listed_by_time_and_with_the_key_store_by_what_they_say(site: Site) -> None:
    for number in range(4):
        strange = event(f"run-{number}", 1) | {"type": f"tallystick.dance{number}.v1"}
        await site.send([(b"%d" % number, json.dumps(strange).encode(), [])])
        await site.consume()
    closed = await listed(site)
    with SqliteKeyStore(site.keys, create=False) as keystore:
        opened = await listed(site, keystore=keystore)
        keystore.destroy((await site.leaves("rejected"))[0]["commit"]["/received"]["k"])
        erased = await listed(site, keystore=keystore)

    assert [one.recorded for one in closed] == sorted(str(one.recorded) for one in closed)
    assert {one.said for one in closed} == {None}
    assert [one.said for one in opened] == [Said(None, f"tallystick.dance{n}.v1", f"run-{n}") for n in range(4)]
    assert [one.id for one in opened] == [one.id for one in closed] == [one.id for one in erased]
    assert None in {one.said for one in erased}
    assert not any("dance" in one.detail for one in closed)


async def test_one_that_cannot_be_read_says_why(site: Site) -> None:
    await site.send([(b"k", b"nonsense", [])])
    await site.consume()
    (rejected,) = await listed(site)
    with pytest.raises(RejectedUnknown, match="no rejected entry has the id"):
        await found(site, ID)
    with pytest.raises(RejectedUnknown, match="expected the id"):
        await found(site, "nonsense")
    await tamper(
        site,
        "UPDATE content SET sealed[1] = set_byte(sealed[1], 20, get_byte(sealed[1], 20) # 1)"
        " WHERE log = %s AND index = %s",
        rejected,
    )
    with pytest.raises(SealedFieldError, match="does not open"):
        await found(site, rejected.id)
    leaf = (await site.leaves("rejected"))[0]
    for change, says in [
        ("UPDATE content SET types = '{}' WHERE log = %s AND index = %s", "don't fit"),
        ("DELETE FROM content WHERE log = %s AND index = %s", "is gone, though its keys are there"),
    ]:
        await tamper(site, change, rejected)
        with pytest.raises(SealedFieldError, match=says):
            await found(site, rejected.id)
    with SqliteKeyStore(site.keys) as keystore:
        keystore.destroy(leaf["commit"]["/received"]["k"])
    with pytest.raises(MissingKey, match="erased, or this is another key store"):
        await found(site, rejected.id)


@pytest.mark.parametrize("leaf", ["garbage", "{}"])
async def test_one_whose_leaf_cannot_be_read_is_listed_as_tampered_with_the_others(site: Site, leaf: str) -> None:
    await site.send([(b"k", b"nonsense", []), (b"k", b"more of it", [])])
    await site.consume()
    first, second = await listed(site)
    await tamper(site, f"UPDATE entries SET leaf = '{leaf}' WHERE log = %s AND index = %s", first)
    damaged, other = await listed(site)
    assert (damaged.id, damaged.reason, damaged.recorded) == (first.id, "tampered", None)
    assert "tally verify" in damaged.detail
    assert other == second
    assert await listed(site, reason="not_json") == [second]
    with pytest.raises(MalformedLeaf, match="was tampered with"):
        await found(site, first.id)
