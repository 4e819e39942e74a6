"""Which entries tell the same thing: each entry is either a step's first or merged into one, by a named rule. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, get_args

from projections.steps.told import Told

Why = Literal[
    "same_event",
    "of_its_span",
    "told_twice",
    "inner_call",
    "same_call",
    "phase",
    "outer_call",
    "denial",
    "same_error",
    "error_above",
    "same_approval",
    "same_decision",
    "same_answer",
    "handoff",
    "inner_agent",
    "agent_as_tool",
    "one_run",
    "own_agent",
]
WHYS: Final[tuple[Why, ...]] = get_args(Why)
# The same entry again says nothing more: it stands behind what it is the same as, wherever that was merged into.
_ORDER: Final = {why: nth for nth, why in enumerate((*WHYS[1:], WHYS[0]))}


class Merging:
    """What has been merged into what.

    Invariants: an entry is merged at most once, and into one that isn't merged itself at that time. So following the
    links ends, at an entry that is merged into none.
    """

    def __init__(self, size: int) -> None:
        self._into: list[int | None] = [None] * size
        self._why: list[Why | None] = [None] * size

    def merge(self, at: int, into: int, why: Why) -> None:
        """Merge an entry into what another one belongs to. Nothing happens if it is merged already, or into itself."""
        first = self.first(into)
        if self._into[at] is None and first != at:
            self._into[at], self._why[at] = first, why

    def is_first(self, at: int) -> bool:
        return self._into[at] is None

    def merged(self) -> list[tuple[int, int, Why]]:
        """What was merged: the entry, the one that it was merged into in the end, and why; in the rules' order."""
        found = [(at, self.first(at), why) for at, why in enumerate(self._why) if why is not None]
        return sorted(found, key=lambda one: (_ORDER[one[2]], one[0]))

    def first(self, at: int) -> int:
        """The entry that it was merged into in the end, or itself."""
        path = []
        while (into := self._into[at]) is not None:
            path.append(at)
            at = into
        for passed in path[:-1]:  # so that the next one needs a single step
            self._into[passed] = at
        return at


def alive(told: Told, merging: Merging, *kinds: str) -> Iterator[int]:
    """The entries of these kinds that are merged into none, in order."""
    return (at for at in told.of_kinds(*kinds) if merging.is_first(at))


def groups(keyed: Iterable[tuple[tuple[object, ...] | None, int]]) -> list[list[int]]:
    """Entries of equal keys, in order; those with the key None are of no group."""
    found: dict[tuple[object, ...], list[int]] = {}
    for key, at in keyed:
        if key is not None:
            found.setdefault(key, []).append(at)
    return list(found.values())
