"""Recomputing trees: the hashes within a tile, the roots at every checkpoint, the tiles above. Pure.

Guarantees: everything here follows from leaf hashes alone (RFC 6962 2.1). Roots at many sizes cost one pass: within a
tile the hash of its first `width` leaves is folded from the levels that hashing the tile gives anyway, and the root at
that size folds it with the peaks to the left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from ledger.merkle import EMPTY_ROOT, HASH_BYTES, TILE_WIDTH, node_hash

Levels = list[list[bytes]]


def levels_of(hashes: Sequence[bytes]) -> Levels:
    """All complete nodes over up to 256 leaves, by height: the last of a full tile's levels is its one hash."""
    digest = sha256
    levels = [list(hashes)]
    nodes = levels[0]
    while len(nodes) > 1:
        nodes = [digest(b"\x01" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
        levels.append(nodes)
    return levels


def head_hash(levels: Levels, width: int) -> bytes:
    """Hash of the tree over the first `width` leaves (1 to as many as there are)."""
    found: bytes | None = None
    for height, nodes in enumerate(levels):
        if width >> height & 1:
            peak = nodes[(width >> height) - 1]
            found = peak if found is None else node_hash(peak, found)
    if found is None:
        raise ValueError(f"a width of 1 or more expected, got {width}")
    return found


def tile_hash(hashes: Sequence[bytes]) -> bytes:
    """Hash of a full tile's 256 leaves."""
    return levels_of(hashes)[-1][0]


def split(data: bytes) -> list[bytes]:
    """A tile's bytes as its hashes."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class TreeFold:
    """The peaks of a tree that grows tile by tile: enough for the root at any size whose last tile is the next one."""

    __slots__ = ("_peaks", "tiles")

    def __init__(self) -> None:
        self._peaks: list[bytes | None] = []
        self.tiles = 0

    def add(self, tile: bytes) -> None:
        """Append the hash of a full tile."""
        node, height = tile, 0
        while height < len(self._peaks):
            left = self._peaks[height]
            if left is None:
                break
            node = node_hash(left, node)
            self._peaks[height] = None
            height += 1
        if height == len(self._peaks):
            self._peaks.append(node)
        else:
            self._peaks[height] = node
        self.tiles += 1

    def root(self, head: bytes | None) -> bytes:
        """Root of the full tiles so far, and after them the leaves that `head` is the hash of."""
        found = head
        for peak in self._peaks:
            if peak is not None:
                found = peak if found is None else node_hash(peak, found)
        return EMPTY_ROOT if found is None else found


def upper_tiles(tiles: Sequence[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """The full tiles of level 1 and up (level, index, hashes) over the hashes of the full tiles of level 0."""
    level, nodes = 1, list(tiles)
    while len(nodes) >= TILE_WIDTH:
        above: list[bytes] = []
        for index in range(len(nodes) // TILE_WIDTH):
            group = nodes[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]
            yield level, index, b"".join(group)
            above.append(tile_hash(group))
        level, nodes = level + 1, above


def edge_of(tiles: Sequence[bytes], tail: Sequence[bytes]) -> bytes:
    """The partial tiles at the right edge, lowest level first, as `logs.edge` keeps them."""
    parts = [b"".join(tail)]
    nodes = list(tiles)
    while nodes:
        full = len(nodes) // TILE_WIDTH * TILE_WIDTH
        parts.append(b"".join(nodes[full:]))
        nodes = [tile_hash(nodes[at : at + TILE_WIDTH]) for at in range(0, full, TILE_WIDTH)]
    return b"".join(parts)


def root_at(size: int, tiles: Sequence[bytes], leaves: Callable[[int], Sequence[bytes]]) -> bytes:
    """Root at a size, given the full tiles' hashes and a way to get the leaf hashes of a tile."""
    fold = TreeFold()
    for tile in tiles[: size // TILE_WIDTH]:
        fold.add(tile)
    width = size % TILE_WIDTH
    return fold.root(head_hash(levels_of(leaves(size // TILE_WIDTH)[:width]), width) if width else None)
