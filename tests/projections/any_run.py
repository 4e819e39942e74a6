"""Any run: spans with any parents (missing, circular, of another trace), their events, logs, and producers' events."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ledger.leaf import Leaf
from tests.projections.leaves import COMMITTED, TRACE, event, event_id, hex_id, log, node, span

SPANS = ("a", "b", "c", "d", "e")
OTHER_TRACE = "f" * 32

_few = st.integers(0, 3)
_count = st.integers(0, 2**53 - 1)
_decimal = st.sampled_from(["0", "0.1", "0.20", "1" * 38, "0." + "1" * 37])
_amount = st.fixed_dictionaries({"amount": _decimal, "currency": st.sampled_from(["USD", "EUR"])})
_odd = st.sampled_from(
    [0, -1, True, "", "odd", [], {}, ["odd", 1], {"amount": "x", "currency": "USD"}, {"amount": "1"}, {"trace_id": []}]
)
_name = st.sampled_from(["x", "y"])
_status = st.sampled_from(["ok", "error", "timeout", "denied", "success", "failure"])

_MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "input_tokens": _count,
    "output_tokens": _count,
    "cache_read_tokens": _count,
    "price": _amount,
    "cost_claimed": _amount,
    "cost": _amount,
    "latency_us": _count,
    "total_latency_us": _count,
    "status": _status,
    "attempt": _few,
    "call": st.sampled_from(["c1", "c2"]),
    "phase": st.sampled_from(["proposed", "validated", "started", "finished"]),
    "tool": _name,
    "to_agent": _name,
    "chosen": _name,
    "class": st.sampled_from(["E", "m.E", "F"]),
    "approval": st.sampled_from(["x", "y", "c1"]),
    "decision": st.sampled_from(["approve", "reject", "allow", "deny", "unknown"]),
    "reviewer": _name,
    "arguments": _name,
    "of": st.sampled_from([node("a"), node("b"), event_id("e1"), "nobody"]),
    "missing": st.lists(_name, max_size=2, unique=True),
    "refs": st.lists(st.fixed_dictionaries({"what": _name, "id": _name}), max_size=2),
}
_KINDS = (
    *("span", "run_started", "run_finished", "model_call", "tool_call", "error", "retry", "delegation"),
    *("approval_request", "approval_decision", "tool_selection", "policy_decision", "retrieval", "memory_read"),
    *("final_action", "rollback", "routing_decision", "producer_gap", "run_head", "conflict", "no_such_kind"),
)
# Kinds with the members that rules about them read: runs of these alone have much to merge.
_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (_KINDS, tuple(_MEMBERS)),
    (("model_call", "span"), ("input_tokens", "output_tokens", "price", "cost_claimed", "attempt")),
    (("model_call", "tool_call", "span"), ("input_tokens", "call", "tool", "latency_us")),
    (("tool_call", "span"), ("call", "tool", "phase", "attempt", "status", "latency_us")),
    (("tool_call", "retry"), ("call", "attempt", "of")),
    (("error", "tool_call", "span"), ("class", "of", "status")),
    (("approval_request", "approval_decision"), ("approval", "call", "decision", "reviewer", "arguments")),
    (("delegation", "tool_selection", "span"), ("to_agent", "chosen")),
    (("delegation", "tool_call", "run_finished", "run_started", "model_call"), ("to_agent", "tool", "call")),
)
Family = tuple[tuple[str, ...], tuple[str, ...]]


@st.composite
def _data(draw: st.DrawFn, family: Family) -> tuple[str, dict[str, Any]]:
    kind = draw(st.sampled_from(family[0]))
    names = draw(st.lists(st.sampled_from(family[1]), max_size=6, unique=True))
    data = {name: draw(_MEMBERS[name] if draw(st.integers(0, 9)) else _odd) for name in names}
    if not draw(st.integers(0, 19)):
        data[draw(st.sampled_from(["trace", "from", "refs", "missing", "effect", "documents"]))] = draw(_odd)
    return kind, data


_commit = st.none() | st.dictionaries(
    st.sampled_from(["/request", "/raw", "/messages"]), st.just(COMMITTED), min_size=1, max_size=2
)
_actor = st.sampled_from([None, {"agent": "x"}, {"agent": "x", "version": "1"}, {"version": "1"}])
_public = st.fixed_dictionaries({"commit": _commit, "actor": _actor})


@st.composite
def _of_span(draw: st.DrawFn, family: Family, name: str, derived: int | None) -> Leaf:
    (kind, data), public = draw(_data(family)), draw(_public)
    parent = draw(st.sampled_from((*SPANS, "gone", None)))
    trace = draw(st.sampled_from([TRACE, TRACE, OTHER_TRACE]))
    came_from = "span" if derived is None else draw(st.sampled_from(["span", "span_event"]))
    at = draw(st.sampled_from([0, 1, 2, 3_000_000]))
    return span(name, kind, data, parent=parent, at=at, trace=trace, derived=derived, came_from=came_from, **public)


@st.composite
def _of_log(draw: st.DrawFn, family: Family) -> Leaf:
    (kind, data), public = draw(_data(family)), draw(_public)
    at_span = draw(st.sampled_from((*SPANS, None)))
    return log(draw(st.sampled_from(["l1", "l2", "l3"])), at_span, kind, data, at=draw(_few), **public)


@st.composite
def _of_event(draw: st.DrawFn, family: Family) -> Leaf:
    (kind, data), public = draw(_data(family)), draw(_public)
    at_span = {"trace": {"trace_id": TRACE, "span_id": hex_id(draw(st.sampled_from(SPANS)))}}
    trace = draw(st.sampled_from([{}, {"trace": {"trace_id": TRACE}}, at_span]))
    time = draw(st.sampled_from([{}, {"time": None}]))
    found = event(draw(st.sampled_from(["e1", "e2", "e3"])), kind, {**data, **trace}, at=draw(_few))
    return Leaf(**{**{name: getattr(found, name) for name in Leaf.__slots__}, **public, **time})


@st.composite
def runs(draw: st.DrawFn) -> list[Leaf]:
    """What stands in a log: any leaves, each id once."""
    family = draw(st.sampled_from(_FAMILIES))
    spans = draw(st.lists(st.sampled_from(SPANS), max_size=len(SPANS), unique=True))
    leaves = [draw(_of_span(family, name, None)) for name in spans]
    derived = draw(st.lists(st.tuples(st.sampled_from(SPANS), st.integers(0, 1)), max_size=4))
    leaves += [draw(_of_span(family, name, nth)) for name, nth in derived]
    leaves += draw(st.lists(_of_log(family) | _of_event(family), max_size=4))
    return list({one.id: one for one in leaves}.values())
