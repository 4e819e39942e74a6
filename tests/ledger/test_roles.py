"""Each role can do what it is for, and nothing else (design.md, "Postgres")."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.ledger.appending import PREFIX, bench, make_event
from tests.support.servers import Database

TABLES = ("entries", "content", "tiles", "checkpoints", "runs", "logs", "tenants")
APPEND_ONLY = ("entries", "tiles", "checkpoints", "runs")
INTERNAL = ("positions", "published_sizes", "producer_keys", "reader_tenants")


@pytest.fixture
async def two_tenants(database: Database, tmp_path: Path) -> Database:
    """Two tenants with 300 entries each."""
    async with bench(database, tmp_path) as made:
        for name in ("acme", "globex"):
            tenant = await made.tenant(name)
            await made.append(
                await made.appender(), [made.pending(tenant, make_event(f"{name}-run")) for _ in range(300)]
            )
    return database


@asynccontextmanager
async def acting(database: Database, role: str | None, login: str | None = None) -> AsyncIterator[Any]:
    """A connection as the role, logged in as `login` (default: the superuser)."""
    async with await psycopg.AsyncConnection.connect(database.url(), autocommit=True) as conn:
        if login is not None:
            await conn.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(login)))
        if role is not None:
            await conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield conn


async def refused(conn: Any, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await conn.execute(statement)


async def values(conn: Any, query: str) -> set[Any]:
    return {row[0] for row in await (await conn.execute(query)).fetchall()}


@pytest.mark.parametrize("role", ["tally_writer", "tally_auditor", "tally_eraser", "tally_reader", "tally_api"])
async def test_no_role_changes_or_removes_what_was_appended(two_tenants: Database, role: str) -> None:
    async with acting(two_tenants, role) as conn:
        for table in APPEND_ONLY:
            column = {"runs": "log"}.get(table, "log")
            await refused(conn, f"UPDATE {table} SET {column} = {column}")
            await refused(conn, f"DELETE FROM {table}")
            await refused(conn, f"TRUNCATE {table}")
        for table in ("logs", "content", "tenants"):
            await refused(conn, f"DELETE FROM {table}")
            await refused(conn, f"TRUNCATE {table}")
        await refused(conn, "CREATE TABLE mine (n int)")
        await refused(conn, "ALTER TABLE entries DISABLE TRIGGER ALL")
        await refused(conn, "SET session_replication_role = replica")


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET log = log", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_owner_is_refused_too(two_tenants: Database, table: str, statement: str) -> None:
    async with acting(two_tenants, None) as superuser:
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            await superuser.execute(statement.format(table))


@pytest.mark.parametrize("table", ["logs", "content"])
async def test_heads_and_content_are_never_removed(two_tenants: Database, table: str) -> None:
    async with acting(two_tenants, None) as superuser:
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
                await superuser.execute(statement)


async def test_the_writer_inserts_and_moves_heads_and_offsets_only(two_tenants: Database) -> None:
    async with acting(two_tenants, "tally_writer") as conn:
        await conn.execute("UPDATE logs SET tree_size = tree_size, recorded = recorded, edge = edge")
        await conn.execute("INSERT INTO positions (cluster, topic, partition) VALUES ('c', 't', 0)")
        await conn.execute("UPDATE positions SET next_offset = 1, epoch = 1")
        for statement in (
            "UPDATE logs SET tenant = tenant",
            "UPDATE logs SET log = log",
            "UPDATE content SET sealed = sealed",
            "UPDATE content SET fingerprint = NULL",
            "UPDATE tenants SET slug = slug",
            "UPDATE producer_keys SET vkey = vkey",
            "DELETE FROM positions",
            "INSERT INTO reader_tenants VALUES ('x', 'acme')",
        ):
            await refused(conn, statement)


async def test_the_eraser_writes_content_only_and_reads_none(two_tenants: Database) -> None:
    async with acting(two_tenants, "tally_eraser") as conn:
        await conn.execute(
            "UPDATE content SET sealed = array_fill(NULL::bytea, ARRAY[1]), fingerprint = NULL"
            f" WHERE log = '{PREFIX}/acme' AND index = 1"
        )
        for statement in (
            "SELECT sealed FROM content",
            "SELECT fingerprint FROM content",
            "UPDATE content SET pointers = pointers",
            "UPDATE content SET types = types",
            "UPDATE logs SET erasure_epoch = erasure_epoch + 1",
            "INSERT INTO content (log, index, pointers, types, sealed) VALUES ('x', 0, '{}', '{}', '{}')",
            "INSERT INTO entries (log, index, leaf) VALUES ('x', 0, '')",
            "SELECT FROM tenants",
            "SELECT FROM producer_keys",
        ):
            await refused(conn, statement)
    async with acting(two_tenants, "tally_auditor") as conn:
        query = f"SELECT fingerprint IS NULL, sealed FROM content WHERE log = '{PREFIX}/acme' AND index IN (1, 2)"
        rows = await (await conn.execute(query + " ORDER BY index")).fetchall()
        assert rows[0] == (True, [None])
        assert rows[1][0] is False
        assert rows[1][1] != [None]


async def test_the_auditor_reads_everything_and_writes_nothing(two_tenants: Database) -> None:
    async with acting(two_tenants, "tally_auditor") as conn:
        for table in TABLES + INTERNAL:
            await conn.execute(f"SELECT * FROM {table}")
            await refused(conn, f"INSERT INTO {table} SELECT * FROM {table}")
        assert await values(conn, "SELECT slug FROM tenants") == {"acme", "globex"}
        assert await values(conn, "SELECT log FROM entries") >= {f"{PREFIX}/acme", f"{PREFIX}/globex"}
        for statement in (
            "UPDATE logs SET tree_size = 0",
            "UPDATE content SET sealed = sealed",
            "UPDATE positions SET epoch = 0",
        ):
            await refused(conn, statement)


async def test_a_reader_sees_the_tenants_of_its_login_whatever_it_sets(two_tenants: Database) -> None:
    login = f"reader_{secrets.token_hex(4)}"
    async with acting(two_tenants, None) as superuser:
        await superuser.execute(f"CREATE ROLE {login} LOGIN IN ROLE tally_reader")
        await superuser.execute(f"INSERT INTO reader_tenants VALUES ('{login}', 'acme')")
    try:
        for role in (None, "tally_reader"):
            async with acting(two_tenants, role, login) as conn:
                await conn.execute("SET tallystick.tenant = 'globex'")
                await _sees_only(conn, "acme")
                for table in INTERNAL:
                    await refused(conn, f"SELECT FROM {table}")
                for table in TABLES:
                    await refused(conn, f"INSERT INTO {table} SELECT * FROM {table}")
    finally:
        async with acting(two_tenants, None) as superuser:
            await superuser.execute(f"DROP ROLE {login}")


async def test_the_setting_counts_where_the_api_logged_in_only(two_tenants: Database) -> None:
    async with acting(two_tenants, None, "tally_api") as conn:
        for table in ("entries", "content", "tiles", "checkpoints", "runs", "tenants"):
            assert await values(conn, f"SELECT 1 FROM {table}") == set()
        for tenant in ("globex", "acme"):
            await conn.execute(f"SET tallystick.tenant = '{tenant}'")
            await _sees_only(conn, tenant)
        await refused(conn, "SET ROLE tally_auditor")
    async with acting(two_tenants, "tally_api") as conn:  # acting as the API is not having logged in as it
        await conn.execute("SET tallystick.tenant = 'acme'")
        assert await values(conn, "SELECT slug FROM tenants") == set()
        assert await values(conn, "SELECT log FROM entries") == set()


async def _sees_only(conn: Any, tenant: str) -> None:
    """The tenant's rows, in every table that has rows of tenants, and the head of `heads`."""
    origin = f"{PREFIX}/{tenant}"
    assert await values(conn, "SELECT slug FROM tenants") == {tenant}
    assert await values(conn, "SELECT log FROM logs") == {origin, f"{PREFIX}/heads"}
    assert await values(conn, "SELECT run FROM runs") == {f"{tenant}-run"}
    for table in ("entries", "content", "tiles", "checkpoints"):
        assert await values(conn, f"SELECT log FROM {table}") - {f"{PREFIX}/heads"} == {origin}, table
