"""The heads log: every other log's newest checkpoint, as the exact signed note.

One publisher appends, at most every `PUBLISH_EVERY_S`, in a transaction of its own: lock the head of `heads`, then read
the newest checkpoints, record them outside the database, append, commit, record `heads` itself. A log that did not grow
is skipped. A crash between any two of these steps is mended by the next round, since what stands in `heads` is counted
in `published_sizes` in the same transaction.

Guarantees: a checkpoint is recorded beside the key before `heads` names it; only committed checkpoints are named.
Does not: cosign, serve or push anything.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import psycopg

from ledger.append import refuse_fork
from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.db import Connection
from ledger.errors import LogMissing
from ledger.keystore import KeyStore
from ledger.merkle import Edge

PUBLISH_EVERY_S = 1.0
NOTES_PER_ROUND_MAX = 4096  # 4,096 notes of about 300 bytes: one round stays a short transaction


async def publish_heads(conn: Connection, keystore: KeyStore, heads: str) -> int:
    """Append to `heads` the newest checkpoint of each log that grew; return how many. 0 where another publisher is at
    it. `conn` acts as tally_writer."""
    try:
        async with conn.transaction():
            cursor = await conn.execute("SELECT tree_size, edge FROM logs WHERE log = %s FOR UPDATE NOWAIT", (heads,))
            row = await cursor.fetchone()
            if row is None:
                raise LogMissing(f"no such log: {heads}")
            edge = Edge.parse(row[0], bytes(row[1]))
            await refuse_fork(conn, keystore, heads, edge.tree_size)
            cursor = await conn.execute(
                "SELECT l.log, l.tree_size, c.root_hash, c.note FROM logs l"
                " JOIN checkpoints c ON c.log = l.log AND c.tree_size = l.tree_size"
                " LEFT JOIN published_sizes p ON p.log = l.log"
                " WHERE l.class <> 'heads' AND l.tree_size > coalesce(p.tree_size, 0)"
                " ORDER BY l.log LIMIT %s",
                (NOTES_PER_ROUND_MAX,),
            )
            grown = [(log, size, bytes(root), bytes(note)) for log, size, root, note in await cursor.fetchall()]
            if not grown:
                return 0
            keystore.publish_many([(log, size, root) for log, size, root, _ in grown])
            checkpoint = await _append_notes(conn, keystore, heads, edge, grown)
    except psycopg.errors.LockNotAvailable:
        return 0
    keystore.publish(heads, checkpoint.tree_size, checkpoint.root_hash)
    return len(grown)


async def _append_notes(
    conn: Connection, keystore: KeyStore, heads: str, edge: Edge, grown: list[tuple[str, int, bytes, bytes]]
) -> Checkpoint:
    first = edge.tree_size
    notes = [note for _, _, _, note in grown]
    tiles = edge.extend([hashlib.sha256(b"\0" + note).digest() for note in notes])
    checkpoint = Checkpoint(heads, edge.tree_size, edge.root())
    await conn.execute(
        "INSERT INTO entries (log, index, leaf) SELECT %b, %b + w.n - 1, w.note"
        " FROM unnest(%b::bytea[]) WITH ORDINALITY AS w(note, n)",
        (heads, first, notes),
    )
    if tiles:
        await conn.execute(
            "INSERT INTO tiles (log, level, index, hashes)"
            " SELECT %b, * FROM unnest(%b::smallint[], %b::bigint[], %b::bytea[])",
            (heads, [t.level for t in tiles], [t.index for t in tiles], [t.hashes for t in tiles]),
        )
    await conn.execute(
        "UPDATE logs SET tree_size = %b, root_hash = %b, edge = %b, recorded = %b WHERE log = %b",
        (checkpoint.tree_size, checkpoint.root_hash, edge.dump(), datetime.now(UTC), heads),
    )
    await conn.execute(
        "INSERT INTO checkpoints (log, tree_size, root_hash, note) VALUES (%b, %b, %b, %b)",
        (heads, checkpoint.tree_size, checkpoint.root_hash, sign_checkpoint(checkpoint, keystore.signer(heads))),
    )
    await conn.execute(
        "INSERT INTO published_sizes (log, tree_size) SELECT * FROM unnest(%b::text[], %b::bigint[])"
        " ON CONFLICT (log) DO UPDATE SET tree_size = excluded.tree_size",
        ([log for log, _, _, _ in grown], [size for _, size, _, _ in grown]),
    )
    return checkpoint
