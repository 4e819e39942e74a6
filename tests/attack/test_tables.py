"""Tables beside the logs, changed by a superuser: what the writer would go by, though no leaf says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.keystore import SqliteKeyStore
from ledger.verify import verify
from tests.support.servers import Database, PostgresServer, clone
from tests.verify.support import PREFIX, kinds, small, tampering

ACME, GLOBEX = "ledger.example.org/acme", "ledger.example.org/globex"
SHARD = f"{GLOBEX}/1"
_WRITTEN: dict[int, Database] = {}

Statements = tuple[str, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's key store is."""
    return tmp_path_factory.mktemp("tables")


@pytest.fixture
async def copy(postgres_server: PostgresServer, folder: Path) -> AsyncIterator[Database]:
    """A copy of a ledger that is written once."""
    original = _WRITTEN.get(id(postgres_server))
    if original is None:
        original = _WRITTEN[id(postgres_server)] = await clone(postgres_server)
        await small(original, folder)
    made = await original.copy()
    yield made
    await made.drop()


async def found(copy: Database, folder: Path, *statements: str) -> dict[str, Any]:
    """The findings by (kind, log) after these statements, and the verdict on integrity."""
    async with tampering(copy) as conn:
        for statement in statements:
            await conn.execute(statement.encode())
    with SqliteKeyStore(folder / "keys", create=False) as keystore:
        report = await verify(copy.url("tally_auditor"), keystore, workers=1)
    return {"integrity": report.integrity, "completeness": report.completeness, "kinds": kinds(report)} | {
        finding.log: finding.kind for finding in report.findings
    }


COLUMN = "column_mismatch"
CONTENT = f"log = '{GLOBEX}' AND index = (SELECT min(index) FROM content WHERE log = '{GLOBEX}' AND"
TWO = f"{CONTENT} cardinality(sealed) = 2)"


