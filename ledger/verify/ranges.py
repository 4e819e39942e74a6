"""Which range a process checks next. Pure.

A process keeps to a log while it lasts: what its runs, producers and keys cost, each process that joins it pays anew.
Where no log is left that nobody is at, it joins the one with most left. The largest logs come first, and towards the
end ranges get smaller, so that no process waits long for another's last one.

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
SHARES = 4  # a range is at most this part of what each process has left
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

    def take(self, worker: int) -> Job | None:
        """The next range for a process. None: there is none, or too many are out."""
        lane = self._at.get(worker)
        if lane is None or not self._is_open(lane):
            lane = self._next_lane()
            if lane is None:
                return None
            self._at[worker] = lane
        return self._range(lane)

    def use(self, job: Job) -> None:
        """A range's result was used, as were those before it."""
        self._lanes[job.log].used = job.number + 1

    def _is_open(self, lane: _Lane) -> bool:
        return lane.first is not None and lane.given - lane.used < AHEAD * self._workers

    def _next_lane(self) -> _Lane | None:
        if self._fresh:
            lane = self._fresh.popleft()
            self._begun[lane.plan.row.log] = lane
            return lane
        return max(filter(self._is_open, self._begun.values()), key=lambda lane: lane.left, default=None)

    def _range(self, lane: _Lane) -> Job:
        plan, first = lane.plan, lane.first
        number = lane.given
        lane.given += 1
        if first is None or (first >= plan.span and number > 0):
            lane.first = None
            del self._begun[plan.row.log]
            return plan.job(plan.span, plan.span, number, beyond=True)
        lane.first = min(first + self._entries(), plan.span)
        self._left -= lane.first - first
        return plan.job(first, lane.first, number, beyond=False)

    def _entries(self) -> int:
        if self._workers == 1:
            return RANGE_ENTRIES
        share = self._left // (self._workers * SHARES) // TILE_WIDTH * TILE_WIDTH
        return min(RANGE_ENTRIES, max(share, RANGE_ENTRIES_MIN))
