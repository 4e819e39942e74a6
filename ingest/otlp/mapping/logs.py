"""Log records: the draft of what a record says. A record about a span names it in `trace`, and as its parent."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.otlp.mapping import calls, clear, conventions, direct, errors, forms, gaps, judgements, told_in_logs
from ingest.otlp.mapping.anyvalue import json_text, read, read_attributes, unknown_fields
from ingest.otlp.mapping.classify import told_by_kind
from ingest.otlp.mapping.conventions import coding_agents, genai
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.origin import Origin
from ingest.otlp.mapping.said import Said
from ingest.otlp.mapping.times import timestamp_of
from schemas.event import Draft
from schemas.ids import log_record_id
from schemas.ids import span_id as id_of_span

_EVENT_NAME = "event.name"  # where the name stood before records had one


def log_drafts(origin: Origin, record: LogRecord, wire: bytes) -> list[Draft]:
    """The record's own draft first. Raises Rejection `schema` for a tenant or data subjects that can't be."""
    item = _item(origin, record, wire)
    body = read(record.body)
    if item.name == genai.DETAILS and type(body) is dict:
        item.said.more.update(body)
    conventions.read(item)
    event = coding_agents.event_of(item.name, origin.scope_name, item.said)
    if event is not None:
        coding_agents.read(event, item.said)
    item.begin()
    own = _own(item, event)
    judgements.feedback(item)
    gaps.gaps(item, (record.dropped_attributes_count + origin.dropped,))
    own.raw += _raw(item, record, body)
    return [own, *item.derived]


def _item(origin: Origin, record: LogRecord, wire: bytes) -> Item:
    digest = sha256(wire).hexdigest()
    said = Said(*read_attributes(record.attributes))
    trace: dict[str, str] = {}
    parent = None
    if len(record.trace_id) == 16 and any(record.trace_id):
        trace["trace_id"] = record.trace_id.hex()
        if len(record.span_id) == 8 and any(record.span_id):
            trace["span_id"] = record.span_id.hex()
            parent = id_of_span(trace["trace_id"], trace["span_id"])
    name = record.event_name or said.first((_EVENT_NAME,), forms.name) or ""
    time = timestamp_of(record.time_unix_nano or record.observed_time_unix_nano)
    return Item(origin, said, name, "log", log_record_id(digest), f"otlp-log\n{digest}", trace, parent, time)


def _own(item: Item, event: coding_agents.Event | None) -> Draft:
    said = item.said
    told = direct.kind_said(said.attributes, item.name)
    own: Draft | None
    if told is not None:
        said.used.add(direct.KIND)
        own = item.draft(told)
    elif item.name == genai.DETAILS:
        item.failed = "error.type" in said.attributes
        own = calls.model_call(item)
        told_by_kind(said)
        errors.errors(item, [])
    elif item.name == genai.EVALUATION_RESULT:
        own = item.draft("validator")
        judgements.evaluate(said, own)
    elif item.name == genai.GUARDRAIL_RESULT:
        own = item.draft("policy_decision")
        judgements.judge(said, own)
    elif event is not None:
        own = told_in_logs.own(item, event)
    else:
        own = errors.exception_of_log(item) or _plain(item)
    direct.apply(own, said, said.used)
    return own


def _plain(item: Item) -> Draft:
    """A record that is of no kind: under its event's name, else its logger's."""
    own = item.draft("span")
    name = clear.span_name(item.name or item.origin.scope_name)
    if name is not None:
        own.data["name"] = name
    own.data["class"] = "log"
    return own


def _raw(item: Item, record: LogRecord, body: Any) -> list[tuple[str, bytes]]:
    raw = item.said.unused()
    rest: dict[str, Any] = {
        "event_name": record.event_name,
        "time_unix_nano": record.time_unix_nano and str(record.time_unix_nano),
        "observed_time_unix_nano": record.observed_time_unix_nano and str(record.observed_time_unix_nano),
        "severity_number": record.severity_number,
        "severity_text": record.severity_text,
        "flags": record.flags,
        "dropped_attributes_count": record.dropped_attributes_count,
    }
    if unknown := unknown_fields(record):
        rest["unknown_fields"] = unknown
    if record.trace_id and "trace_id" not in item.trace:
        rest["trace_id"] = record.trace_id
    if record.span_id and "span_id" not in item.trace:
        rest["span_id"] = record.span_id
    raw.append(("otlp:log", json_text({name: value for name, value in rest.items() if value})))
    if body is not None:
        raw.append(("otlp:body", json_text(body)))
    raw += item.origin.raw(item.resource_used)
    return raw
