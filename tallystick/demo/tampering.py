"""Tampering, in a copy of the database: what an administrator could do who wants a smaller refund on the record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from ledger.db import connect
from tallystick.demo.stage import Entry, Stage
from tallystick.servers.postgres import DATABASE

COPY: Final = "tallystick_tampered"


@dataclass(frozen=True, slots=True)
class Tampering:
    """One leaf, changed in the copy. `refusal`: what the database said as long as its triggers were on."""

    log: str
    index: int
    before: str
    after: str
    refusal: str


@asynccontextmanager
async def copied(stage: Stage) -> AsyncIterator[str]:
    """A copy of the whole database, removed at the end; its name. Nothing may be connected to the original."""
    async with await connect(stage.url(None, "postgres"), None, application="tallystick demo") as admin:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(COPY))
        await admin.execute(drop)
        await admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(COPY), sql.Identifier(DATABASE))
        )
        try:
            yield COPY
        finally:
            await admin.execute(drop)


async def tamper(stage: Stage, database: str, entry: Entry, before: str, after: str) -> Tampering:
    """Change text in an entry's leaf: once as anybody would, which is refused; then past the triggers, as only the
    superuser can."""
    leaf = entry.raw.replace(before.encode(), after.encode())
    change = "UPDATE entries SET leaf = %s WHERE log = %s AND index = %s"
    async with await connect(stage.url(None, database), None, application="tallystick demo") as superuser:
        try:
            await superuser.execute(change, (leaf, entry.leaf.log, entry.index))
            refusal = ""
        except psycopg.Error as refused:
            refusal = str(refused).split("\n", 1)[0]
        await superuser.execute("SET session_replication_role = replica")
        await superuser.execute(change, (leaf, entry.leaf.log, entry.index))
    return Tampering(entry.leaf.log, entry.index, before, after, refusal)
