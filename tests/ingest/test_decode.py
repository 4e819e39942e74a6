"""From a record to a pending entry: who vouches for it, what it cost, and what it is refused for."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.authority import Authority
from ingest.decode import Decoder, Record
from ingest.signatures import ATTESTATION_DOMAIN, PRODUCER_DOMAIN, SIGNATURE_HEADER
from ledger.content import lp
from ledger.note import vkey_text
from ledger.registry import Tenant
from ledger.seal import Pending
from schemas.canonical import normal_form

NOW = "2026-11-21T12:00:00.000000Z"
ACME = Tenant("acme", "acme", ("p/acme", "p/acme/1"))
GLOBEX = Tenant("globex", "globex", ("p/globex",))
AUTHORITY = Authority({"acme": ACME, "globex": GLOBEX}, default_tenant="acme", unauthenticated=True)
PRODUCER, OTHERS, ATTESTER, STRANGER = (Ed25519PrivateKey.generate() for _ in range(4))
INTAKE = "p/_intake/tally.events/1"


def _vkey(key: Ed25519PrivateKey) -> str:
    return vkey_text("key", key.public_key().public_bytes_raw())


KEYS = {
    ("acme", "key-1"): (_vkey(PRODUCER), "producer"),
    ("globex", "key-2"): (_vkey(OTHERS), "producer"),
    ("acme", "shared"): (_vkey(PRODUCER), "producer"),
    ("globex", "shared"): (_vkey(OTHERS), "producer"),
    ("acme", "desk"): (_vkey(ATTESTER), "attester"),
}
DECODER = Decoder(AUTHORITY, KEYS)


def envelope(kind: str = "tool_call", **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": f"tallystick.{kind}.v1",
        "id": "step-1",
        "source": "runtime",
        "subject": "run-1",
        "time": "2026-11-21T11:59:00Z",
        "data": {"tool": "t", "phase": "finished", "call": "c"},
    } | changes


def decode(
    event: dict[str, Any] | bytes | None, *headers: tuple[str, bytes], topic: str = "tally.events", partition: int = 1
) -> Pending:
    value = json.dumps(event).encode() if isinstance(event, dict) else event
    return DECODER.decode(Record("c", topic, None, partition, 7, value, list(headers), b"key", INTAKE, NOW))


def signed(
    event: dict[str, Any],
    key: Ed25519PrivateKey = PRODUCER,
    *,
    key_id: str = "key-1",
    tenant: str = "acme",
    **more: Any,
) -> Pending:
    value = json.dumps(event).encode()
    signature = key.sign(PRODUCER_DOMAIN + lp(tenant.encode()) + lp(value))
    return decode(value, (SIGNATURE_HEADER, key_id.encode() + b":" + b64encode(signature)), **more)


def outcome(pending: Pending) -> str:
    """The tenant it was accepted for, or why it was refused."""
    data = pending.event.data
    return str(data["reason"]) if pending.event.kind == "rejected" else pending.tenant


def test_an_unsigned_event_is_claimed() -> None:
    pending = decode(envelope())
    assert (pending.tenant, pending.log, pending.enriched["vouched"], pending.sig) == (
        "acme",
        "p/acme/1",
        "claimed",
        None,
    )
    assert pending.received_sig is None
    assert decode(envelope(subject=None)).log == "p/acme"  # entries of no run are in shard 0


def test_a_signed_event_keeps_the_signature_and_the_bytes() -> None:
    pending = signed(envelope())
    assert (pending.enriched["vouched"], pending.sig) == ("signed", {"key": "key-1"})
    assert pending.received == json.dumps(envelope()).encode()
    assert pending.received_sig is not None
    assert pending.received_sig.startswith(b"key-1:")


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ("acme", {}),
        ("acme", {"key_id": "shared", "tenant": "acme", "event": envelope(tenant="acme")}),
        ("globex", {"key": OTHERS, "key_id": "key-2", "tenant": "globex"}),
        ("globex", {"key": OTHERS, "key_id": "shared", "tenant": "globex", "event": envelope(tenant="globex")}),
        ("acme", {"topic": "tally.events.acme", "key_id": "shared"}),
        ("tenant_mismatch", {"key": OTHERS, "key_id": "key-2", "tenant": "globex", "event": envelope(tenant="acme")}),
        ("tenant_mismatch", {"key": OTHERS, "key_id": "key-2", "tenant": "globex", "topic": "tally.events.acme"}),
        ("bad_signature", {"key_id": "shared"}),  # whose of the two is not said
        ("bad_signature", {"key": STRANGER}),
        ("bad_signature", {"key_id": "nobody"}),
        ("bad_signature", {"key": ATTESTER, "key_id": "desk"}),  # registered, for another purpose
        ("bad_signature", {"tenant": "globex"}),  # made for another tenant
        ("bad_signature", {"key": OTHERS, "key_id": "shared", "tenant": "globex", "event": envelope(tenant="acme")}),
        ("bad_signature", {"key": OTHERS, "key_id": "key-2", "tenant": "acme", "event": envelope(tenant="acme")}),
    ],
)
def test_whose_signature_counts_for_whom(expected: str, arguments: dict[str, Any]) -> None:
    assert outcome(signed(arguments.pop("event", envelope()), **arguments)) == expected


@pytest.mark.parametrize(
    "header", [b"", b"key-1", b"key-1:", b"key-1:????", b"key-1:AAAA", b"\xff", b"key-1:\xc3\xa9", b":" + b"A" * 88]
)
def test_a_signature_that_is_none(header: bytes) -> None:
    assert outcome(decode(envelope(), (SIGNATURE_HEADER, header))) == "bad_signature"


def test_a_signature_is_over_the_exact_bytes() -> None:
    value = json.dumps(envelope()).encode()
    signature = PRODUCER.sign(PRODUCER_DOMAIN + lp(b"acme") + lp(value))
    header = (SIGNATURE_HEADER, b"key-1:" + b64encode(signature))
    assert outcome(decode(value, header)) == "acme"
    assert outcome(decode(value + b" ", header)) == "bad_signature"


def test_only_structured_records_can_be_signed() -> None:
    value = json.dumps(envelope()["data"]).encode()
    signature = PRODUCER.sign(PRODUCER_DOMAIN + lp(b"acme") + lp(value))
    headers = [(f"ce_{name}", str(part).encode()) for name, part in envelope().items() if name != "data"]
    assert outcome(decode(value, *headers)) == "acme"
    assert outcome(decode(value, *headers, (SIGNATURE_HEADER, b"key-1:" + b64encode(signature)))) == "bad_signature"


def test_a_header_of_ours_without_a_value_or_twice_is_refused() -> None:
    nothing: Any = None
    assert outcome(decode(envelope(), (SIGNATURE_HEADER, nothing))) == "bad_header"
    assert outcome(decode(envelope(), ("tallystick-form", b"event"), ("tallystick-form", b"plain"))) == "bad_header"
    assert outcome(decode(envelope(), ("trace", nothing), ("trace", nothing))) == "acme"


def attested(
    key: Ed25519PrivateKey = ATTESTER,
    key_id: str = "desk",
    tenant: str = "acme",
    value: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    event = envelope("approval_decision", data={"approval": "a-1", "decision": "approve", "reviewer": "ann"})
    parts = [tenant, "approval_decision", event["id"]]
    message = b"".join(lp(part.encode()) for part in parts) + lp(normal_form(json.dumps(event["data"]).encode()))
    said = b64encode(key.sign(ATTESTATION_DOMAIN + message)).decode() if value is None else value
    event["data"]["attestation"] = {"by": "bob", "key": key_id, "value": said}
    event["data"] |= changes
    return event


def test_an_event_that_a_registered_attester_signed_is_attested() -> None:
    pending = decode(attested())
    assert pending.enriched["vouched"] == "attested"
    assert ("/attestation/by", "bob") in pending.event.persons
    assert pending.event.data["attestation"]["key"] == "desk"
    assert signed(attested()).enriched["vouched"] == "attested"
    assert signed(attested()).sig == {"key": "key-1"}


@pytest.mark.parametrize(
    "event",
    [
        attested(STRANGER),
        attested(key_id="nobody"),
        attested(PRODUCER, key_id="key-1"),  # a producer does not attest
        attested(tenant="globex"),
        attested(value="no base64"),
        attested(value="\u00e9"),
        attested(reviewer="eve"),  # changed after it was signed
        attested(decision="reject"),
        attested() | {"id": "step-2"},
    ],
)
def test_an_attestation_that_does_not_check_out(event: dict[str, Any]) -> None:
    assert outcome(decode(event)) == "bad_signature"


# -- prices ---------------------------------------------------------------------------------------------------------


def model_call(time: str | None) -> dict[str, Any]:
    data = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1_000_000, "output_tokens": 0}
    return envelope("model_call", data=data, **({"time": time} if time else {}))


def test_a_model_call_has_its_price_in_the_entry() -> None:
    found = decode(model_call("2026-11-21T11:00:00Z")).enriched["price"]
    assert (found["currency"], found["amount"], found["at"]) == ("USD", found["input"], "2026-11-21T11:00:00.000000Z")
    assert float(found["amount"]) > 0
    unknown = model_call("2026-11-21T11:00:00Z")
    unknown["data"]["model"] = "a-model-of-our-own"
    assert "price" not in decode(unknown).enriched
    assert "price" not in decode(envelope()).enriched


@pytest.mark.parametrize(
    ("time", "at"),
    [
        ("2026-11-20T12:00:00Z", "2026-11-20T12:00:00.000000Z"),  # a day
        ("2026-11-20T11:59:59Z", NOW),  # more than a day
        ("2026-11-22T12:00:01Z", NOW),
        ("1970-01-01T00:00:00Z", NOW),
        ("9999-12-31T23:59:59Z", NOW),
        ("2026-11-21T23:00:00+11:00", "2026-11-21T12:00:00.000000Z"),
    ],
)
def test_a_time_far_off_is_priced_at_the_ledgers_own(time: str, at: str) -> None:
    assert decode(model_call(time)).enriched["price"]["at"] == at


def test_a_claimed_price_does_not_stand_for_the_ledgers() -> None:
    event = model_call("2026-11-21T11:00:00Z")
    event["data"]["price"] = {"table": "mine", "amount": "0"}
    pending = decode(event)
    assert "price" not in pending.event.data
    assert pending.enriched["price"]["amount"] != "0"


def test_a_claimed_cost_stands_beside_the_ledgers_price() -> None:
    event = model_call("2026-11-21T11:00:00Z")
    event["data"]["cost_claimed"] = {"amount": "0.01", "currency": "USD"}
    pending = decode(event)
    assert pending.event.data["cost_claimed"] == {"amount": "0.01", "currency": "USD"}
    assert float(pending.enriched["price"]["amount"]) > 0.01


# -- refusals -------------------------------------------------------------------------------------------------------


def test_what_is_refused_is_kept_in_its_tenants_log() -> None:
    pending = decode(b"?", ("tallystick-form", b"plain"), topic="tally.events.globex")
    assert (pending.tenant, pending.log, pending.event.run) == ("globex", "p/globex", None)
    assert pending.event.data["received_bytes"] == 1
    kept = {item.pointer: item.value for item in pending.event.content}
    assert kept["/received"] == b"?"
    assert json.loads(kept["/raw"]) == {
        "headers": [["tallystick-form", b64encode(b"plain").decode()]],
        "key": b64encode(b"key").decode(),
    }


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        (envelope(tenant="nobody"), "tally.events"),
        (envelope(tenant="acme"), "tally.events.globex"),
        (b"?", "tally.events.x"),
    ],
)
def test_what_is_of_no_tenant_is_kept_in_the_intake_log(event: Any, topic: str) -> None:
    pending = decode(event, topic=topic)
    assert pending.event.kind == "rejected"
    assert (pending.tenant, pending.log) == ("", INTAKE)


@pytest.mark.parametrize("event", [b"not json", envelope("no_such_kind", tenant="globex"), None])
def test_what_cannot_be_read_is_kept_in_no_default_tenants_log(event: dict[str, Any] | bytes | None) -> None:
    pending = decode(event)
    assert (pending.event.kind, pending.log, pending.tenant) == ("rejected", INTAKE, "")
    pending = decode(event, topic="tally.events.globex")
    assert (pending.event.kind, pending.log, pending.tenant) == ("rejected", "p/globex", "globex")


def test_a_header_name_that_was_not_utf8_is_kept_as_it_was() -> None:
    pending = decode(envelope(), ("a", b"1"), ("caf\udce9", b"2"), ("b", b"3"))
    assert outcome(pending) == "bad_header"
    (raw,) = (item.value for item in pending.event.content if item.pointer == "/raw")
    around = json.loads(raw)
    assert [name for name, _ in around["headers"]] == ["a", "b"]
    assert around["headers_not_utf8"] == [[1, b64encode(b"caf\xe9").decode(), b64encode(b"2").decode()]]


def test_a_line_of_a_file_says_where_it_stood() -> None:
    headers = [("tallystick-form", b"plain"), ("tallystick-file", "stépß.jsonl".encode()), ("tallystick-line", b"12")]
    pending = decode({"run_id": "r", "step": 1, "type": "model_call", "model": "m"}, *headers)
    assert (pending.source["file"], pending.source["line"]) == ("stépß.jsonl", 12)


@pytest.mark.parametrize("line", [b"", b"0", b"-1", b"1_0", b" 1", b"9" * 30, b"x", b"\xff"])
def test_a_line_that_is_none(line: bytes) -> None:
    assert outcome(decode(envelope(), ("tallystick-file", b"f"), ("tallystick-line", line))) == "bad_header"