@pytest.mark.parametrize(
    ("statements", "log", "kind"),
    [
        pytest.param(
            (
                "ALTER TABLE tenants DROP CONSTRAINT tenants_slug_key",
                "UPDATE tenants SET slug = CASE slug WHEN 'acme' THEN 'globex' ELSE 'acme' END",
            ),
            ACME,
            COLUMN,
            id="slugs exchanged: each would get the other's events",
        ),
        pytest.param(
            (
                "ALTER TABLE logs DROP CONSTRAINT logs_tenant_shard_key",
                "UPDATE logs SET tenant = CASE tenant WHEN 'acme' THEN 'globex' ELSE 'acme' END WHERE shard = 0"
                " AND tenant IS NOT NULL",
            ),
            ACME,
            COLUMN,
            id="logs exchanged: each would read the other's",
        ),
        pytest.param(
            (
                "ALTER TABLE logs DROP CONSTRAINT logs_tenant_fkey",
                "UPDATE tenants SET tenant = 'mallory' WHERE tenant = 'acme'",
                "UPDATE logs SET tenant = 'mallory' WHERE tenant = 'acme'",
                "UPDATE runs SET tenant = 'mallory' WHERE tenant = 'acme'",
            ),
            ACME,
            None,
            id="a tenant renamed everywhere",
        ),
        pytest.param(
            (f"UPDATE logs SET shard = 7 WHERE log = '{SHARD}'",), SHARD, COLUMN, id="a shard of another number"
        ),
        pytest.param(("UPDATE tenants SET shards = 1 WHERE slug = 'globex'",), SHARD, COLUMN, id="fewer shards"),
        pytest.param(
            ("UPDATE tenants SET shards = 3 WHERE slug = 'globex'",), "globex", "log_missing", id="more shards"
        ),
        pytest.param(
            (f"UPDATE logs SET class = 'system', tenant = NULL WHERE log = '{SHARD}'",), SHARD, COLUMN, id="class"
        ),
        pytest.param(
            (f"UPDATE logs SET class = 'intake', tenant = NULL WHERE log = '{SHARD}'",), SHARD, COLUMN, id="intake"
        ),
        pytest.param(("UPDATE logs SET class = 'intake' WHERE class = 'system'",), None, COLUMN, id="class of _system"),
        pytest.param(
            ("INSERT INTO logs (log, class) VALUES ('ledger.example.org/_intake/x/0', 'intake')",),
            "ledger.example.org/_intake/x/0",
            "unknown_key",
            id="a log that has no key",
        ),
        pytest.param(
            (f"UPDATE logs SET recorded = '9998-01-01' WHERE log = '{ACME}'",),
            ACME,
            COLUMN,
            id="a head of the year 9998: all that follows would be recorded then",
        ),
        pytest.param(
            ("DELETE FROM runs WHERE run = (SELECT min(run) FROM runs)",),
            ACME,
            COLUMN,
            id="a run without a row could begin again in another shard",
        ),
        pytest.param(
            (f"UPDATE runs SET log = '{GLOBEX}' WHERE run = (SELECT min(run) FROM runs WHERE log = '{SHARD}')",),
            SHARD,
            COLUMN,
            id="a run that moved",
        ),
        pytest.param(
            ("INSERT INTO producer_keys VALUES ('acme', 'k', 'p+00000000+AQ==', 'attester')",),
            ACME,
            "unknown_key",
            id="a key that nobody registered makes forged events signed or attested",
        ),
        pytest.param(
            ("UPDATE published_sizes SET tree_size = 1000000",), ACME, COLUMN, id="heads would pass the logs over"
        ),
        pytest.param(
            (f"INSERT INTO content SELECT log, 100000, fingerprint, pointers, types, sealed FROM content WHERE {TWO}",),
            GLOBEX,
            "content_tampered",
            id="content where an entry is to come",
        ),
        pytest.param(
            (
                "UPDATE content SET pointers = array_prepend(NULL, pointers), types = array_prepend(NULL, types)"
                f" WHERE {TWO}",
            ),
            GLOBEX,
            "content_tampered",
            id="a null among the pointers shifts them",
        ),
        pytest.param(
            (f"UPDATE content SET sealed = ('[5:6]=' || sealed::text)::bytea[] WHERE {TWO}",),
            GLOBEX,
            "content_tampered",
            id="fields counted from 5",
        ),
        pytest.param(
            ("UPDATE entries SET recorded = now() WHERE log LIKE '%/heads' AND index = 3",),
            "ledger.example.org/heads",
            COLUMN,
            id="a column of heads",
        ),
        pytest.param(
            (
                "INSERT INTO checkpoints SELECT 'evil/x', tree_size, root_hash, note FROM checkpoints"
                f" WHERE log = '{ACME}'",
            ),
            "evil/x",
            "log_missing",
            id="checkpoints of no log",
        ),
        pytest.param(
            (f"INSERT INTO checkpoints SELECT log, -1, root_hash, note FROM checkpoints WHERE log = '{ACME}' LIMIT 1",),
            ACME,
            "checkpoint_mismatch",
            id="a checkpoint of size -1",
        ),
        pytest.param(
            (
                f"INSERT INTO tiles SELECT log, 0, 1 << 30, hashes FROM tiles WHERE log = '{ACME}' LIMIT 1",
                f"UPDATE logs SET tree_size = (1::bigint << 38) WHERE log = '{ACME}'",
            ),
            ACME,
            None,
            id="a size that would keep a verification busy for years",
        ),
        *(
            pytest.param(
                (
                    "UPDATE entries SET leaf = convert_to(regexp_replace(convert_from(leaf, 'UTF8'),"
                    f" '\"{name}\":[0-9]+', '\"{name}\":\"x\"'), 'UTF8') WHERE kind = 'intake' AND index = 2",
                ),
                "ledger.example.org/_intake/tally.events/0",
                None,
                id=f"an account with another {name}",
            )
            for name in ("records", "skipped", "appended", "from")
        ),
    ],
)
async def test_a_row_that_the_logs_do_not_bear_out(
    copy: Database, folder: Path, statements: Statements, log: str | None, kind: str | None
) -> None:
    report = await found(copy, folder, *statements)
    assert report["integrity"] == "failed"
    if log is not None:
        assert log in report
    if kind is not None:
        assert kind in report["kinds"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM positions WHERE partition = 0",
        "UPDATE positions SET cluster = 'x' WHERE partition = 0",
        "UPDATE positions SET topic = 'tally.control' WHERE partition = 0",
        "UPDATE positions SET next_offset = 0 WHERE partition = 0",
    ],
)
async def test_a_position_that_the_accounts_do_not_end_at(copy: Database, folder: Path, statement: str) -> None:
    report = await found(copy, folder, statement)
    assert (report["completeness"], report["kinds"]) == ("gaps", {"source_hole"})


