"""Signed notes (C2SP signed-note), read and written strictly. Pure.

A note is a text that ends in a newline, an empty line, and one or more signature lines:

    — <key name> <base64(4-byte key id ‖ signature)>

Two algorithms are known: 0x01, Ed25519 over the text; and 0x04, a cosignature (C2SP tlog-cosignature), Ed25519 over
`cosignature/v1\\ntime <seconds>\\n` and the text, whose signature is 8 bytes of time and 64 of Ed25519.

Guarantees: `open_note` returns only texts that a given key signed; a signature that claims a given key and fails is an
error even when another one verifies. Lines by unknown keys are kept, unverified, as the specification demands.
Does not: say which keys to trust, or read what the text says (`checkpoint`).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import BadSignature, MalformedNote, UnknownKey

ED25519 = 0x01
COSIGNATURE = 0x04
# Both bound the work that a hostile note can cause; they are those of golang.org/x/mod/sumdb/note.
NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100

_KEY_ID_BYTES = 4
_PUBLIC_BYTES = 32
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_LINE_PREFIX = "— "
_FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_NOT_IN_NAME = re.compile(r"[\s+\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name, as a vkey text says it."""

    name: str
    algorithm: int
    public: bytes
    key_id: bytes

    def __str__(self) -> str:
        encoded = b64encode(bytes([self.algorithm]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. `time` is set for a cosignature that was verified: seconds since 1970."""

    name: str
    key_id: bytes
    signature: bytes
    time: int | None = None

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        return f"{_LINE_PREFIX}{self.name} {b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart; nothing in it is verified."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A text that at least one given key signed. `unverified` are lines by keys that were not given."""

    text: str
    signatures: tuple[Signature, ...]
    keys: tuple[VerifierKey, ...]  # parallel to signatures
    unverified: tuple[Signature, ...]


class Signer(Protocol):
    """Signs as one key. An implementation may keep the key elsewhere."""

    @property
    def name(self) -> str: ...
    @property
    def vkey(self) -> str: ...
    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message."""


class Ed25519Signer:
    """A signer whose private key is in this process."""

    __slots__ = ("_private", "key_id", "name", "public", "vkey")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        _check_name(name)
        self._private = private
        self.name = name
        self.public = private.public_key().public_bytes_raw()
        self.key_id = key_id(name, self.public)
        self.vkey = vkey_text(name, self.public)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.vkey})"

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message."""
        return self._private.sign(message)


def key_id(name: str, public: bytes, algorithm: int = ED25519) -> bytes:
    """First 4 bytes of SHA-256(name ‖ 0x0A ‖ algorithm ‖ public key)."""
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:_KEY_ID_BYTES]


def vkey_text(name: str, public: bytes, algorithm: int = ED25519) -> str:
    """The verifier key `name+hex+base64` of a raw public key."""
    _check_name(name)
    if len(public) != _PUBLIC_BYTES:
        raise MalformedNote(f"public key of {name}: expected {_PUBLIC_BYTES} bytes, got {len(public)}")
    return str(VerifierKey(name, algorithm, public, key_id(name, public, algorithm)))


@lru_cache(maxsize=4096)
def parse_vkey(text: str) -> VerifierKey:
    """A verifier key from its text; MalformedNote when it is not one, or of an algorithm not known here."""
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise MalformedNote(f"verifier key: expected <name>+<key id>+<base64>, got {text!r}")
    name, id_hex, encoded = parts
    _check_name(name)
    data = _decode64(encoded, "verifier key")
    if len(data) != 1 + _PUBLIC_BYTES or data[0] not in (ED25519, COSIGNATURE):
        raise MalformedNote(
            f"verifier key of {name}: expected algorithm 1 or 4 and {_PUBLIC_BYTES} bytes, "
            f"got algorithm {data[0] if data else None} and {max(len(data) - 1, 0)} bytes"
        )
    algorithm, public = data[0], data[1:]
    expected = key_id(name, public, algorithm)
    if id_hex != expected.hex():
        raise MalformedNote(f"verifier key of {name}: expected key id {expected.hex()}, got {id_hex!r}")
    return VerifierKey(name, algorithm, public, expected)


def read_vkeys(text: str) -> list[VerifierKey]:
    """The verifier keys of a key file: one a line; empty lines and lines that begin with # are passed over."""
    lines = [line.strip() for line in text.splitlines()]
    return [parse_vkey(line) for line in lines if line and not line.startswith("#")]


def sign_as(signer: Signer, text: str) -> str:
    """The signature line of a text, with its newline."""
    _check_text(text)
    key = parse_vkey(signer.vkey)
    return Signature(key.name, key.key_id, signer.sign(text.encode())).line


def sign(name: str, private: Ed25519PrivateKey, text: str) -> str:
    """The signature line of a text under a private key, with its newline."""
    return sign_as(Ed25519Signer(name, private), text)


def sign_note(text: str, *signers: Signer) -> bytes:
    """A whole signed note."""
    if not signers:
        raise MalformedNote("a note needs one signature or more, got none")
    return (text + "\n" + "".join(sign_as(signer, text) for signer in signers)).encode()


def cosign(signer: Signer, text: str, seconds: int) -> str:
    """The cosignature line of a text by a witness; the signer's own vkey names the key with algorithm 4."""
    _check_text(text)
    key = parse_vkey(signer.vkey)
    witness = key_id(key.name, key.public, COSIGNATURE)
    signature = seconds.to_bytes(_TIME_BYTES, "big") + signer.sign(_cosigned(text, seconds))
    return Signature(key.name, witness, signature).line


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def parse_note(data: bytes) -> Note:
    """Take a note apart, verifying nothing; MalformedNote unless it is one to the letter."""
    if len(data) > NOTE_BYTES_MAX:
        raise MalformedNote(f"note: expected at most {NOTE_BYTES_MAX} bytes, got {len(data)}")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedNote(f"note: expected UTF-8, got byte 0x{data[error.start]:02x} at {error.start}") from error
    at = whole.rfind("\n\n")
    if at < 0:
        raise MalformedNote("note: expected a text, an empty line and signatures; there is no empty line")
    _check_characters(whole)
    text, tail = whole[: at + 1], whole[at + 2 :]
    if not tail.endswith("\n"):
        raise MalformedNote("note: expected signature lines that end in a newline after the empty line")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise MalformedNote(f"note: expected at most {SIGNATURES_MAX} signatures, got {len(lines)}")
    return Note(text, tuple(_parse_line(line) for line in lines))


def _parse_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_LINE_PREFIX).partition(" ")
    if not line.startswith(_LINE_PREFIX) or not space:
        raise MalformedNote(f"note: expected a line `— <name> <base64>`, got {line!r}")
    _check_name(name)
    data = _decode64(encoded, f"signature by {name}")
    if len(data) <= _KEY_ID_BYTES:
        raise MalformedNote(f"signature by {name}: expected a key id and a signature, got {len(data)} bytes")
    return Signature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def open_note(data: bytes, vkeys: Iterable[VerifierKey | str]) -> VerifiedNote:
    """A note that at least one of the keys signed.

    Raises MalformedNote, BadSignature (a line claims a given key and fails), or UnknownKey (no line is by one).
    """
    note = parse_note(data)
    known = _by_name(vkeys)
    verified: dict[VerifierKey, Signature] = {}
    unverified: list[Signature] = []
    for found in note.signatures:
        key = known.get((found.name, found.key_id))
        if key is None:
            unverified.append(found)
        elif key not in verified:  # a further line by the same key adds nothing
            verified[key] = verify_signature(note.text, found, key)
    if not verified:
        raise UnknownKey(
            f"note: expected a signature by one of {sorted(f'{name}+{id.hex()}' for name, id in known)}, "
            f"got {[f'{found.name}+{found.key_id.hex()}' for found in unverified]}"
        )
    return VerifiedNote(note.text, tuple(verified.values()), tuple(verified), tuple(unverified))


