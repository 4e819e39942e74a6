"""The gateway on real Kafka: what senders are told, and what is in the topics when they are told so."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from ingest.otlp import forward
from ingest.otlp import http as http_server
from ingest.otlp.gateway import GatewayConfig, Serving, serving
from ingest.otlp.wire import OVERSIZED_HEADER, TENANT_HEADER, parse
from tallystick.otlp import add_token
from tallystick.servers import ports
from tests.otlp.gateways import ANYWHERE, JSON, PROTO, Sender, Topics, gateway, one_span

MIB = 1024 * 1024
TRACES = "/v1/traces"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
EXPORT_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@pytest.fixture
async def topics(kafka: str) -> Topics:
    made = Topics(kafka)
    await made.mark()
    return made


@pytest.fixture
async def served(kafka: str, topics: Topics) -> AsyncIterator[tuple[Serving, Sender]]:
    async with gateway(kafka) as found:
        yield found


async def call(served: Serving, body: bytes, method: str = EXPORT, **more: Any) -> bytes:
    async with grpc.aio.insecure_channel(str(served.grpc)) as channel:
        answer: bytes = await channel.unary_unary(method)(body, **more)
        return answer


async def refused(served: Serving, body: bytes, **more: Any) -> tuple[grpc.StatusCode, Status]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(served, body, **more)
    details = [value for name, value in caught.value.trailing_metadata() or () if name == "grpc-status-details-bin"]
    return caught.value.code(), Status.FromString(details[0]) if details else Status()


EXPORTERS: dict[str, Callable[[Serving], SpanExporter]] = {
    "http": lambda served: HttpExporter(f"http://{served.http}/v1/traces"),
    "http gzip": lambda served: HttpExporter(f"http://{served.http}/v1/traces", compression=Compression.Gzip),
    "grpc": lambda served: GrpcExporter(str(served.grpc), insecure=True),
    "grpc gzip": lambda served: GrpcExporter(str(served.grpc), insecure=True, compression=grpc.Compression.Gzip),
}


def exported(exporter: SpanExporter, name: str) -> str:
    """The trace of a span that an SDK made and sent."""
    provider = TracerProvider(resource=Resource({"tallystick.tenant": "acme", "service.name": "test"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span(name) as span:
        span.set_attribute("text", "x" * 5_000)
    provider.shutdown()
    return f"{span.get_span_context().trace_id:032x}"


async def test_an_sdk_exports_by_every_way(served: tuple[Serving, Sender], topics: Topics) -> None:
    gate, _ = served
    traces = {}
    for name, exporter in EXPORTERS.items():
        traces[await asyncio.to_thread(exported, exporter(gate), name)] = name
    found = {record.key.decode(): record for record in await topics.records()}
    assert set(found) == set(traces)
    for trace, record in found.items():
        assert (record.topic, record.headers) == ("tally.gateway.spans", ((TENANT_HEADER, b"acme"),))
        request: Any = parse("spans", record.value, "proto")
        assert request.resource_spans[0].scope_spans[0].spans[0].name == traces[trace]
    assert gate.counts.spans == len(EXPORTERS)


async def test_json_and_protobuf_come_to_the_same_records(served: tuple[Serving, Sender], topics: Topics) -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "otlp"
    sent = 0
    for file in sorted(folder.glob("*.pb")):
        path = "/v1/logs" if "_logs" in file.name else TRACES
        plain = await served[1].post(path, file.read_bytes())
        packed = gzip.compress(file.with_suffix(".json").read_bytes())
        as_json = await served[1].post(path, packed, "application/json; charset=utf-8", content_encoding="gzip")
        assert (plain.status, plain.headers["content-type"], plain.body) == (200, PROTO, b"")
        assert (as_json.status, as_json.headers["content-type"], as_json.body) == (200, JSON, b"{}")
        sent += 1
    records = await topics.records()
    values = sorted((record.key or b"", _normal(record)) for record in records)
    assert sent >= 7
    assert values[::2] == values[1::2]


def _normal(record: Any) -> bytes:
    signal: Any = "spans" if record.topic.endswith("spans") else "logs"
    return parse(signal, record.value, "proto").SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("path", "content_type", "body", "more", "expected"),
    [
        ("/v1/trace", PROTO, b"", {}, 404),
        (TRACES, PROTO, b"", {"method": "GET"}, 405),
        (TRACES, "text/plain", b"{}", {}, 415),
        (TRACES, "", b"", {}, 415),
        (TRACES, PROTO, b"", {"content_encoding": "br"}, 415),
        (TRACES, PROTO, b"no protobuf", {}, 400),
        (TRACES, PROTO, b"plain", {"content_encoding": "gzip"}, 400),
        (TRACES, JSON, b"[", {}, 400),
        (TRACES, JSON, b'{"resourceSpans":' + b"[" * 500_000, {}, 400),
        (TRACES, JSON, b'{"x":' * 500_000, {}, 400),
        (TRACES, JSON, b'{"resourceSpans":[' + b"{}," * 300_000 + b"{}]}", {}, 413),
        ("/v1/logs", JSON, b'{"resourceLogs":7}', {}, 400),
        ("/v1/metrics", JSON, b'{"resourceMetrics":7}', {}, 400),
        ("/v1/metrics", PROTO, b"\x0a\x09", {}, 400),
    ],
)
async def test_what_is_wrong_for_good_is_told_in_the_senders_own_form(
    served: tuple[Serving, Sender], path: str, content_type: str, body: bytes, more: dict[str, str], expected: int
) -> None:
    answer = await served[1].post(path, body, content_type, **more)
    assert answer.status == expected
    if content_type == JSON:
        said = json.loads(answer.body)
        assert answer.headers["content-type"] == JSON
        assert said["code"]
        assert said["message"]
    else:
        assert answer.headers["content-type"] == PROTO
        assert Status.FromString(answer.body).message
    assert "retry-after" not in answer.headers
    assert (await served[1].post(TRACES, one_span(7))).status == 200


@pytest.mark.parametrize(
    ("path", "response"), [(TRACES, ExportTraceServiceResponse), ("/v1/logs", ExportLogsServiceResponse)]
)
async def test_an_empty_request_succeeds(served: tuple[Serving, Sender], path: str, response: Any) -> None:
    answer = await served[1].post(path, b"")
    assert (answer.status, response.FromString(answer.body)) == (200, response())
    assert (await served[1].post(path, b"{}", JSON)).body == b"{}"
    assert await call(served[0], b"") == b""


async def test_metrics_are_counted_and_it_is_said(served: tuple[Serving, Sender], topics: Topics) -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="a").gauge.data_points.add(as_int=1)
    metrics.add(name="b").histogram.data_points.add(count=2)
    metrics.add(name="c").sum.data_points.add(as_double=2.5)
    body = request.SerializeToString()
    gate, sender = served
    for answer in ((await sender.post("/v1/metrics", body)).body, await call(gate, body, EXPORT_METRICS)):
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
        assert (partial.rejected_data_points, "not recorded" in partial.error_message) == (0, True)
    points = {"dataPoints": [{}, {}]}
    as_json = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"summary": points}, {"gauge": points}]}]}]}
    told = json.loads((await sender.post("/v1/metrics", json.dumps(as_json), JSON)).body)
    assert "not recorded" in told["partialSuccess"]["errorMessage"]
    assert gate.counts.data_points == 3 + 3 + 4
    assert await topics.records() == []


async def test_spans_that_are_wrong_for_good_are_counted_and_kept(
    served: tuple[Serving, Sender], topics: Topics
) -> None:
    request = ExportTraceServiceRequest.FromString(one_span(11))
    spans = request.resource_spans[0].scope_spans[0].spans
    spans.add(trace_id=(11).to_bytes(16, "big"), name="no id")
    large = spans.add(trace_id=(11).to_bytes(16, "big"), span_id=(3).to_bytes(8, "big"))
    large.attributes.add(key="text").value.string_value = "x" * MIB
    lost = spans.add(trace_id=(11).to_bytes(16, "big"), span_id=(4).to_bytes(8, "big"))
    lost.attributes.add(key="text").value.string_value = "x" * (15 * MIB)
    body = request.SerializeToString()
    over_http = (await served[1].post(TRACES, body)).body
    for answer in (over_http, await call(served[0], gzip.compress(body))):
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
        assert partial.rejected_spans == 3
        assert "900,000 bytes" in partial.error_message
    sizes = sorted((len(record.value) > 900_000, dict(record.headers)) for record in (await topics.records())[:2])
    assert [headers.get(OVERSIZED_HEADER) for _, headers in sizes] == [None, b"1"]
    with_names = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00", "spanId": "00"}]}]}]}
    told = json.loads((await served[1].post(TRACES, json.dumps(with_names), JSON)).body)
    assert told["partialSuccess"]["rejectedSpans"] == "1"


def bomb(mebibytes: int) -> bytes:
    """So much of nothing, in gzip's members."""
    return gzip.compress(bytes(MIB), mtime=0) * mebibytes


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (bomb(1024), {"content_encoding": "gzip"}),
        (zlib.compress(bytes(65 * MIB)), {"content_encoding": "deflate"}),
        (bytes(64 * MIB + 1), {}),
    ],
)
async def test_more_than_64_mib_is_refused_counted_after_decompression(
    served: tuple[Serving, Sender], body: bytes, headers: dict[str, str]
) -> None:
    answer = await served[1].post(TRACES, body, **headers)
    assert answer.status == 413
    assert (await served[1].post(TRACES, one_span(8))).status == 200


