"""Entries of a run, with the span each of them was told at. Pure.

The order in here does not depend on the order of arrival, which differs from one delivery of the same spans to the
next: by time, then by id. Nor does anything that is decided from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ledger.leaf import Leaf
from projections.reading import Entry, count, microseconds, text
from projections.steps.forest import Forest
from schemas import ids

FROM_OTLP: Final = ("span", "span_event", "log")  # the most telling first
_BY_SPAN: Final = ("span", "span_event")


class Told:
    """What was told, and where.

    A *node* is a span's event id, whether or not its entry is here; of an entry that came otherwise, its own id. A
    CloudEvent with a `traceparent` is a node below that span: its `parent` is a cause and contains nothing.
    """

    def __init__(self, entries: Iterable[tuple[int, Leaf]]) -> None:
        given = (Entry(index, leaf) for index, leaf in entries)
        self.entries: Final = sorted(given, key=lambda one: (one.leaf.time or "", one.leaf.id, one.leaf.log, one.index))
        self.nodes: list[str] = []
        self.by_id: dict[str, int] = {}
        self._of_kind: dict[str, list[int]] = {}
        self._span_ids: dict[tuple[str, str], str] = {}
        self.began: dict[str, str] = {}  # of each node that has a time, the earliest: a span's time is its start
        own_parents: dict[str, str] = {}
        other_parents: dict[str, str] = {}
        for at, entry in enumerate(self.entries):
            leaf = entry.leaf
            node, parent = self._place(leaf)
            self.nodes.append(node)
            self.by_id.setdefault(leaf.id, at)
            self._of_kind.setdefault(leaf.kind, []).append(at)
            if leaf.time is not None:
                self.began[node] = min(leaf.time, self.began.get(node, leaf.time))
            if parent is not None and parent != node:
                links = own_parents if leaf.id == node else other_parents
                links[node] = min(parent, links.get(node, parent))
        self.forest: Final = Forest({**other_parents, **own_parents})

    def __len__(self) -> int:
        return len(self.entries)

    def of_kinds(self, *kinds: str) -> list[int]:
        """The entries of these kinds, in order."""
        return sorted(at for kind in set(kinds) for at in self._of_kind.get(kind, ()))

    def own(self, *kinds: str) -> dict[str, int]:
        """The nodes whose own entry is of these kinds, with that entry: the first, if it came twice."""
        return {self.nodes[at]: at for at in reversed(self.of_kinds(*kinds)) if self.is_own(at)}

    def own_steps(self) -> set[str]:
        """The nodes whose own entry is something that happened, not structure."""
        return set(self.own(*(kind for kind in self._of_kind if kind != "span")))

    def kind(self, at: int) -> str:
        return self.entries[at].leaf.kind

    def data(self, at: int) -> dict[str, Any]:
        return self.entries[at].leaf.data

    def came_from(self, at: int) -> str | None:
        """`data.from`; of kinds that use the name otherwise, and of the ledger's own entries, nothing that counts."""
        return text(self.data(at).get("from"))

    def is_own(self, at: int) -> bool:
        """Whether this is the entry of the node itself, not one that was made out of it or told at it."""
        return self.entries[at].leaf.id == self.nodes[at]

    def depth(self, at: int) -> int:
        return self.forest.depth(self.nodes[at])

    def call(self, at: int) -> str | None:
        """The call id, where one was said: without one, `call` is the event's own id."""
        call = text(self.data(at).get("call"))
        return None if call == self.entries[at].leaf.id else call

    def interval(self, at: int) -> tuple[int, int] | None:
        """From when to when, in microseconds since 1970. A span's time is its start, another event's its end."""
        time = microseconds(self.entries[at].leaf.time)
        if time is None:
            return None
        took = count(self.data(at).get("latency_us")) or 0
        return (time, time + took) if self.came_from(at) == "span" else (time - took, time)

    def _place(self, leaf: Leaf) -> tuple[str, str | None]:
        """An entry's node, and the node that contains that one."""
        span = _span(leaf)
        if span is None:
            return leaf.id, None
        node = self._span_id(*span)
        came_from = leaf.data.get("from")
        if came_from not in FROM_OTLP:
            return leaf.id, node
        above = text(leaf.data["trace"].get("parent_span_id")) if came_from in _BY_SPAN else None
        return node, None if above is None else self._span_id(span[0], above)

    def _span_id(self, trace_id: str, span_id: str) -> str:
        id = self._span_ids.get((trace_id, span_id))
        if id is None:
            id = self._span_ids[trace_id, span_id] = ids.span_id(trace_id, span_id)
        return id


def node_of(leaf: Leaf) -> str:
    """The node of one entry."""
    span = _span(leaf)
    return leaf.id if span is None or leaf.data.get("from") not in FROM_OTLP else ids.span_id(*span)


def approval_of(leaf: Leaf) -> tuple[str | None, str | None]:
    """(approval, call) that an entry names. An approval that has the call's id has none of its own; a call that has the
    event's id wasn't said."""
    approval, call = text(leaf.data.get("approval")), text(leaf.data.get("call"))
    call = None if call == leaf.id else call
    return None if approval == call else approval, call


def _span(leaf: Leaf) -> tuple[str, str] | None:
    """Trace id and span id, where both are said."""
    trace = leaf.data.get("trace")
    if not isinstance(trace, dict):
        return None
    trace_id, span_id = text(trace.get("trace_id")), text(trace.get("span_id"))
    return None if trace_id is None or span_id is None else (trace_id, span_id)
