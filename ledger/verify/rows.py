"""Reading rows out of Postgres by binary COPY, as fast as they arrive and a bounded number at a time.

Guarantees: rows come in the query's order, whole; not more than a batch of them is held. Does not: interpret them,
beyond the framing that Postgres documents (COPY, "Binary Format"): a row is a 16-bit count of fields, then for each a
32-bit length (-1: null) and its bytes.

psycopg's own row reader costs an await a row. Here an await fetches what the socket has and the rows in it are taken
from libpq directly.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

from psycopg import sql

from ledger.db import Connection

BATCH_ROWS_MAX = 256
BATCH_BYTES_MAX = 1 << 20  # with one row more, which may be as large as Postgres' fields get

_TRAILER = b"\xff\xff"
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_EXTENSION_AT = len(_SIGNATURE) + 4
_INT32 = struct.Struct(">i")
_INT16 = struct.Struct(">h")


async def copy_rows(conn: Connection, query: sql.Composed | sql.SQL) -> AsyncIterator[list[bytes]]:
    """The rows of a query in batches. Raises psycopg.Error."""
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    pgconn = conn.pgconn
    async with conn.cursor() as cursor, cursor.copy(statement) as copy:
        header = True
        while data := await copy.read():
            row = bytes(data)
            if header:
                row, header = _after_header(row), False
            batch: list[bytes] = []
            held = 0
            # The trailer is the last message: past it libpq has nothing, and `copy.read` must be the one to see that.
            while row != _TRAILER:
                if row:
                    batch.append(row)
                    held += len(row)
                    if len(batch) >= BATCH_ROWS_MAX or held >= BATCH_BYTES_MAX:
                        break
                size, data = pgconn.get_copy_data(1)
                if size == 0:
                    pgconn.consume_input()
                    size, data = pgconn.get_copy_data(1)
                    if size <= 0:
                        break
                row = bytes(data)
            if batch:
                yield batch


def _after_header(data: bytes) -> bytes:
    """What follows the header in the first message: a row, the trailer, or nothing."""
    extension = _INT32.unpack_from(data, _EXTENSION_AT)[0]
    return data[_EXTENSION_AT + 4 + extension :]


def fields_of(row: bytes) -> list[bytes | None]:
    """The fields of a row."""
    found: list[bytes | None] = []
    at = 2
    for _ in range(_INT16.unpack_from(row)[0]):
        size = _INT32.unpack_from(row, at)[0]
        at += 4
        if size < 0:
            found.append(None)
        else:
            found.append(row[at : at + size])
            at += size
    return found


def array_of(field: bytes) -> list[bytes | None]:
    """The elements of a one-dimensional array field."""
    dimensions, _, _ = struct.unpack_from(">iii", field)
    if dimensions == 0:
        return []
    count = _INT32.unpack_from(field, 12)[0]
    found: list[bytes | None] = []
    at = 20
    for _ in range(count):
        size = _INT32.unpack_from(field, at)[0]
        at += 4
        if size < 0:
            found.append(None)
        else:
            found.append(field[at : at + size])
            at += size
    return found
