"""Exporting a log as a C2SP tlog-tiles directory that any reader of the specification takes as it is.

    checkpoint                       the newest committed checkpoint, the signed note
    tile/<L>/<N>[.p/<W>]             hashes, recomputed from the entries while they are written
    tile/entries/<N>[.p/<W>]         the entries' exact bytes

Guarantees: the directory appears whole or not at all (a failed export leaves nothing); its tiles give the root of its
checkpoint, which is signed by the log's own key; that checkpoint is recorded as published, outside the database, before
the directory appears. Reads one snapshot, so a writer at work doesn't disturb it, and holds one bundle of entries at a
time. Does not: export content, or cosignatures.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from psycopg import sql

from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.db import Connection
from ledger.errors import ForkRefused, LedgerError, LogMissing, ProofError
from ledger.keystore import KeyStore
from ledger.merkle import TILE_WIDTH, Edge, leaf_hash
from ledger.tiles import bundle_path, encode_bundle, tile_path
from ledger.verify.rows import copy_rows, fields_of

Progress = Callable[[int, int], None]  # entries written, of how many


async def export_log(
    conn: Connection, keystore: KeyStore, origin: str, out_dir: Path, progress: Progress | None = None
) -> Checkpoint:
    """Export a log into `out_dir`, which must not exist yet or be empty; returns the checkpoint it is under.

    `conn` acts as tally_auditor, in no transaction. Raises LedgerError (an empty log, a directory in use), LogMissing,
    ProofError (the entries do not give the signed root: run `tally verify`), NoteError (the checkpoint is not under the
    log's key), ForkRefused (another history was published), psycopg.Error or OSError; `out_dir` is as it was then.
    """
    partial = await asyncio.to_thread(_begin, out_dir)
    try:
        await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            checkpoint, note = await _newest(conn, keystore, origin)
            await _write_entries(conn, checkpoint, partial, progress or _silent)
        finally:
            await conn.execute("ROLLBACK")
        await _publish(conn, keystore, checkpoint)
        await asyncio.to_thread(_finish, partial, out_dir, note)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return checkpoint


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


def _begin(out_dir: Path) -> Path:
    """A hidden directory beside the wanted one, to be renamed when it is complete."""
    if out_dir.is_symlink() or (out_dir.exists() and not out_dir.is_dir()):
        raise LedgerError(f"{out_dir} is not a directory: name one that doesn't exist yet, or an empty one")
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise LedgerError(f"{out_dir} is not empty: an export never mixes with other files; name another directory")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = out_dir.parent / f".{out_dir.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    return partial


def _finish(partial: Path, out_dir: Path, note: bytes) -> None:
    (partial / "checkpoint").write_bytes(note)
    os.sync()  # thousands of small files: one sync for all of them, before the name that says they are complete
    partial.rename(out_dir)


async def _newest(conn: Connection, keystore: KeyStore, origin: str) -> tuple[Checkpoint, bytes]:
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT l.tree_size, c.note FROM logs l LEFT JOIN checkpoints c ON c.log = l.log AND c.tree_size = l.tree_size"
        " WHERE l.log = %b",
        (origin,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise LogMissing(f"no such log: {origin}; `tally verify` lists the logs")
    tree_size, note = row
    if tree_size == 0:
        raise LedgerError(f"{origin} is empty: there is nothing to export")
    if note is None:
        raise ProofError(
            f"{origin}: no checkpoint of its size {tree_size} is stored; run `tally verify --log {origin}`"
        )
    checkpoint = verify_checkpoint(note, keystore.vkeys(origin)).checkpoint
    if (checkpoint.origin, checkpoint.tree_size) != (origin, tree_size):
        raise ProofError(f"{origin}: expected a checkpoint of size {tree_size}, got one of {checkpoint.text()!r}")
    return checkpoint, note


async def _write_entries(conn: Connection, checkpoint: Checkpoint, folder: Path, progress: Progress) -> None:
    """Bundles and tiles, and the root that they must give."""
    edge = Edge.empty()
    bundle: list[bytes] = []
    query = sql.SQL("SELECT index, leaf FROM entries WHERE log = {} AND index < {} ORDER BY index").format(
        sql.Literal(checkpoint.origin), sql.Literal(checkpoint.tree_size)
    )
    async for rows in copy_rows(conn, query):
        for row in rows:
            index_field, leaf = fields_of(row)
            index, expected = int.from_bytes(index_field or b"", "big", signed=True), edge.tree_size + len(bundle)
            if index != expected:
                raise ProofError(f"{checkpoint.origin}: expected entry {expected}, found {index}; run `tally verify`")
            bundle.append(leaf or b"")
            if len(bundle) == TILE_WIDTH:
                _write_bundle(folder, edge, bundle)
                bundle = []
        progress(edge.tree_size, checkpoint.tree_size)
    if bundle:
        _write_bundle(folder, edge, bundle)
    level, rest = 0, edge.tree_size
    while rest:
        hashes = edge.partial_tile(level)
        if hashes:
            _write(folder, tile_path(level, rest // TILE_WIDTH, rest % TILE_WIDTH), hashes)
        level, rest = level + 1, rest // TILE_WIDTH
    if (edge.tree_size, edge.root()) != (checkpoint.tree_size, checkpoint.root_hash):
        raise ProofError(
            f"{checkpoint.origin}: the entries give root {edge.root().hex()} at size {edge.tree_size}, the checkpoint"
            f" says {checkpoint.root_hash.hex()} at size {checkpoint.tree_size}; run `tally verify`"
        )
    progress(edge.tree_size, checkpoint.tree_size)


def _write_bundle(folder: Path, edge: Edge, bundle: list[bytes]) -> None:
    """A bundle, and the tiles that its entries complete."""
    _write(folder, bundle_path(edge.tree_size // TILE_WIDTH, len(bundle)), encode_bundle(bundle))
    for tile in edge.extend([leaf_hash(leaf) for leaf in bundle]):
        _write(folder, tile_path(tile.level, tile.index), tile.hashes)


def _write(folder: Path, path: str, data: bytes) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


async def _publish(conn: Connection, keystore: KeyStore, checkpoint: Checkpoint) -> None:
    """Record the checkpoint. Where a later one was published meanwhile, it must be one of this same database."""
    try:
        keystore.publish(checkpoint.origin, checkpoint.tree_size, checkpoint.root_hash)
    except ForkRefused:
        published = keystore.published(checkpoint.origin)
        if published is None or published[0] <= checkpoint.tree_size:
            raise
        cursor = await conn.execute(
            "SELECT root_hash FROM checkpoints WHERE log = %s AND tree_size = %s", (checkpoint.origin, published[0])
        )
        row = await cursor.fetchone()
        if row is None or bytes(row[0]) != published[1]:
            raise
