"""Every way of tampering, on many random places, is found under its own name, at the entry that was touched.

Each change is made by a superuser on whose connection no trigger fires, and undone by rolling back: the ledger is
verified within a copy, which each test makes for itself.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.keystore import SqliteKeyStore
from ledger.merkle import Edge, node_hash
from ledger.verify import Report, ranges, spool, verify
from tests.support.servers import Database, PostgresServer, clone
from tests.verify.support import PREFIX, found, kinds, leaf_hash, small, tampering

PLACES = 6  # random places that each way is tried at
Tamper = psycopg.AsyncConnection[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's key store is."""
    return tmp_path_factory.mktemp("tampering")


class Copies:
    """One written ledger, of which each place gets a copy to tamper with."""

    def __init__(self, original: Database, keystore: SqliteKeyStore) -> None:
        self.original = original
        self.keystore = keystore

    async def tampered(self, change: Callable[[Tamper], Awaitable[None]], **options: Any) -> Report:
        """The report on a copy after a change."""
        copy = await self.original.copy()
        try:
            async with tampering(copy) as conn:
                await change(conn)
            options.setdefault("keystore", self.keystore)
            return await verify(copy.url("tally_auditor"), **options)
        finally:
            await copy.drop()


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of one tile and many spool partitions, so that what spans ranges is met with 1,900 entries."""
    monkeypatch.setattr(ranges, "RANGE_ENTRIES", 256)
    monkeypatch.setattr(spool, "PARTITION_ENTRIES", 100)


_ORIGINALS: dict[int, Database] = {}


@pytest.fixture
async def copies(postgres_server: PostgresServer, folder: Path) -> AsyncIterator[Copies]:
    """The module's ledger, written once."""
    original = _ORIGINALS.get(id(postgres_server))
    if original is None:
        original = await clone(postgres_server)
        await small(original, folder)
        _ORIGINALS[id(postgres_server)] = original
    keystore = SqliteKeyStore(folder / "keys")
    yield Copies(original, keystore)
    keystore.close()


def places(name: str) -> list[int]:
    """Seeds, one for each place, that differ from one way of tampering to another."""
    return [random.Random(f"{name}-{number}").getrandbits(32) for number in range(PLACES)]


class At:
    """A random entry of a random tenant log."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.log = ""
        self.index = 0
        self.size = 0

    async def choose(self, conn: Tamper, *, low: int = 1, high: int = 1) -> None:
        """Choose the entry: index `low` or above, and `high` or more below the log's end. The same one each time."""
        self.rng.seed(self.seed)
        cursor = await conn.execute("SELECT log, tree_size FROM logs WHERE class = 'tenant' ORDER BY log")
        self.log, self.size = self.rng.choice(await cursor.fetchall())
        self.index = self.rng.randrange(low, self.size - high)


@pytest.mark.parametrize("seed", places("leaf edited"))
async def test_leaf_edited(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn, low=0, high=0)
        cursor = await conn.execute("SELECT leaf FROM entries WHERE log = %s AND index = %s", (at.log, at.index))
        (leaf,) = await cursor.fetchone() or (b"",)
        edited = bytearray(leaf)
        edited[at.rng.randrange(len(leaf))] ^= 1 << at.rng.randrange(8)
        await conn.execute(
            "UPDATE entries SET leaf = %s WHERE log = %s AND index = %s", (bytes(edited), at.log, at.index)
        )

    report = await copies.tampered(change)
    assert ("leaf_edited", at.log, at.index) in found(report)
    assert kinds(report) - {"leaf_edited", "chain_broken", "producer_gap", "source_hole"} == set()
    touched = {finding.index for finding in report.findings if finding.kind in ("leaf_edited", "chain_broken")}
    assert touched == {at.index}
    assert report.integrity == "failed"


