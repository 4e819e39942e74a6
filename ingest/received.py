"""What a refused record says of itself: its tenant, kind and run, as far as they can be read. Pure.

For an operator who looks at the kept record. It is what a sender wrote and nobody accepted, so it stands in no leaf and
decides nothing. Guarantees: nothing that a record holds makes this raise, and no text is longer than WORD_MAX.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError

from ingest.authority import is_otlp, signal_of
from ingest.otlp.forms import FORMS, Form
from ingest.otlp.wire import TENANT_HEADER

WORD_MAX: Final = 128  # characters, as a tenant's name has at most
OTLP_BYTES_MAX: Final = 1 << 20  # of a request that is read for this

_ATTRIBUTES: Final = {"tallystick.tenant": "tenant", "tallystick.kind": "kind", "tallystick.run_id": "run"}


@dataclass(frozen=True, slots=True)
class Said:
    """In the record's own words; None where it says nothing that can be read."""

    tenant: str | None = None
    kind: str | None = None
    run: str | None = None


def said(topic: str, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Said:
    """What a record from a topic says of itself."""
    named = {name.lower(): content.decode("utf-8", "replace") for name, content in headers}
    if is_otlp(topic):
        return _of_otlp(topic, value, named.get(TENANT_HEADER))
    if "ce_specversion" in named:
        return Said(_word(named.get("ce_tenant")), _word(named.get("ce_type")), _word(named.get("ce_subject")))
    try:
        members = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Said()
    if not isinstance(members, dict):
        return Said()
    run = members.get("subject" if "specversion" in members else "run_id")
    return Said(_word(members.get("tenant")), _word(members.get("type")), _word(run))


def _of_otlp(topic: str, value: bytes, tenant: str | None) -> Said:
    """Of a request with one record, as rejected entries hold it; what the record says wins over its resource."""
    form = FORMS[signal_of(topic)]
    found: dict[str, str] = {}
    if len(value) <= OTLP_BYTES_MAX:
        try:
            request = form.request.FromString(value)
        except DecodeError:
            return Said(_word(tenant))
        for attributes in _attributes(form, request):
            for one in attributes:
                if one.key in _ATTRIBUTES and one.value.HasField("string_value"):
                    found[_ATTRIBUTES[one.key]] = one.value.string_value
    return Said(_word(tenant or found.get("tenant")), _word(found.get("kind")), _word(found.get("run")))


def _attributes(form: Form, request: Any) -> Iterator[Iterable[Any]]:
    """From the resource inwards."""
    for of_resource in getattr(request, form.resources):
        yield of_resource.resource.attributes
        for of_scope in getattr(of_resource, form.scopes):
            for record in getattr(of_scope, form.records):
                yield record.attributes
                for event in getattr(record, "events", ()):  # a log record has none
                    yield event.attributes


def _word(text: Any) -> str | None:
    return text[:WORD_MAX] if isinstance(text, str) else None
