"""The buffer alone: numbers, room, what is dropped and what is said of it."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.emit import Limits, RefusedError, buffer
from tallystick.emit.buffer import ENTRY_OVERHEAD_BYTES, Buffer, Entry, Gap


def entry(run: str | None = "r", critical: bool = False, size: int = 600, waiter: bool = False) -> Entry:
    future: Future[None] | None = None
    if waiter:
        future = Future()
        future.set_running_or_notify_cancel()
    return Entry(b"", b"x" * (size - ENTRY_OVERHEAD_BYTES), run, None, critical or waiter, future)


def declare(run: str | None, producer: str, gap: Gap) -> Entry:
    said = {"src": producer, "from": gap.first, "to": gap.last, "count": gap.count, "cause": gap.cause}
    return Entry(json.dumps(said).encode(), b"", run, None, True)


def make(events: int = 4, reserve: int = 2, **more: int) -> Buffer:
    return Buffer(Limits(events_max=events, reserve_events=reserve, **more), declare)


def take_all(held: Buffer) -> list[Entry]:
    taken = []
    while (one := held.take()) is not None:
        taken.append(one)
        held.acknowledge(one)
    return taken


def said(one: Entry) -> dict[str, Any]:
    return json.loads(one.head)


def test_numbers_are_dense_from_one_for_each_run() -> None:
    held = make(10)
    for run in ("a", "b", "a", None, None, "a"):
        held.put(entry(run))
    assert [(one.run, one.number) for one in take_all(held)] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        (None, 1),
        (None, 2),
        ("a", 3),
    ]


def test_what_does_not_fit_is_dropped_and_declared() -> None:
    held = make(4)
    for _ in range(7):
        held.put(entry())
    assert (held.emitted, held.dropped) == (7, 3)
    *kept, gap = take_all(held)
    assert [one.number for one in kept] == [1, 2, 3, 4]
    assert gap.number == 8
    assert said(gap) == {"src": kept[0].producer, "from": 5, "to": 7, "count": 3, "cause": "buffer_full"}


def test_a_critical_event_takes_the_place_of_the_oldest_that_is_not() -> None:
    held = make(4)
    for _ in range(4):
        held.put(entry())
    held.put(entry(critical=True))
    taken = take_all(held)
    assert [one.number for one in taken] == [2, 3, 4, 5, 6]
    assert said(taken[-1])["from"] == said(taken[-1])["to"] == 1


def test_critical_events_use_the_reserve_and_past_it_are_declared_too() -> None:
    held = make(4, 2)
    for _ in range(7):
        held.put(entry(critical=True))
    assert held.dropped == 1
    first = held.take()
    assert first is not None
    held.acknowledge(first)
    taken = take_all(held)
    assert [one.number for one in taken] == [2, 3, 4, 5, 6, 8]
    assert said(taken[-1])["cause"] == "reserve_full"
    assert said(taken[-1])["from"] == 7


def test_bytes_are_bounded_like_events() -> None:
    held = make(100, 100, bytes_max=2000, reserve_bytes=1000)
    for _ in range(5):
        held.put(entry(size=600))
    assert held.stats(False, None).queued_bytes == 1800
    held.put(entry(size=900, critical=True))
    assert held.stats(False, None).queued_bytes == 600 + 900  # two dropped: 300 bytes of the soft limit stay free
    held.put(entry(size=1400, critical=True))
    assert held.stats(False, None).queued_bytes == 2300  # the last that may be dropped went, the reserve is used


def test_a_durable_event_is_refused_and_takes_no_number() -> None:
    held = make(1, 1)
    held.put(entry(critical=True))
    held.put(entry(critical=True))
    with pytest.raises(RefusedError, match="full"):
        held.put(entry(waiter=True))
    assert (held.emitted, held.dropped) == (2, 0)


def test_what_was_in_flight_is_queued_again_in_order_and_never_dropped() -> None:
    held = make(3, 3)
    for _ in range(3):
        held.put(entry())
    assert [held.take().number for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
    held.recover()
    held.put(entry(critical=True))
    held.put(entry(critical=True))
    taken = take_all(held)
    assert [one.number for one in taken] == [1, 2, 4, 5, 6]
    assert said(taken[-1])["from"] == said(taken[-1])["to"] == 3


def test_a_late_answer_from_an_abandoned_connection_changes_nothing() -> None:
    held = make(3)
    held.put(entry())
    one = held.take()
    assert one is not None
    held.recover()
    held.acknowledge(one)
    assert held.delivered == 0
    assert held.take() is one


def test_flush_waits_for_what_was_emitted_before_it_and_no_more() -> None:
    held = make(10)
    assert held.flush().done()
    held.put(entry())
    held.put(entry())
    flushed = held.flush()
    held.put(entry())
    first, second = held.take(), held.take()
    assert first is not None
    assert second is not None
    held.acknowledge(second)
    assert not flushed.done()
    held.acknowledge(first)
    assert flushed.done()


def test_closing_fails_those_who_wait() -> None:
    held = make(10)
    one = entry(waiter=True)
    held.put(one)
    assert held.close() == 1
    assert one.waiter is not None
    with pytest.raises(RefusedError, match="closed"):
        one.waiter.result(0)
    with pytest.raises(RefusedError, match="closed"):
        held.put(entry(waiter=True))
    held.put(entry())
    assert held.dropped == 1


def test_counters_of_runs_are_bounded_by_beginning_a_new_producer_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "RUNS_MAX", 3)
    held = make(100)
    for run in ("a", "b", "c", "d", "a"):
        held.put(entry(run))
    taken = take_all(held)
    assert [one.number for one in taken] == [1, 1, 1, 1, 1]
    assert len({one.producer for one in taken}) == 2
    assert len({(one.producer, one.run) for one in taken}) == 5


def test_ranges_are_bounded_and_the_count_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "RANGES_MAX", 32)
    held = make(1, 200)
    for _ in range(100):  # each critical one drops the other one: every second number is lost
        held.put(entry())
        held.put(entry(critical=True))
    gaps = [said(one) for one in take_all(held) if one.head]
    assert len(gaps) == buffer.RANGES_MAX
    assert sum(gap["count"] for gap in gaps) == held.dropped
    assert gaps[-1]["to"] - gaps[-1]["from"] + 1 > gaps[-1]["count"]


PUT = st.tuples(st.just("put"), st.sampled_from(["a", "b", None]), st.booleans())
MOVES = st.lists(PUT | st.sampled_from([("take",), ("ack",), ("recover",), ("flush",), ("refuse",)]), max_size=80)


@given(MOVES, st.integers(1, 5), st.integers(1, 5))
def test_every_number_leaves_once_or_is_declared(moves: list[tuple[Any, ...]], events: int, reserve: int) -> None:
    held = make(events, reserve)
    flying: list[Entry] = []
    settled: list[Entry] = []
    for move in moves:
        if move[0] == "put":
            held.put(entry(move[1], move[2]))
        elif move[0] == "take" and (one := held.take()) is not None:
            flying.append(one)
        elif move[0] == "ack" and flying:
            settled.append(flying.pop(0))
            held.acknowledge(settled[-1])
        elif move[0] == "refuse" and flying and not flying[0].head:  # a declaration is never too large
            held.give_up(flying.pop(0), "too_large")
        elif move[0] == "recover":
            held.recover()
            flying.clear()
        elif move[0] == "flush":
            held.flush()
        assert held.stats(False, None).queued <= events + reserve
    held.recover()
    settled += take_all(held)
    assert held.stats(False, None).queued == held.stats(False, None).queued_bytes == 0
    seen: dict[str | None, list[int]] = {}
    for one in settled:
        seen.setdefault(one.run, []).append(one.number)
        if one.head:
            gap = said(one)
            assert gap["count"] == gap["to"] - gap["from"] + 1
            seen[one.run] += range(gap["from"], gap["to"] + 1)
    for found in seen.values():
        assert sorted(found) == list(range(1, len(found) + 1))
