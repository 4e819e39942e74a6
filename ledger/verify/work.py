"""Checking one range of one log: what a worker process does, all the I/O of it.

A range is up to 64 tiles of indexes. In the verification's snapshot it reads the range's stored tiles, its checkpoints,
and, side by side on two connections, its entries and their content; hashes every leaf; and hands back what the checks
across ranges need. Bounded: a tile's entries and one row of content at a time, whatever the log's size.

Guarantees: what is handed back follows from the rows alone; nothing read here is trusted. In particular a stored tile
is only compared with; which of the two is right, `settle` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from psycopg import sql

from ledger.checkpoint import parse_checkpoint
from ledger.db import Connection
from ledger.errors import BadSignature, MalformedNote, NoteError, UnknownKey
from ledger.keystore import KeyStore
from ledger.merkle import TILE_WIDTH
from ledger.note import ED25519, open_note, parse_note, parse_vkey
from ledger.verify import entries, fields
from ledger.verify.entries import Checked, EntryCheck, Gathered
from ledger.verify.fields import Ciphers, FieldCheck, Unopened
from ledger.verify.heads import HeadsCheck, HeadsSeen
from ledger.verify.report import Findings
from ledger.verify.rows import copy_rows, fields_of
from ledger.verify.spool import Spool
from ledger.verify.tree import head_hash, levels_of, split, tile_hash

RANGE_TILES = 64
RANGE_ENTRIES = RANGE_TILES * TILE_WIDTH
DISPUTES_MAX = 4096  # of one range; a log with more is beyond naming each


@dataclass(frozen=True, slots=True)
class Job:
    """A range [first, end) of a log, the `number`-th. `beyond`: instead all that is stored past `first`, which no tree
    covers.

    `fresh_from`: entries below it belong to intake accounts that may not be read again, and are not counted.
    """

    log: str
    ordinal: int
    tenant_ordinal: int
    log_class: str
    first: int
    end: int
    number: int
    beyond: bool = False
    fresh_from: int = 0


@dataclass(frozen=True, slots=True)
class Dispute:
    """An index where the stored tile has another hash than the entry, or one of the two is not there."""

    index: int
    computed: bytes | None
    stored: bytes | None


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    """A stored checkpoint: what its note says (None: unreadable), the hash of the last tile's leaves up to its size as
    recomputed (None: not all are there), and the positions of the log's keys that signed it."""

    tree_size: int
    root_hash: bytes | None
    head: bytes | None
    signed_by: tuple[int, ...]


@dataclass(slots=True)
class TileSeen:
    """A full tile as recomputed (None: entries are missing) and as stored (None: not stored)."""

    computed: bytes | None
    stored: bytes | None


@dataclass(slots=True)
class RangeResult:
    """What a range came to."""

    job: Job
    rows: int = 0
    tiles: list[TileSeen] = field(default_factory=list)
    tail: list[bytes | None] = field(default_factory=list)  # leaf hashes of the last tile, where it is partial
    disputes: list[Dispute] = field(default_factory=list)
    disputes_more: int = 0
    checkpoints: list[SeenCheckpoint] = field(default_factory=list)
    gathered: Gathered = field(default_factory=Gathered)
    unopened: list[Unopened] = field(default_factory=list)
    heads: HeadsSeen | None = None
    extra: dict[int, bytes] = field(default_factory=dict)  # leaf hashes by index, of a job `beyond`
    findings: Findings = field(default_factory=Findings)


class Session:
    """A process' two connections, key store and spool for one verification."""

    def __init__(self, conns: tuple[Connection, Connection], keystore: KeyStore, spool: Spool) -> None:
        self.entries, self.content = conns
        self.keystore = keystore
        self.spool = spool
        self.ciphers = Ciphers(keystore)
        self._vkeys: dict[str, list[str]] = {}

    def vkeys(self, log: str) -> list[str]:
        """The log's verifier keys, oldest first."""
        found = self._vkeys.get(log)
        if found is None:
            found = self._vkeys[log] = self.keystore.vkeys(log)
        return found


