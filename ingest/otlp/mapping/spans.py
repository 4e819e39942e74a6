"""Spans: the draft of a span's own kind, and those of what the span plainly contains."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import orjson
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ingest.otlp.mapping import approvals, calls, conventions, direct, errors, gaps, judgements, runs
from ingest.otlp.mapping.anyvalue import json_text, read_attributes, unknown_fields
from ingest.otlp.mapping.classify import Role, classify, told_by_kind
from ingest.otlp.mapping.conventions import genai
from ingest.otlp.mapping.events import SpanEvent, raw_events, read_events
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.origin import Origin
from ingest.otlp.mapping.said import Said
from ingest.otlp.mapping.times import latency_us, timestamp_of
from schemas.errors import Rejection
from schemas.event import Draft
from schemas.ids import span_id as id_of_span

_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
_DROPPED: Final = ("dropped_attributes_count", "dropped_events_count", "dropped_links_count")
_LEAVES: Final[dict[Role, Callable[[Item], Draft]]] = {
    "model_call": calls.model_call,
    "retrieval": calls.retrieval,
    "policy_decision": judgements.policy_decision,
    "validator": judgements.validator,
    "approval_request": approvals.asked,
    "approval_decision": approvals.decided,
}


def span_drafts(origin: Origin, span: Span, wire: bytes) -> list[Draft]:
    """The span's own draft first. Raises Rejection `bad_id` for a span without valid ids, `schema` for a tenant or data
    subjects that can't be."""
    item = _item(origin, span)
    conventions.read(item)
    item.begin()
    failures, interrupted = errors.split_exceptions(item)
    role = classify(item.said, item.name, origin.scope_name, not item.is_root)
    own = _own(item, role)
    _derive(item, role, own, failures, interrupted)
    dropped = (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count)
    gaps.gaps(item, (dropped[0] + _dropped_around(span, item), *dropped[1:]))
    own.raw += _raw(item, span, dropped)
    return [own, *item.derived]


def _item(origin: Origin, span: Span) -> Item:
    trace_bytes, span_bytes, parent_bytes = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_bytes) != 16 or trace_bytes == _NO_TRACE:
        raise Rejection("bad_id", "trace_id: expected 16 bytes, not all zero")
    if len(span_bytes) != 8 or span_bytes == _NO_SPAN:
        raise Rejection("bad_id", "span_id: expected 8 bytes, not all zero")
    trace_id, own = trace_bytes.hex(), span_bytes.hex()
    trace = {"trace_id": trace_id, "span_id": own}
    parent = None
    if len(parent_bytes) == 8 and parent_bytes != _NO_SPAN:
        trace["parent_span_id"] = parent_bytes.hex()
        parent = _parent_id(trace_id, trace["parent_span_id"])
    start, end, status = span.start_time_unix_nano, span.end_time_unix_nano, span.status
    return Item(
        origin,
        Said(*read_attributes(span.attributes)),
        span.name,
        "span",
        id_of_span(trace_id, own),
        f"otlp\n{trace_id}\n{own}",
        trace,
        parent,
        timestamp_of(start),
        end=timestamp_of(end),
        start_ns=start,
        end_ns=end,
        latency_us=latency_us(start, end),
        status=status.code,
        failed=status.code == Status.STATUS_CODE_ERROR,
        status_message=status.message,
        is_root=parent is None,
        events=read_events(span) if span.events else [],
    )


@lru_cache(maxsize=4096)
def _parent_id(trace_id: str, parent: str) -> str:
    """Siblings have one parent: its id is computed once for them."""
    return id_of_span(trace_id, parent)


def _own(item: Item, role: Role) -> Draft:
    """The draft with the span's own id."""
    said = item.said
    told = direct.kind_said(said.attributes, "")
    if told is not None:
        said.used.add(direct.KIND)
        own = item.draft(told)
    elif role == "tool_call":
        own = approvals.of_tool(item) or calls.tool_call(item)
    elif role in _LEAVES:
        own = _LEAVES[role](item)
    elif role in ("memory_read", "memory_write", "memory_delete"):
        own = calls.memory(item, role)
    elif role in ("agent", "workflow") and item.is_root:
        own = runs.run_finished(item)
    elif role in ("agent", "workflow", "handoff"):
        own = runs.delegation(item, role)
    else:
        own = runs.plain_span(item, role)
    told_by_kind(item.said)
    direct.apply(own, said, said.used)
    return own


