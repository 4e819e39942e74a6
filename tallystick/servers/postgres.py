"""A real Postgres of our own, in a home folder.

Guarantees: durable (`fsync`, `synchronous_commit`, full page writes on, whatever the files say); reachable from this
machine only, by TCP on loopback and with a password; data and port survive restarts; one server per home; nothing of it
runs on after `stop`, or after this process. Runs as root too (identity.py). Does not guarantee the same port when
another program has taken it meanwhile.

    home/postgres/data/             the cluster
    home/postgres/server.log        of this run; server.log.1 of the one before
    home/postgres/passwords.json    0600
    home/postgres/port, lock
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from tallystick.errors import ServerError
from tallystick.servers import diagnose, identity, ports
from tallystick.servers.home import (
    Lock,
    Secrets,
    advice,
    free_bytes,
    make_folder,
    need_space,
    reason,
    sync_folder,
    write_atomically,
)
from tallystick.servers.process import Command, Guarded, Identity
from tallystick.servers.progress import Report, silent

SUPERUSER = "tally"
DATABASE = "tallystick"
ROLES = ("tally_owner", "tally_writer", "tally_eraser", "tally_auditor", "tally_reader", "tally_api")

INIT_S = 180.0
START_S = 120.0  # recovery after a crash replays at most max_wal_size
STARTS_MAX = 5  # tries, for a port that is taken between the look and the start, or a dying predecessor
LEFTOVER_S = 0.5  # between such tries

# Fast shutdown; then without a checkpoint (recovered at the next start); then SIGKILL.
STOP = (("SIGINT", 10.0), ("SIGQUIT", 5.0))

# For a machine that does other things too; in the cluster's postgresql.conf, where an operator may change them.
TUNING = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "10min",
    "effective_cache_size": "1GB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}
# Not to be changed: what the guarantees above rest on. On the command line, which beats every file.
FIXED = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
}


class EmbeddedPostgres:
    """`async with EmbeddedPostgres(home) as pg: pg.url()`; or `start`, `stop` and `start` again."""

    def __init__(self, home: Path, progress: Report = silent, port: int | None = None) -> None:
        """`port`: this one or none; by default the one used before, or any that is free."""
        self.folder = home.absolute() / "postgres"
        self.port = 0
        self._wanted_port = port
        self._report = progress
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._secrets = Secrets(self.folder / "passwords.json")
        self._lock = Lock(self.folder / "lock", "Postgres")
        self._server: Guarded | None = None

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises RuntimeError when it was not started."""
        if self._server is None:
            raise RuntimeError("Postgres is not started")
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.running

    def url(self, role: str | None = None, database: str = DATABASE) -> str:
        """A connection URL with the password in it: of the superuser, or of one of ROLES (after `grant_logins`)."""
        user = role or SUPERUSER
        password = quote(self._secrets.get(user), safe="")
        return f"postgresql://{user}:{password}@{ports.LOOPBACK}:{self.port}/{database}"

    async def start(self) -> None:
        """Start the server and return when it takes connections. Raises ServerError; nothing is left running then."""
        make_folder(self.folder)
        await self._lock.acquire()
        try:
            need_space(self.folder, "Postgres")
            who, programs = await asyncio.to_thread(identity.choose, self._report)
            await self.start_as(who, programs)
        except BaseException:
            await self.stop()
            raise

    async def start_as(self, who: Identity, programs: Path) -> None:
        """The part of `start` that is done as somebody: initialize what is new, own it, run it, make the database."""
        first = not self._data.exists()
        what = "Starting Postgres" if not first else "Starting a new Postgres"
        self._report(what, 0, 3)
        if first:
            await self._initialize(who, programs)
        self._own(self._data, who)
        self._report(what, 1, 3)
        await self._run(who, programs)
        self._report(what, 2, 3)
        await self._make_database()
        self._report(what, 3, 3)

    async def stop(self) -> None:
        """End the server, cleanly, and free the home."""
        try:
            if self._server is not None:
                await self._server.stop()
        finally:
            self._server = None
            self._lock.release()

    async def ended(self) -> ServerError:
        """Return, once the server has ended by itself, the error that says why."""
        if self._server is None:
            raise RuntimeError("Postgres is not started")
        server = self._server
        await server.wait()
        return diagnose.ended("Postgres", server.status, self._log)

    async def grant_logins(self) -> None:
        """Let the roles that the migrations made log in, each with its own password. May be called again and again."""
        async with await psycopg.AsyncConnection.connect(self.url(), autocommit=True) as connection:
            rows = await connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)])
            for (role,) in await rows.fetchall():
                command = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
                await connection.execute(command.format(sql.Identifier(role), sql.Literal(self._secrets.get(role))))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _initialize(self, who: Identity, programs: Path) -> None:
        """Make a cluster aside, and rename it into place when it is whole and on disk."""
        aside = self.folder / "data.new"
        password = self.folder / "data.password"
        try:
            if aside.exists():
                shutil.rmtree(aside)
            aside.mkdir(mode=0o700)
            write_atomically(password, self._secrets.get(SUPERUSER))
            self._own(aside, who)
            if who.kind == "user":
                os.chown(password, who.uid, who.gid)
            log = self._fresh_log()
            # By its working folder and an open file, since the user it runs as may not reach either by path.
            argv = [str(programs / "initdb"), "--pgdata", _own_name(aside, who), "--username", SUPERUSER]
            argv += ["--pwfile", "/dev/fd/0", "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
            for name, value in TUNING.items():
                argv += ["--set", f"{name}={value}"]
            command = Command(argv, aside, log, STOP, _environment(programs), who, stdin=password)
            await self._finish(command)
            aside.rename(self._data)
            sync_folder(self.folder)
        except OSError as error:
            raise ServerError(f"can't make {self._data}: {reason(error)}", advice(error, self.folder)) from error
        finally:
            password.unlink(missing_ok=True)
            if aside.exists():
                shutil.rmtree(aside, ignore_errors=True)

    async def _finish(self, command: Command) -> None:
        """Run initdb to its end."""
        initdb = Guarded.start(command, [self._lock.fd])
        try:
            async with asyncio.timeout(INIT_S):
                await initdb.wait(0.01)
        except TimeoutError as error:
            raise ServerError(
                f"Postgres' data folder was not made within {INIT_S:.0f} s", f"Read {self._log}; start again."
            ) from error
        finally:
            await initdb.stop()
        if initdb.status != 0:
            raise diagnose.explain(f"Postgres' data folder {self._data} could not be made", self._log)

    def _own(self, folder: Path, who: Identity) -> None:
        """Give the cluster to the user the server runs as outside any namespace. Only root can, and needs to."""
        uid, gid = (who.uid, who.gid) if who.kind == "user" else (os.geteuid(), os.getegid())
        if folder.stat().st_uid == uid:
            return
        try:
            for parent, _, files in os.walk(folder):
                os.chown(parent, uid, gid)
                for name in files:
                    os.chown(Path(parent, name), uid, gid, follow_symlinks=False)
        except OSError as error:
            raise ServerError(
                f"{folder} belongs to user {folder.stat().st_uid}",
                "Run tally as that user, or give the folder to yours.",
            ) from error

    async def _run(self, who: Identity, programs: Path) -> None:
        """Start the postmaster, on another port or a little later if the first try meets somebody."""
        for attempt in range(STARTS_MAX):
            self.port = ports.choose("Postgres", self.folder / "port", self._wanted_port, attempt, self._report)
            # Under our lock no server of this home is left, so a pid file is a dead one's, even if the number lives.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            argv = [str(programs / "postgres"), "-D", _own_name(self._data, who), "-p", str(self.port)]
            for name, value in FIXED.items():
                argv += ["-c", f"{name}={value}"]
            log = self._fresh_log()
            command = Command(argv, self._data, log, STOP, _environment(programs), who)
            self._server = Guarded.start(command, [self._lock.fd])
            if await self._ready(self._server):
                write_atomically(self.folder / "port", f"{self.port}\n")
                return
            await self._server.stop()
            text = diagnose.tail(log)
            again = ports_taken = "Address already in use" in text and self._wanted_port is None
            if not ports_taken and "pre-existing shared memory block" in text:
                again = True
                await asyncio.sleep(LEFTOVER_S * (attempt + 1))
            if not again:
                break
        raise diagnose.explain(f"Postgres did not start on port {self.port}", self._log)

    async def _ready(self, server: Guarded) -> bool:
        """Whether the server got to take connections; False when it ended instead."""
        try:
            async with asyncio.timeout(START_S):
                while server.running:
                    with contextlib.suppress(OSError):
                        lines = (self._data / "postmaster.pid").read_text().splitlines()
                        if len(lines) >= 8 and lines[7].strip() == "ready":
                            return True
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise ServerError(
                f"Postgres was not ready within {START_S:.0f} s", f"Read {self._log}; start again."
            ) from error
        return False

    async def _make_database(self) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(
                self.url(database="postgres"), autocommit=True, connect_timeout=10
            ) as connection:
                found = await connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
                if await found.fetchone() is None:
                    await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.Error as error:
            full = free_bytes(self._data) < 1024 * 1024 or "No space left" in str(error) or "too large" in str(error)
            fix = advice(OSError(28, ""), self._data) if full else f"Read {self._log}; start again."
            raise ServerError(f"the database {DATABASE} could not be made or reached: {error}", fix) from error

    def _fresh_log(self) -> Path:
        """Keep the log of the run before, begin one for this run: causes are looked for in it."""
        with contextlib.suppress(FileNotFoundError):
            self._log.rename(self._log.with_name("server.log.1"))
        return self._log


def _own_name(folder: Path, who: Identity) -> str:
    """The server's working folder as the server can name it: see identity.py."""
    return "/proc/self/cwd" if who.kind == "user" else str(folder)


def _environment(programs: Path) -> dict[str, str]:
    """Nothing of ours: no PG* variable, no locale."""
    return {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
