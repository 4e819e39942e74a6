"""Emitters against a real Kafka: order, numbers, durable mode, signature, the agent's time, the process's end."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path
from statistics import median

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick.emit import (
    AsyncEmitter,
    Emitter,
    EventError,
    Limits,
    NotYetRecordedError,
    RefusedError,
    Signer,
    kafka_from_environment,
)
from tests.emit.reading import assert_accounted, declared, new_topic, numbers, read

ROOT = Path(__file__).parents[2]
NOBODY = "127.0.0.1:1"  # no Kafka answers there


@pytest.fixture
async def topic(kafka: str) -> str:
    return await new_topic(kafka)


async def test_events_arrive_in_order_under_their_run(kafka: str, topic: str) -> None:
    async with AsyncEmitter(kafka, source="runtime", tenant="acme", topic=topic) as emitter:
        ids = [emitter.emit("model_call", {"n": n}, run=f"run-{n % 7}") for n in range(3000)]
        assert await emitter.flush()
        assert emitter.stats.delivered == 3000
        assert emitter.stats.queued == emitter.stats.queued_bytes == 0
    records = await read(kafka, topic)
    assert sorted(record.event["id"] for record in records) == sorted(ids)
    assert_accounted(records)
    assert len(numbers(records)) == 7
    for record in records:
        event = record.event
        assert record.key == event["subject"]
        assert record.headers["content-type"] == b"application/cloudevents+json"
        assert (event["specversion"], event["source"], event["tenant"]) == ("1.0", "runtime", "acme")
        assert event["type"] == "tallystick.model_call.v1"
        assert len(event["sequence"]) == 16
        assert uuid.UUID(event["id"]).version == 7
    for run in range(7):
        of_run = [record.event["data"]["n"] for record in records if record.key == f"run-{run}"]
        assert of_run == sorted(of_run)


async def test_events_of_no_run_are_one_series_and_outcomes_are_keyed_by_work_item(kafka: str, topic: str) -> None:
    async with AsyncEmitter(kafka, source="s", topic=topic) as emitter:
        emitter.emit("release", {"agent": "a", "version": "2"})
        emitter.emit("outcome", {"outcome": "closed", "work_item": {"system": "desk", "id": "T-7"}, "verified": "true"})
        emitter.emit("release", {"agent": "b", "version": "3"})
    records = await read(kafka, topic)
    assert sorted(int(record.event["sequence"]) for record in records) == [1, 2, 3]
    assert {record.event["producerid"] for record in records}.__len__() == 1
    assert [record.key for record in records if record.kind == "outcome"] == ["T-7"]
    assert all("subject" not in record.event and "tenant" not in record.event for record in records)


async def test_the_synchronous_emitter_does_the_same(kafka: str, topic: str) -> None:
    def work() -> None:
        with Emitter(kafka, source="s", topic=topic) as emitter:
            workers = [
                threading.Thread(
                    target=lambda: [emitter.emit("retrieval", {"store": "s"}, run="r") for _ in range(500)]
                )
                for _ in range(4)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert emitter.flush()

    await asyncio.to_thread(work)
    records = await read(kafka, topic)
    assert len(records) == 2000
    assert_accounted(records)


async def test_record_returns_when_kafka_has_it(kafka: str, topic: str) -> None:
    async with AsyncEmitter(kafka, source="s", topic=topic) as emitter:
        event_id = await emitter.record("tool_call", {"tool": "pay", "call": "c", "phase": "started"}, run="r")
        assert [record.event["id"] for record in await read(kafka, topic)] == [event_id]

    def work() -> str:
        with Emitter(kafka, source="s", topic=topic) as emitter:
            return emitter.record("tool_call", {"tool": "pay", "call": "d", "phase": "started"}, run="r", timeout=30)

    event_id = await asyncio.to_thread(work)
    assert event_id in [record.event["id"] for record in await read(kafka, topic)]


async def test_record_says_what_is_wrong_when_kafka_is_not_there() -> None:
    emitter = AsyncEmitter(NOBODY, source="s", limits=Limits(events_max=2, reserve_events=1))
    with pytest.raises(NotYetRecordedError, match=r"not recorded within 0\.5 s, still queued: .*bootstrap"):
        await emitter.record("tool_call", {}, run="r", timeout=0.5)
    waiting = asyncio.create_task(emitter.record("tool_call", {}, run="r", timeout=30))
    emitter.emit("tool_call", {}, run="r")
    await asyncio.sleep(0)
    with pytest.raises(RefusedError, match="full"):
        await emitter.record("tool_call", {}, run="r")
    assert not await emitter.close(0.1)
    with pytest.raises(RefusedError, match="closed before"):
        await waiting
    with pytest.raises(RefusedError, match="closed"):
        await emitter.record("tool_call", {}, run="r")
    emitter.emit("tool_call", {}, run="r")  # the agent goes on


def test_the_synchronous_record_too() -> None:
    emitter = Emitter(NOBODY, source="s")
    with pytest.raises(NotYetRecordedError, match="still queued"):
        emitter.record("tool_call", {}, run="r", timeout=0.2)
    started = time.monotonic()
    assert not emitter.close(0.2)
    assert time.monotonic() - started < 4


def test_what_is_wrong_with_an_event_is_said_at_once() -> None:
    emitter = Emitter(NOBODY, source="s")
    with pytest.raises(EventError, match="run: expected"):
        emitter.emit("span", {}, run="with space")
    with pytest.raises(EventError, match="kind: expected"):
        emitter.emit("Tool Call", {}, run="r")
    with pytest.raises(EventError, match="amount"):
        emitter.emit("tool_call", {"cost": {"amount": 0.1, "currency": "EUR"}}, run="r")
    with pytest.raises(EventError, match="tenant"):
        Emitter(NOBODY, source="s", signer=Signer("k", Ed25519PrivateKey.generate()))
    with pytest.raises(EventError, match="TALLY_KAFKA_BOOTSTRAP"):
        Emitter(source="s")
    assert emitter.stats.emitted == 0


def test_the_address_and_its_security_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("BOOTSTRAP", "k1:9092,k2:9092"),
        ("SECURITY_PROTOCOL", "SASL_SSL"),
        ("SASL_USERNAME", "support"),
        ("SASL_PASSWORD", "secret"),
    ):
        monkeypatch.setenv(f"TALLY_KAFKA_{name}", value)
    found = kafka_from_environment()
    assert isinstance(found.pop("ssl_context"), ssl.SSLContext)
    assert found == {
        "bootstrap_servers": "k1:9092,k2:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "support",
        "sasl_plain_password": "secret",
    }
    monkeypatch.setenv("TALLY_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    assert "ssl_context" not in kafka_from_environment()


async def test_each_record_is_signed(kafka: str, topic: str) -> None:
    key = Ed25519PrivateKey.generate()
    async with AsyncEmitter(kafka, source="s", tenant="acme", topic=topic, signer=Signer("k1", key)) as emitter:
        for n in range(20):
            emitter.emit("tool_call", {"output": "é" * n}, run="r")
    records = await read(kafka, topic)
    assert len(records) == 20
    for record in records:
        key_id, _, signature = record.headers["tallystick-sig"].partition(b":")
        assert key_id == b"k1"
        parts = (b"tallystick/producer-sig/v1", b"acme", record.value)
        signed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        key.public_key().verify(base64.b64decode(signature), signed)


async def test_what_a_full_buffer_drops_is_declared_once_kafka_is_there(kafka: str, topic: str) -> None:
    emitter = AsyncEmitter(kafka, source="s", topic=topic, limits=Limits(events_max=100, reserve_events=100))
    for n in range(150):  # nothing is awaited here, so nothing leaves
        emitter.emit("model_call", {"n": n}, run="a")
        emitter.emit("retrieval", {"n": n}, run="b")
    important = [emitter.emit("policy_decision", {"decision": "allow"}, run="a") for _ in range(30)]
    assert await emitter.close(30)
    records = await read(kafka, topic)
    assert_accounted(records)
    lost = declared(records)
    assert sum(map(len, lost.values())) == 300 - 70
    assert emitter.stats.dropped == 230
    assert set(important) <= {record.event["id"] for record in records}
    assert {record.event["data"]["cause"] for record in records if record.kind == "producer_gap"} == {"buffer_full"}


async def test_an_event_that_is_too_large_loses_content_first_then_is_declared(kafka: str, topic: str) -> None:
    async with AsyncEmitter(kafka, source="s", topic=topic, limits=Limits(event_bytes_max=10_000)) as emitter:
        emitter.emit("tool_call", {"tool": "t", "output": "x" * 50_000, "input": "kept"}, run="r")
        emitter.emit("tool_call", {"tool": "t" * 50_000}, run="r")
        with pytest.raises(RefusedError, match="10000 bytes"):
            await emitter.record("tool_call", {"tool": "t" * 50_000}, run="r")
    trimmed, gap = await read(kafka, topic)
    assert trimmed.event["data"]["input"] == "kept"
    assert trimmed.event["data"]["emitter"]["trimmed"][0]["member"] == "output"
    assert gap.event["data"]["cause"] == "too_large"
    assert_accounted([trimmed, gap])


async def test_what_the_broker_will_not_take_is_declared_and_the_rest_arrives(kafka: str) -> None:
    topic = await new_topic(kafka, 1, **{"max.message.bytes": "20000"})
    async with AsyncEmitter(kafka, source="s", topic=topic) as emitter:
        for n in range(6):
            await emitter.flush()
            emitter.emit("tool_call", {"n": n, "output": secrets.token_hex(20_000 if n == 2 else 100)}, run="r")
        with pytest.raises(RefusedError, match="too_large"):
            await emitter.record("tool_call", {"output": secrets.token_hex(20_000)}, run="r")
        emitter.emit("tool_call", {"n": 6}, run="r")
    records = await read(kafka, topic)
    assert_accounted(records)
    assert [record.event["data"]["n"] for record in records if record.kind == "tool_call"] == [0, 1, 3, 4, 5, 6]
    assert sum(map(len, declared(records).values())) == 2


async def test_a_topic_that_comes_later_is_waited_for(kafka: str) -> None:
    from tallystick.servers.topics import ensure_topics

    topic = f"emit-late-{secrets.token_hex(4)}"
    async with AsyncEmitter(kafka, source="s", topic=topic) as emitter:
        emitter.emit("run_started", {}, run="r")
        assert not await emitter.flush(0.5)
        await ensure_topics(kafka, {topic: 1})
        assert await emitter.flush(30)
    assert len(await read(kafka, topic)) == 1


def test_the_agent_never_waits(capsys: pytest.CaptureFixture[str]) -> None:
    """Kafka away, then the buffer full: emit() is a matter of microseconds throughout."""
    emitter = Emitter(NOBODY, source="s", limits=Limits(events_max=2000, reserve_events=100))
    data = {"tool": "orders.get", "access": "read", "input": {"order": "A-17", "q": "x" * 150}, "output": "y" * 300}
    took = []
    for _ in range(5000):
        started = time.perf_counter_ns()
        emitter.emit("tool_call", data, run="run-1")
        took.append((time.perf_counter_ns() - started) / 1000)
    emitter.close(0)
    took.sort()
    with capsys.disabled():
        print(f"\nemit(): median {median(took):.1f} us, p99 {took[-50]:.1f} us, longest {took[-1]:.0f} us")  # noqa: T201
    assert median(took) < 50
    assert took[-50] < 5000


async def test_the_agent_never_waits_while_kafka_takes_events(kafka: str, topic: str) -> None:
    async with AsyncEmitter(kafka, source="s", topic=topic) as emitter:
        took = []
        for _ in range(2000):
            started = time.perf_counter_ns()
            emitter.emit("tool_call", {"tool": "orders.get", "output": "y" * 300}, run="run-1")
            took.append((time.perf_counter_ns() - started) / 1000)
            await asyncio.sleep(0)
    assert median(took) < 50


def script(text: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(text), *arguments]
    environment = {"PATH": os.environ["PATH"], **more}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


SYNC = """
    import sys
    from tallystick.emit import Emitter
    emitter = Emitter(source="s", topic=sys.argv[1])
    for n in range(500):
        emitter.emit("model_call", {"n": n}, run="r")
