"""The mark of an earlier verification: what `since_verified` may pass over, and on what evidence.

A mark is signed by the key store and kept there: a log's size, root and right edge when all of it was verified. The
hashes of the tiles below it are taken from the stored level-1 tiles and the mark's edge, and count only if together
they give the mark's root. So nothing that is passed over is trusted to the database but the entries' own bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.db import Connection
from ledger.errors import ProofError
from ledger.keystore import KeyStore, VerifiedMark
from ledger.merkle import HASH_BYTES, TILE_WIDTH, Edge
from ledger.verify.logs import LogRow
from ledger.verify.tree import TreeFold, head_hash, levels_of, split


@dataclass(frozen=True, slots=True)
class Marked:
    """Entries below `first`, a multiple of 256, need not be read; `tiles` are the hashes of their tiles. `size` and
    `verified_at` are the mark's own."""

    first: int
    size: int
    tiles: list[bytes]
    verified_at: str


async def read_mark(conn: Connection, keystore: KeyStore, row: LogRow) -> Marked | None:
    """What an earlier verification vouches for, if the database still agrees with it; else None: read everything.

    Raises KeyStoreCorrupt where the mark's signature fails.
    """
    mark = keystore.verified_mark(row.log)
    if mark is None:
        return None
    tiles = await _tiles_below(conn, mark)
    if tiles is None:
        return None
    fold = TreeFold()
    for tile in tiles:
        fold.add(tile)
    width = mark.tree_size % TILE_WIDTH
    tail = split(mark.edge[: width * HASH_BYTES])
    if fold.root(head_hash(levels_of(tail), width) if width else None) != mark.root_hash:
        return None
    return Marked(len(tiles) * TILE_WIDTH, mark.tree_size, tiles, mark.verified_at)


async def _tiles_below(conn: Connection, mark: VerifiedMark) -> list[bytes] | None:
    try:
        edge = Edge.parse(mark.tree_size, mark.edge)
    except ProofError:
        return None
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT hashes FROM tiles WHERE log = %b AND level = 1 AND index < %b ORDER BY index",
        (mark.origin, mark.tree_size // TILE_WIDTH**2),
    )
    tiles = [tile for (hashes,) in await cursor.fetchall() for tile in split(hashes)]
    tiles += split(edge.partial_tile(1))
    return tiles if len(tiles) == mark.tree_size // TILE_WIDTH else None
