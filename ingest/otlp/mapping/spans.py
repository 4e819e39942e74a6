"""Spans: one draft of a span's own kind, and those of what it plainly contains."""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.otlp.mapping.anyvalue import json_text, read_attributes
from ingest.otlp.mapping.origin import Origin
from ingest.otlp.mapping.said import Said
from ingest.otlp.mapping.times import latency_us, timestamp_of
from schemas.errors import Rejection
from schemas.event import Draft
from schemas.ids import span_id as id_of_span
from schemas.values import is_run_id

_KINDS: Final = {
    "chat": "model_call",
    "generate_content": "model_call",
    "text_completion": "model_call",
    "embeddings": "model_call",
    "execute_tool": "tool_call",
    "retrieval": "retrieval",
    "LLM": "model_call",
    "EMBEDDING": "model_call",
    "TOOL": "tool_call",
    "RETRIEVER": "retrieval",
}


def span_drafts(origin: Origin, span: Span, wire: bytes) -> list[Draft]:
    """The span's own draft first. Raises Rejection `bad_id` for a span without valid ids."""
    if len(span.trace_id) != 16 or not any(span.trace_id):
        raise Rejection("bad_id", "trace_id: expected 16 bytes, not all zero")
    if len(span.span_id) != 8 or not any(span.span_id):
        raise Rejection("bad_id", "span_id: expected 8 bytes, not all zero")
    trace, own = span.trace_id.hex(), span.span_id.hex()
    attributes, repeated = read_attributes(span.attributes)
    said = Said(attributes, repeated)
    word: Any = attributes.get("gen_ai.operation.name") or attributes.get("openinference.span.kind")
    kind = _KINDS.get(word, "span") if type(word) is str else "span"
    run = attributes.get("tallystick.run_id") or origin.resource.get("tallystick.run_id")
    draft = Draft(id_of_span(trace, own), kind, "span", run=run if is_run_id(run) else trace)
    draft.tenant = origin.resource.get("tallystick.tenant")
    draft.time = timestamp_of(span.start_time_unix_nano)
    draft.data["trace"] = {"trace_id": trace, "span_id": own}
    if len(span.parent_span_id) == 8:
        parent = span.parent_span_id.hex()
        draft.data["trace"]["parent_span_id"] = parent
        draft.data["parent"] = id_of_span(trace, parent)
    latency = latency_us(span.start_time_unix_nano, span.end_time_unix_nano)
    if latency is not None:
        draft.data["latency_us"] = latency
    if kind == "span":
        draft.data["name"] = span.name or "unnamed"
    draft.raw = said.unused()
    draft.raw.append(("otlp:resource", json_text(origin.resource)))
    return [draft]