async def test_a_partition_without_records_has_no_accounts(copy: Database, folder: Path) -> None:
    log = f"{PREFIX}/_intake/tally.events/99"
    with SqliteKeyStore(folder / "keys", create=False) as keystore:
        keystore.create_signer(log)
    report = await found(
        copy,
        folder,
        f"INSERT INTO logs (log, class) VALUES ('{log}', 'intake')",
        "INSERT INTO positions (cluster, topic, partition) VALUES ('x', 'tally.events', 99)",
    )
    assert (report["integrity"], report["completeness"], report["kinds"]) == ("ok", "ok", set())


async def test_untouched_and_a_run_that_only_had_duplicates(copy: Database, folder: Path) -> None:
    """A run whose only event was a duplicate of another has a row and no entry."""
    report = await found(copy, folder, f"INSERT INTO runs VALUES ('acme', 'only-duplicates', '{ACME}')")
    assert (report["integrity"], report["kinds"]) == ("ok", set())


async def test_what_the_roles_may_do(copy: Database) -> None:
    """Only what design.md says: no role but the owner changes or removes the record, the API reads one tenant."""
    denied = psycopg.errors.InsufficientPrivilege
    tries = {
        "tally_writer": [
            "UPDATE entries SET kind = ''",
            "DELETE FROM checkpoints",
            "UPDATE content SET sealed = '{}'",
            "UPDATE logs SET tenant = NULL",
            "UPDATE logs SET class = 'heads'",
            "DELETE FROM runs",
            "INSERT INTO reader_tenants VALUES ('x', 'acme')",
            "UPDATE producer_keys SET vkey = ''",
            "UPDATE tenants SET slug = ''",
            "DELETE FROM positions",
        ],
        "tally_eraser": [
            "SELECT sealed FROM content",
            "UPDATE content SET pointers = '{}'",
            "DELETE FROM content",
            "INSERT INTO entries SELECT * FROM entries",
            "SELECT * FROM tenants",
        ],
        "tally_auditor": [
            "INSERT INTO runs VALUES ('a', 'b', 'c')",
            "UPDATE content SET sealed = '{}'",
            "DELETE FROM tiles",
        ],
        "tally_reader": [
            "SELECT * FROM producer_keys",
            "SELECT * FROM positions",
            "INSERT INTO runs VALUES ('a', 'b', 'c')",
        ],
        "tally_api": [
            "SELECT * FROM reader_tenants",
            "UPDATE logs SET tree_size = 0",
            "SELECT * FROM published_sizes",
        ],
    }
    async with await psycopg.AsyncConnection.connect(copy.url(None), autocommit=True) as conn:
        for role, statements in tries.items():
            await conn.execute(f"SET ROLE {role}".encode())
            for statement in statements:
                with pytest.raises(denied):
                    await conn.execute(statement.encode())
            await conn.execute("RESET ROLE")
        await conn.execute("SET SESSION AUTHORIZATION tally_api")
        counts = []
        for tenant in ("acme", "globex", "nobody"):
            await conn.execute("SELECT set_config('tallystick.tenant', %s, false)", (tenant,))
            rows = await (await conn.execute("SELECT DISTINCT log FROM entries ORDER BY log")).fetchall()
            counts.append([log.removeprefix("ledger.example.org/") for (log,) in rows])
        assert counts == [["acme", "heads"], ["globex", "globex/1", "heads"], ["heads"]]
        await conn.execute("RESET SESSION AUTHORIZATION")
        await conn.execute("SET SESSION AUTHORIZATION tally_reader")
        await conn.execute("SELECT set_config('tallystick.tenant', 'acme', false)")
        rows = await (await conn.execute("SELECT DISTINCT log FROM entries")).fetchall()
        assert rows == [("ledger.example.org/heads",)]
