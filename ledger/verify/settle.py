"""Settling a log: its stored tiles, edge and head against the tree, and, where anything differs, which side is right.

A verification reads leaf hashes from two sides: recomputed from the entries, and as the stored tiles have them. Where
both agree with every signed checkpoint there is nothing to settle. Where they differ, the side that gives the root of
the newest signed checkpoint is the reference; then every entry that differs from it was touched, and every tile that
does is wrong. If a tile was changed together with its entry, the tile above gives it away.

Guarantees: what is reported as touched differs from what was signed; if no choice gives the signed root, that itself is
reported. Memory: a hash a tile, twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from psycopg import sql

from ledger.checkpoint import parse_checkpoint
from ledger.db import Connection
from ledger.errors import MalformedNote
from ledger.merkle import HASH_BYTES, TILE_WIDTH, edge_length
from ledger.note import parse_note
from ledger.verify.located import Located, Slot, locate
from ledger.verify.logs import LogCheck
from ledger.verify.report import Findings
from ledger.verify.rows import copy_rows, fields_of
from ledger.verify.tree import TreeFold, edge_of, head_hash, levels_of, split, upper_tiles
from ledger.verify.work import TileSeen

Side = Literal["computed", "stored", "above"]
_Mode = Literal["arbitrated", "stored", "computed", "above"]
_MODES: tuple[_Mode, ...] = ("arbitrated", "stored", "computed", "above")
_TAIL_SIDES: tuple[Side, ...] = ("stored", "computed")
# What follows from an entry being another one than was sealed; reported only for entries that were not touched.
_CONSEQUENCES = ("leaf_malformed", "wrong_log", "column_mismatch", "content_tampered", "duplicate_id", "key_missing")


@dataclass(slots=True)
class Settled:
    """A log after all its ranges: what it is, and what is known of touched entries.

    `tiles` and `tail` are the reference's; `tail` is empty or the leaf hashes of a last, partial tile. `suspects`:
    ranges of indexes in which an entry was changed that only its run's chain can name. `uncovered`: indexes of entries
    that the head counts and no checkpoint does.
    """

    size: int
    root_hash: bytes
    tiles: list[bytes]
    tail: list[bytes]
    sides: dict[int, Side] = field(default_factory=dict)
    located: Located = field(default_factory=Located)
    touched: set[int] = field(default_factory=set)
    touched_from: int | None = None
    suspects: list[range] = field(default_factory=list)
    uncovered: range = range(0)

    def is_touched(self, index: int) -> bool:
        """Whether the entry there is known not to be what was sealed there."""
        return index in self.touched or (self.touched_from is not None and index >= self.touched_from)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the database keeps of a log's tree besides level 0."""

    edge: bytes
    edge_tail: list[bytes] | None  # level 0 of the edge, if the edge fits the log's size
    above: list[bytes | None]  # by level-0 tile, its hash as the tile above has it
    uppers: dict[tuple[int, int], bytes]


@dataclass(slots=True)
class _Reference:
    tiles: list[bytes]
    tail: list[bytes]
    sides: dict[int, Side]
    tail_side: Side


async def settle(conn: Connection, check: LogCheck, findings: Findings) -> Settled:
    """Settle a log, in this order: reference, touched entries, tiles, checkpoints, head."""
    stored = await _read_stored(conn, check)
    computed_root = check.computed_root()
    tail = [leaf_hash for leaf_hash in check.tail if leaf_hash is not None]
    if not check.troubled and computed_root is not None:
        tiles = [tile for tile in check.tiles if tile is not None]
        settled = Settled(check.span, computed_root, tiles, tail)
    else:
        reference, anchored = await _choose(conn, check, stored)
        fold = TreeFold()
        for tile in reference.tiles:
            fold.add(tile)
        rest = reference.tail
        settled = Settled(
            check.span,
            fold.root(head_hash(levels_of(rest), len(rest)) if rest else None),
            reference.tiles,
            reference.tail,
            reference.sides,
        )
        await _recheck(conn, check, settled, findings, anchored=anchored)
    _touched(check, settled, stored, findings)
    await _tiles(conn, check, settled, stored, findings)
    _head(check, settled, findings)
    return settled


