"""Checking content against the commitments in the leaves. Pure, but for asking the key store.

Guarantees: a field that is not reported opens under the keys its leaf names and is what the leaf commits to. A field
that can't be opened for want of a key or of bytes is handed up with the reason: whether it was erased, shows only when
every erasure entry was read. Does not: return or keep any value.

Source: log-format.md, "Content".
"""

from __future__ import annotations

import struct
from binascii import b2a_base64
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.content import commitment, field_cipher, open_field
from ledger.errors import SealedFieldError
from ledger.keystore import KeyStore
from ledger.verify.entries import Commit
from ledger.verify.report import Findings
from ledger.verify.rows import array_of

COLUMNS = "index, pointers, types, sealed"

CIPHERS_CACHED_MAX = 50_000  # about 40 MB

_HEAD = struct.Struct(">hiqi")  # count of fields; length of index, index; length of pointers
_HEAD_BYTES = _HEAD.size
_INT32 = struct.Struct(">i")
_SHAPES_CACHED_MAX = 4096

Reason = Literal["no key", "no bytes"]


@dataclass(frozen=True, slots=True)
class Unopened:
    """A field that could not be opened, and the keys it would need."""

    log: str
    index: int
    pointer: str
    refs: tuple[str, ...]
    reason: Reason


class Ciphers:
    """The ciphers of key references, fetched from the key store many at a time."""

    def __init__(self, keystore: KeyStore) -> None:
        self._keystore = keystore
        self._keys: dict[str, bytes | None] = {}
        self._ciphers: dict[tuple[str, ...], AESGCM | None] = {}

    def fetch(self, refs: set[str]) -> None:
        """Make the keys of these references known; those the store lacks are remembered as missing."""
        wanted = refs - self._keys.keys()
        if not wanted:
            return
        if len(self._keys) + len(wanted) > CIPHERS_CACHED_MAX:
            self._keys.clear()
            self._ciphers.clear()
            wanted = refs
        found = self._keystore.keys_by_ref(list(wanted))
        for ref in wanted:
            self._keys[ref] = found.get(ref)

    def of(self, refs: tuple[str, ...]) -> AESGCM | None:
        """The cipher of a field under these keys, which were fetched; None where one is missing."""
        try:
            return self._ciphers[refs]
        except KeyError:
            keys = [self._keys[ref] for ref in refs]
            present = [key for key in keys if key is not None]
            cipher = self._ciphers[refs] = field_cipher(present) if present and len(present) == len(keys) else None
            return cipher


class FieldCheck:
    """Checks rows of `content` of one log."""

    def __init__(self, log: str, ciphers: Ciphers, findings: Findings) -> None:
        self.unopened: list[Unopened] = []
        self._log = log
        self._ciphers = ciphers
        self._findings = findings
        self._shapes: dict[bytes, tuple[tuple[str, str], ...]] = {}

    def fetch_keys(self, commits: dict[int, tuple[str, Commit]]) -> None:
        """Fetch the keys that the fields of these entries are under."""
        refs: set[str] = set()
        for _, commit in commits.values():
            for committed in commit.values():
                refs.update(committed["k"])
        if refs:
            self._ciphers.fetch(refs)

    def row(self, row: bytes, commits: dict[int, tuple[str, Commit]], without: set[int]) -> None:
        """Check a row; takes its entry out of `commits`. `without`: the entries that commit to nothing."""
        _, _, index, size = _HEAD.unpack_from(row)
        at = _HEAD_BYTES + size
        types_end = at + 4 + _INT32.unpack_from(row, at)[0]
        shape = self._shape(row[_HEAD_BYTES - 4 : types_end], size, index)
        held = commits.pop(index, None)
        if shape is None:
            return
        if held is None:
            if index in without and shape:
                self._tampered(index, "content is held for an entry whose leaf commits to none")
            return
        id, commit = held
        if len(shape) != len(commit) or any(pointer not in commit for pointer, _ in shape):
            pointers = {pointer for pointer, _ in shape}
            self._tampered(index, f"content is held for {sorted(pointers)}, the leaf commits to {sorted(commit)}")
            self._missing(index, {name: commit[name] for name in commit.keys() - pointers})
        sealed = row[types_end + 4 :]
        if not _holds(sealed, len(shape)):
            self._tampered(index, f"expected {len(shape)} sealed fields in one array, got something else")
            return
        at = 20  # past the array's head
        for pointer, type in shape:
            length = _INT32.unpack_from(sealed, at)[0]
            at += 4
            committed = commit.get(pointer)
            refs = None if committed is None else tuple(committed["k"])
            if length < 0:
                if refs is not None:
                    self.unopened.append(Unopened(self._log, index, pointer, refs, "no bytes"))
                continue
            at += length
            if committed is None or refs is None:
                continue
            cipher = self._ciphers.of(refs)
            if cipher is None:
                self.unopened.append(Unopened(self._log, index, pointer, refs, "no key"))
                continue
            try:
                salt, value = open_field(cipher, sealed[at - length : at], self._log, id, pointer, type)
            except SealedFieldError as error:
                self._tampered(index, str(error))
                continue
            found = commitment(salt, self._log, id, pointer, type, value)
            if b2a_base64(found, newline=False).decode() != committed["c"]:
                self._tampered(index, f"{pointer} is not what the leaf commits to")

    def without_row(self, commits: dict[int, tuple[str, Commit]]) -> None:
        """Entries that commit to content of which no row is held."""
        for index, (_, commit) in commits.items():
            self._missing(index, commit)

    def _missing(self, index: int, commit: Commit) -> None:
        for pointer, committed in commit.items():
            self.unopened.append(Unopened(self._log, index, pointer, tuple(committed["k"]), "no bytes"))

    def _tampered(self, index: int, detail: str) -> None:
        self._findings.add("content_tampered", self._log, index, detail)

    def _shape(self, arrays: bytes, size: int, index: int) -> tuple[tuple[str, str], ...] | None:
        """The pointers and types of a row; few combinations exist, so they are parsed once each."""
        found = self._shapes.get(arrays)
        if found is not None:
            return found
        try:
            pointers = [str(item, "utf-8") for item in array_of(arrays[4 : 4 + size]) if item is not None]
            types = [str(item, "utf-8") for item in array_of(arrays[8 + size :]) if item is not None]
            shape = tuple(zip(pointers, types, strict=True))
            if len(set(pointers)) != len(pointers):
                raise ValueError("a pointer stands twice")
        except (ValueError, struct.error) as error:
            self._tampered(index, f"pointers and types of the content are damaged: {error}")
            return None
        if len(self._shapes) >= _SHAPES_CACHED_MAX:
            self._shapes.clear()
        self._shapes[arrays] = shape
        return shape


def _holds(sealed: bytes, count: int) -> bool:
    """Whether an array field has one dimension and so many elements."""
    if len(sealed) < 12:
        return False
    dimensions = _INT32.unpack_from(sealed)[0]
    if dimensions == 0:
        return count == 0
    return bool(dimensions == 1 and _INT32.unpack_from(sealed, 12)[0] == count)
