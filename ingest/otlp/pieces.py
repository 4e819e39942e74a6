"""A record's request, or what can be read of it. Pure.

A Collector passes strings on that are not UTF-8, which no reader of protobuf takes: of a batch of many runs, one such
string would lose them all. So what doesn't parse whole is cut up, and only the span that doesn't parse is refused. So
is a span of JSON that is not as OTLP writes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingest.errors import Refused
from ingest.otlp.forms import FORMS
from ingest.otlp.split import FRAME_BYTES, split
from ingest.otlp.wire import Request, Signal, looks_like_json, parse, protobuf_of


def requests_in(signal: Signal, value: bytes) -> Iterator[tuple[bytes, Request | Refused]]:
    """(bytes, the request they are, or why it can't be read): the whole value, or the pieces of one that can't be read
    as a whole. Raises Refused before the first, where nothing of it can be."""
    written, broken = protobuf_of(signal, value) if looks_like_json(value) else (value, None)
    try:
        whole = parse(signal, written, "proto")
    except Refused as refusal:
        if refusal.code not in ("not_otlp", "too_deep"):
            raise
        cut = split(signal, written, len(written) + FRAME_BYTES)  # raises Refused, of the same code
    else:
        yield value, whole
        return
    for part in cut.parts():
        try:
            yield part.value, parse(signal, part.value, "proto")
        except Refused as refusal:
            record = FORMS[signal].record.DESCRIPTOR.name
            yield part.value, broken or Refused(refusal.code, f"this {record} can't be read")
