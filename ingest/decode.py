"""From a Kafka record to a pending entry: what it says, who may say it, who vouches for it. Pure.

One record gives one entry: an accepted event, or `rejected` with the reason and the exact bytes. Nothing that a record
holds makes this raise.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ingest.authority import Authority
from ingest.errors import Refused
from ledger.content import lp
from ledger.note import parse_vkey
from ledger.seal import Pending, ledger_event
from schemas.errors import Rejection
from schemas.event import Content, Event
from schemas.normalize import normalize_binary, normalize_plain, normalize_structured
from schemas.pricing import price

SIGNATURE_HEADER = "tallystick-sig"
FORM_HEADER = "tallystick-form"
FILE_HEADER = "tallystick-file"
LINE_HEADER = "tallystick-line"
PRODUCER_DOMAIN = lp(b"tallystick/producer-sig/v1")
FILE_BYTES_MAX = 1024  # it stands in the leaf, and is a path
_LINE = re.compile(rb"[1-9][0-9]{0,9}")
ATTESTATION_DOMAIN = lp(b"tallystick/attestation/v1")
STRUCTURED = b"application/cloudevents+json"
ARCHIVED_KINDS = frozenset({"contract_applied", "tool_registered", "policy_published"})
# A price is of a moment; a claimed time this far from the ledger's own is not taken for it.
TIME_TRUSTED_US = 24 * 3600 * 1_000_000

Headers = Sequence[tuple[str, bytes]]
Keys = Mapping[tuple[str, str], tuple[str, str]]  # (tenant, key) to (verifier key, role)


class Origin(NamedTuple):
    """Where a record was read: what stands in the leaf's `source`."""

    cluster: str
    topic: str
    topic_id: str | None
    partition: int
    offset: int


class Decoder:
    """Decodes records under one state of the registry. `now` gives the ledger's time as a leaf's timestamp."""

    def __init__(self, authority: Authority, keys: Keys, now: Callable[[], str]) -> None:
        self._authority = authority
        self._keys = keys
        self._now = now

    def decode(self, origin: Origin, value: bytes | None, headers: Headers, key: bytes | None, intake: str) -> Pending:
        """The pending entry of a record. `intake`: the log for a rejected record whose tenant can't be established."""
        source: dict[str, Any] = {
            "cluster": origin.cluster,
            "topic": origin.topic,
            "topic_id": origin.topic_id,
            "partition": origin.partition,
            "offset": origin.offset,
            "item": 0,
        }
        event: Event | None = None
        try:
            named = _named(headers)
            if value is None:
                raise Refused("tombstone", "the record has no value")
            _add_file(source, named)
            event = _normalize(value, headers, named)
            return self._accept(origin, event, value, named, source)
        except (Refused, Rejection) as refusal:
            try:
                # A record that can't be read names nobody: only its topic speaks for it, and no default does, or one
                # tenant's bytes would stand in another's log.
                tenant = (
                    self._authority.tenant_of(origin.topic, event.tenant, None)
                    if event is not None
                    else self._authority.of_topic(origin.topic)
                )
                if tenant is None:
                    raise Refused("unknown_tenant", "the topic speaks for nobody")
                log, name = tenant.origins[0], tenant.tenant
            except Refused:
                log, name = intake, ""
            return _rejected(log, name, source, value or b"", headers, key, refusal.code, refusal.detail)

    def too_large(self, pending: Pending, headers: Headers, key: bytes | None) -> Pending:
        """The rejected entry for an accepted event whose public part fits no leaf. Call within its tenant's log."""
        tenant = self._authority.tenants[pending.tenant]
        detail = "the public part of the event does not fit a leaf"
        return _rejected(
            tenant.origins[0], tenant.tenant, pending.source, pending.received, headers, key, "too_large", detail
        )

    def _accept(
        self, origin: Origin, event: Event, value: bytes, named: dict[str, bytes], source: dict[str, Any]
    ) -> Pending:
        signature = named.get(SIGNATURE_HEADER)
        signed_for: str | None = None
        key_id = ""
        if signature is not None:
            fixed = self._authority.of_topic(origin.topic)
            key_id, signed_for = self._check_signature(signature, value, fixed.tenant if fixed else event.tenant)
        tenant = self._authority.tenant_of(origin.topic, event.tenant, signed_for)
        self._authority.check_kind(origin.topic, event)
        event.tenant = tenant.tenant
        enriched: dict[str, Any] = {"vouched": "claimed" if signature is None else "signed"}
        if event.attestation is not None:
            self._check_attestation(tenant.tenant, event, event.attestation)
            enriched["vouched"] = "attested"
        if event.kind == "model_call":
            self._price(event, enriched)
        return Pending(
            event=event,
            tenant=tenant.tenant,
            log=tenant.origin_of(origin.partition) if event.run is not None else tenant.origins[0],
            source=source,
            enriched=enriched,
            sig=None if signature is None else {"key": key_id},
            received=value,
            received_sig=signature,
            archived=event.kind in ARCHIVED_KINDS,
        )

    def _check_signature(self, header: bytes, value: bytes, tenant: str | None) -> tuple[str, str]:
        """(key id, tenant) of a producer's signature that verifies."""
        try:
            key_id, _, encoded = header.decode("ascii").partition(":")
            signature = b64decode(encoded, validate=True)
        except (UnicodeDecodeError, binascii.Error) as error:
            raise Refused("bad_signature", f"{SIGNATURE_HEADER} is not <key id>:<base64>") from error
        if tenant is not None and (tenant, key_id) in self._keys:
            holders = [tenant]
        else:  # a key of another tenant fixes that one, if it did sign; the two then disagree
            holders = [name for name, key in self._keys if key == key_id]
        if len(holders) != 1:
            raise Refused("bad_signature", "the key is not registered for this tenant")
        vkey, role = self._keys[(holders[0], key_id)]
        if role != "producer":
            raise Refused("bad_signature", "the key is not registered as a producer's")
        _verify(vkey, signature, PRODUCER_DOMAIN + lp(holders[0].encode()) + lp(value))
        return key_id, holders[0]

    def _check_attestation(self, tenant: str, event: Event, attested: bytes) -> None:
        attestation = event.data.get("attestation")
        if not isinstance(attestation, dict):
            raise Refused("bad_signature", "attestation is not an object")
        vkey, role = self._keys.get((tenant, str(attestation.get("key"))), ("", ""))
        if role != "attester":
            raise Refused("bad_signature", "the attestation's key is not registered as an attester's")
        try:
            signature = b64decode(str(attestation.get("value")), validate=True)
        except ValueError as error:  # not base64, or not ASCII
            raise Refused("bad_signature", "the attestation's value is not base64") from error
        parts = (tenant.encode(), event.kind.encode(), event.sent_id.encode(), attested)
        _verify(vkey, signature, ATTESTATION_DOMAIN + b"".join(map(lp, parts)))

    def _price(self, event: Event, enriched: dict[str, Any]) -> None:
        now = self._now()
        at = (
            event.time if event.time is not None and abs(_micros(event.time) - _micros(now)) <= TIME_TRUSTED_US else now
        )
        found = price(event.data, at)
        if found is not None:
            enriched["price"] = found


