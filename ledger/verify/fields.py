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
from hashlib import sha256
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.content import COMMIT_DOMAIN, NONCE_BYTES, SALT_BYTES, commitment, field_cipher, lp, open_field
from ledger.errors import SealedFieldError
from ledger.keystore import KeyStore
from ledger.verify.entries import Commit
from ledger.verify.report import Findings
from ledger.verify.rows import array_of

COLUMNS = "index, pointers, types, sealed"

CIPHERS_CACHED_MAX = 50_000  # about 40 MB

_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))
# What a 32-byte key leaves of SHA-256's 64-byte block; inside, what every message begins with follows.
_INNER_PREFIX, _OUTER_PAD = b"\x36" * 32 + lp(COMMIT_DOMAIN), b"\x5c" * 32

_HEAD = struct.Struct(">hiqi")  # count of fields; length of index, index; length of pointers
_HEAD_BYTES = _HEAD.size
_INT32 = struct.Struct(">i")
_ARRAY_HEAD = struct.Struct(">iiIii")  # dimensions, whether with nulls, type of the elements; count, first index
_ARRAY_HEAD_BYTES = _ARRAY_HEAD.size
_BYTEA = 17  # the type's number in every Postgres
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
        self._single: dict[str, AESGCM | None] = {}
        self._several: dict[tuple[str, ...], AESGCM | None] = {}

    def fetch(self, refs: set[str]) -> None:
        """Make the keys of these references known; those the store lacks are remembered as missing."""
        wanted = refs - self._keys.keys()
        if len(self._keys) + len(wanted) > CIPHERS_CACHED_MAX:
            self._keys.clear()
            self._single.clear()
            self._several.clear()
            wanted = refs
        if wanted:
            found = self._keystore.keys_by_ref(list(wanted))
            for ref in wanted:
                self._keys[ref] = found.get(ref)

    def of(self, refs: list[str]) -> AESGCM | None:
        """The cipher of a field under these keys; None where one is missing. KeyError: fetch them first."""
        if len(refs) == 1:
            ref = refs[0]
            try:
                return self._single[ref]
            except KeyError:
                key = self._keys[ref]
                cipher = self._single[ref] = None if key is None else field_cipher([key])
                return cipher
        several = tuple(refs)
        if several not in self._several:
            keys = [self._keys[ref] for ref in refs]
            present = [key for key in keys if key is not None]
            self._several[several] = field_cipher(present) if present and len(present) == len(keys) else None
        return self._several[several]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which fields a row of content has: pointers with their types and the bytes of both as they are authenticated;
    the pointers alone, in order; and how the array of so many sealed fields may begin."""

    fields: tuple[tuple[str, str, bytes], ...]
    pointers: tuple[str, ...]
    heads: tuple[bytes, ...]


class FieldCheck:
    """Checks rows of `content` of one log."""

    def __init__(self, log: str, ciphers: Ciphers, findings: Findings) -> None:
        self.unopened: list[Unopened] = []
        self._log = log
        self._log_lp = lp(log.encode())
        self._ciphers = ciphers
        self._findings = findings
        self._shapes: dict[bytes, _Shape] = {}

    def row(self, row: bytes, commits: dict[int, tuple[str, Commit]], without: set[int]) -> None:
        """Check a row; takes its entry out of `commits`, which has those of its tile that were not checked yet.
        `without`: the entries that commit to nothing."""
        _, _, index, size = _HEAD.unpack_from(row)
        at = _HEAD_BYTES + size
        types_end = at + 4 + _INT32.unpack_from(row, at)[0]
        arrays = row[_HEAD_BYTES - 4 : types_end]
        shape = self._shapes.get(arrays) or self._shape(arrays, size, index)
        held = commits.get(index)
        if held is None:
            if index in without and shape is not None and shape.fields:
                self._tampered(index, "content is held for an entry whose leaf commits to none")
            return
        if shape is None:
            del commits[index]
            return
        id, commit = held
        if tuple(commit) != shape.pointers and commit.keys() != set(shape.pointers):
            self._tampered(index, f"content is held for {sorted(shape.pointers)}, the leaf commits to {sorted(commit)}")
            self._missing(index, {name: commit[name] for name in commit.keys() - set(shape.pointers)})
        if row.startswith(shape.heads, types_end + 4):
            self._fields(index, id, commit, shape, row, types_end + 4 + _ARRAY_HEAD_BYTES, commits)
        elif not _holds(row[types_end + 4 :], len(shape.fields)):
            self._tampered(index, f"expected {len(shape.fields)} sealed fields in one array, got something else")
        del commits[index]

    def _fields(
        self,
        index: int,
        id: str,
        commit: Commit,
        shape: _Shape,
        row: bytes,
        end: int,
        commits: dict[int, tuple[str, Commit]],
    ) -> None:
        """Check the fields of a row, which begin at `end`. `open_field` and `commitment` in one, for the hot path: what
        this does not accept, they are asked about again."""
        cipher_of, length_at, join = self._ciphers.of, _INT32.unpack_from, b"".join
        place = self._log_lp + lp(id.encode())
        for pointer, type, name in shape.fields:
            (length,) = length_at(row, end)
            at = end + 4
            end = at + length if length > 0 else at
            committed = commit.get(pointer)
            if committed is None:
                continue
            refs = committed["k"]
            if length < 0:
                self.unopened.append(Unopened(self._log, index, pointer, tuple(refs), "no bytes"))
                continue
            try:
                cipher = cipher_of(refs)
            except KeyError:
                self._fetch_keys(commits)
                cipher = cipher_of(refs)
            if cipher is None:
                self.unopened.append(Unopened(self._log, index, pointer, tuple(refs), "no key"))
                continue
            sealed_at = at + NONCE_BYTES
            additional = place + name
            try:
                plain = cipher.decrypt(row[at:sealed_at], row[sealed_at:end], additional)
            except (InvalidTag, ValueError):
                self._explain(index, cipher, row[at:end], id, pointer, type, committed["c"])
                continue
            salt, value = plain[:SALT_BYTES], plain[SALT_BYTES:]
            # HMAC-SHA256 by its definition, for a key of half a block.
            message = join((salt.translate(_INNER), _INNER_PREFIX, additional, len(value).to_bytes(8, "big"), value))
            found = sha256(salt.translate(_OUTER) + _OUTER_PAD + sha256(message).digest()).digest()
            if b2a_base64(found, newline=False) != committed["c"].encode() or len(salt) != SALT_BYTES:
                self._explain(index, cipher, row[at:end], id, pointer, type, committed["c"])

    def _explain(
        self, index: int, cipher: AESGCM, sealed: bytes, id: str, pointer: str, type: str, expected: str
    ) -> None:
        """Say what is wrong with a field that did not open as what the leaf commits to."""
        try:
            salt, value = open_field(cipher, sealed, self._log, id, pointer, type)
        except SealedFieldError as error:
            self._tampered(index, str(error))
            return
        found = b2a_base64(commitment(salt, self._log, id, pointer, type, value), newline=False).decode()
        self._tampered(index, f"{pointer}: the leaf commits to {expected}, the stored value gives {found}")

    def _fetch_keys(self, commits: dict[int, tuple[str, Commit]]) -> None:
        """Fetch the keys of all these entries at once."""
        refs: set[str] = set()
        for _, commit in commits.values():
            for committed in commit.values():
                refs.update(committed["k"])
        self._ciphers.fetch(refs)

    def without_row(self, commits: dict[int, tuple[str, Commit]]) -> None:
        """Entries that commit to content of which no row is held."""
        for index, (_, commit) in commits.items():
            self._missing(index, commit)

    def _missing(self, index: int, commit: Commit) -> None:
        for pointer, committed in commit.items():
            self.unopened.append(Unopened(self._log, index, pointer, tuple(committed["k"]), "no bytes"))

    def _tampered(self, index: int, detail: str) -> None:
        self._findings.add("content_tampered", self._log, index, detail)

    def _shape(self, arrays: bytes, size: int, index: int) -> _Shape | None:
        """The pointers and types of a row; few combinations exist, so they are parsed once each."""
        try:
            pointers = _texts(arrays[4 : 4 + size])
            types = _texts(arrays[8 + size :])
            named = [lp(pointer.encode()) + lp(type.encode()) for pointer, type in zip(pointers, types, strict=True)]
            fields = tuple(zip(pointers, types, named, strict=True))
            shape = _Shape(fields, tuple(pointers), _array_heads(len(fields)))
            if len(set(pointers)) != len(pointers):
                raise ValueError("a pointer stands twice")
        except (ValueError, struct.error) as error:
            self._tampered(index, f"pointers and types of the content are damaged: {error}")
            return None
        if len(self._shapes) >= _SHAPES_CACHED_MAX:
            self._shapes.clear()
        self._shapes[arrays] = shape
        return shape


def _array_heads(count: int) -> tuple[bytes, ...]:
    """How a bytea array of so many elements, counted from 1, may begin: without nulls, and with some."""
    if count == 0:
        return ()
    return tuple(_ARRAY_HEAD.pack(1, nulls, _BYTEA, count, 1) for nulls in (0, 1))


def _texts(array: bytes) -> list[str]:
    """The texts of an array field. Raises ValueError, struct.error."""
    items = [item for item in array_of(array) if item is not None]
    if not _holds(array, len(items)):
        raise ValueError("an element is null, or the array is not one of elements 1 to n")
    return [str(item, "utf-8") for item in items]


def _holds(sealed: bytes, count: int) -> bool:
    """Whether an array field has one dimension and so many elements, counted from 1."""
    if len(sealed) < 12:
        return False
    dimensions = _INT32.unpack_from(sealed)[0]
    if dimensions == 0:
        return count == 0
    return bool(
        dimensions == 1 and _INT32.unpack_from(sealed, 12)[0] == count and _INT32.unpack_from(sealed, 16)[0] == 1
    )
