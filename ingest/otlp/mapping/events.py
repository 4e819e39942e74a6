"""Span events as they came, for the rules to read and for /raw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.otlp.mapping.anyvalue import json_text, read_attributes

_TEXTS = (
    "content",
    "message",
    "gen_ai.event.content",
    "gen_ai.prompt",
    "gen_ai.completion",
)  # what the text of a message event stands in


@dataclass(slots=True)
class SpanEvent:
    """One event of a span."""

    index: int
    name: str
    time_ns: int
    attributes: dict[str, Any]
    repeated: list[tuple[str, Any]]
    dropped: int

    def key(self, attribute: str) -> str:
        """How one of its attributes is named among what rules have used."""
        return f"<event {self.index}>{attribute}"

    def keys(self) -> Iterable[str]:
        return [self.key(attribute) for attribute in self.attributes]

    def raw(self, used: set[str]) -> dict[str, Any]:
        """What of it /raw keeps: its name and time always, its attributes where no rule took them."""
        kept: dict[str, Any] = {"name": self.name, "time_unix_nano": str(self.time_ns)}
        attributes = {name: value for name, value in self.attributes.items() if self.key(name) not in used}
        if attributes:
            kept["attributes"] = attributes
        if self.repeated:
            kept["repeated_attributes"] = [list(pair) for pair in self.repeated]
        if self.dropped:
            kept["dropped_attributes_count"] = self.dropped
        return kept


class MessageEvents:
    """Message events as content: of a single one the exact text, of several a list of their names and attributes."""

    __slots__ = ("events",)

    def __init__(self, events: list[SpanEvent]) -> None:
        self.events = events

    def take(self, used: set[str]) -> Any:
        """The content's value; what it is made of counts as used."""
        if len(self.events) == 1:
            event = self.events[0]
            for name in _TEXTS:
                if name in event.attributes:
                    used.add(event.key(name))
                    return event.attributes[name]
        for event in self.events:
            used.update(event.keys())
        return [{"name": event.name, "attributes": event.attributes} for event in self.events]


def read_events(span: Span) -> list[SpanEvent]:
    """The span's events in their order."""
    return [
        SpanEvent(
            index, event.name, event.time_unix_nano, *read_attributes(event.attributes), event.dropped_attributes_count
        )
        for index, event in enumerate(span.events)
    ]


def raw_events(events: list[SpanEvent], used: set[str]) -> bytes:
    return json_text([event.raw(used) for event in events])
