"""An event, normalized but not yet sealed: what every way in ends with and what the ledger begins with.

The cycle collector does not know of these (`gc=False`): what they hold can't refer back to them, and there are many.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

JSON: Final = "application/json"
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"


class Content(msgspec.Struct, gc=False):
    """One content field: its exact bytes are kept, committed to and encrypted; never re-encoded."""

    pointer: str  # relative to the event's `data`, like "/input"; or "/raw"
    type: str  # JSON, TEXT or BYTES
    value: bytes


class Event(msgspec.Struct, gc=False):
    """A normalized event. Mutable only so that ingest may set tenant, vouched and sig, and the ledger what it adds."""

    id: str
    kind: str
    schema: int
    tenant: str | None  # as the event says; ingest decides who may say it
    run: str | None
    src: dict[str, Any] | None  # {"id": str, "seq": int}
    time: str | None
    actor: dict[str, str]  # agent and version; principal and on_behalf_of stand in `persons`
    data: dict[str, Any]  # public members in the leaf profile; absent members are absent
    content: list[Content]
    persons: list[
        tuple[str, str]
    ]  # (where the p: reference is put in the leaf, name), like ("/actor/principal", "ann")
    subjects: tuple[str, ...]  # whose data the content is: decoded `datasubject` names
    raw_unmapped: int  # how many members and attributes went to /raw
    digest_input: bytes | None  # the JSON text whose keyed digest becomes `data.arguments`
    sent_id: str = ""  # the id as the producer sent it: an attestation names it
    attestation: bytes | None = None  # normal form of the sent data without `attestation`, when there is one
    wire: bytes | None = None  # what recognizes the same thing sent again, where it isn't the event itself: see Draft


class Draft(msgspec.Struct):
    """What an upcaster or a mapping from a foreign convention makes: our words, not yet checked against the kind.

    `data` holds public members with parsed JSON values. `raw` holds what was not mapped, as (name, exact JSON text).
    """

    id: str
    kind: str
    came_from: str  # `data.from`: event, span, span_event, log, line
    run: str | None = None
    tenant: str | None = None
    src: dict[str, Any] | None = None
    time: str | None = None
    actor: dict[str, str] = msgspec.field(default_factory=dict)
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    content: list[Content] = msgspec.field(default_factory=list)
    persons: list[tuple[str, str]] = msgspec.field(default_factory=list)
    subjects: tuple[str, ...] = ()
    raw: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    originals: dict[str, tuple[str, bytes]] = msgspec.field(default_factory=dict)
    """Per member of `data`, the foreign name and exact text it was made of: goes to /raw if the kind refuses the
    value."""
    wire: bytes | None = None
    """For OTLP the deterministic protobuf of resource, scope and span or record: the same bytes again are the same
    event, whatever a later mapping makes of them (log-format.md, "Content", fingerprint)."""
