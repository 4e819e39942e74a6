"""Kinds said directly: `tallystick.kind` on a span, span event or log record; its members as `tallystick.data.…`.

Members of nested objects are dotted (`tallystick.data.effect.amount`); objects, lists and content may also be JSON
text. A value that the kind refuses stays for /raw. Who may say which kind is decided later, as for CloudEvents: a kind
of the ledger's own is refused, never turned into another.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import DIRECT, Said
from schemas.compile import Nested, UnknownMember
from schemas.errors import SchemaError
from schemas.event import Draft
from schemas.ids import span_id
from schemas.kinds import KINDS

KIND: Final = "tallystick.kind"
_NAMED: Final = re.compile(r"tallystick\.([a-z_]{1,64})")
_SPAN: Final = re.compile(r"[0-9a-f]{16}")
_SPAN_OF_TRACE: Final = re.compile(r"([0-9a-f]{32})[/:-]([0-9a-f]{16})")
DEPTH_MAX: Final = 8  # parts of a dotted member
# Whoever acts stands in the envelope, the trace is the span's; an attestation is over `data` as sent.
_NOT_DIRECT: Final = frozenset({"actor", "attestation", "trace"})


def kind_said(attributes: dict[str, Any], name: str) -> str | None:
    """The kind that `tallystick.kind` or an event's name says; any text in `tallystick.kind` counts as one."""
    told = attributes.get(KIND)
    if type(told) is str:
        return told
    match = _NAMED.fullmatch(name)
    return match[1] if match and match[1] in KINDS else None


def apply(draft: Draft, said: Said, used: set[str], prefix: str = "") -> None:
    """Put the members said as `tallystick.data.*` into the draft. `prefix`: what the names in `used` begin with."""
    kind = KINDS.get(draft.kind)
    if kind is None or not said.direct:
        return
    attributes = said.attributes
    shape = kind.shape
    objects: dict[str, dict[str, Any]] = {}
    sources: dict[str, list[str]] = {}
    before = dict(draft.data)
    for name in said.direct:
        value = attributes[name]
        member, _, path = name[len(DIRECT) :].partition(".")
        if member in shape.content and not path:
            draft.content = [one for one in draft.content if one.pointer != "/" + member]
            draft.content.append(forms.content("/" + member, value, as_json=True))
            used.add(prefix + name)
        elif member in shape.persons:
            person = forms.person(value)
            if person is not None and not path:
                draft.persons.append(("/" + member, person))
                used.add(prefix + name)
        elif member in _NOT_DIRECT:
            continue
        elif member in shape.checks:
            if not path:
                _set(draft, member, value, shape.nested.get(member))
                sources.setdefault(member, []).append(name)
            elif forms.put_at(objects.setdefault(member, {}), path.split("."), value, DEPTH_MAX):
                sources.setdefault(member, []).append(name)
    for member, found in objects.items():
        if member not in draft.data or type(draft.data[member]) is not dict:
            draft.data[member] = forms.decimals(found)
        else:
            draft.data[member] = {**draft.data[member], **forms.decimals(found)}
    for member, names in sources.items():
        if _settle(draft, member):
            used.update(prefix + name for name in names)
        elif member in before:
            draft.data[member] = before[member]


def _set(draft: Draft, member: str, value: Any, nested: Nested | None) -> None:
    if type(value) is str and (nested is not None or value[:1] in ("{", "[")):
        read = forms.parsed(value)
        value = value if read is None else read
    draft.data[member] = forms.decimals(value)


def _settle(draft: Draft, member: str) -> bool:
    """Whether the kind takes the member's value; one that it doesn't take is left out, and stays for /raw."""
    value = draft.data[member]
    shape = KINDS[draft.kind].shape
    if member in shape.references:
        value = _reference(draft, value)
    try:
        draft.data[member] = shape.checks[member](value)
    except (SchemaError, UnknownMember):
        del draft.data[member]
        return False
    return True


def _reference(draft: Draft, value: Any) -> Any:
    """An event's id; also a span's id of the same trace, or a trace's and a span's."""
    if type(value) is not str:
        return value
    trace = draft.data.get("trace", {}).get("trace_id")
    if trace is not None and _SPAN.fullmatch(value):
        return span_id(trace, value)
    match = _SPAN_OF_TRACE.fullmatch(value)
    return span_id(match[1], match[2]) if match else value
