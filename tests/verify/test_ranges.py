"""Which range a process checks next."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ledger.merkle import EMPTY_ROOT, TILE_WIDTH
from ledger.verify.logs import LogRow
from ledger.verify.plan import LogPlan
from ledger.verify.ranges import AHEAD, RANGE_ENTRIES_MIN, Ranges
from ledger.verify.work import RANGE_ENTRIES, Job


def taken(ranges: Ranges, workers: list[int]) -> list[Job]:
    """All that is left, as these processes in turn take it."""
    found: list[Job] = []
    turns = 0
    while (jobs := ranges.take(workers[turns % len(workers)])) is not None:
        turns += 1
        found += jobs
        for job in jobs:
            ranges.use(job)
    return found


def planned(name: str, span: int, tiles_marked: int = 0) -> LogPlan:
    row = LogRow(name, 0, "tenant", name, 0, span, EMPTY_ROOT)
    return LogPlan(row, span, min(tiles_marked * TILE_WIDTH, span // TILE_WIDTH * TILE_WIDTH))


@given(
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 8)), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_ranges_cover_each_log_once_and_in_order(logs: list[tuple[int, int]], workers: int, seed: int) -> None:
    """Whoever asks when, and whatever comes back when: nothing twice, nothing left out, and little is held."""
    plans = {f"log-{at}": planned(f"log-{at}", *log) for at, log in enumerate(logs)}
    ranges, rng = Ranges(plans.values(), workers), random.Random(seed)
    given_out: dict[str, list[Job]] = {log: [] for log in plans}
    back: dict[str, set[int]] = {log: set() for log in plans}
    used = dict.fromkeys(plans, 0)
    out: list[Job] = []
    while not ranges.ended or out:
        jobs = ranges.take(rng.randrange(workers))
        assert jobs != []
        for job in jobs or []:
            given_out[job.log].append(job)
            out.append(job)
            assert len(given_out[job.log]) - used[job.log] <= AHEAD * workers
        if jobs is None or rng.random() < 0.5:
            assert out, "nothing is given out and nothing is at work"
            job = out.pop(rng.randrange(len(out)))
            back[job.log].add(job.number)
            while used[job.log] in back[job.log]:
                ranges.use(given_out[job.log][used[job.log]])
                used[job.log] += 1
    assert all(ranges.take(worker) is None for worker in range(workers))
    for log, plan in plans.items():
        *inner, last = given_out[log]
        assert [job.number for job in given_out[log]] == list(range(len(given_out[log])))
        assert [job.first for job in inner] == [plan.from_mark, *(job.end for job in inner[:-1])]
        assert inner[-1].end == plan.span
        assert all(job.end - job.first <= RANGE_ENTRIES and not job.beyond for job in inner)
        assert all(job.first % TILE_WIDTH == 0 for job in inner)
        assert (last.first, last.end, last.beyond) == (plan.span, plan.span, True)


def test_processes_keep_to_their_logs_and_share_the_last() -> None:
    ranges = Ranges([planned("small", 300), planned("one", 40_000), planned("two", 40_000)], 2)
    theirs = ranges.take(1)
    assert theirs is not None
    assert {job.log for job in theirs} == {"one"}
    assert list(dict.fromkeys(job.log for job in taken(ranges, [0]))) == ["two", "small", "one"]


def test_small_logs_are_given_out_together() -> None:
    ranges = Ranges([planned(f"log-{at:02}", 300) for at in range(60)], 2)
    first, second = ranges.take(0), ranges.take(1)
    assert first is not None
    assert second is not None
    logs = [{job.log for job in jobs} for jobs in (first, second)]
    assert min(map(len, logs)) > 1
    assert not logs[0] & logs[1]
    assert all(len(jobs) == 2 * len(named) for jobs, named in zip((first, second), logs, strict=True))


def test_ranges_get_smaller_towards_the_end_where_processes_share_them() -> None:
    def sizes(workers: int) -> list[int]:
        ranges = Ranges([planned("log", 100_000)], workers)
        return [job.end - job.first for job in taken(ranges, list(range(workers))) if not job.beyond]

    assert sizes(1) == [RANGE_ENTRIES] * 6 + [100_000 % RANGE_ENTRIES]
    *shared, _ = sizes(2)
    assert shared == sorted(shared, reverse=True)
    assert shared[-1] == RANGE_ENTRIES_MIN
