"""`tally verify`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.output import AsJson, counted, note, progress, put, put_exactly
from tallystick.errors import TallyError

if TYPE_CHECKING:
    from ledger.db import Connection
    from ledger.keystore import KeyStore
    from ledger.verify import Report
    from tallystick.cli.connect import Servers

FINDINGS_SHOWN_MAX = 50  # to a person; --json has them all


def verify(
    log: Annotated[list[str] | None, typer.Option(metavar="ORIGIN", help="Only this log; may be given again.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="T", help="Only this tenant's logs.")] = None,
    known_checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A checkpoint kept from before; its log must be that one, grown."),
    ] = None,
    since_verified: Annotated[
        bool,
        typer.Option("--since-verified", help="Read only what came since the last full pass; says what it left out."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Recompute everything from Postgres and compare: leaves, chains, trees, signatures, content, accounts, heads.

    Three verdicts, never one: integrity, completeness, independence. Exit status 1 if integrity isn't ok, completeness
    is gaps, or independence is failed.

    \b
    Examples:
      tally verify
      tally verify --known-checkpoint yesterday/checkpoint --json
      tally verify --tenant acme --since-verified
    """
    from tallystick.cli.connect import servers

    known = known_checkpoint.read_bytes() if known_checkpoint is not None else None
    report = asyncio.run(_verify(servers(), log, tenant, known, since_verified))
    if as_json:
        put_exactly(report.to_json())
    else:
        _tell(report)
    return report.exit_status


async def _verify(
    of: Servers, logs: list[str] | None, tenant: str | None, known: bytes | None, since_verified: bool
) -> Report:
    from ledger.verify import verify as recompute
    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:  # says what to do where there is no ledger
        with keystore_to_read(of.settings) as keystore:
            await require_registered(conn, keystore, logs or (), tenant)
    with keystore_to_read(of.settings) as keystore, progress() as report:
        if known is not None:
            _require_undamaged(known, keystore)
        return await recompute(
            of.postgres,
            keystore,
            logs=logs or None,
            tenant=tenant,
            known_checkpoint=known,
            since_verified=since_verified,
            progress=report,
        )


async def require_registered(conn: Connection, keystore: KeyStore, logs: Sequence[str], tenant: str | None) -> None:
    """Raise TallyError for a log or a tenant that never was: a slip of whoever asks, not a finding.

    The key store remembers both, and nobody with the database alone can make it forget: a log's signing key and the key
    of a tenant's name are there before the first entry. So what it has and the database has not did vanish. Where a
    log did, an unknown tenant may be the one that had it, and whose name's key was erased.
    """
    from ledger.verify.plan import read_logs

    rows = await read_logs(conn)
    there = {row.log for row in rows}
    known = {*keystore.origins(), *(published.origin for published in keystore.all_published())}
    for log in logs:
        if log not in there | known:
            raise TallyError(f"no log {log} was ever registered", "`tally keys list` lists the logs.")
    if tenant is None or known - there or any(row.tenant == tenant or not row.listed for row in rows):
        return
    cursor = await conn.execute("SELECT FROM tenants WHERE tenant = %s", (tenant,))
    if await cursor.fetchone() is None and keystore.find_keys([(tenant, "p", tenant)]) == [None]:
        raise TallyError(f"no tenant {tenant} was ever registered", "See `tally tenant list`.")


def _require_undamaged(known: bytes, keystore: KeyStore) -> None:
    """Raise TallyError where a checkpoint isn't what a key of its log signed: that says nothing of the ledger."""
    from ledger.checkpoint import parse_checkpoint, verify_checkpoint
    from ledger.errors import BadSignature, MalformedNote, UnknownKey
    from ledger.note import parse_note

    try:
        verify_checkpoint(known, keystore.vkeys(parse_checkpoint(parse_note(known).text).origin))
    except UnknownKey:
        pass  # a finding: it may be the log whose key was exchanged
    except (BadSignature, MalformedNote) as error:
        raise TallyError(
            f"the known checkpoint is damaged, the file, not the ledger: {error}", "Use an undamaged copy of it."
        ) from error


def _tell(report: Report) -> None:
    put(f"integrity     {report.integrity}")
    put(f"completeness  {report.completeness}")
    put(f"independence  {report.independence}")
    entries = sum(log.size for log in report.logs)
    put(f"{counted(len(report.logs), 'log')}, {counted(entries, 'entry', 'entries')}")
    for origin, size in sorted(report.not_reread.items()):
        put(f"not read again: the first {counted(size, 'entry', 'entries')} of {origin}")
    for finding in report.findings[:FINDINGS_SHOWN_MAX]:
        at = finding.log if finding.index is None else f"{finding.log} {finding.index}"
        put(f"{finding.kind}  {at}: {finding.detail}")
    more = len(report.findings) - FINDINGS_SHOWN_MAX
    if more > 0:
        put(f"and {counted(more, 'finding')} more; --json lists them")
    sys.stdout.flush()
    if report.completeness == "unknown":
        note("unknown: nothing is known to be missing; runs are open, or producers didn't number their events")
    if report.independence == "unwitnessed":
        note("unwitnessed: nobody outside this ledger has cosigned; keep checkpoints where its operators can't write")
