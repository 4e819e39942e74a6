"""The demo's own stack: embedded servers in a home of its own, an OTLP gateway, one consumer, and the tenant of this
showing.

Guarantees: nothing of it runs on when the context ends; the home is kept. Every showing registers a tenant of its own,
so that its log holds this showing and nothing else, also in a home that was used before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.consumer import Consumer, ConsumerConfig, Progress
from ingest.decode import FILE_HEADER, FORM_HEADER, LINE_HEADER
from ingest.otlp.address import Address
from ingest.otlp.gateway import GatewayConfig, serving
from ledger.append import Appender
from ledger.db import Connection, connect, migrate
from ledger.keystore import SqliteKeyStore
from ledger.leaf import Leaf, parse_leaf
from ledger.note import vkey_text
from ledger.registry import Registry, Tenant
from ledger.seal import Sealer
from replay.show import RunShown, show_run
from tallystick.demo.story import PRODUCER_KEY, REVIEWER_KEY, Keys
from tallystick.errors import TallyError
from tallystick.servers import TOPICS, ensure_topics, stack
from tallystick.servers.home import make_folder
from tallystick.servers.postgres import DATABASE, EmbeddedPostgres
from tallystick.servers.progress import Report

READ_TOPICS: Final = ("tally.events", "tally.control", "tally.gateway.spans", "tally.gateway.logs")
COMMIT_S: Final = 60.0  # longest wait for what is in Kafka to be committed; it takes a second
LOOK_EVERY_S: Final = 0.02
ANY_PORT: Final = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as Postgres has it, and the leaf read from it."""

    index: int
    raw: bytes
    leaf: Leaf


@dataclass(slots=True)
class Stage:
    """What the acts of the demo work with."""

    home: Path
    pg: EmbeddedPostgres
    bootstrap: str
    gateway: str  # the URL that takes OTLP
    keystore: SqliteKeyStore
    tenant: Tenant
    default: Tenant
    keys: Keys
    _consumer: Consumer
    _consuming: asyncio.Task[Progress]

    def url(self, role: str | None, database: str = DATABASE) -> str:
        """The demo's Postgres, as one of the ledger's roles or as the superuser."""
        return self.pg.url(role, database)

    async def send_lines(self, lines: Sequence[bytes], file: str) -> None:
        """Send lines of the plain step form, unchanged, as `tally import` does."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True)
        try:
            await producer.start()
            for number, line in enumerate(lines, 1):
                headers = [(FORM_HEADER, b"plain"), (FILE_HEADER, file.encode()), (LINE_HEADER, b"%d" % number)]
                await producer.send_and_wait(
                    READ_TOPICS[0], line, headers=headers, key=json.loads(line)["run_id"].encode()
                )
        finally:
            await producer.stop()

    async def committed(self) -> None:
        """Return when Postgres holds everything that Kafka had when this was called. Raises what ended the consumer,
        TallyError after COMMIT_S."""
        ends = await self._ends()
        deadline = time.monotonic() + COMMIT_S
        async with await connect(self.url("tally_auditor"), "tally_auditor", application="tallystick demo") as conn:
            while True:
                cursor = await conn.execute("SELECT topic, partition, next_offset FROM positions")
                stored = {(row[0], row[1]): row[2] for row in await cursor.fetchall()}
                if all(stored.get(place, 0) >= end for place, end in ends.items()):
                    return
                if self._consuming.done():
                    self._consuming.result()
                if time.monotonic() > deadline:
                    raise TallyError(
                        f"the consumer did not commit everything within {COMMIT_S:.0f} s",
                        f"Read {self.home / 'demo.log'}; start again: it goes on from where it was.",
                    )
                await asyncio.sleep(LOOK_EVERY_S)

    async def _ends(self) -> dict[tuple[str, int], int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None)
        try:
            await consumer.start()
            places = [TopicPartition(topic, n) for topic in READ_TOPICS for n in range(TOPICS[topic])]
            found: dict[TopicPartition, int] = await consumer.end_offsets(places)
            return {(place.topic, place.partition): end for place, end in found.items()}
        finally:
            await consumer.stop()

    async def end_consumer(self) -> Progress:
        """Stop the consumer, cleanly: what it read is committed, and `heads` names every log's last checkpoint."""
        self._consumer.stop.set()
        return await self._consuming

    async def entries(self, tenant: Tenant) -> list[Entry]:
        """Every entry of a tenant's logs, from Postgres, in the order of the log."""
        async with await connect(self.url("tally_auditor"), "tally_auditor", application="tallystick demo") as conn:
            cursor = await conn.execute(
                "SELECT index, leaf FROM entries WHERE log = ANY(%s) ORDER BY log, index", (list(tenant.origins),)
            )
            rows = [(index, bytes(leaf)) for index, leaf in await cursor.fetchall()]
        return [Entry(index, raw, parse_leaf(raw)) for index, raw in rows]

    async def shown(self, run: str, *, with_keys: bool) -> RunShown:
        """A run as `tally show` shows it: with the key store, or as somebody who lacks it."""
        async with await connect(self.url("tally_auditor"), "tally_auditor", application="tallystick demo") as conn:
            return await show_run(conn, self.keystore if with_keys else None, run, self.tenant.tenant)


