"""`tally migrate`."""

from __future__ import annotations

import asyncio

from tallystick.cli.output import AsJson, put, put_json


def migrate(as_json: AsJson = False) -> None:
    """Apply the migrations that the database lacks. Needs an administrator's login, since they make roles.

    `tally up` does this for the embedded Postgres.

    \b
    Examples:
      TALLY_POSTGRES_URL=postgresql://postgres:…@db.example.org/tally tally migrate
    """
    from ledger.db import migrate as apply
    from tallystick.cli.connect import servers

    applied = asyncio.run(apply(servers().postgres_admin))
    if as_json:
        put_json({"applied": applied})
    else:
        put("applied: " + ", ".join(applied) if applied else "nothing to apply: the database is up to date")
