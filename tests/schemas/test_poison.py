"""Whatever the bytes are: an event or a Rejection, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import canonical_bytes
from schemas.errors import CODES, Rejection
from schemas.event import Event
from schemas.normalize import normalize_binary, normalize_cloudevent, normalize_plain, normalize_structured
from tests.schemas import strategies as some

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "tallystick.tool_call.v1",
    "id": "step-1",
    "source": "s",
    "subject": "run-1",
    "time": "2026-11-21T09:00:00Z",
    "sequence": "0000000000000001",
    "producerid": "p",
    "tenant": "acme",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "datasubject": "ann%20b",
    "data": {
        "actor": {"agent": "a", "principal": "ann"},
        "tool": "t",
        "phase": "finished",
        "call": "c",
        "effect": {"amount": "1.50", "currency": "EUR"},
        "refs": [{"id": "x"}],
        "attestation": {"by": "bob", "key": "k", "value": "v"},
        "input": {"a": 1.50},
        "colour": "blue",
    },
}
VALID = json.dumps(EVENT).encode()


def _sound(make: Any, *arguments: Any) -> Event | None:
    refused, event = None, None
    try:
        event = make(*arguments)
    except Rejection as wrong:
        refused = wrong
    if refused is not None:
        assert refused.code in CODES
        assert refused.detail.isascii()
        assert len(refused.detail) <= 400
        return None
    assert isinstance(event, Event)
    canonical_bytes({"data": event.data, "actor": event.actor, "src": event.src, "run": event.run, "time": event.time})
    for name in (event.tenant, *event.subjects, *(name for _, name in event.persons)):
        (name or "").encode()
    return event


@given(st.binary(max_size=200))
def test_any_bytes(value: bytes) -> None:
    _sound(normalize_structured, value)
    _sound(normalize_plain, value)
    _sound(normalize_binary, [("ce_type", b"tallystick.span.v1")], value)


@given(some.json_text(4).map(str.encode))
def test_any_json(value: bytes) -> None:
    _sound(normalize_structured, value)
    _sound(normalize_plain, value)
    _sound(normalize_cloudevent, EVENT, value)


@given(st.data())
def test_a_valid_event_with_bytes_changed(data: st.DataObject) -> None:
    value = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(value)))
        value[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    _sound(normalize_structured, bytes(value))


@given(st.data())
def test_a_valid_event_with_any_json_in_one_place(data: st.DataObject) -> None:
    event = json.loads(VALID)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    collect(event)
    node, key = data.draw(st.sampled_from(places))
    node[key] = "\x00here"
    text = json.dumps(event).encode().replace(b'"\\u0000here"', data.draw(some.json_text()).encode(), 1)
    _sound(normalize_structured, text)
    attributes = {name: value for name, value in event.items() if name != "data"}
    _sound(normalize_cloudevent, attributes, json.dumps(event["data"]).encode())


@given(st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "CE_source", "ce_time", "x"]), st.binary(max_size=9))))
def test_any_headers(headers: list[tuple[str, bytes]]) -> None:
    _sound(normalize_binary, headers, json.dumps(EVENT["data"]).encode())


def _with(data: bytes) -> bytes:
    head = b'{"specversion":"1.0","type":"tallystick.tool_call.v1","id":"1","source":"s","data":{"tool":"t","phase":'
    return head + b'"finished","call":"c",' + data + b"}}"


DEEP = 5_000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'"latency_us":1e400', "schema"),
        (b'"latency_us":NaN', "not_json"),
        (b'"input":NaN', "not_json"),
        (b'"input":{"a":Infinity}', "not_json"),
        (b'"latency_us":' + b"9" * 17, "schema"),
        (b'"latency_us":' + b"9" * 6000, "bad_number"),
        (b'"destination":"\\ud800"', "lone_surrogate"),
        (b'"latency_us":1,"latency_us":2', "duplicate_member"),
        (b'"effect":{"count":1,"count":1}', "duplicate_member"),
        (b'"effect":{"system":"\\ud800","x":1}', "lone_surrogate"),
        (b'"input":1,"input":2', "duplicate_member"),
        (b'"colour":1,"colour":2', "duplicate_member"),
        (b'"effect":{"system":' + b"[" * DEEP + b"]" * DEEP + b"}", "too_deep"),
        (b'"effect":{"amount":1e99999999}', "schema"),
        (b'"latency_us":1.5', "schema"),
        (b'"destination":"\xff"', "not_json"),
        (b'"input":"\xff"', "not_json"),
        (b'"input":' + b"[" * 10_001 + b"]" * 10_001, "too_deep"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:30].decode("ascii", "replace"),
)
def test_poison_in_public_members_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Rejection) as caught:
        normalize_structured(_with(data))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1,"a":2}',
        b'"\\ud800"',
        b'{"\\udfff":[1.250]}',
        b"9" * 6000,
        b"-1.50e-99999",
        b"[" * DEEP + b"]" * DEEP,
        b'[{"a" : {"b":1,"b":1}}]',
        b'"\\u0000"',
        b"null",
    ],
    ids=lambda value: value[:20].decode(),
)
@pytest.mark.parametrize("member", ["input", "colour"])
def test_in_content_and_in_what_is_unknown_the_text_is_kept_as_it_came(member: str, value: bytes) -> None:
    event = normalize_structured(_with(b'"%b": %b ' % (member.encode(), value)))
    kept = {content.pointer: content.value for content in event.content}
    if member == "input":
        assert kept == {"/input": value}
        assert event.digest_input == value
    else:
        assert kept == {"/raw": b'{"colour":' + value + b"}"}
        assert event.raw_unmapped == 1


def test_deep_and_repeated_members_in_an_unknown_member_of_a_public_object_are_kept() -> None:
    odd = b'{"a":1,"a":"\\ud800"}'
    event = normalize_structured(_with(b'"effect":{"system":"s","x/y":%b,"count":2.0}' % odd))
    assert event.data["effect"] == {"system": "s", "count": 2}
    assert event.content[-1].pointer == "/raw"
    assert event.content[-1].value == b'{"/effect/x~1y":' + odd + b"}"


def test_a_record_of_ten_megabytes_is_decided() -> None:
    event = normalize_structured(_with(b'"input":"' + b"x" * 10_000_000 + b'"'))
    assert len(event.content[0].value) == 10_000_002
    with pytest.raises(Rejection, match="not_json"):
        normalize_structured(b"x" * 10_000_000)


def test_a_large_odd_input_is_kept_but_not_digested() -> None:
    odd = b'{"a":1,"a":"' + b"x" * 1_100_000 + b'"}'
    event = normalize_structured(_with(b'"input":' + odd))
    assert event.content[0].value == odd
    assert event.digest_input is None
    plain = b'"' + b"x" * 1_100_000 + b'"'
    assert normalize_structured(_with(b'"output":"\\ud800","input":' + plain)).digest_input == plain
    with pytest.raises(Rejection, match="attested"):
        normalize_structured(_with(b'"attestation":{"key":"k","value":"v"},"input":' + odd))


def test_a_tombstone_is_refused() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"tallystick.span.v1"), ("ce_id", b"1"), ("ce_source", b"s")]
    with pytest.raises(Rejection, match="tombstone"):
        normalize_binary(headers, None)


def test_a_rejection_names_members_but_repeats_no_value() -> None:
    with pytest.raises(Rejection) as caught:
        normalize_structured(_with(b'"risk":"ann@example.org"'))
    assert "ann" not in caught.value.detail
    assert "tool_call.risk" in caught.value.detail