async def _read_stored(conn: Connection, check: LogCheck) -> _Stored:
    cursor = conn.cursor(binary=True)
    await cursor.execute("SELECT edge FROM logs WHERE log = %b", (check.row.log,))
    row = await cursor.fetchone()
    edge = b"" if row is None else row[0]
    uppers: dict[tuple[int, int], bytes] = {}
    query = sql.SQL("SELECT index, level, hashes FROM tiles WHERE log = {} AND level <> 0").format(
        sql.Literal(check.row.log)
    )
    async for batch in copy_rows(conn, query):
        for item in batch:
            index_field, level_field, hashes = fields_of(item)
            uppers[(signed(level_field), signed(index_field))] = hashes or b""
    fits = check.row.tree_size == check.span and len(edge) == edge_length(check.span) * HASH_BYTES
    width = check.span % TILE_WIDTH
    above: list[bytes | None] = []
    count = check.span // TILE_WIDTH
    for index in range(count // TILE_WIDTH):
        found = uppers.get((1, index))
        above += [None] * TILE_WIDTH if found is None else split(found)
    if fits:
        above += split(edge[width * HASH_BYTES : (width + count % TILE_WIDTH) * HASH_BYTES])
    above += [None] * (count - len(above))
    return _Stored(edge, split(edge[: width * HASH_BYTES]) if fits else None, above, uppers)


def signed(field: bytes | None) -> int:
    """An integer field."""
    return int.from_bytes(field or b"", "big", signed=True)


async def _choose(conn: Connection, check: LogCheck, stored: _Stored) -> tuple[_Reference, bool]:
    """The side to take for every tile: the first choice that gives the newest signed checkpoint's root."""
    anchor = check.newest_signed or check.newest
    first: _Reference | None = None
    for mode in _MODES:
        for tail_side in _TAIL_SIDES:
            choice = _reference(check, stored, mode, tail_side)
            if choice is None:
                continue
            first = first or choice
            if anchor is None or anchor.root_hash is None or anchor.tree_size > check.span:
                continue
            if await _root_at(conn, check, choice, anchor.tree_size) == anchor.root_hash:
                return choice, True
    if first is None:  # neither side has all of it: what is missing can't be told, only that it is
        first = _Reference([tile or bytes(32) for tile in check.tiles], [], {}, "computed")
    return first, False


def _reference(check: LogCheck, stored: _Stored, mode: _Mode, tail_side: Side) -> _Reference | None:
    """One choice of sides; None where it lacks a hash."""
    tiles: list[bytes] = []
    sides: dict[int, Side] = {}
    for number, computed in enumerate(check.tiles):
        differs = check.differing.get(number)
        above = stored.above[number] if number < len(stored.above) else None
        if differs is None and mode != "above":
            if computed is None:
                return None
            tiles.append(computed)
            continue
        stored_tile = computed if differs is None else differs.stored
        if mode == "computed":
            order: list[tuple[Side, bytes | None]] = [("computed", computed), ("stored", stored_tile)]
        else:
            order = [("stored", stored_tile), ("computed", computed)]
        if mode in ("arbitrated", "above") and above is not None:
            order.sort(key=lambda option: option[1] != above)
            if order[0][1] != above and (mode == "above" or (computed is None and stored_tile is None)):
                order.insert(0, ("above", above))
        order.append(("above", above))
        side, tile = next((option for option in order if option[1] is not None), order[-1])
        if tile is None:
            return None
        tiles.append(tile)
        if differs is not None or side == "above":
            sides[number] = side
    width = check.span % TILE_WIDTH
    tail: list[bytes] = []
    if width:
        if tail_side == "stored":
            if stored.edge_tail is None:
                return None
            tail = stored.edge_tail
        else:
            tail = [leaf_hash for leaf_hash in check.tail if leaf_hash is not None]
            if len(tail) != width:
                return None
    return _Reference(tiles, tail, sides, tail_side)


async def _root_at(conn: Connection, check: LogCheck, reference: _Reference, size: int) -> bytes | None:
    fold = TreeFold()
    whole, width = divmod(size, TILE_WIDTH)
    for tile in reference.tiles[:whole]:
        fold.add(tile)
    if not width:
        return fold.root(None)
    if whole == len(reference.tiles):
        leaves: Sequence[bytes] | None = reference.tail
    else:
        leaves = await _leaves(conn, check.row.log, whole, reference.sides.get(whole, "stored"))
    if leaves is None or len(leaves) < width:
        return None
    return fold.root(head_hash(levels_of(leaves[:width]), width))


async def _leaves(conn: Connection, log: str, tile: int, side: Side) -> list[bytes] | None:
    """The leaf hashes of a full tile from one side; None where it has not all of them."""
    cursor = conn.cursor(binary=True)
    if side == "stored":
        await cursor.execute("SELECT hashes FROM tiles WHERE log = %b AND level = 0 AND index = %b", (log, tile))
        row = await cursor.fetchone()
        return None if row is None else split(row[0])
    if side == "above":
        return None
    return await leaf_hashes(conn, log, tile * TILE_WIDTH, (tile + 1) * TILE_WIDTH)


async def leaf_hashes(conn: Connection, log: str, first: int, end: int) -> list[bytes] | None:
    """The leaf hashes of the entries in [first, end), recomputed; None where not all are there."""
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT sha256('\\x00'::bytea || leaf) FROM entries"
        " WHERE log = %b AND index >= %b AND index < %b ORDER BY index",
        (log, first, end),
    )
    found = [row[0] async for row in cursor]
    return found if len(found) == end - first else None