async def check_range(session: Session, job: Job) -> RangeResult:
    """Check a range, in this order: its checkpoints' notes, its entries, their content, its tiles, its tree heads."""
    result = RangeResult(job)
    stored_tiles = {} if job.beyond else await _stored_tiles(session, job)
    notes = await _checkpoints(session, job, result)
    heads = HeadsCheck(job.log, session.vkeys, result.findings) if job.log_class == "heads" else None
    check = EntryCheck(
        job.log,
        job.ordinal,
        job.tenant_ordinal,
        session.spool,
        result.findings,
        is_tenant=job.log_class == "tenant",
        fresh_from=job.fresh_from,
    )
    content = _ContentReader(session, job, result)
    first = job.first
    async for rows in _by_tile(session.entries, job):
        await asyncio.sleep(0)  # the process that hands out ranges is at one itself
        if heads is not None:
            checked = heads.tile(rows)
        else:
            checked = check.tile(rows)
            await content.up_to(_tile_end(checked.indexes[-1]), checked)
        result.rows += len(rows)
        if job.beyond:
            result.extra.update(zip(checked.indexes[:DISPUTES_MAX], checked.hashes, strict=False))
            continue
        while first + TILE_WIDTH <= checked.indexes[0]:
            _tile(result, job, first, [], [], stored_tiles, notes)
            first += TILE_WIDTH
        _tile(result, job, first, checked.indexes, checked.hashes, stored_tiles, notes)
        first += TILE_WIDTH
    while first < job.end:
        _tile(result, job, first, [], [], stored_tiles, notes)
        first += TILE_WIDTH
    await content.rest()
    result.gathered = check.finish()
    if heads is not None:
        result.heads = await heads.compare(session.entries)
    for size, (root_hash, signed_by) in sorted(notes.items()):
        result.checkpoints.append(SeenCheckpoint(size, root_hash, None, signed_by))
    result.checkpoints.sort(key=lambda seen: seen.tree_size)
    return result


_Notes = dict[int, tuple[bytes | None, tuple[int, ...]]]  # by tree size: the note's root, the keys that signed


