"""What the ledger has of what the runtimes sent, read from its tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from ledger.leaf import Leaf, parse_leaf
from projections.steps import Run, Step, Totals, steps, totals_of
from schemas.ids import span_id
from tests.runtimes.playing import Happened, Played

ARRIVE_S = 90.0

_COUNTS = ("events", "appended", "duplicates", "conflicts", "rejected")

Entries = dict[str, list[tuple[int, Leaf]]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One scenario as the ledger has it, its runs in the order of its traces."""

    happened: Happened
    entries: tuple[list[tuple[int, Leaf]], ...]

    def seen(self, what: str) -> int:
        """How many of these happenings the runtime reported at all; the rest it keeps to itself."""
        happened: list[Any] = getattr(self.happened, what)
        return len(happened) - int(self.happened.told.get("unseen", {}).get(what, 0))

    def sent_tokens(self) -> dict[str, int]:
        """The tokens of the model calls that were reported; nothing where none was used."""
        calls = self.happened.model_calls[: self.seen("model_calls")]
        sums = {name: sum(call[name] for call in calls) for name in ("input_tokens", "output_tokens")}
        return sums if calls else {}

    def leaves(self) -> list[Leaf]:
        return [leaf for run in self.entries for _, leaf in run]

    def runs(self) -> list[Run]:
        return [steps(run) for run in self.entries]

    def steps(self, *kinds: str) -> list[Step]:
        """Every run's steps of these kinds, in order; of all kinds where none is named."""
        return [step for run in self.runs() for step in run.steps if not kinds or step.kind in kinds]

    def totals(self) -> list[Totals]:
        return [totals_of(run) for run in self.runs()]

    def summed(self, what: Callable[[Totals], int]) -> int:
        return sum(what(totals) for totals in self.totals())

    def tools_run(self) -> Counter[tuple[str, str]]:
        """Which tools the ledger says ran, and how they ended."""
        return Counter(
            (step.said("tool"), step.said("status") or "ok")
            for step in self.steps("tool_call")
            if step.said("status") != "denied" and step.said("phase") != "proposed"
        )


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that was played, and everything the ledger has of it."""

    played: dict[tuple[str, str], Played]
    entries: Entries
    intake: Counter[str]  # what the ledger's own entries say of what it took in

    def of(self, app: str, protocol: str, scenario: str) -> Recorded:
        happened = self.played[app, protocol].scenarios[scenario]
        return Recorded(happened, tuple(self.entries.get(trace, []) for trace in happened.traces))


def read(url: str, played: dict[tuple[str, str], Played]) -> Record:
    """Wait until everything sent is on the record, and was taken in again, and read it all."""
    traces = {trace for one in played.values() for happened in one.scenarios.values() for trace in happened.traces}
    of_runs: Entries = {trace: [] for trace in traces}
    leaves = _wait_for(url, list(played.values()))
    for index, leaf in leaves:
        if leaf.run in of_runs:
            of_runs[leaf.run].append((index, leaf))
    return Record(played, of_runs, _intake(leaves))


def read_run(url: str, run: str, played: list[Played]) -> list[tuple[int, Leaf]]:
    """Wait until everything sent is on the record, and was taken in again, and read one run."""
    return [(index, leaf) for index, leaf in _wait_for(url, played) if leaf.run == run]


def _wait_for(url: str, played: list[Played]) -> list[tuple[int, Leaf]]:
    """All leaves, once each span and log record of these plays has its entry and each event was seen again."""
    scenarios = [happened for one in played for happened in one.scenarios.values()]
    spans = {
        span_id(trace, span) for happened in scenarios for trace, ended in happened.traces.items() for span in ended
    }
    logs = sum(happened.logs for happened in scenarios)
    deadline = time.monotonic() + ARRIVE_S
    with psycopg.connect(url, autocommit=True) as conn:
        while True:
            rows = conn.execute("SELECT index, leaf FROM entries WHERE kind IS NOT NULL ORDER BY log, index")
            leaves = [(index, parse_leaf(stored)) for index, stored in rows]
            missing = len(spans - {leaf.id for _, leaf in leaves})
            logs_there = sum(1 for _, leaf in leaves if leaf.data.get("from") == "log")
            intake = _intake(leaves)
            if not missing and logs_there >= logs and intake["duplicates"] >= intake["appended"]:
                return leaves
            assert time.monotonic() < deadline, f"{missing} spans missing, {logs_there} of {logs} logs, {intake}"
            time.sleep(0.2)


def _intake(leaves: Iterable[tuple[int, Leaf]]) -> Counter[str]:
    """What the ledger says that it took in, and what it did with it."""
    said: Counter[str] = Counter()
    for _, leaf in leaves:
        if leaf.kind == "intake":
            said.update({name: leaf.data[name] for name in _COUNTS})
    return said
