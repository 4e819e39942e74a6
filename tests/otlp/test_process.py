"""The gateway as a process of its own: frozen Kafka, memory, kill -9, an orderly end, and what it refuses to do."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from ingest.otlp.address import Address
from ingest.otlp.gateway import GatewayConfig, serving
from tallystick.errors import TallyError
from tallystick.otlp import gateway
from tallystick.servers import ensure_topics, ports
from tallystick.settings import Settings
from tests.cli.tally import Tally
from tests.otlp.gateways import ANYWHERE, JSON, PROTO, Sender, Topics, one_span
from tests.support.servers import PrivateKafka, run

TRACES = "/v1/traces"
READY_S = 60
MEMORY_MB_MAX = 300
FLOOD_S = 8
SENDERS = 24


@pytest.fixture(scope="module")
def freezing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateKafka]:
    """A Kafka that this module's tests may freeze."""
    server = PrivateKafka(tmp_path_factory.mktemp("freezing"))
    run(server.start())
    run(ensure_topics(server.bootstrap))
    yield server
    os.kill(server.pid, signal.SIGCONT)
    run(server.stop())


@asynccontextmanager
async def process(bootstrap: str, folder: Path) -> AsyncIterator[tuple[subprocess.Popen[bytes], Sender]]:
    """`tally otlp`, ready; ended politely if the test did not end it."""
    http, grpc = ports.pick(), ports.pick()
    tally = Tally.at(
        folder / "home",
        TALLY_KAFKA_BOOTSTRAP=bootstrap,
        TALLY_OTLP_HTTP=f"127.0.0.1:{http}",
        TALLY_OTLP_GRPC=f"127.0.0.1:{grpc}",
    )
    log = folder / "otlp.log"
    started = tally.start("otlp", log=log)
    sender = Sender(Address("127.0.0.1", http))
    try:
        deadline = time.monotonic() + READY_S
        while not await _ready(sender):
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.05)
        yield started, sender
    finally:
        if started.poll() is None:
            started.terminate()
        assert started.wait(READY_S) in (0, -signal.SIGKILL), log.read_text()
        assert "Traceback" not in log.read_text()


