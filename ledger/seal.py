"""Sealing: from a normalized event to a draft, before any lock is taken.

Guarantees: persons stand in the leaf as references, content is committed to and encrypted under keys that the key store
holds durably before `prepare` returns, and the draft's bytes are in the leaf profile. Does no database I/O.
Does not: decide where an event belongs, whether it is a duplicate, or what it may say (ingest and append do).

Source: log-format.md, "Leaf", "Persons" and "Content".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger import content
from ledger.draft import Draft, content_row, make_draft
from ledger.errors import LeafTooLarge
from ledger.keystore import KeyStore
from schemas.canonical import encode_unchecked, normal_form
from schemas.event import Content, Event
from schemas.ids import ledger_id
from schemas.kinds import KINDS

LEAF_BYTES_MAX = 65_535
CHAIN_BYTES_MAX = 280  # what prev, recorded, run and run_seq can add to the parts encoded before
KEYS_CACHED_MAX = 65_536  # about 40 MB; a run's keys are used in one stretch of time
FIELD_CIPHERS_CACHED_MAX = 4_096
MADE_BY_LEDGER = frozenset(name for name, kind in KINDS.items() if kind.ledger_only)
OVERFLOW_MEMBERS = ("candidates", "documents", "offered", "refs", "tool_schemas", "tools_offered")
DEDUP_PURPOSE = "dedup"

Wanted = tuple[str, str, str]  # tenant, kind of reference (p, r, s, l, a), name


class Pending(msgspec.Struct, gc=False):
    """An event that was accepted, with what ingest decided about it. `received` are the record's exact bytes."""

    event: Event
    tenant: str
    log: str
    source: dict[str, Any]
    enriched: dict[str, Any] = msgspec.field(
        default_factory=dict
    )  # members of data that the ledger adds: vouched, price
    sig: dict[str, Any] | None = None
    received: bytes = b""
    received_sig: bytes | None = None
    archived: bool = False  # its content belongs to the tenant's archive


@dataclass(slots=True)
class _Key:
    refs: list[str]  # its own reference alone, as it stands in `commit`
    key: bytes
    aead: AESGCM
    digest: content.Hmac | None = None


_Field = tuple[str, str, bytes, AESGCM, list[str]]  # pointer, type, value, its cipher and its key references
_field_pointer = itemgetter(0)
_content_pointer = attrgetter("pointer")


def wanted_keys(pending: Pending) -> list[Wanted]:
    """The keys that sealing this event needs: its content's, then its persons', then its digest's."""
    event = pending.event
    wanted = _content_wanted(pending)
    if event.persons:
        wanted += [(pending.tenant, "p", name) for _, name in event.persons]
    if event.digest_input is not None:
        wanted.append(_digest_wanted(pending))
    return wanted


def _content_wanted(pending: Pending) -> list[Wanted]:
    event, tenant = pending.event, pending.tenant
    if pending.archived:
        return [(tenant, "a", "")]
    if event.subjects:
        return [(tenant, "p", name) for name in event.subjects]
    if event.run is not None:
        return [(tenant, "r", event.run)]
    return [(tenant, "l", pending.log)]


def _digest_wanted(pending: Pending) -> Wanted:
    event = pending.event
    session = event.data.get("session")
    if session is not None:
        return (pending.tenant, "s", session)
    if event.run is not None:
        return (pending.tenant, "r", event.run)
    return (pending.tenant, "l", pending.log)


