"""Checkpoints (C2SP tlog-checkpoint): what a log's tree was, under the log's signature. Pure.

    <origin>
    <tree size>
    <base64 root hash>

Guarantees: parse then `text()` gives the same text; a checkpoint from `verify_checkpoint` was signed by a given key
*of that origin*. Our logs write no extension lines, and a text with any is refused. Does not: compare two checkpoints
(`merkle.verify_consistency`), or remember any (`keystore.published`).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.errors import BadSignature, MalformedNote, UnknownKey
from ledger.merkle import HASH_BYTES, TREE_SIZE_MAX
from ledger.note import ED25519, Signer, VerifiedNote, VerifierKey, open_note, sign_note

__all__ = [
    "BadSignature",
    "Checkpoint",
    "MalformedNote",
    "UnknownKey",
    "VerifiedCheckpoint",
    "parse_checkpoint",
    "sign_checkpoint",
    "verify_checkpoint",
]

_TREE_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: what log, how many leaves, under what root."""

    origin: str
    tree_size: int
    root_hash: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.tree_size}\n{b64encode(self.root_hash).decode()}\n"


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint with the note that proves it."""

    checkpoint: Checkpoint
    note: VerifiedNote


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint from its text (of a note: without signatures); MalformedNote unless it is one to the letter."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise MalformedNote(f"checkpoint: expected exactly 3 lines, each ended, got {text!r}")
    origin, size, root = lines[:3]
    if not origin or "+" in origin or any(character.isspace() for character in origin):
        raise MalformedNote(f"checkpoint: expected an origin without white space and plus, got {origin!r}")
    if not _TREE_SIZE.fullmatch(size) or int(size) > TREE_SIZE_MAX:
        raise MalformedNote(f"checkpoint of {origin}: expected a decimal tree size, got {size!r}")
    try:
        root_hash = b64decode(root, validate=True)
    except ValueError as error:
        raise MalformedNote(f"checkpoint of {origin}: expected a base64 root hash, got {root!r}") from error
    if len(root_hash) != HASH_BYTES or b64encode(root_hash).decode() != root:
        raise MalformedNote(f"checkpoint of {origin}: expected a base64 root hash of {HASH_BYTES} bytes, got {root!r}")
    return Checkpoint(origin, int(size), root_hash)


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> bytes:
    """The signed note of a checkpoint; during a rotation by both keys. A signer of another name is refused."""
    for signer in signers:
        if signer.name != checkpoint.origin:
            raise MalformedNote(f"checkpoint of {checkpoint.origin}: expected a key of that name, got {signer.name}")
    return sign_note(checkpoint.text(), *signers)


def verify_checkpoint(data: bytes, vkeys: Iterable[VerifierKey | str]) -> VerifiedCheckpoint:
    """The checkpoint of a signed note, if a given key of its origin signed it as the log.

    Witnesses' keys may be among the keys: their cosignatures are then verified too and stand in `note`, but one alone
    does not make the checkpoint the log's. Raises MalformedNote, BadSignature, UnknownKey.
    """
    note = open_note(data, vkeys)
    checkpoint = parse_checkpoint(note.text)
    if not any(key.algorithm == ED25519 and key.name == checkpoint.origin for key in note.keys):
        raise UnknownKey(
            f"checkpoint of {checkpoint.origin}: expected the log's own signature by a given key, "
            f"got only {[str(key) for key in note.keys]}"
        )
    return VerifiedCheckpoint(checkpoint, note)
