"""Postgres refuses root; each way around it, and the plain user's."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tallystick.servers import identity
from tallystick.servers.postgres import EmbeddedPostgres
from tallystick.servers.process import Identity

# What another user does, seen from inside a user namespace.
OTHER_USER = textwrap.dedent("""
    import asyncio, os, sys
    from pathlib import Path
    from tallystick.servers import guard, stack

    home, user, plain = sys.argv[1:]
    if user == "nameless":
        guard.enter_namespace(54321, 54321)
    elif os.geteuid() == 0:
        guard.enter_namespace(int(plain), int(plain))
    assert os.geteuid() != 0

    async def main():
        async with stack(Path(home)) as servers:
            await servers.pg.grant_logins()
            print("both started as", os.geteuid())

    asyncio.run(main())
""")


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def started_by(server: EmbeddedPostgres) -> int:
    """Start, use, restart; the user id that the operating system sees."""
    for _ in range(2):
        async with (
            server,
            await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as connection,
        ):
            await connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
            uid = owner_of(server.pid)
    return uid


async def test_as_whoever_we_are(tmp_path: Path) -> None:
    assert await started_by(EmbeddedPostgres(tmp_path)) == os.geteuid()
    who, _ = identity.choose()
    assert who.kind == ("namespace" if os.geteuid() == 0 else "same")


@pytest.mark.parametrize("user", ["plain", "nameless"])
async def test_as_a_plain_user(tmp_path: Path, user: str) -> None:
    """Also as one without an entry in /etc/passwd, as containers run with `--user 54321` have it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", OTHER_USER, str(tmp_path), user, str(identity.unprivileged().uid)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"both started as" in said


async def test_as_another_user_where_namespaces_are_refused(
    tmp_path: Path, readable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home is closed to that user, and so are the installed programs: the first stays so, the second are copied."""
    if os.geteuid() != 0:
        assert identity.choose()[0] == Identity("same")  # only root can become another; a plain user never tries
        return
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    package = identity.installed_programs().parents[1]
    for folder in (package, package.with_name(f"{package.name}.libs")):
        (closed / folder.name).symlink_to(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(readable))
    programs = closed / package.name / identity.INSTALLATION / "bin"
    who, copied = identity.as_other_user(programs)
    assert copied.is_relative_to(readable)
    monkeypatch.setattr(identity, "choose", lambda report: identity.as_other_user(programs, report))
    assert await started_by(EmbeddedPostgres(tmp_path / "home")) == who.uid != 0
    assert (tmp_path / "home" / "postgres").stat().st_mode & 0o077 == 0
    monkeypatch.undo()
    # The same home, now where namespaces are allowed: it is taken back.
    assert await started_by(EmbeddedPostgres(tmp_path / "home")) == 0