async def _ready(sender: Sender) -> bool:
    try:
        return (await sender.post(TRACES, one_span(1))).status == 200
    except OSError:
        return False


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """The most that a process has ever had in memory (Linux)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


async def test_kafka_frozen_and_back(freezing: PrivateKafka) -> None:
    config = GatewayConfig(ANYWHERE, ANYWHERE, freezing.bootstrap)
    async with serving(config) as gate:
        assert await gate.forward.started(READY_S)
        gate.forward.delivery_s = 0.5
        sender = Sender(gate.http)
        assert (await sender.post(TRACES, one_span(20))).status == 200
        os.kill(freezing.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            answer = await sender.post(TRACES, one_span(21))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert time.monotonic() - began < 5
            many = await asyncio.gather(*(sender.post(TRACES, one_span(30 + n)) for n in range(20)))
            assert {answer.status for answer in many} == {503}
        finally:
            os.kill(freezing.pid, signal.SIGCONT)
        while (await sender.post(TRACES, one_span(22))).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert gate.counts.refused >= 21


@pytest.mark.parametrize("way", ["http", "grpc"])
async def test_an_sdk_outlasts_a_kafka_that_is_away_for_a_moment(freezing: PrivateKafka, way: str) -> None:
    async with serving(GatewayConfig(ANYWHERE, ANYWHERE, freezing.bootstrap)) as gate:
        assert await gate.forward.started(READY_S)
        sender = Sender(gate.http)
        assert (await sender.post(TRACES, one_span(23))).status == 200
        provider = TracerProvider(resource=Resource({"service.name": "test"}))
        with provider.get_tracer("test").start_as_current_span("one") as span:
            pass
        exporter: SpanExporter = GrpcExporter(str(gate.grpc), insecure=True)
        if way == "http":
            exporter = HttpExporter(f"http://{gate.http}/v1/traces")
        os.kill(freezing.pid, signal.SIGSTOP)
        try:
            exporting = asyncio.create_task(asyncio.to_thread(exporter.export, [span]))
            while gate.counts.refused == 0:  # noqa: ASYNC110  (a count sets no event)
                await asyncio.sleep(0.05)
        finally:
            os.kill(freezing.pid, signal.SIGCONT)
        assert await exporting is SpanExportResult.SUCCESS
        await asyncio.to_thread(exporter.shutdown)


@pytest.mark.timeout(120)
async def test_memory_stays_bounded_while_kafka_takes_nothing(freezing: PrivateKafka, tmp_path: Path) -> None:
    async with process(freezing.bootstrap, tmp_path) as (gate, sender):
        os.kill(freezing.pid, signal.SIGSTOP)
        try:
            large = one_span(1, size=800_000)
            many = b"".join(one_span(n, size=4_000) for n in range(1, 5_000))  # 20 MiB
            until = time.monotonic() + FLOOD_S

            async def flood(body: bytes) -> set[int]:
                statuses = set()
                while time.monotonic() < until:
                    statuses.add((await sender.post(TRACES, body)).status)
                return statuses

            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(SENDERS))
            floods = [flood(many) for _ in range(3)] + [flood(large) for _ in range(SENDERS - 3)]
            statuses = set.union(*await asyncio.gather(*floods))
            assert statuses == {503}
            assert memory_mb(gate) < MEMORY_MB_MAX
        finally:
            os.kill(freezing.pid, signal.SIGCONT)
        while (await sender.post(TRACES, one_span(2))).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert memory_mb(gate) < MEMORY_MB_MAX


BOMBS = {
    "lists": b'{"resourceSpans":[{"scopeSpans":[{"spans":['
    + b",".join([b'{"x":[' + b"[]," * 650_000 + b"[]]}"] * 8)
    + b"]}]}]}",
    "objects": b'{"resourceSpans":[' + b"{}," * 2_990_000 + b"{}]}",
    "attributes": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[' + b"{}," * 650_000 + b"{}]}]}]}]}",
    "resource": one_span(1, size=850_000) * 70,
}


@pytest.mark.timeout(120)
async def test_memory_stays_bounded_under_bombs(kafka: str, tmp_path: Path) -> None:
    async with process(kafka, tmp_path) as (gate, sender):
        posts = [
            sender.post(TRACES, gzip.compress(body, 1), PROTO if name == "resource" else JSON, content_encoding="gzip")
            for name, body in BOMBS.items()
            for _ in range(2)
        ]
        statuses = {answer.status for answer in await asyncio.gather(*posts)}
        assert statuses <= {200, 400, 413, 503}
        assert memory_mb(gate) < MEMORY_MB_MAX
        assert (await sender.post(TRACES, one_span(2))).status == 200


async def test_kill_9_loses_nothing_that_was_acknowledged(kafka: str, tmp_path: Path) -> None:
    topics = Topics(kafka)
    await topics.mark()
    acknowledged: set[bytes] = set()

    async def send(sender: Sender, first: int) -> None:
        for n in range(first, first + 100_000):
            try:
                answer = await sender.post(TRACES, one_span(n, size=20_000))
            except OSError:
                return
            if answer.status == 200:
                acknowledged.add(b"%032x" % n)

    async with process(kafka, tmp_path) as (gate, sender):
        sending = [asyncio.create_task(send(sender, 1_000_000 * n)) for n in range(1, 5)]
        while len(acknowledged) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        gate.kill()
        await asyncio.gather(*sending)
    kept = {record.key for record in await topics.records()}
    assert len(acknowledged) >= 40
    assert acknowledged <= kept


async def test_an_orderly_end_finishes_what_it_has(kafka: str, tmp_path: Path) -> None:
    topics = Topics(kafka)
    await topics.mark()
    async with process(kafka, tmp_path) as (gate, sender):
        body = b"".join(one_span(n, size=2_000) for n in range(5_000, 10_000))
        sending = asyncio.create_task(sender.post(TRACES, body))
        await asyncio.sleep(0.05)
        gate.terminate()
        answer = await asyncio.gather(sending, return_exceptions=True)
        assert await asyncio.to_thread(gate.wait, READY_S) == 0
    kept = {record.key for record in await topics.records()}
    if not isinstance(answer[0], BaseException) and answer[0].status == 200:
        assert {b"%032x" % n for n in range(5_000, 10_000)} <= kept


def test_other_machines_need_tokens(kafka: str, tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home", TALLY_KAFKA_BOOTSTRAP=kafka, TALLY_OTLP_HTTP="0.0.0.0:0")
    said = tally("otlp").one_line()
    assert "0.0.0.0:0" in said
    assert "tally otlp token add" in said
    nowhere = Tally.at(tmp_path / "home", TALLY_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert "does not answer" in nowhere("otlp").one_line()
    made = tally("otlp", "token", "add", "acme", "--json").json
    assert made["token"] not in Path(made["file"]).read_text()
    assert tally("otlp", "token", "list", "--json").json["tokens"][0]["tenant"] == "acme"
    assert tally("otlp", "token", "remove", made["id"]).status == 0
    assert "no token" in tally("otlp", "token", "remove", made["id"]).one_line()


@pytest.mark.parametrize("address", ["4318", "::1:4318", "host:", "host:70000"])
def test_an_address_that_is_none_is_told(tmp_path: Path, address: str) -> None:
    tally = Tally.at(tmp_path / "home", TALLY_KAFKA_BOOTSTRAP="127.0.0.1:9", TALLY_OTLP_GRPC=address)
    assert "TALLY_OTLP_GRPC" in tally("otlp").one_line()


def test_a_url_for_an_address_is_told_what_is_too_much(tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home", TALLY_KAFKA_BOOTSTRAP="127.0.0.1:9", TALLY_OTLP_HTTP="http://0.0.0.0:4418")
    assert "without http://" in tally("otlp").one_line()


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.7:1", False),
        ("ledger.example.org:1", False),
    ],
)
def test_what_only_this_machine_reaches(address: str, loopback: bool) -> None:
    assert Address.parse(address).loopback is loopback
    assert str(Address.parse(address)) == address


def _settings(home: Path, **more: Any) -> Settings:
    return Settings(home=home, _env_file=None, **more)


async def test_a_default_port_that_is_taken_gives_way_and_one_asked_for_does_not(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_topics(kafka)
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as grpc:
        taken = [f"127.0.0.1:{server.getsockname()[1]}" for server in (http, grpc)]
        monkeypatch.setattr("tallystick.otlp.OTLP_HTTP", taken[0])
        monkeypatch.setattr("tallystick.otlp.OTLP_GRPC", taken[1])
        said: list[str] = []
        async with gateway(_settings(tmp_path), kafka, {}, said.append, may_move=True) as gate:
            assert await gate.forward.started(READY_S)
            assert (await Sender(gate.http).post(TRACES, one_span(3))).status == 200
            moved = (gate.http, gate.grpc)
        assert [line.split(" ")[0] for line in said] == taken
        assert [f"send OTLP to {address} instead" in line for address, line in zip(moved, said, strict=True)] == [
            True
        ] * 2
        async with gateway(_settings(tmp_path), kafka, {}, said.append, may_move=True) as gate:
            assert (gate.http, gate.grpc) == moved
            assert await gate.forward.started(READY_S)
            other_home = _settings(tmp_path / "other")
            async with gateway(other_home, kafka, {}, said.append, may_move=True) as other:
                assert not {other.http, other.grpc} & set(moved)
                assert await other.forward.started(READY_S)
        with pytest.raises(TallyError, match="can't be served"):
            async with gateway(_settings(tmp_path, otlp_http=taken[0]), kafka, {}, said.append, may_move=True):
                pass
        with pytest.raises(TallyError, match="can't be served"):
            async with gateway(_settings(tmp_path, otlp_grpc=taken[1]), kafka, {}, said.append, may_move=False):
                pass
