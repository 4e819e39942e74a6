"""Everything at once, until it is stopped: `tally up`.

In this order: the home's lock; embedded servers, where no addresses are set; migrations and logins; topics; the key
store; the tenant `default`; the consumer with its publisher; the OTLP gateway; then endpoints.json. Ended in the
opposite order.

Guarantees: endpoints.json is there only while all of it answers; when this ends, in whatever way, nothing it started
runs on (kill -9 included, see servers/guard.py). A consumer that can never work again does not end the servers: they
are needed to verify and to export what is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import structlog

from ingest.authority import EVENTS
from ingest.consumer import ConsumerConfig
from ingest.otlp.gateway import Serving
from ledger.append import Appender
from ledger.db import connect, migrate, require_migrated
from ledger.keystore import SqliteKeyStore
from ledger.registry import Registry
from ledger.seal import Sealer
from tallystick.consume import Consuming, consumer_config
from tallystick.endpoints import Endpoints, Home
from tallystick.errors import ServerError, TallyError
from tallystick.ledgers import open_keystore, origin_prefix
from tallystick.otlp import gateway, say_taken
from tallystick.servers import TOPICS, EmbeddedKafka, EmbeddedPostgres, ensure_topics, stack
from tallystick.servers.progress import Report, silent
from tallystick.settings import Settings

DEFAULT_TENANT = "default"
RATE_EVERY_S = 10.0
READY_S = 120.0  # for the consumer's first partitions
UNUSUAL_S = 5.0  # until the wait for them is told
WAITING = "Waiting for the consumer's partitions; one that was killed has them for 10 s more"

log = structlog.get_logger("tallystick.up")

Say = Callable[[str], None]


@dataclass(slots=True)
class Running:
    """A stack that is up. `writer` is a URL that may act as tally_writer."""

    endpoints: Endpoints
    writer: str
    prefix: str
    keystore: SqliteKeyStore
    consuming: Consuming
    otlp: Serving
    moved: list[str]  # what is said of default ports that were taken
    failed: asyncio.Future[TallyError]  # a server that ended by itself
    _consumer: asyncio.Task[None] = field(repr=False)

    @property
    def consumer_error(self) -> BaseException | None:
        """Why no consumer works any more, if none does."""
        return self._consumer.exception() if self._consumer.done() and not self._consumer.cancelled() else None

    async def consumer_ended(self) -> None:
        """Return when no consumer works any more."""
        await asyncio.wait([self._consumer])


@asynccontextmanager
async def running(settings: Settings, home: Home, report: Report = silent) -> AsyncIterator[Running]:
    """The whole stack of a home that is held, ready; ended on leaving.

    Raises TallyError, LedgerError and the drivers' errors where it can't be started; nothing is left running then.
    """
    async with AsyncExitStack() as ending:
        servers = await _start_servers(ending, settings, report)
        await _prepare_database(servers)
        writer = await ending.enter_async_context(await connect(servers.writer, "tally_writer", application="tally up"))
        keystore = ending.enter_context(await open_keystore(writer, settings))
        prefix = await origin_prefix(writer, settings, keystore)
        await _register(writer, keystore, prefix, settings, servers)
        consuming = Consuming()
        config = consumer_config(settings, servers.writer, servers.kafka, servers.kafka_client, prefix)
        task = await ending.enter_async_context(_consumer(consuming, config, keystore))
        await _until_ready(consuming, task, report)
        failed: asyncio.Future[TallyError] = asyncio.get_running_loop().create_future()
        ending.push_async_callback(_end, asyncio.create_task(_watch(servers, failed)))
        moved: list[str] = []
        otlp = await ending.enter_async_context(
            gateway(settings, servers.kafka, servers.kafka_client, moved.append, may_move=True)
        )
        await otlp.forward.started(READY_S)
        found = Endpoints(
            postgres=servers.auditor,
            postgres_admin=servers.admin,
            kafka=servers.kafka,
            otlp_http=f"http://{otlp.http}",
            otlp_grpc=str(otlp.grpc),
        )
        home.announce(found)
        ending.callback(home.withdraw)
        up = Running(found, servers.writer, prefix, keystore, consuming, otlp, moved, failed, task)
        ending.push_async_callback(_end, asyncio.create_task(_announce_lost(up, home)))
        yield up


async def serve(
    settings: Settings, home: Home, say: Say, progress: Callable[[], AbstractContextManager[Report]]
) -> None:
    """Run until cancelled, saying what is up and, now and then, how fast. `progress` shows the start.

    Raises TallyError when a server ended by itself; and, once cancelled, what ended the last consumer, if any did.
    """
    async with AsyncExitStack() as ending:
        with progress() as report:
            stack_ = await ending.enter_async_context(running(settings, home, report))
        _say_what_is_up(settings, stack_, say)
        rate = asyncio.create_task(_say_rate(stack_, say))
        taken = asyncio.create_task(say_taken(stack_.otlp, say))
        lost = asyncio.create_task(_say_lost(stack_, say))
        try:
            raise await stack_.failed
        except asyncio.CancelledError:
            if stack_.consumer_error is not None:
                raise stack_.consumer_error from None
            raise
        finally:
            await _end(rate)
            await _end(taken)
            await _end(lost)
            say("stopping")


@dataclass(slots=True)
class _Servers:
    """Addresses of the servers that are used, and those of them that are ours."""

    auditor: str
    writer: str
    admin: str | None
    migrator: str
    kafka: str
    kafka_client: dict[str, Any]
    pg: EmbeddedPostgres | None
    own_kafka: EmbeddedKafka | None


async def _start_servers(ending: AsyncExitStack, settings: Settings, report: Report) -> _Servers:
    pg: EmbeddedPostgres | None = None
    kafka: EmbeddedKafka | None = None
    if settings.postgres_url is None and settings.kafka_bootstrap is None:
        both = await ending.enter_async_context(stack(settings.home, report))
        pg, kafka = both.pg, both.kafka
    elif settings.postgres_url is None:
        pg = await ending.enter_async_context(EmbeddedPostgres(settings.home, report))
    elif settings.kafka_bootstrap is None:
        kafka = await ending.enter_async_context(EmbeddedKafka(settings.home, report))
    set_url = settings.postgres_url.get_secret_value() if settings.postgres_url is not None else ""
    return _Servers(
        auditor=pg.url("tally_auditor") if pg else set_url,
        writer=pg.url("tally_writer") if pg else set_url,
        admin=pg.url() if pg else None,
        migrator=pg.url() if pg else set_url,
        kafka=kafka.bootstrap if kafka else settings.kafka_bootstrap or "",
        kafka_client={} if kafka else settings.kafka_client(),
        pg=pg,
        own_kafka=kafka,
    )


async def _prepare_database(servers: _Servers) -> None:
    try:
        applied = await migrate(servers.migrator)
    except psycopg.errors.InsufficientPrivilege:
        # A login that may only write; somebody else migrated, as operations.md says for servers of one's own.
        async with await connect(servers.migrator, "tally_writer") as conn:
            await require_migrated(conn)
        return
    for name in applied:
        log.info("migration applied", name=name)
    if servers.pg is not None:
        await servers.pg.grant_logins()


async def _register(
    writer: psycopg.AsyncConnection[Any], keystore: SqliteKeyStore, prefix: str, settings: Settings, servers: _Servers
) -> None:
    """The logs that every ledger has, and a topic for each tenant."""
    registry = Registry(writer, keystore, prefix)
    appender = Appender(writer, keystore, Sealer(keystore))
    await registry.add_log(appender, registry.system, "system")
    await registry.add_log(appender, registry.heads, "heads")
    await registry.add_tenant(appender, DEFAULT_TENANT, slug=DEFAULT_TENANT)
    tenants = await registry.tenants()
    topics = dict(TOPICS) | {f"{EVENTS}.{tenant.slug}": TOPICS[EVENTS] for tenant in tenants.values()}
    await ensure_topics(servers.kafka, topics, replication=settings.kafka_replication, client=servers.kafka_client)


@asynccontextmanager
async def _consumer(
    consuming: Consuming, config: ConsumerConfig, keystore: SqliteKeyStore
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(consuming.run(config, keystore))
    try:
        yield task
    finally:
        await _end(task)


async def _until_ready(consuming: Consuming, task: asyncio.Task[None], report: Report) -> None:
    """Return when the consumer has its partitions, or when none can work: then the servers stay up without."""
    ready = asyncio.create_task(consuming.ready.wait())
    try:
        done, _ = await asyncio.wait([ready, task], timeout=UNUSUAL_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            report(WAITING, 0, 1)
            await asyncio.wait([ready, task], timeout=READY_S - UNUSUAL_S, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                report(WAITING, 1, 1)
    finally:
        await _end(ready)


async def _watch(servers: _Servers, failed: asyncio.Future[TallyError]) -> None:
    ours = [server for server in (servers.pg, servers.own_kafka) if server is not None]
    if not ours:
        return
    watches = [asyncio.create_task(server.ended()) for server in ours]
    try:
        done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        error: ServerError = done.pop().result()
        if not failed.done():
            failed.set_result(error)
    finally:
        for watch in watches:
            await _end(watch)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _say_what_is_up(settings: Settings, up: Running, say: Say) -> None:
    address = psycopg.conninfo.conninfo_to_dict(up.endpoints.postgres)
    postgres_whose = "embedded" if up.endpoints.postgres_admin is not None else "TALLY_POSTGRES_URL"
    kafka_whose = "embedded" if settings.kafka_bootstrap is None else "TALLY_KAFKA_BOOTSTRAP"
    say(f"home      {settings.home}")
    say(f"Postgres  {address.get('host')}:{address.get('port')} ({postgres_whose})")
    say(f"Kafka     {up.endpoints.kafka} ({kafka_whose})")
    say(f"OTLP      {up.endpoints.otlp_http} and gRPC at {up.endpoints.otlp_grpc} ({up.otlp.guarded})")
    for line in up.moved:
        say(f"WARNING   {line}")
    say(f"logs      {up.prefix}/…")
    say(f"addresses {settings.endpoints_file}")
    if up.consumer_error is None:
        say("ready; Ctrl-C stops it")


async def _say_rate(up: Running, say: Say) -> None:
    before = up.consuming.total()
    at = time.monotonic()
    while True:
        await asyncio.sleep(RATE_EVERY_S)
        now = up.consuming.total()
        elapsed = time.monotonic() - at
        more = {name: now[name] - before[name] for name in now}
        if more["records"]:
            told = [f"{more['records']:,} records in {elapsed:.0f} s ({more['records'] / elapsed:,.1f}/s)"]
            told += [
                f"{name} {more[name]:,}" for name in ("entries", "duplicates", "conflicts", "rejected") if more[name]
            ]
            say(", ".join(told))
        before, at = now, time.monotonic()


async def _announce_lost(up: Running, home: Home) -> None:
    """Tell the other commands when no consumer works any more."""
    await up.consumer_ended()
    if up.consumer_error is not None:
        up.endpoints = replace(up.endpoints, ingest_ended=" ".join(str(up.consumer_error).split()))
        home.announce(up.endpoints)


async def _say_lost(up: Running, say: Say) -> None:
    await up.consumer_ended()
    error = up.consumer_error
    if error is not None:
        say(f"nothing is appended any more: {error}")
        say("the servers stay up, to verify and export what is there; see docs/operations.md; Ctrl-C stops them")
