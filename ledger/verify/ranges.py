"""Which range a process checks next. Pure.

A process keeps to a log while it lasts: what its runs, producers and keys cost, each process that joins it pays anew.
Where no log is left that nobody is at, it joins the one with most left. The largest logs come first, and small ones are
given out together, since handing one over takes longer than checking it. Towards the end a share gets smaller, so that
no process waits long for another's last one.

Guarantees: a log's ranges are given out in order, numbered from 0, and not many of them before the first of them came
back; every log has one, for its checkpoints, and at last one for what is stored past its size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.merkle import TILE_WIDTH
from ledger.verify.plan import LogPlan
from ledger.verify.work import RANGE_ENTRIES, Job

RANGE_ENTRIES_MIN = 8 * TILE_WIDTH
SHARES = 4  # what is given out at once is at most this part of what each process has left
RANGE_COST = 128  # what a range costs before its first entry, in entries
AHEAD = 4  # ranges of one log, per process, that are out or came back before their turn: what is held in memory


@dataclass(slots=True)
class _Lane:
    """A log: where its next range begins (None: all are given out), how many were, and how many came back in turn."""

    plan: LogPlan
    first: int | None
    given: int = 0
    used: int = 0

    @property
    def left(self) -> int:
        return 0 if self.first is None else self.plan.span - self.first


class Ranges:
    """What is left to check."""

    def __init__(self, plans: Iterable[LogPlan], workers: int) -> None:
        lanes = [_Lane(plan, plan.from_mark) for plan in plans]
        lanes.sort(key=lambda lane: -lane.left)
        self._workers = workers
        self._lanes = {lane.plan.row.log: lane for lane in lanes}
        self._fresh = deque(lanes)
        self._begun: dict[str, _Lane] = {}  # of which ranges are left, by log
        self._at: dict[int, _Lane] = {}  # by process
        self._left = sum(lane.left for lane in lanes)

    @property
    def ended(self) -> bool:
        """Whether all are given out."""
        return not self._fresh and not self._begun

    def take(self, worker: int) -> list[Job] | None:
        """What a process is to check next: ranges of one log, and small logs whole. None: there is nothing left, or too
        much is out."""
        lane = self._at.get(worker)
        if lane is None or not self._is_open(lane):
            lane = self._next_lane()
            if lane is None:
                return None
        room = self._share()
        taken: list[Job] = []
        while lane is not None:
            self._at[worker] = lane
            while self._is_open(lane) and (room > 0 or not lane.left):
                job = self._range(lane, max(room, TILE_WIDTH))
                taken.append(job)
                room -= job.end - job.first + RANGE_COST
            lane = self._next_small(room)
        return taken

    def use(self, job: Job) -> None:
        """A range's result was used, as were those before it."""
        self._lanes[job.log].used = job.number + 1

    def _is_open(self, lane: _Lane) -> bool:
        return lane.first is not None and lane.given - lane.used < AHEAD * self._workers

    def _next_lane(self) -> _Lane | None:
        if self._fresh:
            return self._begin()
        return max(filter(self._is_open, self._begun.values()), key=lambda lane: lane.left, default=None)

    def _next_small(self, room: int) -> _Lane | None:
        """A log that nobody is at, if there is room for all of it."""
        return self._begin() if self._fresh and self._fresh[0].left + RANGE_COST <= room else None

    def _begin(self) -> _Lane:
        lane = self._fresh.popleft()
        self._begun[lane.plan.row.log] = lane
        return lane

    def _range(self, lane: _Lane, entries_max: int) -> Job:
        plan, first = lane.plan, lane.first
        number = lane.given
        lane.given += 1
        if first is None or (first >= plan.span and number > 0):
            lane.first = None
            del self._begun[plan.row.log]
            return plan.job(plan.span, plan.span, number, beyond=True)
        lane.first = min(first + entries_max // TILE_WIDTH * TILE_WIDTH, plan.span)
        self._left -= lane.first - first
        return plan.job(first, lane.first, number, beyond=False)

    def _share(self) -> int:
        """How many entries to give out at once, a multiple of 256."""
        if self._workers == 1:
            return RANGE_ENTRIES
        share = self._left // (self._workers * SHARES) // TILE_WIDTH * TILE_WIDTH
        return min(RANGE_ENTRIES, max(share, RANGE_ENTRIES_MIN))
