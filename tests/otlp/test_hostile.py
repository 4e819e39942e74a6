"""Senders that mean harm, against a gateway that serves others at the same time."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from ingest.otlp import http, receiver
from ingest.otlp.gateway import Serving
from ingest.otlp.split import split
from tallystick.otlp import add_token
from tests.otlp.gateways import JSON, PROTO, Sender, Topics, gateway, one_span

TRACES = "/v1/traces"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
async def served(kafka: str) -> AsyncIterator[tuple[Serving, Sender]]:
    await Topics(kafka).mark()
    async with gateway(kafka) as found:
        yield found


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (PROTO, b"\x0a\x00" * 65_536),
        (PROTO, b"\x0a\x04\x12\x02\x12\x00" * 16_384),
        (JSON, b'{"resourceSpans":[' + b"{}," * 20_000 + b"{}]}"),
    ],
)
async def test_a_small_body_of_many_things_is_read_aside(
    served: tuple[Serving, Sender], monkeypatch: pytest.MonkeyPatch, content_type: str, body: bytes
) -> None:
    cutters: list[int] = []

    def telling(*said: Any, **more: Any) -> Any:
        found = split(*said, **more)  # what is refused here is read again
        cutters.append(threading.get_ident())
        return found

    monkeypatch.setattr(receiver, "split", telling)
    for told, media, aside in ((one_span(17), PROTO, False), (body, content_type, True)):
        cutters.clear()
        assert (await served[1].post(TRACES, told, media)).status == 200
        assert [cutter != threading.get_ident() for cutter in cutters] == [aside]


async def open_silent(served: Serving, count: int) -> list[Any]:
    """Calls in which nothing is said, over a connection of their own."""
    channel = grpc.aio.insecure_channel(str(served.grpc), [("grpc.use_local_subchannel_pool", 1)])
    await channel.channel_ready()
    calls = [channel.stream_unary(EXPORT)() for _ in range(count)]
    with pytest.raises(grpc.aio.AioRpcError):  # answered when those before it are there
        await channel.unary_unary("/no.such/Method")(b"")
    return [channel, *calls]


async def test_silent_calls_hold_up_nobody_else(served: tuple[Serving, Sender]) -> None:
    channels = [await open_silent(served[0], 12) for _ in range(3)]
    began = time.monotonic()
    async with grpc.aio.insecure_channel(str(served[0].grpc)) as channel:
        assert await channel.unary_unary(EXPORT)(one_span(18)) == b""
    assert time.monotonic() - began < 5  # without places for each: after 10 s, "come again"
    for channel, *_ in channels:
        await channel.close()


async def test_a_sender_has_so_many_calls(served: tuple[Serving, Sender]) -> None:
    channel, *calls = await open_silent(served[0], 70)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(EXPORT)(one_span(19))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    for call in calls:
        call.cancel()
    await channel.close()


@pytest.mark.parametrize(
    "messages",
    [
        [one_span(20), one_span(21)],
        [gzip.compress(one_span(20)), b""],
        [],
        [gzip.compress(one_span(20))[:10]],
        [gzip.compress(one_span(20))[:-1]],
    ],
)
async def test_a_call_has_one_whole_message(served: tuple[Serving, Sender], messages: list[bytes]) -> None:
    async with grpc.aio.insecure_channel(str(served[0].grpc)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.stream_unary(EXPORT)(iter(messages))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert served[0].counts.spans == 0


async def test_a_head_has_less_time_than_a_body(
    served: tuple[Serving, Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HEAD_S", 0.2)
    address = served[0].http
    connections = [await asyncio.open_connection(address.host, address.port) for _ in range(3)]
    (silent, _), (slow, dripping), (reader, writer) = connections
    body = one_span(22)
    writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-protobuf\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body))
    dripping.write(b"POST /v1/tra")
    for cut_off in (silent, slow):
        assert await asyncio.wait_for(cut_off.read(), 10) == b""
    writer.write(body)  # those were cut off before
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")
    for _, opened in connections:
        opened.close()


async def test_idle_connections_make_room_and_senders_stay(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 8)
    file = tmp_path / "tokens.json"
    token, _ = add_token(file, "acme")
    head = b"POST /v1/metrics HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n"
    said = head + f"Authorization: Bearer {token}\r\n\r\n".encode()
    async with gateway(kafka, tokens=file) as (served, sender):
        reader, writer = await asyncio.open_connection(served.http.host, served.http.port)
        writer.write(said)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        idle = [await asyncio.open_connection(served.http.host, served.http.port) for _ in range(20)]
        for number, (_, opened) in enumerate(idle):
            opened.write((head + b"\r\n") * (number % 2))  # some are told that they need a token
        answer = await sender.post("/v1/metrics", b"", authorization=f"Bearer {token}")
        assert answer.status == 200
        writer.write(said)
        assert b"HTTP/1.1 200" in await reader.readuntil(b"\r\n\r\n")
        for _, opened in [*idle, (reader, writer)]:
            opened.close()
