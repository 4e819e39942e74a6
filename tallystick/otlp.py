"""The OTLP gateway under these settings: its addresses, its tokens, and the file that holds them.

Guarantees: a default port that is taken is left to whoever has it, and a free one is used, said, and used again at the
next start; an address that was asked for is used, or nothing is. A file of tokens is written whole or not at all,
for its owner only.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psycopg

from ingest.otlp import tokens
from ingest.otlp.address import Address
from ingest.otlp.gateway import CantListen, GatewayConfig, Serving, serving
from ingest.otlp.tokens import Token, TokensUnreadable
from ledger.db import connect
from ledger.errors import LedgerError
from tallystick.endpoints import announced
from tallystick.errors import TallyError
from tallystick.servers import ports
from tallystick.servers.home import make_folder, write_atomically
from tallystick.servers.progress import silent
from tallystick.settings import OTLP_GRPC, OTLP_HTTP, Settings

TRIES_MAX = 6
TOLD_EVERY_S = 10.0
_WORDS = {"data_points": "data points", "refused": "told to come again", "wrong": "refused for good"}


class Unchecked(Exception):  # noqa: N818 - says what happened
    """Nobody could be asked."""


@asynccontextmanager
async def gateway(
    settings: Settings, bootstrap: str, client: Mapping[str, Any], say: Callable[[str], None], *, may_move: bool
) -> AsyncIterator[Serving]:
    """The gateway, answering, until left. `may_move`: whether a default port that is taken gives way to a free one.

    Raises TallyError.
    """
    config = GatewayConfig(
        http=Address.parse(settings.otlp_http or OTLP_HTTP),
        grpc=Address.parse(settings.otlp_grpc or OTLP_GRPC),
        bootstrap=bootstrap,
        kafka=client,
        tokens=settings.otlp_tokens_file,
        tokens_needed=settings.otlp_tokens is not None,
        default_tenant=settings.otlp_tenant,
    )
    async with AsyncExitStack() as ending:
        served = await _served(ending, settings, config, TRIES_MAX if may_move else 1)
        for name, wanted, got in (("http", config.http, served.http), ("grpc", config.grpc, served.grpc)):
            if wanted.port and got != wanted:
                make_folder(_port_file(settings, name).parent)
                write_atomically(_port_file(settings, name), f"{got.port}\n")
                say(f"{wanted} belongs to another program, which gets what is sent there; send OTLP to {got} instead")
        yield served


async def _served(ending: AsyncExitStack, settings: Settings, config: GatewayConfig, tries: int) -> Serving:
    try:
        return await ending.enter_async_context(serving(config))
    except CantListen as error:
        moved = _moved(settings, config, error) if tries > 1 else None
        if moved is None:
            raise TallyError(f"OTLP can't be served at {error}", _fix(error)) from error
    except TokensUnreadable as error:
        fix = "Correct the file, or set TALLY_OTLP_TOKENS to another."
        raise TallyError(f"the tokens of OTLP can't be used: {error}", fix) from error
    return await _served(ending, settings, moved, tries - 1)


async def say_taken(served: Serving, say: Callable[[str], None]) -> None:
    """Say every TOLD_EVERY_S what came, where anything did. Until cancelled."""
    before, at = asdict(served.counts), time.monotonic()
    while True:
        await asyncio.sleep(TOLD_EVERY_S)
        now, elapsed = asdict(served.counts), time.monotonic() - at
        told = [f"{_WORDS.get(name, name)} {now[name] - before[name]:,}" for name in now if now[name] != before[name]]
        if told:
            say(f"OTLP in {elapsed:.0f} s: {', '.join(told)}")
        before, at = now, time.monotonic()


def _moved(settings: Settings, config: GatewayConfig, error: CantListen) -> GatewayConfig | None:
    """The configuration with another port in the place of a default one that is taken: the one that this home moved to
    before, where that is free, else any."""
    if not error.taken:
        return None
    for name, address, chosen, default in (
        ("http", config.http, settings.otlp_http, OTLP_HTTP),
        ("grpc", config.grpc, settings.otlp_grpc, OTLP_GRPC),
    ):
        if error.address == str(address) and chosen is None:
            attempt = 0 if str(address) == default else 1
            port = ports.choose("OTLP", _port_file(settings, name), None, attempt, silent)
            return replace(config, **{name: Address(ports.LOOPBACK, port)})  # type: ignore[arg-type]
    return None


def _port_file(settings: Settings, name: str) -> Path:
    return settings.home / f"otlp-{name}" / "port"


def _fix(error: CantListen) -> str:
    if error.taken:
        return "End the program that has it, or set TALLY_OTLP_HTTP and TALLY_OTLP_GRPC to other addresses."
    if error.unguarded:
        return "Make a token for each tenant: tally otlp token add TENANT; or listen on 127.0.0.1."
    return "Set TALLY_OTLP_HTTP and TALLY_OTLP_GRPC to addresses of this machine."


async def is_registered(settings: Settings, tenant: str) -> bool:
    """Whether a tenant is registered in the database of the settings, or of the home's `tally up`. Raises Unchecked."""
    found = announced(settings)
    set_url = settings.postgres_url
    url = set_url.get_secret_value() if set_url is not None else found.postgres if found is not None else None
    if url is None:
        raise Unchecked("no `tally up` is ready in this home, and TALLY_POSTGRES_URL isn't set")
    try:
        async with await connect(url, "tally_auditor", application="tally otlp token") as conn:
            cursor = await conn.execute("SELECT 1 FROM tenants WHERE tenant = %s", (tenant,))
            return await cursor.fetchone() is not None
    except (LedgerError, psycopg.Error) as error:
        raise Unchecked(str(error).strip().partition("\n")[0]) from error


def add_token(file: Path, tenant: str) -> tuple[str, Token]:
    """Make a token for a tenant and keep its hash: (the token, what is kept). Raises TallyError."""
    with _changing(file) as kept:
        token, known = tokens.made(tenant, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        kept.append(known)
        return token, known


def remove_token(file: Path, token_id: str) -> Token:
    """Remove the token of that id: within a second it lets nobody in. Raises TallyError."""
    with _changing(file) as kept:
        for known in kept:
            if known.id == token_id:
                kept.remove(known)
                return known
        raise TallyError(f"no token {token_id} is in {file}", "See `tally otlp token list`.")


def list_tokens(file: Path) -> list[Token]:
    """What is kept of the tokens; none where there is no file. Raises TallyError."""
    try:
        return tokens.read(file) if file.exists() else []
    except TokensUnreadable as error:
        raise TallyError(f"the tokens of OTLP can't be used: {error}", "Correct the file.") from error


@contextmanager
def _changing(file: Path) -> Iterator[list[Token]]:
    """The tokens of a file, to be changed in place; written at the end. One at a time changes them."""
    make_folder(file.parent)
    descriptor = os.open(file.with_name(file.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        kept = list_tokens(file)
        yield kept
        write_atomically(file, tokens.text(kept))
    finally:
        os.close(descriptor)
