"""An exported log is a tlog-tiles directory: whole, signed, recorded as published, and readable by others."""

from __future__ import annotations

from pathlib import Path

import pymerkle
import pytest

from ledger.checkpoint import verify_checkpoint
from ledger.db import connect
from ledger.errors import ForkRefused, LedgerError, LogMissing, ProofError
from ledger.export import export_log
from ledger.keystore import SqliteKeyStore
from ledger.merkle import TileRef, tree_root
from ledger.tiles import bundle_path, decode_bundle, parse_path, tile_path, widths
from tests.support.servers import Database
from tests.verify.support import PREFIX, small, tampering, world

LOG = f"{PREFIX}/acme"


async def export(database: Database, keystore: SqliteKeyStore, origin: str, out: Path) -> None:
    conn = await connect(database.url("tally_auditor"), "tally_auditor")
    async with conn:
        await export_log(conn, keystore, origin, out)


def names(folder: Path) -> list[str]:
    """What a folder holds."""
    return sorted(path.name for path in folder.iterdir())


async def test_every_log_exports_whole(database: Database, tmp_path: Path) -> None:
    await small(database, tmp_path)
    async with world(database, tmp_path) as made:
        cursor = await made.conn.execute("SELECT log, tree_size, root_hash FROM logs ORDER BY log")
        for number, (log, size, root_hash) in enumerate(await cursor.fetchall()):
            out = tmp_path / "out" / str(number)
            await export(database, made.keystore, log, out)
            note = (out / "checkpoint").read_bytes()
            checkpoint = verify_checkpoint(note, made.keystore.vkeys(log)).checkpoint
            assert (checkpoint.tree_size, checkpoint.root_hash) == (size, root_hash)
            assert made.keystore.published(log) == (size, root_hash)

            def read(tile: TileRef, out: Path = out) -> bytes:
                return (out / tile_path(tile.level, tile.index, tile.width)).read_bytes()

            assert tree_root(size, read) == root_hash
            cursor = await made.conn.execute("SELECT leaf FROM entries WHERE log = %s ORDER BY index", (log,))
            leaves = [leaf for (leaf,) in await cursor.fetchall()]
            full, rest = widths(size, 0)
            bundles = [(index, 256) for index in range(full)] + ([(full, rest)] if rest else [])
            read_back = [
                entry
                for index, width in bundles
                for entry in decode_bundle((out / bundle_path(index, width)).read_bytes(), width)
            ]
            assert read_back == leaves
            tree = pymerkle.InmemoryTree(algorithm="sha256")
            for leaf in leaves:
                tree.append_entry(leaf)
            assert tree.get_root() == root_hash
            for file in (file for file in out.rglob("*") if file.is_file() and file.name != "checkpoint"):
                parse_path(str(file.relative_to(out)))


async def test_an_export_is_refused_clearly_and_leaves_nothing(database: Database, tmp_path: Path) -> None:
    await small(database, tmp_path)
    async with world(database, tmp_path) as made:
        used = tmp_path / "used"
        used.mkdir()
        (used / "mine").touch()
        with pytest.raises(LedgerError, match="is not empty"):
            await export(database, made.keystore, LOG, used)
        (tmp_path / "file").touch()
        with pytest.raises(LedgerError, match="not a directory"):
            await export(database, made.keystore, LOG, tmp_path / "file")
        with pytest.raises(LogMissing, match="nobody"):
            await export(database, made.keystore, f"{PREFIX}/nobody", tmp_path / "out")
        made.keystore.create_signer(f"{PREFIX}/empty")
        await made.conn.execute("INSERT INTO logs (log, class) VALUES (%s, 'intake')", (f"{PREFIX}/empty",))
        with pytest.raises(LedgerError, match="empty"):
            await export(database, made.keystore, f"{PREFIX}/empty", tmp_path / "out")
        async with tampering(database) as conn:
            await conn.execute("UPDATE entries SET leaf = leaf || '\\x20' WHERE log = %s AND index = 300", (LOG,))
        with pytest.raises(ProofError, match="the entries give root"):
            await export(database, made.keystore, LOG, tmp_path / "out")
        async with tampering(database) as conn:
            await conn.execute("DELETE FROM entries WHERE log = %s AND index = 300", (LOG,))
        with pytest.raises(ProofError, match="expected entry 300, found 301"):
            await export(database, made.keystore, LOG, tmp_path / "out")
        assert names(tmp_path) == ["file", "keys", "used"]
        assert names(used) == ["mine"]


async def test_an_export_into_an_empty_directory_and_past_a_later_publication(
    database: Database, tmp_path: Path
) -> None:
    await small(database, tmp_path)
    async with world(database, tmp_path) as made:
        (tmp_path / "out").mkdir()
        await export(database, made.keystore, LOG, tmp_path / "out")
        assert (tmp_path / "out" / "checkpoint").is_file()
        published = made.keystore.published(LOG)
        assert published is not None
        made.keystore.publish(LOG, published[0] + 1, b"\1" * 32)
        with pytest.raises(ForkRefused):
            await export(database, made.keystore, LOG, tmp_path / "again")
        assert not (tmp_path / "again").exists()