async def test_grpc_refuses_bombs_and_what_is_no_request(served: tuple[Serving, Sender]) -> None:
    gate, _ = served
    for body in (bomb(1024), gzip.compress(bytes(65 * MIB)), bytes(64 * MIB + 1)):
        assert (await refused(gate, body))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await refused(gate, b"no protobuf"))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert (await refused(gate, b"", method="/opentelemetry.x/Export"))[0] == grpc.StatusCode.UNIMPLEMENTED
    assert await call(gate, gzip.compress(one_span(9))) == b""


async def test_a_million_attributes_are_refused_or_kept_and_nobody_waits(served: tuple[Serving, Sender]) -> None:
    _, sender = served
    attribute = b'{"key":"k","value":{"intValue":"1"}},'
    spans = b'{"traceId":"%032x","spanId":"%016x","attributes":[' % (5, 5) + attribute * 1_000_000
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + spans[:-1] + b"]}]}]}]}"
    waiting = asyncio.create_task(sender.post(TRACES, gzip.compress(body, 1), JSON, content_encoding="gzip"))
    began = time.monotonic()
    assert (await sender.post(TRACES, one_span(9))).status == 200
    assert time.monotonic() - began < 5
    answer = await waiting
    assert answer.status == 200
    assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "1"


async def test_slow_senders_are_cut_off(served: tuple[Serving, Sender], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.3)
    monkeypatch.setattr(http_server, "READ_S", 0.3)
    address = served[0].http
    head = b"POST /v1/traces HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-protobuf\r\n"
    started = [
        b"",
        b"POST /v1/tra",
        head,
        head + b"Content-Length: 100\r\n\r\n\x0a",
        head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n\x0a\r\n",
    ]
    connections = [await asyncio.open_connection(address.host, address.port) for _ in started]
    for (_, writer), said in zip(connections, started, strict=True):
        writer.write(said)
    answers = [await asyncio.wait_for(reader.read(), 10) for reader, _ in connections]
    for _, writer in connections:
        writer.close()
    assert answers[:3] == [b"", b"", b""]
    assert [answer[:12] for answer in answers[3:]] == [b"HTTP/1.1 408"] * 2


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/traces HTTP/1.1\r\nX: " + b"x" * 200_000,
        b"POST /v1/traces HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
        b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n" + b"X: y\r\n" * 100_000,
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
    ],
)
async def test_headers_without_end_are_cut_off(served: tuple[Serving, Sender], sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(served[0].http.host, served[0].http.port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert (await served[1].post(TRACES, one_span(10))).status == 200


async def test_tokens_say_whose_the_spans_are(kafka: str, topics: Topics, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token, _ = add_token(file, "Zoë & Co")
    bearer = f"Bearer {token}"
    request = ExportTraceServiceRequest.FromString(one_span(12))
    request.resource_spans[0].resource.attributes.add(key="tallystick.tenant").value.string_value = "acme"
    body = request.SerializeToString()
    async with gateway(kafka, tokens=file) as (gate, sender):
        for headers in ({}, {"authorization": "Bearer tally_guess"}, {"authorization": token}):
            answer = await sender.post(TRACES, body, **headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert (await sender.post("/v1/metrics", body, **headers)).status == 401
            metadata = tuple(headers.items())
            assert (await refused(gate, body, metadata=metadata))[0] == grpc.StatusCode.UNAUTHENTICATED
        assert (await sender.post(TRACES, body, authorization=bearer)).status == 200
        assert await call(gate, body, metadata=(("authorization", bearer),)) == b""
    records = await topics.records()
    assert [record.headers for record in records] == [((TENANT_HEADER, "Zoë & Co".encode()),)] * 2


async def test_without_tokens_the_resource_names_the_tenant_or_the_default_counts(kafka: str, topics: Topics) -> None:
    async with gateway(kafka, default_tenant="ours") as (_, sender):
        assert (await sender.post(TRACES, one_span(13))).status == 200
    assert [record.headers for record in await topics.records()] == [((TENANT_HEADER, b"ours"),)]


async def test_a_full_buffer_says_come_again_before_a_body_is_read(served: tuple[Serving, Sender]) -> None:
    gate, sender = served
    address = gate.http
    # A sender that sends nearly 64 MiB and no end holds the buffer.
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        b"POST /v1/traces HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: %d\r\n\r\n" % (64 * MIB)
    )
    writer.write(bytes(64 * MIB - 100))
    while gate.receiver.budget.free > 100:  # noqa: ASYNC110  (a budget sets no event)
        await asyncio.sleep(0.01)
    refusal = await sender.post(TRACES, one_span(14, size=200_000))
    assert (refusal.status, int(refusal.headers["retry-after"]) > 0) == (503, True)
    code, status = await refused(gate, one_span(14, size=200_000))
    assert code == grpc.StatusCode.UNAVAILABLE
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds > 0
    writer.close()
    del reader
    while refusal.status != 200:
        refusal = await sender.post(TRACES, one_span(14, size=200_000))


async def test_kafka_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(GatewayConfig(ANYWHERE, ANYWHERE, f"127.0.0.1:{ports.pick()}")) as served:
        answer = await Sender(served.http).post(TRACES, one_span(1))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert Status.FromString(answer.body).code == grpc.StatusCode.UNAVAILABLE.value[0]
        code, status = await refused(served, one_span(1))
        retry = RetryInfo()
        assert (code, status.details[0].Unpack(retry)) == (grpc.StatusCode.UNAVAILABLE, True)
        assert retry.retry_delay.seconds == 1
        monkeypatch.setattr(forward, "LONG_S", 0.0)
        answer = await Sender(served.http).post(TRACES, one_span(1))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await Sender(served.http).post("/v1/metrics", b"")).status == 200