@pytest.mark.parametrize("seed", places("well-formed edit"))
async def test_a_figure_edited_is_only_an_edited_leaf(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        cursor = await conn.execute("SELECT log, index FROM entries WHERE kind = 'tool_call' ORDER BY log, index")
        at.log, at.index = at.rng.choice(await cursor.fetchall())
        await conn.execute(
            "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '\"status\":\"ok\"',"
            " '\"status\":\"error\"'), 'UTF8') WHERE log = %s AND index = %s",
            (at.log, at.index),
        )

    report = await copies.tampered(change)
    assert found(report) == {("leaf_edited", at.log, at.index)}


@pytest.mark.parametrize("column", ["id", "kind", "run", "run_seq", "recorded"])
@pytest.mark.parametrize("seed", places("column")[:3])
async def test_column_edited(copies: Copies, seed: int, column: str) -> None:
    at = At(seed)
    values = {
        "id": "gen_random_uuid()",
        "kind": "kind || 'x'",
        "run": "coalesce(run, '') || 'x'",
        "run_seq": "coalesce(run_seq, 0) + 100000",
        "recorded": "recorded + interval '1 microsecond'",
    }

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        await conn.execute(
            f"UPDATE entries SET {column} = {values[column]} WHERE log = %s AND index = %s", (at.log, at.index)
        )

    report = await copies.tampered(change)
    assert found(report) == {("column_mismatch", at.log, at.index)}
    assert column in report.findings[0].detail


@pytest.mark.parametrize("seed", places("content"))
async def test_content_edited(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        cursor = await conn.execute(
            "SELECT log, index, sealed FROM content WHERE cardinality(sealed) > 0 ORDER BY log, index"
        )
        at.log, at.index, sealed = at.rng.choice(await cursor.fetchall())
        number = at.rng.randrange(len(sealed))
        edited = bytearray(sealed[number])
        edited[at.rng.randrange(len(edited))] ^= 1 << at.rng.randrange(8)
        sealed[number] = bytes(edited)
        await conn.execute("UPDATE content SET sealed = %s WHERE log = %s AND index = %s", (sealed, at.log, at.index))

    report = await copies.tampered(change)
    assert found(report) == {("content_tampered", at.log, at.index)}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM content WHERE log = %s AND index = %s",
        "UPDATE content SET sealed = array_fill(NULL::bytea, ARRAY[cardinality(sealed)]) WHERE log = %s AND index = %s",
        "UPDATE content SET sealed = sealed[2:] WHERE log = %s AND index = %s",
        "UPDATE content SET pointers = pointers[2:], types = types[2:], sealed = sealed[2:]"
        " WHERE log = %s AND index = %s",
        "UPDATE content SET pointers[1] = '/other' WHERE log = %s AND index = %s",
        "UPDATE content SET types[1] = 'application/octet-stream' WHERE log = %s AND index = %s",
        "UPDATE content SET pointers = array_reverse(pointers) WHERE log = %s AND index = %s",
        "UPDATE content c SET sealed = o.sealed FROM content o WHERE o.log = c.log AND o.index <> c.index"
        " AND o.pointers = c.pointers AND c.log = %s AND c.index = %s",
    ],
)
async def test_content_removed_or_exchanged(copies: Copies, statement: str) -> None:
    at = At(hash(statement))

    async def change(conn: Tamper) -> None:
        cursor = await conn.execute("SELECT log, index FROM content WHERE cardinality(sealed) > 1 ORDER BY log, index")
        at.log, at.index = at.rng.choice(await cursor.fetchall())
        await conn.execute(statement, (at.log, at.index))

    report = await copies.tampered(change)
    assert found(report) == {("content_tampered", at.log, at.index)}


@pytest.mark.parametrize("seed", places("deleted"))
async def test_entry_deleted(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn, low=0, high=2)
        await conn.execute("DELETE FROM entries WHERE log = %s AND index = %s", (at.log, at.index))

    report = await copies.tampered(change)
    assert ("entry_missing", at.log, at.index) in found(report)
    assert kinds(report) <= {"entry_missing", "producer_gap", "source_hole"}


@pytest.mark.parametrize("seed", places("deleted and closed up"))
async def test_entry_deleted_and_the_gap_closed(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn, high=20)
        for table in ("entries", "content"):
            await conn.execute(f"DELETE FROM {table} WHERE log = %s AND index = %s", (at.log, at.index))
            await conn.execute(f"UPDATE {table} SET index = -index WHERE log = %s AND index > %s", (at.log, at.index))
            await conn.execute(f"UPDATE {table} SET index = -index - 1 WHERE log = %s AND index < 0", (at.log,))

    report = await copies.tampered(change)
    assert ("entry_missing", at.log, at.index) in found(report)
    assert ("order", at.log, at.index) in found(report)
    assert kinds(report) <= {"entry_missing", "order", "producer_gap", "source_hole"}


