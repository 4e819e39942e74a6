"""The OTLP gateway: both servers over one receiver, and the addresses they listen on.

Guarantees: an address that other machines reach is served only with tokens. Ended in order: no new requests, those that
are there are finished, what was sent is flushed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.errors import IngestError
from ingest.otlp.address import Address
from ingest.otlp.forward import Forward
from ingest.otlp.grpc import GrpcServer
from ingest.otlp.http import HttpServer
from ingest.otlp.receiver import Counts, Receiver
from ingest.otlp.tokens import Tokens

BACKLOG = 256


class CantListen(IngestError):  # noqa: N818 - says what happened
    """An address can't be listened on: it is taken, or not ours, or open to others without tokens."""

    def __init__(self, address: str, message: str, *, taken: bool = False, unguarded: bool = False) -> None:
        super().__init__(f"{address}: {message}")
        self.address = address
        self.taken = taken
        self.unguarded = unguarded


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """`tokens`: the file of tokens; None: nobody proves who they are. `tokens_needed`: also while it isn't there."""

    http: Address
    grpc: Address
    bootstrap: str
    kafka: Mapping[str, Any] = field(default_factory=dict)
    tokens: Path | None = None
    tokens_needed: bool = True
    default_tenant: str = "default"


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that answers; its ports are those it got."""

    http: Address
    grpc: Address
    receiver: Receiver

    @property
    def forward(self) -> Forward:
        return self.receiver.forward

    @property
    def guarded(self) -> str:
        """In words, what senders need."""
        tokens = self.receiver.tokens
        if tokens is None or not tokens.needed:
            return "no tokens: open to this machine"
        return "with tokens" if tokens.count else "nobody is let in: its file of tokens is empty"

    @property
    def counts(self) -> Counts:
        return self.receiver.counts


@asynccontextmanager
async def serving(config: GatewayConfig) -> AsyncIterator[Serving]:
    """The gateway, answering; ended on leaving. Raises CantListen and TokensUnreadable.

    Kafka need not be there: senders are told to come again until it is.
    """
    tokens = Tokens(config.tokens, config.tokens_needed) if config.tokens is not None else None
    for address in (config.http, config.grpc):
        if not address.loopback and (tokens is None or not tokens.needed):
            raise CantListen(str(address), "other machines reach it, and there are no tokens", unguarded=True)
    forward = Forward(config.bootstrap, config.kafka)
    receiver = Receiver(forward, tokens, config.default_tenant)
    try:
        with _listening(config.http) as listening:
            async with forward.running(), _grpc(receiver, config.grpc) as grpc, HttpServer(receiver, listening):
                http = Address(config.http.host, listening.getsockname()[1])
                yield Serving(http, Address(config.grpc.host, grpc.port), receiver)
    finally:
        receiver.refusals.flush()


@asynccontextmanager
async def _grpc(receiver: Receiver, address: Address) -> AsyncIterator[GrpcServer]:
    if address.port:
        _listening(address).close()  # gRPC does not say why it can't
    try:
        server = await GrpcServer(receiver, str(address)).__aenter__()
    except OSError as error:
        raise CantListen(str(address), "gRPC can't listen there", taken=True) from error
    try:
        yield server
    finally:
        await server.__aexit__()


def _listening(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _, to = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(to)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise CantListen(str(address), error.strerror or str(error), taken=error.errno == errno.EADDRINUSE) from error
    listening.setblocking(False)
    return listening
