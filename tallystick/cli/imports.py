"""`tally import`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from tallystick.cli.output import AsJson, counted, note, progress, put, put_json

if TYPE_CHECKING:
    from ingest.importer import Outcome, Publisher
    from ledger.db import Connection
    from tallystick.cli.connect import Servers
    from tallystick.cli.output import Progress

SHOWN_MAX = 20  # of each kind, to a person; --json has more


def import_files(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="JSONL files; `-` is standard input.")],
    tenant: Annotated[
        str | None,
        typer.Option(metavar="T", help="Whose lines they are; by default whom each line names, else default."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End when Kafka has the lines, not when they are appended.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Send JSONL through Kafka: our events, or the plain step form, told apart line by line.

    Waits until all is on the record and counts what was appended, duplicate, in conflict and rejected. Exit status 1 if
    something was rejected, which `tally rejected list` shows, or in conflict: a line with the id of an event on the
    record and other content. That event stays; a `conflict` entry names both.

    Importing a file again appends no event twice: a line that is on the record is a duplicate. A line that is refused
    or in conflict again is one more `rejected` or `conflict` entry each time.

    \b
    Examples:
      tally import steps.jsonl
      tally import --tenant acme 2026-*.jsonl --json
      zcat steps.jsonl.gz | tally import -
    """
    from tallystick.cli.connect import servers

    for file in files:
        if file != "-":
            with Path(file).open("rb"):
                pass  # all of them can be read, before anything is sent
    outcome = asyncio.run(_import(servers(), files, tenant, wait=not no_wait))
    if isinstance(outcome, int):
        put_json({"published": outcome}) if as_json else put(f"{counted(outcome, 'line')} published")
        return 0
    if as_json:
        shown: dict[str, Any] = asdict(outcome)
        put_json(shown)
    else:
        _tell(outcome)
    return 1 if outcome.rejected or outcome.conflict else 0


async def _import(of: Servers, files: list[str], tenant: str | None, *, wait: bool) -> Outcome | int:
    from ingest.authority import EVENTS
    from ingest.importer import Publisher, count_outcome, tree_sizes, until_committed
    from tallystick.cli.connect import auditor

    async with contextlib.AsyncExitStack() as ending:
        conn: Connection | None = None
        if wait or tenant is not None:
            conn = await ending.enter_async_context(auditor(of))
        topic = EVENTS if tenant is None or conn is None else await _topic(of, conn, tenant)
        since = {} if conn is None else await tree_sizes(conn)
        publisher = await ending.enter_async_context(Publisher(of.kafka, of.kafka_client, topic))
        report = ending.enter_context(progress())
        for file in files:
            await _send(publisher, file, report)
        await publisher.flush()
        sent = publisher.sent
        if conn is None or not wait:
            return sent.count
        await until_committed(conn, sent, report, ended=of.ingest_ended)
        return await count_outcome(conn, sent, since)


async def _send(publisher: Publisher, file: str, report: Progress) -> None:
    from ingest.importer import read_lines

    what = f"Sending {file}"
    with _opened(file) as (stream, size):
        done = 0
        for n, line in enumerate(read_lines(stream, Path(file).name)):
            await publisher.send(line.value, line.key, line.headers, f"{file}:{line.number}")
            done += len(line.value) + 1
            if n % 200 == 0:
                report(what, min(done, size), size)
        report(what, size, size)


@contextlib.contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
    """A file's stream and its size, 1 where that can't be known."""
    if file == "-":
        yield sys.stdin.buffer, 1
        return
    path = Path(file)
    with path.open("rb") as stream:
        yield stream, max(1, path.stat().st_size)


async def _topic(of: Servers, conn: Connection, tenant: str) -> str:
    """The tenant's topic, made if it is missing."""
    from tallystick.errors import TallyError
    from tallystick.servers.topics import TOPICS, ensure_topics

    cursor = await conn.execute("SELECT slug FROM tenants WHERE tenant = %s", (tenant,))
    row = await cursor.fetchone()
    if row is None:
        raise TallyError(f"no tenant {tenant} is registered", f"Register it: tally tenant add {tenant}")
    topic = f"tally.events.{row[0]}"
    await ensure_topics(
        of.kafka, {topic: TOPICS["tally.events"]}, replication=of.settings.kafka_replication, client=of.kafka_client
    )
    return topic


def _tell(outcome: Outcome) -> None:
    put(
        f"{counted(outcome.lines, 'line')}: {outcome.appended:,} appended, {outcome.duplicate:,} duplicate, "
        f"{outcome.conflict:,} conflict, {outcome.rejected:,} rejected"
    )
    for conflict in outcome.conflicts[:SHOWN_MAX]:
        where = f"{conflict.file}:{conflict.line}"
        put(f"{where}: conflict: {conflict.of} is on the record with other content ({conflict.id})")
    if outcome.conflict > SHOWN_MAX:
        note(f"and {counted(outcome.conflict - SHOWN_MAX, 'conflict')} more; --json lists them")
    for rejected in outcome.rejections[:SHOWN_MAX]:
        put(f"{rejected.file}:{rejected.line}: {rejected.reason}: {rejected.detail} ({rejected.id})")
    if outcome.rejected > SHOWN_MAX:
        note(f"and {outcome.rejected - SHOWN_MAX:,} more; see `tally rejected list`")
