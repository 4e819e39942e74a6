"""Merkle tree hashes and proofs (RFC 6962 section 2, RFC 9162 section 2.1), over C2SP tlog-tiles. Pure.

A node is named by (height, index): it covers the leaves [index << height, (index + 1) << height). A tile is named by
(level, index) and holds up to 256 nodes of height 8 * level. Only complete nodes are ever stored; the right edge of a
tree is hashed from them.

Guarantees: what `verify_inclusion` and `verify_consistency` let through is proven under SHA-256; they raise ProofError
otherwise and never return a verdict that could be ignored. Does not: judge who signed a root (`checkpoint`), or where
tiles come from (a caller's `read`).

Invariant of Edge: its partial tiles and its peaks describe the same tree of `tree_size` leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple, Self

from ledger.errors import ProofError

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 256
# Sizes are kept in signed 64-bit columns and counted by 64-bit clients.
TREE_SIZE_MAX = 2**63 - 1
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf's exact bytes (RFC 6962 2.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (RFC 6962 2.1)."""
    return sha256(b"\x01" + left + right).digest()


class Tile(NamedTuple):
    """A full tile: 256 hashes of height 8 * level, 8,192 bytes."""

    level: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs of a tile
    hashes: bytes


class TileRef(NamedTuple):
    """A tile to read: `width` hashes (1 to 256) from its left."""

    level: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs of a tile
    width: int


# Gives the hashes of a tile: at least `width` * 32 bytes, raising whatever it likes when it can't.
TileReader = Callable[[TileRef], bytes]


def _pair_up(nodes: Sequence[bytes]) -> list[bytes]:
    """Parents of an even number of sibling nodes, in order."""
    digest = sha256
    return [digest(b"\x01" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=True)]


