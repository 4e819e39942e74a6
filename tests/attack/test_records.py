"""Records that are small to send and were costly to take in, or that said more in clear than they should."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest.authority import Authority
from ingest.decode import Decoder, Record
from ingest.signatures import PRODUCER_DOMAIN
from ledger.content import lp
from ledger.note import vkey_text
from ledger.registry import Tenant
from schemas.errors import Rejection
from schemas.jsontext import normal_form
from schemas.normalize import SUBJECTS_MAX, normalize_binary, normalize_structured

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "tallystick.tool_call.v1",
    "id": "1",
    "source": "s",
    "subject": "run-1",
    "data": {"tool": "t", "phase": "finished", "call": "c"},
}
NAME = "Zebediah"
SECONDS_MAX = 5.0  # of the processor; each of these took minutes, or memory that a machine does not have


def text(more: bytes = b"", **attributes: Any) -> bytes:
    """The event, with `more` at the end of its data."""
    event = EVENT | attributes
    data = event.pop("data")
    return json.dumps(event | {"data": data}).encode()[:-2] + more + b"}}"


@pytest.mark.parametrize("number", [b"1e999", b"1e-999", b"1e0999", b"1E+999"])
def test_exponents_do_not_become_gigabytes(number: bytes) -> None:
    began = time.process_time()
    event = normalize_structured(text(b',"input":[' + b",".join([number] * 500_000) + b"]"))
    assert event.digest_input is None
    assert time.process_time() - began < SECONDS_MAX
    with pytest.raises(Rejection):
        normalize_structured(
            text(b',"attestation":{"key":"k","value":"v"},"input":[' + b",".join([number] * 500_000) + b"]")
        )


def test_few_exponents_are_digested_as_ever() -> None:
    event = normalize_structured(text(b',"input":[1e999,' + b"1.5e-05," * 50_000 + b"0]"))
    assert event.digest_input is not None
    assert normal_form(event.digest_input).startswith(b"[1000")


def test_many_attributes_that_nobody_knows_are_found_in_one_go() -> None:
    value = json.dumps({f"a{n}": n for n in range(50_000)} | EVENT).encode()
    began = time.process_time()
    event = normalize_structured(value)
    assert time.process_time() - began < SECONDS_MAX
    assert event.raw_unmapped == 50_000
    assert b'"ce:a49999":49999' in event.content[-1].value


def test_astral_characters_are_sorted_as_before() -> None:
    names = ["\U0001f600", "\uff5e", "a", "\ue000", "\u00e9", "\U0001f600b", "1"]
    value = {name: [dict.fromkeys(names, 1.5)] for name in names}
    for escaped in (True, False):
        said = json.dumps(value, ensure_ascii=escaped).encode()
        again = json.dumps(
            {name: [dict.fromkeys(sorted(names, key=_utf16), 1.5)] for name in sorted(names, key=_utf16)},
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        assert normal_form(said) == again


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def test_one_record_makes_no_more_keys_than_it_may() -> None:
    names = [f"n{n}" for n in range(SUBJECTS_MAX + 1)]
    assert len(normalize_structured(text(datasubject=" ".join(names[1:]))).subjects) == SUBJECTS_MAX
    with pytest.raises(Rejection) as refused:
        normalize_structured(text(datasubject=" ".join(names)))
    assert refused.value.code == "schema"


def test_a_source_of_two_lines_can_claim_nobodys_ids() -> None:
    """The id is made of lines: source `a`, id `b<newline>c` and source `a<newline>b`, id `c` were the same event."""
    normalize_structured(text(source="a", id="b\nc"))
    with pytest.raises(Rejection):
        normalize_structured(text(source="a\nb", id="c"))


def test_a_reason_names_no_member_that_nobody_defined() -> None:
    """The detail stands in clear: a member's name may be a person's."""
    details = []
    twice = b',"%b":1,"%b":2' % (NAME.encode(), NAME.encode())
    for value in (text(twice), text()[:-1] + twice + b"}"):
        with pytest.raises(Rejection) as refused:
            normalize_structured(value)
        details.append((refused.value.code, refused.value.detail))
    headers = [(f"ce_{name}", str(value).encode()) for name, value in EVENT.items() if name != "data"]
    for odd in ([(f"ce_{NAME}", b"1")] * 2, [(f"ce_{NAME}", b"\xff")]):
        with pytest.raises(Rejection) as refused:
            normalize_binary([*headers, *odd], b"{}")
        details.append((refused.value.code, refused.value.detail))
    assert [code for code, _ in details] == ["duplicate_member"] * 3 + ["bad_header"]
    assert not [detail for _, detail in details if NAME.lower() in detail.lower()]


def test_a_line_of_the_plain_form_can_not_be_signed() -> None:
    """The signature is over the bytes alone: under another header they would say something else in that name."""
    name, key = "acme", Ed25519PrivateKey.generate()
    vkey = vkey_text("k", key.public_key().public_bytes_raw())
    value = b'{"run_id":"r","step":1,"type":"validator","rule":"x","result":"pass"}'
    message = PRODUCER_DOMAIN + lp(name.encode()) + lp(value)
    header = b"k:" + b64encode(key.sign(message))
    authority = Authority({name: Tenant(name, name, ("p/acme",))})
    decoder = Decoder(authority, {(name, "k"): (vkey, "producer")})
    headers = [("tallystick-sig", header), ("tallystick-form", b"plain")]
    pending = decoder.decode(
        Record("c", "tally.events.acme", None, 0, 1, value, headers, None, "p/i", "2026-11-21T10:00:00.000000Z")
    )
    assert (pending.event.kind, pending.event.data["reason"]) == ("rejected", "bad_signature")
