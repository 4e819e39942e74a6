"""A draft: an entry sealed but for its place in a chain.

`prev`, `run_seq` and `recorded` are known only under the lock of the log's head. Everything else of a leaf is encoded
before, as two byte strings around those members and `run`, so that placing an entry costs a join and a hash, and
placing it again after another writer moved the run's tail costs the same.

Invariant: `Draft.leaf(...)` is the canonical form (log-format.md, "Leaf"), because the member names sort as
`… log < prev < recorded < run < run_seq < schema …` and each part was encoded canonically.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from schemas.canonical import encode_unchecked

_U32 = struct.Struct(">I")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULL_FIELD = struct.pack(">i", -1)
_ELEMENT = _U32.pack
_ARRAY_HEAD = struct.Struct(">IiiIii")  # bytes that follow; dimensions, has nulls, element type, length, lower bound
_ARRAY_HEAD_BYTES = 20  # that count among those that follow
_TEXT_OID, _BYTEA_OID = 25, 17
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)


class Draft(msgspec.Struct, gc=False):
    """One entry to be appended to `log`; `id_bytes` is the UUID's 16 bytes. Thousands wait for each transaction."""

    log: str
    id_bytes: bytes
    kind: str
    run: str | None
    before_prev: bytes
    after_run_seq: bytes
    fingerprint: bytes | None = None
    content_row: bytes | None = None  # the COPY row in `content` after log and index; None where there is none

    def leaf(self, prev: bytes, run_seq: int, recorded: bytes) -> bytes:
        """The leaf's exact bytes. `prev`: 64 hex digits, or empty at 0; `recorded`: the timestamp's text."""
        if self.run is None:
            place = b',"prev":null,"recorded":"%b","run":null,"run_seq":null' % recorded
        else:
            quoted = b'"%b"' % prev if prev else b"null"
            place = b',"prev":%b,"recorded":"%b","run":"%b","run_seq":%d' % (
                quoted,
                recorded,
                self.run.encode(),
                run_seq,
            )
        return b"".join((self.before_prev, place, self.after_run_seq))

    @property
    def source(self) -> dict[str, Any]:
        """The leaf's `source`."""
        source: dict[str, Any] = orjson.loads(b"{" + self.after_run_seq[1:])["source"]
        return source


def make_draft(
    *,
    log: str,
    id: str,
    kind: str,
    schema: int,
    run: str | None,
    src: dict[str, Any] | None,
    time: str | None,
    source: dict[str, Any],
    actor: dict[str, Any] | None,
    data: dict[str, Any],
    commit: dict[str, Any] | None,
    sig: dict[str, Any] | None,
) -> Draft:
    """Encode all but the chain members of a leaf. Values must already be in the leaf profile."""
    encoded = encode_unchecked(
        {
            "actor": actor,
            "commit": commit,
            "data": data,
            "id": id,
            "kind": kind,
            "log": log,
            "schema": schema,
            "sig": sig,
            "source": source,
            "src": src,
            "time": time,
            "v": 1,
        }
    )
    # The last of that name is the leaf's own: no object after it has such a member, and in texts quotes are escaped.
    at = encoded.rindex(b',"schema":')
    return Draft(log, bytes.fromhex(id.replace("-", "")), kind, run, encoded[:at], encoded[at:])


def micros_text(micros: int) -> bytes:
    """Microseconds since 1970 as `YYYY-MM-DDThh:mm:ss.ffffffZ`."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.").encode() + b"%06dZ" % (micros % 1_000_000)


# Binary COPY. The formats are Postgres' documented binary representations of int8, uuid, timestamptz, text[], bytea[].


def copy_field(value: bytes) -> bytes:
    """One field of a binary COPY row: length, bytes."""
    return _U32.pack(len(value)) + value


def content_row(
    fingerprint: bytes | None, pointers: tuple[str, ...], types: tuple[str, ...], sealed: list[bytes]
) -> bytes:
    """The fields of a row of `content` after log and index."""
    head = _NULL_FIELD if fingerprint is None else copy_field(fingerprint)
    return b"".join((head, _text_arrays(pointers, types), _array(_BYTEA_OID, sealed)))


@lru_cache(maxsize=4096)
def _text_arrays(pointers: tuple[str, ...], types: tuple[str, ...]) -> bytes:
    # Cached: few combinations exist.
    return b"".join([_array(_TEXT_OID, [text.encode() for text in texts]) for texts in (pointers, types)])


def _array(oid: int, values: Sequence[bytes]) -> bytes:
    if not values:
        return copy_field(struct.pack(">iiI", 0, 0, oid))
    parts = [b""]
    size = _ARRAY_HEAD_BYTES
    for value in values:
        length = len(value)
        size += 4 + length
        parts += (_ELEMENT(length), value)
    parts[0] = _ARRAY_HEAD.pack(size, 1, 0, oid, len(values), 1)
    return b"".join(parts)
