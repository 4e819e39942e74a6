"""`tally tenant`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tallystick.cli.output import AsJson, note, put, put_json, put_table

if TYPE_CHECKING:
    from ledger.registry import Tenant
    from tallystick.cli.connect import Servers

app = typer.Typer(help="Register tenants and the keys of their producers; list them.", no_args_is_help=True)
key_app = typer.Typer(help="Keys that a tenant's producers and attesters sign with.", no_args_is_help=True)
app.add_typer(key_app, name="key")

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Its name, as events say it. Known to nobody else.")],
    slug: Annotated[
        str | None,
        typer.Option(
            help="What its logs and topics are called; fixed for ever. Random by default, so that it names nobody."
        ),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=1024, help="Logs that its runs are spread over; fixed.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Register a tenant: its logs, their keys, and its topic tally.events.<slug>. Again, it changes nothing.

    \b
    Examples:
      tally tenant add acme
      tally tenant add 'Acme GmbH' --slug acme --shards 4
    """
    from tallystick.cli.connect import servers

    found, topic = asyncio.run(_add(servers(), name, slug, shards))
    if as_json:
        put_json({**_shown(found), "topic": topic})
        return
    for origin in found.origins:
        put(origin)
    put(f"topic {topic}" if topic else f"no topic yet: make {_topic(found)} when Kafka can be reached")


async def _add(of: Servers, name: str, slug: str | None, shards: int) -> tuple[Tenant, str | None]:
    from tallystick.cli.connect import writer
    from tallystick.errors import TallyError
    from tallystick.servers.topics import TOPICS, ensure_topics

    async with writer(of) as to:
        found = await to.registry.add_tenant(to.appender, name, slug=slug, shards=shards)
    if len(found.origins) != shards and shards != 1:
        raise TallyError(f"tenant {name} is registered with {len(found.origins)} shards", "That is fixed.")
    topic = _topic(found)
    try:
        await ensure_topics(
            of.kafka,
            {topic: TOPICS["tally.events"]},
            replication=of.settings.kafka_replication,
            client=of.kafka_client,
        )
    except TallyError as error:
        note(f"the tenant is registered; its topic was not made: {error}")
        return found, None
    return found, topic


def _topic(tenant: Tenant) -> str:
    return f"tally.events.{tenant.slug}"


def _shown(tenant: Tenant) -> dict[str, Any]:
    return {"tenant": tenant.tenant, "slug": tenant.slug, "logs": list(tenant.origins)}


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tenants with their slugs and logs.

    \b
    Examples:
      tally tenant list --json
    """
    from tallystick.cli.connect import servers

    rows = asyncio.run(_list(servers()))
    if as_json:
        put_json({"tenants": rows})
    else:
        put_table(
            ("tenant", "slug", "entries", "logs"),
            [(row["tenant"], row["slug"], row["entries"], " ".join(row["logs"])) for row in rows],
            empty="no tenants yet: tally tenant add NAME",
        )


async def _list(of: Servers) -> list[dict[str, Any]]:
    from tallystick.cli.connect import auditor

    async with auditor(of) as conn:
        cursor = await conn.execute(
            "SELECT t.tenant, t.slug, coalesce(array_agg(l.log ORDER BY l.shard) FILTER (WHERE l.log IS NOT NULL),"
            " '{}'), coalesce(sum(l.tree_size), 0)::bigint FROM tenants t LEFT JOIN logs l USING (tenant)"
            " GROUP BY t.tenant, t.slug ORDER BY t.tenant"
        )
        return [
            {"tenant": tenant, "slug": slug, "entries": entries, "logs": logs}
            for tenant, slug, logs, entries in await cursor.fetchall()
        ]


@key_app.command("add")
def key_add(
    tenant: TenantName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as the header tallystick-sig names it.")],
    vkey: Annotated[
        str | None, typer.Option(metavar="VKEY", help="The verifier key, <name>+<hex>+<base64> (C2SP signed-note).")
    ] = None,
    pem: Annotated[
        str | None, typer.Option(metavar="FILE", help="Instead: a PEM file with the Ed25519 public key.")
    ] = None,
    attester: Annotated[
        bool, typer.Option("--attester", help="Of a second party that attests, not of a producer that signs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Register the key that a producer signs its events with, or an attester its attestations.

    Events it signed since are `signed` or `attested`; a producer's key also fixes their tenant.

    \b
    Examples:
      tally tenant key add acme support-1 --pem support-1.pub.pem
      tally tenant key add acme approvals --attester --vkey approvals+1a2b3c4d+AQ…
    """
    from tallystick.cli.connect import servers
    from tallystick.errors import TallyError

    if (vkey is None) == (pem is None):
        raise TallyError("the key is not given", "Give it as --vkey VKEY or --pem FILE.")
    text = vkey if vkey is not None else _vkey_of_pem(key, pem or "")
    role = "attester" if attester else "producer"
    asyncio.run(_key_add(servers(), tenant, key, text, role))
    if as_json:
        put_json({"tenant": tenant, "key": key, "vkey": text, "role": role})
    else:
        put(f"{key} of {tenant} is registered as {role}: {text}")


def _vkey_of_pem(key: str, file: str) -> str:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from ledger.note import vkey_text
    from tallystick.errors import TallyError

    try:
        public = load_pem_public_key(Path(file).read_bytes())
    except ValueError as error:
        raise TallyError(f"{file} holds no PEM public key: {error}", "Export it from the private key.") from error
    if not isinstance(public, Ed25519PublicKey):
        raise TallyError(f"{file} holds a key of another kind", "Use Ed25519.")
    return vkey_text(key, public.public_bytes_raw())


async def _key_add(of: Servers, tenant: str, key: str, vkey: str, role: str) -> None:
    from tallystick.cli.connect import writer
    from tallystick.errors import TallyError

    async with writer(of) as to:
        found = (await to.registry.tenants()).get(tenant)
        if found is None:
            raise TallyError(f"no tenant {tenant} is registered", f"Register it: tally tenant add {tenant}")
        await to.registry.add_producer_key(to.appender, found, key, vkey, role)


@key_app.command("list")
def key_list(tenant: TenantName, as_json: AsJson = False) -> None:
    """List the keys of a tenant's producers and attesters.

    \b
    Examples:
      tally tenant key list acme
    """
    from tallystick.cli.connect import servers

    rows = asyncio.run(_key_list(servers(), tenant))
    if as_json:
        put_json({"tenant": tenant, "keys": rows})
    else:
        put_table(
            ("key", "role", "vkey"),
            [(row["key"], row["role"], row["vkey"]) for row in rows],
            empty=f"no keys of {tenant} are registered",
        )


async def _key_list(of: Servers, tenant: str) -> list[dict[str, str]]:
    from tallystick.cli.connect import auditor

    async with auditor(of) as conn:
        cursor = await conn.execute(
            "SELECT key, role, vkey FROM producer_keys WHERE tenant = %s ORDER BY key", (tenant,)
        )
        return [{"key": key, "role": role, "vkey": vkey} for key, role, vkey in await cursor.fetchall()]
