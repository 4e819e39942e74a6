"""The dead-letter list: a view of `rejected` entries, and sending what is in one again.

A leaf says why a record was refused and nothing of what it said, since that is public and this is a sender's. Whoever
has the key store is told its tenant, kind and run beside, from the record that is kept.

Guarantees: nothing is taken off the list; a repair is a new record like any other, and the rejected entry stays where
it is. What the record was is opened under its log's key and checked against the leaf's commitment.

A repair says what it repairs. An event gets the member `data.refs` {what: "rejected", id}, which is public. A line of
the plain form gets the same member `refs`, which the form has no place for, so it is kept encrypted in /raw; the line
keeps its id this way, and importing the corrected file later appends no second one. A record with a producer's
signature is sent as it came, without such a member: the signature is over its exact bytes; and so is an OTLP request,
which has no place for one. Of a request with many spans, a rejected entry holds a request with the one it is about.
"""

from __future__ import annotations

import uuid
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import orjson

from ingest.authority import is_otlp
from ingest.decode import FORM_HEADER
from ingest.errors import RejectedUnknown, Unrepairable
from ingest.importer import Headers, form_of
from ingest.otlp.wire import OVERSIZED_HEADER
from ingest.received import Said
from ingest.received import said as said_by
from ingest.signatures import SIGNATURE_HEADER
from ledger.content import commitment, open_field
from ledger.db import Connection
from ledger.errors import MalformedLeaf, MissingKey, SealedFieldError
from ledger.keystore import KeyStore
from ledger.leaf import check_leaf
from schemas.errors import CODES

LISTED_MAX = 1_000
ROWS_AT_ONCE = 500
RECORDS_AT_ONCE = 8  # of up to 16 MiB each
TAMPERED = "tampered"  # the reason that stands where none can be read
REASONS: Final = CODES | {
    TAMPERED,
    "bad_signature",
    "not_otlp",
    "tenant_mismatch",
    "tombstone",
    "too_large",
    "unauthenticated",
    "unknown_tenant",
}