def _tile_end(index: int) -> int:
    return (index // TILE_WIDTH + 1) * TILE_WIDTH


def _within(job: Job, column: str) -> sql.Composed:
    """The SQL condition of a range."""
    condition = sql.SQL("log = {} AND {} >= {}").format(
        sql.Literal(job.log), sql.Identifier(column), sql.Literal(job.first)
    )
    if job.beyond:
        return condition
    return condition + sql.SQL(" AND {} < {}").format(sql.Identifier(column), sql.Literal(job.end))


async def _by_tile(conn: Connection, job: Job) -> AsyncIterator[list[bytes]]:
    """The range's entries, those of one tile at a time; tiles without entries are passed over."""
    query = sql.SQL("SELECT {} FROM entries WHERE {} ORDER BY index").format(
        sql.SQL(entries.COLUMNS), _within(job, "index")
    )
    held: list[bytes] = []
    tile = -1
    async for batch in copy_rows(conn, query):
        first, last = _index_of(batch[0]) // TILE_WIDTH, _index_of(batch[-1]) // TILE_WIDTH
        if first == last == tile:
            held += batch
            continue
        for row in batch:
            at = _index_of(row) // TILE_WIDTH
            if at != tile:
                if held:
                    yield held
                held, tile = [], at
            held.append(row)
    if held:
        yield held


def _index_of(row: bytes) -> int:
    """The first column of a row, a bigint."""
    return int.from_bytes(row[6:14], "big", signed=True)


class _ContentReader:
    """Reads the range's content beside its entries, a row at a time."""

    def __init__(self, session: Session, job: Job, result: RangeResult) -> None:
        self._check = FieldCheck(job.log, session.ciphers, result.findings)
        self._result = result
        query = sql.SQL("SELECT {} FROM content WHERE {} ORDER BY index").format(
            sql.SQL(fields.COLUMNS), _within(job, "index")
        )
        self._batches = copy_rows(session.content, query)
        self._rows: list[bytes] = []
        self._at = 0
        self._ended = False

    async def up_to(self, end: int, checked: Checked) -> None:
        """Check the content of entries below `end`, of which these were just checked."""
        check, commits, without = self._check, checked.commits, checked.without
        while await self._more():
            rows, at = self._rows, self._at
            limit = end.to_bytes(8, "big")  # indexes compare as their bytes, but for negative ones, which sort last
            for row in rows[at:] if at else rows:
                if row[6:14] >= limit:
                    break
                check.row(row, commits, without)
                at += 1
            self._at = at
            if at < len(rows):
                break
        check.without_row(commits)

    async def rest(self) -> None:
        """Read what is left, which belongs to no entry, and hand up what could not be opened."""
        while await self._more():
            self._at = len(self._rows)
        self._result.unopened = self._check.unopened

    async def _more(self) -> bool:
        if self._at < len(self._rows):
            return True
        if not self._ended:
            self._rows, self._at = await anext(self._batches, []), 0
            self._ended = not self._rows
        return bool(self._rows)


async def _stored_tiles(session: Session, job: Job) -> dict[int, bytes]:
    query = sql.SQL(
        "SELECT index, hashes FROM tiles WHERE log = {} AND level = 0 AND index >= {} AND index < {}"
    ).format(sql.Literal(job.log), sql.Literal(job.first // TILE_WIDTH), sql.Literal(job.end // TILE_WIDTH))
    found: dict[int, bytes] = {}
    async for batch in copy_rows(session.entries, query):
        for row in batch:
            _, hashes = fields_of(row)
            found[_index_of(row)] = hashes or b""
    return found


async def _checkpoints(session: Session, job: Job, result: RangeResult) -> _Notes:
    """The checkpoints whose last entry is in the range (a size of 0 counts to the first): note against columns, and
    signatures."""
    low = sql.SQL("log = {}").format(sql.Literal(job.log))
    if job.first or job.beyond:
        low += sql.SQL(" AND tree_size > {}").format(sql.Literal(job.first))
    if not job.beyond:
        low += sql.SQL(" AND tree_size <= {}").format(sql.Literal(job.end))
    query = sql.SQL("SELECT tree_size, root_hash, note FROM checkpoints WHERE {} ORDER BY tree_size").format(low)
    found: _Notes = {}
    vkeys = session.vkeys(job.log)
    async for batch in copy_rows(session.entries, query):
        for row in batch:
            _, root_hash, note = fields_of(row)
            size = _index_of(row)
            if size < 0:
                result.findings.add("checkpoint_mismatch", job.log, None, f"a checkpoint is stored as of size {size}")
                continue
            found[size] = check_note(job.log, size, root_hash, note or b"", vkeys, result.findings)
    return found


def check_note(
    log: str, size: int, root_hash: bytes | None, note: bytes, vkeys: list[str], findings: Findings
) -> tuple[bytes | None, tuple[int, ...]]:
    """Check a stored checkpoint's note: the root it names (None: it can't be read), and which of the log's keys, by
    their positions, signed it. `index` of a finding is that of the last entry under the checkpoint."""
    index = size - 1 if size > 0 else None
    try:
        said = parse_checkpoint(parse_note(note).text)
    except MalformedNote as error:
        findings.add("bad_signature", log, index, f"the checkpoint of size {size} is no signed note: {error}")
        return None, ()
    if (said.origin, said.tree_size, said.root_hash) != (log, size, root_hash):
        findings.add(
            "checkpoint_mismatch",
            log,
            index,
            f"the checkpoint stored as size {size} says {said.origin}, size {said.tree_size},"
            f" root {said.root_hash.hex()}, its columns root {(root_hash or b'').hex()}",
        )
    try:
        verified = open_note(note, vkeys)
    except UnknownKey as error:
        findings.add("unknown_key", log, index, f"the checkpoint of size {size} is under no key of the log: {error}")
        return said.root_hash, ()
    except BadSignature as error:
        findings.add("bad_signature", log, index, f"the checkpoint of size {size}: {error}")
        return said.root_hash, ()
    except NoteError as error:
        findings.add("bad_signature", log, index, f"the checkpoint of size {size} can't be verified: {error}")
        return said.root_hash, ()
    signed = {str(key) for key in verified.keys if key.algorithm == ED25519}
    positions = tuple(at for at, vkey in enumerate(vkeys) if str(parse_vkey(vkey)) in signed)
    return said.root_hash, positions


def _tile(
    result: RangeResult,
    job: Job,
    first: int,
    indexes: list[int],
    hashes: list[bytes],
    stored_tiles: dict[int, bytes],
    notes: _Notes,
) -> None:
    """Take in the leaf hashes of one tile: compare with the stored tile, hash, and hash up to each checkpoint."""
    width = min(TILE_WIDTH, job.end - first)
    whole = len(hashes) == width
    slots: list[bytes | None] = list(hashes)
    if not whole:
        slots = [None] * width
        for index, leaf_hash in zip(indexes, hashes, strict=True):
            slots[index - first] = leaf_hash
    levels = levels_of(hashes) if whole else []
    if whole and notes:
        for size in range(first if first == 0 else first + 1, first + width + 1):
            if size in notes:
                root_hash, signed_by = notes.pop(size)
                head = head_hash(levels, size - first) if size > first else None
                result.checkpoints.append(SeenCheckpoint(size, root_hash, head, signed_by))
    if width < TILE_WIDTH:
        result.tail = slots
        return
    computed = levels[-1][0] if whole else None
    stored = stored_tiles.get(first // TILE_WIDTH)
    if stored is None:
        result.tiles.append(TileSeen(computed, None))
        expected: list[bytes] | None = None
    elif whole and stored == b"".join(hashes):
        result.tiles.append(TileSeen(computed, computed))
        return
    else:
        expected = split(stored)
        result.tiles.append(TileSeen(computed, tile_hash(expected)))
    if whole and expected is None:
        return
    for at, found in enumerate(slots):
        wanted = expected[at] if expected is not None else None
        if found != wanted and (found is None or wanted is not None):
            if len(result.disputes) < DISPUTES_MAX:
                result.disputes.append(Dispute(first + at, found, wanted))
            else:
                result.disputes_more += 1
