"""The tables beside the logs, against what the logs say: which log is whose, where runs live, whose keys count.

None of them is evidence. But the writer goes by them: a slug that was changed sends a tenant's events into another's
log, a producer's key that was put in makes forged events `signed`, a run's row that is gone lets the run begin anew in
another shard. So a row that the logs don't bear out is a finding.

Guarantees: reads the verification's snapshot; looks entries up by their ids or indexes, a probe a row; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ledger.db import Connection
from ledger.errors import MalformedLeaf
from ledger.keystore import KeyStore
from ledger.leaf import check_leaf
from ledger.verify.logs import LogRow
from ledger.verify.report import Findings
from schemas.ids import ledger_id

NAMED_MAX = 100  # runs of one log that are named
RECORDED_BACK = timedelta(seconds=10)
_KIND = "column_mismatch"


def class_of(log: str) -> str:
    """What a log is, by its name (log-format.md, "Logs")."""
    if "/_intake/" in log:
        return "intake"
    last = log.rpartition("/")[2]
    return {"_system": "system", "heads": "heads"}.get(last, "tenant")


async def check_logs(conn: Connection, keystore: KeyStore, rows: Iterable[LogRow], findings: Findings) -> None:
    """Class, tenant and shard of each listed log, against its name and its `tenant` entry."""
    cursor = await conn.execute(
        "SELECT l.log, l.shard, t.slug, t.shards, e.leaf FROM logs l LEFT JOIN tenants t ON t.tenant = l.tenant"
        " LEFT JOIN entries e ON e.log = l.log AND e.index = 0 AND l.class = 'tenant'"
    )
    stored = {log: rest for log, *rest in await cursor.fetchall()}
    for row in rows:
        if not row.listed:
            continue
        expected = class_of(row.log)
        if row.log_class != expected:
            findings.add(_KIND, row.log, None, f"its row says it is a {row.log_class} log, its name {expected}")
            continue
        if not row.tree_size and not keystore.vkeys(row.log):
            findings.add("unknown_key", row.log, None, "it is listed and the key store has no key of it")
        if row.log_class == "tenant":
            shard, slug, shards, leaf = stored[row.log]
            wrong = _wrong_tenant(row, keystore, shard, slug, shards, leaf)
            if wrong is not None:
                findings.add(_KIND, row.log, 0, wrong)


def _wrong_tenant(
    row: LogRow, keystore: KeyStore, shard: int, slug: str | None, shards: int | None, leaf: bytes | None
) -> str | None:
    if slug is None or shards is None:
        return f"its row names the tenant {row.tenant}, which is not registered"
    name = f"/{slug}" if shard == 0 else f"/{slug}/{shard}"
    if not row.log.endswith(name) or not 0 <= shard < shards:
        return f"its row says shard {shard} of the {shards} of {row.tenant}, whose slug is {slug}"
    said = _parsed(leaf)
    if said is None or said["kind"] != "tenant":
        return None  # another finding already
    if said["data"].get("slug") != slug:
        return f"its tenant entry has another slug than the {slug} that is registered"
    known = keystore.find_keys([(str(row.tenant), "p", str(row.tenant))])[0]
    ref = str(said["data"].get("name"))
    # Where the name has no key, that of the entry's name must be gone: erased, or never in this store.
    if ref not in keystore.keys_by_ref([ref]) if known is None else ref == known.ref:
        return None
    return f"its tenant entry is not that of {row.tenant}"


def _parsed(leaf: bytes | None) -> dict[str, Any] | None:
    try:
        return None if leaf is None else check_leaf(bytes(leaf))
    except MalformedLeaf:
        return None


async def check_missing_shards(conn: Connection, findings: Findings) -> None:
    """Every registered tenant has all its shards."""
    cursor = await conn.execute(
        "SELECT t.slug, t.shards, count(l.log) FROM tenants t JOIN logs l ON l.tenant = t.tenant"
        " GROUP BY t.tenant, t.slug, t.shards HAVING count(l.log) <> t.shards ORDER BY t.slug"
    )
    for slug, shards, found in await cursor.fetchall():
        findings.add("log_missing", slug, None, f"it is registered with {shards} shards, {found} are listed")


async def check_recorded(
    conn: Connection, newest: Mapping[str, datetime | None], whole: Mapping[str, bool], findings: Findings
) -> None:
    """`logs.recorded`, which the writer goes on from, against the newest `recorded` among the entries read."""
    cursor = await conn.execute("SELECT log, extract(epoch FROM recorded)::float8, recorded::text FROM logs")
    for log, seconds, text in await cursor.fetchall():
        found = newest.get(log)
        if found is None:
            continue
        away = seconds - found.timestamp()
        # Where only the newest entries were read, an older one may be newer by what `recorded` may step back.
        most = 0.0 if whole.get(log) else RECORDED_BACK.total_seconds()
        if away < -1e-5 or away > most + 1e-5:
            findings.add(_KIND, log, None, f"its row says its newest entry was recorded at {text}, it was at {found}")


async def listed_runs(conn: Connection) -> dict[str, int]:
    """By log, the runs that have a row there and begin there."""
    cursor = await conn.execute(
        "SELECT r.log, count(*) FROM runs r JOIN logs l ON l.log = r.log AND l.tenant = r.tenant"
        " WHERE EXISTS (SELECT FROM entries e WHERE e.log = r.log AND e.run = r.run AND e.run_seq = 0) GROUP BY r.log"
    )
    return dict(await cursor.fetchall())


async def check_runs(
    conn: Connection,
    rows: Mapping[str, LogRow],
    counts: Mapping[str, int],
    listed: Mapping[str, int],
    findings: Findings,
) -> None:
    """Each run has its row, in the log where its entries are, and so lives in one log. `counts`: runs by log, as they
    were read; `listed`: what `listed_runs` gave."""
    for log, count in sorted(counts.items()):
        if rows[log].log_class != "tenant" or listed.get(log, 0) == count:
            continue
        cursor = await conn.execute(
            "SELECT e.index, e.run, r.log FROM entries e LEFT JOIN runs r ON r.tenant = %s AND r.run = e.run"
            " WHERE e.log = %s AND e.run_seq = 0 AND r.log IS DISTINCT FROM e.log ORDER BY e.index LIMIT %s",
            (rows[log].tenant, log, NAMED_MAX),
        )
        for index, run, where in await cursor.fetchall():
            said = "has no row" if where is None else f"lives in {where} by its row"
            findings.add(_KIND, log, index, f"the run {run} begins here and {said}")


async def check_producer_keys(conn: Connection, findings: Findings) -> None:
    """Each producer's and attester's key is what a `producer_key` entry of its tenant says."""
    cursor = await conn.execute(
        "SELECT k.key, k.vkey, k.role, t.slug, l.log FROM producer_keys k JOIN tenants t USING (tenant)"
        " LEFT JOIN logs l ON l.tenant = k.tenant AND l.shard = 0 ORDER BY t.slug, k.key"
    )
    for key, vkey, role, slug, log in await cursor.fetchall():
        if log is None:
            continue  # another finding already
        id = ledger_id("producer_key", {"ledger": f"producer_key/{slug}/{key}"})
        entry = await conn.execute("SELECT index, leaf FROM entries WHERE log = %s AND id = %s", (log, UUID(id)))
        found = await entry.fetchone()
        said = _parsed(found[1]) if found is not None else None
        if said is None:
            findings.add("unknown_key", log, None, f"the {role}'s key {key} counts and no producer_key entry names it")
        elif (said["data"].get("key"), said["data"].get("vkey"), said["data"].get("role")) != (key, vkey, role):
            index = found[0] if found is not None else None
            findings.add(_KIND, log, index, f"the {role}'s key {key} counts as another than this entry says")


async def check_published_sizes(
    conn: Connection, newest: Mapping[str, int], *, whole: bool, findings: Findings
) -> None:
    """What the publisher believes to stand in `heads` does stand there: else it would pass a log over."""
    cursor = await conn.execute("SELECT log, tree_size FROM published_sizes ORDER BY log")
    for log, size in await cursor.fetchall():
        known = newest.get(log)
        if size > (known or 0) and (known is not None or whole):
            findings.add(_KIND, log, None, f"size {size} counts as published, heads has it with {known or 0} entries")


async def check_content_rows(conn: Connection, log: str, size: int, findings: Findings) -> None:
    """No content stands where no entry is: before the first, or past the last, where it would stop the next one."""
    cursor = await conn.execute(
        "SELECT index FROM content WHERE log = %(log)s AND (index < 0 OR index >= %(size)s)"
        " AND NOT EXISTS (SELECT FROM entries e WHERE e.log = content.log AND e.index = content.index)"
        " ORDER BY index LIMIT %(most)s",
        {"log": log, "size": size, "most": NAMED_MAX},
    )
    for (index,) in await cursor.fetchall():
        findings.add("content_tampered", log, index, "content is held where the log has no entry")
