"""`tally export`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.output import AsJson, progress, put, put_json

if TYPE_CHECKING:
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
) -> None:
    """Write a log as a C2SP tlog-tiles directory: its newest checkpoint, tiles and entries. Any such reader takes it.

    \b
    Examples:
      tally export log ledger.example.org/acme -o acme-log
    """
    from tallystick.cli.connect import servers

    shown = asyncio.run(_export(servers(), origin, output))
    if as_json:
        put_json(shown)
    else:
        put(f"{shown['origin']}: {shown['size']:,} entries, root {shown['root']}, in {output}")


async def _export(of: Servers, origin: str, output: Path) -> dict[str, Any]:
    from ledger.export import export_log

    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:
        with keystore_to_read(of.settings) as keystore, progress() as report:
            return await export_log(conn, keystore, origin, output, progress=report)
