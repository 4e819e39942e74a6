"""What is configured, reachable and behind: the checks of `tally doctor`.

Each is made by itself, so that one that fails hides no other that could be made. Reads only.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Literal

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import AuthenticationFailedError, KafkaError

from ingest.authority import TOPIC_PATTERN
from ingest.otlp.address import Address
from ledger.db import Connection, connect, require_migrated
from ledger.errors import KeyStoreError, KeyStoreMissing, LedgerError
from ledger.keystore import SqliteKeyStore
from tallystick.endpoints import Endpoints, announced, running_up
from tallystick.errors import TallyError
from tallystick.otlp import list_tokens
from tallystick.settings import OTLP_GRPC, OTLP_HTTP, Settings

HEADS_BEHIND_S = 60.0
FREE_BYTES_MIN = 1 << 30
REQUEST_MS = 5_000
LISTENS_S = 3.0
_REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (where an address that means all is reached)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `note`: worth knowing, nothing wrong."""

    name: str
    state: Literal["ok", "note", "failed"]
    detail: str
    fix: str = ""


async def examine(settings: Settings) -> list[Check]:
    """All checks, in the order a person would make them."""
    checks = [_home(settings), _up(settings)]
    found = announced(settings)
    set_url = settings.postgres_url
    postgres = set_url.get_secret_value() if set_url is not None else found.postgres if found is not None else None
    kafka = settings.kafka_bootstrap or (found.kafka if found is not None else None)
    keystore = _keystore(settings, checks)
    try:
        offsets = await _postgres(postgres, keystore, checks)
        await _kafka(kafka, settings, offsets, checks)
        await _otlp(settings, found, checks)
    finally:
        if keystore is not None:
            keystore.close()
    return checks


def _home(settings: Settings) -> Check:
    home = settings.home
    if not home.exists():
        return Check("home", "note", f"{home} is not there yet; `tally up` makes it")
    free = shutil.disk_usage(home).free
    if free < FREE_BYTES_MIN:
        return Check("home", "failed", f"{home}: {free >> 20:,} MiB are free on its disk", "Free some space there.")
    return Check("home", "ok", f"{home}, {free >> 30:,} GiB free")


def _up(settings: Settings) -> Check:
    owner = running_up(settings)
    if owner is None:
        needed = settings.postgres_url is None or settings.kafka_bootstrap is None
        fix = "Start it with `tally up`, or set TALLY_POSTGRES_URL and TALLY_KAFKA_BOOTSTRAP." if needed else ""
        return Check("tally up", "failed" if needed else "note", "does not run in this home", fix)
    found = announced(settings)
    if found is not None and found.ingest_ended is not None:
        fix = "`tally verify` says what is wrong; see docs/operations.md."
        return Check("tally up", "failed", f"nothing is appended any more: {found.ingest_ended}", fix)
    ready = found is not None
    return Check("tally up", "ok" if ready else "note", f"process {owner} is {'ready' if ready else 'starting'}")


def _keystore(settings: Settings, checks: list[Check]) -> SqliteKeyStore | None:
    try:
        keystore = SqliteKeyStore(settings.keys, create=False)
    except KeyStoreMissing:
        checks.append(
            Check(
                "key store",
                "failed",
                f"there is none at {settings.keys}",
                "Start the ledger once, or set TALLY_KEYSTORE.",
            )
        )
        return None
    except KeyStoreError as error:
        checks.append(Check("key store", "failed", str(error)))
        return None
    checks.append(Check("key store", "ok", f"{settings.keys}, keys of {len(keystore.origins())} logs"))
    return keystore


Offsets = dict[tuple[str, int], int]


async def _postgres(url: str | None, keystore: SqliteKeyStore | None, checks: list[Check]) -> Offsets | None:
    """The stored offsets, where the database could be asked."""
    if url is None:
        checks.append(Check("Postgres", "failed", "no address is known"))
        return None
    address = psycopg.conninfo.conninfo_to_dict(url)
    where = f"{address.get('host', 'local')}:{address.get('port', 5432)}/{address.get('dbname', '')}"
    try:
        async with await connect(url, "tally_auditor", application="tally doctor") as conn:
            await require_migrated(conn)
            checks.append(Check("Postgres", "ok", where))
            await _durability(conn, checks)
            await _logs(conn, keystore, checks)
            cursor = await conn.execute("SELECT topic, partition, next_offset FROM positions")
            return {(topic, partition): offset for topic, partition, offset in await cursor.fetchall()}
    except (LedgerError, psycopg.Error) as error:
        checks.append(Check("Postgres", "failed", f"{where}: {str(error).strip().splitlines()[0]}"))
        return None


