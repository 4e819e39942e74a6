"""Senders that mean harm, against a gateway that serves others at the same time."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingest.otlp import receiver
from ingest.otlp.gateway import Serving
from ingest.otlp.split import split
from tests.otlp.gateways import JSON, PROTO, Sender, Topics, gateway, one_span

TRACES = "/v1/traces"


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
