"""What `tally verify` is asked about: a log or tenant that never was is a slip, one that vanished is a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.db import connect
from tallystick.cli.verify import require_registered
from tallystick.errors import TallyError
from tests.support.servers import Database
from tests.verify.support import PREFIX, World, tampering, world


async def ask(made: World, *, log: str | None = None, tenant: str | None = None) -> None:
    """As the command asks, before it verifies."""
    async with await connect(made.database.url("tally_auditor"), "tally_auditor") as conn:
        await require_registered(conn, made.keystore, [] if log is None else [log], tenant)


async def test_what_never_was_is_a_slip_and_what_vanished_is_for_verification(
    database: Database, tmp_path: Path
) -> None:
    async with world(database, tmp_path) as made:
        for name in ("acme", "globex"):
            made.tenants.append(await made.registry.add_tenant(made.appender, name, slug=name))
            await made.batch(made.tenants[-1], [f"{name}-run"], 3, finish=True)
        await ask(made, tenant="acme")
        await ask(made, log=f"{PREFIX}/acme")
        with pytest.raises(TallyError, match="no tenant nope was ever registered") as slip:
            await ask(made, tenant="nope")
        assert (slip.value.exit_status, "tally tenant list" in slip.value.fix) == (2, True)
        with pytest.raises(TallyError, match=r"no log .*/nope was ever registered"):
            await ask(made, log=f"{PREFIX}/nope")

        async with tampering(database) as conn:  # renamed: all logs are there, and no tenant of that name
            for table in ("tenants", "logs", "runs", "producer_keys"):
                await conn.execute(f"UPDATE {table} SET tenant = 'other' WHERE tenant = 'globex'")
        await ask(made, tenant="globex")

        async with tampering(database) as conn:  # removed whole
            for table in ("entries", "content", "tiles", "checkpoints", "logs"):
                await conn.execute(f"DELETE FROM {table} WHERE log = %s", (f"{PREFIX}/acme",))
            await conn.execute("DELETE FROM runs WHERE tenant = 'acme'")
            await conn.execute("DELETE FROM tenants WHERE tenant = 'acme'")
        await ask(made, tenant="acme")
        await ask(made, log=f"{PREFIX}/acme")
        report = await made.verify(tenant="acme")
        assert (report.integrity, report.exit_status) == ("empty", 1)