async def _recheck(conn: Connection, check: LogCheck, settled: Settled, findings: Findings, *, anchored: bool) -> None:
    """Every checkpoint's root against the reference. Only the first that differs is named: those after it follow."""
    log = check.row.log
    fold = TreeFold()
    levels: list[list[bytes]] | None = None
    levels_of_tile = -1
    last_good, more = 0, 0
    wrong: tuple[int, int, bytes] | None = None
    query = sql.SQL(
        "SELECT tree_size, note FROM checkpoints WHERE log = {} AND tree_size BETWEEN 0 AND {} ORDER BY tree_size"
    ).format(sql.Literal(log), sql.Literal(check.span))
    sizes: list[tuple[int, bytes]] = []
    async for batch in copy_rows(conn, query):
        for row in batch:
            size_field, note = fields_of(row)
            try:
                root_hash = parse_checkpoint(parse_note(note or b"").text).root_hash
            except MalformedNote:
                continue
            sizes.append((signed(size_field), root_hash))
    for size, root_hash in sizes:
        tile = max(0, size - 1) // TILE_WIDTH
        while fold.tiles < tile:
            fold.add(settled.tiles[fold.tiles])
        if levels_of_tile != tile:
            leaves = (
                settled.tail
                if tile == len(settled.tiles)
                else await _leaves(conn, log, tile, settled.sides.get(tile, "stored"))
            )
            levels, levels_of_tile = None if leaves is None else levels_of(leaves), tile
        width = size - tile * TILE_WIDTH
        if levels is None or width > len(levels[0]):
            continue
        if fold.root(head_hash(levels, width) if width else None) == root_hash:
            last_good = size
        elif wrong is None:
            wrong = (size, last_good, root_hash)
        else:
            more += 1
    if wrong is not None:
        size, last_good, root_hash = wrong
        after = f", and {more} more after it" if more else ""
        findings.add(
            "checkpoint_mismatch",
            log,
            size - 1 if size else None,
            f"the entries do not give the root {root_hash.hex()} of the checkpoint of size {size}{after};"
            f" at size {last_good} they did",
        )
        if not anchored:
            settled.suspects.append(range(last_good, size))
    for tile, side in settled.sides.items():
        if side == "above" and tile not in check.differing:
            settled.suspects.append(range(tile * TILE_WIDTH, (tile + 1) * TILE_WIDTH))


