"""`tally keys`: the ledger's own signing keys. Private keys never leave the key store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.output import AsJson, put, put_json, put_table

if TYPE_CHECKING:
    from tallystick.cli.connect import Servers

app = typer.Typer(help="The keys that logs are signed with.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the logs that have signing keys, with their verifier keys, oldest first.

    \b
    Examples:
      tally keys list
    """
    from tallystick.cli.connect import keystore_to_read
    from tallystick.settings import load_settings

    with keystore_to_read(load_settings()) as keystore:
        rows = [(origin, keystore.vkeys(origin)) for origin in keystore.origins()]
    if as_json:
        put_json({"logs": [{"origin": origin, "vkeys": vkeys} for origin, vkeys in rows]})
    else:
        put_table(
            ("origin", "keys", "newest"),
            [(origin, len(vkeys), vkeys[-1]) for origin, vkeys in rows],
            empty="no log has a key yet",
        )


@app.command("vkey")
def vkey(
    origin: Annotated[str | None, typer.Argument(metavar="[ORIGIN]", help="One log; by default all of them.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="T", help="The logs of one tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print verifier keys, one a line, oldest first: what an auditor needs to check the logs, and nothing secret.

    \b
    Examples:
      tally keys vkey > ledger.vkeys
      tally keys vkey ledger.example.org/heads
      tally keys vkey --tenant acme
    """
    from ledger.errors import MissingKey
    from tallystick.cli.connect import keystore_to_read, servers
    from tallystick.errors import TallyError

    of = servers()
    with keystore_to_read(of.settings) as keystore:
        wanted = keystore.origins()
        if origin is not None:
            wanted = [origin]
        elif tenant is not None:
            wanted = asyncio.run(_origins(of, tenant))
        found = {log: keystore.vkeys(log) for log in wanted}
    for log, vkeys in found.items():
        if not vkeys and origin is not None:
            raise TallyError(f"the key store at {of.settings.keys} has no key of {log}", "See `tally keys list`.")
        if not vkeys:
            raise MissingKey(f"the key store at {of.settings.keys} has no key of {log}")
    lines = [line for vkeys in found.values() for line in vkeys]
    if as_json:
        put_json({"vkeys": lines})
    else:
        for line in lines:
            put(line)


async def _origins(of: Servers, tenant: str) -> list[str]:
    from tallystick.cli.connect import auditor
    from tallystick.errors import TallyError

    async with auditor(of) as conn:
        cursor = await conn.execute("SELECT log FROM logs WHERE tenant = %s ORDER BY shard", (tenant,))
        found = [row[0] for row in await cursor.fetchall()]
    if not found:
        raise TallyError(f"no tenant {tenant} is registered", "See `tally tenant list`.")
    return found
