"""Bodies as they come in: decompressed in pieces, counted after that, and paid for out of one budget."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from ingest.otlp.answers import Failure
from ingest.otlp.body import MEMBERS_MAX, Body, Budget, Coding

MIB = 1024 * 1024
TEXT = b"what was said " * 10_000


def fed(body: Body, data: bytes, piece: int = 1_000) -> bytes:
    for start in range(0, len(data), piece):
        body.feed(data[start : start + piece])
    return bytes(body.value())


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("gzip", gzip.compress(TEXT[:7], mtime=0) + gzip.compress(TEXT[7:], mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("identity", b""),
        ("gzip", b""),
    ],
)
@pytest.mark.parametrize("piece", [1, 1_000, 10**9])
def test_a_body_comes_out_as_it_went_in(coding: Coding, data: bytes, piece: int) -> None:
    budget = Budget(10 * MIB)
    with Body(budget, coding) as body:
        value = fed(body, data, piece)
        assert budget.free == 10 * MIB - len(value)
    assert value == (TEXT if data else b"")
    assert budget.free == budget.bytes_max


PACKED = gzip.compress(TEXT, mtime=0)


@pytest.mark.parametrize(
    "data",
    [
        b"no gzip",
        PACKED[:-9],
        PACKED + b"more",
        *(PACKED[:size] for size in (1, 2, 9, 10, 11, 17, -1)),
        gzip.compress(b"", mtime=0)[:-1],
        gzip.compress(b"", mtime=0) + PACKED[:10],
    ],
)
def test_what_is_no_gzip_is_refused(data: bytes) -> None:
    with Body(Budget(MIB), "gzip") as body, pytest.raises(Failure) as caught:
        fed(body, data)
    assert caught.value.reason == "bad_request"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_stopped_at_the_limit(coding: Coding) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    data = b"".join(bomb.compress(bytes(MIB)) for _ in range(64)) + bomb.flush()
    budget = Budget(64 * MIB)
    tracemalloc.start()
    with Body(budget, coding, bytes_max=8 * MIB) as body, pytest.raises(Failure) as caught:
        fed(body, data, 64 * 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.http_status == 413
    assert peak < 20 * MIB
    assert budget.free == budget.bytes_max


@pytest.mark.parametrize("size", [1, 2, 3, -5, -1])
def test_deflate_that_is_cut_off_is_refused(size: int) -> None:
    with Body(Budget(MIB), "deflate") as body, pytest.raises(Failure) as caught:
        fed(body, zlib.compress(TEXT)[:size])
    assert caught.value.reason == "bad_request"


def test_members_of_nothing_are_counted() -> None:
    empty = gzip.compress(b"")
    with Body(Budget(MIB), "gzip") as body:
        body.feed(empty * MEMBERS_MAX)
        assert body.value() == b""
        with pytest.raises(Failure, match="members") as caught:
            body.feed(empty)
    assert caught.value.reason == "bad_request"


def test_what_is_read_is_bounded_too() -> None:
    nothing = zlib.compressobj(0, wbits=31)
    stored = b"".join(nothing.compress(b"") + nothing.flush(zlib.Z_FULL_FLUSH) for _ in range(1_000))
    with Body(Budget(MIB), "gzip", bytes_max=1_000) as body, pytest.raises(Failure) as caught:
        fed(body, stored)
    assert caught.value.http_status == 413


def test_a_full_budget_says_come_again() -> None:
    budget = Budget(1_000)
    with Body(budget) as first:
        first.feed(b"x" * 900)
        with Body(budget) as second:
            with pytest.raises(Failure) as caught:
                second.feed(b"x" * 200)
            assert (caught.value.http_status, caught.value.retry_s is not None) == (503, True)
            with pytest.raises(Failure, match="full"):
                second.expect(101)
            second.expect(100)
    assert budget.free == 1_000


def test_what_is_said_to_be_too_large_is_refused_before_it_is_read() -> None:
    with Body(Budget(1_000), bytes_max=500) as body, pytest.raises(Failure) as caught:
        body.expect(501)
    assert caught.value.http_status == 413
