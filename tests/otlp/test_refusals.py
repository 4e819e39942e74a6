"""What operators see of requests that were refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from ingest.otlp import refusals
from ingest.otlp.answers import Failure
from ingest.otlp.gateway import Serving
from ingest.otlp.refusals import Refusals
from tallystick.otlp import add_token
from tests.otlp.gateways import gateway, one_span
from tests.otlp.test_process import process

TRACES = "/v1/traces"


def told(lines: list[Any]) -> list[tuple[Any, ...]]:
    """Status, reason and how many, of each line about a refusal."""
    return [(line["status"], line["reason"], line.get("times", 1)) for line in lines if line["event"] == "OTLP refused"]


async def test_one_line_for_a_kind_now_and_one_for_those_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "EVERY_S", 0.05)
    tell = Refusals()
    with capture_logs() as lines:
        for n in range(100):
            tell.tell(Failure("unauthenticated", "no token"), f"/{n}", "192.0.2.7:1")
        tell.tell(Failure("no_such_path", "expected another"), "/v1/trace", "192.0.2.7:1")
        assert told(lines) == [(401, "unauthenticated", 1), (404, "no_such_path", 1)]
        assert (lines[0]["path"], lines[0]["peer"]) == ("/0", "192.0.2.7:1")
        while len(lines) < 3:  # noqa: ASYNC110  (a logger sets no event)
            await asyncio.sleep(0.01)
        assert told(lines)[2] == (401, "unauthenticated", 99)
        assert lines[2]["path"] == "/99"
        await asyncio.sleep(0.2)
        tell.tell(Failure("unauthenticated", "no token"), "/", "192.0.2.7:1")
        tell.tell(Failure("unauthenticated", "no token"), "/", "192.0.2.7:1")
        tell.flush()
    assert told(lines)[3:] == [(401, "unauthenticated", 1), (401, "unauthenticated", 1)]


async def test_a_sender_cannot_forge_a_line() -> None:
    with capture_logs() as lines:
        Refusals().tell(Failure("no_such_path", "expected another"), "/\nadmin: all is well\x1b[2J" + "x" * 999, "")
    assert lines[0]["path"].startswith("/\\nadmin: all is well\\x1b[2Jxxx")
    assert len(lines[0]["path"]) < 250


async def _raw(served: Serving, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(served.http.host, served.http.port)
    writer.write(sent)
    await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_each_way_says_who_and_why(kafka: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token, _ = add_token(file, "acme")
    known = {"authorization": f"Bearer {token}"}
    with capture_logs() as lines:
        async with gateway(kafka, tokens=file) as (served, sender):
            await sender.post("/v1/trace", b"")
            await sender.post(TRACES, b"")
            await sender.post(TRACES, b"", "text/plain", **known)
            await sender.post(TRACES, b"no protobuf", **known)
            await sender.post(TRACES, bytes(64 * 1024 * 1024 + 1), **known)
            async with grpc.aio.insecure_channel(str(served.grpc)) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")(b"")
                with pytest.raises(grpc.aio.AioRpcError) as elsewhere:
                    await channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogService/Export")(b"")
        assert served.counts.wrong == 7
    assert elsewhere.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "opentelemetry.proto.collector.logs.v1.LogsService/Export" in str(elsewhere.value.details())
    assert told(lines) == [
        (404, "no_such_path", 1),
        (401, "unauthenticated", 1),
        (415, "unsupported", 1),
        (400, "bad_request", 1),
        (413, "too_large", 1),
        (404, "no_such_path", 1),  # counted, and told when the gateway ended, as the next one
        (401, "unauthenticated", 1),
    ]
    of = [line for line in lines if line["event"] == "OTLP refused"]
    assert [line["path"] for line in of[:2]] == ["/v1/trace", TRACES]
    assert of[5]["path"].endswith("LogService/Export")
    assert of[6]["path"].endswith("LogsService/Export")
    assert all("127.0.0.1:" in line["peer"] and line["message"] for line in of)


@pytest.mark.parametrize(
    ("sent", "probably"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "https://"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "OTLP over gRPC"),
        (b"no HTTP at all\r\n\r\n", "not HTTP/1.1"),
    ],
)
async def test_what_is_no_http_is_said_to_be_what_it_probably_is(
    kafka: str, sent: bytes, probably: str, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as lines:
        async with gateway(kafka) as (served, _):
            await _raw(served, sent)
    assert told(lines) == [(400, "no_http", 1)]
    assert probably in lines[0]["message"]
    assert "uvicorn" not in caplog.text


async def test_the_command_alone_says_what_it_took_and_refused(kafka: str, tmp_path: Path) -> None:
    async with process(kafka, tmp_path) as (_, sender):
        await sender.post("/v1/trace", one_span(1))
        log = tmp_path / "otlp.log"
        for _ in range(300):
            if "OTLP in" in log.read_text():
                break
            await asyncio.sleep(0.1)
        said = log.read_text()
    assert "OTLP in 10 s: requests 1, spans 1, " in said
    assert "refused for good 1\n" in said
    assert "/v1/trace" in next(line for line in said.splitlines() if "OTLP refused" in line)