def _touched(check: LogCheck, settled: Settled, stored: _Stored, findings: Findings) -> None:
    """Name the entries that are not what was signed, and take back what only follows from that."""
    log, first_of_tail = check.row.log, len(check.tiles) * TILE_WIDTH
    slots: list[Slot] = []
    for dispute in check.disputes:
        side = settled.sides.get(dispute.index // TILE_WIDTH, "stored")
        if side == "stored" or dispute.computed is None:
            slots.append(Slot(dispute.index, dispute.computed, dispute.stored))
    tail_known = len(settled.tail) == len(check.tail)
    for at, found in enumerate(check.tail):
        wanted = settled.tail[at] if tail_known else None
        if found is None or (wanted is not None and found != wanted):
            slots.append(Slot(first_of_tail + at, found, wanted))
    slots += [Slot(index, leaf_hash, None) for index, leaf_hash in check.extra.items()]
    foreign = {index for index, other in check.foreign.items() if "/" in other}
    if not slots:
        return
    settled.located = located = locate(log, check.span, slots, foreign, check.nodes)
    moved = [slot.index for slot in slots if slot.found is not None and slot.index not in located.edited]
    settled.touched = located.edited | located.excluded | set(moved)
    if check.disputes_more and settled.touched:
        settled.touched_from = min(settled.touched)
        located.findings[:] = [finding for finding in located.findings if finding.kind != "truncated"]
        findings.add("order", log, settled.touched_from, f"{check.disputes_more} more entries differ from here on")
    for kind in _CONSEQUENCES:
        kept = {finding.index for finding in findings.of(kind, log)}
        dropped = {index for index in kept if index is not None and settled.is_touched(index)}
        if kind == "wrong_log":
            dropped -= foreign
        if kind == "leaf_malformed":
            dropped -= check.nodes
        if kind == "duplicate_id":
            dropped.clear()
        findings.drop(kind, log, dropped)
    findings.extend(located.findings)


async def _tiles(conn: Connection, check: LogCheck, settled: Settled, stored: _Stored, findings: Findings) -> None:
    """Stored tiles of every level, and the edge, against the reference."""
    log, count = check.row.log, len(settled.tiles)
    for number in sorted(check.differing.keys() | settled.sides.keys()):
        seen = check.differing.get(number, TileSeen(None, check.tiles[number]))
        if seen.stored != settled.tiles[number]:
            what = "is not stored" if seen.stored is None else "is not what the entries give"
            findings.add("tile_mismatch", log, number * TILE_WIDTH, f"tile 0/{number} {what}")
    expected = {(level, index): hashes for level, index, hashes in upper_tiles(settled.tiles)}
    for level, index in sorted(expected.keys() | stored.uppers.keys()):
        wanted, found = expected.get((level, index)), stored.uppers.get((level, index))
        if wanted != found:
            what = "is not stored" if found is None else "has no place" if wanted is None else "is not what it must be"
            first = index * TILE_WIDTH ** (level + 1) if level > 0 else None
            findings.add("tile_mismatch", log, first, f"tile {level}/{index} {what}")
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT index FROM tiles WHERE log = %b AND level = 0 AND (index < 0 OR index >= %b) ORDER BY index LIMIT 100",
        (log, count),
    )
    async for (index,) in cursor:
        findings.add(
            "tile_mismatch", log, index * TILE_WIDTH, f"tile 0/{index} has no place: the log has {check.span} entries"
        )
    if check.row.listed and check.row.tree_size == check.span and stored.edge != edge_of(settled.tiles, settled.tail):
        findings.add(
            "tile_mismatch", log, count * TILE_WIDTH, "the partial tiles at the edge are not what they must be"
        )


def _head(check: LogCheck, settled: Settled, findings: Findings) -> None:
    """The log's row against its newest checkpoint."""
    row, newest = check.row, check.newest
    log, size = row.log, row.tree_size
    if not row.listed:
        return
    newest_size = 0 if newest is None else newest.tree_size
    newest_root = settled.root_hash if newest is None else newest.root_hash
    if size == newest_size:
        if newest_root is not None and row.root_hash != newest_root:
            findings.add(
                "checkpoint_mismatch",
                log,
                size - 1 if size else None,
                f"the head's row says root {row.root_hash.hex()}, its checkpoint {newest_root.hex()}",
            )
    elif size < newest_size:
        findings.add("rolled_back", log, size, f"the head's row says size {size}, the newest checkpoint {newest_size}")
    elif not findings.of("truncated", log):
        findings.add(
            "checkpoint_mismatch",
            log,
            newest_size,
            f"no checkpoint covers the entries from {newest_size} on; the head's row says size {size}",
        )
        settled.uncovered = range(newest_size, min(size, check.span))
