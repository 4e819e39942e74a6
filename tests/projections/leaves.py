"""Leaves as ingest makes them of spans, logs and events, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from ledger.leaf import Leaf
from schemas import ids

LOG = "ledger.example.org/default"
TRACE = "0af7651916cd43dd8448eb211c80319c"
START = datetime(2026, 11, 21, 3, tzinfo=UTC)
COMMITTED = {"c": "", "k": []}


def clock(at_us: int) -> str:
    """A leaf's time, so many microseconds after START."""
    return f"{START + timedelta(microseconds=at_us):%Y-%m-%dT%H:%M:%S.%fZ}"


def leaf(kind: str, data: dict[str, Any] | None = None, **members: Any) -> Leaf:
    given: dict[str, Any] = {
        "v": 1,
        "log": LOG,
        "id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "kind": kind,
        "schema": 1,
        "run": "r1",
        "run_seq": 0,
        "prev": None,
        "src": None,
        "time": None,
        "recorded": "2026-11-21T03:00:00.000000Z",
        "source": {"ledger": "test"},
        "actor": None,
        "data": data or {},
        "commit": None,
        "sig": None,
    }
    return Leaf(**{**given, **members})


def hex_id(name: str) -> str:
    """A span id for a name."""
    return sha256(name.encode()).hexdigest()[:16]


def node(name: str, trace: str = TRACE) -> str:
    """The event id of the span of that name."""
    return ids.span_id(trace, hex_id(name))


def span(
    name: str,
    kind: str,
    data: dict[str, Any] | None = None,
    *,
    parent: str | None = None,
    at: int = 0,
    trace: str = TRACE,
    derived: int | None = None,
    came_from: str = "span",
    **members: Any,
) -> Leaf:
    """A span's own entry; or, with `derived`, the one of that number that was made of the same span."""
    where = {"trace_id": trace, "span_id": hex_id(name)}
    if parent is not None:
        where["parent_span_id"] = hex_id(parent)
    base = f"otlp\n{trace}\n{hex_id(name)}"
    id = ids.v5(base) if derived is None else ids.derived_id(base, kind, derived)
    given = {"from": came_from, "trace": where, "vouched": "claimed", **(data or {})}
    if kind == "tool_call":
        given = {"call": id, "phase": "finished", **given}
    return leaf(kind, given, id=id, time=clock(at), **members)


def log(name: str, at_span: str | None, kind: str, data: dict[str, Any] | None = None, **members: Any) -> Leaf:
    """A log record of that name, told in the context of a span."""
    id = ids.log_record_id(sha256(name.encode()).hexdigest())
    where = {} if at_span is None else {"trace": {"trace_id": TRACE, "span_id": hex_id(at_span)}}
    given = {"from": "log", "vouched": "claimed", **where, **(data or {})}
    if kind == "tool_call":
        given = {"call": id, "phase": "finished", **given}
    return leaf(kind, given, id=id, time=clock(members.pop("at", 0)), **members)


def event(name: str, kind: str, data: dict[str, Any] | None = None, *, at: int = 0, **members: Any) -> Leaf:
    """A CloudEvent of that name."""
    id = event_id(name)
    given = {"from": "event", "vouched": "claimed", **(data or {})}
    return leaf(kind, given, id=id, time=clock(at), **members)


def event_id(name: str) -> str:
    """The id of the CloudEvent of that name."""
    return str(UUID(bytes=sha256(name.encode()).digest()[:16], version=4))


def arrived(leaves: Iterable[Leaf]) -> list[tuple[int, Leaf]]:
    """The leaves as a log holds them that came in this order: index, place in the run and time of recording follow."""
    found = []
    for at, one in enumerate(leaves):
        members = {name: getattr(one, name) for name in Leaf.__slots__}
        moved = Leaf(**{**members, "run_seq": at, "recorded": clock(10_000_000 + at)})
        found.append((at, moved))
    return found
