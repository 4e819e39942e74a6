"""Metrics are not recorded: their data points are counted, and that is all. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ingest.errors import Refused
from ingest.otlp.framing import Malformed, fields
from ingest.otlp.jsonform import OBJECTS_MAX
from ingest.otlp.wire import Encoding

_RESOURCES: Final = 1 << 3 | 2
_LIST: Final = 2 << 3 | 2  # scopes in a resource, metrics in a scope
_POINTS: Final = 1 << 3 | 2
_KINDS: Final = frozenset(number << 3 | 2 for number in (5, 7, 9, 10, 11))  # gauge, sum, histograms, summary


class _Object(msgspec.Struct, gc=False):
    """Any object; nothing of it is built."""


class _Points(msgspec.Struct, rename="camel"):
    data_points: list[_Object] | None = None


class _Metric(msgspec.Struct, rename="camel"):
    gauge: _Points | None = None
    sum: _Points | None = None
    histogram: _Points | None = None
    exponential_histogram: _Points | None = None
    summary: _Points | None = None


class _Scope(msgspec.Struct, rename="camel"):
    metrics: list[_Metric] | None = None


class _Resource(msgspec.Struct, rename="camel"):
    scope_metrics: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_metrics: list[_Resource] | None = None


def count_points(body: bytes | bytearray, encoding: Encoding) -> int:
    """How many data points a request for metrics has. Raises Refused where it is none."""
    try:
        return sum(1 for _ in _in_protobuf(body)) if encoding == "proto" else _in_json(body)
    except (Malformed, msgspec.DecodeError, RecursionError) as error:
        raise Refused("not_otlp", "the body is not an OTLP request for metrics") from error


def _in_protobuf(body: bytes | bytearray) -> Iterator[int]:
    waiting = [(0, len(body), 0)]
    levels = (frozenset({_RESOURCES}), frozenset({_LIST}), frozenset({_LIST}), _KINDS, frozenset({_POINTS}))
    while waiting:
        start, end, depth = waiting.pop()
        for tag, _, payload, stop in fields(body, start, end):
            if tag in levels[depth]:
                if depth == len(levels) - 1:
                    yield 1
                else:
                    waiting.append((payload, stop, depth + 1))


def _in_json(body: bytes | bytearray) -> int:
    if body.count(b"{") > OBJECTS_MAX:
        raise Refused("too_large", f"the JSON text has more than {OBJECTS_MAX:,} objects")
    request = msgspec.json.decode(body, type=_Request)
    return sum(
        len(points.data_points or ())
        for resource in request.resource_metrics or ()
        for scope in resource.scope_metrics or ()
        for metric in scope.metrics or ()
        for points in (metric.gauge, metric.sum, metric.histogram, metric.exponential_histogram, metric.summary)
        if points is not None
    )