def _rejected(
    log: str,
    tenant: str,
    source: dict[str, Any],
    received: bytes,
    headers: Headers,
    key: bytes | None,
    reason: str,
    detail: str,
) -> Pending:
    content = [Content("/received", "application/octet-stream", received)]
    around = _around(headers, key)
    if around is not None:
        content.append(Content("/raw", "application/json", around))
    data = {"reason": reason, "detail": detail, "received_bytes": len(received)}
    event = ledger_event("rejected", source, data=data, content=content)
    return Pending(event=event, tenant=tenant, log=log, source=source, received=received)


def _normalize(value: bytes, headers: Headers, named: dict[str, bytes]) -> Event:
    form = named.get(FORM_HEADER)
    if form == b"plain":
        if SIGNATURE_HEADER in named:  # it does not say which of the two forms the producer signed
            raise Refused("bad_signature", "only structured records can be signed")
        return normalize_plain(value)
    if form not in (None, b"event"):
        raise Refused("bad_header", f"{FORM_HEADER} is neither plain nor event")
    if form is None and any(name.lower() == "ce_specversion" for name, _ in headers):
        if SIGNATURE_HEADER in named:
            raise Refused("bad_signature", "only structured records can be signed")
        return normalize_binary(list(headers), value)
    return normalize_structured(value)


def _named(headers: Headers) -> dict[str, bytes]:
    """Our own headers by name. Raises Refused where one has no value or stands twice, or any name is not UTF-8."""
    named: dict[str, bytes] = {}
    for name, content in headers:
        if not name.isascii() and _odd(name):
            raise Refused("bad_header", "the name of a header is not UTF-8")
        if name.startswith("tallystick-"):
            if content is None or name in named:
                raise Refused("bad_header", "a tallystick header: expected it once, with a value")
            named[name] = content
    return named


def _odd(name: str) -> bool:
    """Whether a header's name was not UTF-8 (ingest.records)."""
    return any("\udc80" <= character <= "\udcff" for character in name)


def _add_file(source: dict[str, Any], named: dict[str, bytes]) -> None:
    file, line = named.get(FILE_HEADER), named.get(LINE_HEADER)
    if file is None and line is None:
        return
    if file is None or len(file) > FILE_BYTES_MAX or line is None or not _LINE.fullmatch(line):
        raise Refused("bad_header", f"{FILE_HEADER} and {LINE_HEADER}: expected a file's name and a line's number")
    try:
        source["file"] = file.decode()
    except UnicodeDecodeError as error:
        raise Refused("bad_header", f"{FILE_HEADER}: expected UTF-8") from error
    source["line"] = int(line)


def _around(headers: Headers, key: bytes | None) -> bytes | None:
    """A rejected record's headers and key, which its value alone does not say; bytes as base64.

    A header whose name is not UTF-8 stands apart, by its place among all headers.
    """
    if not headers and key is None:
        return None
    around: dict[str, Any] = {
        "headers": [[name, _base64(content or b"")] for name, content in headers if not _odd(name)],
        "key": None if key is None else _base64(key),
    }
    odd = [
        [place, _base64(name.encode(errors="surrogateescape")), _base64(content or b"")]
        for place, (name, content) in enumerate(headers)
        if _odd(name)
    ]
    if odd:
        around["headers_not_utf8"] = odd
    return orjson.dumps(around)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _verify(vkey: str, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(parse_vkey(vkey).public).verify(signature, message)
    except InvalidSignature as error:
        raise Refused("bad_signature", "the signature does not verify") from error


def _micros(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp() * 1_000_000)