_texts_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items_of = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected entry, as its leaf says it; with the reason `tampered` where that can't be read. `said`: what the
    record that it keeps says of itself, where that was opened."""

    log: str
    index: int
    id: str
    recorded: str | None
    reason: str
    detail: str
    received_bytes: int | None
    source: dict[str, Any]
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """The record that was refused, as it came. `headers` and `key` are empty where it had none."""

    value: bytes
    headers: Headers
    key: bytes | None

    @property
    def signed(self) -> bool:
        return any(name == SIGNATURE_HEADER for name, _ in self.headers)


@dataclass(frozen=True, slots=True)
class Repair:
    """A record to send. `refers`: whether it says which rejected entry it repairs."""

    topic: str
    value: bytes
    key: bytes | None
    headers: Headers
    refers: bool


async def list_rejected(
    conn: Connection,
    *,
    keystore: KeyStore | None = None,
    tenant: str | None = None,
    reason: str | None = None,
    limit: int = LISTED_MAX,
) -> AsyncIterator[Rejected]:
    """Rejected entries of tenants' and intake logs, or of one tenant's, in the order in which they were recorded.

    With a key store, each with what the record says of itself, where its keys are there and nobody tampered with it.
    """
    async with conn.transaction(), conn.cursor("rejected", binary=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE if keystore is None else RECORDS_AT_ONCE
        await cursor.execute(
            "SELECT e.log, e.index, e.id, e.leaf, c.pointers, c.types, c.sealed"
            " FROM entries e JOIN logs l ON l.log = e.log"
            " LEFT JOIN content c ON %(opened)b AND c.log = e.log AND c.index = e.index"
            " WHERE e.kind = 'rejected' AND (%(tenant)b::text IS NULL OR l.tenant = %(tenant)b)"
            " ORDER BY e.recorded, e.log, e.index",
            {"tenant": tenant, "opened": keystore is not None},
        )
        listed = 0
        async for log, index, id, leaf_bytes, pointers, types, sealed in cursor:
            try:
                leaf = check_leaf(leaf_bytes)
                found = _of_leaf(log, index, leaf)
            except MalformedLeaf as error:
                found = Rejected(log, index, str(id), None, TAMPERED, f"{error}; see `tally verify`", None, {})
            if reason is not None and found.reason != reason:
                continue
            if keystore is not None and found.reason != TAMPERED:
                try:
                    received = _received(_open(keystore, leaf, pointers or (), types or (), sealed or ()), found)
                    found = _with_words(found, received)
                except (MalformedLeaf, MissingKey, SealedFieldError):
                    pass  # it is listed without; `tally rejected show` and `tally verify` say why
            yield found
            listed += 1
            if listed >= limit:
                return


async def find_rejected(conn: Connection, keystore: KeyStore, id: str) -> tuple[Rejected, Received]:
    """A rejected entry by its id, with the record it holds.

    Raises RejectedUnknown, MissingKey (erased, or another key store), MalformedLeaf or SealedFieldError (tampered).
    """
    try:
        wanted = uuid.UUID(id)
    except ValueError as error:
        raise RejectedUnknown(f"expected the id of a rejected entry, a UUID, got {id!r}") from error
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT e.log, e.index, e.leaf, c.pointers, c.types, c.sealed FROM logs l"
        " JOIN entries e ON e.log = l.log AND e.id = %b LEFT JOIN content c ON c.log = e.log AND c.index = e.index"
        " WHERE e.kind = 'rejected' LIMIT 1",
        (wanted,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise RejectedUnknown(f"no rejected entry has the id {id}; see `tally rejected list`")
    log, index, leaf_bytes, pointers, types, sealed = row
    try:
        leaf = check_leaf(leaf_bytes)
        rejected = _of_leaf(log, index, leaf)
    except MalformedLeaf as error:
        raise MalformedLeaf(f"{id} in {log} was tampered with: {error}; see `tally verify`") from error
    received = _received(_open(keystore, leaf, pointers or (), types or (), sealed or ()), rejected)
    return _with_words(rejected, received), received


def _received(opened: dict[str, bytes], of: Rejected) -> Received:
    headers: Headers = []
    key = None
    if "/raw" in opened:
        around = orjson.loads(opened["/raw"])
        headers = [(name, b64decode(value)) for name, value in around["headers"]]
        key = None if around["key"] is None else b64decode(around["key"])
    if "/received" not in opened:
        raise MalformedLeaf(
            f"{of.id} in {of.log} was tampered with: it commits to nothing received; see `tally verify`"
        )
    return Received(opened["/received"], headers, key)


def _with_words(rejected: Rejected, received: Received) -> Rejected:
    return replace(rejected, said=said_by(rejected.source["topic"], received.value, received.headers))


def plan_repair(rejected: Rejected, received: Received, edited: bytes | None) -> Repair:
    """What to send for a rejected entry: the edited record, or the same again. Raises Unrepairable. Pure."""
    topic = rejected.source["topic"]
    if is_otlp(topic):  # a request has no place for a reference; its spans keep their ids
        headers = [(name, value) for name, value in received.headers if name != OVERSIZED_HEADER]
        return Repair(topic, received.value if edited is None else edited, received.key, headers, refers=False)
    if edited is None:
        if received.signed:
            return Repair(topic, received.value, received.key, received.headers, refers=False)
        value = with_reference(received.value, rejected.id, binary=_is_binary(received.headers))
        return Repair(topic, value, received.key, received.headers, refers=True)
    edited = edited.strip()
    form, key = form_of(edited)
    value = with_reference(edited, rejected.id)
    # The edited text says all of the event; where it stood in a file stays true.
    headers = [
        (name, value)
        for name, value in received.headers
        if name.startswith("tallystick-") and name not in (SIGNATURE_HEADER, FORM_HEADER)
    ]
    headers.append((FORM_HEADER, form.encode()))
    return Repair(topic, value, key, headers, refers=True)


def with_reference(value: bytes, id: str, *, binary: bool = False) -> bytes:
    """The record with a reference to the rejected entry; every other member keeps its exact text. Raises Unrepairable.

    `binary`: the value is the `data` of a CloudEvent in binary mode.
    """
    try:
        members = _texts_of(value)
        if "specversion" not in members:  # binary data, or the plain form
            return _encode(_with_refs(members, id))
        data = _texts_of(members["data"]) if "data" in members else {}
        return _encode({**members, "data": msgspec.Raw(_encode(_with_refs(data, id)))})
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Unrepairable(
            f"what was received is not {'the data of an event' if binary else 'an event or a step'} in JSON, so sending"
            f" it again would be refused again ({error}); give a corrected one with --with FILE"
        ) from error


def _with_refs(members: dict[str, msgspec.Raw], id: str) -> dict[str, msgspec.Raw]:
    refs = _items_of(members["refs"]) if "refs" in members else []
    one = msgspec.Raw(orjson.dumps({"what": "rejected", "id": id}))
    return {**members, "refs": msgspec.Raw(msgspec.json.encode([*refs, one]))}


def _encode(members: dict[str, msgspec.Raw]) -> bytes:
    return msgspec.json.encode(members)


def _is_binary(headers: Headers) -> bool:
    return any(name.lower() == "ce_specversion" for name, _ in headers)


def _of_leaf(log: str, index: int, leaf: dict[str, Any]) -> Rejected:
    data, source = leaf["data"], leaf["source"]
    reason, detail, received_bytes = data.get("reason"), data.get("detail"), data.get("received_bytes")
    if not (isinstance(reason, str) and isinstance(detail, str) and isinstance(received_bytes, int)):
        raise MalformedLeaf("data: expected reason, detail and received_bytes")
    if "topic" not in source:
        raise MalformedLeaf("source: expected a record's place in Kafka")
    return Rejected(log, index, leaf["id"], leaf["recorded"], reason, detail, received_bytes, source)


def _open(
    keystore: KeyStore,
    leaf: dict[str, Any],
    pointers: Sequence[str],
    types: Sequence[str],
    sealed: Sequence[bytes | None],
) -> dict[str, bytes]:
    """The fields of an entry, each checked against its commitment."""
    commit: dict[str, Any] = leaf["commit"] or {}
    keys = keystore.keys_by_ref(sorted({ref for said in commit.values() for ref in said["k"]}))
    log, id = leaf["log"], leaf["id"]
    if not len(pointers) == len(types) == len(sealed):
        raise SealedFieldError(f"content of {id} in {log} was tampered with: its columns don't fit; see `tally verify`")
    held = {pointer: (type, box) for pointer, type, box in zip(pointers, types, sealed, strict=True)}
    opened: dict[str, bytes] = {}
    for pointer, said in commit.items():
        type, box = held.get(pointer, ("", None))
        if any(ref not in keys for ref in said["k"]):
            raise MissingKey(f"{pointer} of {id} in {log} can't be read: it was erased, or this is another key store")
        if box is None or type is None:
            raise SealedFieldError(
                f"{pointer} of {id} in {log} is gone, though its keys are there: tampered with; see `tally verify`"
            )
        salt, value = open_field([keys[ref] for ref in said["k"]], box, log, id, pointer, type)
        if b64encode(commitment(salt, log, id, pointer, type, value)).decode() != said["c"]:
            raise SealedFieldError(f"{pointer} of {id} in {log} is not what its leaf commits to")
        opened[pointer] = value
    return opened
