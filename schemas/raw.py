"""/raw: the JSON object of what was received and has no place, each with its exact text.

Names: a member of `data` under its own name; an unknown member of a nested object under its JSON pointer (`/effect/x`);
a CloudEvents attribute with `ce:` before it. A member whose own name could be taken for one of those is named by
pointer.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas import jsontext


def escape(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def raw_name(name: str) -> str:
    """An unknown member's name in /raw."""
    return "/" + escape(name) if name.startswith(("/", "ce:")) else name


def raw_object(unmapped: Iterable[tuple[str, bytes]]) -> bytes:
    """The object's text, from names and exact texts."""
    return b"{" + b",".join(b"%b:%b" % (jsontext.quote(name), text) for name, text in unmapped) + b"}"
