"""Signed notes: the specification's own example, round trips, and every malformed form."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import note
from ledger.errors import BadSignature, MalformedNote, NoteError, UnknownKey

# From the documentation of golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = note.Ed25519Signer("ledger.example.org/t-1", PRIVATE)
OTHER = note.Ed25519Signer("ledger.example.org/t-1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
TEXT = "ledger.example.org/t-1\n3\nbytes\n"

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[chr(code) for code in range(32) if code != 10])
).map(lambda text: text + "\n")
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="+"), min_size=1)


def test_the_example_of_go() -> None:
    opened = note.open_note(GO_NOTE, [GO_VKEY])
    assert opened.text.startswith("If you think cryptography")
    assert [str(key) for key in opened.keys] == [GO_VKEY]


@given(texts, names)
def test_what_was_signed_opens_and_no_other_text_does(text: str, name: str) -> None:
    signer = note.Ed25519Signer(name, PRIVATE)
    data = note.sign_note(text, signer)
    opened = note.open_note(data, [signer.vkey])
    assert opened.text == text
    assert str(note.parse_vkey(signer.vkey)) == signer.vkey
    with pytest.raises(NoteError):
        note.open_note(b"x" + data, [signer.vkey])


@given(st.integers(0, 10_000))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    data = bytearray(note.sign_note(TEXT, SIGNER))
    bit %= len(data) * 8
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoteError):
        note.open_note(bytes(data), [SIGNER.vkey])


def test_unknown_signatures_are_kept_and_not_trusted() -> None:
    data = note.sign_note(TEXT, SIGNER, OTHER)
    opened = note.open_note(data, [SIGNER.vkey])
    assert [found.key_id for found in opened.signatures] == [SIGNER.key_id]
    assert [found.key_id for found in opened.unverified] == [OTHER.key_id]
    both = note.open_note(data, [OTHER.vkey, SIGNER.vkey])
    assert [str(key) for key in both.keys] == [SIGNER.vkey, OTHER.vkey]
    with pytest.raises(UnknownKey, match="expected a signature by one of"):
        note.open_note(data, [GO_VKEY])
    with pytest.raises(UnknownKey):
        note.open_note(data, [])


def test_a_wrong_signature_by_a_known_key_spoils_the_note() -> None:
    wrong = note.sign("ledger.example.org/t-1", PRIVATE, "other text\n")
    data = note.add_signatures(note.sign_note(TEXT, OTHER), [wrong])
    assert note.open_note(data, [OTHER.vkey]).text == TEXT
    with pytest.raises(BadSignature, match="does not verify over this text"):
        note.open_note(data, [OTHER.vkey, SIGNER.vkey])


def test_cosignatures_are_parsed_kept_and_verified() -> None:
    line = note.cosign(OTHER, TEXT, 1_700_000_000)
    data = note.add_signatures(note.sign_note(TEXT, SIGNER), [line])
    kept = note.open_note(data, [SIGNER.vkey])
    assert [found.line for found in kept.unverified] == [line]
    witness = note.vkey_text(OTHER.name, OTHER.public, note.COSIGNATURE)
    opened = note.open_note(data, [SIGNER.vkey, witness])
    assert [found.time for found in opened.signatures] == [None, 1_700_000_000]
    later = line.replace(line.split()[-1], b64encode(_with_time(opened.signatures[1], 1_700_000_001)).decode())
    with pytest.raises(BadSignature):
        note.open_note(note.add_signatures(note.sign_note(TEXT, SIGNER), [later]), [SIGNER.vkey, witness])


def _with_time(found: note.Signature, seconds: int) -> bytes:
    return found.key_id + seconds.to_bytes(8, "big") + found.signature[8:]


def test_two_keys_under_one_id_are_refused() -> None:
    key = note.parse_vkey(SIGNER.vkey)
    twin = note.VerifierKey(key.name, key.algorithm, bytes(32), key.key_id)
    with pytest.raises(MalformedNote, match="two different keys"):
        note.open_note(note.sign_note(TEXT, SIGNER), [key, twin])


LINE = note.sign_as(SIGNER, TEXT)
SIGNED = note.sign_note(TEXT, SIGNER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        TEXT.encode(),
        (TEXT + "\n").encode(),
        (TEXT + LINE).encode(),
        SIGNED[:-1],
        SIGNED + b"\n",
        SIGNED + b"x\n",
        SIGNED.replace(b"\xe2\x80\x94 ", b"- "),
        SIGNED.replace(b"t-1 ", b"t-1  "),
        SIGNED.replace(b"\n\n", b"\r\n\r\n"),
        SIGNED.replace(b"bytes", b"by\x00es"),
        SIGNED.replace(b"bytes", b"by\tes"),
        SIGNED.replace(b"bytes", b"by\xffes"),
        (TEXT + "\n" + LINE[:-1] + "!\n").encode(),
        (TEXT + "\n— ledger.example.org/t-1 AAAA\n").encode(),
        (TEXT + "\n— ledger.example.org/t+1 AAAAAAAA\n").encode(),
        (TEXT + "\n—  AAAAAAAA\n").encode(),
        (TEXT + "\n" + LINE * 101).encode(),
        b"x" * 1_000_001,
    ],
)
def test_malformed_notes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedNote):
        note.open_note(data, [SIGNER.vkey])


def test_a_text_may_hold_empty_lines_and_a_repeated_signature_counts_once() -> None:
    text = "one\n\ntwo\n"
    data = note.sign_note(text, SIGNER, SIGNER)
    opened = note.open_note(data, [SIGNER.vkey])
    assert (opened.text, len(opened.signatures)) == (text, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+c74f20a3",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("+c7", "+0c7"),
        GO_VKEY.replace("Peter", "Peter "),
        GO_VKEY + "=",
        GO_VKEY[:-4],
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        GO_VKEY.replace("+AR", "+AB"),
    ],
)
def test_malformed_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(MalformedNote):
        note.parse_vkey(text)


def test_a_key_file() -> None:
    keys = note.read_vkeys(f"# the ledger's\n\n{GO_VKEY}\n  {SIGNER.vkey}  \n")
    assert [str(key) for key in keys] == [GO_VKEY, SIGNER.vkey]


def test_what_cannot_be_signed() -> None:
    with pytest.raises(MalformedNote, match="ends in a newline"):
        note.sign_note("text", SIGNER)
    with pytest.raises(MalformedNote, match="control characters"):
        note.sign_note("te\txt\n", SIGNER)
    with pytest.raises(MalformedNote, match="one signature or more"):
        note.sign_note("text\n")
    with pytest.raises(MalformedNote, match="key name"):
        note.Ed25519Signer("a b", PRIVATE)
    with pytest.raises(MalformedNote, match="expected 32 bytes, got 31"):
        note.vkey_text("name", bytes(31))
    with pytest.raises(MalformedNote, match="one signature line"):
        note.add_signatures(SIGNED, [LINE + LINE])
    assert "private" not in repr(SIGNER)
