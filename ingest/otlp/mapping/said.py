"""What one span, span event or log record said, read once; each attribute is used by a rule or kept for /raw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from ingest.otlp.mapping.anyvalue import json_text
from schemas.raw import escape

T = TypeVar("T")
Form = Callable[[Any], T | None]

# Names in /raw with these beginnings are ours; an attribute whose own name could be taken for one is named by pointer.
_RESERVED: Final = ("/", "ce:", "otlp:")


class Said:
    """Attributes and what was read out of them (`more`: members of JSON-valued attributes, under `attribute.member`).

    `first` takes a value by precedence and marks the names it came from; what is not marked is `unused`.
    """

    __slots__ = ("attributes", "more", "repeated", "used")

    def __init__(self, attributes: dict[str, Any], repeated: Sequence[tuple[str, Any]] = ()) -> None:
        self.attributes = attributes
        self.repeated = repeated
        self.more: dict[str, Any] = {}
        self.used: set[str] = set()

    def first(self, names: Iterable[str], form: Form[T]) -> T | None:
        """The first value among these names that has the form. A later name with an equal value counts as used too;
        one that says something else stays for /raw."""
        attributes, more = self.attributes, self.more
        found: T | None = None
        for name in names:
            if name in attributes:
                value = form(attributes[name])
            elif name in more:
                value = form(more[name])
            else:
                continue
            if value is None:
                continue
            if found is None:
                found = value
            elif value != found:
                continue
            self.used.add(name)
        return found

    def unused(self) -> list[tuple[str, bytes]]:
        """What no rule took, as /raw has it."""
        used = self.used
        raw = [(raw_name(name), json_text(value)) for name, value in self.attributes.items() if name not in used]
        raw += [(f"otlp:repeated/{at}/{name}", json_text(value)) for at, (name, value) in enumerate(self.repeated)]
        return raw


def raw_name(name: str) -> str:
    """An attribute's name in /raw."""
    return "/" + escape(name) if name.startswith(_RESERVED) else name
