"""Names and bytes of C2SP tlog-tiles: where a tile stands, and how entries are bundled. Pure.

    tile/<L>/<N>[.p/<W>]         hashes of level L: 256 of 32 bytes, or W of them at the right edge
    tile/entries/<N>[.p/<W>]     entry bundles: each entry after its length in 2 bytes, big-endian

Guarantees: `parse_path` takes exactly the paths that `tile_path` and `bundle_path` write. Does not: read or write
files, or say which tiles a proof needs (`merkle`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import ProofError
from ledger.merkle import TILE_WIDTH, TREE_SIZE_MAX

LEVEL_MAX = 63  # of the specification; a tree of TREE_SIZE_MAX leaves has levels 0 to 7
ENTRY_BYTES_MAX = 65_535
INDEX_MAX = TREE_SIZE_MAX // TILE_WIDTH

_LENGTH = struct.Struct(">H")
_PATH = re.compile(
    r"tile/(?:(?P<level>0|[1-9][0-9]?)|entries)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class TilePath:
    """What a path names. `level` is None for an entry bundle."""

    level: int | None
    index: int
    width: int


def index_path(index: int) -> str:
    """A tile index in groups of three digits, all but the last after an `x`: 1234067 is `x001/x234/067`."""
    if not 0 <= index <= INDEX_MAX:
        raise ProofError(f"tile index: expected 0 to {INDEX_MAX}, got {index}")
    groups: list[str] = []
    rest = index
    while True:
        rest, group = divmod(rest, 1000)
        groups.append(f"{group:03}" if not groups else f"x{group:03}")
        if not rest:
            return "/".join(reversed(groups))


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile of hashes, full or of `width` hashes."""
    if not 0 <= level <= LEVEL_MAX:
        raise ProofError(f"tile level: expected 0 to {LEVEL_MAX}, got {level}")
    return f"tile/{level}/{index_path(index)}{_partial(width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """The path of an entry bundle, full or of `width` entries."""
    return f"tile/entries/{index_path(index)}{_partial(width)}"


def _partial(width: int) -> str:
    if not 1 <= width <= TILE_WIDTH:
        raise ProofError(f"tile width: expected 1 to {TILE_WIDTH}, got {width}")
    return "" if width == TILE_WIDTH else f".p/{width}"


def parse_path(path: str) -> TilePath:
    """What a path names; ProofError unless it is written as the specification writes it."""
    match = _PATH.fullmatch(path)
    if match is not None:
        level = None if match["level"] is None else int(match["level"])
        width = TILE_WIDTH if match["width"] is None else int(match["width"])
        index = int(match["index"].replace("/", "").replace("x", ""))
        found = TilePath(level, index, width)
        if (level is None or level <= LEVEL_MAX) and width <= TILE_WIDTH and index <= INDEX_MAX:
            written = bundle_path(index, width) if level is None else tile_path(level, index, width)
            if written == path:  # neither leading zero groups nor a full width spelled out
                return found
    raise ProofError(f"expected the path of a tile or entry bundle, got {path!r}")


def widths(tree_size: int, level: int) -> tuple[int, int]:
    """How many full tiles a level has in a tree of this size, and the width of the partial one (0: there is none)."""
    return divmod(tree_size >> (8 * level), TILE_WIDTH)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of an entry bundle of 1 to 256 entries."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise ProofError(f"entry bundle: expected 1 to {TILE_WIDTH} entries, got {len(entries)}")
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > ENTRY_BYTES_MAX:
            raise ProofError(f"entry bundle: expected entries of at most {ENTRY_BYTES_MAX} bytes, got {len(entry)}")
        parts += (_LENGTH.pack(len(entry)), entry)
    return b"".join(parts)


def decode_bundle(data: bytes, width: int = TILE_WIDTH) -> list[bytes]:
    """The entries of a bundle; ProofError unless there are exactly `width` and nothing is left over."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        if len(entries) == width:
            raise ProofError(f"entry bundle: expected {width} entries, got {len(data) - at} bytes more")
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(data, at)[0] if start <= len(data) else start
        if end > len(data):
            raise ProofError(f"entry bundle: expected entry {len(entries)} to end at {end}, got {len(data)} bytes")
        entries.append(data[start:end])
        at = end
    if len(entries) != width:
        raise ProofError(f"entry bundle: expected {width} entries, got {len(entries)}")
    return entries