@asynccontextmanager
async def stage(home: Path, progress: Report) -> AsyncIterator[Stage]:
    """Servers, migrations, tenants, keys and the consumer, up and running. Raises TallyError, LedgerError and
    IngestError where something of it can't be had."""
    make_folder(home)
    async with contextlib.AsyncExitStack() as ending:
        servers = await ending.enter_async_context(stack(home, progress))
        pg, bootstrap = servers.pg, servers.kafka.bootstrap
        await migrate(pg.url())
        await pg.grant_logins()
        await ensure_topics(bootstrap)
        keystore = ending.enter_context(SqliteKeyStore(home / "keys"))
        keys = Keys(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())
        async with await connect(pg.url("tally_writer"), "tally_writer", application="tallystick demo") as conn:
            default, tenant = await _register(conn, keystore, keys)
        config = ConsumerConfig(pg.url("tally_writer"), bootstrap, keystore.prefix(), unauthenticated=True)
        consumer = Consumer(config, keystore)
        consuming = asyncio.create_task(consumer.run(), name="tallystick-demo-consumer")
        ending.push_async_callback(_end, consumer, consuming)
        gateway = GatewayConfig(Address.parse(ANY_PORT), Address.parse(ANY_PORT), bootstrap)
        otlp = await ending.enter_async_context(serving(gateway))
        await otlp.forward.started(COMMIT_S)
        await _ready(consumer, consuming)
        url = f"http://{otlp.http}"
        yield Stage(home, pg, bootstrap, url, keystore, tenant, default, keys, consumer, consuming)


async def _register(conn: Connection, keystore: SqliteKeyStore, keys: Keys) -> tuple[Tenant, Tenant]:
    """The tenant `default`, and one of this showing with the keys of its runtime and its reviewer."""
    registry = Registry(conn, keystore, keystore.prefix())
    appender = Appender(conn, keystore, Sealer(keystore))
    default = await registry.add_tenant(appender, "default", slug="default")
    name = f"demo-{secrets.token_hex(4)}"
    tenant = await registry.add_tenant(appender, name, slug=name)
    for key_id, key, role in (
        (PRODUCER_KEY, keys.producer, "producer"),
        (REVIEWER_KEY, keys.reviewer, "attester"),
    ):
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        await registry.add_producer_key(appender, tenant, key_id, vkey_text(key_id, public), role)
    return default, tenant


async def _ready(consumer: Consumer, consuming: asyncio.Task[Progress]) -> None:
    """Wait until the consumer has its partitions, or raise what ended it."""
    waiting = asyncio.create_task(consumer.ready.wait())
    try:
        async with asyncio.timeout(COMMIT_S):
            await asyncio.wait({waiting, consuming}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as error:
        raise TallyError(f"the consumer was given no partitions within {COMMIT_S:.0f} s", "Start again.") from error
    finally:
        waiting.cancel()
    if consuming.done():
        consuming.result()


async def _end(consumer: Consumer, consuming: asyncio.Task[Progress]) -> None:
    consumer.stop.set()
    await asyncio.wait({consuming})
    if not consuming.cancelled():
        consuming.exception()  # it was raised where it was waited for, or we are on the way out of another one
