"""The envelope of a run, persons, tenants, and kinds said directly by `tallystick.*`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.otlp.mapping import map_request
from schemas.errors import Rejection
from schemas.event import Event
from schemas.ids import span_id
from schemas.normalize import normalize_draft
from tests.mapping.otlp import (
    PARENT,
    SPAN,
    TRACE,
    content_of,
    drafts_of,
    events_of,
    log,
    log_events,
    span,
    spans_request,
)

DIGEST = "sha256:" + "a" * 64
RESOURCE = {
    "service.name": "refunds",
    "service.version": "4.2",
    "deployment.environment.name": "production",
    "tallystick.tenant": "acme",
    "tallystick.principal": "ann",
    "tallystick.on_behalf_of": "bob",
    "tallystick.agent": "refunder",
    "tallystick.agent_version": "7",
    "tallystick.workflow": "refund",
    "tallystick.owner": "team-money",
    "tallystick.autonomy": "execute_with_approval",
    "tallystick.contract": DIGEST,
    "tallystick.policy_bundle": DIGEST,
    "tallystick.release": "r1",
    "tallystick.trace_level": "full",
    "tallystick.work_item.system": "zendesk",
    "tallystick.work_item.id": "T-1",
    "tallystick.budget": '{"spend": {"amount": 5.50, "currency": "EUR"}}',
    "tallystick.parent_run": "run-0",
    "tallystick.root_run": "run-00",
    "tallystick.depth": 2,
    "tallystick.data_subject": "carol%20c dave",
    "tallystick.prompt.name": "p",
    "tallystick.prompt.digest": DIGEST,
    "tallystick.model": "gpt-4o",
}
AGENT = {"gen_ai.operation.name": "invoke_agent"}


def test_a_root_agents_span_starts_its_run_with_the_envelope() -> None:
    finished, started = events_of(span("invoke_agent", AGENT, parent=None), resource=RESOURCE)
    assert (finished.kind, started.kind) == ("run_finished", "run_started")
    assert finished.id == span_id(TRACE, SPAN)
    expected = {
        "workflow": "refund",
        "environment": "production",
        "owner": "team-money",
        "autonomy": "execute_with_approval",
        "contract": DIGEST,
        "policy_bundle": DIGEST,
        "prompt": {"name": "p", "digest": DIGEST},
        "model": "gpt-4o",
        "budget": {"spend": {"amount": "5.50", "currency": "EUR"}},
        "work_item": {"system": "zendesk", "id": "T-1"},
        "parent_run": "run-0",
        "root_run": "run-00",
        "depth": 2,
        "release": "r1",
        "trace_level": "full",
    }
    assert {name: started.data.get(name) for name in expected} == expected
    assert (started.time, finished.time) == ("2026-11-21T01:20:02.000000Z", "2026-11-21T01:20:02.250000Z")
    for event in (finished, started):
        assert event.tenant == "acme"
        assert event.actor == {"agent": "refunder", "version": "7"}
        assert event.persons == [("/actor/principal", "ann"), ("/actor/on_behalf_of", "bob")]
        assert event.subjects == ("carol c", "dave")


def test_the_span_counts_before_the_resource() -> None:
    (own,) = events_of(
        span("x", {"tallystick.principal": "eve", "tallystick.agent": "other", "tallystick.run_id": "r-9"}),
        resource=RESOURCE,
    )
    assert (own.persons[0], own.actor["agent"], own.run) == (("/actor/principal", "eve"), "other", "r-9")


def test_no_name_of_a_person_stands_in_clear() -> None:
    for made in (
        span("invoke_agent", AGENT, parent=None),
        span("chat", {"user.id": "ann", "gen_ai.operation.name": "chat"}),
    ):
        for event in events_of(made, resource=RESOURCE):
            public = json.dumps([event.data, event.actor, event.run, event.id])
            raw = content_of(event, "/raw") or b""
            for name in ("ann", "bob", "carol"):
                assert name not in public
                assert f'"{name}"'.encode() not in raw


def test_a_run_id_that_is_none_leaves_the_trace_and_is_kept() -> None:
    (own,) = events_of(span("x", {"tallystick.run_id": "no spaces"}))
    assert own.run == TRACE
    assert json.loads(content_of(own, "/raw") or b"")["tallystick.run_id"] == "no spaces"


def test_envelopes_of_a_wrong_form_are_kept_and_not_guessed() -> None:
    wrong = {
        "tallystick.contract": "sha256:short",
        "tallystick.autonomy": "everything",
        "tallystick.budget": "[1]",
        "tallystick.depth": -1,
        "tallystick.parent_run": "no spaces",
        "deployment.environment.name": "prod-eu",
    }
    _, started = events_of(span("invoke_agent", {**AGENT, **wrong}, parent=None))
    assert not {"contract", "autonomy", "budget", "depth", "parent_run", "environment"} & started.data.keys()
    own = events_of(span("invoke_agent", {**AGENT, **wrong}, parent=None))[0]
    assert wrong.keys() <= json.loads(content_of(own, "/raw") or b"").keys()


def test_any_root_starts_a_run_where_an_envelope_is_told() -> None:
    assert [event.kind for event in events_of(span("POST /", parent=None))] == ["span"]
    own, started = events_of(span("POST /", parent=None), resource=RESOURCE)
    assert (own.kind, started.kind, started.data["contract"]) == ("span", "run_started", DIGEST)
    assert [event.kind for event in events_of(span("chat", AGENT), resource=RESOURCE)] == ["delegation"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tallystick.tenant", ""),
        ("tallystick.tenant", "a\nb"),
        ("tallystick.tenant", 5),
        ("tallystick.data_subject", 5),
        ("tallystick.data_subject", "%ff"),
        ("tallystick.data_subject", " ".join(f"s{at}" for at in range(300))),
    ],
)
def test_a_tenant_or_data_subject_that_cant_be_is_never_guessed(name: str, value: Any) -> None:
    (mapped,) = map_request("spans", spans_request(span("x", {name: value})))
    assert mapped.refusal is not None
    assert mapped.refusal.code == "schema"
    assert mapped.drafts == ()


@pytest.mark.parametrize(
    ("of_span", "of_resource", "giver"),
    [
        ({"tallystick.agent": "desk"}, {"service.name": "support"}, "desk"),
        ({}, {"service.name": "support", "tallystick.agent": "desk"}, "desk"),
        ({}, {"service.name": "support"}, "support"),
        ({"tallystick.agent": "weather"}, {"service.name": "support"}, None),
    ],
)
def test_who_delegates_is_the_agent_of_the_envelope_before_the_service(
    of_span: dict[str, Any], of_resource: dict[str, Any], giver: str | None
) -> None:
    called = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "weather"}
    (own,) = events_of(span("invoke_agent weather", {**called, **of_span}), resource=of_resource)

    assert (own.kind, own.data["to_agent"], own.actor.get("agent")) == ("delegation", "weather", giver)


@pytest.mark.parametrize(
    ("of_record", "agent"),
    [({}, "desk"), ({"tallystick.agent": "billing"}, "billing"), ({"gen_ai.agent.name": "triage"}, "triage")],
)
def test_a_log_has_the_envelopes_agent_before_the_services_name(of_record: dict[str, Any], agent: str) -> None:
    resource = {"service.name": "support", "tallystick.agent": "desk"}
    (own,) = log_events(log("tallystick.policy_decision", of_record), resource=resource)

    assert own.actor["agent"] == agent


def test_a_service_that_was_given_no_name_is_no_agent() -> None:
    (own,) = events_of(span("x"), resource={"service.name": "unknown_service:python"})
    assert own.actor == {}


# -- kinds said directly ----------------------------------------------------------------------------------------------


def _decision(event: Event) -> None:
    assert event.kind == "policy_decision"
    expected = {"decision": "deny", "policy": "refunds", "rule": "over-limit", "bundle": DIGEST, "call": "c1"}
    assert {name: event.data.get(name) for name in expected} == expected
    assert content_of(event, "/input") == b'{"amount": 5}'
    raw = json.loads(content_of(event, "/raw") or b"{}")
    assert not [name for name in raw if name.startswith("tallystick.")]


POLICY = {
    "tallystick.kind": "policy_decision",
    "tallystick.data.decision": "deny",
    "tallystick.data.policy": "refunds",
    "tallystick.data.rule": "over-limit",
    "tallystick.data.bundle": DIGEST,
    "tallystick.data.call": "c1",
    "tallystick.data.input": '{"amount": 5}',
}


def test_a_policy_decision_said_by_a_log_a_span_and_a_span_event() -> None:
    _decision(log_events(log("", POLICY))[0])
    without = {name: value for name, value in POLICY.items() if name != "tallystick.kind"}
    _decision(log_events(log("tallystick.policy_decision", without))[0])
    _decision(events_of(span("check", POLICY))[0])
    own, said = events_of(
        span("check", {"gen_ai.operation.name": "chat"}, events=[("tallystick.policy_decision", without)])
    )
    assert own.kind == "model_call"
    assert (said.data["from"], said.data["parent"]) == ("span_event", own.id)
    _decision(said)


def test_an_approval_decision_names_its_reviewer_as_a_person() -> None:
    (own,) = log_events(
        log(
            "",
            {
                "tallystick.kind": "approval_decision",
                "tallystick.data.approval": "a1",
                "tallystick.data.decision": "reject",
                "tallystick.data.reviewer": "rita",
                "tallystick.data.reviewer_kind": "human",
                "tallystick.data.reason": "too much",
                "tallystick.data.handling_us": 1500,
                "tallystick.principal": "ann",
            },
        )
    )
    assert own.persons == [("/actor/principal", "ann"), ("/reviewer", "rita")]
    assert "reviewer" not in own.data
    assert (own.data["approval"], own.data["decision"], own.data["handling_us"]) == ("a1", "reject", 1500)
    assert content_of(own, "/reason") == b'"too much"'


def test_nested_members_come_dotted_as_lists_or_as_json() -> None:
    (outcome,) = log_events(
        log(
            "",
            {
                "tallystick.kind": "outcome",
                "tallystick.data.outcome": "ticket_closed",
                "tallystick.data.work_item.system": "zendesk",
                "tallystick.data.work_item.id": "T-1",
                "tallystick.data.verified": "pending",
                "tallystick.data.value": '{"amount": 12.50, "currency": "EUR"}',
                "tallystick.data.refs": [{"what": "rule", "id": "7"}],
            },
        )
    )
    assert outcome.data["work_item"] == {"system": "zendesk", "id": "T-1"}
    assert outcome.data["value"] == {"amount": "12.50", "currency": "EUR"}
    assert outcome.data["verified"] == "pending"
    assert outcome.data["refs"] == [{"what": "rule", "id": "7"}]
    (action,) = log_events(
        log(
            "tallystick.final_action",
            {
                "tallystick.data.effect.system": "bank",
                "tallystick.data.effect.amount": 12.5,
                "tallystick.data.effect.currency": "EUR",
                "tallystick.data.effect.count": 1,
            },
        )
    )
    assert action.data["effect"] == {"system": "bank", "amount": "12.5", "currency": "EUR", "count": 1}


def test_members_of_our_own_complete_a_span_of_any_convention() -> None:
    (own,) = events_of(
        span(
            "execute_tool pay",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "pay",
                "tallystick.data.access": "write",
                "tallystick.data.risk": "high",
                "tallystick.data.effect.amount": 5,
                "tallystick.data.effect.currency": "EUR",
                "tallystick.data.data_classes": ["personal"],
                "tallystick.data.risks": "not a member",
            },
        )
    )
    assert (own.data["tool"], own.data["access"], own.data["risk"]) == ("pay", "write", "high")
    assert own.data["effect"] == {"amount": "5", "currency": "EUR"}
    assert own.data["data_classes"] == ["personal"]
    assert json.loads(content_of(own, "/raw") or b"")["tallystick.data.risks"] == "not a member"


def test_a_value_that_the_kind_refuses_is_left_out_and_kept() -> None:
    (own,) = log_events(
        log(
            "", {"tallystick.kind": "policy_decision", "tallystick.data.decision": "perhaps", "tallystick.data.call": 5}
        )
    )
    assert own.data["missing"] == ["decision"]
    raw = json.loads(content_of(own, "/raw") or b"")
    assert (raw["tallystick.data.decision"], raw["tallystick.data.call"]) == ("perhaps", 5)


def test_what_our_own_words_replace_is_kept() -> None:
    (own,) = events_of(
        span(
            "execute_tool pay",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "pay",
                "gen_ai.tool.call.arguments": '{"a": 1}',
                "tallystick.data.tool": "pay_v2",
                "tallystick.data.input": '{"a": 2}',
                "tallystick.data.trace.trace_id": "x",
                "tallystick.data.latency_us": "soon",
            },
        )
    )
    assert (own.data["tool"], content_of(own, "/input")) == ("pay_v2", b'{"a": 2}')
    assert own.data["trace"]["trace_id"] == TRACE
    assert own.data["latency_us"] == 250_000  # a value that the kind refuses replaces none
    raw = json.loads(content_of(own, "/raw") or b"")
    assert raw["gen_ai.tool.name"] == "pay"
    assert raw["gen_ai.tool.call.arguments"] == '{"a": 1}'
    assert raw["tallystick.data.latency_us"] == "soon"
    assert raw["tallystick.data.trace.trace_id"] == "x"


def test_references_may_name_spans() -> None:
    for told in (PARENT, f"{TRACE}/{PARENT}", span_id(TRACE, PARENT)):
        (own,) = log_events(log("", {"tallystick.kind": "human_override", "tallystick.data.of": told}))
        assert own.data["of"] == span_id(TRACE, PARENT)


@pytest.mark.parametrize("kind", ["intake", "rejected", "run_head"])
def test_kinds_of_the_ledgers_own_are_refused(kind: str) -> None:
    (draft,) = drafts_of(span("x", {"tallystick.kind": kind}))
    with pytest.raises(Rejection, match="reserved_kind"):
        normalize_draft(draft)


def test_a_kind_that_nobody_knows_is_refused() -> None:
    (draft,) = drafts_of(span("x", {"tallystick.kind": "tool_cal"}))
    with pytest.raises(Rejection, match="unknown_kind"):
        normalize_draft(draft)


def test_names_in_raw_cant_be_taken_for_ours() -> None:
    (own,) = events_of(span("x", {"otlp:span": "mine", "/a": 1, "ce:id": 2}))
    raw = json.loads(content_of(own, "/raw") or b"")
    assert (raw["/otlp:span"], raw["/~1a"], raw["/ce:id"]) == ("mine", 1, 2)
    assert raw["otlp:span"]["name"] == "x"
