"""Exact JSON text: what is JSON and what is not, where each member stands, and the digest normal form."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas import jsontext
from schemas.canonical import normal_form
from schemas.errors import ProfileError, Rejection
from tests.schemas import strategies as some


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


def _python(text: str | bytes) -> Any:
    """The oracle: Python's own parser, told to keep members in order, numbers exact and constants out."""
    if isinstance(text, bytes):
        text = text.decode()
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: ("object", pairs),
        parse_int=Decimal,
        parse_float=Decimal,
        parse_constant=_refuse_constant,
    )


@given(some.json_text().map(str.encode))
def test_json_is_json_and_its_parts_are_exact(text: bytes) -> None:
    value = _python(text)
    jsontext.check(text)
    if type(value) is tuple:
        parts = jsontext.members(text)
        assert [(jsontext.name_text(name), _python(part)) for name, part in parts] == value[1]
        assert all(part == part.strip() and part in text for _, part in parts)
    elif type(value) is list:
        assert [_python(part) for part in jsontext.items(text)] == value


@given(some.json_text().map(str.encode), st.data())
def test_what_is_not_json_is_refused(text: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.binary(max_size=2)) + text[place + 1 :]
    try:
        _python(changed)
    except (ValueError, UnicodeDecodeError):
        with pytest.raises(Rejection, match="not_json"):
            jsontext.check(changed)
    else:
        jsontext.check(changed)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b" ",
        b"[",
        b"]",
        b"{]",
        b"[}",
        b"[1 2]",
        b"[,]",
        b"[1,]",
        b'{"a":1,}',
        b"{,}",
        b'{"a"}',
        b"{1:2}",
        b'{"a":1}}',
        b"NaN",
        b"-Infinity",
        b"01",
        b"1.",
        b"+1",
        b"'a'",
        b'"\x01"',
        b'"\\x"',
        b'"\\u12"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"nul",
    ],
)
def test_these_are_not_json(wrong: bytes) -> None:
    with pytest.raises(Rejection, match="not_json"):
        jsontext.check(wrong)


def test_nesting_is_bounded_without_recursion() -> None:
    deep = jsontext.NESTING_MAX
    assert len(list(jsontext.tokens(b"[" * deep + b"]" * deep))) == 2 * deep
    with pytest.raises(Rejection, match="too_deep"):
        jsontext.check(b"[" * (deep + 1) + b"]" * (deep + 1))
    assert normal_form(b"[" * deep + b"1.0" + b"]" * deep) == b"[" * deep + b"1" + b"]" * deep


@given(some.profile)
def test_in_the_profile_the_normal_form_is_rfc8785s(value: Any) -> None:
    assert normal_form(json.dumps(value).encode()) == rfc8785.dumps(value)
    assert normal_form(json.dumps(value, indent=1, ensure_ascii=False).encode()) == rfc8785.dumps(value)


@given(some.json_text().map(str.encode))
def test_the_normal_form_is_stable_and_means_the_same(text: bytes) -> None:
    normal = normal_form(text)
    assert normal_form(normal) == normal
    assert jsontext._normal_form_exact(text) == normal
    assert _sorted(_python(normal)) == _sorted(_python(text))


def _sorted(value: Any) -> Any:
    if isinstance(value, tuple):
        members = [(name, _sorted(member)) for name, member in value[1]]
        return "object", sorted(members, key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (b'{"b":1.250,"a":[1e3,-0.0,1E-3]}', b'{"a":[1000,0,0.001],"b":1.25}'),
        (b"12345678901234567890123.10", b"12345678901234567890123.1"),
        (b"100", b"100"),
        (b"-1.5e2", b"-150"),
        (b"1e1001", b"1e1001"),
        (b"10e1000", b"1e1001"),
        (b"1.5e-2000", b"15e-2001"),
        (b'"\\ud800\\u0041\\/"', b'"\\ud800A/"'),
        (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
        ('{"\U0001f600":1,"\ue000":2}'.encode(), '{"\U0001f600":1,"\ue000":2}'.encode()),
        ('{"\ue000":2,"\\ud83d\\ude00":1}'.encode(), '{"\U0001f600":1,"\ue000":2}'.encode()),
    ],
)
def test_normal_forms(text: bytes, normal: bytes) -> None:
    assert normal_form(text) == normal


@given(st.binary(max_size=40))
def test_the_normal_form_of_anything_is_bytes_or_an_error_of_ours(text: bytes) -> None:
    with contextlib.suppress(ProfileError):
        normal_form(text)


def test_deep_values_are_delimited_among_others() -> None:
    deep = "[" * 3_000 + '"\u00e9]"' + "]" * 3_000
    text = f'{{ "a":1,"\u00e9": {deep} ,"a" : {deep}}} '.encode()
    assert jsontext.members(text) == [(b'"a"', b"1"), ('"\u00e9"'.encode(), deep.encode()), (b'"a"', deep.encode())]
    assert jsontext.items(f"[{deep},1]".encode()) == [deep.encode(), b"1"]
    with pytest.raises(Rejection, match="too_deep"):
        jsontext.items(b"[" * 3_000 + b'"' + b"x" * jsontext.DEEP_CHARACTERS_MAX + b'"' + b"]" * 3_000)


@given(some.json_text().map(str.encode), st.data())
def test_members_refuse_what_is_not_json(text: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.binary(max_size=2)) + text[place + 1 :]
    for parts in (jsontext.members, jsontext.items):
        refused = None
        try:
            parts(changed)
        except Rejection as wrong:
            refused = wrong.code
        try:
            value = _python(changed)
        except (ValueError, UnicodeDecodeError):
            assert refused == "not_json"
        else:
            wanted = tuple if parts is jsontext.members else list
            assert refused == (None if type(value) is wanted else "schema")


def test_a_huge_exponent_stays_short() -> None:
    assert len(normal_form(b"1e" + b"9" * 100)) < 120
    assert len(normal_form(b"1e-" + b"9" * 10_000)) < 5_000
