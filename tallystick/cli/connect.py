"""Where a command finds Postgres, Kafka, the key store and the origin prefix.

Addresses that are set count; else those of the home's `tally up`, which is waited for while it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tallystick.cli.output import note
from tallystick.endpoints import Endpoints, announced, find_endpoints
from tallystick.errors import TallyError

if TYPE_CHECKING:
    from ledger.append import Appender
    from ledger.db import Connection
    from ledger.keystore import SqliteKeyStore
    from ledger.registry import Registry
    from tallystick.settings import Settings


@dataclass(slots=True)
class Servers:
    """The servers that a command's settings mean. Asked for one by one, so that none is waited for in vain."""

    settings: Settings
    _found: Endpoints | None = field(default=None)

    @property
    def postgres(self) -> str:
        """A URL to connect with and act as the auditor."""
        return self._set_postgres or self._endpoints.postgres

    @property
    def postgres_admin(self) -> str:
        """A URL to connect with and act as the writer, or as an administrator."""
        url = self._set_postgres or self._endpoints.postgres_admin
        if url is None:
            raise TallyError(
                "this `tally up` serves a Postgres of yours, and only you know its logins",
                "Set TALLY_POSTGRES_URL to one that may do this.",
            )
        return url

    @property
    def kafka(self) -> str:
        """host:port,… of Kafka."""
        return self.settings.kafka_bootstrap or self._endpoints.kafka

    @property
    def kafka_client(self) -> dict[str, Any]:
        """Security settings for aiokafka's clients. The embedded Kafka has none."""
        return self.settings.kafka_client() if self.settings.kafka_bootstrap is not None else {}

    @property
    def own_kafka(self) -> bool:
        """Whether Kafka is the embedded one: loopback only, whoever sends may name a tenant."""
        return self.settings.kafka_bootstrap is None

    def ingest_ended(self) -> str | None:
        """Why nothing is appended any more, if so. Of a Kafka of one's own nobody knows: others may consume it."""
        found = announced(self.settings) if self.own_kafka else None
        return found.ingest_ended if found is not None else None

    @property
    def _set_postgres(self) -> str | None:
        url = self.settings.postgres_url
        return url.get_secret_value() if url is not None else None

    @property
    def _endpoints(self) -> Endpoints:
        if self._found is None:
            self._found = find_endpoints(self.settings, note)
        return self._found


def servers() -> Servers:
    """The servers of this command's settings. Also keeps libraries from talking into its output."""
    from tallystick.logs import silence
    from tallystick.settings import load_settings

    silence()
    return Servers(load_settings())


@asynccontextmanager
async def auditor(of: Servers) -> AsyncIterator[Connection]:
    """A connection that reads all and writes nothing, to a database with a ledger."""
    from ledger.db import connect, require_migrated

    async with await connect(of.postgres, "tally_auditor", application="tally") as conn:
        await require_migrated(conn)
        yield conn


@dataclass(frozen=True, slots=True)
class Writer:
    """What registering needs."""

    conn: Connection
    keystore: SqliteKeyStore
    registry: Registry
    appender: Appender


@asynccontextmanager
async def writer(of: Servers) -> AsyncIterator[Writer]:
    """A connection that may append, with the key store and the registry."""
    from ledger.append import Appender
    from ledger.db import connect, require_migrated
    from ledger.registry import Registry
    from ledger.seal import Sealer
    from tallystick.ledgers import open_keystore, origin_prefix

    async with await connect(of.postgres_admin, "tally_writer", application="tally") as conn:
        await require_migrated(conn)
        with await open_keystore(conn, of.settings) as keystore:
            prefix = await origin_prefix(conn, of.settings, keystore)
            yield Writer(conn, keystore, Registry(conn, keystore, prefix), Appender(conn, keystore, Sealer(keystore)))


def keystore_to_read(settings: Settings) -> SqliteKeyStore:
    """The key store that is there. Raises KeyStoreMissing."""
    from ledger.keystore import SqliteKeyStore

    return SqliteKeyStore(settings.keys, create=False)
