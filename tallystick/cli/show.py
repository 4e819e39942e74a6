"""`tally show`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.output import AsJson, note, put_exactly
from tallystick.cli.telling import ENTRIES_SHOWN, how_to_find, tell_run
from tallystick.errors import TallyError

if TYPE_CHECKING:
    from replay.show import RunShown
    from tallystick.cli.connect import Servers


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    tenant: Annotated[str | None, typer.Option(metavar="T", help="Whose run, where several tenants have it.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="How many entries to show.")
    ] = ENTRIES_SHOWN,
    every: Annotated[bool, typer.Option("--all", help="Show every entry.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run comes to, what is known of it, and its entries by time.

    The entries stand in the order of their times; one without a time stands behind all that the log has before it. With
    --json all of them stand in the order of the log, whatever --limit says. Each has the time that its sender told, the
    time at which the ledger recorded it, and who vouches for it. Of entries that tell the same thing, as a log and its
    span do, all but one say which entry they are the same as.

    A content field is `disclosed` (opened, and what the leaf commits to), `withheld` (there is no key store here),
    `erased`, `key_missing` or `tampered`. With --json a `value` is the exact text that was recorded, digits and spaces
    included, of the media `type` that stands beside it; bytes that are no UTF-8 are in base64, and say so: `encoding`
    is `base64`. An entry is `tampered` where its leaf can't be read.

    Each of the twelve links of a run is `reported`, `inferred` (by which rule) or `missing`: the record holds nothing
    of it, which doesn't mean that it didn't happen. In the totals, what was told several times counts once.

    A run's id is the one that its sender gave: the emitter's `run.id`, the attribute `tallystick.run_id` of OTLP, or,
    of OTLP without it, the trace id in hex. For an id that isn't on the record, the newest runs are named.

    \b
    Examples:
      tally show 7f31-returns
      tally show 7f31-returns --limit 20
      tally show 7f31-returns --tenant acme --json
    """
    from replay.errors import NoSuchRun
    from tallystick.cli.connect import servers

    try:
        shown = asyncio.run(_show(servers(), run, tenant))
    except NoSuchRun as error:
        raise TallyError(str(error), how_to_find(error.newest)) from error
    if as_json:
        put_exactly(shown.to_json())
    else:
        tell_run(shown, None if every else limit)
    if any(_is_tampered(entry) for entry in shown.entries):
        note("something was tampered with; `tally verify` says what")


async def _show(of: Servers, run: str, tenant: str | None) -> RunShown:
    from ledger.errors import KeyStoreMissing
    from replay.show import show_run
    from tallystick.cli.connect import auditor, keystore_to_read

    async with auditor(of) as conn:
        try:
            keystore = keystore_to_read(of.settings)
        except KeyStoreMissing:
            note(f"there is no key store at {of.settings.keys}: content is withheld")
            return await show_run(conn, None, run, tenant)
        with keystore:
            return await show_run(conn, keystore, run, tenant)


def _is_tampered(entry: dict[str, Any]) -> bool:
    return "verdict" in entry or any(content["verdict"] == "tampered" for content in entry["content"].values())
