"""What the ledger has of what the runtimes sent, read from its tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from ledger.leaf import Leaf, parse_leaf
from projections.steps import Run, Step, Totals, steps, totals_of
from schemas.ids import span_id
from tests.runtimes.playing import Happened, Played

ARRIVE_S = 90.0

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
    """Wait until every span sent is on the record, and sent again, and read it all."""
    traces = {trace for one in played.values() for happened in one.scenarios.values() for trace in happened.traces}
    sent = 2 * sum(one.spans() + one.logs() for one in played.values())
    with psycopg.connect(url, autocommit=True) as conn:
        _wait_for(conn, played.values(), sent)
        of_runs: Entries = {trace: [] for trace in traces}
        for index, leaf in _leaves(conn):
            if leaf.run in of_runs:
                of_runs[leaf.run].append((index, leaf))
        return Record(played, of_runs, _intake(conn))


def read_run(url: str, run: str, played: Iterable[Played]) -> list[tuple[int, Leaf]]:
    """Wait until every span sent is on the record, and read one run."""
    with psycopg.connect(url, autocommit=True) as conn:
        _wait_for(conn, played, 0)
        return [(index, leaf) for index, leaf in _leaves(conn) if leaf.run == run]


def _wait_for(conn: psycopg.Connection[Any], played: Iterable[Played], events: int) -> None:
    """Until every span of these plays has its entry, and this many events were taken in, each of them twice."""
    ids = [
        span_id(trace, span)
        for one in played
        for happened in one.scenarios.values()
        for trace, spans in happened.traces.items()
        for span in spans
    ]
    deadline = time.monotonic() + ARRIVE_S
    while not (_all_there(conn, ids) and (intake := _intake(conn))["events"] >= events and _is_even(intake)):
        assert time.monotonic() < deadline, f"{len(ids)} spans sent, {events} events, {_intake(conn)} recorded"
        time.sleep(0.2)


def _leaves(conn: psycopg.Connection[Any]) -> Iterator[tuple[int, Leaf]]:
    for index, stored in conn.execute("SELECT index, leaf FROM entries WHERE kind IS NOT NULL ORDER BY log, index"):
        yield index, parse_leaf(stored)


def _all_there(conn: psycopg.Connection[Any], ids: Iterable[str]) -> bool:
    wanted = list(ids)
    row = conn.execute("SELECT count(*) FROM entries WHERE id = ANY(%s::uuid[])", (wanted,)).fetchone()
    return row is not None and row[0] == len(wanted)


def _intake(conn: psycopg.Connection[Any]) -> Counter[str]:
    said: Counter[str] = Counter()
    for (stored,) in conn.execute("SELECT leaf FROM entries WHERE kind = 'intake'"):
        said.update({name: value for name, value in parse_leaf(stored).data.items() if name in _COUNTS})
    return said


_COUNTS = ("events", "appended", "duplicates", "conflicts", "rejected")


def _is_even(intake: Counter[str]) -> bool:
    """Whether everything came as often as it was sent: each event twice."""
    return intake["duplicates"] == intake["appended"]
