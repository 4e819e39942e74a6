"""Leaves: what the format says passes, and each way to say it otherwise is refused and named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import MalformedLeaf
from ledger.leaf import MEMBERS, check_leaf, parse_leaf
from schemas.canonical import canonical_bytes, encode_unchecked, parse_canonical
from schemas.errors import SchemaError
from tests.schemas import strategies as some

C = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
REF = "r:" + "0123456789abcdef" * 2
PERSON = "p:" + "0123456789abcdef" * 2
LEAF: dict[str, Any] = {
    "v": 1,
    "log": "ledger.example.org/t-5f0c9a77d2e41b36",
    "id": "018f3c2e-7a1b-7c3d-9e4f-0123456789ab",
    "kind": "tool_call",
    "schema": 1,
    "run": "run-1",
    "run_seq": 3,
    "prev": "ab" * 32,
    "src": {"id": "p1", "seq": 4},
    "time": "2026-11-21T09:00:00.000000Z",
    "recorded": "2026-11-21T09:00:01.000000Z",
    "source": {"cluster": "c", "topic": "tally.events", "topic_id": None, "partition": 0, "offset": 7, "item": 0},
    "actor": {"agent": "refunds", "version": "1.2.3", "principal": PERSON},
    "data": {"tool": "issue_refund", "phase": "finished", "call": "c1", "effect": {"amount": "12.50"}},
    "commit": {"/input": {"c": C, "k": [REF]}, "/a~1b~0": {"c": C, "k": [PERSON, REF]}},
    "sig": {"key": "k1"},
}
LEDGERS = {
    **LEAF,
    "source": {"ledger": "tenant/ledger.example.org/t-1"},
    "run": None,
    "run_seq": None,
    "prev": None,
    "src": None,
    "time": None,
    "actor": None,
    "commit": None,
    "sig": None,
    "data": {},
    "id": "018f3c2e-7a1b-5c3d-9e4f-0123456789ab",
}
FIRST = {**LEAF, "run_seq": 0, "prev": None}
LINE = {**LEAF, "source": {**LEAF["source"], "file": "steps.jsonl", "line": 1}}


@pytest.mark.parametrize("value", [LEAF, LEDGERS, FIRST, LINE])
def test_a_leaf_is_read(value: dict[str, Any]) -> None:
    leaf = parse_leaf(canonical_bytes(value))
    assert {name: getattr(leaf, name) for name in MEMBERS} == value
    assert check_leaf(canonical_bytes(value)) == value


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_must_be_there(name: str) -> None:
    value = {member: said for member, said in LEAF.items() if member != name}
    with pytest.raises(MalformedLeaf, match=f"missing \\['{name}'\\]"):
        check_leaf(canonical_bytes(value))


WRONG: list[tuple[str, Any]] = [
    ("v", 2),
    ("v", True),
    ("v", "1"),
    ("log", "heads"),
    ("log", ""),
    ("log", "a b/c"),
    ("log", "a/"),
    ("log", 1),
    ("id", "018F3C2E-7A1B-7C3D-9E4F-0123456789AB"),
    ("id", "018f3c2e-7a1b-1c3d-9e4f-0123456789ab"),
    ("id", "018f3c2e7a1b7c3d9e4f0123456789ab"),
    ("id", None),
    ("kind", "Tool"),
    ("kind", ""),
    ("kind", None),
    ("schema", 0),
    ("schema", True),
    ("schema", "1"),
    ("run", ""),
    ("run", "a" * 129),
    ("run", "a b"),
    ("run", "a\n"),
    ("run", 5),
    ("run", None),
    ("run_seq", None),
    ("run_seq", -1),
    ("run_seq", True),
    ("run_seq", 0),
    ("prev", None),
    ("prev", "AB" * 32),
    ("prev", "ab" * 31),
    ("prev", "ab" * 32 + "\n"),
    ("src", {}),
    ("src", {"id": "p1"}),
    ("src", {"id": "", "seq": 1}),
    ("src", {"id": "p1", "seq": 0}),
    ("src", {"id": "p1", "seq": "1"}),
    ("src", {"id": "p1", "seq": 1, "x": 1}),
    ("time", "2026-11-21T09:00:00Z"),
    ("time", "2026-11-21T09:00:00.000000+00:00"),
    ("time", "2026-11-31T09:00:00.000000Z"),
    ("time", "2026-11-21T09:00:60.000000Z"),
    ("time", 5),
    ("recorded", None),
    ("recorded", "1969-12-31T23:59:59.000000Z"),
    ("recorded", "2026-11-21T09:00:01.000000Z\n"),
    ("source", None),
    ("source", {}),
    ("source", {"ledger": "tenant"}),
    ("source", {"ledger": 1}),
    ("source", {"ledger": "a/b", "topic": "t"}),
    ("source", {**LEAF["source"], "offset": -1}),
    ("source", {**LEAF["source"], "offset": "7"}),
    ("source", {**LEAF["source"], "partition": True}),
    ("source", {**LEAF["source"], "topic": ""}),
    ("source", {**LEAF["source"], "topic_id": 1}),
    ("source", {**LEAF["source"], "cluster": None}),
    ("source", {**LEAF["source"], "file": "f"}),
    ("source", {**LEAF["source"], "file": "f", "line": "1"}),
    ("actor", {}),
    ("actor", {"agent": 1}),
    ("actor", {"name": "x"}),
    ("actor", {"principal": "alice@example.org"}),
    ("actor", {"on_behalf_of": REF}),
    ("actor", "agent"),
    ("data", None),
    ("data", []),
    ("data", {"tool": None}),
    ("data", {"a": 1.5}),
    ("data", {"a": 2**53}),
    ("data", {"ä": 1}),
    ("commit", {}),
    ("commit", []),
    ("commit", {"input": {"c": C, "k": [REF]}}),
    ("commit", {"": {"c": C, "k": [REF]}}),
    ("commit", {"/a~2": {"c": C, "k": [REF]}}),
    ("commit", {"/ä": {"c": C, "k": [REF]}}),
    ("commit", {"/input": {"c": C}}),
    ("commit", {"/input": {"c": C, "k": []}}),
    ("commit", {"/input": {"c": C, "k": REF}}),
    ("commit", {"/input": {"c": C, "k": {REF: 1}}}),
    ("commit", {"/input": {"c": C, "k": [REF], "x": 1}}),
    ("commit", {"/input": {"c": C, "k": [REF.upper()]}}),
    ("commit", {"/input": {"c": C, "k": ["x" + REF[1:]]}}),
    ("commit", {"/input": {"c": C, "k": [REF + "\n" + REF]}}),
    ("commit", {"/input": {"c": C[:-2] + "9=", "k": [REF]}}),
    ("commit", {"/input": {"c": C[:-1], "k": [REF]}}),
    ("commit", {"/input": {"c": None, "k": [REF]}}),
    ("commit", {"/input": [C, REF]}),
    ("commit", {"/input": None}),
    ("commit", {"/input\n" + C: {"c": REF, "k": [REF]}}),
    ("sig", {}),
    ("sig", {"key": 1}),
    ("sig", {"key": "k", "sig": "x"}),
    ("sig", "k"),
]


@pytest.mark.parametrize(("name", "said"), WRONG)
def test_each_member_has_its_form_and_the_message_names_it(name: str, said: Any) -> None:
    value = {**LEAF, name: said}
    with pytest.raises(MalformedLeaf, match=name):
        check_leaf(encode_unchecked(value))


def test_unknown_members_are_refused() -> None:
    with pytest.raises(MalformedLeaf, match=r"unknown \['extra'\]"):
        check_leaf(canonical_bytes({**LEAF, "extra": None}))


GOOD = canonical_bytes(LEAF)


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        GOOD + b"\n",
        b" " + GOOD,
        GOOD.replace(b'"v":1', b'"v":1.0'),
        GOOD.replace(b'"v":1', b'"v": 1'),
        GOOD.replace(b'"v":1', b'"v":1,"v":1'),
        GOOD.replace(b'"schema":1,', b"").replace(b'"v":1', b'"v":1,"schema":1'),
        GOOD.replace(b"refunds", b"re\\u0066unds"),
        GOOD.replace(b"refunds", b"re\\ud800unds"),
        GOOD.replace(b"refunds", b"re\xffunds"),
        GOOD.replace(b"12.50", b"12\\/50"),
        GOOD.replace(b'{"amount":"12.50"}', b"[" * 31 + b"]" * 31),
        GOOD.replace(b'{"amount":"12.50"}', b"[" * 20_000 + b"]" * 20_000),
        GOOD.replace(b"12.50", b"1" * 65_535),
    ],
)
def test_other_bytes_than_the_canonical_ones_are_refused(leaf: bytes) -> None:
    with pytest.raises(MalformedLeaf):
        check_leaf(leaf)


def test_the_deepest_leaf_passes() -> None:
    deepest = GOOD.replace(b'{"amount":"12.50"}', b"[" * 30 + b"]" * 30)  # the leaf and data are two more
    assert parse_canonical(deepest) == check_leaf(deepest)


@given(st.integers(0, 100_000))
def test_a_flipped_bit_is_another_leaf_or_none(bit: int) -> None:
    bent = bytearray(GOOD)
    bit %= len(bent) * 8
    bent[bit // 8] ^= 1 << bit % 8
    try:
        value = check_leaf(bytes(bent))
    except MalformedLeaf:
        return
    assert value != LEAF
    assert canonical_bytes(value) == bytes(bent)


@given(some.profile_objects, st.sampled_from(MEMBERS))
def test_whatever_stands_in_a_member_the_profile_holds_for_what_passes(junk: dict[str, Any], name: str) -> None:
    value = copy.deepcopy(LEAF)
    value[name] = junk
    leaf = encode_unchecked(value)
    try:
        found = check_leaf(leaf)
    except MalformedLeaf:
        return
    assert name == "data"
    assert found == parse_canonical(leaf)


@given(some.profile_objects)
def test_data_is_judged_as_the_profile_judges_it(data: dict[str, Any]) -> None:
    leaf = encode_unchecked({**LEAF, "data": data})
    try:
        parse_canonical(leaf)
        expected = None not in data.values()
    except SchemaError:
        expected = False
    if expected:
        assert check_leaf(leaf)["data"] == data
    else:
        with pytest.raises(MalformedLeaf):
            check_leaf(leaf)
