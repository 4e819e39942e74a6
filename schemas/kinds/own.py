"""The ledger's own kinds. From any topic they are refused (`reserved_kind`); these models say what the ledger
writes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.fields import Content, Count, Integer, Moment, Name, Open, Person, Text
from schemas.kinds.common import Common, Data, Explained


class Rejected(Data):
    reason: Name  # a code, so public here
    detail: Text | None = None
    received_bytes: Count | None = None


class Conflict(Common):
    of: Name
    first: Open
    second: Open


class Intake(Explained):
    cluster: Text | None = None
    topic_id: Text | None = None
    from_: Count = Field(alias="from")
    to: Integer
    records: Count
    skipped: Count
    events: Count
    appended: Count
    duplicates: Count
    conflicts: Count
    rejected: Count


class SourceGap(Explained):
    cluster: Text | None = None
    topic_id: Text | None = None
    from_: Count = Field(alias="from")
    to: Integer  # below `from` where how much is missing isn't known; -1 where the topic began anew
    cause: Text | None = None


class Tenant(Common):
    slug: Name
    name: Person | None = None


class ProducerKey(Explained):
    key: Name
    vkey: Name
    role: Literal["producer", "attester"]
    from_: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None


class KeyRotated(Common):
    """Without `old` and `signature`: the first key of a log, as `_system` records it."""

    old: Name | None = None
    new: Name
    signature: Name | None = None


class RunHead(Common):
    entries: Count
    last: Name


class Erasure(Common):
    keys: list[Name]
    scope: Literal["subject", "run", "session"]
    basis: Text | None = None
    operator: Person | None = None
    signature: Text | None = None
    reason: Content | None = None


class LegalHold(Common):
    keys: list[Name]
    state: Name
    operator: Person | None = None
    reason: Content | None = None


class ExportMade(Common):
    scope: Open | None = None
    digest: Name
    preparer: Person | None = None


class ContentDisclosed(Common):
    of: Name
    pointers: list[Name]
    reader: Person | None = None


class LogContinued(Common):
    origin: Name
    size: Count
    root: Name


class Prune(Explained):
    from_: Count = Field(alias="from")
    to: Count
    root: Name


class PeriodClosed(Common):
    period: Name
    checkpoints: Open | None = None


class Correction(Common):
    of: Name
    period: Name
    cause: Text | None = None
    amounts: Open | None = None
