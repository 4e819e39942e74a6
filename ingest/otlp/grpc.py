"""OTLP over gRPC: the Export of traces, logs and metrics; plain or gzip.

A message is read only when it is its turn (the methods are served as streams of one message, which looks the same to a
client), and decompressed by us: gRPC itself would decompress a bomb whole before it looks at its size.

Guarantees: at most turns.AT_ONCE_MAX messages are in memory that have not been counted, half of them of one sender;
what waits too long for its turn or its sender is told to come again. A call with more than one message, or of another
method, is refused, counted and told. Does not: see what is no gRPC; gRPC's own code closes such a connection unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import grpc.aio

from ingest.otlp.answers import STATUS, Answer, Failure
from ingest.otlp.body import BODY_BYTES_MAX, Body
from ingest.otlp.receiver import Receiver
from ingest.otlp.turns import Turns
from ingest.otlp.wire import Signal

COMPRESSED_BYTES: Final = 16 * 1024  # decompressed before others have their turn, to 16 MiB at the most
SMALL_BYTES_MAX: Final = 1024 * 1024
CALLS_MAX: Final = 256
CLOSE_S: Final = 10.0

SERVICES: Final[Mapping[str, Signal | None]] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "spans",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": None,
}
_EXPECTED: Final = f"expected one of {', '.join(f'/{service}/Export' for service in SERVICES)}"
_GZIP_MAGIC: Final = b"\x1f\x8b"  # as the beginning of protobuf it would be a field of a wire type that there is not
_IDENTITY_AND_GZIP: Final = 0b101
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", BODY_BYTES_MAX),
    ("grpc.per_message_decompression", 0),
    ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.so_reuseport", 0),  # or a port that is taken would be taken twice
    ("grpc.http2.max_ping_strikes", 0),
)


class GrpcServer:
    """`async with GrpcServer(receiver, "127.0.0.1:4317") as server: server.port`. Raises OSError if it can't listen."""

    def __init__(self, receiver: Receiver, address: str) -> None:
        self._receiver = receiver
        self._address = address
        self._turns = Turns()
        self._server: Any = None
        self.port = 0

    async def __aenter__(self) -> GrpcServer:
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
        handlers = [
            grpc.method_handlers_generic_handler(
                service, {"Export": grpc.stream_unary_rpc_method_handler(self._export(service, signal))}
            )
            for service, signal in SERVICES.items()
        ]
        self._server.add_generic_rpc_handlers((*handlers, _Elsewhere(self._receiver)))
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"can't listen on {self._address}") from error
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(CLOSE_S)

    def _export(self, service: str, signal: Signal | None) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def export(_messages: Any, context: Any) -> bytes:
            try:
                return (await self._answer(signal, context)).body("proto")
            except Failure as failure:
                return await _refuse(self._receiver, failure, f"/{service}/Export", context)

        return export

    async def _answer(self, signal: Signal | None, context: Any) -> Answer:
        receiver = self._receiver
        tenant = receiver.admit(_authorization(context), signal)
        sender = tenant if tenant is not None else context.peer()
        with Body(receiver.budget) as plain:
            plain.expect(1)
            message, ended = await self._turns.take(sender, lambda: _message(context))
            if not message.startswith(_GZIP_MAGIC):
                plain.feed(message)
                del message
                await self._end(ended, sender, context)
                return await self._take(signal, plain, tenant)
        with Body(receiver.budget, "gzip") as body:
            for start in range(0, len(message), COMPRESSED_BYTES):
                body.feed(message[start : start + COMPRESSED_BYTES])
                await asyncio.sleep(0)
            del message
            await self._end(ended, sender, context)
            return await self._take(signal, body, tenant)

    async def _take(self, signal: Signal | None, body: Body, tenant: str | None) -> Answer:
        if signal is None:
            return await self._receiver.take_metrics(body.value(), "proto")
        return await self._receiver.take(signal, body.value(), "proto", tenant)

    async def _end(self, ended: bool, sender: str, context: Any) -> None:
        if not ended:
            await self._turns.take(sender, lambda: _expect_end(context))


class _Elsewhere(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers calls of methods that there are not, where gRPC alone would not tell anybody."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def service(self, handler_call_details: Any) -> Any:
        """The handler of any method; asked after those that there are."""
        method = handler_call_details.method

        async def refuse(_messages: Any, context: Any) -> bytes:
            return await _refuse(self._receiver, Failure("no_such_path", _EXPECTED), method, context)

        return grpc.stream_unary_rpc_method_handler(refuse)


async def _refuse(receiver: Receiver, failure: Failure, path: str, context: Any) -> bytes:
    """Count and tell a refusal, and end the call with it."""
    receiver.refused(failure, path, context.peer())
    details = failure.status().SerializeToString()
    await context.abort(_CODES[STATUS[failure.reason][1]], failure.message, (("grpc-status-details-bin", details),))
    return b""  # abort raises


async def _message(context: Any) -> tuple[bytes, bool]:
    """The one message of a call, and whether its end was seen: not yet where it is so large that it counts first."""
    message = await context.read()
    if not isinstance(message, bytes):
        raise Failure("bad_request", "expected a message")
    small = len(message) <= SMALL_BYTES_MAX
    if small:
        await _expect_end(context)
    return message, small


async def _expect_end(context: Any) -> None:
    """A second message would be in nobody's answer."""
    if await context.read() is not grpc.aio.EOF:
        raise Failure("bad_request", "expected one message")


def _authorization(context: Any) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return None
