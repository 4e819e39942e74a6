"""The command line: one module a command or group of commands. `app` is all of them.

Modules here read arguments and show results; what is done is done elsewhere and imported when a command runs, so that
`tally --help` and completion stay quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.cli import (
    demo,
    doctor,
    export,
    imports,
    ingest,
    keys,
    migrate,
    otlp,
    rejected,
    show,
    tenant,
    up,
    verify,
)

__all__ = ["app"]

app = typer.Typer(
    name="tally",
    help=(
        "An event-sourced audit and trace ledger for AI agents.\n\n"
        "Exit status: 0 done and fine; 1 a finding; 2 could not do it, with one line that says what, where and what "
        "to do. Settings are environment variables TALLY_…, also from a file .env."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tally {version('tallystick')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and end.")
    ] = False,
) -> None:
    """What goes before a command."""


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("ingest")(ingest.ingest)
app.add_typer(otlp.app, name="otlp")
app.command("migrate")(migrate.migrate)
app.add_typer(tenant.app, name="tenant")
app.command("import")(imports.import_files)
app.add_typer(rejected.app, name="rejected")
app.command("verify")(verify.verify)
app.add_typer(export.app, name="export")
app.add_typer(keys.app, name="keys")
app.command("show")(show.show)
app.command("doctor")(doctor.doctor)
