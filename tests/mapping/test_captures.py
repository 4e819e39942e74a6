"""What real runtimes sent: the kinds they become, in order; tokens, tools and approvals; and what stays unmapped.

The captures (tests/fixtures/otlp) are each there as protobuf and as OTLP JSON.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from ingest.otlp.mapping import Mapped, map_request
from ingest.otlp.mapping.anyvalue import read_attributes
from ingest.otlp.wire import parse
from schemas.event import Event
from schemas.normalize import normalize_draft
from tests.mapping.otlp import content_of, events_of_all

CAPTURES = Path(__file__).parents[1] / "fixtures" / "otlp"
NAMES = sorted(path.stem for path in CAPTURES.glob("*.pb"))

# Per capture and span (or record), in order: what it becomes.
KINDS = {
    "google_adk": [
        ["model_call"],
        ["tool_call"],
        ["model_call"],
        ["delegation"],
        ["run_finished", "run_started"],
    ],
    "google_adk_logs": [["model_call"], ["model_call"]],
    "langgraph_oi": [
        ["model_call"],
        ["span"],
        ["tool_call"],
        ["span"],
        ["model_call"],
        ["span"],
        ["run_finished", "run_started"],
    ],
    "openai_agents_oi": [
        ["policy_decision"],
        ["model_call"],
        ["delegation"],
        ["span"],
        ["span"],
        ["model_call"],
        ["tool_call"],
        ["span"],
        ["model_call"],
        ["span"],
        ["delegation"],
        ["span"],
        ["run_finished", "run_started"],
    ],
    "pydantic_ai_approval_denied": [
        ["model_call"],
        ["run_finished", "run_started", "approval_request"],
        ["model_call"],
        ["run_finished", "run_started", "approval_decision"],
    ],
    "pydantic_ai_testmodel": [["model_call"], ["tool_call"], ["model_call"], ["run_finished", "run_started"]],
    "smolagents_oi": [
        ["model_call"],
        ["tool_call"],
        ["span"],
        ["model_call"],
        ["span"],
        ["span"],
        ["run_finished", "run_started"],
    ],
}
# Input and output tokens at the model calls, and the tools called.
TOKENS = {
    "google_adk": ([(11, 7), (11, 7)], ["get_weather"]),
    "google_adk_logs": ([(11, 7), (11, 7)], []),
    "langgraph_oi": ([(11, 7), (31, 6)], ["get_weather"]),
    "openai_agents_oi": ([(11, 7), (11, 7), (11, 7)], ["get_weather"]),
    "pydantic_ai_approval_denied": ([(51, 5), (53, 6)], []),
    "pydantic_ai_testmodel": ([(53, 5), (56, 11)], ["get_weather"]),
    "smolagents_oi": ([(11, 7), (11, 7)], ["get_weather"]),
}


def request_of(name: str, form: str) -> Any:
    signal = "logs" if name.endswith("_logs") else "spans"
    suffix, encoding = (".pb", "proto") if form == "proto" else (".json", "json")
    return parse(signal, (CAPTURES / (name + suffix)).read_bytes(), encoding)  # type: ignore[arg-type]


def mapped_of(name: str, form: str = "proto") -> list[Mapped]:
    return list(map_request("logs" if name.endswith("_logs") else "spans", request_of(name, form)))


def events(name: str) -> list[Event]:
    return events_of_all(mapped_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_kinds_in_order(name: str) -> None:
    assert [[draft.kind for draft in one.drafts] for one in mapped_of(name)] == KINDS[name]


@pytest.mark.parametrize("name", NAMES)
def test_json_says_the_same_as_protobuf(name: str) -> None:
    assert mapped_of(name, "json") == mapped_of(name, "proto")


@pytest.mark.parametrize("name", NAMES)
def test_tokens_at_model_calls_and_tools_called(name: str) -> None:
    calls = [event.data for event in events(name) if event.kind == "model_call"]
    tools = [event.data["tool"] for event in events(name) if event.kind == "tool_call"]
    assert ([(call["input_tokens"], call["output_tokens"]) for call in calls], tools) == TOKENS[name]


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_capture_is_of_its_runs_and_points_at_its_parents(name: str) -> None:
    mapped = mapped_of(name)
    own = {one.drafts[0].data["trace"].get("span_id"): one.drafts[0].id for one in mapped}
    for one in mapped:
        for draft in one.drafts:
            trace = draft.data["trace"]
            assert draft.run == trace["trace_id"]
            assert draft.time is not None
            above = trace.get("parent_span_id")
            if draft is one.drafts[0] and above is not None:
                assert draft.data["parent"] == own[above]


def test_a_denied_approval_leaves_a_request_a_decision_and_no_tool_call() -> None:
    found = events("pydantic_ai_approval_denied")
    (request,) = [event for event in found if event.kind == "approval_request"]
    (decision,) = [event for event in found if event.kind == "approval_decision"]
    assert (request.data["approval"], request.data["call"]) == ("call_1", "call_1")
    assert (decision.data["approval"], decision.data["call"]) == ("call_1", "call_1")
    assert request.run != decision.run
    assert request.data["session"] == decision.data["session"]
    assert content_of(request, "/input") == b'{"city":"Paris"}'
    assert request.digest_input == b'{"city":"Paris"}'
    assert request.time == "2026-11-21T01:20:02.051235Z"  # its span's end
    assert decision.time == "2026-11-21T01:20:02.052316Z"  # its span's start: the answer stood in the run's input
    # The span alone does not tell a denial from an approved call's result: that follows from the run's entries.
    assert decision.data["missing"] == ["decision"]
    assert [event.data["status"] for event in found if event.kind == "run_finished"] == ["handed_over", "success"]
    assert not [event for event in found if event.kind == "tool_call"]


def test_claimed_costs_are_exact_decimals() -> None:
    costs = [
        event.data["cost_claimed"] for event in events("pydantic_ai_approval_denied") if event.kind == "model_call"
    ]
    assert costs == [{"amount": "0.0001775", "currency": "USD"}, {"amount": "0.0001925", "currency": "USD"}]


def test_messages_keep_their_exact_text() -> None:
    request = request_of("pydantic_ai_testmodel", "proto")
    spans = request.resource_spans[0].scope_spans[0].spans
    for made, one in zip(spans, map_request("spans", request), strict=True):
        told = read_attributes(made.attributes)[0]
        event = normalize_draft(one.drafts[0])
        if event.kind == "model_call":
            assert content_of(event, "/messages") == told["gen_ai.input.messages"].encode()
            assert content_of(event, "/output") == told["gen_ai.output.messages"].encode()
        if event.kind == "tool_call":
            assert content_of(event, "/input") == b'{"city":"a"}'
            assert content_of(event, "/output") == b"rainy in a"


def test_flattened_messages_are_rebuilt() -> None:
    call = [event for event in events("langgraph_oi") if event.kind == "model_call"][1]
    messages = json.loads(content_of(call, "/messages") or b"")
    assert [one["message"]["role"] for one in messages] == ["user", "assistant", "tool"]
    function = messages[1]["message"]["tool_calls"][0]["tool_call"]["function"]
    assert function == {"name": "get_weather", "arguments": '{"city": "Paris"}'}


def test_langgraph_tells_session_person_agent_step_and_call() -> None:
    found = events("langgraph_oi")
    (tool,) = [event for event in found if event.kind == "tool_call"]
    assert (tool.data["call"], tool.data["step"], tool.data["session"]) == ("call_1", 2, "s-1")
    assert all(event.persons == [("/actor/principal", "u-1")] for event in found)
    assert all(event.actor == {"agent": "weather_agent"} for event in found)
    assert content_of(tool, "/input") == b'"Paris"'  # not JSON as it came: a JSON string, to be digested


def test_handoffs_are_delegations() -> None:
    found = [event for event in events("openai_agents_oi") if event.kind == "delegation"]
    assert [(event.actor.get("agent"), event.data["to_agent"]) for event in found] == [
        ("triage_agent", "weather_agent"),  # "handoff to weather_agent"
        ("triage_agent", "weather_agent"),  # the agent's own span, by graph.node.parent_id
    ]


def test_a_guardrail_without_a_verdict_is_unknown() -> None:
    (decision,) = [event for event in events("openai_agents_oi") if event.kind == "policy_decision"]
    assert (decision.data["rule"], decision.data["decision"]) == ("no_secrets", "unknown")


def test_roles_alone_are_no_messages() -> None:
    last = [event for event in events("openai_agents_oi") if event.kind == "model_call"][-1]
    assert b"It is rainy in Paris" in (content_of(last, "/output") or b"")


def test_runs_tell_what_was_asked_and_what_came_of_it() -> None:
    for name in ("langgraph_oi", "pydantic_ai_testmodel", "smolagents_oi"):
        found = {event.kind: event for event in events(name)}
        assert b"Weather in Paris?" in (content_of(found["run_started"], "/request") or b"")
        assert b"rainy" in (content_of(found["run_finished"], "/output") or b"")
        assert found["run_finished"].data["status"] == "success"
        assert found["run_started"].time < found["run_finished"].time  # type: ignore[operator]


# -- what stays in /raw -----------------------------------------------------------------------------------------------

# Names of this kind must not stay in /raw alone.
_OURS = re.compile(
    r"token|tool|error|exception|approv|usage|cost|principal|enduser|user[._]id|session|agent[._](?:name|id)",
    re.IGNORECASE,
)
# But for these, whose kind has no place for them, or which are told by others.
_ALLOWED = {
    "gen_ai.tool.definitions": "their names are tools_offered; their texts have no place",
    "model_request_parameters": "request parameters",
    "gen_ai.tool.description": "a definition's text",
    "gen_ai.tool.type": "function, extension or datastore: not which tool",
    "tool.description": "a definition's text",
    "tool.parameters": "a definition's schema",
    "smolagents.tools_names": "told by run_started.tool_schemas",
    "gen_ai.agent.description": "a text about the agent",
    "gen_ai.agent.call.id": "recorded, not the run (events.md)",
    "gcp.vertex.agent.event_id": "an id of the framework's own",
    "gcp.vertex.agent.invocation_id": "recorded, not the run (events.md)",
    "gen_ai.aggregated_usage.input_tokens": "a sum over the model calls, which are counted themselves (rule 1)",
    "gen_ai.aggregated_usage.output_tokens": "a sum over the model calls",
}
_SUMS = re.compile(r"llm\.token_count\.|gen_ai\.usage\.")  # on an agent's span: a sum over its model calls
_STRUCTURE = {"tool.name"}  # of smolagents' final answer, which is no tool call


def shares() -> list[tuple[str, int, int, list[str]]]:
    """Per capture: attributes, how many of them stand in /raw, and their names."""
    rows = []
    for name in NAMES:
        request = request_of(name, "proto")
        containers = request.resource_logs if name.endswith("_logs") else request.resource_spans
        (container,) = containers
        scoped = container.scope_logs if name.endswith("_logs") else container.scope_spans
        records = [record for one in scoped for record in (one.log_records if name.endswith("_logs") else one.spans)]
        total = sum(len(record.attributes) for record in records)
        raw: list[str] = []
        for one in mapped_of(name):
            raw += [key for key, _ in one.drafts[0].raw if not key.startswith("otlp:")]
        rows.append((name, total, len(raw), sorted(set(raw))))
    return rows


def test_the_share_of_unmapped_attributes_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    rows = shares()
    with capsys.disabled():
        sys.stdout.write("\nruntime                       attributes  unmapped  share\n")
        for name, total, raw, _ in rows:
            sys.stdout.write(f"{name:30}{total:10}{raw:10}{raw / total:7.0%}\n")
    assert max(raw / total for _, total, raw, _ in rows) < 0.5
    assert [name for name, total, _, _ in rows if total == 0] == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_ours_stays_in_raw_alone(name: str) -> None:
    for one in mapped_of(name):
        own = one.drafts[0]
        for key, _ in own.raw:
            if key.startswith("otlp:") or not _OURS.search(key) or key in _ALLOWED:
                continue
            if own.kind == "run_finished" and _SUMS.match(key):
                continue
            assert own.kind == "span", (name, own.kind, key)
            assert key in _STRUCTURE, (name, own.kind, key)
