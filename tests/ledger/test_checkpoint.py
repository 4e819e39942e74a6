"""Checkpoints: the text is one to the letter, and the log's own key must have signed it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import note
from ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint, verify_checkpoint
from ledger.errors import BadSignature, MalformedNote, UnknownKey
from ledger.merkle import TREE_SIZE_MAX

ORIGIN = "ledger.example.org/t-5f0c9a77d2e41b36"
OLD = note.Ed25519Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
NEW = note.Ed25519Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = note.Ed25519Signer("witness.example.net/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
CHECKPOINT = Checkpoint(ORIGIN, 70_000, bytes(range(32)))
ROOT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

origins = st.from_regex(r"[a-z0-9.-]+(/[a-zA-Z0-9._-]+)*", fullmatch=True)


@given(origins, st.integers(0, TREE_SIZE_MAX), st.binary(min_size=32, max_size=32))
def test_text_and_parse_are_inverse(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert parse_checkpoint(checkpoint.text()) == checkpoint
    assert parse_checkpoint(checkpoint.text()).text() == checkpoint.text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n70000\n{ROOT}",
        f"{ORIGIN}\n70000\n{ROOT}\nextension\n",
        f"{ORIGIN}\n70000\n{ROOT}\n\n",
        f"{ORIGIN}\n70000\n",
        f"\n70000\n{ROOT}\n",
        f"a b\n70000\n{ROOT}\n",
        f"{ORIGIN}\n070000\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n+1\n{ROOT}\n",
        f"{ORIGIN}\n7_0\n{ROOT}\n",
        f"{ORIGIN}\n٣\n{ROOT}\n",
        f"{ORIGIN}\n{TREE_SIZE_MAX + 1}\n{ROOT}\n",
        f"{ORIGIN}\n70000\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n70000\n{ROOT[:-2]}9=\n",
        f"{ORIGIN}\n70000\n AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        f"{ORIGIN}\n70000\nAAAA\n",
        f"{ORIGIN}\r\n70000\r\n{ROOT}\r\n",
    ],
)
def test_malformed_texts_are_refused(text: str) -> None:
    with pytest.raises(MalformedNote):
        parse_checkpoint(text)


def test_the_logs_own_signature_is_needed() -> None:
    data = sign_checkpoint(CHECKPOINT, OLD)
    assert verify_checkpoint(data, [OLD.vkey]).checkpoint == CHECKPOINT
    with pytest.raises(UnknownKey):
        verify_checkpoint(data, [NEW.vkey])
    witnessed = note.add_signatures(data, [note.cosign(WITNESS, CHECKPOINT.text(), 1_700_000_000)])
    witness_key = note.vkey_text(WITNESS.name, WITNESS.public, note.COSIGNATURE)
    assert len(verify_checkpoint(witnessed, [OLD.vkey, witness_key]).note.signatures) == 2
    with pytest.raises(UnknownKey, match="expected the log's own signature"):
        verify_checkpoint(witnessed, [witness_key])
    # A key of another name signs notes of its own, never this log's checkpoint.
    with pytest.raises(UnknownKey, match="expected the log's own signature"):
        verify_checkpoint(note.sign_note(CHECKPOINT.text(), WITNESS), [WITNESS.vkey])


def test_rotation_carries_both_signatures() -> None:
    data = sign_checkpoint(CHECKPOINT, OLD, NEW)
    for keys in ([OLD.vkey], [NEW.vkey], [OLD.vkey, NEW.vkey]):
        assert len(verify_checkpoint(data, keys).note.signatures) == len(keys)


@given(st.integers(0, 10_000))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    data = bytearray(sign_checkpoint(CHECKPOINT, OLD))
    bit %= len(data) * 8
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((MalformedNote, UnknownKey, BadSignature)):
        verify_checkpoint(bytes(data), [OLD.vkey])


def test_another_logs_key_does_not_sign() -> None:
    with pytest.raises(MalformedNote, match="expected a key of that name"):
        sign_checkpoint(CHECKPOINT, WITNESS)
