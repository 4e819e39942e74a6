"""The compiled checks and the pydantic models agree: accepted, refused and returned alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import normalize
from schemas.canonical import canonical_bytes
from schemas.errors import Rejection
from schemas.jsontext import parse_strict
from schemas.kinds import KINDS, Kind
from schemas.sealed import check_leaf_data
from tests.schemas import strategies as some

SENT = [kind for kind in KINDS.values() if not kind.ledger_only]


def _record(kind: Kind, data: dict[str, Any]) -> bytes:
    return json.dumps({"specversion": "1.0", "type": kind.type, "id": "1", "source": "s", "data": data}).encode()


@settings(max_examples=25)  # for each of 35 kinds
@given(st.data())
@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.name)
def test_compiled_checks_agree_with_the_models(kind: Kind, data: st.DataObject) -> None:
    drawn = data.draw(some.data_of(kind.model, wild=True))
    text = json.dumps(drawn).encode()
    members = parse_strict(text)
    public = {name: value for name, value in members.items() if name in kind.shape.checks}
    try:
        model = kind.model.model_validate(public)
        expected = model.model_dump(by_alias=True, exclude_none=True)
    except ValidationError:
        expected = None
    try:
        unmapped: list[tuple[str, bytes]] = []
        found, content = normalize._split(kind, members, normalize._decode_texts(text), unmapped)
    except Rejection:
        assert expected is None
        return
    persons, actor = normalize._persons(kind.shape, found)
    for pointer, name in persons:
        if pointer.startswith("/actor/"):
            actor[pointer[7:]] = name
        elif pointer == "/attestation/by":
            found["attestation"]["by"] = name
        else:
            found[pointer[1:]] = name
    if actor or (expected is not None and "actor" in expected):
        found["actor"] = actor
    assert found == expected
    assert {one.pointer for one in content} == {f"/{name}" for name in drawn if name in kind.content_fields}
    top = {name for name in drawn if name not in kind.shape.checks and name not in kind.content_fields}
    assert len(unmapped) >= len(top)


@settings(max_examples=25)  # for each of 35 kinds
@given(st.data())
@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.name)
def test_what_is_accepted_can_be_sealed(kind: Kind, data: st.DataObject) -> None:
    """Public data is in the leaf profile and passes the check that a leaf must pass."""
    event = normalize.normalize_structured(_record(kind, data.draw(some.data_of(kind.model))))
    canonical_bytes(event.data)
    sealed = dict(event.data)
    for pointer, _ in event.persons:
        if pointer.count("/") == 1:
            sealed[pointer[1:]] = "p:" + "0" * 32
    check_leaf_data(kind.name, sealed)


@given(st.data())
def test_both_ways_lead_to_the_same_event(data: st.DataObject) -> None:
    """The fast parsers' way and the exact text's give the same event."""
    kind = data.draw(st.sampled_from(SENT))
    record = _record(kind, data.draw(some.data_of(kind.model, wild=True)))
    assert _outcome(normalize.normalize_structured, record) == _outcome(normalize._structured_exact, record)


def _outcome(way: Any, record: bytes) -> Any:
    try:
        return way(record)
    except Rejection as refused:
        return refused.code
