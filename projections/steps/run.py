"""The logical steps of a run, out of entries that tell the same thing several times. Pure.

Guarantees: every entry given is a step's own or merged into one, exactly once, by a named rule; the same entries make
the same steps in whatever order they arrived, with whatever of them still to come; any entries at all make steps. Does
not: judge, or change what an entry says. Costs n log n.

The rules run in this order, each on what those before it left:

1. the same event again;
2. what a log or a span event says of the thing that its span is;
3. what a span, its events and its logs each say of something else;
4. tool calls: inside the same call, told from two places, in phases;
5. model calls around a model call;
6. errors and approvals, repeated by the spans above and by later messages: the deepest is kept;
7. delegations: a workflow and its agent, a handoff and its agent, an agent that is a tool, and the run's own agent,
   which nobody delegated to;
8. several roots of one run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ledger.leaf import Leaf
from projections.reading import Entry, text
from projections.steps import agents, calls, repeats, spans
from projections.steps.merging import Merging, Why, alive
from projections.steps.told import Told

_PLACE_OF_KIND: Final = {"run_started": -1, "run_finished": 1}  # among what has the same time


@dataclass(frozen=True, slots=True)
class Merged:
    """An entry that tells what another one does, and by which rule."""

    entry: Entry
    why: Why


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: the entry that tells it best, and those that tell it too, the better ones first."""

    entry: Entry
    merged: tuple[Merged, ...]
    within: int | None  # of a model call, the place among the steps of the total around it
    total: bool  # a model call around several: what it counts is theirs, unless none of them says any

    @property
    def kind(self) -> str:
        return self.entry.leaf.kind

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of its entries, its own first."""
        return (self.entry, *(one.entry for one in self.merged))

    def said(self, name: str) -> Any:
        """A public member, of the first of its entries of its kind that has it; None where none has."""
        leaves = (entry.leaf for entry in self.entries)
        return next((leaf.data[name] for leaf in leaves if leaf.kind == self.kind and name in leaf.data), None)


@dataclass(frozen=True, slots=True)
class Run:
    """One logical run, whether or not its root ever came."""

    steps: tuple[Step, ...]  # by time; what has none stands at the time it was recorded
    status: str | None  # what its end says; None: it hasn't ended, or its end doesn't say
    started: str | None  # None: no start was told
    ended: str | None
    roots: int  # how many starts, or ends, were told: more than one is one run all the same


def steps(entries: Iterable[tuple[int, Leaf]]) -> Run:
    """The run that these entries, given as (index, leaf), tell. They are taken to be of one run."""
    told = Told(entries)
    merging = Merging(len(told))
    spans.same_events(told, merging)
    starts, ends = (list(alive(told, merging, kind)) for kind in ("run_started", "run_finished"))
    spans.of_their_spans(told, merging)
    spans.told_twice(told, merging)
    calls.inner_calls(told, merging)
    calls.same_calls(told, merging)
    calls.phases(told, merging)
    totals = calls.outer_model_calls(told, merging)
    repeats.errors(told, merging)
    repeats.approval_requests(told, merging)
    repeats.approval_decisions(told, merging)
    agents.delegations(told, merging)
    spans.one_run(told, merging)
    made, place = _steps(told, merging, totals)
    end = next((made[place[merging.first(at)]] for at in ends), None)
    return Run(
        steps=made,
        status=None if end is None else text(end.said("status")),
        started=min((time for at in starts if (time := told.entries[at].leaf.time) is not None), default=None),
        ended=max((time for at in ends if (time := told.entries[at].leaf.time) is not None), default=None),
        roots=max(len(starts), len(ends)),
    )


def _steps(told: Told, merging: Merging, totals: dict[int, int]) -> tuple[tuple[Step, ...], dict[int, int]]:
    """The steps in order, and the place among them of each first entry."""
    merged: dict[int, list[Merged]] = {at: [] for at in range(len(told)) if merging.is_first(at)}
    for at, first, why in merging.merged():
        merged[first].append(Merged(told.entries[at], why))
    order = sorted(merged, key=lambda at: _when(told, at))
    place = {at: nth for nth, at in enumerate(order)}
    outer = set(totals.values())
    made = tuple(
        Step(
            entry=told.entries[at],
            merged=tuple(merged[at]),
            within=place[totals[at]] if at in totals else None,
            total=at in outer,
        )
        for at in order
    )
    return made, place


def _when(told: Told, at: int) -> tuple[str, int, int, int, int]:
    leaf = told.entries[at].leaf
    place = _PLACE_OF_KIND.get(leaf.kind, 0)
    return leaf.time or leaf.recorded, place, told.depth(at), leaf.run_seq or 0, told.entries[at].index