async def _durability(conn: Connection, checks: list[Check]) -> None:
    off = []
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        cursor = await conn.execute("SELECT current_setting(%s)", (setting,))
        row = await cursor.fetchone()
        if row is None or row[0] == "off":
            off.append(setting)
    if off:
        checks.append(
            Check("durability", "failed", f"{', '.join(off)} is off: what is acknowledged may be lost", "Turn it on.")
        )
    else:
        checks.append(Check("durability", "ok", "fsync, full_page_writes, synchronous_commit are on"))


async def _logs(conn: Connection, keystore: SqliteKeyStore | None, checks: list[Check]) -> None:
    cursor = await conn.execute(
        "SELECT log, class, tree_size, extract(epoch FROM clock_timestamp() - recorded)::float8 FROM logs ORDER BY log"
    )
    rows = await cursor.fetchall()
    tenants = sum(1 for row in rows if row[1] == "tenant")
    entries = sum(row[2] for row in rows)
    state: Literal["ok", "note"] = "ok" if rows else "note"
    checks.append(Check("logs", state, f"{len(rows)} logs, {tenants} of tenants, {entries:,} entries"))
    await _heads(conn, checks)
    if keystore is not None:
        _published(rows, keystore, checks)


async def _heads(conn: Connection, checks: list[Check]) -> None:
    cursor = await conn.execute(
        "SELECT count(*), max(extract(epoch FROM clock_timestamp() - l.recorded))::float8 FROM logs l"
        " LEFT JOIN published_sizes p ON p.log = l.log"
        " WHERE l.class <> 'heads' AND l.tree_size > coalesce(p.tree_size, 0)"
    )
    row = await cursor.fetchone()
    behind, age = (row[0], row[1] or 0.0) if row is not None else (0, 0.0)
    if not behind:
        checks.append(Check("heads", "ok", "names the newest checkpoint of every log"))
    elif age < HEADS_BEHIND_S:
        checks.append(Check("heads", "ok", f"{behind} logs grew {age:.0f} s ago and are not in it yet"))
    else:
        checks.append(
            Check(
                "heads",
                "failed",
                f"{behind} logs are not in it for {age:.0f} s",
                "Is a consumer running? It publishes.",
            )
        )
    checks.append(Check("witnesses", "note", "none: there is nothing yet that cosigns `heads`"))


def _published(rows: list[tuple[Any, ...]], keystore: SqliteKeyStore, checks: list[Check]) -> None:
    """Logs that are behind what was published of them, and logs without keys here."""
    sizes = {row[0]: row[2] for row in rows}
    cut = [p.origin for p in keystore.all_published() if p.origin in sizes and sizes[p.origin] < p.tree_size]
    gone = [p.origin for p in keystore.all_published() if p.origin not in sizes]
    keyless = sorted(sizes.keys() - set(keystore.origins()))
    if cut or gone:
        checks.append(
            Check(
                "published",
                "failed",
                f"behind what was published, or gone: {', '.join(cut + gone)}",
                "Stop writers; see docs/operations.md, Backup and restore.",
            )
        )
    if keyless:
        checks.append(
            Check("keys", "failed", f"no signing key here of {', '.join(keyless)}", "Is this the right TALLY_KEYSTORE?")
        )


async def _otlp(settings: Settings, found: Endpoints | None, checks: list[Check]) -> None:
    """The gateway of the home's `tally up`, else one where the settings say: whether it listens, and to whom."""
    http, grpc = settings.otlp_http or OTLP_HTTP, settings.otlp_grpc or OTLP_GRPC
    ours = found is not None
    if found is not None:
        http, grpc = (found.otlp_http or http).removeprefix("http://"), found.otlp_grpc or grpc
    silent = [address for address in (http, grpc) if not await _listens(Address.parse(address))]
    where = f"http://{http} and gRPC at {grpc}"
    if silent and ours:
        detail = f"nothing listens at {' and '.join(silent)}"
        checks.append(Check("OTLP gateway", "failed", detail, "End `tally up` and start it again."))
        return
    if silent:
        checks.append(Check("OTLP gateway", "note", f"nothing listens at {' and '.join(silent)}"))
        return
    if not ours:
        checks.append(Check("OTLP gateway", "note", f"something listens at {where}, not this home's `tally up`"))
        return
    try:
        known = len(list_tokens(settings.otlp_tokens_file))
    except TallyError as error:
        checks.append(Check("OTLP gateway", "failed", f"{where}: nobody is let in: {error.message}", error.fix))
        return
    if known:
        checks.append(Check("OTLP gateway", "ok", f"{where}, with tokens ({known})"))
    elif settings.otlp_tokens_file.exists():
        fix = f"Add one, or delete {settings.otlp_tokens_file} and start again to serve this machine without."
        checks.append(Check("OTLP gateway", "failed", f"{where}: nobody is let in, no token is left", fix))
    else:
        checks.append(_without_file(await asyncio.to_thread(_asked, Address.parse(http)), where, settings))


