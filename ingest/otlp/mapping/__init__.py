"""OTLP spans, span events and log records as drafts of our kinds. Pure.

Guarantees: each span and each log record gives one `Mapped`, in the request's order; nothing that one holds makes this
raise, and what a draft says depends on that one span or record with its resource and scope alone, never on what came
before or with it. What no rule reads is kept in /raw of the span's (or record's) own draft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from ingest.otlp.mapping.logs import log_drafts
from ingest.otlp.mapping.normal import normal_span
from ingest.otlp.mapping.origin import Origin, log_bytes, origins
from ingest.otlp.mapping.spans import span_drafts
from schemas.errors import Rejection
from schemas.event import Draft

__all__ = ["Mapped", "map_request"]

log = structlog.get_logger("tallystick.ingest")


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one span or log record became: its own draft first, then what follows from it; or why it is refused."""

    drafts: Sequence[Draft]
    wire: bytes
    """Deterministic protobuf of a request holding its resource, its scope and it alone (see `origin`)."""
    refusal: Rejection | None = None


def map_request(signal: Literal["spans", "logs"], request: Any) -> Iterator[Mapped]:
    """One `Mapped` per span or log record of the request, in its order. `request`: an ExportTraceServiceRequest for
    spans, an ExportLogsServiceRequest for logs. It is brought into its normal form (see `normal`)."""
    if signal == "spans":
        for container in request.resource_spans:
            for origin, spans in origins(container):
                for span in spans:
                    yield _mapped(span_drafts, origin, span, origin.wire(normal_span(span)))
    else:
        for container in request.resource_logs:
            for origin, records in origins(container):
                for record in records:
                    yield _mapped(log_drafts, origin, record, origin.wire(log_bytes(record)))


def _mapped(drafts_of: Callable[[Origin, Any, bytes], list[Draft]], origin: Origin, record: Any, wire: bytes) -> Mapped:
    try:
        drafts = drafts_of(origin, record, wire)
    except Rejection as refusal:
        return Mapped((), wire, refusal)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        log.error("a span or log record can't be mapped for a defect; it is kept as rejected", exc_info=error)
        detail = f"{type(error).__name__} while it was mapped: a defect of the ledger, not of what was sent"
        return Mapped((), wire, Rejection("defect", detail))
    for draft in drafts:
        draft.wire = wire
    return Mapped(drafts, wire)