"""
ASYNC = """
    import asyncio, sys
    from tallystick.emit import AsyncEmitter
    async def main():
        global emitter
        emitter = AsyncEmitter(source="s", topic=sys.argv[1])
        for n in range(500):
            emitter.emit("model_call", {"n": n}, run="r")
            if n % 100 == 0:
                await asyncio.sleep(0)
    asyncio.run(main())
"""


@pytest.mark.parametrize("text", [SYNC, ASYNC], ids=["sync", "async"])
async def test_the_end_of_the_process_flushes(kafka: str, topic: str, text: str) -> None:
    ended = await asyncio.to_thread(script, text, topic, TALLY_KAFKA_BOOTSTRAP=kafka)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    records = await read(kafka, topic)
    assert len(records) == 500
    assert_accounted(records)


async def test_the_end_of_the_process_resolves_names(kafka: str, topic: str) -> None:
    """Default executors refuse work at exit; a name must be looked up all the same."""
    port = kafka.rsplit(":", 1)[1]
    ended = await asyncio.to_thread(script, SYNC, topic, TALLY_KAFKA_BOOTSTRAP=f"localhost:{port}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(await read(kafka, topic)) == 500


@pytest.mark.parametrize("text", [SYNC, ASYNC], ids=["sync", "async"])
def test_the_end_of_the_process_is_bounded_without_kafka(text: str) -> None:
    started = time.monotonic()
    ended = script(text.replace('source="s"', 'source="s", exit_timeout_s=1'), "t", TALLY_KAFKA_BOOTSTRAP=NOBODY)
    assert ended.returncode == 0
    assert "closed with 500 events that Kafka did not acknowledge: they are lost" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "never retrieved" not in ended.stderr
    assert time.monotonic() - started < 8


async def test_a_forked_child_has_its_own_numbers(kafka: str, topic: str) -> None:
    text = """
        import os, sys
        from tallystick.emit import Emitter
        emitter = Emitter(source="s", topic=sys.argv[1])
        emitter.emit("run_started", {"who": "parent"}, run="p")
        emitter.flush()
        emitter.emit("run_finished", {"who": "parent"}, run="p")
        if (child := os.fork()) == 0:
            emitter.emit("run_started", {"who": "child"}, run="p")
            os._exit(0 if emitter.close() else 1)
        emitter.emit("error", {"who": "parent"}, run="p")
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    ended = await asyncio.to_thread(script, text, topic, TALLY_KAFKA_BOOTSTRAP=kafka)
    assert (ended.returncode, ended.stderr) == (0, "")
    records = await read(kafka, topic)
    assert_accounted(records)
    assert sorted(map(len, numbers(records).values())) == [1, 3]
    assert {record.event["data"]["who"] for record in records if record.event["sequence"].endswith("03")} == {"parent"}


async def test_a_killed_process_leaves_what_was_acknowledged(kafka: str, topic: str) -> None:
    text = """
        import os, signal, sys
        from tallystick.emit import Emitter
        emitter = Emitter(source="s", topic=sys.argv[1])
        for n in range(10):
            emitter.record("tool_call", {"n": n}, run="r")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = await asyncio.to_thread(script, text, topic, TALLY_KAFKA_BOOTSTRAP=kafka)
    assert ended.returncode == -signal.SIGKILL
    assert len(await read(kafka, topic)) == 10