def _without_file(status: int | None, where: str, settings: Settings) -> Check:
    """What a gateway's answer to nobody in particular means, where no file of tokens is."""
    file = settings.otlp_tokens_file
    if status == HTTPStatus.OK:
        return Check("OTLP gateway", "ok", f"{where}, open to this machine without tokens")
    if status == HTTPStatus.UNAUTHORIZED:
        return Check("OTLP gateway", "ok", f"{where}, with tokens of another file than {file}")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        detail = f"{where}: it began with tokens, and {file} is gone: nobody is let in"
        fix = "Put the file back, or add a token. One that is started again without the file serves this machine only."
        return Check("OTLP gateway", "failed", detail, fix)
    told = "does not answer" if status is None else f"answers {status}"
    return Check("OTLP gateway", "failed", f"{where}: it {told}", "End `tally up` and start it again.")


def _asked(address: Address) -> int | None:
    """The status that a gateway answers a request without a token with: metrics, none at all, which need no Kafka."""
    connection = HTTPConnection(_REACHED.get(address.host, address.host), address.port, timeout=LISTENS_S)
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/v1/metrics", headers={"Content-Type": "application/x-protobuf"})
            return connection.getresponse().status
        except (OSError, HTTPException):
            return None


async def _listens(address: Address) -> bool:
    host = _REACHED.get(address.host, address.host)
    try:
        async with asyncio.timeout(LISTENS_S):
            _, writer = await asyncio.open_connection(host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _kafka(bootstrap: str | None, settings: Settings, offsets: Offsets | None, checks: list[Check]) -> None:
    if bootstrap is None:
        checks.append(Check("Kafka", "failed", "no address is known"))
        return
    try:
        client = settings.kafka_client() if settings.kafka_bootstrap is not None else {}
    except TallyError as error:
        checks.append(Check("Kafka", "failed", error.message, error.fix))
        return
    try:
        ends = await _end_offsets(bootstrap, client)
    except (KafkaError, OSError) as error:
        fix = "Check that it runs and is not frozen or overloaded, and TALLY_KAFKA_BOOTSTRAP."
        said = "does not take this login" if isinstance(error, AuthenticationFailedError) else "does not answer"
        checks.append(Check("Kafka", "failed", f"{bootstrap} {said}", fix))
        return
    topics = {tp.topic for tp in ends}
    if "tally.events" not in topics:
        checks.append(
            Check("Kafka", "failed", f"{bootstrap} has no topic tally.events", "`tally up` or `tally ingest` makes it.")
        )
        return
    checks.append(Check("Kafka", "ok", f"{bootstrap}, {len(topics)} topics with {len(ends)} partitions"))
    if offsets is None:
        return
    behind = {tp: end - offsets.get((tp.topic, tp.partition), 0) for tp, end in ends.items()}
    lag = sum(count for count in behind.values() if count > 0)
    lost = [f"{tp.topic}/{tp.partition}" for tp, count in behind.items() if count < 0]
    checks.append(Check("lag", "ok" if not lag else "note", f"{lag:,} records are not appended yet"))
    if lost:
        checks.append(
            Check(
                "offsets",
                "failed",
                f"Kafka has fewer records than were stored in {', '.join(lost)}",
                "Was a topic made anew?",
            )
        )


async def _end_offsets(bootstrap: str, client: dict[str, Any]) -> dict[TopicPartition, int]:
    """The end offset of each partition of the topics that a consumer reads."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS, **client)
    try:
        await admin.start()
        topics = [topic for topic in await admin.list_topics() if re.fullmatch(TOPIC_PATTERN, topic)]
        described = await admin.describe_topics(topics) if topics else []
    finally:
        await admin.close()
    partitions = [TopicPartition(topic["topic"], p["partition"]) for topic in described for p in topic["partitions"]]
    if not partitions:
        return {}
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS, **client) as consumer:
        return dict(await consumer.end_offsets(partitions))
