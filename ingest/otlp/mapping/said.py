"""What one span, span event or log record said, read once; each attribute is used by a rule or kept for /raw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import orjson

from ingest.otlp.mapping.anyvalue import json_text
from ingest.otlp.mapping.events import MessageEvents
from ingest.otlp.mapping.forms import content
from schemas.event import Content
from schemas.raw import escape

T = TypeVar("T")
Form = Callable[[Any], T | None]

# Names in /raw with these beginnings are ours; an attribute whose own name could be taken for one is named by pointer.
_RESERVED: Final = ("/", "ce:", "otlp:")
DIRECT: Final = "tallystick.data."  # members said in our own words: see `direct`
# Where OpenInference says the type of a value; content has a type of its own.
_MIME_TYPES: Final = {"input.value": "input.mime_type", "output.value": "output.mime_type"}


class Said:
    """Attributes, and what conventions read out of them (`more`: a JSON attribute's members, rebuilt lists, events).

    Taking a value marks the attributes that it came from (`behind` tells them for `more`); what is not marked is
    `unused`. An attribute itself counts before what stands under the same name in `more`. `direct`: the names of
    `tallystick.data.*`.
    """

    __slots__ = ("attributes", "behind", "direct", "more", "repeated", "used")

    def __init__(self, attributes: dict[str, Any], repeated: Sequence[tuple[str, Any]] = ()) -> None:
        self.attributes = attributes
        self.repeated = repeated
        self.more: dict[str, Any] = {}
        self.behind: dict[str, Iterable[str]] = {}
        self.used: set[str] = set()
        self.direct = [name for name in attributes if name.startswith(DIRECT)]

    def get(self, name: str) -> Any:
        """The value as it came, without taking it."""
        attributes = self.attributes
        return attributes[name] if name in attributes else self.more.get(name)

    def first(self, names: Sequence[str], form: Form[T]) -> T | None:
        """The first value among these names that has the form. A later name with an equal value counts as used too;
        one that says something else stays for /raw."""
        attributes, more = self.attributes, self.more
        if attributes.keys().isdisjoint(names) and (not more or more.keys().isdisjoint(names)):
            return None  # most names of most fields: asked at once
        found: T | None = None
        used = self.used
        for name in names:
            told = name in attributes
            if not told and name not in more:
                continue
            value = form(attributes[name] if told else more[name])
            if value is None or (found is not None and value != found):
                continue
            found = value
            used.add(name)
            if not told and name in self.behind:
                used.update(self.behind[name])
        return found

    def peek(self, names: Iterable[str], form: Form[T]) -> T | None:
        """As `first`, but what it came from stays for /raw too: the value says less than the attribute does."""
        for name in names:
            value = self.get(name)
            if value is not None and (found := form(value)) is not None:
                return found
        return None

    def content(self, pointer: str, names: Sequence[str], *, as_json: bool = False) -> Content | None:
        """The first of these that is there, as content with its exact text. An empty one says nothing."""
        more = self.more
        if self.attributes.keys().isdisjoint(names) and (not more or more.keys().isdisjoint(names)):
            return None
        if self.direct and self.is_direct(pointer[1:]):
            return None
        for name in names:
            value = self.get(name)
            if value is not None and value != "":
                self.use(name)
                if type(value) is MessageEvents:
                    value = value.take(self.used)
                found = content(pointer, value, as_json=as_json)
                if name in _MIME_TYPES and self.attributes.get(_MIME_TYPES[name]) == found.type:
                    self.used.add(_MIME_TYPES[name])
                return found
        return None

    def is_direct(self, member: str) -> bool:
        """Whether `tallystick.data.*` says this member: then no other name does, and what others say is kept."""
        name = DIRECT + member
        return any(said == name or said.startswith(name + ".") for said in self.direct)

    def use(self, name: str) -> None:
        """Count the name as used, and what it is made of."""
        self.used.add(name)
        if name not in self.attributes:
            self.used.update(self.behind.get(name, ()))

    def unused(self) -> list[tuple[str, bytes]]:
        """What no rule took, as /raw has it."""
        used = self.used
        raw = [
            (
                raw_name(name) if name.startswith(_RESERVED) else name,
                orjson.dumps(value) if type(value) is str else json_text(value),
            )
            for name, value in self.attributes.items()
            if name not in used
        ]
        raw += [(f"otlp:repeated/{at}/{name}", json_text(value)) for at, (name, value) in enumerate(self.repeated)]
        return raw


def raw_name(name: str) -> str:
    """An attribute's name in /raw."""
    return "/" + escape(name) if name.startswith(_RESERVED) else name
