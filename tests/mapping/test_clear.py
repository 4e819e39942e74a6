"""What of others' texts stands in clear: names and no more, and what is left out is kept in /raw as it came."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ingest.otlp.mapping import clear
from schemas.event import Event
from tests.mapping.otlp import content_of, events_of, log, log_events, span
from tests.support.pace import slack

SECRET = "Kari Nordmann <kari@example.com> owes 900"


def public(event: Event) -> str:
    return json.dumps([event.data, event.actor], ensure_ascii=False)


def raw(event: Event) -> dict[str, Any]:
    return dict(json.loads(content_of(event, "/raw") or b"{}"))


@pytest.mark.parametrize(
    ("uri", "store"),
    [
        ("https://user:password@host:8443/notes/7?token=t0ken&q=kari#part", "https://host:8443/notes/7"),
        ("postgres://user:p?ss@host/crm", "postgres://host/crm"),
        ("file:///srv/notes", "file:///srv/notes"),
        ("notes:today?token=t0ken", "notes:today"),
        ("data:text/plain;base64,S2FyaQ==", "data:text/plain;base64"),
        ("https://host/customers/kari@example.com", None),
        ("mailto:kari@example.com", None),
    ],
)
def test_a_resource_is_told_without_its_user_and_query(uri: str, store: str | None) -> None:
    (own,) = events_of(span("resources/read", {"mcp.method.name": "resources/read", "mcp.resource.uri": uri}))
    assert own.kind == "retrieval"
    assert own.data.get("store") == store
    assert raw(own).get("mcp.resource.uri") == (None if store == uri else uri)


def test_documents_are_told_without_users_and_queries() -> None:
    documents = '[{"id": "https://u:p@host/a?sig=t0ken", "score": 0.5}, {"id": 7}, {"id": "doc-1"}]'
    attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": documents}
    (own,) = events_of(span("retrieval", attributes))
    assert [document.get("id") for document in own.data["documents"]] == ["https://host/a", "7", "doc-1"]
    assert content_of(own, "/text") == documents.encode()


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("execute_tool pay", "pay"),
        ("tools/call crm:notes.get/v2-x", "crm:notes.get/v2-x"),
        ("running tool: get_weather", "get_weather"),
        ('execute_tool pay with args {"to": "Kari Nordmann"}', None),
        ("execute_tool pay Kari", None),
        ("execute_tool https://host/x", None),
        ("execute_tool " + "x" * 129, None),
    ],
)
def test_a_tool_is_named_by_its_span_only_where_that_is_a_name(name: str, tool: str | None) -> None:
    (own,) = events_of(span(name, {"gen_ai.operation.name": "execute_tool"}))
    assert (own.kind, own.data.get("tool")) == ("tool_call", tool)
    assert raw(own)["otlp:span"]["name"] == name
    if tool is None:
        assert "tool" in own.data["missing"]


@pytest.mark.parametrize("kind", ["TOOL", "RETRIEVER", "GUARDRAIL", "EVALUATOR", "AGENT"])
def test_what_a_span_is_named_after_is_no_text(kind: str) -> None:
    (own, *_) = events_of(span(SECRET, {"openinference.span.kind": kind}))
    assert "Nordmann" not in public(own)
    assert raw(own)["otlp:span"]["name"] == SECRET
    (own, *_) = events_of(span("look_up", {"openinference.span.kind": kind}))
    assert "look_up" in public(own)


@pytest.mark.parametrize("told", ["triage", "Triage agent"])
def test_openai_agents_tell_who_hands_over_as_the_input(told: str) -> None:
    attributes = {"openinference.span.kind": "TOOL", "input.value": told, "output.value": "billing"}
    (own,) = events_of(span("handoff to billing", attributes), scope="openinference.instrumentation.openai_agents")
    assert (own.actor["agent"], own.data["to_agent"]) == (told, "billing")
    assert not {"input.value", "output.value"} & raw(own).keys()


@pytest.mark.parametrize("scope", ["test", "openinference.instrumentation.openai_agents"])
@pytest.mark.parametrize("told", ['{"customer": "Nordmann"}', '["Nordmann"]', '"Nordmann"', "4711", SECRET, "x" * 129])
def test_the_input_of_a_tool_is_no_agent(told: str, scope: str) -> None:
    attributes = {"openinference.span.kind": "TOOL", "input.value": told, "output.value": told}
    (own,) = events_of(span("handoff to human", attributes), scope=scope)
    assert (own.kind, own.data["to_agent"], own.actor["agent"]) == ("delegation", "human", "svc")
    assert raw(own)["input.value"] == told


def test_the_input_of_anybodys_tool_is_no_agent() -> None:
    attributes = {"openinference.span.kind": "TOOL", "input.value": "Nordmann"}
    (own,) = events_of(span("handoff to human", attributes))
    assert own.actor["agent"] == "svc"
    assert raw(own)["input.value"] == "Nordmann"


def test_agents_that_hand_over_are_names() -> None:
    (own,) = events_of(span(f"handoff to {SECRET}", {"traceloop.span.kind": "handoff", "to_agent": SECRET}))
    assert (own.kind, own.data["missing"]) == ("delegation", ["to_agent"])
    assert raw(own)["to_agent"] == SECRET
    attributes = {"gen_ai.operation.name": "handoff", "gen_ai.handoff.from_agent": SECRET}
    (own,) = events_of(span(f"{SECRET} → billing.handoff", attributes))
    assert own.data["to_agent"] == "billing"
    assert "Nordmann" not in public(own)
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.type": "TransferToAgentTool"}
    arguments = json.dumps({"agent_name": SECRET})
    (own,) = events_of(span("execute_tool x", {**attributes, "gen_ai.tool.call.arguments": arguments}))
    assert own.data["missing"] == ["to_agent"]


def test_an_error_is_of_a_type_and_not_of_a_text() -> None:
    own, error = events_of(span("x", {"error.type": SECRET}, status=(2, "")))
    assert error.data["class"] == "_OTHER"
    assert raw(own)["error.type"] == SECRET
    own, error = events_of(span("x", events=[("exception", {"exception.type": SECRET, "exception.message": "m"})]))
    assert (error.data["class"], content_of(error, "/message")) == ("_OTHER", b"m")
    assert raw(own)["otlp:events"][0]["attributes"] == {"exception.type": SECRET}
    own, request = events_of(span("x", events=[("exception", {"exception.type": SECRET + ".GraphInterrupt"})]))
    assert request.kind == "approval_request"
    assert raw(own)["otlp:events"][0]["attributes"] == {"exception.type": SECRET + ".GraphInterrupt"}
    (record,) = log_events(log("x", {"exception.type": SECRET}))
    assert "Nordmann" not in public(record)
    assert raw(record)["exception.type"] == SECRET
    for told in ("requests.exceptions.HTTPError", "HTTP 404 Not Found", "*url.Error", "Tidsüberschreitung"):
        assert events_of(span("x", {"error.type": told}))[1].data["class"] == told
    assert events_of(span("x", {"error.type": 404}))[1].data["class"] == "404"


@pytest.mark.parametrize("cause", [SECRET, '{"to": "Nordmann"}', "one two three four five six seven"])
def test_why_something_was_asked_again_is_a_reason_and_not_a_text(cause: str) -> None:
    attributes = {"pydantic_ai.output.retry.cause": cause, "pydantic_ai.output.retry.attempt": 1}
    own, failed, again = events_of(span("execute_tool a", {"gen_ai.operation.name": "execute_tool", **attributes}))
    assert (failed.data["result"], failed.data["missing"]) == ("fail", ["rule"])
    assert again.data["attempt"] == 1
    assert not {"rule", "cause"} & (failed.data.keys() | again.data.keys())
    assert raw(own)["pydantic_ai.output.retry.cause"] == cause


def test_where_a_graph_goes_is_a_node() -> None:
    name = "langgraph.command.goto_nodes"
    own, *found = events_of(span("x", {name: ["billing", SECRET, "Send(node='x', arg={'to': 'Nordmann'})", "billing"]}))
    assert [one.data["chosen"] for one in found] == ["billing"]
    assert SECRET in raw(own)[name]
    own, *found = events_of(span("x", {name: '["billing", "refunds"]'}))
    assert [one.data["chosen"] for one in found] == ["billing", "refunds"]
    assert name not in raw(own)


def test_why_a_model_stopped_is_a_reason() -> None:
    chat = {"gen_ai.operation.name": "chat"}
    for told in (SECRET, ["stop", SECRET], f'["{SECRET}"]'):
        (own,) = events_of(span("chat", {**chat, "gen_ai.response.finish_reasons": told}))
        assert "finish_reason" not in own.data
        assert raw(own)["gen_ai.response.finish_reasons"] == told
    choices = [("gen_ai.choice", {"finish_reason": told}) for told in ("stop", SECRET)]
    (own,) = events_of(span("chat", chat, events=choices))
    assert own.data["finish_reason"] == "stop"
    assert SECRET.encode() in b"".join(one.value for one in own.content)
    (own,) = events_of(span("chat", {**chat, "gen_ai.response.finish_reasons": ["stop", "tool_calls"]}))
    assert own.data["finish_reason"] == "stop,tool_calls"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("GET /accounts", "GET /accounts"),
        ("GET https://user:password@host/accounts/7?token=t0ken", "GET https://host/accounts/7"),
        ("GET https://user:p?ss@host/accounts#access_token=t0ken", "GET https://host/accounts"),
        ("POST /customers/kari@example.com/orders", "POST /customers/"),
        ("GET https://host/kari@example.com", "GET https"),
        ("mail to kari@example.com", "mail to"),
        ("UsersController#show", "UsersController#show"),
        ("?token=t0ken", None),
        ("x" * 5_000, "x" * 256),
    ],
)
def test_a_spans_name_is_told_up_to_what_may_be_secret(name: str, told: str | None) -> None:
    (own,) = events_of(span(name))
    assert own.data.get("name") == told
    assert raw(own)["otlp:span"]["name"] == name
    (record,) = log_events(log(name))
    assert record.data.get("name") == told
    assert raw(record)["otlp:log"]["event_name"] == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a  b",
        " a",
        "a\nb",
        "a\u202eb",
        "\x1b[2J",
        "a@b",
        "{a}",
        "http://a",
        "x" * 257,
        "a b c d e f g",
        7,
        None,
        [],
    ],
)
def test_what_is_no_term(text: Any) -> None:
    assert clear.term(text) is None


def test_long_names_are_read_in_proportion() -> None:
    for shape in ("://", "://a@", "://a", "?", "@", " @", "a/", "#", ":/", "data:,", " "):
        long = shape * (900_000 // len(shape))
        began = time.process_time()
        for form in (clear.term, clear.identifier, clear.agent, clear.place, clear.reasons, clear.terms):
            form(long)
        clear.span_name(long)
        assert time.process_time() - began < 0.5 * slack(), shape
