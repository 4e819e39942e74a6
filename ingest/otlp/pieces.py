"""A record's request, or what can be read of it. Pure.

A Collector passes strings on that are not UTF-8, which no reader of protobuf takes: of a batch of many runs, one such
string would lose them all. So what doesn't parse whole is cut up, and only the span that doesn't parse is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingest.errors import Refused
from ingest.otlp.split import FRAME_BYTES, split
from ingest.otlp.wire import Request, Signal, looks_like_json, parse


def requests_in(signal: Signal, value: bytes) -> Iterator[tuple[bytes, Request | Refused]]:
    """(bytes, the request they are, or why it can't be read): the whole value, or the pieces of one that can't be read
    as a whole. Raises Refused before the first, where nothing of it can be."""
    is_json = looks_like_json(value)
    try:
        whole = parse(signal, value, "json" if is_json else "proto")
    except Refused as refusal:
        if is_json or refusal.code not in ("not_otlp", "too_deep"):
            raise
        cut = split(signal, value, len(value) + FRAME_BYTES)  # raises Refused, of the same code
    else:
        yield value, whole
        return
    for part in cut.parts():
        try:
            yield part.value, parse(signal, part.value, "proto")
        except Refused as refusal:
            yield part.value, refusal
