"""The envelope onto every span and log record, when it starts.

Guarantees: what a span says itself is left as it is; nothing is raised into the agent. Doesn't: keep attributes from
being dropped. A span that gets more attributes than its provider's limit (128 unless OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT
says otherwise) loses its oldest, and those are the envelope's: its run would be its trace. That is told once, at the
first such span; `start` sets no limit.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from .envelope import Reach, attributes_in, called_in
from .names import PREFIX, logger


class EnvelopeSpanProcessor(SpanProcessor):
    """Add it to a TracerProvider. `accept`: what counts of the baggage of requests that come in, for spans outside any
    envelope of this process."""

    def __init__(self, accept: Reach = "nothing") -> None:
        self._accept, self._told = accept, False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put the envelope's attributes on a span, but for those it has; link a root to where its run was begun."""
        try:
            own = span.attributes or {}
            said = attributes_in(parent_context, self._accept)
            span.set_attributes({name: value for name, value in said.items() if name not in own})
            if span.parent is None and (caller := called_in(parent_context)) is not None:
                span.add_link(caller)
        except Exception:  # a span without its envelope is better than an agent that fails
            logger.warning("a span got no envelope", exc_info=True)

    def on_end(self, span: ReadableSpan) -> None:
        """Tell, once, that a limit took the envelope from a span."""
        if self._told or not span.dropped_attributes or attributes_in(None, self._accept) == {}:
            return
        if not any(name.startswith(PREFIX) for name in span.attributes or {}):
            self._told = True
            logger.warning(
                "span %r lost its envelope with %d other attributes: set OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT higher",
                span.name,
                span.dropped_attributes,
            )


class EnvelopeLogProcessor(LogRecordProcessor):
    """Add it to a LoggerProvider, before the processors that export."""

    def __init__(self, accept: Reach = "nothing") -> None:
        self._accept = accept

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Put the envelope's attributes on a log record, but for those it has."""
        try:
            record = log_record.log_record
            said = attributes_in(record.context, self._accept)
            own = record.attributes
            if isinstance(own, MutableMapping):  # the SDK's own, which counts what it drops
                own.update({name: value for name, value in said.items() if name not in own})
            else:
                record.attributes = said | dict(own or {})
        except Exception:  # as above
            logger.warning("a log record got no envelope", exc_info=True)

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held."""
        return True
