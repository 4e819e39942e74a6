"""Whatever an agent puts in comes out as JSON that says the same; amounts are exact or refused."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import json
import re
import uuid
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from tallystick.emit import EventError, Signer, encode, is_critical

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
WILD = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.builds(object),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)) | st.tuples(st.integers()), inner)
    ),
    max_leaves=20,
)


def strict(encoded: bytes) -> Any:
    def refuse(name: str) -> Any:
        raise AssertionError(name)

    return json.loads(encoded.decode(), parse_constant=refuse)


@given(st.dictionaries(st.text(), JSON))
def test_json_comes_out_as_it_went_in(data: dict[str, Any]) -> None:
    assert strict(encode.encode_data(data)) == data


@given(st.dictionaries(st.text(st.characters(codec=None)), WILD))
def test_anything_comes_out_as_json(data: dict[str, Any]) -> None:
    assert isinstance(strict(encode.encode_data(data)), dict)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Order:
    number: int
    total: Decimal


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def model_dump(self, mode: str) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.250"), "1.250"),
        (Decimal("1E+3"), "1000"),
        (0.1, 0.1),
        (Colour.RED, "red"),
        (Order(7, Decimal("12.90")), {"number": 7, "total": "12.90"}),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (b"\x00\xff", {"base64": "AP8="}),
        ({1}, [1]),
        (("a", "b"), ["a", "b"]),
    ],
)
def test_python_values_have_a_json_form_and_no_note(value: Any, expected: Any) -> None:
    assert strict(encode.encode_data({"input": value})) == {"input": expected}


def circular() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("a\ud800b", "surrogates_replaced"),
        ({"a\udfff": 1}, "surrogates_replaced"),
        (float("nan"), "not_finite"),
        (float("-inf"), "not_finite"),
        pytest.param(10**5000, "too_long", id="huge"),
        pytest.param(Hostile(), "not_json", id="hostile"),
        (object(), "not_json"),
        pytest.param(circular(), "too_deep", id="circular"),
        pytest.param(deep(100_000), "too_deep", id="deep"),
    ],
)
def test_what_json_cannot_say_is_replaced_and_noted(value: Any, note: str) -> None:
    data = strict(encode.encode_data({"tool": "t", "output": [value, "kept"]}))
    assert data["tool"] == "t"
    assert data["output"][1] == "kept"
    assert data["emitter"] == {note: 1}


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    assert strict(encode.encode_data({"output": "a\ud800b"}))["output"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(Decimal("12.90"), "12.90"), ("12.90", "12.90"), (12, "12"), (Decimal("-1E+2"), "-100"), ("0", "0")],
)
def test_amounts_keep_their_digits(given: Any, expected: str) -> None:
    assert encode.decimal_text(given) == expected


@pytest.mark.parametrize("given", [12.9, "1e3", "01", ".5", "1,50", True, Decimal("NaN"), None])
def test_amounts_that_are_not_exact_are_refused(given: Any) -> None:
    with pytest.raises(EventError, match="amount: expected"):
        encode.decimal_text(given)


def test_money_is_checked_where_a_kind_has_it_and_only_there() -> None:
    encode.check_amounts("memory_write", {"value": {"amount": 1.5}})  # content: the agent's own business
    for kind, member in (("tool_call", "effect"), ("model_call", "cost_claimed"), ("outcome", "value")):
        with pytest.raises(EventError, match=rf"{member}\.amount"):
            encode.check_amounts(kind, {member: {"amount": 1.5, "currency": "EUR"}})


def test_uuid7_is_one_and_sorts_by_time() -> None:
    ids = [encode.uuid7() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [text[:13] for text in ids] == sorted(text[:13] for text in ids)
    for text in ids:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(EventError, match="time zone"):
        encode.timestamp(dt.datetime(2026, 1, 1))  # noqa: DTZ001  that is the point
    east = dt.timezone(dt.timedelta(hours=2))
    assert encode.timestamp(dt.datetime(2026, 1, 1, 1, tzinfo=east)) == "2025-12-31T23:00:00.000000Z"


def test_trimming_takes_the_largest_content_first_and_says_so() -> None:
    data = {"tool": "t", "input": "i" * 100, "output": "o" * 5000, "diff": "d" * 300}
    encoded = encode.trimmed(data, 1000)
    assert encoded is not None
    kept = strict(encoded)
    assert kept["input"] == data["input"]
    assert kept["diff"] == data["diff"]
    assert "output" not in kept
    (gone,) = kept["emitter"]["trimmed"]
    assert (gone["member"], gone["bytes"]) == ("output", 5002)
    assert encode.trimmed({"tool": "t" * 2000}, 1000) is None


@pytest.mark.parametrize(
    ("kind", "data", "critical"),
    [
        ("tool_call", {"access": "read"}, False),
        ("tool_call", {"access": "read", "risk": "high"}, True),
        ("tool_call", {"access": "write"}, True),
        ("tool_call", {}, True),
        ("memory_write", {"class": "working"}, False),
        ("memory_write", {"class": "durable"}, True),
        ("model_call", {}, False),
        ("policy_decision", {}, True),
        ("run_finished", {}, True),
    ],
)
def test_which_kinds_are_critical(kind: str, data: dict[str, Any], critical: bool) -> None:
    assert is_critical(kind, data) is critical


def test_a_signature_is_over_domain_tenant_and_value() -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    header = Signer.from_pem("support-1", pem).header("acmé", b"the value")
    key_id, _, signature = header.partition(b":")
    assert key_id == b"support-1"

    def lp(part: bytes) -> bytes:
        return len(part).to_bytes(8, "big") + part

    signed = lp(b"tallystick/producer-sig/v1") + lp("acmé".encode()) + lp(b"the value")
    key.public_key().verify(base64.b64decode(signature, validate=True), signed)


def test_a_key_that_cannot_sign_is_refused() -> None:
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    for pem, said in (
        (rsa, "expected an Ed25519"),
        (b"nonsense", "not a readable PEM"),
        (locked, "not a readable PEM"),
    ):
        with pytest.raises(EventError, match=said):
            Signer.from_pem("k", pem)
    with pytest.raises(EventError, match="key id"):
        Signer("with:colon", Ed25519PrivateKey.generate())
