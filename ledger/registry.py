"""Which logs there are: tenants with their shards, intake logs, `_system` and `heads`.

Guarantees: a log's key is durable in the key store before its first entry; index 0 of a tenant's log is its `tenant`
entry; registering twice changes nothing. Names come from the configured prefix (log-format.md, "Logs").
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from ledger.append import Appender
from ledger.db import Connection
from ledger.errors import TenantError
from ledger.keystore import KeyStore
from ledger.note import parse_vkey
from ledger.seal import Pending, ledger_event

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PREFIX = re.compile(r"[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)*")
TENANT_NAME_MAX = 128  # as in events
RESERVED_SLUGS = frozenset({"heads"})


@dataclass(frozen=True, slots=True)
class Tenant:
    """A registered tenant. `origins` are its logs, shard 0 first; shard 0 holds the entries of no run."""

    tenant: str
    slug: str
    origins: tuple[str, ...]

    def origin_of(self, source_partition: int) -> str:
        """The log of a run that is first seen in this source partition."""
        return self.origins[source_partition % len(self.origins)]


class Registry:
    """The logs under one prefix."""

    def __init__(self, conn: Connection, keystore: KeyStore, prefix: str) -> None:
        if not PREFIX.fullmatch(prefix):
            raise TenantError(
                f"the origin prefix {prefix!r} is not like ledger.example.org (no scheme, no final slash)"
            )
        self._conn = conn
        self._keystore = keystore
        self.prefix = prefix

    @property
    def heads(self) -> str:
        """The origin of the log that names every other log's newest checkpoint."""
        return f"{self.prefix}/heads"

    @property
    def system(self) -> str:
        """The origin of the log of the ledger's own keys and operators' acts."""
        return f"{self.prefix}/_system"

    def intake(self, topic: str, partition: int) -> str:
        """The origin of a topic partition's accounts."""
        return f"{self.prefix}/_intake/{topic}/{partition}"

    async def tenants(self) -> dict[str, Tenant]:
        """Every registered tenant by name, once its logs have their `tenant` entry."""
        cursor = await self._conn.execute(
            "SELECT t.tenant, t.slug, array_agg(l.log ORDER BY l.shard) FROM tenants t JOIN logs l USING (tenant)"
            " GROUP BY t.tenant, t.slug HAVING count(*) = max(t.shards) AND min(l.tree_size) > 0 ORDER BY t.tenant"
        )
        return {row[0]: Tenant(row[0], row[1], tuple(row[2])) for row in await cursor.fetchall()}

    async def add_log(self, appender: Appender, origin: str, class_: str) -> None:
        """Make sure that a log of no tenant is there, and that `_system` names its key."""
        if origin != self.system:
            if await self._has_log(origin):
                return
            await self.add_log(appender, self.system, "system")
            await self._record_key(appender, origin)
            await self._insert_log(origin, class_, None, 0)
        elif not await self._has_log(origin, begun=True):
            await self._insert_log(origin, class_, None, 0)
            await self._record_key(appender, origin)

    async def add_tenant(self, appender: Appender, tenant: str, *, slug: str | None = None, shards: int = 1) -> Tenant:
        """Register a tenant, or return it as it is registered. Raises TenantError where the two disagree.

        Interrupted at any point, the same call finishes it.
        """
        _check_name(tenant)
        if slug is not None and (not SLUG.fullmatch(slug) or slug in RESERVED_SLUGS):
            raise TenantError(f"slug {slug!r}: expected [a-z0-9][a-z0-9-]{{0,62}}, and not `heads`")
        await self.add_log(appender, self.system, "system")
        await self._conn.execute(
            "INSERT INTO tenants (tenant, slug, shards) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (tenant, slug or f"t-{secrets.token_hex(8)}", shards),
        )
        cursor = await self._conn.execute("SELECT slug, shards FROM tenants WHERE tenant = %s", (tenant,))
        row = await cursor.fetchone()
        if row is None:
            raise TenantError(f"slug {slug!r} is another tenant's")
        found_slug, found_shards = row
        if slug is not None and slug != found_slug:
            raise TenantError(f"tenant {tenant} is registered with slug {found_slug}, which is fixed")
        origins = [self._origin(found_slug, shard) for shard in range(found_shards)]
        for shard, origin in enumerate(origins):
            if await self._has_log(origin, begun=True):
                continue
            await self._record_key(appender, origin)
            await self._insert_log(origin, "tenant", tenant, shard)
            await self._append_tenant_entry(appender, tenant, found_slug, origin)
        return Tenant(tenant, found_slug, tuple(origins))

    async def add_producer_key(self, appender: Appender, tenant: Tenant, key: str, vkey: str, role: str) -> None:
        """Register the key that a producer signs with, or an attester. Raises TenantError, MalformedNote."""
        parse_vkey(vkey)
        origin = tenant.origins[0]
        source = {"ledger": f"producer_key/{tenant.slug}/{key}"}
        cursor = await self._conn.execute(
            "SELECT vkey, role FROM producer_keys WHERE tenant = %s AND key = %s", (tenant.tenant, key)
        )
        row = await cursor.fetchone()
        if row is not None and tuple(row) != (vkey, role):
            raise TenantError(f"key {key} of {tenant.tenant} is registered with another value or role")
        event = ledger_event("producer_key", source, data={"key": key, "vkey": vkey, "role": role})
        await append_pending(appender, Pending(event, tenant.tenant, origin, source))
        await self._conn.execute(
            "INSERT INTO producer_keys (tenant, key, vkey, role) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (tenant.tenant, key, vkey, role),
        )

    async def producer_keys(self) -> dict[tuple[str, str], tuple[str, str]]:
        """(tenant, key) to (verifier key, role)."""
        cursor = await self._conn.execute("SELECT tenant, key, vkey, role FROM producer_keys")
        return {(row[0], row[1]): (row[2], row[3]) for row in await cursor.fetchall()}

    def _origin(self, slug: str, shard: int) -> str:
        return f"{self.prefix}/{slug}" if shard == 0 else f"{self.prefix}/{slug}/{shard}"

    async def _has_log(self, origin: str, *, begun: bool = False) -> bool:
        cursor = await self._conn.execute("SELECT tree_size FROM logs WHERE log = %s", (origin,))
        row = await cursor.fetchone()
        return row is not None and (not begun or row[0] > 0)

    async def _insert_log(self, origin: str, class_: str, tenant: str | None, shard: int) -> None:
        await self._conn.execute(
            "INSERT INTO logs (log, class, tenant, shard) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (origin, class_, tenant, shard),
        )

    async def _append_tenant_entry(self, appender: Appender, tenant: str, slug: str, origin: str) -> None:
        source = {"ledger": f"tenant/{origin}"}
        event = ledger_event("tenant", source, data={"slug": slug}, persons=[("/name", tenant)])
        await append_pending(appender, Pending(event, tenant, origin, source))

    async def _record_key(self, appender: Appender, origin: str) -> None:
        self._keystore.create_signer(origin)
        vkey = self._keystore.vkeys(origin)[0]
        source = {"ledger": f"key_rotated/{origin}/0"}
        event = ledger_event("key_rotated", source, data={"new": vkey})
        await append_pending(appender, Pending(event, "", self.system, source))


async def append_pending(appender: Appender, *pendings: Pending) -> None:
    """Seal and append entries of the ledger's own; those that are there already are left as they are."""
    appender.prepare(pendings)
    await appender.append([appender.seal(pending) for pending in pendings])


def _check_name(tenant: str) -> None:
    if not 1 <= len(tenant) <= TENANT_NAME_MAX or not tenant.isprintable():
        raise TenantError(f"a tenant's name is 1 to {TENANT_NAME_MAX} printable characters")