def _by_name(vkeys: Iterable[VerifierKey | str]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for vkey in vkeys:
        key = parse_vkey(vkey) if isinstance(vkey, str) else vkey
        if known.setdefault((key.name, key.key_id), key) != key:
            raise MalformedNote(f"two different keys were given as {key.name}+{key.key_id.hex()}")
    return known


def verify_signature(text: str, found: Signature, key: VerifierKey) -> Signature:
    """The signature with its time, if the key made it over the text; BadSignature otherwise."""
    what = f"signature by {key.name}+{key.key_id.hex()}"
    expected = _SIGNATURE_BYTES if key.algorithm == ED25519 else _TIME_BYTES + _SIGNATURE_BYTES
    if len(found.signature) != expected:
        raise BadSignature(f"{what}: expected {expected} bytes, got {len(found.signature)}")
    time: int | None = None
    signature, message = found.signature, text.encode()
    if key.algorithm == COSIGNATURE:
        time, signature = int.from_bytes(signature[:_TIME_BYTES], "big"), signature[_TIME_BYTES:]
        message = _cosigned(text, time)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(f"{what} does not verify over this text") from error
    return Signature(found.name, found.key_id, found.signature, time)


def add_signatures(data: bytes, lines: Sequence[str]) -> bytes:
    """A note with further signature lines; each must be a line to the letter."""
    parse_note(data)
    for line in lines:
        if not line.endswith("\n") or "\n" in line[:-1]:
            raise MalformedNote(f"note: expected one signature line with its newline, got {line!r}")
        _parse_line(line[:-1])
    return data + "".join(lines).encode()


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise MalformedNote("note: expected a text that ends in a newline")
    _check_characters(text)


def _check_characters(text: str) -> None:
    found = _FORBIDDEN.search(text)
    if found:
        raise MalformedNote(f"note: expected no control characters, got {found[0]!r}")


def _check_name(name: str) -> None:
    if not name or _NOT_IN_NAME.search(name):
        raise MalformedNote(f"key name: expected one without white space and plus, got {name!r}")


def _decode64(text: str, what: str) -> bytes:
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise MalformedNote(f"{what}: expected standard base64, got {text!r}") from error
    if b64encode(data).decode() != text:
        raise MalformedNote(f"{what}: expected base64 without stray bits, got {text!r}")
    return data
