"""`tally export`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.output import AsJson, counted, note, progress, put, put_json

if TYPE_CHECKING:
    from ledger.checkpoint import Checkpoint
    from tallystick.cli.connect import Servers

app = typer.Typer(help="Take evidence out of the ledger.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Take evidence out of the ledger."""


@app.command("log")
def log(
    origin: Annotated[str, typer.Argument(metavar="ORIGIN", help="The log, as `tally tenant list` names it.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new or empty folder.")],
    as_json: AsJson = False,
) -> int:
    """Write a log as a C2SP tlog-tiles directory: its newest checkpoint, tiles and entries. Any such reader takes it.

    The tiles are recomputed from the entries. Where they don't give what was signed or published, nothing is written,
    and the exit status is 1.

    \b
    Examples:
      tally export log ledger.example.org/acme -o acme-log
    """
    from ledger.errors import ForkRefused, LogMissing, NoteError, ProofError
    from tallystick.cli.connect import servers
    from tallystick.errors import TallyError

    try:
        found = asyncio.run(_export(servers(), origin, output))
    except LogMissing as error:
        raise TallyError(
            f"the database has no log {origin}", "`tally tenant list` and `tally keys list` list logs."
        ) from error
    except (ProofError, NoteError, ForkRefused) as error:
        note(f"tally: {error}; `tally verify --log {origin}` says where")
        return 1
    if as_json:
        put_json({"origin": origin, "size": found.tree_size, "root": found.root_hash.hex(), "path": str(output)})
    else:
        put(f"{origin}: {counted(found.tree_size, 'entry', 'entries')}, root {found.root_hash.hex()}, in {output}")
    return 0


async def _export(of: Servers, origin: str, output: Path) -> Checkpoint:
    from ledger.export import export_log
    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:
        with keystore_to_read(of.settings) as keystore, progress() as report:
            return await export_log(
                conn, keystore, origin, output, lambda done, total: report(f"Exporting {origin}", done, total)
            )
