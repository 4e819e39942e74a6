"""Connections to the ledger's Postgres, and its migrations.

Guarantees: every connection works under one of the ledger's roles, whatever login opened it (`SET ROLE`), in UTC and
with synchronous commit on; migrations are applied once each, in order, one at a time across processes.
Does not: retry, pool or reconnect; callers own a connection and its failures.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql

from ledger.errors import DatabaseUnreachable, LedgerError, MigrationMismatch

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECT_TIMEOUT_S = 10
_MIGRATION_LOCK = 0x7411_5717  # an arbitrary key for pg_advisory_lock, the same in every version


async def connect(url: str, role: str | None, *, application: str = "tallystick") -> Connection:
    """Open an autocommit connection that acts as `role` (None: as the login itself).

    Raises DatabaseUnreachable where the server can't be reached or the login may not act as the role.
    """
    try:
        conn = await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=application,
            options="-c timezone=UTC -c synchronous_commit=on -c jit=off",
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(f"Postgres can't be reached: {_first_line(error)}") from error
    if role is not None:
        try:
            await conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        except psycopg.Error as error:
            await conn.close()
            raise DatabaseUnreachable(f"this login may not act as {role}: {_first_line(error)}") from error
    return conn


async def migrate(url: str) -> list[str]:
    """Apply the migrations that are missing; return their names. Needs a login that may create roles and tables.

    Raises MigrationMismatch where an applied migration is not the one shipped here, or is unknown to this version.
    """
    shipped = {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(resources.files("ledger.migrations").iterdir(), key=lambda file: file.name)
        if file.name.endswith(".sql")
    }
    conn = await connect(url, None, application="tallystick migrate")
    applied: list[str] = []
    async with conn:
        await conn.execute("SELECT pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        cursor = await conn.execute("SELECT name, sha256 FROM migrations")
        present: dict[str, str] = dict(await cursor.fetchall())
        for name in sorted(present.keys() - shipped.keys()):
            raise MigrationMismatch(
                f"the database has migration {name}, which this version doesn't know: upgrade first"
            )
        for name, text in shipped.items():
            digest = hashlib.sha256(text.encode()).hexdigest()
            if name in present:
                if present[name] != digest:
                    raise MigrationMismatch(
                        f"migration {name} was applied as {present[name]}, this version has {digest}"
                    )
                continue
            async with conn.transaction():
                await conn.execute(text.encode())
                await conn.execute("INSERT INTO migrations (name, sha256) VALUES (%s, %s)", (name, digest))
            applied.append(name)
        # Roles are of the cluster: a database restored into another one still needs them to see this table.
        await conn.execute("GRANT SELECT ON migrations TO tally_auditor, tally_writer")
        await conn.execute("SELECT pg_advisory_unlock(%s)", (_MIGRATION_LOCK,))
    return applied


async def require_migrated(conn: Connection) -> None:
    """Raise LedgerError, saying what to run, unless the ledger's tables are there."""
    cursor = await conn.execute("SELECT to_regclass('public.entries') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise LedgerError("this database has no ledger yet; run `tally migrate` with an administrator's login")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
