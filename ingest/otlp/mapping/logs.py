"""Log records: one draft each of what they say."""

from __future__ import annotations

from hashlib import sha256

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.otlp.mapping.anyvalue import json_text, read, read_attributes
from ingest.otlp.mapping.origin import Origin
from ingest.otlp.mapping.said import Said
from ingest.otlp.mapping.times import timestamp_of
from schemas.event import Draft
from schemas.ids import log_record_id
from schemas.values import is_run_id


def log_drafts(origin: Origin, record: LogRecord, wire: bytes) -> list[Draft]:
    """The record's own draft first."""
    attributes, repeated = read_attributes(record.attributes)
    said = Said(attributes, repeated)
    run = attributes.get("tallystick.run_id") or origin.resource.get("tallystick.run_id")
    if not is_run_id(run):
        run = record.trace_id.hex() if len(record.trace_id) == 16 and any(record.trace_id) else None
    draft = Draft(log_record_id(sha256(wire).hexdigest()), "span", "log", run=run)
    draft.tenant = origin.resource.get("tallystick.tenant")
    draft.time = timestamp_of(record.time_unix_nano or record.observed_time_unix_nano)
    draft.data["name"] = record.event_name or "log"
    draft.data["class"] = "log"
    draft.raw = said.unused()
    draft.raw.append(("otlp:body", json_text(read(record.body))))
    draft.raw.append(("otlp:resource", json_text(origin.resource)))
    return [draft]
