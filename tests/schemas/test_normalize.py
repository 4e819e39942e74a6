"""From CloudEvents to events: attributes, references, persons, content, what is unknown."""

from __future__ import annotations

import json
from hashlib import sha1
from typing import Any
from uuid import UUID, uuid5

import pytest

from schemas import ids
from schemas.errors import Rejection
from schemas.event import JSON, Content, Event
from schemas.normalize import normalize_binary, normalize_cloudevent, normalize_structured


def record(kind: str = "span", data: dict[str, Any] | None = None, **attributes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "type": f"tallystick.{kind}.v1",
        "id": "step-1",
        "source": "urn:desk",
        "data": {"name": "x"} if data is None else data,
    }
    return json.dumps({**event, **attributes}).encode()


def event(kind: str = "span", data: dict[str, Any] | None = None, **attributes: Any) -> Event:
    return normalize_structured(record(kind, data, **attributes))


def code(kind: str = "span", data: dict[str, Any] | None = None, **attributes: Any) -> str:
    with pytest.raises(Rejection) as caught:
        event(kind, data, **attributes)
    return caught.value.code


def test_the_smallest_event() -> None:
    assert event() == Event(
        id=str(uuid5(ids.NS, "ce\nurn:desk\nstep-1")),
        kind="span",
        schema=1,
        tenant=None,
        run=None,
        src=None,
        time=None,
        actor={},
        data={"name": "x", "from": "event", "ce_source": "urn:desk"},
        content=[],
        persons=[],
        subjects=(),
        raw_unmapped=0,
        digest_input=None,
        sent_id="step-1",
    )


def test_attributes() -> None:
    one = event(
        subject="run:1",
        time="2026-11-21T10:00:00.1234567+01:00",
        sequence="0000000000000007",
        producerid="p1",
        tenant="acme",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        datasubject="ann%20b%C3%A9 bob ann%20b%C3%A9",
        datacontenttype="application/json; charset=utf-8",
    )
    assert (one.run, one.time, one.tenant) == ("run:1", "2026-11-21T09:00:00.123456Z", "acme")
    assert one.src == {"id": "p1", "seq": 7}
    assert one.subjects == ("ann b\u00e9", "bob")
    assert one.data["trace"] == {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    assert one.raw_unmapped == 0


@pytest.mark.parametrize("sequence", ["0000000000000007", "7", 7])
def test_a_sequence_may_be_padded_or_not_or_an_integer(sequence: object) -> None:
    assert event(sequence=sequence, producerid="p").src == {"id": "p", "seq": 7}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"specversion": "0.3"}, "schema"),
        ({"specversion": None}, "schema"),
        ({"type": "tallystick.thought.v1"}, "unknown_kind"),
        ({"type": "tallystick.span.v2"}, "unknown_kind"),
        ({"type": "com.example.span"}, "unknown_kind"),
        ({"type": None}, "schema"),
        ({"type": ["tallystick.span.v1"]}, "schema"),
        ({"type": "tallystick.tenant.v1"}, "reserved_kind"),
        ({"id": ""}, "bad_id"),
        ({"id": 7}, "bad_id"),
        ({"source": ""}, "schema"),
        ({"subject": "run 1"}, "bad_run"),
        ({"subject": 1}, "bad_run"),
        ({"time": "yesterday"}, "bad_time"),
        ({"time": "10000-01-01T00:00:00Z"}, "bad_time"),
        ({"sequence": "0", "producerid": "p"}, "bad_sequence"),
        ({"sequence": "-1", "producerid": "p"}, "bad_sequence"),
        ({"sequence": "00000000000000001", "producerid": "p"}, "bad_sequence"),
        ({"sequence": 2**53, "producerid": "p"}, "bad_sequence"),
        ({"sequence": True, "producerid": "p"}, "bad_sequence"),
        ({"sequence": 1, "producerid": "p q"}, "bad_sequence"),
        ({"tenant": ""}, "schema"),
        ({"tenant": "a\x00b"}, "schema"),
        ({"datasubject": "%zz"}, "schema"),
        ({"datasubject": "%ff"}, "schema"),
        ({"datacontenttype": "application/xml"}, "schema"),
    ],
)
def test_refused_attributes(attributes: dict[str, Any], expected: str) -> None:
    assert code(**attributes) == expected


@pytest.mark.parametrize("data", [None, [], "{}", 1])
def test_data_is_an_object(data: object) -> None:
    with pytest.raises(Rejection, match="schema: data"):
        normalize_structured(json.dumps({**json.loads(record()), "data": data}).encode())
    with pytest.raises(Rejection, match="schema: data"):
        normalize_cloudevent(json.loads(record()), json.dumps(data).encode())


