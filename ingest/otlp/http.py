"""OTLP over HTTP: POST /v1/traces, /v1/logs, /v1/metrics; protobuf or JSON, plain, gzip or deflate.

Guarantees: an answer has the request's content type; what is refused before its body is read costs no memory (the rest
of the body is read and dropped: a sender that is still sending would not see the answer otherwise); a sender that is
slow, or says headers without end, is cut off after HEAD_S, READ_S or HEAD_BYTES_MAX and holds up nobody else; where all
connections are taken, an idle one makes room: first of those that never were let in, then the one idle for longest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ingest.otlp.answers import MEDIA_TYPES, Answer, Failure
from ingest.otlp.body import Body, Coding
from ingest.otlp.receiver import Receiver
from ingest.otlp.refusals import Refusals
from ingest.otlp.wire import Encoding, Signal

HEAD_S: Final = 5.0  # for a request's head, from the connection or its first byte on
READ_S: Final = 30.0  # for its body
KEEP_ALIVE_S: Final = 75
HEAD_BYTES_MAX: Final = 64 * 1024
SILENT_BYTES_MAX: Final = 256 * 1024  # received without any of it being body
CONNECTIONS_MAX: Final = 512
CLOSE_S: Final = 10.0
BEGINNING_BYTES: Final = 24
LET_IN: Final = "tallystick.let_in"  # in the scope of a request whose sender may send

PATHS: Final[Mapping[str, Signal | None]] = {"/v1/traces": "spans", "/v1/logs": "logs", "/v1/metrics": None}
_CODINGS: Final[Mapping[str, Coding]] = {"": "identity", "identity": "identity", "gzip": "gzip", "deflate": "deflate"}
_ENCODINGS: Final[Mapping[str, Encoding]] = {media.decode(): encoding for encoding, media in MEDIA_TYPES.items()}

# The last two are about an upgrade to HTTP/2, which some clients ask for and nobody has to grant.
_TOLD_BY_US: Final = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")

Message = dict[str, Any]


class HttpServer:
    """`async with HttpServer(receiver, socket)`: serves until left, then finishes the requests it has."""

    def __init__(self, receiver: Receiver, listening: Any) -> None:
        self._listening = listening
        self._refusals = receiver.refusals
        self._state = ServerState()
        self._config = Config(
            _App(receiver),
            log_config=None,
            lifespan="off",
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            access_log=False,
        )
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> HttpServer:
        self._config.load()
        logging.getLogger("uvicorn.error").addFilter(_not_told_by_us)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Protocol(self._config, self._state, self._refusals), sock=self._listening
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        connections: list[Any] = list(self._state.connections)
        for connection in connections:
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=CLOSE_S)
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with limits that it has not: on time, on headers, on connections."""

    _deadline: asyncio.TimerHandle | None = None
    _silent_bytes = 0
    _in_head = True
    _idle_since = 0.0
    _was_let_in = False
    _came = b""  # last, when it is no HTTP

    def __init__(self, config: Config, state: ServerState, refusals: Refusals) -> None:
        super().__init__(config, state, {})
        self._refusals = refusals

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if len(self.connections) > CONNECTIONS_MAX and not self._make_room():
            transport.abort()
            return
        self._arm(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._silent_bytes += len(data)
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._arm(HEAD_S)
        self._came = data[:BEGINNING_BYTES]
        super().data_received(data)
        if self._silent_bytes > (HEAD_BYTES_MAX if self._in_head else SILENT_BYTES_MAX):
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refusals.tell_as(400, "no_http", _what_it_is(self._came), "", _peer(self.client))
        super().send_400_response(msg)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._arm(READ_S + 1)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._silent_bytes = 0
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._was_let_in |= LET_IN in self.scope
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _make_room(self) -> bool:
        """Close the idle connection that is missed least, if there is one."""
        others: list[Any] = [one for one in self.connections if one is not self]
        idle = [one for one in others if one._is_idle() and not one.transport.is_closing()]
        if not idle:
            return False
        min(idle, key=lambda one: (one._was_let_in, one._idle_since)).transport.abort()
        return True

    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        self.transport.close()


class _App:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        headers = _headers(scope["headers"])
        encoding = _ENCODINGS.get(headers.get("content-type", "").partition(";")[0].strip().lower())
        more: list[tuple[bytes, bytes]] = []
        try:
            answer = await self._answer(scope, headers, encoding, receive)
            status, body = 200, answer.body(encoding or "proto")
        except Failure as failure:
            path = scope["raw_path"].decode("latin-1")
            self._receiver.refused(failure, path, _peer(scope["client"]))
            status, body = failure.http_status, failure.body(encoding or "proto")
            more = _headers_of(failure)
        except _Gone:
            return
        start = [(b"content-type", MEDIA_TYPES[encoding or "proto"]), (b"content-length", b"%d" % len(body)), *more]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self,
        scope: Message,
        headers: Mapping[str, str],
        encoding: Encoding | None,
        receive: Callable[[], Awaitable[Message]],
    ) -> Answer:
        if scope["path"] not in PATHS:
            raise Failure("no_such_path", f"expected one of {', '.join(PATHS)}")
        if scope["method"] != "POST":
            raise Failure("bad_method", "expected POST")
        signal = PATHS[scope["path"]]
        receiver = self._receiver
        tenant = receiver.admit(headers.get("authorization"), signal)
        scope[LET_IN] = True
        if encoding is None:
            raise Failure("unsupported", f"expected the content type {' or '.join(_ENCODINGS)}")
        coding = _CODINGS.get(headers.get("content-encoding", "").strip().lower())
        if coding is None:
            raise Failure("unsupported", "expected the content encoding gzip, deflate or identity")
        with Body(receiver.budget, coding) as body:
            length = headers.get("content-length", "")
            if length.isdecimal():
                body.expect(int(length))
            await _read(body, receive)
            if signal is None:
                return await receiver.take_metrics(body.value(), encoding)
            return await receiver.take(signal, body.value(), encoding, tenant)