@pytest.mark.parametrize("seed", places("inserted at the end"))
async def test_entry_inserted_at_the_end(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        await insert_forged(conn, at, at.size)

    report = await copies.tampered(change)
    assert found(report) == {("entry_inserted", at.log, at.size)}


@pytest.mark.parametrize("seed", places("inserted in the middle"))
async def test_entry_inserted_in_the_middle(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        for table in ("entries", "content"):
            await conn.execute(f"UPDATE {table} SET index = -index WHERE log = %s AND index >= %s", (at.log, at.index))
            await conn.execute(f"UPDATE {table} SET index = 1 - index WHERE log = %s AND index < 0", (at.log,))
        await insert_forged(conn, at, at.index)

    report = await copies.tampered(change)
    assert ("entry_inserted", at.log, at.index) in found(report)
    assert kinds(report) == {"entry_inserted", "order"}


async def insert_forged(conn: Tamper, at: At, index: int) -> None:
    """Insert a well-formed entry that nobody sealed."""
    await conn.execute(
        "INSERT INTO entries (log, index, id, kind, run, run_seq, recorded, leaf)"
        " SELECT log, %(index)s, '7e57ab1e-0000-4000-8000-000000000001', kind, NULL, NULL, recorded,"
        " convert_to(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace("
        '  convert_from(leaf, \'UTF8\'), \'"id":"[^"]{36}"\', \'"id":"7e57ab1e-0000-4000-8000-000000000001"\'),'
        "  '\"prev\":[^,]*', '\"prev\":null'), '\"run\":[^,]*', '\"run\":null'),"
        "  '\"run_seq\":[^,]*', '\"run_seq\":null'),"
        '  \'"source":\\{"[^}]*\\}\', \'"source":{"ledger":"tenant/forged"}\'), \'UTF8\')'
        " FROM entries WHERE log = %(log)s AND kind = 'tenant'",
        {"index": index, "log": at.log},
    )


@pytest.mark.parametrize("seed", places("duplicated"))
async def test_entry_inserted_again(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        await conn.execute("DROP INDEX entries_id; DROP INDEX entries_run")
        await conn.execute(
            "INSERT INTO entries SELECT log, %s, id, kind, run, run_seq, recorded, leaf FROM entries"
            " WHERE log = %s AND index = %s",
            (at.size, at.log, at.index),
        )

    report = await copies.tampered(change)
    assert {("duplicate_id", at.log, at.size), ("entry_inserted", at.log, at.size)} <= found(report)


@pytest.mark.parametrize("seed", places("swapped"))
async def test_two_entries_swapped(copies: Copies, seed: int) -> None:
    at = At(seed)
    other = 0

    async def change(conn: Tamper) -> None:
        nonlocal other
        await at.choose(conn)
        other = at.rng.choice([index for index in range(at.size) if index != at.index])
        for table in ("entries", "content"):
            for old, new in ((at.index, -1), (other, at.index), (-1, other)):
                await conn.execute(f"UPDATE {table} SET index = %s WHERE log = %s AND index = %s", (new, at.log, old))

    report = await copies.tampered(change)
    assert found(report) == {("order", at.log, at.index), ("order", at.log, other)}


@pytest.mark.parametrize("seed", places("copied"))
async def test_entry_copied_to_another_log(copies: Copies, seed: int) -> None:
    at = At(seed)
    target, size = "", 0

    async def change(conn: Tamper) -> None:
        nonlocal target, size
        await at.choose(conn)
        cursor = await conn.execute(
            "SELECT log, tree_size FROM logs WHERE class = 'tenant' AND log <> %s ORDER BY log", (at.log,)
        )
        target, size = at.rng.choice(await cursor.fetchall())
        await conn.execute(
            "INSERT INTO entries SELECT %s, %s, id, kind, run, run_seq, recorded, leaf FROM entries"
            " WHERE log = %s AND index = %s",
            (target, size, at.log, at.index),
        )

    report = await copies.tampered(change)
    assert found(report) == {("wrong_log", target, size)}


@pytest.mark.parametrize("seed", places("moved"))
async def test_entry_replaced_by_one_of_another_log(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        await conn.execute(
            "UPDATE entries e SET leaf = (SELECT leaf FROM entries o WHERE o.log <> e.log AND o.run IS NOT NULL"
            " ORDER BY o.log, o.index LIMIT 1) WHERE e.log = %s AND e.index = %s",
            (at.log, at.index),
        )

    report = await copies.tampered(change)
    assert ("wrong_log", at.log, at.index) in found(report)
    assert kinds(report) <= {"wrong_log", "producer_gap", "source_hole"}


@pytest.mark.parametrize("seed", places("renumbered"))
async def test_entry_renumbered(copies: Copies, seed: int) -> None:
    at = At(seed)
    new = 0

    async def change(conn: Tamper) -> None:
        nonlocal new
        await at.choose(conn)
        new = at.size + at.rng.choice([0, 1, 1000, 10**12])
        for table in ("entries", "content"):
            await conn.execute(f"UPDATE {table} SET index = %s WHERE log = %s AND index = %s", (new, at.log, at.index))

    report = await copies.tampered(change)
    assert found(report) == {("order", at.log, new)}
    assert str(at.index) in report.findings[0].detail


@pytest.mark.parametrize("cut", [1, 2, 50, 300])
async def test_tail_cut(copies: Copies, cut: int) -> None:
    at = At(cut)

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        for table in ("entries", "content"):
            await conn.execute(f"DELETE FROM {table} WHERE log = %s AND index >= %s", (at.log, at.size - cut))

    report = await copies.tampered(change)
    assert ("truncated", at.log, at.size - cut) in found(report)
    assert kinds(report) <= {"truncated", "source_hole", "entry_missing"}


async def cut_back(conn: Tamper, log: str, size: int) -> None:
    """Set a log back to an earlier committed state, all of it: nothing in the log itself shows it."""
    cursor = await conn.execute("SELECT leaf FROM entries WHERE log = %s AND index < %s ORDER BY index", (log, size))
    edge = Edge.empty()
    edge.extend([leaf_hash(leaf) for (leaf,) in await cursor.fetchall()])
    for table in ("entries", "content"):
        await conn.execute(f"DELETE FROM {table} WHERE log = %s AND index >= %s", (log, size))
    await conn.execute("DELETE FROM checkpoints WHERE log = %s AND tree_size > %s", (log, size))
    await conn.execute("DELETE FROM tiles WHERE log = %s AND (index + 1) << (8 * (level + 1)) > %s", (log, size))
    await conn.execute(
        "UPDATE logs SET tree_size = %s, root_hash = %s, edge = %s WHERE log = %s",
        (size, edge.root(), edge.dump(), log),
    )


async def older_state(conn: Tamper, at: At) -> tuple[int, bytes]:
    """An earlier checkpoint's size, and the newest note, of a random tenant log."""
    await at.choose(conn)
    cursor = await conn.execute("SELECT tree_size, note FROM checkpoints WHERE log = %s ORDER BY tree_size", (at.log,))
    checkpoints = await cursor.fetchall()
    return at.rng.choice(checkpoints[1:-2])[0], checkpoints[-1][1]


@pytest.mark.parametrize("seed", places("cut back"))
async def test_log_cut_back_is_found_by_heads(copies: Copies, seed: int) -> None:
    at = At(seed)
    size = 0

    async def change(conn: Tamper) -> None:
        nonlocal size
        size, _ = await older_state(conn, at)
        await cut_back(conn, at.log, size)

    report = await copies.tampered(change)
    assert ("rolled_back", at.log, size) in found(report)
    assert kinds(report) <= {"rolled_back", "source_hole"}
    alone = await copies.tampered(change, logs=[at.log])
    assert ("rolled_back", at.log, size) in found(alone)


@pytest.mark.parametrize("seed", places("cut back with heads"))
async def test_log_cut_back_is_found_by_a_known_checkpoint(copies: Copies, seed: int, tmp_path: Path) -> None:
    """The key is in the tamperer's hand, `heads` is gone, and the key store remembers no publication."""
    at = At(seed)
    size = 0
    note = b""
    copies.keystore.close()
    forgetful = forget_published(copies, tmp_path)

    async def change(conn: Tamper) -> None:
        nonlocal size, note
        size, note = await older_state(conn, at)
        await cut_back(conn, at.log, size)
        await conn.execute("DELETE FROM entries WHERE log LIKE '%%/heads'")
        await conn.execute("DELETE FROM checkpoints WHERE log LIKE '%%/heads'")
        await conn.execute("UPDATE logs SET tree_size = 0, edge = '', root_hash = sha256('') WHERE class = 'heads'")

    with SqliteKeyStore(forgetful) as keystore:
        without = await copies.tampered(change, logs=[at.log], keystore=keystore)
        assert "rolled_back" not in kinds(without)
        report = await copies.tampered(change, logs=[at.log], known_checkpoint=note, keystore=keystore)
        assert ("rolled_back", at.log, size) in found(report)
        fork = await copies.tampered(
            lambda conn: forked(conn, at, keystore), logs=[at.log], known_checkpoint=note, keystore=keystore
        )
        assert ("forked", at.log, at.size - 1) in found(fork)


async def forked(conn: Tamper, at: At, keystore: SqliteKeyStore) -> None:
    """Another history of the same length, signed with the log's own key."""
    cursor = await conn.execute("SELECT tree_size FROM logs WHERE log = %s", (at.log,))
    (at.size,) = await cursor.fetchone() or (0,)
    cursor = await conn.execute(
        "SELECT max(tree_size) FROM checkpoints WHERE log = %s AND tree_size < %s", (at.log, at.size)
    )
    (size,) = await cursor.fetchone() or (0,)
    cursor = await conn.execute(
        "SELECT leaf FROM entries WHERE log = %s AND index >= %s ORDER BY index", (at.log, size)
    )
    leaves = [leaf for (leaf,) in await cursor.fetchall()]
    await cut_back(conn, at.log, size)
    leaves[-1] = leaves[-1].replace(b"run_head", b"run_tail")
    for index, leaf in enumerate(leaves, size):
        await conn.execute("INSERT INTO entries (log, index, leaf) VALUES (%s, %s, %s)", (at.log, index, leaf))
    await rebuild(conn, at.log, keystore)


def forget_published(copies: Copies, folder: Path) -> Path:
    """A copy of the key store that remembers neither publications nor verifications."""
    import shutil
    import sqlite3

    target = folder / "keys"
    shutil.copytree(copies.keystore.path.parent, target)
    connection = sqlite3.connect(target / "keys.sqlite")
    connection.execute("DELETE FROM published")
    connection.execute("DELETE FROM marks")
    connection.commit()
    connection.close()
    return target


async def rebuild(conn: Tamper, log: str, keystore: SqliteKeyStore | None) -> None:
    """Make tiles, edge and head fit the entries again; with a key store in hand, sign the head too."""
    cursor = await conn.execute("SELECT leaf FROM entries WHERE log = %s ORDER BY index", (log,))
    edge = Edge.empty()
    tiles = edge.extend([leaf_hash(leaf) for (leaf,) in await cursor.fetchall()])
    await conn.execute("DELETE FROM tiles WHERE log = %s", (log,))
    for tile in tiles:
        await conn.execute("INSERT INTO tiles VALUES (%s, %s, %s, %s)", (log, tile.level, tile.index, tile.hashes))
    await conn.execute(
        "UPDATE logs SET tree_size = %s, root_hash = %s, edge = %s WHERE log = %s",
        (edge.tree_size, edge.root(), edge.dump(), log),
    )
    if keystore is not None:
        note = sign_checkpoint(Checkpoint(log, edge.tree_size, edge.root()), keystore.signer(log))
        await conn.execute(
            "INSERT INTO checkpoints VALUES (%s, %s, %s, %s) ON CONFLICT (log, tree_size) DO UPDATE"
            " SET root_hash = excluded.root_hash, note = excluded.note",
            (log, edge.tree_size, edge.root(), note),
        )


@pytest.mark.parametrize("seed", places("rebuilt"))
async def test_leaf_edited_and_everything_but_the_signatures_rebuilt(copies: Copies, seed: int) -> None:
    at = At(seed)
    last = False

    async def change(conn: Tamper) -> None:
        nonlocal last
        cursor = await conn.execute("SELECT log, index FROM entries WHERE kind = 'tool_call' ORDER BY log, index")
        at.log, at.index = at.rng.choice(await cursor.fetchall())
        await conn.execute(
            "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '\"status\":\"ok\"',"
            " '\"status\":\"error\"'), 'UTF8') WHERE log = %s AND index = %s",
            (at.log, at.index),
        )
        await rebuild(conn, at.log, None)

    report = await copies.tampered(change)
    assert {"checkpoint_mismatch", "leaf_edited"} <= kinds(report)
    assert ("leaf_edited", at.log, at.index) in found(report)
    assert "chain_broken" not in kinds(report)


@pytest.mark.parametrize("seed", places("leaf and tile"))
async def test_leaf_and_its_tile_edited(copies: Copies, seed: int) -> None:
    at = At(seed)

    async def change(conn: Tamper) -> None:
        cursor = await conn.execute(
            "SELECT e.log, e.index FROM entries e JOIN logs l USING (log) WHERE kind = 'tool_call'"
            " AND index < tree_size / 256 * 256 ORDER BY log, index"
        )
        at.log, at.index = at.rng.choice(await cursor.fetchall())
        cursor = await conn.execute(
            "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '\"status\":\"ok\"',"
            " '\"status\":\"error\"'), 'UTF8') WHERE log = %s AND index = %s RETURNING leaf",
            (at.log, at.index),
        )
        (leaf,) = await cursor.fetchone() or (b"",)
        await conn.execute(
            "UPDATE tiles SET hashes = overlay(hashes placing %s from %s) WHERE log = %s AND level = 0 AND index = %s",
            (leaf_hash(leaf), at.index % 256 * 32 + 1, at.log, at.index // 256),
        )

    report = await copies.tampered(change)
    assert ("leaf_edited", at.log, at.index) in found(report)
    assert ("tile_mismatch", at.log, at.index // 256 * 256) in found(report)
    assert kinds(report) == {"leaf_edited", "tile_mismatch"}


@pytest.mark.parametrize("seed", places("re-signed"))
async def test_checkpoint_signed_with_another_key(copies: Copies, seed: int, tmp_path: Path) -> None:
    at = At(seed)
    size = 0

    async def change(conn: Tamper) -> None:
        nonlocal size
        await at.choose(conn)
        cursor = await conn.execute(
            "SELECT tree_size, root_hash FROM checkpoints WHERE log = %s ORDER BY tree_size", (at.log,)
        )
        size, root_hash = at.rng.choice(await cursor.fetchall())
        with SqliteKeyStore(tmp_path / "foreign") as foreign:
            note = sign_checkpoint(Checkpoint(at.log, size, root_hash), foreign.create_signer(at.log))
        await conn.execute("UPDATE checkpoints SET note = %s WHERE log = %s AND tree_size = %s", (note, at.log, size))

    report = await copies.tampered(change)
    assert ("unknown_key", at.log, size - 1) in found(report)
    assert kinds(report) <= {"unknown_key"} | ({"unknown_key", "bad_signature"} if size == at.size else set())


@pytest.mark.parametrize("seed", places("checkpoint"))
@pytest.mark.parametrize("what", ["note", "root_hash", "signature", "removed"])
async def test_checkpoint_edited(copies: Copies, seed: int, what: str) -> None:
    at = At(seed)
    size = 0

    async def change(conn: Tamper) -> None:
        nonlocal size
        await at.choose(conn)
        cursor = await conn.execute(
            "SELECT tree_size, note FROM checkpoints WHERE log = %s ORDER BY tree_size", (at.log,)
        )
        checkpoints = await cursor.fetchall()
        size, note = at.rng.choice(checkpoints[1:])
        if what == "removed":
            size = checkpoints[-1][0]
            await conn.execute("DELETE FROM checkpoints WHERE log = %s AND tree_size = %s", (at.log, size))
            return
        lines = note.split(b"\n")
        if what == "note":
            lines[2] = lines[2][:5] + (b"A" if lines[2][5:6] != b"A" else b"B") + lines[2][6:]
        elif what == "signature":
            lines[4] = lines[4][:-20] + (b"A" if lines[4][-20:-19] != b"A" else b"B") + lines[4][-19:]
        await conn.execute(
            "UPDATE checkpoints SET note = %s WHERE log = %s AND tree_size = %s", (b"\n".join(lines), at.log, size)
        )
        if what == "root_hash":
            await conn.execute(
                "UPDATE checkpoints SET root_hash = sha256(root_hash) WHERE log = %s AND tree_size = %s", (at.log, size)
            )

    report = await copies.tampered(change)
    expected = {
        "note": {"bad_signature", "checkpoint_mismatch"},
        "root_hash": {"checkpoint_mismatch"},
        "signature": {"bad_signature"},
        "removed": {"checkpoint_mismatch"},
    }
    assert kinds(report) == expected[what]
    assert {finding.log for finding in report.findings} == {at.log}
    if what != "removed":  # then also the first entry that no checkpoint covers any more is named
        assert {finding.index for finding in report.findings} == {size - 1}
    assert ("checkpoint_mismatch" if what == "removed" else min(kinds(report)), at.log, size - 1) in found(report)


@pytest.mark.parametrize("seed", places("tile"))
@pytest.mark.parametrize("how", ["edited", "removed", "extra"])
async def test_tile_edited(copies: Copies, seed: int, how: str) -> None:
    at = At(seed)
    index = 0

    async def change(conn: Tamper) -> None:
        nonlocal index
        await at.choose(conn)
        cursor = await conn.execute("SELECT index FROM tiles WHERE log = %s ORDER BY index", (at.log,))
        (index,) = at.rng.choice(await cursor.fetchall())
        if how == "edited":
            await conn.execute(
                "UPDATE tiles SET hashes = set_byte(hashes, %s, get_byte(hashes, %s) # 4)"
                " WHERE log = %s AND index = %s",
                (*[at.rng.randrange(8192)] * 2, at.log, index),
            )
        elif how == "removed":
            await conn.execute("DELETE FROM tiles WHERE log = %s AND index = %s", (at.log, index))
        else:
            index = 1000
            await conn.execute(
                "INSERT INTO tiles SELECT log, level, 1000, hashes FROM tiles WHERE log = %s LIMIT 1", (at.log,)
            )

    report = await copies.tampered(change)
    assert found(report) == {("tile_mismatch", at.log, index * 256)}


async def test_edge_edited(copies: Copies) -> None:
    at = At(1)

    async def change(conn: Tamper) -> None:
        await at.choose(conn)
        await conn.execute(
            "UPDATE logs SET edge = set_byte(edge, 40, get_byte(edge, 40) # 1) WHERE log = %s", (at.log,)
        )

    report = await copies.tampered(change)
    assert found(report) == {("tile_mismatch", at.log, at.size // 256 * 256)}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", places("relinked"))
async def test_run_chain_relinked(copies: Copies, seed: int, signed: bool) -> None:
    """An entry is made to follow another than it did: with the key in hand, or without."""
    at = At(seed)

    async def change(conn: Tamper) -> None:
        cursor = await conn.execute(
            "SELECT log, index, leaf FROM entries WHERE kind = 'tool_call' AND run_seq > 1 ORDER BY log, index"
        )
        at.log, at.index, leaf = at.rng.choice(await cursor.fetchall())
        start = leaf.index(b'"prev":"') + 8
        forged = leaf[:start] + leaf_hash(b"another").hex().encode() + leaf[start + 64 :]
        await conn.execute("UPDATE entries SET leaf = %s WHERE log = %s AND index = %s", (forged, at.log, at.index))
        if signed:
            await conn.execute("DELETE FROM checkpoints WHERE log = %s AND tree_size > %s", (at.log, at.index))
            await rebuild(conn, at.log, copies.keystore)

    report = await copies.tampered(change)
    assert ("chain_broken", at.log, at.index) in found(report)
    if not signed:
        assert found(report) == {("chain_broken", at.log, at.index), ("leaf_edited", at.log, at.index)}


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("slug", ["acme", "globex"])
async def test_tenant_removed_whole(copies: Copies, slug: str, heads: bool) -> None:
    log = f"{PREFIX}/{slug}"

    async def change(conn: Tamper) -> None:
        for table in ("entries", "content", "tiles", "checkpoints", "logs"):
            await conn.execute(f"DELETE FROM {table} WHERE log = %s OR log LIKE %s", (log, f"{log}/%"))
        await conn.execute("DELETE FROM runs WHERE tenant = %s", (slug,))
        await conn.execute("DELETE FROM tenants WHERE tenant = %s", (slug,))
        if not heads:
            await conn.execute("DELETE FROM entries WHERE log LIKE '%%/heads'")

    report = await copies.tampered(change)
    assert ("log_missing", log, None) in found(report)
    if heads:
        assert kinds(report) <= {"log_missing", "source_hole"}


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("seed", places("inner node"))
async def test_inner_node_passed_as_a_leaf(copies: Copies, seed: int, prefixed: bool) -> None:
    """The tree of half the size, whose leaves are inner nodes, must not pass for the log."""
    at = At(seed)

    async def change(conn: Tamper) -> None:
        await at.choose(conn, high=2)
        at.index -= at.index % 2
        cursor = await conn.execute(
            "SELECT leaf FROM entries WHERE log = %s AND index IN (%s, %s) ORDER BY index",
            (at.log, at.index, at.index + 1),
        )
        left, right = [leaf_hash(leaf) for (leaf,) in await cursor.fetchall()]
        node = b"\x01" * prefixed + left + right
        assert node_hash(left, right) != leaf_hash(node)
        await conn.execute("UPDATE entries SET leaf = %s WHERE log = %s AND index = %s", (node, at.log, at.index))

    report = await copies.tampered(change)
    assert ("leaf_malformed", at.log, at.index) in found(report)
    assert kinds(report) <= {"leaf_malformed", "producer_gap", "source_hole"}


@pytest.mark.parametrize("seed", places("key")[:3])
async def test_key_removed_from_the_key_store(copies: Copies, seed: int, tmp_path: Path) -> None:
    import sqlite3

    store = forget_published(copies, tmp_path)
    rng = random.Random(seed)
    connection = sqlite3.connect(store / "keys.sqlite")
    ref = rng.choice(sorted(ref for (ref,) in connection.execute("SELECT ref FROM content_keys")))
    connection.close()
    touched: set[tuple[str, str, int | None]] = set()
    with SqliteKeyStore(store) as keystore:
        keystore.destroy([ref])

        async def look(conn: Tamper) -> None:
            cursor = await conn.execute(
                "SELECT log, index FROM entries WHERE position(%s::bytea IN leaf) > 0", (f'"{ref}"'.encode(),)
            )
            touched.update(("key_missing", log, index) for log, index in await cursor.fetchall())

        report = await copies.tampered(look, keystore=keystore)
    assert kinds(report) <= {"key_missing"}
    assert found(report) <= touched
    assert report.integrity == ("failed" if touched else "ok")


async def test_an_empty_or_missing_log_is_never_ok(copies: Copies) -> None:
    async def nothing(conn: Tamper) -> None:
        """The copy stays as it is."""

    async def empty(conn: Tamper) -> None:
        for table in ("entries", "content", "tiles", "checkpoints", "logs", "runs", "tenants"):
            await conn.execute(f"DELETE FROM {table}")

    async def emptied(conn: Tamper) -> None:
        await cut_back(conn, f"{PREFIX}/acme", 0)

    missing = await copies.tampered(nothing, logs=[f"{PREFIX}/nobody"])
    assert (missing.integrity, missing.exit_status) == ("empty", 1)
    unknown = await copies.tampered(nothing, tenant="nobody")
    assert (unknown.integrity, unknown.exit_status) == ("empty", 1)
    gone = await copies.tampered(empty)
    assert gone.integrity == "failed"
    assert "log_missing" in kinds(gone)
    back = await copies.tampered(emptied)
    assert ("rolled_back", f"{PREFIX}/acme", 0) in found(back)
    assert back.exit_status == 1


async def test_an_empty_ledger_is_empty(database: Database, tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as keystore:
        report = await verify(database.url("tally_auditor"), keystore)
    assert (report.integrity, report.logs, report.findings, report.exit_status) == ("empty", [], [], 1)
