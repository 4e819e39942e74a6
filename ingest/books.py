"""What a consumer writes and reads beside its batches, over a connection of its own: the registry, its claims of topic
partitions, gaps in what the broker has. The other connection may be in a transaction meanwhile.

Guarantees: one thing at a time, in the order asked for. Does not: retry; its owner decides when, and calls `renew`
first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from ingest.positions import Position, claim, find_gap, record_gap
from ingest.signatures import Keys
from ledger.append import Appender
from ledger.db import Connection
from ledger.errors import DatabaseUnreachable
from ledger.keystore import KeyStore
from ledger.registry import Registry, Tenant

log = structlog.get_logger("tallystick.ingest")


class Books:
    """One consumer's books. Call `open` first."""

    def __init__(
        self,
        keystore: KeyStore,
        prefix: str,
        connect: Callable[[], Awaitable[Connection]],
        new_appender: Callable[[Connection], Appender],
    ) -> None:
        self._keystore = keystore
        self._prefix = prefix
        self._connect = connect
        self._new_appender = new_appender
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Connect, and register the logs that every ledger has. Raises DatabaseUnreachable."""
        self._write_over(await self._connect())
        await self.registry.add_log(self._appender, self.registry.system, "system")
        await self.registry.add_log(self._appender, self.registry.heads, "heads")

    def _write_over(self, conn: Connection) -> None:
        self._conn = conn
        self.registry = Registry(conn, self._keystore, self._prefix)
        self._appender = self._new_appender(conn)

    async def renew(self) -> None:
        """A new connection, where the one there is broke and Postgres answers."""
        if self._conn.broken:
            with contextlib.suppress(DatabaseUnreachable):
                self._write_over(await self._connect())

    async def read(self) -> tuple[dict[str, Tenant], Keys]:
        """The tenants and the producers' keys as they are registered now."""
        async with self._lock:
            return await self.registry.tenants(), await self.registry.producer_keys()

    async def claim(
        self,
        cluster: str,
        topic: str,
        topic_id: str | None,
        partition: int,
        offered: tuple[int, int],
        hold: Callable[[Position], None],
    ) -> None:
        """Take a topic partition over, with a `source_gap` entry where the broker no longer has its next offset.

        `offered`: the broker's first and next offset. `hold` is called before the next claim may begin: of two claims
        of a partition, the later one must be the one held.
        """
        origin = self.registry.intake(topic, partition)
        async with self._lock:
            await self.registry.add_log(self._appender, origin, "intake")
            position = await claim(self._conn, cluster, topic, topic_id, partition, origin)
            gap = find_gap(position, *offered)
            if gap is not None:
                log.error(
                    "the broker no longer has what was next; a source_gap entry says so",
                    topic=topic,
                    partition=partition,
                    first=gap.first,
                    last=gap.last,
                    cause=gap.cause,
                )
                position = await record_gap(self._conn, self._appender, position, gap)
            hold(position)
