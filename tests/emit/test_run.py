"""The run helper: what it emits is what the ledger's schema takes, in the order and with the links it promises."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from schemas.normalize import normalize_structured
from tallystick.emit import AsyncEmitter, Emitter, EventError, Limits, Run
from tallystick.emit.buffer import Entry
from tallystick.emit.kinds import RunOptions
from tests.emit.reading import new_topic, read

WHO = RunOptions(agent="support", version="1.4.0", principal="ann@example.org", workflow="refund")


class Kept(Emitter):
    """An emitter that never starts: what it holds is what would be sent."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__("127.0.0.1:1", source="runtime", tenant="acme", limits=limits)
        self._closed = True

    def values(self) -> list[bytes]:
        found: list[bytes] = []
        entry: Entry | None
        while (entry := self._buffer.take()) is not None:
            found.append(entry.value())
        return found

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(value) for value in self.values()]


@pytest.fixture
def emitter() -> Kept:
    return Kept()


def kind(event: Mapping[str, Any]) -> str:
    return str(event["type"]).split(".")[1]


def everything(run: Run[Any]) -> None:
    """Each method once, with what its kind requires and a good part of the rest."""
    said = run
    said.model_call(
        provider="openai", model="gpt-5", input_tokens=3, cost_claimed={"amount": "0.01", "currency": "USD"}
    )
    said.retrieval(store="kb", documents=[{"id": "d", "score": Decimal("0.87")}], query="q", text=["t"])
    said.memory_read(store="m", class_="durable", record="r", value={"a": 1.5})
    said.memory_write(store="m", class_="session", record="r", purpose="p", retention_days=3)
    said.memory_delete(store="m", class_="durable", record="r")
    said.tool_selection(chosen="t", offered=["t", "u"], rationale="because")
    said.tool_call(
        tool="pay",
        call="c1",
        phase="proposed",
        access="write",
        risk="high",
        effect={"system": "stripe", "action": "refund", "count": 1, "amount": Decimal("12.90"), "currency": "EUR"},
        input={"order": "A"},
        reason="asked for",
        refs=[{"what": "clause", "id": "4.2", "digest": "sha256:" + "0" * 64}],
    )
    said.policy_decision(decision="require_approval", policy="p", rule="r", call="c1", decided_by="opa", input={})
    expires = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    said.approval_request(approval="a1", call="c1", risk="high", trigger="risk", expires=expires, input={"order": "A"})
    said.approval_decision(approval="a1", decision="approve", reviewer="bo", reviewer_kind="human", handling_us=5)
    said.validator(rule="r", result="fail", expected="1", found="2")
    said.routing_decision(chosen="gpt-5", candidates=["gpt-5", "small"], trigger="tier")
    said.delegation(to_agent="other", to_run="run-2", scope=["read"], depth=1, budget={"spend": "1.00"})
    said.credential_issued(credential="id-1", mode="workload", scopes=["read"], ttl_seconds=60)
    said.credential_revoked(credential="id-1")
    said.human_override(of="c1", by="bo", before="x", after="y")
    said.retry(of="c1", attempt=2, cause="timeout")
    said.error(class_="TimeoutError", retryable=True, message="m")
    said.final_action(effect={"system": "s", "resource": "r", "action": "a"}, call="c1", summary="done")
    said.rollback(of="c1", status="done")
    said.outcome(
        outcome="ticket_closed",
        work_item={"system": "desk", "id": "T-7"},
        verified="pending",
        value={"amount": Decimal("4.10"), "currency": "EUR"},
    )
    said.event("evaluation", {"suite": "s", "subject": {"agent": "a", "version": "1"}, "score": Decimal("0.9")})


def test_every_kind_is_one_the_schema_takes(emitter: Kept) -> None:
    with emitter.run(
        **WHO,
        environment="test",
        autonomy="execute_with_approval",
        contract="sha256:" + "a" * 64,
        prompt={"name": "p", "version": "3"},
        work_item={"system": "desk", "id": "T-7"},
        budget={"spend": "2.50"},
        request={"text": "refund please"},
        session="s-1",
        on_behalf_of="cy@example.org",
        data_subjects=["cy@example.org", "dé e"],
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ) as run:
        everything(run)
        with run.step("plan") as step:
            step.model_call(provider="openai", model="gpt-5")
            with step.tool("t", access="read") as call:
                call.set(output=1)
            with step.retrieve(store="kb") as found:
                found.set(documents=[{"id": "d"}])
        run.finish(output="ok", cost_claimed={"amount": 3, "currency": "USD"})
    values = emitter.values()
    assert len(values) == 28
    for number, value in enumerate(values):
        event = normalize_structured(value)
        assert event.run == run.id
        assert event.tenant == "acme"
        assert event.src is not None
        assert event.src["seq"] == number + 1
        assert event.raw_unmapped == 0, event
        assert "missing" not in event.data
        assert event.actor == {"agent": "support", "version": "1.4.0"}
        assert ("/actor/principal", "ann@example.org") in event.persons
        assert ("/actor/on_behalf_of", "cy@example.org") in event.persons
        assert event.subjects == ("cy@example.org", "dé e")
        assert event.data["session"] == "s-1"


