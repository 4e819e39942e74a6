"""What the helper sends, encoded as an exporter does and mapped as ingest does: the same entry as from a CloudEvent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ingest.otlp.mapping import map_request
from schemas.canonical import normal_form
from schemas.event import Event
from schemas.normalize import normalize_draft, normalize_structured
from tallystick import otel
from tallystick.otel import EnvelopeLogProcessor, EnvelopeSpanProcessor
from tests.otel_helper.conftest import DIGEST, EVERYTHING

PAGE = Path(__file__).parents[2] / "docs" / "otlp-attributes.md"


class Wire:
    """A process with the helper, and what arrives of it."""

    def __init__(self, resource: dict[str, Any] | None = None) -> None:
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        made = Resource(resource or {})
        self._tracers = TracerProvider(resource=made, shutdown_on_exit=False)
        self._tracers.add_span_processor(EnvelopeSpanProcessor())
        self._tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        loggers = LoggerProvider(resource=made, shutdown_on_exit=False)
        loggers.add_log_record_processor(EnvelopeLogProcessor())
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        otel.use(loggers)
        self.tracer = self._tracers.get_tracer("test")

    def events(self) -> list[Event]:
        """What arrived, log records first."""
        logs = encode_logs(self._logs.get_finished_logs())
        spans = encode_spans(self._spans.get_finished_spans())
        mapped = [*map_request("logs", logs), *map_request("spans", spans)]
        assert [one.refusal for one in mapped] == [None] * len(mapped)
        return [normalize_draft(draft) for one in mapped for draft in one.drafts]


@pytest.fixture
def wire() -> Iterator[Wire]:
    yield Wire()
    otel.use(None)


def raw_names(event: Event) -> set[str]:
    raw = next((json.loads(one.value) for one in event.content if one.pointer == "/raw"), {})
    return {name for name in raw if not name.startswith("otlp:")}


def normal(text: bytes | None) -> bytes | None:
    """What a keyed digest is made of."""
    return None if text is None else normal_form(text)


def cloudevent(kind: str, data: dict[str, Any]) -> Event:
    """The same members as Kafka would bring them."""
    return normalize_structured(
        json.dumps(
            {"specversion": "1.0", "id": "1", "source": "s", "type": f"tallystick.{kind}.v1", "data": data}
        ).encode()
    )


EFFECT = {"system": "bank", "resource": "o/1", "action": "refund", "count": 1, "amount": "12.90", "currency": "USD"}
REFS = [{"what": "rule", "id": "over-10", "digest": DIGEST}]
SPAN = "6f2c1d1c-9d5a-5c64-8a4a-0d9d2a2b3c4d"
SAID: dict[str, dict[str, Any]] = {
    "policy_decision": {
        "decision": "require_approval",
        "policy": "refunds",
        "rule": "over-10",
        "bundle": DIGEST,
        "decision_id": "d-1",
        "call": "c-1",
        "decided_by": "opa",
        "input_digest": DIGEST,
        "input": {"amount": "12.90"},
        "reason": 'Over "10".',
        "refs": REFS,
        "step": "refund",
    },
    "approval_request": {
        "approval": "a-1",
        "call": "c-1",
        "risk": "medium",
        "blast_radius": "one order",
        "rollback_path": "reverse",
        "trigger": "rule",
        "expires": "2026-11-21T09:00:00.000000Z",
        "input": {"order": "A-1", "amount": "12.90"},
        "context": ["a", "b"],
        "diff": "- 0\n+ 12.90",
    },
    "approval_decision": {
        "approval": "a-1",
        "decision": "edit",
        "call": "c-1",
        "reviewer": "Mira Chen",
        "reviewer_kind": "human",
        "reason_code": "broken",
        "handling_us": 9,
        "viewed_us": 5,
        "input": {"order": "A-1", "amount": "9.00"},
    },
    "final_action": {"call": "c-1", "effect": EFFECT, "summary": "12"},
    "rollback": {"of": "c-1", "status": "done", "effect": EFFECT},
    "outcome": {
        "outcome": "ticket_closed",
        "work_item": {"system": "desk", "id": "T-1"},
        "verified": "true",
        "by_system": "desk",
        "value": {"amount": "12.90", "currency": "USD"},
        "reopened": False,
    },
    "memory_write": {
        "store": "notes",
        "class": "durable",
        "record": "n-1",
        "purpose": "next time",
        "readers": ["desk"],
        "retention_days": 365,
        "origin": "trusted",
        "data_classes": ["customer"],
        "value": {"likes": "tea"},
    },
    "memory_read": {"store": "notes", "class": "session", "record": "n-1", "value": "null"},
    "memory_delete": {"store": "notes", "class": "shared", "record": "n-1"},
    "tool_selection": {"offered": ["a", "b"], "chosen": "a", "rationale": "because"},
    "validator": {"rule": "r", "result": "fail", "call": "c-1", "expected": 1, "found": [2]},
    "routing_decision": {"candidates": ["m"], "chosen": "m", "tier": "small", "trigger": "t", "fallback_from": "n"},
    "delegation": {"to_agent": "risk", "to_run": "run-2", "scope": ["s"], "depth": 1, "budget": {"max_steps": 5}},
    "credential_issued": {
        "credential": "k-1",
        "mode": "on_behalf_of",
        "scopes": ["pay"],
        "ttl_seconds": 600,
        "issuer": "idp",
        "environment": "test",
        "tool": "pay",
    },
    "credential_revoked": {"credential": "k-1"},
    "human_override": {"of": SPAN, "by": "Mira Chen", "before": {"n": 1}, "after": None},
    "release": {"agent": "desk", "version": "2", "stage": "canary", "share": "0.1", "changed": ["prompt", "tool"]},
    "evaluation": {"suite": "golden", "subject": {"agent": "desk", "version": "2"}, "score": "0.97", "pass": True},
}


@pytest.mark.parametrize("kind", SAID)
def test_a_helpers_record_becomes_what_the_cloudevent_would(kind: str, wire: Wire) -> None:
    members = SAID[kind]
    given = {{"class": "class_", "pass": "pass_"}.get(name, name): value for name, value in members.items()}
    with otel.envelope("run-1"):
        getattr(otel, kind, lambda **more: otel.event(kind, **more))(**given)
    (event,) = wire.events()
    expected = cloudevent(kind, {name: value for name, value in members.items() if value is not None})

    by_ledger = {"from", "trace", "ce_source", "parent"}
    public = {name: value for name, value in event.data.items() if name not in by_ledger}
    wanted = {name: value for name, value in expected.data.items() if name not in by_ledger}
    if "of" in wanted and kind == "human_override":
        wanted["of"] = SPAN  # an id of a span is kept; one of a CloudEvent goes by its source
    assert public == wanted
    contents = {one.pointer: json.loads(one.value) for one in event.content if one.pointer != "/raw"}
    assert contents == {one.pointer: json.loads(one.value) for one in expected.content}
    assert event.persons == expected.persons
    assert normal(event.digest_input) == normal(expected.digest_input)
    assert (event.kind, event.run, event.data["from"]) == (kind, "run-1", "log")
    assert raw_names(event) == set()


STARTED = {
    **{
        name: EVERYTHING[name] for name in ("workflow", "owner", "environment", "autonomy", "contract", "policy_bundle")
    },  # type: ignore[literal-required]
    **{
        name: EVERYTHING[name]
        for name in ("prompt", "model", "budget", "work_item", "release", "trace_level", "session")
    },  # type: ignore[literal-required]
    **{name: EVERYTHING[name] for name in ("parent_run", "root_run", "depth")},  # type: ignore[literal-required]
}


def check_started(events: list[Event]) -> None:
    (started,) = (event for event in events if event.kind == "run_started")
    (finished,) = (event for event in events if event.kind == "run_finished")
    assert {name: started.data.get(name) for name in STARTED} == STARTED
    for event in (started, finished):
        assert (event.tenant, event.run) == ("acme", "run-1")
        assert event.actor == {"agent": "support-desk", "version": "1.4.0"}
        assert event.persons == [("/actor/principal", "Ann Reyes"), ("/actor/on_behalf_of", "Jo Marsh")]
        assert event.subjects == ("Jo Marsh", "ann@example.org")
        assert not any(name.startswith("tallystick.") for name in raw_names(event))


def test_the_envelope_of_a_span_is_read_as_a_whole(wire: Wire) -> None:
    with otel.envelope("run-1", **EVERYTHING):
        wire.tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    check_started(wire.events())


def test_the_envelope_of_a_resource_is_read_as_a_whole() -> None:
    resource = otel.resource_attributes(service="desk", **EVERYTHING)
    wire = Wire({**resource, "tallystick.run_id": "run-1"})
    otel.use(None)
    wire.tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    check_started(wire.events())


SERVICE = {"service.name": "support"}


@pytest.mark.parametrize(
    ("resource", "agent", "span_says", "record_says"),
    [
        (SERVICE, None, "risk-desk", "support"),
        (SERVICE, "support-desk", "support-desk", "support-desk"),
        ({**SERVICE, "tallystick.agent": "support-desk"}, None, "risk-desk", "support-desk"),
    ],
    ids=["nothing", "the envelope", "the process"],
)
def test_whose_a_span_and_what_is_said_in_it_are_where_an_agent_is_said_by(
    resource: dict[str, Any], agent: str | None, span_says: str, record_says: str
) -> None:
    wire = Wire(resource)
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.agent.name": "risk-desk"}
    with otel.envelope("run-1", agent=agent), wire.tracer.start_as_current_span("chat", attributes=attributes):
        otel.policy_decision("allow")
    agents = {event.kind: event.actor.get("agent") for event in wire.events()}
    otel.use(None)
    assert (agents["model_call"], agents["policy_decision"]) == (span_says, record_says)


def test_an_agent_with_an_envelope_in_the_block_is_itself(wire: Wire) -> None:
    with otel.envelope("run-1", agent="support-desk"):
        otel.policy_decision("allow")
        with otel.envelope(agent="risk-desk"):
            wire.tracer.start_span("chat", attributes={"gen_ai.operation.name": "chat"}).end()
            otel.validator("r", "pass")
    said = {event.kind: (event.actor.get("agent"), event.run) for event in wire.events()}
    assert said["policy_decision"] == ("support-desk", "run-1")
    assert said["model_call"] == said["validator"] == ("risk-desk", "run-1")


def test_inside_a_web_servers_span_a_run_still_begins_and_ends(wire: Wire) -> None:
    with wire.tracer.start_as_current_span("POST /tickets"), otel.envelope("run-1", workflow="refunds"):
        wire.tracer.start_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}).end()
    kinds = sorted((event.kind, event.run == "run-1") for event in wire.events())
    assert kinds == [("run_finished", True), ("run_started", True), ("span", False)]


def test_a_tools_span_says_the_effect_of_its_call(wire: Wire) -> None:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "c-1"}
    with otel.envelope("run-1"), wire.tracer.start_as_current_span("pay", attributes=attributes):
        otel.describe_call(access="write", risk="high", effect=otel.Effect(**EFFECT))  # type: ignore[typeddict-item]
    (call,) = (event for event in wire.events() if event.kind == "tool_call")

    assert (call.data["access"], call.data["risk"], call.data["effect"]) == ("write", "high", EFFECT)
    assert not any(name.startswith("tallystick.") for name in raw_names(call))


def test_a_float_as_an_amount_is_on_the_record_and_in_no_sum(wire: Wire) -> None:
    otel.final_action(run="run-1", effect={"amount": 12.9, "currency": "USD"})  # type: ignore[typeddict-item]
    (event,) = wire.events()

    assert (event.kind, event.data["effect"]) == ("final_action", {"currency": "USD"})
    assert "tallystick.inexact.effect.amount" in raw_names(event)


def test_a_decision_that_is_none_is_kept_and_named_as_missing(wire: Wire) -> None:
    otel.policy_decision("maybe", run="run-1")  # type: ignore[arg-type]
    (event,) = wire.events()

    assert ("decision" in event.data, event.data["missing"]) == (False, ["decision"])
    assert "tallystick.data.decision" in raw_names(event)


@pytest.mark.parametrize("kind", ["rejected", "conflict", "run_head", "violation", "kill_switch"])
def test_a_kind_that_is_not_a_runtimes_is_not_turned_into_another(kind: str, wire: Wire) -> None:
    otel.event(kind, reason="x")
    logs = encode_logs(wire._logs.get_finished_logs())
    assert [draft.kind for one in map_request("logs", logs) for draft in one.drafts] == [kind]


def test_the_page_lists_every_attribute() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## The envelope")[1].split("## Events")[0]
    listed = set(re.findall(r"^\| `(tallystick\.[a-z_.]+)`", table, re.MULTILINE))
    assert listed == {*otel.resource_attributes(**EVERYTHING), "tallystick.run_id"}
