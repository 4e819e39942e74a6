"""Who vouches for an event besides the runtime: producers' signatures and second parties' attestations. Pure.

Source: kinds.md, "Who may say what" and `attestation`.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ingest.errors import Refused
from ledger.content import lp
from ledger.note import parse_vkey
from schemas.event import Event

SIGNATURE_HEADER = "tallystick-sig"
PRODUCER_DOMAIN = lp(b"tallystick/producer-sig/v1")
ATTESTATION_DOMAIN = lp(b"tallystick/attestation/v1")

Keys = Mapping[tuple[str, str], tuple[str, str]]  # (tenant, key) to (verifier key, role)


class Signatures:
    """Checks signatures under one state of the registry."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def check_producer(self, header: bytes, value: bytes, tenant: str | None) -> tuple[str, str]:
        """(key id, tenant) of a producer's signature over a record's value. Raises Refused where it doesn't verify."""
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

    def check_attester(self, tenant: str, event: Event, attested: bytes) -> None:
        """Check an event's attestation, over `attested`, the normal form of its data without it. Raises Refused."""
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


def _verify(vkey: str, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(parse_vkey(vkey).public).verify(signature, message)
    except InvalidSignature as error:
        raise Refused("bad_signature", "the signature does not verify") from error