def test_declared_gaps_and_repaired_events_are_taken_too() -> None:
    emitter = Kept(Limits(events_max=1, reserve_events=9, event_bytes_max=2000))
    emitter.emit("span", {"name": "kept", "status": float("nan")}, run="r")
    emitter.emit("span", {"name": "dropped"}, run="r")
    emitter.emit("tool_call", {"tool": "t", "phase": "finished", "call": "c", "output": ["a\ud800", object()]}, run="r")
    emitter.emit("tool_call", {"tool": "t", "phase": "finished", "call": "c", "output": "x" * 3000}, run="r")
    repaired, trimmed, gap = (normalize_structured(value) for value in emitter.values())
    assert repaired.raw_unmapped == trimmed.raw_unmapped == 1
    raw = {content.pointer: json.loads(content.value) for content in (*repaired.content, *trimmed.content)}
    assert raw["/raw"]["emitter"]["trimmed"][0]["bytes"] == 3002
    assert gap.src is not None
    assert gap.data == gap.data | {"src": gap.src["id"], "from": 1, "to": 2, "count": 2, "cause": "buffer_full"}


def test_a_run_has_a_start_an_end_parents_and_times(emitter: Kept) -> None:
    with emitter.run(**WHO) as run, run.step("answer") as step, step.model(provider="p", model="m") as call:
        call.set(output="o", output_tokens=5)
    started, model, span, finished = emitter.events()
    assert [kind(event) for event in (started, model, span, finished)] == [
        "run_started",
        "model_call",
        "span",
        "run_finished",
    ]
    assert model["data"]["parent"] == span["id"]
    assert model["data"]["step"] == span["data"]["step"] == "answer"
    assert span["data"]["parent"] == finished["data"]["parent"] == started["id"]
    assert "parent" not in started["data"]
    assert model["data"]["status"] == span["data"]["status"] == "ok"
    assert started["time"] <= span["time"] <= model["time"] <= finished["time"]
    assert 0 <= model["data"]["latency_us"] <= span["data"]["latency_us"] <= finished["data"]["total_latency_us"]
    assert isinstance(model["data"]["latency_us"], int)
    assert finished["data"]["status"] == "success"
    assert model["data"]["output_tokens"] == 5


def test_an_exception_is_one_error_event_and_a_failure(emitter: Kept) -> None:
    problem = TimeoutError("no answer")
    with pytest.raises(TimeoutError) as raised, emitter.run(**WHO) as run, run.step("pay"), run.tool("pay"):
        raise problem
    assert raised.value is problem
    _, tool, error, span, finished = emitter.events()
    assert tool["data"]["status"] == span["data"]["status"] == "timeout"
    assert error["data"]["class"] == "builtins.TimeoutError"
    assert (error["data"]["of"], error["data"]["message"]) == (tool["id"], "no answer")
    assert finished["data"]["status"] == "failure"


def test_an_exception_in_a_step_is_said_once(emitter: Kept) -> None:
    with pytest.raises(KeyError), emitter.run(**WHO) as run, run.step("a") as outer, outer.step("b"):
        raise KeyError("x")
    assert [kind(event) for event in emitter.events()] == ["run_started", "error", "span", "span", "run_finished"]


async def test_a_cancelled_run_is_aborted(emitter: Kept) -> None:
    async def agent() -> None:
        with emitter.run(**WHO):
            await asyncio.sleep(60)

    task = asyncio.create_task(agent())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [kind(event) for event in emitter.events()] == ["run_started", "run_finished"]


def test_a_finished_run_is_finished_once(emitter: Kept) -> None:
    with emitter.run(**WHO) as run:
        run.finish("handed_over")
        run.finish("failure")
    _, finished = emitter.events()
    assert finished["data"]["status"] == "handed_over"


def test_a_child_run_knows_its_tree(emitter: Kept) -> None:
    with emitter.run("root", session="s", agent="a") as root, root.child(agent="b") as child, child.child() as leaf:
        pass
    first, second, third = (event["data"] for event in emitter.events()[:3])
    assert "parent_run" not in first
    assert (second["parent_run"], second["root_run"], second["depth"]) == ("root", "root", 1)
    assert (third["parent_run"], third["root_run"], third["depth"]) == (child.id, "root", 2)
    assert second["actor"] == {"agent": "b"}
    assert third["session"] == "s"
    assert len({root.id, child.id, leaf.id}) == 3


def test_amounts_given_as_floats_are_refused_and_a_bad_run_id_too(emitter: Kept) -> None:
    with pytest.raises(EventError, match=r"effect\.amount: expected a Decimal"), emitter.run(**WHO) as run:
        run.final_action(effect={"system": "s", "amount": 12.9, "currency": "EUR"})  # type: ignore[typeddict-item]
    with pytest.raises(EventError, match="run: expected"):
        emitter.run("no spaces")


def test_a_malformed_trace_context_from_outside_is_left_out(emitter: Kept) -> None:
    with emitter.run(traceparent="garbage"):
        pass
    assert all("traceparent" not in event for event in emitter.events())


async def test_durable_methods_return_when_kafka_has_it(kafka: str) -> None:
    topic = await new_topic(kafka)
    async with AsyncEmitter(kafka, source="s", topic=topic) as emitter:
        with emitter.run(**WHO) as run:
            await run.durable().tool_call(tool="pay", call="c1", phase="started", access="write")
            assert [record.kind for record in await read(kafka, topic)] == ["run_started", "tool_call"]

    def work() -> list[str]:
        with Emitter(kafka, source="s", topic=topic) as emitter, emitter.run("sync", **WHO) as run:
            event_id: str = run.durable(timeout=30).policy_decision(decision="allow")
            return [event_id]

    recorded = await asyncio.to_thread(work)
    assert recorded[0] in [record.event["id"] for record in await read(kafka, topic)]