def test_a_missing_attribute_is_refused() -> None:
    for name in ("specversion", "type", "id", "source", "data"):
        value = json.loads(record())
        del value[name]
        with pytest.raises(Rejection):
            normalize_structured(json.dumps(value).encode())


def test_unknown_attributes_and_members_are_kept_with_their_text() -> None:
    text = (
        record()
        .replace(b'"data":', b'"tracestate":"a=b","weight": 1.250 ,"data":')
        .replace(
            b'{"name": "x"}',
            b'{"name": "x", "colour" : [1.50, "\xc3\xa9"], "/a": 1, "ce:b": 2, "vouched": "signed", "from": "log"}',
        )
    )
    one = normalize_structured(text)
    assert one.data == {"name": "x", "from": "event", "ce_source": "urn:desk"}
    raw = (
        b'{"colour":[1.50, "\xc3\xa9"],"/~1a":1,"/ce:b":2,"vouched":"signed","from":"log"'
        b',"ce:tracestate":"a=b","ce:weight":1.250}'
    )
    assert one.content == [Content("/raw", JSON, raw)]
    assert one.raw_unmapped == 7


def test_half_a_source_and_a_broken_traceparent_are_kept_as_unknown() -> None:
    one = event(sequence=7, traceparent="none")
    assert one.src is None
    assert json.loads(one.content[0].value) == {"ce:sequence": 7, "ce:traceparent": "none"}
    assert json.loads(event(producerid="p").content[0].value) == {"ce:producerid": "p"}
    assert "trace" not in one.data


def test_a_trace_in_data_wins_over_traceparent() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    one = event(data={"name": "x", "trace": {"trace_id": "t"}}, traceparent=parent)
    assert one.data["trace"] == {"trace_id": "t"}
    assert json.loads(one.content[0].value) == {"ce:traceparent": parent}


def test_content_is_removed_whole_with_its_exact_text() -> None:
    text = b'{"tool":"t","phase":"started","call":"c","input": {"w" : 1.250, "n":[ ]} , "output":null'
    text += b',"effect":{"amount":12.90}}'
    one = normalize_structured(record("tool_call").replace(b'{"name": "x"}', text))
    assert one.content == [Content("/input", JSON, b'{"w" : 1.250, "n":[ ]}'), Content("/output", JSON, b"null")]
    assert one.digest_input == b'{"w" : 1.250, "n":[ ]}'
    assert one.data["effect"] == {"amount": "12.90"}


def test_digests_are_asked_for_three_kinds_only() -> None:
    assert event("policy_decision", {"decision": "allow", "input": 1}).digest_input is None
    assert event("approval_request", {"approval": "a", "call": "c", "input": 1}).digest_input == b"1"
    assert event("approval_decision", {"approval": "a", "decision": "edit", "input": 1}).digest_input == b"1"
    assert event("approval_decision", {"approval": "a", "decision": "approve"}).digest_input is None


def test_persons_leave_the_public_members() -> None:
    one = event(
        "approval_decision",
        {
            "actor": {"agent": "a", "version": "1", "principal": "ann", "on_behalf_of": "cy", "role": "x"},
            "approval": "a",
            "decision": "approve",
            "reviewer": "bob",
        },
    )
    assert one.actor == {"agent": "a", "version": "1"}
    assert sorted(one.persons) == [("/actor/on_behalf_of", "cy"), ("/actor/principal", "ann"), ("/reviewer", "bob")]
    assert "reviewer" not in one.data
    assert "actor" not in one.data
    assert json.loads(one.content[0].value) == {"/actor/role": "x"}


def test_an_attestation_is_over_the_normal_form_of_the_rest() -> None:
    data = {"name": "x", "reason": 1.50, "attestation": {"by": "bob", "key": "k", "value": "v"}, "colour": [1]}
    one = event(data=data)
    assert one.attestation == b'{"colour":[1],"name":"x","reason":1.5}'
    assert one.data["attestation"] == {"key": "k", "value": "v"}
    assert one.persons == [("/attestation/by", "bob")]
    assert one.sent_id == "step-1"
    assert event().attestation is None


