"""`tally ingest`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.cli.output import AsJson, note, put, put_json

if TYPE_CHECKING:
    from tallystick.cli.connect import Servers

TRIES_MAX = 5  # of a command that is to end by itself


def ingest(
    until_idle: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.1, help="End when the topics are drained and nothing came for so long."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the consumer alone, as many processes as the load needs.

    What it did is printed when it ends. Failures that pass are waited out; one that can't, like a database older than
    what was published, ends it with status 2.

    \b
    Examples:
      tally ingest
      tally ingest --until-idle 5 --json
    """
    from tallystick.cli.connect import Servers
    from tallystick.cli.until_signal import until_signal
    from tallystick.logs import configure
    from tallystick.settings import load_settings

    of = Servers(load_settings())
    of.postgres_admin, of.kafka  # noqa: B018  (waited for here, before anything is imported and logged)
    configure()
    until_signal(_ingest(of, until_idle, as_json))


async def _ingest(of: Servers, until_idle_s: float | None, as_json: bool) -> None:
    from ingest.authority import CONTROL, EVENTS, FINDINGS
    from ledger.db import connect, require_migrated
    from tallystick.consume import Consuming, consumer_config
    from tallystick.errors import TallyError
    from tallystick.ledgers import open_keystore, origin_prefix
    from tallystick.servers.topics import TOPICS, answers, ensure_topics

    settings = of.settings
    async with await connect(of.postgres_admin, "tally_writer", application="tally ingest") as conn:
        await require_migrated(conn)
        keystore = await open_keystore(conn, settings)
        prefix = await origin_prefix(conn, settings, keystore)
    if not await answers(of.kafka, of.kafka_client):
        raise TallyError(
            f"Kafka at {of.kafka} does not answer, or not to this login",
            "Check that it runs, TALLY_KAFKA_BOOTSTRAP, and the other TALLY_KAFKA_… settings.",
        )
    wanted = {topic: TOPICS[topic] for topic in (EVENTS, CONTROL, FINDINGS)}
    try:
        await ensure_topics(of.kafka, wanted, replication=settings.kafka_replication, client=of.kafka_client)
    except TallyError as error:
        note(f"topics were not looked after: {error}")  # this login may only read; the operator makes them
    consuming = Consuming()
    with keystore:
        try:
            config = consumer_config(settings, of.postgres_admin, of.kafka, of.kafka_client, prefix)
            tries_max = TRIES_MAX if until_idle_s is not None else None
            await consuming.run(config, keystore, until_idle_s=until_idle_s, tries_max=tries_max)
        finally:
            done = consuming.total()
            if as_json:
                put_json(done)
            else:
                put(", ".join(f"{count:,} {name}" for name, count in done.items()))