class Sealer:
    """Seals events under the keys of one key store. Not thread-safe; one per writer."""

    def __init__(self, keystore: KeyStore) -> None:
        self._keystore = keystore
        self._keys: dict[Wanted, _Key] = {}
        self._field_ciphers: dict[tuple[str, ...], AESGCM] = {}
        self._dedup: dict[str, content.Hmac] = {}
        self._random = content.RandomPool()

    def forget(self) -> None:
        """Drop every cached key, as after an erasure."""
        self._keys.clear()
        self._field_ciphers.clear()

    def prepare(self, pendings: Iterable[Pending]) -> None:
        """Get or create the keys that these events need; durable when this returns, with one sync at most."""
        keys = self._keys
        if len(keys) > KEYS_CACHED_MAX:
            self.forget()
        missing: dict[Wanted, None] = {}
        for pending in pendings:
            for wanted in wanted_keys(pending):
                if wanted not in keys:
                    missing[wanted] = None
            if pending.tenant not in self._dedup:
                secret = self._keystore.tenant_secret(pending.tenant, DEDUP_PURPOSE)
                self._dedup[pending.tenant] = content.Hmac(secret)
        if not missing:
            return
        wants = list(missing)
        for want, found in zip(wants, self._keystore.content_keys(wants), strict=True):
            keys[want] = _Key([found.ref], found.key, AESGCM(found.key))

    def seal(self, pending: Pending) -> Draft:
        """Seal one prepared event. Raises LeafTooLarge where its public part can't be made to fit."""
        try:
            return self._seal(pending)
        except KeyError:  # its keys were forgotten since, by the erasure or the cache limit that another batch met
            self.prepare([pending])
            return self._seal(pending)

    def seal_at_hand(self, pending: Pending) -> Draft | None:
        """Seal one event under keys that were made durable before; None where one of them is not at hand, which
        `prepare` mends. Raises LeafTooLarge."""
        try:
            return self._seal(pending)
        except KeyError:
            return None

    def _seal(self, pending: Pending) -> Draft:
        event = pending.event
        cipher, refs = self._cipher(pending)
        fingerprint = self._fingerprint(pending) if event.kind not in MADE_BY_LEDGER else None
        data = {**event.data, **pending.enriched}
        actor: dict[str, Any] = dict(event.actor)
        fields: list[_Field] = [(item.pointer, item.type, item.value, cipher, refs) for item in event.content]
        if pending.received_sig is not None:
            fields.append(("/received", "application/octet-stream", pending.received, cipher, refs))
            fields.append(("/received_sig", "text/plain", pending.received_sig, cipher, refs))
        for pointer, name in event.persons:
            key = self._keys[(pending.tenant, "p", name)]
            _place(actor, data, pointer, key.refs[0])
            fields.append((pointer, "text/plain", name.encode(), key.aead, key.refs))
        if event.digest_input is not None:
            data["arguments"] = self._digest(pending, event.digest_input)
        draft = self._encode(pending, actor, data, fields, fingerprint)
        if _leaf_bytes(draft) > LEAF_BYTES_MAX:
            draft = self._overflow(pending, actor, data, fields, cipher, refs, fingerprint)
        return draft

    def conflict(self, pending: Pending, first: dict[str, Any]) -> Pending:
        """The `conflict` entry for an event whose id the log has with other content; keeps the loser's bytes.

        It stays in the loser's run and under the same keys, so that erasing a person erases these bytes too.
        """
        event = pending.event
        return Pending(
            event=ledger_event(
                "conflict",
                pending.source,
                run=event.run,
                data={"of": event.id, "first": first, "second": pending.source},
                # A signed one's bytes come with its signature, as those of an accepted event do.
                content=[] if pending.received_sig is not None else [_received(pending.received)],
                subjects=event.subjects,
            ),
            tenant=pending.tenant,
            log=pending.log,
            source=pending.source,
            sig=pending.sig,
            received=pending.received,
            received_sig=pending.received_sig,
            archived=pending.archived,
        )

    def _encode(
        self,
        pending: Pending,
        actor: dict[str, Any],
        data: dict[str, Any],
        fields: list[_Field],
        fingerprint: bytes | None,
    ) -> Draft:
        event = pending.event
        log, id = pending.log, event.id
        commit: dict[str, Any] = {}
        pointers: list[str] = []
        types: list[str] = []
        sealed: list[bytes] = []
        if fields:
            fields.sort(key=_field_pointer)
            head = content.additional_head(log, id)
            random, at = self._random.take(content.RANDOM_BYTES * len(fields))
            for pointer, type, value, cipher, refs in fields:
                additional = head + content.additional_tail(pointer, type)
                commitment, box = content.seal_value(cipher, random, at, additional, value)
                at += content.RANDOM_BYTES
                commit[pointer] = {"c": commitment, "k": refs}
                pointers.append(pointer)
                types.append(type)
                sealed.append(box)
        draft = make_draft(
            log=log,
            id=id,
            kind=event.kind,
            schema=event.schema,
            run=event.run,
            src=event.src,
            time=event.time,
            source=pending.source,
            actor=actor or None,
            data=data,
            commit=commit or None,
            sig=pending.sig,
        )
        if fingerprint is not None or sealed:
            draft.fingerprint = fingerprint
            draft.content_row = content_row(fingerprint, tuple(pointers), tuple(types), sealed)
        return draft

    def _cipher(self, pending: Pending) -> tuple[AESGCM, list[str]]:
        """The cipher of an event's content, and the references of those whom it concerns."""
        wanted = _content_wanted(pending)
        if len(wanted) == 1:
            owner = self._keys[wanted[0]]
            return owner.aead, owner.refs
        owners = [self._keys[one] for one in wanted]
        refs = [key.refs[0] for key in owners]
        cipher = self._field_ciphers.get(tuple(refs))
        if cipher is None:
            if len(self._field_ciphers) >= FIELD_CIPHERS_CACHED_MAX:  # there may be one for each pair of persons
                self._field_ciphers.clear()
            cipher = self._field_ciphers[tuple(refs)] = content.field_cipher([key.key for key in owners])
        return cipher, refs

    def _digest(self, pending: Pending, text: bytes) -> str:
        key = self._keys[_digest_wanted(pending)]
        if key.digest is None:
            key.digest = content.Hmac(content.digest_key(key.key))
        return content.arguments_digest(key.digest, normal_form(text))

    def _fingerprint(self, pending: Pending) -> bytes:
        """What recognizes the same event sent again (log-format.md, "Content", duplicates)."""
        event = pending.event
        if event.wire is not None:
            return self._dedup[pending.tenant].digest(event.wire)
        parts = [
            orjson.dumps(
                [event.kind, event.schema, event.run, event.time, event.src, event.actor, event.data, event.persons],
                option=orjson.OPT_SORT_KEYS,
            )
        ]
        for item in sorted(event.content, key=_content_pointer):
            parts += (b"\0%d %b\0" % (len(item.value), _named(item.pointer, item.type)), item.value)
        return self._dedup[pending.tenant].digest(b"".join(parts))

    def _overflow(
        self,
        pending: Pending,
        actor: dict[str, Any],
        data: dict[str, Any],
        fields: list[_Field],
        cipher: AESGCM,
        refs: list[str],
        fingerprint: bytes | None,
    ) -> Draft:
        """Move the largest public arrays to content until the leaf fits; their counts stay in `data.overflow`."""
        arrays = {name: encode_unchecked(data[name]) for name in OVERFLOW_MEMBERS if isinstance(data.get(name), list)}
        counts: dict[str, int] = {}
        for name in sorted(arrays, key=lambda name: len(arrays[name]), reverse=True):
            counts[name] = len(data.pop(name))
            data["overflow"] = counts
            fields.append((f"/overflow/{name}", "application/json", arrays[name], cipher, refs))
            draft = self._encode(pending, actor, data, fields, fingerprint)
            if _leaf_bytes(draft) <= LEAF_BYTES_MAX:
                return draft
        raise LeafTooLarge(f"the public part of {pending.event.id} needs more than {LEAF_BYTES_MAX} bytes as a leaf")


