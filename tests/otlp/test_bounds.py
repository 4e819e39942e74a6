"""Where records stand, as the C parser's form says it and as it is read field by field."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.otlp.bounds import bounds_of, framed
from ingest.otlp.framing import delimited, fields

SCOPE, LIST, URL = 1, 2, 3


def field(number: int, payload: bytes, long: bool = False) -> bytes:
    """A field; `long`: its length in more bytes than it needs."""
    if not long:
        return delimited(number, len(payload)) + payload
    assert len(payload) < 0x80
    return bytes((number << 3 | 2, len(payload) | 0x80, 0)) + payload


def found(scope: bytes) -> tuple[list[int], int, list[bytes]] | None:
    """What is said of a scope that stands in a request, its places counted from its own beginning."""
    resource = field(2, scope)
    body = field(1, b"") + field(1, field(1, b"r") + resource)
    start, end = len(body) - len(scope), len(body)
    bounds = bounds_of(framed(body).resources[1].scopes[0], body, start, end)
    if bounds is None:
        return None
    return [place - start for place in bounds.places], bounds.widest, [body[a:b] for a, b in bounds.own]


def read(scope: bytes) -> tuple[list[int], int, list[bytes]]:
    told = list(fields(scope, 0, len(scope)))
    records = [(begin, stop) for tag, begin, _, stop in told if tag == LIST << 3 | 2]
    places = [begin for begin, _ in records] + [records[-1][1]]
    own = b"".join(scope[begin:stop] for tag, begin, _, stop in told if tag != LIST << 3 | 2)
    return places, max(stop - begin for begin, stop in records), [own]


RECORDS = [bytes((size % 251,)) * size for size in (125, 126, 127, 128, 129, 16_382, 16_383, 16_384, 70)]
TOGETHER = b"".join(field(LIST, record) for record in RECORDS)
USUAL = {
    "only records": TOGETHER,
    "an empty scope": field(SCOPE, b"") + TOGETHER,
    "a scope": field(SCOPE, b"name") + TOGETHER,
    "a scope and a url": field(SCOPE, b"n" * 200) + TOGETHER + field(URL, b"u" * 20_000),
    "an empty url": TOGETHER + field(URL, b""),
    "a url first": field(SCOPE, b"name") + field(URL, b"https://example.org") + TOGETHER,
}


@pytest.mark.parametrize("scope", USUAL.values(), ids=USUAL.keys())
def test_the_usual_is_found(scope: bytes) -> None:
    places, widest, own = read(scope)
    said = found(scope)
    assert said is not None
    assert (said[0], said[1], b"".join(said[2])) == (places, widest, own[0])


RECORD = field(LIST, b"r" * 100)
ODD = {
    "no records": field(SCOPE, b"name" * 100),
    "tiny records": field(LIST, b"r") * 100,
    "the scope last": RECORD + field(SCOPE, b"name"),
    "the scope twice": field(SCOPE, b"a") + field(SCOPE, b"b") + RECORD,
    "the scope between": RECORD + field(SCOPE, b"name") + RECORD,
    "the url between": RECORD + field(URL, b"u" * 100) + RECORD + RECORD,
    "the url twice": RECORD + field(URL, b"u") + field(URL, b"u"),
    "long frames": field(LIST, b"r" * 100, long=True) * 2,
    "a long scope": field(SCOPE, b"name", long=True) + RECORD,
    "unknown fields": RECORD + field(9, b"new"),
    "unknown fields first": field(9, b"new") + RECORD,
    "a number for a scope": b"\x08\x01" + RECORD,
    # The record's end looks like the URL, which stands between.
    "a url in a record": RECORD + field(URL, b"x" * 60) + field(LIST, field(URL, b"x" * 60) * 2),
}


@pytest.mark.parametrize("scope", ODD.values(), ids=ODD.keys())
def test_the_odd_is_left_to_who_reads_field_by_field(scope: bytes) -> None:
    assert found(scope) is None


_field = st.one_of(
    st.builds(field, st.just(LIST), st.binary(min_size=62, max_size=130)),
    st.builds(field, st.just(LIST), st.binary(max_size=120), st.booleans()),
    st.builds(field, st.sampled_from([SCOPE, URL, 4, 9]), st.binary(max_size=100), st.booleans()),
    st.builds(lambda inner: field(LIST, inner * 3), st.builds(field, st.just(URL), st.binary(max_size=40))),
    st.builds(lambda number, value: bytes((number << 3, value)), st.integers(1, 4), st.integers(0, 127)),
)


@given(st.lists(_field, min_size=1, max_size=8))
def test_what_is_found_is_what_is_read(told: Sequence[bytes]) -> None:
    scope = b"".join(told)
    said = found(scope)
    if said is not None:
        places, widest, own = read(scope)
        assert (said[0], said[1], b"".join(said[2])) == (places, widest, own[0])