class _Gone(Exception):  # noqa: N818
    """The sender went away."""


async def _read(body: Body, receive: Callable[[], Awaitable[Message]]) -> None:
    try:
        async with asyncio.timeout(READ_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                body.feed(message["body"])
                if not message["more_body"]:
                    return
    except TimeoutError as error:
        raise Failure("timeout", f"the body was not there after {READ_S:.0f} s") from error


def _what_it_is(came: bytes) -> str:
    """What a sender probably speaks, whose bytes are no HTTP/1.1."""
    if came.startswith(b"\x16\x03"):
        return "not HTTP: it looks like TLS, which the gateway doesn't speak; is the sender's endpoint https://?"
    if came.startswith(b"PRI * HTTP/2"):
        return "not HTTP/1.1: it looks like HTTP/2; is it OTLP over gRPC, which has a port of its own (4317)?"
    return "not HTTP/1.1"


def _not_told_by_us(record: logging.LogRecord) -> bool:
    """Whether uvicorn says something that isn't in our own line for the same."""
    return not record.msg.startswith(_TOLD_BY_US)


def _peer(client: tuple[str, int] | None) -> str:
    return f"{client[0]}:{client[1]}" if client is not None else ""


def _headers(said: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; one that stands twice counts as it stood last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in said}


def _headers_of(failure: Failure) -> list[tuple[bytes, bytes]]:
    more: list[tuple[bytes, bytes]] = []
    if failure.retry_s is not None:
        more.append((b"retry-after", b"%d" % failure.retry_s))
    if failure.reason == "unauthenticated":
        more.append((b"www-authenticate", b"Bearer"))
    if failure.reason == "bad_method":
        more.append((b"allow", b"POST"))
    if failure.reason == "unsupported":
        more.append((b"accept-encoding", b"gzip, deflate, identity"))
    if failure.reason == "timeout":
        more.append((b"connection", b"close"))
    return more
