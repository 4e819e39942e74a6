"""Canonical bytes equal RFC 8785's in the profile, and everything outside the profile is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import DEPTH_MAX, LEAF_BYTES_MAX, canonical_bytes, encode_unchecked, parse_canonical
from schemas.errors import ProfileError
from schemas.values import INTEGER_MAX
from tests.schemas import strategies as some


@given(some.profile_objects)
def test_canonical_bytes_equal_rfc8785s(value: dict[str, Any]) -> None:
    assert canonical_bytes(value) == encode_unchecked(value) == rfc8785.dumps(value)


@given(some.profile_objects)
def test_parsing_what_was_written_is_identity(value: dict[str, Any]) -> None:
    assert parse_canonical(canonical_bytes(value)) == value


@given(st.binary(max_size=60) | some.json_text().map(lambda text: text.encode()))
def test_what_parses_is_exactly_what_would_be_written(leaf: bytes) -> None:
    try:
        value = parse_canonical(leaf)
    except ProfileError:
        return
    assert rfc8785.dumps(value) == leaf


@given(some.profile_objects, st.data())
def test_a_changed_byte_is_refused_or_another_value(value: dict[str, Any], data: st.DataObject) -> None:
    leaf = bytearray(canonical_bytes(value))
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProfileError):
        assert parse_canonical(bytes(leaf)) != value


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (b"", "expected JSON"),
        (b"[]", "expected an object"),
        (b'{"a":1.5}', "without floats"),
        (b'{"a":1.0}', "without floats"),
        (b'{"a":1e3}', "without floats"),
        (b'{"a":9007199254740992}', "within"),
        (b'{"a":[-9007199254740992]}', "within"),
        (b'{"a":99999999999999999999}', "without floats"),
        (b'{"a":-0}', "canonical"),
        (b'{"a":1,"a":1}', "canonical"),
        (b'{"b":1,"a":1}', "canonical"),
        (b'{"a": 1}', "canonical"),
        (b'{"a":1}\n', "canonical"),
        (b'{"a":"\\u0041"}', "canonical"),
        (b'{"a":"\\/"}', "canonical"),
        (b'{"a":"\\u000A"}', "canonical"),
        (b'{"a":"\\ud800"}', "expected JSON"),
        (b'{"a":"\xed\xa0\x80"}', "expected JSON"),
        ('{"\u00e9":1}'.encode(), "ASCII"),
        (b'\xef\xbb\xbf{"a":1}', "expected JSON"),
        (b'{"a":NaN}', "expected JSON"),
        (b'{"a":"' + b"x" * LEAF_BYTES_MAX + b'"}', "at most 65535 bytes"),
    ],
)
def test_bytes_outside_the_profile_are_refused(leaf: bytes, expected: str) -> None:
    with pytest.raises(ProfileError, match=expected):
        parse_canonical(leaf)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        {"a": float("nan")},
        {1: 2},
        {"a": {"\u00e9": 1}},
        {"a": (1,)},
        {"a": "\ud800"},
        INTEGER_MAX + 1,
        [-INTEGER_MAX - 1],
    ],
)
def test_values_outside_the_profile_are_refused(value: object) -> None:
    with pytest.raises(ProfileError):
        canonical_bytes(value)


def _nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


def test_depth_is_limited_to_32() -> None:
    assert parse_canonical(_nested(DEPTH_MAX))
    with pytest.raises(ProfileError, match="depth"):
        parse_canonical(_nested(DEPTH_MAX + 1))
    with pytest.raises(ProfileError):
        parse_canonical(_nested(5000))
