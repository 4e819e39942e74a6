"""`tally rejected`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.output import AsJson, counted, note, put, put_json, put_table

if TYPE_CHECKING:
    from ingest.importer import Outcome
    from ingest.received import Said
    from ingest.rejected import Received, Rejected, Repair
    from tallystick.cli.connect import Servers

app = typer.Typer(help="Records that were refused, why, and sending them again.", no_args_is_help=True)

EntryId = Annotated[str, typer.Argument(metavar="ID", help="The rejected entry's id.")]


@app.command("list")
def list_(
    tenant: Annotated[
        str | None, typer.Option(metavar="T", help="Only those that are known to be this tenant's.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only with this reason, like bad_signature.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List rejected records with their reasons, oldest first: tenants' and, where no tenant is known, the intake logs'.

    Where the key store is there, also the tenant, kind and run that a record names, as it names them.

    \b
    Examples:
      tally rejected list
      tally rejected list --reason unknown_tenant --json
    """
    from ingest.rejected import REASONS
    from tallystick.cli.connect import servers
    from tallystick.errors import TallyError

    if reason is not None and reason not in REASONS:
        raise TallyError(f"nothing is rejected as {reason}", f"It is one of: {', '.join(sorted(REASONS))}.")
    found = asyncio.run(_list(servers(), tenant, reason, limit))
    if as_json:
        put_json({"rejected": [asdict(rejected) for rejected in found]})
    else:
        put_table(
            ("id", "recorded", "where", "reason", "detail", "it says"),
            [(r.id, r.recorded or "-", _where(r.source), r.reason, r.detail, _words(r.said)) for r in found],
            empty="nothing was rejected" if tenant is None and reason is None else "nothing of the kind was rejected",
        )
    if len(found) == limit:
        note(f"{limit:,} are shown; there may be more, --limit shows them")


async def _list(of: Servers, tenant: str | None, reason: str | None, limit: int) -> list[Rejected]:
    from ingest.rejected import list_rejected
    from ledger.errors import KeyStoreError
    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:
        with contextlib.ExitStack() as ending:
            keystore = None
            with contextlib.suppress(KeyStoreError):  # whoever has none sees what is public
                keystore = ending.enter_context(keystore_to_read(of.settings))
            found = list_rejected(conn, keystore=keystore, tenant=tenant, reason=reason, limit=limit)
            return [rejected async for rejected in found]


def _words(said: Said | None) -> str:
    """What a record says of itself, in one cell."""
    if said is None:
        return "-"
    words = (("tenant", said.tenant), ("kind", said.kind), ("run", said.run))
    return ", ".join(f"{name} {word}" for name, word in words if word is not None) or "-"


def _where(source: dict[str, Any]) -> str:
    if not source:
        return "-"
    if "file" in source:
        return f"{source['file']}:{source['line']}"
    return f"{source['topic']}/{source['partition']}@{source['offset']}"


@app.command("show")
def show(
    id: EntryId,
    raw: Annotated[bool, typer.Option("--raw", help="Print the bytes that were received, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a rejected record: why it was refused, and what was received, opened with the ledger's keys.

    With --json, `received` is text where it is UTF-8, else null, and `received_base64` always has the exact bytes.

    \b
    Examples:
      tally rejected show 0b9e2c5e-…
      tally rejected show 0b9e2c5e-… --raw > record.json
    """
    from tallystick.cli.connect import servers

    rejected, received = asyncio.run(_show(servers(), id))
    if raw:
        sys.stdout.buffer.write(received.value)
        return
    if as_json:
        put_json(
            {
                **asdict(rejected),
                "received": _text(received.value),
                "received_base64": b64encode(received.value).decode(),
                "headers": [[name, value.decode("utf-8", "backslashreplace")] for name, value in received.headers],
                "key": None if received.key is None else received.key.decode("utf-8", "backslashreplace"),
            }
        )
        return
    put(f"{rejected.id} in {rejected.log} at {rejected.index}, {rejected.recorded}")
    put(f"{rejected.reason}: {rejected.detail}")
    put(f"from {_where(rejected.source)}, {counted(rejected.received_bytes or 0, 'byte')}")
    put(f"it says: {_words(rejected.said)}")
    for name, value in received.headers:
        put(f"header {name}: {value.decode('utf-8', 'backslashreplace')}")
    put(received.value.decode("utf-8", "backslashreplace"))


async def _show(of: Servers, id: str) -> tuple[Rejected, Received]:
    from ingest.rejected import find_rejected
    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:
        with keystore_to_read(of.settings) as keystore:
            return await find_rejected(conn, keystore, id)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


@app.command("repair")
def repair(
    id: EntryId,
    edited: Annotated[
        str | None, typer.Option("--with", metavar="FILE", help="The corrected record; `-` is standard input.")
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="The same again: what was wrong was not in it, like an unregistered tenant.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Send a rejected record again, corrected or as it is, as a new event that refers to the rejected entry.

    It goes to the topic it came from. The rejected entry stays where it is. Exit status 1 if it is rejected again, or
    in conflict with what is on the record.

    \b
    Examples:
      tally rejected repair 0b9e2c5e-… --as-is
      tally rejected show 0b9e2c5e-… --raw > record.json; $EDITOR record.json
      tally rejected repair 0b9e2c5e-… --with record.json
    """
    from tallystick.cli.connect import servers
    from tallystick.errors import TallyError

    if edited is not None and as_is:
        raise TallyError("--with FILE and --as-is can't go together", "Give the one that is meant.")
    if edited is None and not as_is:
        raise TallyError("what to send is not said", "Give --with FILE or --as-is.")
    value = None
    if edited is not None:
        value = sys.stdin.buffer.read() if edited == "-" else Path(edited).read_bytes()
    plan, outcome = asyncio.run(_repair(servers(), id, value))
    if as_json:
        shown = {**asdict(outcome), "topic": plan.topic, "refers": plan.refers}
        del shown["lines"]
        put_json(shown)
    else:
        told = [("appended", outcome.appended), ("a duplicate", outcome.duplicate), ("in conflict", outcome.conflict)]
        done = next((word for word, count in told if count), "nothing was in it")
        put(f"sent to {plan.topic}: {'rejected again' if outcome.rejected else done}")
        for rejected in outcome.rejections:
            put(f"{rejected.reason}: {rejected.detail} ({rejected.id})")
    return 1 if outcome.rejected or outcome.conflict else 0


async def _repair(of: Servers, id: str, edited: bytes | None) -> tuple[Repair, Outcome]:
    from ingest.importer import Publisher, count_outcome, tree_sizes, until_committed
    from ingest.rejected import find_rejected, plan_repair
    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:
        with keystore_to_read(of.settings) as keystore:
            rejected, received = await find_rejected(conn, keystore, id)
        plan = plan_repair(rejected, received, edited)
        since = await tree_sizes(conn)
        async with Publisher(of.kafka, of.kafka_client, plan.topic) as publisher:
            await publisher.send(plan.value, plan.key, plan.headers, id)
            await publisher.flush()
        await until_committed(conn, publisher.sent, lambda *_: None, ended=of.ingest_ended)
        return plan, await count_outcome(conn, publisher.sent, since)
