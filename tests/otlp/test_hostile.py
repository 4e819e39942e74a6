"""Senders that mean harm, against a gateway that serves others at the same time."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from ingest.otlp import receiver
from ingest.otlp.gateway import Serving
from ingest.otlp.split import split
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
    """Calls in which nothing is said, over one connection."""
    channel = grpc.aio.insecure_channel(str(served.grpc))
    await channel.channel_ready()
    calls = [channel.stream_unary(EXPORT)() for _ in range(count)]
    with pytest.raises(grpc.aio.AioRpcError):  # answered when those before it are there
        await channel.unary_unary("/no.such/Method")(b"")
    return [channel, *calls]


async def test_silent_calls_hold_up_nobody_else(served: tuple[Serving, Sender]) -> None:
    channels = [await open_silent(served[0], 12) for _ in range(2)]
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
