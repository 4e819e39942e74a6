"""What a verification will read: the logs of a snapshot, and how far each goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger.db import Connection
from ledger.merkle import EMPTY_ROOT, TILE_WIDTH
from ledger.verify.logs import LogRow
from ledger.verify.marks import Marked
from ledger.verify.report import Findings
from ledger.verify.work import Job

# A size in a row may be anything after tampering. Ranges are cut up to it only if this share of them can be filled.
SPARSE_FACTOR = 4
SPARSE_SLACK = 65_536

_ORIGINS_IN = (
    "(WITH RECURSIVE origins AS ("
    "  (SELECT log FROM {table} ORDER BY log LIMIT 1) UNION ALL"
    "  SELECT (SELECT e.log FROM {table} e WHERE e.log > o.log ORDER BY e.log LIMIT 1) FROM origins o"
    "  WHERE o.log IS NOT NULL"
    ") SELECT log FROM origins WHERE log IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class LogPlan:
    """A log to verify: `span` entries are expected; those below `from_mark`, a multiple of 256, are not read again,
    since a mark of size `marked_size` vouches for them."""

    row: LogRow
    span: int
    from_mark: int = 0
    marked_size: int = 0

    def job(self, first: int, end: int, number: int, *, beyond: bool) -> Job:
        """A range of it, the `number`-th."""
        row, fresh_from = self.row, self.marked_size
        return Job(row.log, row.ordinal, row.tenant_ordinal, row.log_class, first, end, number, beyond, fresh_from)


async def begin_snapshot(conn: Connection) -> tuple[str, datetime]:
    """Begin the transaction whose snapshot everything is read in; its name for the workers, and the time."""
    await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    cursor = await conn.execute("SELECT pg_export_snapshot(), clock_timestamp()")
    row = await cursor.fetchone()
    if row is None:
        raise RuntimeError("Postgres exported no snapshot")
    return str(row[0]), row[1]


async def read_logs(conn: Connection) -> list[LogRow]:
    """Every log that the database lists, and every one it holds entries of without listing it."""
    cursor = conn.cursor(binary=True)
    await cursor.execute("SELECT log, class, tenant, tree_size, root_hash FROM logs ORDER BY log")
    rows = await cursor.fetchall()
    tenants = {name: ordinal for ordinal, name in enumerate(sorted({row[2] for row in rows if row[2] is not None}))}
    found = [
        LogRow(log, ordinal, log_class, tenant, tenants.get(tenant, len(tenants)), size, root_hash)
        for ordinal, (log, log_class, tenant, size, root_hash) in enumerate(rows)
    ]
    listed = {row.log for row in found}
    # One index probe a log, not a scan: the next origin above the last one found.
    await cursor.execute(
        " UNION ALL ".join(_ORIGINS_IN.format(table=table) for table in ("entries", "content", "tiles", "checkpoints"))
    )
    unlisted = {log for (log,) in await cursor.fetchall()} - listed
    for log in sorted(unlisted):
        found.append(LogRow(log, len(found), "tenant", None, len(tenants), 0, EMPTY_ROOT, listed=False))
    return found


async def plan_log(conn: Connection, row: LogRow, mark: Marked | None, findings: Findings) -> LogPlan:
    """How far a log goes, by its row and its checkpoints, as long as that is believable."""
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT (SELECT max(tree_size) FROM checkpoints WHERE log = %(log)b),"
        " (SELECT max(index) FROM entries WHERE log = %(log)b),"
        " (SELECT count(*) FROM tiles WHERE log = %(log)b AND level = 0),"
        " (SELECT min(index) FROM entries WHERE log = %(log)b)",
        {"log": row.log},
    )
    found = await cursor.fetchone()
    checkpoint_size, last_index, tiles, first_index = found if found is not None else (None, None, 0, None)
    if first_index is not None and first_index < 0:
        findings.add("entry_inserted", row.log, first_index, "indexes begin at 0")
    span = max(row.tree_size, checkpoint_size or 0, 0)
    stored = (-1 if last_index is None else last_index) + 1
    tiled = tiles * TILE_WIDTH  # as many as there are: one row may say any index
    if span > tiled + TILE_WIDTH or stored > tiled + TILE_WIDTH:
        await cursor.execute("SELECT count(*) FROM entries WHERE log = %b", (row.log,))
        counted = await cursor.fetchone()
        rows = counted[0] if counted is not None else 0
        if span > rows * SPARSE_FACTOR + SPARSE_SLACK:
            span = rows
    if mark is None or mark.size > span:
        return LogPlan(row, span)
    return LogPlan(row, span, mark.first, mark.size)