def _derive(item: Item, role: Role, own: Draft, failures: list[SpanEvent], interrupted: list[SpanEvent]) -> None:
    """What follows from the span besides its own kind."""
    if item.is_root and own.kind != "run_started" and (own.kind == "run_finished" or runs.has_envelope(item)):
        runs.run_started(item)
    if role == "agent" or role == "workflow":
        approvals.answered_calls(item)
        approvals.deferred_calls(item)
    else:
        approvals.resumed_graphs(item)
    errors.interrupts(item, interrupted)
    errors.errors(item, failures)
    judgements.retries(item)
    approvals.routing(item)
    judgements.beside(item, own.kind)
    judgements.feedback(item)
    for event in item.events:
        _event(item, event)


def _event(item: Item, event: SpanEvent) -> None:
    """An event that is of a kind itself."""
    told = direct.kind_said(event.attributes, event.name)
    if told is not None:
        kind = told
    elif event.name == genai.EVALUATION_RESULT:
        kind = "validator"
    elif event.name == genai.GUARDRAIL_RESULT:
        kind = "policy_decision"
    else:
        return
    if item.full:
        return
    draft = item.derive(kind, "span_event", timestamp_of(event.time_ns))
    said = Said(event.attributes)
    if told is None:
        (judgements.evaluate if kind == "validator" else judgements.judge)(said, draft)
    item.said.used.update(event.key(name) for name in said.used)
    if told is not None:
        item.said.used.add(event.key(direct.KIND))
    direct.apply(draft, said, item.said.used, event.key(""))


def _dropped_around(span: Span, item: Item) -> int:
    """Attributes that the span's events and links, its resource and its scope say they lost."""
    lost: int = item.origin.dropped
    if item.events:
        lost += sum(event.dropped for event in item.events)
    return lost + sum(link.dropped_attributes_count for link in span.links) if span.links else lost


def _raw(item: Item, span: Span, dropped: tuple[int, int, int]) -> list[tuple[str, bytes]]:
    """What the span said that no rule took: attributes under their names, the rest under names of `otlp:`."""
    raw = item.said.unused()
    if item.events:
        raw.append(("otlp:events", raw_events(item.events, item.said.used)))
    if span.links:
        raw.append(("otlp:links", json_text([_link(link) for link in span.links])))
    rest: dict[str, Any] = {
        "name": item.name,
        "kind": span.kind,
        "start_time_unix_nano": str(item.start_ns),
        "end_time_unix_nano": str(item.end_ns),
    }
    if flags := span.flags:
        rest["flags"] = flags
    if trace_state := span.trace_state:
        rest["trace_state"] = trace_state
    if item.status:
        rest["status"] = item.status
    if item.status_message and "<status message>" not in item.said.used:
        rest["status_message"] = item.status_message
    if "parent_span_id" not in item.trace and (parent := span.parent_span_id):
        rest["parent_span_id"] = parent.hex()
    if unknown := unknown_fields(span):
        rest["unknown_fields"] = unknown
    if any(dropped):
        rest.update(zip(_DROPPED, dropped, strict=True))
    raw.append(("otlp:span", json_text(rest) if unknown else orjson.dumps(rest)))
    raw += item.origin.raw(item.resource_used)
    return raw


def _link(link: Span.Link) -> dict[str, Any]:
    attributes, repeated = read_attributes(link.attributes)
    told: dict[str, Any] = {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "trace_state": link.trace_state,
        "attributes": attributes,
        "repeated_attributes": [list(pair) for pair in repeated],
        "dropped_attributes_count": link.dropped_attributes_count,
        "flags": link.flags,
    }
    return {name: value for name, value in told.items() if value}
