"""From a Kafka record to pending entries: what it says, who may say it, who vouches for it. Pure.

A record gives one entry, or an OTLP request as many as its spans and log records give: accepted events, or `rejected`
with the reason and the exact bytes. Nothing that a record holds makes this raise.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import structlog

from ingest.authority import GATEWAY, Authority, signal_of
from ingest.errors import Refused
from ingest.otlp.mapping import Mapped, map_request
from ingest.otlp.pieces import requests_in
from ingest.otlp.wire import OVERSIZED_HEADER, TENANT_HEADER
from ingest.signatures import SIGNATURE_HEADER, Keys, Signatures
from ledger.registry import Tenant
from ledger.seal import Pending, ledger_event
from schemas.errors import Rejection
from schemas.event import Content, Draft, Event
from schemas.normalize import normalize_binary, normalize_draft, normalize_plain, normalize_structured
from schemas.pricing import price

FORM_HEADER = "tallystick-form"
FILE_HEADER = "tallystick-file"
LINE_HEADER = "tallystick-line"
FILE_BYTES_MAX = 1024  # it stands in the leaf, and is a path
_LINE = re.compile(rb"[1-9][0-9]{0,9}")
STRUCTURED = b"application/cloudevents+json"
ARCHIVED_KINDS = frozenset({"contract_applied", "tool_registered", "policy_published"})
# A rejection for one of these may only mean that the registry was read before the tenant or key was added.
_REGISTRY_REASONS = frozenset({"unknown_tenant", "bad_signature"})
# A price is of a moment; a claimed time this far from the ledger's own is not taken for it.
TIME_TRUSTED_US = 24 * 3600 * 1_000_000

Headers = Sequence[tuple[str, bytes]]

log = structlog.get_logger("tallystick.ingest")


class Record(NamedTuple):
    """A Kafka record, where it was read (what stands in the leaf's `source`), `intake`: the log for what it gives of no
    tenant, and when it was read, as a leaf's timestamp: decoded again, it is at the same price."""

    cluster: str
    topic: str
    topic_id: str | None
    partition: int
    offset: int
    value: bytes | None
    headers: Headers
    key: bytes | None
    intake: str
    read_at: str


class Decoder:
    """Decodes records under one state of the registry."""

    def __init__(self, authority: Authority, keys: Keys) -> None:
        self._authority = authority
        self._signatures = Signatures(keys)

    def decode(self, record: Record) -> Pending:
        """The entry of a record that is one event."""
        source = _source(record, 0)
        event: Event | None = None
        try:
            named = _named(record.headers)
            if record.value is None:
                raise Refused("tombstone", "the record has no value")
            _add_file(source, named)
            event = _normalize(record.value, record.headers, named)
            return self._accept(record, event, record.value, named, source)
        except Exception as error:
            return self._refused(error, record, source, record.value or b"", None, event)

    def decode_request(self, record: Record) -> Iterator[Pending]:
        """The entries of a record that is an OTLP request, in the order of its spans or log records."""
        item = 0
        try:
            named = _named(record.headers)
            if record.value is None:
                raise Refused("tombstone", "the record has no value")
            if SIGNATURE_HEADER in named:
                raise Refused("bad_signature", "only structured records can be signed")
            speaker = _gateway_tenant(record.topic, named)
            if OVERSIZED_HEADER in named and record.topic in GATEWAY:
                raise Refused("too_large", "one span or log record is larger than a record of the gateway may be")
            signal = signal_of(record.topic)
            for piece, request in requests_in(signal, record.value):
                if isinstance(request, Refused):
                    yield self._refused(request, record, _source(record, item), piece, speaker)
                    item += 1
                    continue
                for mapped in map_request(signal, request):
                    pendings = self._of_mapped(record, mapped, item, speaker)
                    item += len(pendings)
                    yield from pendings
        except Exception as error:
            yield self.refuse(error, record, item)

    def is_unknown(self, pending: Pending, topic: str) -> bool:
        """Whether it is rejected for what a registry read anew may know: a tenant or key, or whose the topic is."""
        event = pending.event
        if event.kind != "rejected":
            return False
        if event.data["reason"] in _REGISTRY_REASONS:
            return True
        if pending.tenant:
            return False
        try:
            self._authority.of_topic(topic)
        except Refused:
            return True
        return False

    def _of_mapped(self, record: Record, mapped: Mapped, item: int, speaker: str | None) -> list[Pending]:
        """The entries of one span or log record; `item`: the number of the first. The end of its run is the last of
        them, since the run's head is sealed after it."""
        if mapped.refusal is not None:
            return [self._refused(mapped.refusal, record, _source(record, item), mapped.wire, speaker)]
        pendings: list[Pending] = []
        for draft in sorted(mapped.drafts, key=_is_end):
            source = _source(record, item + len(pendings))
            event: Event | None = None
            try:
                event = normalize_draft(draft)
                tenant = self._authority.tenant_of(record.topic, event.tenant, speaker)
                self._authority.check_kind(record.topic, event)
                pendings.append(self._pending(record, event, tenant, mapped.wire, source, {"vouched": "claimed"}))
            except Exception as error:
                if not any(one.event.kind == "rejected" for one in pendings):  # one with the span's bytes is enough
                    pendings.append(self._refused(error, record, source, mapped.wire, speaker, event))
        return pendings

    def refuse(self, error: Exception, record: Record, item: int = 0) -> Pending:
        """The rejected entry for a whole OTLP request; `item`: its number."""
        try:
            speaker = _gateway_tenant(record.topic, _named(record.headers))
        except Refused:
            speaker = None
        return self._refused(error, record, _source(record, item), record.value or b"", speaker)

    def _refused(
        self,
        error: Exception,
        record: Record,
        source: dict[str, Any],
        received: bytes,
        speaker: str | None,
        event: Event | None = None,
    ) -> Pending:
        """The rejected entry for what was `received`. What can't be read as an event names nobody: only its topic or
        the gateway speaks for it, and no default does, or one tenant's bytes would stand in another's log."""
        refusal = _refusal(error)
        tenant = self._speaker(record.topic, speaker) if event is None else self._tenant(record.topic, event, speaker)
        return _rejected(tenant, record.intake, source, received, record.headers, record.key, refusal)

    def too_large(self, pending: Pending, headers: Headers, key: bytes | None) -> Pending:
        """The rejected entry for an accepted event whose public part fits no leaf. Call within its tenant's log."""
        tenant = self._authority.tenants[pending.tenant]
        refusal = Refused("too_large", "the public part of the event does not fit a leaf")
        return _rejected(tenant, "", pending.source, pending.received, headers, key, refusal)

    def _speaker(self, topic: str, spoken_for: str | None) -> Tenant | None:
        """Whom the topic, or the gateway, speaks for, whatever a record says; None where neither says it."""
        try:
            fixed = self._authority.of_topic(topic)
            return self._authority.tenant_of(topic, None, spoken_for) if spoken_for is not None else fixed
        except Refused:
            return None

    def _tenant(self, topic: str, event: Event, spoken_for: str | None) -> Tenant | None:
        try:
            return self._authority.tenant_of(topic, event.tenant, spoken_for)
        except Refused:
            return None

    def _accept(
        self, record: Record, event: Event, value: bytes, named: dict[str, bytes], source: dict[str, Any]
    ) -> Pending:
        signature = named.get(SIGNATURE_HEADER)
        signed_for: str | None = None
        key_id = ""
        if signature is not None:
            fixed = self._authority.of_topic(record.topic)
            key_id, signed_for = self._signatures.check_producer(
                signature, value, fixed.tenant if fixed else event.tenant
            )
        tenant = self._authority.tenant_of(record.topic, event.tenant, signed_for)
        self._authority.check_kind(record.topic, event)
        enriched: dict[str, Any] = {"vouched": "claimed" if signature is None else "signed"}
        if event.attestation is not None:
            self._signatures.check_attester(tenant.tenant, event, event.attestation)
            enriched["vouched"] = "attested"
        pending = self._pending(record, event, tenant, value, source, enriched)
        if signature is not None:
            pending.sig, pending.received_sig = {"key": key_id}, signature
        return pending

    def _pending(
        self,
        record: Record,
        event: Event,
        tenant: Tenant,
        received: bytes,
        source: dict[str, Any],
        enriched: dict[str, Any],
    ) -> Pending:
        event.tenant = tenant.tenant
        if event.kind == "model_call":
            _price(event, enriched, record.read_at)
        return Pending(
            event=event,
            tenant=tenant.tenant,
            log=tenant.origin_of(record.partition) if event.run is not None else tenant.origins[0],
            source=source,
            enriched=enriched,
            received=received,
            archived=event.kind in ARCHIVED_KINDS,
        )


def _price(event: Event, enriched: dict[str, Any], now: str) -> None:
    at = event.time if event.time is not None and abs(_micros(event.time) - _micros(now)) <= TIME_TRUSTED_US else now
    found = price(event.data, at)
    if found is not None:
        enriched["price"] = found


def _is_end(draft: Draft) -> bool:
    return draft.kind == "run_finished"


def _source(record: Record, item: int) -> dict[str, Any]:
    return {
        "cluster": record.cluster,
        "topic": record.topic,
        "topic_id": record.topic_id,
        "partition": record.partition,
        "offset": record.offset,
        "item": item,
    }


def _rejected(
    tenant: Tenant | None,
    intake: str,
    source: dict[str, Any],
    received: bytes,
    headers: Headers,
    key: bytes | None,
    refusal: Refused | Rejection,
) -> Pending:
    """In the tenant's log, or in the `intake` log where nobody could be established."""
    content = [Content("/received", "application/octet-stream", received)]
    around = _around(headers, key)
    if around is not None:
        content.append(Content("/raw", "application/json", around))
    data = {"reason": refusal.code, "detail": refusal.detail, "received_bytes": len(received)}
    event = ledger_event("rejected", source, data=data, content=content)
    log, name = (intake, "") if tenant is None else (tenant.origins[0], tenant.tenant)
    return Pending(event=event, tenant=name, log=log, source=source, received=received)


def _refusal(error: Exception) -> Refused | Rejection:
    """What a record is refused for. Reading is pure, so a defect of ours would meet the same record again after every
    start: the record is kept as `rejected`, to be sent again when the defect is mended, and holds nobody up."""
    if isinstance(error, Refused | Rejection):
        return error
    if isinstance(error, MemoryError):
        raise error
    log.error("a record can't be read for a defect; it is kept as rejected", exc_info=error)
    return Refused("defect", f"{type(error).__name__} while it was read: a defect of the ledger, not of the record")


def _gateway_tenant(topic: str, named: dict[str, bytes]) -> str | None:
    """The tenant that the gateway names; elsewhere the header counts for nothing. Raises Refused."""
    name = named.get(TENANT_HEADER) if topic in GATEWAY else None
    try:
        return None if name is None else name.decode()
    except UnicodeDecodeError as error:
        raise Refused("bad_header", f"{TENANT_HEADER}: expected UTF-8") from error


def _normalize(value: bytes, headers: Headers, named: dict[str, bytes]) -> Event:
    form = named.get(FORM_HEADER)
    if form == b"plain":
        if SIGNATURE_HEADER in named:  # it does not say which of the two forms the producer signed
            raise Refused("bad_signature", "only structured records can be signed")
        return normalize_plain(value)
    if form not in (None, b"event"):
        raise Refused("bad_header", f"{FORM_HEADER} is neither plain nor event")
    if form is None and headers and any(name.lower() == "ce_specversion" for name, _ in headers):
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


def _micros(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp() * 1_000_000)
