"""The quick way to read a record gives what the general one gives, and leaves to it what is not plainly good."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import fields, normalize, quick
from schemas.errors import Rejection
from schemas.event import Event
from schemas.kinds import KINDS, Kind
from tests.schemas import strategies as some
from tests.schemas.test_kinds import FILES

SENT = [kind for kind in KINDS.values() if not kind.ledger_only]
DATA: dict[str, Any] = {
    "actor": {"agent": "desk", "principal": "ann"},
    "tool": "payments.refund",
    "phase": "finished",
    "call": "call-1",
    "step": 3,
    "refs": [{"id": "x"}, {"what": "y"}],
    "effect": {"amount": "12.90", "currency": "EUR", "count": 1},
    "latency_us": 12345,
    "reversible": True,
    "input": {"order": "o-1", "note": "\u00e9\U0001f600"},
    "output": [1.50, None],
}
ATTRIBUTES = {
    "specversion": "1.0",
    "type": "tallystick.tool_call.v1",
    "id": "step-1",
    "source": "urn:desk",
    "subject": "run-1",
    "time": "2026-11-21T09:00:00.123456Z",
    "sequence": "7",
    "producerid": "p",
    "tenant": "acme",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "datasubject": "ann%20b",
    "datacontenttype": "application/json",
}


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


VALID = compact({**ATTRIBUTES, "data": DATA})


def outcome(way: Callable[[bytes], Event], record: bytes) -> Event | str:
    try:
        event = way(record)
    except Rejection as refused:
        return refused.code
    return replace(event, content=sorted(event.content, key=lambda one: one.pointer))


def agree(record: bytes) -> None:
    assert outcome(normalize.normalize_structured, record) == outcome(normalize._structured_general, record)


def is_quick(record: bytes) -> bool:
    attributes = quick.read_attributes(record)
    return attributes is not None and normalize._event_quick(attributes, attributes["data"]) is not None


@settings(max_examples=25)  # for each of 35 kinds
@given(st.data())
@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.name)
def test_both_ways_agree_on_every_kind(kind: Kind, data: st.DataObject) -> None:
    sent = data.draw(some.data_of(kind.model, wild=True))
    agree(compact({"specversion": "1.0", "type": kind.type, "id": "1", "source": "s", "data": sent}))


@settings(max_examples=500)
@given(st.data())
def test_both_ways_agree_on_changed_bytes(data: st.DataObject) -> None:
    value = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(value)))
        piece = st.binary(max_size=3) | st.sampled_from(
            [b",", b'"', b"{", b"}", b" ", b"\\u00e9", b"1e3", b'"step":3,']
        )
        value[start : start + data.draw(st.integers(0, 3))] = data.draw(piece)
    agree(bytes(value))


@given(some.json_text().map(str.encode), st.sampled_from([*DATA, "reason", "session", "colour"]))
def test_both_ways_agree_on_any_json_in_a_member(text: bytes, name: str) -> None:
    members = {member: compact(value) for member, value in DATA.items()} | {name: text}
    data = b",".join(b'"%b":%b' % (member.encode(), value) for member, value in members.items())
    agree(compact(ATTRIBUTES)[:-1] + b',"data":{' + data + b"}}")


def test_what_is_plainly_good_is_read_quickly() -> None:
    assert is_quick(VALID)
    # Two with an open object, two with a time in another spelling.
    slow = {"run_started", "delegation", "approval_request", "outcome"}
    golden = {path.parent.name: json.loads(path.read_text()) for path in FILES if path.stem == "golden"}
    records = {kind.name: golden[kind.name]["record"] for kind in SENT}
    for record in records.values():
        record["data"].pop("attestation", None)
    assert {name for name, record in records.items() if not is_quick(compact(record))} == slow


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"step":3,', b'"step":3,"step":3,'),
        (b'"step":3,', b'"step":4,"step":3,'),
        (b'"agent":"desk"', b'"agent":"other","agent":"desk"'),
        (b'"input":', b'"input":1,"input":'),
        (b'"id":"step-1"', b'"id":"step-2","id":"step-1"'),
        (b'"id":"step-1"', b'"\\u0069d":"step-2","id":"step-1"'),
        (b'"data":{', b'"data":{"tool":"t","phase":"finished","call":"c"},"data":{'),
        (b'"step":3', b'"step": 3'),
        (b'"step":3', b'"st\\u0065p":3'),
        (b'"desk"', b'"d\\u0065sk"'),
        (b'"desk"', b'"d\\/esk"'),
        (b'"step":3', b'"step":null'),
        (b'"step":3', b'"step":3.0'),
        (b'"step":3', b'"step":-0'),
        (b'"step":3', b'"step":9007199254740992'),
        (b'"12.90"', b"12.90"),
        (b'"12.90"', b'"12.9e1"'),
        (b'"12.90"', b'"12.90\\n"'),
        (b'"phase":"finished"', b'"phase":"done"'),
        (b'"phase":"finished",', b""),
        (b'"step":3', b'"colour":3'),
        (b'"currency":"EUR"', b'"colour":"EUR"'),
        (b'"step":3', b'"vouched":"signed"'),
        (b'"step":3', b'"attestation":{"key":"k","value":"v"}'),
        (b'"sequence":"7"', b'"sequence":7'),
        (b'"sequence":"7"', b'"weight":"7"'),
        (b'"note":"', b'"note":"\\ud800'),
        (b'"note":"', b'"note":"\xff'),
        (b'"note":"', b'"note":"\xed\xa0\x80'),
        (b'"note":', b'"\xff":'),
        (VALID[-1:], b"} "),
    ],
)
def test_what_is_not_plainly_good_is_left_to_the_general_way(before: bytes, after: bytes) -> None:
    head, _, tail = VALID.rpartition(before)
    record = head + after + tail
    assert record != VALID
    assert not is_quick(record)
    agree(record)


def test_every_form_but_the_open_object_has_a_quick_type() -> None:
    checks = {name for name in vars(fields) if name.startswith("check_")} - {"check_open"}
    assert {check.__name__ for check in quick._TYPES} >= checks
