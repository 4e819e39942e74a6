"""Event ids (kinds.md, "Ids"): the same thing told twice gets the same id, and nobody can claim one in advance.

Every id but a random one (UUID version 4 or 7) is a version 5 UUID under one namespace, over lines that begin with
where it came from. A version 5 UUID sent as an id is text like any other.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.canonical import canonical_bytes
from schemas.values import is_uuid

NS: Final[UUID] = uuid5(NAMESPACE_URL, "https://tallystick/ns/v1")
_PREFIX: Final = sha1(NS.bytes, usedforsecurity=False)


def v5(name: str) -> str:
    """UUIDv5(NS, name) as text. RFC 9562, section 5.5. A lone surrogate in the name raises UnicodeEncodeError."""
    state = _PREFIX.copy()
    state.update(name.encode())
    digest = state.hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def cloudevent_id(source: str, id: str) -> str:
    """The event id for a CloudEvents `id`: itself in lower case if a UUID of version 4 or 7, else derived.

    References to events (`parent`, `of`, …) go through this too, with the carrying event's source.
    """
    if len(id) == 36:
        lower = id.lower()
        if is_uuid(lower):
            return lower
    return v5(f"ce\n{source}\n{id}")


def plain_id(run_id: str, step: str, type: str) -> str:
    """A line of the plain step form; the last line has an empty step and the type `final`."""
    return v5(f"plain\n{run_id}\n{step}\n{type}")


def span_id(trace_id: str, span_id: str) -> str:
    """An OTLP span; both ids in lower-case hex."""
    return v5(f"otlp\n{trace_id}\n{span_id}")


def log_record_id(record_sha256_hex: str) -> str:
    """An OTLP log record, by the SHA-256 of its deterministic protobuf."""
    return v5(f"otlp-log\n{record_sha256_hex}")


def derived_id(base_name: str, kind: str, n: int) -> str:
    """A further event out of the same span or log record: `base_name` is the name the first id was made of, like
    `otlp\\n<trace id>\\n<span id>`; `n` counts from 0 within the kind."""
    return v5(f"{base_name}\n{kind}\n{n}")


def ledger_id(kind: str, source: dict[str, Any]) -> str:
    """An entry made by the ledger: by its kind and the canonical JSON of its `source`."""
    return v5(f"{kind}\n{canonical_bytes(source).decode()}")


def finding_id(rule: str, rule_version: str, first_leaf_hash_hex: str) -> str:
    """A finding: by its rule and the leaf hash of the first entry that it is about."""
    return v5(f"{rule}\n{rule_version}\n{first_leaf_hash_hex}")
