"""`tally otlp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.output import AsJson, note, put, put_json, put_table

if TYPE_CHECKING:
    from tallystick.cli.connect import Servers

app = typer.Typer(invoke_without_command=True)
token_app = typer.Typer(
    help="Bearer tokens: who a sender of OTLP is. A running gateway notices changes within a second.",
    no_args_is_help=True,
)
app.add_typer(token_app, name="token")


@app.callback()
def otlp(context: typer.Context) -> None:
    """Run the OTLP gateway alone: it takes traces and logs and sends them to Kafka.

    It listens on TALLY_OTLP_HTTP (127.0.0.1:4318) and TALLY_OTLP_GRPC (127.0.0.1:4317). As soon as one of them isn't a
    loopback address, senders need a token: see `tally otlp token add`. A request is acknowledged when Kafka has it.

    \b
    Examples:
      tally otlp
      TALLY_KAFKA_BOOTSTRAP=kafka:9092 TALLY_OTLP_HTTP=0.0.0.0:4318 tally otlp
      tally otlp token add acme
    """
    if context.invoked_subcommand is not None:
        return
    from tallystick.cli.connect import Servers
    from tallystick.cli.until_signal import until_signal
    from tallystick.logs import configure
    from tallystick.settings import load_settings

    of = Servers(load_settings())
    of.kafka  # noqa: B018  (waited for here, before anything is imported and logged)
    configure()
    until_signal(_serve(of))


async def _serve(of: Servers) -> None:
    from ingest.otlp.forward import TOPICS as GATEWAY_TOPICS
    from tallystick.errors import TallyError
    from tallystick.otlp import gateway, say_taken
    from tallystick.servers.topics import TOPICS, answers, ensure_topics

    settings = of.settings
    if not await answers(of.kafka, of.kafka_client):
        raise TallyError(
            f"Kafka at {of.kafka} does not answer, or not to this login",
            "Check that it runs, TALLY_KAFKA_BOOTSTRAP, and the other TALLY_KAFKA_… settings.",
        )
    try:
        wanted = {topic: TOPICS[topic] for topic in GATEWAY_TOPICS.values()}
        await ensure_topics(of.kafka, wanted, replication=settings.kafka_replication, client=of.kafka_client)
    except TallyError as error:
        note(f"topics were not looked after: {error}")  # this login may only write; the operator makes them
    async with gateway(settings, of.kafka, of.kafka_client, note, may_move=False) as served:
        note(f"OTLP at http://{served.http} and gRPC at {served.grpc} ({served.guarded}), to Kafka at {of.kafka}")
        await say_taken(served, note)


@token_app.command("add")
def token_add(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The tenant whose the sender's spans are.")],
    as_json: AsJson = False,
) -> None:
    """Make a token for a tenant and print it, this once: only its hash is kept.

    Senders give it as `Authorization: Bearer TOKEN`. From the first token on, every sender needs one. A tenant that
    isn't registered is refused, where the database can be asked.

    \b
    Examples:
      tally otlp token add acme
      OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20$(tally otlp token add acme)"
    """
    import asyncio
    import shlex

    from tallystick.errors import TallyError
    from tallystick.logs import silence
    from tallystick.otlp import Unchecked, add_token, is_registered, list_tokens
    from tallystick.settings import load_settings

    silence()
    settings = load_settings()
    file = settings.otlp_tokens_file
    first = not list_tokens(file)
    try:
        if not asyncio.run(is_registered(settings, tenant)):
            fix = f"Register it first: tally tenant add {shlex.quote(tenant)}"
            raise TallyError(f"no tenant {tenant} is registered", fix)
    except Unchecked as error:
        note(f"whether the tenant {tenant} is registered could not be checked ({error}); if not: tally tenant add")
    token, known = add_token(file, tenant)
    if as_json:
        put_json({"token": token, "id": known.id, "tenant": tenant, "file": str(file)})
        return
    put(token)
    note(f"token {known.id} of {tenant}; its hash is in {file}")
    if first:
        note("this is the first token: within a second every sender of a gateway that reads this file needs one")


@token_app.command("list")
def token_list(as_json: AsJson = False) -> None:
    """List the tokens: their ids, tenants, and when they were made.

    \b
    Examples:
      tally otlp token list --json
    """
    from tallystick.otlp import list_tokens
    from tallystick.settings import load_settings

    rows = list_tokens(load_settings().otlp_tokens_file)
    if as_json:
        put_json({"tokens": [{"id": row.id, "tenant": row.tenant, "created": row.created} for row in rows]})
    else:
        put_table(
            ("id", "tenant", "created"),
            [(row.id, row.tenant, row.created) for row in rows],
            empty="no tokens: tally otlp token add TENANT",
        )


@token_app.command("remove")
def token_remove(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `tally otlp token list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a token: within a second it lets nobody in.

    Without the last one nobody can send at all: that closes a gateway, it doesn't open it. To let anybody on this
    machine send without a token again, delete the file and start the gateway again.

    \b
    Examples:
      tally otlp token remove 3f9a1c0b2d4e
    """
    from tallystick.otlp import list_tokens, remove_token
    from tallystick.settings import load_settings

    file = load_settings().otlp_tokens_file
    removed = remove_token(file, token_id)
    if as_json:
        put_json({"removed": removed.id, "tenant": removed.tenant})
    else:
        put(f"token {removed.id} of {removed.tenant} is removed")
    if not list_tokens(file):
        note("that was the last one: nobody can send now. Add one, or, to serve this machine without tokens again,")
        note(f"delete {file} and start the gateway again")