def test_references_are_mapped_as_ids_are() -> None:
    parent = "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B"
    one = event("retry", {"of": "step-0", "attempt": 1, "parent": parent})
    assert one.data["of"] == ids.cloudevent_id("urn:desk", "step-0")
    assert one.data["parent"] == parent.lower()
    release = event("release", {"agent": "a", "version": "1", "evaluations": ["e", parent]})
    assert release.data["evaluations"] == [ids.cloudevent_id("urn:desk", "e"), parent.lower()]
    assert event("rollback", {"of": "call-1"}).data["of"] == "call-1"


def test_a_derived_id_cannot_be_claimed() -> None:
    finding = str(uuid5(ids.NS, "anything"))
    assert event(id=finding).id != finding


def test_own_members_named_like_common_ones_win() -> None:
    gap = event("producer_gap", {"src": "p", "from": 1, "to": 2})
    assert gap.data["from"] == 1
    assert event("autonomy_changed", {"agent": "a", "from": "draft", "to": "execute"}).data["from"] == "draft"


def test_what_only_the_ledger_sets_is_not_taken_from_a_producer() -> None:
    claimed = {"provider": "openai", "model": "m", "price": {"amount": "0"}, "missing": ["x"], "overflow": {}}
    one = event("model_call", claimed)
    assert one.raw_unmapped == 3
    assert set(one.data) == {"provider", "model", "from", "ce_source"}
    call = event("tool_call", {"tool": "t", "phase": "finished", "call": "c", "arguments": {"a": 1}})
    assert "arguments" not in call.data


def test_null_is_absent_in_public_members() -> None:
    assert "status" not in event(data={"name": "x", "status": None, "trace": {"span_id": None}}).data
    assert code(data={"name": None}) == "schema"


def test_integers_equal_to_one_are_integers() -> None:
    text = record().replace(b'"x"', b'"x","latency_us":1.5e3,"step":2.0')
    assert normalize_structured(text).data["latency_us"] == 1500


@pytest.mark.parametrize(
    ("sent", "kept"), [(True, True), ("true", True), (False, False), ("false", False), ("pending",) * 2]
)
def test_verified_is_a_boolean_or_pending(sent: object, kept: object) -> None:
    one = event("outcome", {"outcome": "closed", "work_item": {"system": "s", "id": "1"}, "verified": sent})
    assert one.data["verified"] is kept or one.data["verified"] == kept == "pending"


def test_public_open_objects_hold_profile_values_only() -> None:
    wrongs: list[Any] = [{"n": 2**53}, {"\u00e9": 1}, {"a": {"\u00e9": 1}}, [], "5"]
    for wrong in wrongs:
        assert code("delegation", {"to_agent": "a", "budget": wrong}) == "schema"
    text = record("delegation", {"to_agent": "a"}).replace(
        b'"a"', b'"a","budget":{"usd":0.50,"n":1e2,"a":null,"b":{"c":[true,null]}}'
    )
    assert normalize_structured(text).data["budget"] == {"usd": "0.50", "n": "100", "b": {"c": [True, None]}}
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"a": deep}
    assert code("delegation", {"to_agent": "a", "budget": deep}) == "too_deep"


def test_binary_mode_equals_structured_mode() -> None:
    structured = json.loads(
        record(subject="run-1", time="2026-11-21T09:00:00Z", sequence="7", producerid="p", note="n")
    )
    data = json.dumps(structured.pop("data")).encode()
    headers = [(f"ce_{name}", value.encode()) for name, value in structured.items()]
    headers += [("content-type", b"application/json"), ("tallystick-tenant", b"\xff"), ("trace", b"\xff")]
    expected = normalize_structured(
        record(subject="run-1", time="2026-11-21T09:00:00Z", sequence="7", producerid="p", note="n")
    )
    assert normalize_binary(headers, data) == expected
    assert normalize_cloudevent(structured, data) == expected
    assert normalize_cloudevent(structured, data, json.loads(data)) == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (("ce_id", b"2"), "duplicate_member"),
        (("CE_ID", b"2"), "duplicate_member"),
        (("ce_tenant", b"\xff"), "bad_header"),
    ],
)
def test_refused_headers(extra: tuple[str, bytes], expected: str) -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"tallystick.span.v1"), ("ce_id", b"1"), ("ce_source", b"s")]
    with pytest.raises(Rejection) as caught:
        normalize_binary([*headers, extra], b'{"name":"x"}')
    assert caught.value.code == expected


def test_ids_are_version_5_by_the_standard() -> None:
    digest = bytearray(sha1(ids.NS.bytes + b"ce\nurn:desk\nstep-1", usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert event().id == str(UUID(bytes=bytes(digest)))
