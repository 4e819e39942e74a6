"""Kafka killed, restarted, moved, frozen: nothing critical is missing, each loss is declared, the agent goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tallystick.emit import AsyncEmitter, Emitter, Limits, NotYetRecordedError, courier
from tests.emit.reading import assert_accounted, new_topic, read
from tests.support.servers import PrivateKafka


def distinct(records: list) -> list:
    """First arrivals only: after a change of producer an event may have been sent twice, under one id."""
    seen: set[str] = set()
    return [record for record in records if not (record.event["id"] in seen or seen.add(record.event["id"]))]


async def test_kafka_killed_and_restarted_under_load(private_kafka: PrivateKafka) -> None:
    topic = await new_topic(private_kafka.bootstrap)
    limits = Limits(events_max=500, reserve_events=2000)
    critical: list[str] = []
    longest = 0.0
    async with AsyncEmitter(private_kafka.bootstrap, source="s", topic=topic, limits=limits) as emitter:

        async def agent(count: int) -> None:
            nonlocal longest
            for n in range(count):
                started = time.perf_counter()
                emitter.emit("model_call", {"n": n, "output": "x" * 500}, run=f"r{n % 3}")
                if n % 10 == 0:
                    critical.append(emitter.emit("policy_decision", {"decision": "allow"}, run=f"r{n % 3}"))
                longest = max(longest, time.perf_counter() - started)
                await asyncio.sleep(0.0005)

        await agent(300)
        await private_kafka.kill()
        await agent(3000)
        with pytest.raises(NotYetRecordedError):
            await emitter.record("tool_call", {"tool": "pay"}, run="r0", timeout=0.2)
        assert emitter.stats.dropped > 0
        back = asyncio.create_task(private_kafka.restart())
        await agent(300)
        await back
        await agent(300)
        assert await emitter.flush(60)
        await emitter.record("tool_call", {"tool": "pay"}, run="r0")
    records = await read(private_kafka.bootstrap, topic)
    assert_accounted(records)  # aiokafka's own retries are idempotent: nothing twice here
    assert set(critical) <= {record.event["id"] for record in records}
    assert sum(record.kind == "tool_call" for record in records) == 2
    assert longest < 0.5


async def test_kafka_down_at_start_is_waited_for(private_kafka: PrivateKafka) -> None:
    topic = await new_topic(private_kafka.bootstrap)
    await private_kafka.kill()

    def agent() -> None:
        with Emitter(private_kafka.bootstrap, source="s", topic=topic) as emitter:
            for n in range(100):
                emitter.emit("model_call", {"n": n}, run="r")
            assert not emitter.flush(0.5)
            assert not emitter.stats.connected
            assert "KafkaConnectionError" in str(emitter.stats.problem)
            asyncio.run_coroutine_threadsafe(private_kafka.restart(), loop).result(60)
            assert emitter.flush(60)
            assert emitter.stats.connected
            assert emitter.stats.problem is None

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(agent)
    records = await read(private_kafka.bootstrap, topic)
    assert len(records) == 100
    assert_accounted(records)


async def test_a_frozen_broker_is_given_up_and_what_was_in_flight_sent_again(
    private_kafka: PrivateKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "STALL_S", 1.5)
    monkeypatch.setitem(courier.DEFAULTS, "request_timeout_ms", 1500)
    topic = await new_topic(private_kafka.bootstrap)
    async with AsyncEmitter(private_kafka.bootstrap, source="s", topic=topic) as emitter:
        await emitter.record("run_started", {}, run="r")
        os.kill(private_kafka.pid, signal.SIGSTOP)
        for n in range(20):
            emitter.emit("tool_call", {"n": n}, run="r")
        try:
            async with asyncio.timeout(30):
                while emitter.stats.connected:  # noqa: ASYNC110  the emitter's user has its stats, no event
                    await asyncio.sleep(0.05)
        finally:
            os.kill(private_kafka.pid, signal.SIGCONT)
        assert await emitter.flush(30)
    records = await read(private_kafka.bootstrap, topic)
    assert_accounted(distinct(records))
    assert len(distinct(records)) == 21


async def test_a_broker_that_lost_its_data_is_no_end(private_kafka: PrivateKafka, tmp_path: Path) -> None:
    """The broker comes back empty: it knows neither producer nor numbers. A new producer goes on."""
    bootstrap = private_kafka.bootstrap
    topic = await new_topic(bootstrap)
    async with AsyncEmitter(bootstrap, source="s", topic=topic) as emitter:
        for n in range(10):
            await emitter.record("tool_call", {"n": n}, run="r")
        await private_kafka.stop()
        async with PrivateKafka(tmp_path / "other", port=private_kafka.port) as other:
            from tallystick.servers.topics import ensure_topics

            await ensure_topics(other.bootstrap, {topic: 3})
            emitter.emit("tool_call", {"n": 10}, run="r")
            assert await emitter.flush(90)
            (record,) = distinct(await read(other.bootstrap, topic))
            assert record.event["sequence"] == "0000000000000011"
