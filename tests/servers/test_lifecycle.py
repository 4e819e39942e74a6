"""Embedded servers: durable, alone in their home, apart from each other, and gone when they should be."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tallystick.errors import ServerError
from tallystick.servers import EmbeddedKafka, EmbeddedPostgres, Stack, ensure_topics, stack
from tests.support.servers import PrivateKafka, PrivatePostgres, processes_of

OWNER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from tallystick.servers import stack

    async def main():
        async with stack(Path(sys.argv[1])) as servers:
            print(servers.pg.url(), servers.kafka.bootstrap, flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
""")


@asynccontextmanager
async def stack_of_another_process(home: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """A process that runs a stack; yields it, its Postgres' URL and its Kafka's address."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(home), stdout=asyncio.subprocess.PIPE, stderr=None
    )
    try:
        if owner.stdout is None:
            raise RuntimeError("no pipe")
        url, bootstrap = (await owner.stdout.readline()).decode().split()
        yield owner, url, bootstrap
    finally:
        if owner.returncode is None:
            owner.kill()
        await owner.wait()


async def execute(url: str, command: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(command.encode())
        return await cursor.fetchall() if cursor.description else []


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def consume(bootstrap: str, topic: str) -> list[bytes | None]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none") as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        end = (await consumer.end_offsets([partition]))[partition]
        return [(await consumer.getone()).value for _ in range(end)]


async def fill(servers: Stack) -> None:
    await execute(servers.pg.url(), "CREATE TABLE kept AS SELECT 42 AS n")
    await ensure_topics(servers.kafka.bootstrap, {"kept": 1})
    await produce(servers.kafka.bootstrap, "kept", b"42")


async def check(servers: Stack) -> None:
    assert await execute(servers.pg.url(), "SELECT n FROM kept") == [(42,)]
    assert await consume(servers.kafka.bootstrap, "kept") == [b"42"]


async def test_what_was_kept_is_there_after_a_restart_at_the_same_addresses(tmp_path: Path) -> None:
    async with stack(tmp_path) as servers:
        await fill(servers)
        before = servers.pg.url(), servers.kafka.bootstrap
    assert processes_of(tmp_path) == []
    async with stack(tmp_path) as servers:
        assert (servers.pg.url(), servers.kafka.bootstrap) == before
        await check(servers)


async def test_nothing_outlives_a_killed_owner_and_the_next_start_recovers(tmp_path: Path) -> None:
    async with stack_of_another_process(tmp_path) as (owner, url, bootstrap):
        await execute(url, "CREATE TABLE kept AS SELECT 42 AS n")
        await ensure_topics(bootstrap, {"kept": 1})
        await produce(bootstrap, "kept", b"42")
        with pytest.raises(ServerError, match=f"already run by process {owner.pid}") as refused:
            async with stack(tmp_path):
                pass
        assert "TALLY_HOME" in refused.value.fix
        assert len(processes_of(tmp_path)) > 4
        owner.kill()
        await owner.wait()
        # At once: it waits for the servers of the dead owner to end, and takes over.
        async with stack(tmp_path) as servers:
            await check(servers)
    assert processes_of(tmp_path) == []


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_killed_guard_takes_its_server_along(private_postgres: PrivatePostgres) -> None:
    os.kill(parent_of(private_postgres.pid), signal.SIGKILL)
    async with asyncio.timeout(20):
        assert "Postgres ended by itself" in str(await private_postgres.ended())
        home = private_postgres.folder.parent
        while processes_of(home):  # noqa: ASYNC110  (processes set no event)
            await asyncio.sleep(0.01)
    await private_postgres.restart()


async def insert_until_refused(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
    """How many single inserts were acknowledged before the server went away."""
    committed = 0
    try:
        while True:
            await connection.execute("INSERT INTO t VALUES (1)")
            committed += 1
    except psycopg.OperationalError:
        return committed


async def test_a_killed_postgres_is_told_and_comes_back_with_every_commit(private_postgres: PrivatePostgres) -> None:
    url = private_postgres.url()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        inserting = asyncio.create_task(insert_until_refused(connection))
        await asyncio.sleep(0.1)
        os.kill(private_postgres.pid, signal.SIGKILL)
        committed = await inserting
    error = await private_postgres.ended()
    assert "killed" in error.message
    assert "Start again" in error.fix
    assert (private_postgres.folder / "data" / "postmaster.pid").exists()
    await private_postgres.restart()
    assert private_postgres.url() == url
    rows = await execute(url, "SELECT count(*) FROM t")
    assert committed > 0
    assert rows[0][0] in (committed, committed + 1)  # the last one may have been committed and not acknowledged


async def test_a_killed_kafka_is_told_and_comes_back_with_every_record(private_kafka: PrivateKafka) -> None:
    await ensure_topics(private_kafka.bootstrap, {"kept": 1})
    await produce(private_kafka.bootstrap, "kept", b"acknowledged")
    await private_kafka.kill()
    assert "killed" in (await private_kafka.ended()).message
    await private_kafka.restart()
    assert await consume(private_kafka.bootstrap, "kept") == [b"acknowledged"]


async def test_two_homes_do_not_meet(tmp_path: Path) -> None:
    # A name that a shell, a properties file or a class path might stumble over.
    homes = tmp_path / "one", tmp_path / "the other, größer"
    async with stack(homes[0]) as one, stack(homes[1]) as other:
        assert len({one.pg.port, other.pg.port, one.kafka.port, other.kafka.port}) == 4
        await fill(one)
        with pytest.raises(psycopg.errors.UndefinedTable):
            await execute(other.pg.url(), "SELECT n FROM kept")
        wrong = one.pg.url().replace(f":{one.pg.port}/", f":{other.pg.port}/")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await execute(wrong, "SELECT 1")
        assert await ensure_topics(other.kafka.bootstrap, {"kept": 1}) == ["kept"]
        assert await consume(other.kafka.bootstrap, "kept") == []
        clusters = [(home / "kafka" / "data" / "meta.properties").read_text() for home in homes]
        assert clusters[0] != clusters[1]
        await check(one)


async def test_a_pid_file_that_names_a_living_stranger_is_stale(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path) as server:
        pass
    # Our own number: alive, of the same user, and no Postgres.
    (tmp_path / "postgres" / "data" / "postmaster.pid").write_text(
        f"{os.getpid()}\n/elsewhere\n1\n1\n\n*\n1 1\nready\n"
    )
    async with server:
        assert await execute(server.url(), "SELECT 1") == [(1,)]


async def test_a_port_that_was_taken_meanwhile_is_told_and_another_is_used(tmp_path: Path) -> None:
    said: list[str] = []

    def report(what: str, done: int, total: int) -> None:
        said.append(what)

    async with EmbeddedPostgres(tmp_path) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)):
        async with EmbeddedPostgres(tmp_path, report) as server:
            assert server.port != port
            assert await execute(server.url(), "SELECT 1") == [(1,)]
        assert any(f"Port {port} is taken" in line for line in said)
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1, asked for Postgres, is taken"):
            async with EmbeddedPostgres(tmp_path, port=port):
                pass
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1, asked for Kafka, is taken"):
            async with EmbeddedKafka(tmp_path, port=port):
                pass


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7, 1.2])
async def test_a_start_that_was_cut_short_leaves_nothing_and_the_next_one_works(tmp_path: Path, seconds: float) -> None:
    async def start() -> None:
        async with stack(tmp_path):
            pass

    cut = asyncio.create_task(start())
    await asyncio.sleep(seconds)
    cut.cancel()
    await asyncio.sleep(0)
    cut.cancel()  # impatience
    await asyncio.gather(cut, return_exceptions=True)
    assert processes_of(tmp_path) == []
    async with EmbeddedPostgres(tmp_path) as server:
        assert await execute(server.url(), "SELECT 1") == [(1,)]


async def test_one_that_does_not_start_ends_the_other(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path):
        pass
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServerError, match="Postgres did not start") as failed:
        async with stack(tmp_path):
            pass
    assert "another version" in str(failed.value)
    assert processes_of(tmp_path) == []


async def test_settings_are_the_durable_ones_and_secrets_are_closed(private_postgres: PrivatePostgres) -> None:
    for setting, value in (("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")):
        assert await execute(private_postgres.url(), f"SHOW {setting}") == [(value,)]
    for path in (private_postgres.folder, *private_postgres.folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert not (private_postgres.folder / "data.password").exists()
    assert await execute(private_postgres.url(), "SHOW unix_socket_directories") == [("",)]
    database = await private_postgres.database()
    assert await execute(database.url("tally_auditor"), "SELECT current_user") == [("tally_auditor",)]
