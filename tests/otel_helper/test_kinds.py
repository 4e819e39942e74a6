"""What the helpers emit: each member in the form the ledger reads, and never an exception into the agent."""

from __future__ import annotations

import datetime as dt
import inspect
import json
from decimal import Decimal
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadWriteLogRecord

from schemas.errors import SchemaError
from schemas.ids import span_id
from schemas.kinds import KINDS, Kind
from tallystick import otel
from tallystick.otel import kinds, names
from tallystick.otel.names import CONTENT, data_attributes, json_text
from tests.otel_helper.conftest import Sent

FUNCTIONS = {name: getattr(kinds, name) for name in KINDS if hasattr(kinds, name)}


def members_of(function: Any) -> dict[str, Any]:
    """A helper's own parameters, and the keys of its TypedDict, by the ledger's names."""
    parameters = inspect.signature(function).parameters.values()
    named = {one.name: one.default is one.empty for one in parameters if one.kind is not one.VAR_KEYWORD}
    more = next(one for one in parameters if one.kind is one.VAR_KEYWORD)
    unpacked = get_type_hints(function, include_extras=True)[more.name].__args__[0]
    common = {"run", "at", "data_subjects"}
    return {name.rstrip("_"): needed for name, needed in named.items()} | {
        name: False for name in unpacked.__annotations__.keys() | get_type_hints(unpacked).keys() if name not in common
    }


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_helper_has_the_members_of_its_kind(kind: str) -> None:
    shape = KINDS[kind].shape
    elsewhere = {"actor", "trace", "session", "parent", "attestation", "at"}  # the envelope's, the span's, the record's
    theirs = (shape.checks.keys() | shape.content) - elsewhere
    ours = members_of(FUNCTIONS[kind])

    assert ours.keys() == theirs
    assert {name for name, needed in ours.items() if needed} == set(KINDS[kind].required)


def test_every_kind_that_no_convention_has_has_a_helper() -> None:
    assert FUNCTIONS.keys() >= {
        *("policy_decision", "approval_request", "approval_decision", "outcome", "final_action", "rollback"),
        *("memory_read", "memory_write", "memory_delete", "tool_selection", "credential_issued", "human_override"),
    }


SAID = [kind for kind in KINDS.values() if kind.speaker == "anyone"]


@pytest.mark.parametrize("kind", SAID, ids=lambda kind: kind.name)
def test_content_is_told_from_public_members_as_the_ledger_does(kind: Kind) -> None:
    names = kind.shape.checks.keys() | kind.shape.content
    sent_as_json = {name for name in names if '"text"' in data_attributes(kind.name, {name: "text"}).values()}

    assert sent_as_json - {"budget"} == set(kind.shape.content)


def test_a_policy_decision_as_a_log_record(sent: Sent) -> None:
    with otel.envelope("run-1"), sent.tracer.start_as_current_span("tool") as span:
        otel.policy_decision(
            "require_approval",
            policy="refunds",
            rule="over-10",
            bundle="sha256:" + "0" * 64,
            call="call_1",
            decided_by="opa",
            input={"amount": Decimal("12.90")},
            reason='They said "no".',
            refs=[{"what": "rule", "id": "over-10"}],
        )
    (record,) = sent.records()
    at = span.get_span_context()

    assert dict(record.attributes) == {
        "tallystick.kind": "policy_decision",
        "tallystick.run_id": "run-1",
        "tallystick.data.decision": "require_approval",
        "tallystick.data.policy": "refunds",
        "tallystick.data.rule": "over-10",
        "tallystick.data.bundle": "sha256:" + "0" * 64,
        "tallystick.data.call": "call_1",
        "tallystick.data.decided_by": "opa",
        "tallystick.data.input": '{"amount":"12.90"}',
        "tallystick.data.reason": '"They said \\"no\\"."',
        "tallystick.data.refs": '[{"what":"rule","id":"over-10"}]',
    }
    assert (record.trace_id, record.span_id) == (at.trace_id, at.span_id)
    assert record.event_name == "tallystick.policy_decision"
    assert record.timestamp > 0