def _fold(nodes: Sequence[bytes]) -> bytes:
    """Root of a complete subtree, given a power of two of its nodes."""
    while len(nodes) > 1:
        nodes = _pair_up(nodes)
    return nodes[0]


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class Edge:
    """The right edge of a growing tree: enough to append to it, to know its root, and to complete its tiles.

    Kept as the partial tiles (`dump`, at most 255 hashes a level) and, made from them, the peaks: the roots of the
    complete subtrees that the tree is made of, one per set bit of its size. Appending touches no tile that is full.
    Parsing costs up to 0.1 ms a level, so a writer that holds the head's lock keeps its Edge and compares the root.
    """

    __slots__ = ("_partial", "_peaks", "_tree_size")

    def __init__(self, tree_size: int, partial: list[list[bytes]], peaks: list[bytes | None]) -> None:
        self._tree_size = tree_size
        self._partial = partial  # by tile level: the hashes of the partial tile
        self._peaks = peaks  # by height: the complete subtree that ends the tree there, where size has that bit

    @classmethod
    def empty(cls) -> Self:
        """The edge of the tree without leaves."""
        return cls(0, [], [])

    @classmethod
    def parse(cls, tree_size: int, data: bytes) -> Self:
        """The edge that `dump` gave for a tree of this size; ProofError when the length does not fit the size.

        Whether the hashes are right shows only in `root()`: compare it with a root that is trusted.
        """
        if not 0 <= tree_size <= TREE_SIZE_MAX:
            raise ProofError(f"edge: tree size expected 0 to {TREE_SIZE_MAX}, got {tree_size}")
        expected = edge_length(tree_size) * HASH_BYTES
        if len(data) != expected:
            raise ProofError(f"edge of size {tree_size}: expected {expected} bytes, got {len(data)}")
        partial: list[list[bytes]] = []
        peaks: list[bytes | None] = []
        at, rest = 0, tree_size
        while rest:
            width = rest % TILE_WIDTH
            nodes = _split(data[at : at + width * HASH_BYTES])
            partial.append(nodes)
            at, rest = at + width * HASH_BYTES, rest >> TILE_HEIGHT
            for _ in range(TILE_HEIGHT):
                odd = len(nodes) % 2
                peaks.append(nodes[-1] if odd else None)
                nodes = _pair_up(nodes[:-1] if odd else nodes)
        return cls(tree_size, partial, peaks)

    def dump(self) -> bytes:
        """The partial tiles, lowest level first: for level L, (tree_size >> 8L) % 256 hashes."""
        return b"".join([b"".join(nodes) for nodes in self._partial])

    @property
    def tree_size(self) -> int:
        """Number of leaves."""
        return self._tree_size

    def copy(self) -> Self:
        """An edge that grows on its own."""
        return type(self)(self._tree_size, [list(nodes) for nodes in self._partial], list(self._peaks))

    def partial_tile(self, level: int) -> bytes:
        """The hashes of the partial tile at a level; empty where the last tile is full or there is none."""
        return b"".join(self._partial[level]) if level < len(self._partial) else b""

    def extend(self, leaf_hashes: Sequence[bytes]) -> list[Tile]:
        """Append leaves by their hashes; returns the tiles this completed, lowest level first, in order of index.

        Hashes height by height, so a batch costs one comprehension a height: about one node hash a leaf.
        """
        completed: list[Tile] = []
        if not leaf_hashes:
            return completed
        if self._tree_size + len(leaf_hashes) > TREE_SIZE_MAX:
            raise ProofError(f"edge: a tree of more than {TREE_SIZE_MAX} leaves can't be recorded")
        peaks, nodes, height = self._peaks, list(leaf_hashes), 0
        while nodes:
            if height == len(peaks):
                peaks.append(None)
            if height % TILE_HEIGHT == 0:
                self._fill(height // TILE_HEIGHT, nodes, completed)
            waiting = peaks[height]
            if waiting is not None:
                nodes.insert(0, waiting)
            peaks[height] = nodes.pop() if len(nodes) % 2 else None
            nodes = _pair_up(nodes)
            height += 1
        self._tree_size += len(leaf_hashes)
        return completed

    def _fill(self, level: int, nodes: list[bytes], completed: list[Tile]) -> None:
        """Add new nodes to the partial tile of a level and take out what is full."""
        if level == len(self._partial):
            self._partial.append([])
        partial = self._partial[level]
        index = self._tree_size >> (TILE_HEIGHT * (level + 1))
        partial.extend(nodes)
        if len(partial) < TILE_WIDTH:
            return
        full = len(partial) // TILE_WIDTH
        for number in range(full):
            hashes = b"".join(partial[number * TILE_WIDTH : (number + 1) * TILE_WIDTH])
            completed.append(Tile(level, index + number, hashes))
        del partial[: full * TILE_WIDTH]

    def root(self) -> bytes:
        """Root hash of the tree (RFC 6962 2.1)."""
        found: bytes | None = None
        for peak in self._peaks:
            if peak is not None:
                found = peak if found is None else node_hash(peak, found)
        return EMPTY_ROOT if found is None else found


def edge_length(tree_size: int) -> int:
    """How many hashes the partial tiles of a tree of this size hold."""
    total = 0
    while tree_size:
        total += tree_size % TILE_WIDTH
        tree_size >>= TILE_HEIGHT
    return total


# A range of leaves [from, to) that is one node of the tree, complete or at its right edge.
_Range = tuple[int, int]


def _split_point(size: int) -> int:
    """The largest power of two below size (RFC 6962 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _inclusion_ranges(index: int, tree_size: int) -> list[_Range]:
    """The siblings on the way from a leaf to the root, lowest first (RFC 6962 2.1.1)."""
    if not 0 <= index < tree_size <= TREE_SIZE_MAX:
        raise ProofError(f"inclusion proof: expected an index below the tree size {tree_size}, got {index}")
    found: list[_Range] = []
    start, end = 0, tree_size
    while end - start > 1:
        middle = start + _split_point(end - start)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    found.reverse()
    return found


def _consistency_ranges(old_size: int, new_size: int) -> list[_Range]:
    """The nodes of a consistency proof, lowest first (RFC 6962 2.1.2)."""
    if not 0 <= old_size <= new_size <= TREE_SIZE_MAX:
        raise ProofError(f"consistency proof: expected 0 <= old <= new, got old {old_size}, new {new_size}")
    if old_size in (0, new_size):
        return []
    found: list[_Range] = []
    start, end = 0, new_size
    whole = True  # the old tree is the subtree that starts at `start`
    while old_size != end:
        middle = start + _split_point(end - start)
        if old_size <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start, whole = middle, False
    if not whole:
        found.append((start, end))
    found.reverse()
    return found


def _complete_nodes(start: int, end: int) -> list[tuple[int, int]]:
    """The complete nodes (height, index) that make up a range, leftmost and highest first."""
    nodes = []
    while start < end:
        height = (end - start).bit_length() - 1
        nodes.append((height, start >> height))
        start += 1 << height
    return nodes


def _tile_of(height: int, index: int, tree_size: int) -> tuple[TileRef, int, int]:
    """The tile that a node is read from, and the first and last-plus-one of its hashes there."""
    level, above = divmod(height, TILE_HEIGHT)
    first = index << above
    tile = first // TILE_WIDTH
    width = min(TILE_WIDTH, (tree_size >> (TILE_HEIGHT * level)) - tile * TILE_WIDTH)
    return TileRef(level, tile, width), first % TILE_WIDTH, first % TILE_WIDTH + (1 << above)


def _tiles_for(ranges: Sequence[_Range], tree_size: int) -> list[TileRef]:
    nodes = [node for start, end in ranges for node in _complete_nodes(start, end)]
    return list(dict.fromkeys(_tile_of(height, index, tree_size)[0] for height, index in nodes))


def _hash_range(start: int, end: int, tree_size: int, read: TileReader) -> bytes:
    """Hash of the node that covers a range, from the tiles of a tree of `tree_size` leaves."""
    found: bytes | None = None
    for height, index in reversed(_complete_nodes(start, end)):
        tile, first, last = _tile_of(height, index, tree_size)
        data = read(tile)
        if len(data) < tile.width * HASH_BYTES or len(data) % HASH_BYTES:
            raise ProofError(
                f"tile {tile.level}/{tile.index}: expected at least {tile.width} hashes of {HASH_BYTES} bytes, "
                f"got {len(data)} bytes"
            )
        node = _fold(_split(data[first * HASH_BYTES : last * HASH_BYTES]))
        found = node if found is None else node_hash(node, found)
    if found is None:
        raise ProofError(f"a range of leaves expected, got [{start}, {end})")
    return found


def inclusion_tiles(index: int, tree_size: int) -> list[TileRef]:
    """The tiles that `inclusion_proof` will read, so that a caller can fetch them first."""
    return _tiles_for(_inclusion_ranges(index, tree_size), tree_size)


def inclusion_proof(index: int, tree_size: int, read: TileReader) -> list[bytes]:
    """The inclusion proof of a leaf in the tree of `tree_size` leaves, lowest hash first (RFC 6962 2.1.1)."""
    return [_hash_range(start, end, tree_size, read) for start, end in _inclusion_ranges(index, tree_size)]


def consistency_tiles(old_size: int, new_size: int) -> list[TileRef]:
    """The tiles that `consistency_proof` will read, so that a caller can fetch them first."""
    return _tiles_for(_consistency_ranges(old_size, new_size), new_size)


def consistency_proof(old_size: int, new_size: int, read: TileReader) -> list[bytes]:
    """The proof that the tree of `new_size` extends that of `old_size` (RFC 6962 2.1.2)."""
    return [_hash_range(start, end, new_size, read) for start, end in _consistency_ranges(old_size, new_size)]


def root_tiles(tree_size: int) -> list[TileRef]:
    """The tiles that `tree_root` will read."""
    return _tiles_for([(0, tree_size)] if tree_size else [], tree_size)


def tree_root(tree_size: int, read: TileReader) -> bytes:
    """Root hash of the tree of `tree_size` leaves, from its tiles."""
    return _hash_range(0, tree_size, tree_size, read) if tree_size else EMPTY_ROOT


def verify_inclusion(index: int, tree_size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless the leaf with this *leaf hash* is at `index` under `root` (RFC 9162 2.1.3.2)."""
    what = f"inclusion of index {index} in size {tree_size}"
    if not 0 <= index < tree_size <= TREE_SIZE_MAX:
        raise ProofError(f"{what}: expected an index below the tree size")
    _check_hashes(what, [leaf, root, *proof])
    number, last, found = index, tree_size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError(f"{what}: the proof has {len(proof)} hashes, more than the tree is high")
        if number & 1 or number == last:
            found = node_hash(sibling, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise ProofError(f"{what}: the proof has {len(proof)} hashes, fewer than the tree is high")
    if found != root:
        raise ProofError(f"{what}: expected root {root.hex()}, got {found.hex()}")


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofError unless the tree under `new_root` extends the one under `old_root` (RFC 9162 2.1.4.2)."""
    what = f"consistency of size {old_size} with size {new_size}"
    if not 0 <= old_size <= new_size <= TREE_SIZE_MAX:
        raise ProofError(f"{what}: expected 0 <= old <= new")
    _check_hashes(what, [old_root, new_root, *proof])
    if old_size in (0, new_size):
        if proof:
            raise ProofError(f"{what}: expected an empty proof, got {len(proof)} hashes")
        before = EMPTY_ROOT if old_size == 0 else new_root
        if old_root != before:
            raise ProofError(f"{what}: expected old root {before.hex()}, got {old_root.hex()}")
        if new_size == 0 and new_root != EMPTY_ROOT:
            raise ProofError(f"{what}: expected the empty root {EMPTY_ROOT.hex()}, got {new_root.hex()}")
        return
    old_found, new_found = _fold_consistency(what, old_size, new_size, old_root, proof)
    if old_found != old_root:
        raise ProofError(f"{what}: expected old root {old_root.hex()}, got {old_found.hex()}")
    if new_found != new_root:
        raise ProofError(f"{what}: expected new root {new_root.hex()}, got {new_found.hex()}")


def _fold_consistency(
    what: str, old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """The old and new root that a proof leads to (RFC 9162 2.1.4.2, steps 3 to 7)."""
    # An old tree that is a complete subtree is itself the first hash, and stands in no proof.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise ProofError(f"{what}: the proof is empty")
    number, last = old_size - 1, new_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old_found = new_found = path[0]
    for node in path[1:]:
        if last == 0:
            raise ProofError(f"{what}: the proof has {len(proof)} hashes, more than expected")
        if number & 1 or number == last:
            old_found, new_found = node_hash(node, old_found), node_hash(node, new_found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new_found = node_hash(new_found, node)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise ProofError(f"{what}: the proof has {len(proof)} hashes, fewer than expected")
    return old_found, new_found


def _check_hashes(what: str, hashes: Sequence[bytes]) -> None:
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise ProofError(f"{what}: expected hashes of {HASH_BYTES} bytes, got one of {len(value)}")
