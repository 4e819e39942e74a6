"""`tally show`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.output import AsJson, note, put

if TYPE_CHECKING:
    from replay.show import RunShown
    from tallystick.cli.connect import Servers

VALUE_CHARACTERS_MAX = 200  # of a content value, to a person


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    tenant: Annotated[str | None, typer.Option(metavar="T", help="Whose run, where several tenants have it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run's entries in order, with their content and what became of it.

    A content field is `disclosed` (opened, and what the leaf commits to), `withheld` (there is no key store here),
    `erased`, `key_missing` or `tampered`. With --json a value is the exact text that was recorded, digits and spaces
    included; bytes that are not text are in base64. An entry is `tampered` where its leaf can't be read.

    \b
    Examples:
      tally show 7f31-returns
      tally show 7f31-returns --tenant acme --json
    """
    from tallystick.cli.connect import servers

    shown = asyncio.run(_show(servers(), run, tenant))
    if as_json:
        put(shown.to_json())
    else:
        put(f"run {shown.run} in {shown.log}, {len(shown.entries)} entries")
        for entry in shown.entries:
            _tell(entry)
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


def _tell(entry: dict[str, Any]) -> None:
    put(f"{entry['run_seq']:>5}  {entry['time'] or '-':27}  {entry['kind']}  {entry['id']}")
    if "verdict" in entry:
        put(f"       {entry['verdict']}: its leaf can't be read")
        return
    if entry["actor"]:
        put(f"       actor {json.dumps(entry['actor'], ensure_ascii=False)}")
    put(f"       {json.dumps(entry['data'], ensure_ascii=False)}")
    for pointer, content in entry["content"].items():
        value = content.get("value")
        text = "" if value is None else f" {json.dumps(value, ensure_ascii=False)}"
        if len(text) > VALUE_CHARACTERS_MAX:
            text = f"{text[:VALUE_CHARACTERS_MAX]}… ({len(value)} characters)"
        put(f"       {pointer} {content['verdict']}{text}")