def ledger_event(
    kind: str,
    source: dict[str, Any],
    *,
    data: dict[str, Any],
    run: str | None = None,
    content: Sequence[Content] = (),
    persons: Sequence[tuple[str, str]] = (),
    subjects: tuple[str, ...] = (),
) -> Event:
    """An event of the ledger's own; its id follows from its kind and source (kinds.md, "Ids")."""
    return Event(
        id=ledger_id(kind, source),
        kind=kind,
        schema=1,
        tenant=None,
        run=run,
        src=None,
        time=None,
        actor={},
        data=data,
        content=list(content),
        persons=list(persons),
        subjects=subjects,
        raw_unmapped=0,
        digest_input=None,
    )


def plain_draft(log: str, kind: str, source: dict[str, Any], data: dict[str, Any], *, run: str | None = None) -> Draft:
    """A draft of the ledger's own without content, like `intake` and `run_head`."""
    return make_draft(
        log=log,
        id=ledger_id(kind, source),
        kind=kind,
        schema=1,
        run=run,
        src=None,
        time=None,
        source=source,
        actor=None,
        data=data,
        commit=None,
        sig=None,
    )


@lru_cache(maxsize=4096)
def _named(pointer: str, type: str) -> bytes:
    return f"{pointer} {type}".encode()


def _received(value: bytes) -> Content:
    return Content("/received", "application/octet-stream", value)


def _leaf_bytes(draft: Draft) -> int:
    return len(draft.before_prev) + len(draft.after_run_seq) + CHAIN_BYTES_MAX


def _place(actor: dict[str, Any], data: dict[str, Any], pointer: str, ref: str) -> None:
    """Put a person's reference where the name stood; `pointer` is relative to data, or `/actor/…`."""
    at: Any
    if pointer.startswith("/actor/"):
        actor[pointer[7:]] = ref
        return
    *path, last = pointer[1:].split("/")
    at = data
    for step in path:
        at[step] = dict(at[step])  # never write into the event's own objects: it may be sealed again
        at = at[step]
    at[last] = ref
