"""The servers that tests run on: containers where Docker answers, the embedded ones elsewhere. The same tests on both.

A session has one Postgres and one Kafka. A test gets a database of its own, cloned from a migrated template, and names
its own topics. A test that kills a server takes a private one, embedded everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import secrets
import signal
import subprocess
import warnings
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import docker
import psycopg
from docker.errors import APIError, DockerException
from psycopg import sql
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer

import ledger.db
from tallystick.servers import EmbeddedKafka, EmbeddedPostgres, ports
from tallystick.servers.kafka import server_properties
from tallystick.servers.postgres import ROLES
from tallystick.servers.topics import answers

POSTGRES_IMAGE = "postgres:18"
KAFKA_IMAGE = "apache/kafka:4.3.1"
TEMPLATE = "tally_template"
DOCKER_ANSWER_S = 3
CONTAINER_START_S = 120.0

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a loop of its own, whether or not this thread has one running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def docker_answers() -> bool:
    """Whether there is a Docker to start containers with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the docker package drops its socket when nobody answers
        try:
            client = docker.from_env(timeout=DOCKER_ANSWER_S)
            try:
                return bool(client.ping())
            finally:
                client.close()
        except (DockerException, OSError):
            return False
        finally:
            gc.collect()


class PostgresServer(Protocol):
    """What a test may ask of the session's Postgres."""

    def url(self, role: str | None = None, database: str = ...) -> str: ...

    async def grant_logins(self) -> None: ...


class DockerPostgres:
    """The official image, with its defaults: fsync on."""

    def __init__(self) -> None:
        self._container = PostgresContainer(POSTGRES_IMAGE, username="tally", password=secrets.token_urlsafe(12))
        self._passwords = {role: secrets.token_urlsafe(12) for role in ROLES}

    def start(self) -> None:
        self._container.start()

    def stop(self) -> None:
        self._container.stop()

    def url(self, role: str | None = None, database: str = "postgres") -> str:
        user = role or self._container.username
        password = quote(self._passwords[role] if role else self._container.password, safe="")
        address = f"{self._container.get_container_host_ip()}:{self._container.get_exposed_port(5432)}"
        return f"postgresql://{user}:{password}@{address}/{database}"

    async def grant_logins(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.url(), autocommit=True) as connection:
            for role, password in self._passwords.items():
                command = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
                await connection.execute(command.format(sql.Identifier(role), sql.Literal(password)))


class DockerKafka:
    """The official image, configured as the embedded Kafka is."""

    def __init__(self) -> None:
        self.port = ports.pick()
        self._container = DockerContainer(KAFKA_IMAGE).with_bind_ports(self.port, self.port)
        for line in server_properties("/tmp/kafka-logs", self.port, 9093).splitlines():
            name, value = line.split("=", 1)
            if name == "listeners":
                value = value.replace(ports.LOOPBACK, "0.0.0.0")
            self._container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)

    @property
    def bootstrap(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    def start(self) -> None:
        self._container.start()
        run(self._ready())

    async def _ready(self) -> None:
        async with asyncio.timeout(CONTAINER_START_S):
            while not await answers(self.bootstrap):  # noqa: ASYNC110  (a container sets no event)
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        self._container.stop()


@contextmanager
def postgres_server(home: Path, with_docker: bool, say: Any) -> Iterator[PostgresServer]:
    """The session's Postgres, with a migrated template database."""
    with contextlib.ExitStack() as ending:
        server: PostgresServer | None = None
        if with_docker:
            container = DockerPostgres()
            try:
                container.start()
                ending.callback(container.stop)
                server = container
            except APIError as error:
                say(f"no container of {POSTGRES_IMAGE} ({error}): embedded Postgres instead")
        if server is None:
            embedded = EmbeddedPostgres(home)
            run(embedded.start())
            ending.callback(lambda: run(embedded.stop()))
            server = embedded
        run(make_template(server))
        yield server


@contextmanager
def kafka_server(home: Path, with_docker: bool, say: Any) -> Iterator[str]:
    """The session's Kafka, as its bootstrap address."""
    with contextlib.ExitStack() as ending:
        if with_docker:
            container = DockerKafka()
            try:
                container.start()
                ending.callback(container.stop)
                yield container.bootstrap
                return
            except APIError as error:
                say(f"no container of {KAFKA_IMAGE} ({error}): embedded Kafka instead")
        embedded = EmbeddedKafka(home)
        run(embedded.start())
        ending.callback(lambda: run(embedded.stop()))
        yield embedded.bootstrap


async def make_template(server: PostgresServer) -> None:
    """A database as `tally up` makes it, to clone; and logins for its roles."""
    async with await psycopg.AsyncConnection.connect(server.url(database="postgres"), autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    await ledger.db.migrate(server.url(database=TEMPLATE))
    await server.grant_logins()


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of one test."""

    server: PostgresServer
    name: str

    def url(self, role: str | None = None) -> str:
        """As that role (a login), or as the superuser."""
        return self.server.url(role, self.name)

    async def copy(self) -> Database:
        """A database with the same content, for a test to tamper with. Nothing may be connected to this one."""
        return await clone(self.server, self.name)

    async def drop(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self.server.url(database="postgres"), autocommit=True
        ) as admin:
            await admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))


async def clone(server: PostgresServer, template: str = TEMPLATE) -> Database:
    """A new database with the template's content."""
    name = f"t_{secrets.token_hex(6)}"
    async with await psycopg.AsyncConnection.connect(server.url(database="postgres"), autocommit=True) as admin:
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        await admin.execute(command.format(sql.Identifier(name), sql.Identifier(template)))
    return Database(server, name)


class PrivatePostgres(EmbeddedPostgres):
    """A Postgres that a test may kill. `database()` gives a migrated database in it."""

    async def kill(self) -> None:
        """kill -9 of the postmaster; returns when it is gone. `restart` brings it back, on the same port."""
        await kill(self)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def database(self) -> Database:
        """A migrated database; its logins work."""
        if self.running:
            async with await psycopg.AsyncConnection.connect(self.url(database="postgres")) as connection:
                found = await connection.execute("SELECT FROM pg_database WHERE datname = %s", [TEMPLATE])
                known = await found.fetchone() is not None
            if not known:
                await make_template(self)
        return await clone(self)


class PrivateKafka(EmbeddedKafka):
    """A Kafka that a test may kill."""

    async def kill(self) -> None:
        """kill -9 of the broker; returns when it is gone. `restart` brings it back, on the same port."""
        await kill(self)

    async def restart(self) -> None:
        await self.stop()
        await self.start()


async def kill(server: EmbeddedPostgres | EmbeddedKafka) -> None:
    """kill -9, without the politeness of `stop`."""
    os.kill(server.pid, signal.SIGKILL)
    while server.running:  # noqa: ASYNC110  (a process sets no event)
        await asyncio.sleep(0.01)


def processes_of(home: Path) -> list[str]:
    """The command lines of processes that work in a home or name it (Linux); their guards are among them."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(home) in command or (process / "cwd").readlink().is_relative_to(home):
                found.append(f"{process.name} {command}")
    return found


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A folder on which little room is left: a small tmpfs where we may mount one, else a limit on the size of files.

    Either way a server that writes more meets an error of the disk (ENOSPC or EFBIG). The limit is this process's and
    its children's while the context lasts, and does not end servers started before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes * 1024 * 1024, hard))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