def test_an_outcome_from_elsewhere_and_later(sent: Sent) -> None:
    otel.outcome(
        "ticket_closed",
        {"system": "helpdesk", "id": "T-501"},
        "true",
        by_system="helpdesk",
        value={"amount": Decimal("12.90"), "currency": "USD"},
        reopened=False,
        at=dt.datetime(2026, 11, 21, 8, 30, 0, 250, tzinfo=dt.UTC),
    )
    (record,) = sent.records()

    assert dict(record.attributes) == {
        "tallystick.kind": "outcome",
        "tallystick.data.outcome": "ticket_closed",
        "tallystick.data.work_item.system": "helpdesk",
        "tallystick.data.work_item.id": "T-501",
        "tallystick.data.verified": "true",
        "tallystick.data.by_system": "helpdesk",
        "tallystick.data.value.amount": "12.90",
        "tallystick.data.value.currency": "USD",
        "tallystick.data.reopened": False,
    }
    assert record.timestamp == 1_795_249_800_000_250_000
    assert record.trace_id == 0


def test_persons_times_lists_and_effects(sent: Sent) -> None:
    expires = dt.datetime(2026, 11, 21, 9, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    otel.approval_request("a-1", "call_1", expires=expires, risk="high")
    otel.approval_decision("a-1", "reject", reviewer="Mira Chen", handling_us=9, data_subjects="Jo Marsh")
    otel.memory_write("notes", "durable", "note-1", readers=["desk"], value={"said": "likes tea"})
    otel.rollback("call_1", effect={"system": "bank", "amount": Decimal("1E+2"), "count": 1})
    otel.event("release", agent="desk", version="2", changed=["prompt", "tool"], run="run-7")

    asked, answered, noted, undone, released = (dict(record.attributes) for record in sent.records())
    assert asked["tallystick.data.expires"] == "2026-11-21T08:00:00.000000Z"
    assert (answered["tallystick.data.reviewer"], answered["tallystick.data.handling_us"]) == ("Mira Chen", 9)
    assert answered["tallystick.data_subject"] == "Jo%20Marsh"
    assert noted["tallystick.data.class"] == "durable"
    assert noted["tallystick.data.readers"] == ("desk",)
    assert json.loads(noted["tallystick.data.value"]) == {"said": "likes tea"}
    assert undone["tallystick.data.effect.amount"] == "100"
    assert undone["tallystick.data.effect.count"] == 1
    assert released["tallystick.data.changed"] == ("prompt", "tool")
    assert released["tallystick.run_id"] == "run-7"


def test_a_tool_says_of_its_own_span_what_it_does_in_the_world(sent: Sent) -> None:
    with sent.tracer.start_as_current_span("execute_tool pay"):
        effect = otel.Effect(system="bank", action="refund", amount=Decimal("12.90"), currency="USD")
        otel.describe_call(access="write", risk="high", idempotency_key="k-1", effect=effect, diff={"paid": True})
    otel.describe_call(access="write")  # outside any span: nothing to say it of

    assert sent.spans()["execute_tool pay"] == {
        "tallystick.data.access": "write",
        "tallystick.data.risk": "high",
        "tallystick.data.idempotency_key": "k-1",
        "tallystick.data.effect.system": "bank",
        "tallystick.data.effect.action": "refund",
        "tallystick.data.effect.amount": "12.90",
        "tallystick.data.effect.currency": "USD",
        "tallystick.data.diff": '{"paid":true}',
    }
    assert kinds.ToolCall.__annotations__.keys() <= KINDS["tool_call"].shape.checks.keys() | {"diff"}


def test_the_id_of_a_span_is_the_ledgers(sent: Sent) -> None:
    with sent.tracer.start_as_current_span("tool") as span:
        found = otel.event_id()
    at = span.get_span_context()

    assert found == otel.event_id(span)
    assert found == span_id(trace.format_trace_id(at.trace_id), trace.format_span_id(at.span_id))
    assert otel.event_id() is None


class Angry:
    """An object whose own code fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Failing(LogRecordProcessor):
    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        raise RuntimeError("disk full")

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def test_whatever_the_agent_gives_and_whatever_fails_nothing_is_raised(
    sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    otel.event("final_action", summary=Angry(), effect={"system": Angry(), "amount": float("nan")})
    otel.event("final_action", summary={"deep": deep, "\ud800": {1, 2}, "big": 10**5000, "inf": float("inf")})
    assert all(json.loads(record.attributes["tallystick.data.summary"]) for record in sent.records())
    assert len(sent.records()) == 2

    failing = LoggerProvider(shutdown_on_exit=False)
    failing.add_log_record_processor(Failing())
    otel.use(failing)
    otel.policy_decision("allow")
    assert "policy_decision: not emitted" in caplog.text


def test_records_that_go_nowhere_are_told(sent: Sent, caplog: pytest.LogCaptureFixture) -> None:
    otel.use(LoggerProvider(shutdown_on_exit=False))
    for _ in range(2):
        otel.final_action()
    assert caplog.text.count("no LoggerProvider that exports") == 1


@pytest.fixture
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was warned of yet in this process."""
    monkeypatch.setattr(names, "_warned", set())


def test_a_value_that_its_member_does_not_have_is_warned_of_once_and_sent(
    sent: Sent, caplog: pytest.LogCaptureFixture, unwarned: None
) -> None:
    for _ in range(2):
        otel.policy_decision("maybe")  # type: ignore[arg-type]
        otel.event("memory_read", store="notes", class_="eternal", record="note-1")
    with sent.tracer.start_as_current_span("pay"):
        otel.describe_call(risk="extreme")  # type: ignore[typeddict-item]

    kept = "; the ledger keeps it in /raw"
    assert [record.getMessage() for record in caplog.records] == [
        f"policy_decision: decision: expected one of allow, deny, require_approval, unknown, got 'maybe'{kept}",
        f"memory_read: class: expected one of working, session, durable, shared, forbidden, got 'eternal'{kept}",
        f"tool_call: risk: expected one of low, medium, high, critical, got 'extreme'{kept}",
    ]
    assert [dict(record.attributes).get("tallystick.data.decision") for record in sent.records()][::2] == ["maybe"] * 2


def test_a_kind_that_a_runtime_may_not_say_is_warned_of_and_sent(
    sent: Sent, caplog: pytest.LogCaptureFixture, unwarned: None
) -> None:
    for kind in ("tool_cal", "kill_switch", "tool_cal", "retry"):
        otel.event(kind)
    assert {kind.name for kind in SAID} == names.KINDS
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["tool_cal", "kill_switch"]
    assert len(sent.records()) == 4


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_closed_sets_are_those_of_the_ledger(kind: str) -> None:
    for member, words in kinds._vocabulary(kind).items():
        check = KINDS[kind].shape.checks[member]
        for word in words:
            check(word)
        with pytest.raises(SchemaError):
            check("no such word")


def test_what_is_right_is_not_warned_of(sent: Sent, caplog: pytest.LogCaptureFixture, unwarned: None) -> None:
    otel.policy_decision("allow")
    otel.outcome("closed", {"system": "desk", "id": "1"}, True, value={"amount": 5, "currency": "USD"})
    otel.outcome("closed", {"system": "desk", "id": "1"}, "pending")
    otel.final_action(effect={"amount": Decimal("12.90"), "count": 1}, summary={"amount": 1.5})
    otel.approval_request("a-1", "c-1", risk=None, input={"amount": 1.5})
    otel.event("retry", decision="maybe")  # which has no helper

    assert caplog.records == []


def test_a_float_is_no_amount_of_money_and_is_kept_apart(
    sent: Sent, caplog: pytest.LogCaptureFixture, unwarned: None
) -> None:
    for _ in range(2):
        otel.final_action(effect={"amount": 0.1 + 0.2, "currency": "USD"})  # type: ignore[typeddict-item]
    first, _ = sent.records()

    assert dict(first.attributes) == {
        "tallystick.kind": "final_action",
        "tallystick.data.effect.currency": "USD",
        "tallystick.inexact.effect.amount": 0.1 + 0.2,
    }
    (warning,) = caplog.records
    assert "final_action: effect.amount: a float is no amount of money" in warning.getMessage()


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals() | st.binary()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9)


@given(st.dictionaries(st.sampled_from(sorted(CONTENT | {"effect", "rule", "documents"})), VALUES))
def test_content_is_json_and_all_is_what_protobuf_can_hold(members: dict[str, Any]) -> None:
    for name, value in data_attributes("validator", members).items():
        if name.removeprefix("tallystick.data.") in CONTENT:
            json.loads(str(value))
        for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            text.encode()
        if isinstance(value, int):
            assert -(2**63) <= value < 2**63


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
EXACT = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=9,
)


@given(EXACT)
def test_json_reads_back_as_it_was(value: Any) -> None:
    assert json.loads(json_text(value)) == value
