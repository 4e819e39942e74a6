"""Conventions with names of their own, of runtimes without a capture: what a span of each becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.event import Event
from tests.mapping.cases import Case, check
from tests.mapping.otlp import content_of, events_of, log, log_events, span

CASES = [
    Case(
        "OpenTelemetry GenAI, a guardrail's verdict, its policy and what was done",
        "run_guardrail Content Safety",
        {
            "gen_ai.operation.name": "run_guardrail",
            "gen_ai.guardrail.component.name": "Content Safety",
            "gen_ai.guardrail.target.type": "input",
            "gen_ai.guardrail.target.subtype": "tool_call",
            "gen_ai.guardrail.target.id": "call_1",
            "gen_ai.guardrail.verdict.type": "deny",
            "gen_ai.guardrail.verdict.reason": "over the limit",
            "gen_ai.guardrail.action.type": "allow",
            "gen_ai.guardrail.security.policy.id": "refunds-v2",
            "gen_ai.guardrail.security.policy.rule.id": "over-10",
            "gen_ai.guardrail.security.external_finding_id": "f-1",
            "gen_ai.guardrail.security.content.input.value": '{"amount":12}',
        },
        "policy_decision",
        {
            "decision": "deny",  # what the policy said, whatever the caller did then: that stays in /raw
            "policy": "refunds-v2",
            "rule": "over-10",
            "decided_by": "Content Safety",
            "decision_id": "f-1",
            "call": "call_1",
        },
        {"/input": b'{"amount":12}', "/reason": b"over the limit"},
        raw={"gen_ai.guardrail.action.type", "gen_ai.guardrail.target.type"},
    ),
    Case(
        "OpenTelemetry GenAI, a guardrail that wants a person asked",
        "run_guardrail",
        {"gen_ai.operation.name": "run_guardrail", "gen_ai.guardrail.verdict.type": "escalate"},
        "policy_decision",
        {"decision": "require_approval"},
    ),
    *(
        Case(
            f"OpenTelemetry GenAI, a guardrail that says {word}, which is no verdict of ours",
            "run_guardrail",
            {"gen_ai.operation.name": "run_guardrail", "gen_ai.guardrail.verdict.type": word},
            "policy_decision",
            {"decision": "unknown"},
            raw={"gen_ai.guardrail.verdict.type"},
        )
        for word in ("warn", "modify", "audit")
    ),
    Case(
        "OpenTelemetry GenAI, a guardrail's action where no verdict is told",
        "run_guardrail",
        {"gen_ai.operation.name": "run_guardrail", "gen_ai.guardrail.action.type": "block"},
        "policy_decision",
        {"decision": "deny"},
    ),
    Case(
        "Model Armor",
        'apply_guardrail "Model Armor"',
        {
            "gen_ai.operation.name": "apply_guardrail",
            "gen_ai.guardian.name": "Model Armor",
            "gen_ai.guardian.provider.name": "gcp.model_armor",
            "gen_ai.security.policy.name": "screen",
            "gen_ai.security.decision.type": "allow",
            "gen_ai.security.decision.reason": "nothing found",
        },
        "policy_decision",
        {"decision": "allow", "policy": "screen", "rule": "Model Armor", "decided_by": "gcp.model_armor"},
        {"/reason": b"nothing found"},
    ),
    Case(
        "OpenInference, a decision model",
        "System One",
        {
            "openinference.span.kind": "DECISION",
            "decision.system": "typesafe",
            "decision.provider": "vllm",
            "decision.request.model_name": "jev-latest",
            "decision.response.model_name": "jev-1.13.0",
            "decision.model_name": "jev-1.13.0",
            "decision.token_count.input": 412,
            "decision.token_count.output": 2,
            "input.value": "{}",
        },
        "model_call",
        {
            "provider": "vllm",
            "model": "jev-1.13.0",
            "model_requested": "jev-latest",
            "input_tokens": 412,
            "output_tokens": 2,
        },
        {"/messages": b"{}"},
        raw={"decision.system"},
    ),
    Case(
        "Pydantic AI, one request of a decision model inside its chat",
        "decide jev",
        {
            "gen_ai.operation.name": "decide",
            "gen_ai.response.model": "jev",
            "pydantic_ai.decision.usage.input_tokens": 40,
            "pydantic_ai.decision.usage.output_tokens": 1,
        },
        "model_call",
        {"model": "jev", "input_tokens": 40, "output_tokens": 1},
    ),
    Case(
        "OpenLLMetry, who asked, why it stopped and how long the first token took",
        "openai.chat",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.user": "ann",
            "gen_ai.response.stop_reason": "end_turn",
            "gen_ai.server.time_to_first_token": 0.5,
        },
        "model_call",
        {"finish_reason": "end_turn", "first_token_us": 500_000},
        principal="ann",
    ),
    Case(
        "OpenLLMetry, its first names",
        "openai.chat",
        {
            "llm.request.type": "chat",
            "llm.vendor": "OpenAI",
            "llm.request.model": "gpt-4",
            "llm.response.model": "gpt-4-0613",
            "llm.usage.prompt_tokens": 8,
            "llm.usage.completion_tokens": 2,
            "llm.usage.total_tokens": 10,
            "llm.prompts.0.content": "hi",
            "llm.completions.0.content": "ho",
            "llm.completions.0.finish_reason": "stop",
        },
        "model_call",
        {
            "provider": "OpenAI",
            "model": "gpt-4-0613",
            "model_requested": "gpt-4",
            "input_tokens": 8,
            "output_tokens": 2,
            "finish_reason": "stop",
        },
        {"/messages": b'[{"content":"hi"}]', "/output": b'[{"content":"ho","finish_reason":"stop"}]'},
    ),
    Case(
        "Logfire's instrumentation of OpenAI, before it told tokens apart",
        "Chat Completion with 'gpt-4'",
        {
            "request_data": '{"model": "gpt-4", "messages": []}',
            "response_data": '{"message": {}, "usage": {"prompt_tokens": 8, "completion_tokens": 2}}',
        },
        "model_call",
        {"model": "gpt-4", "input_tokens": 8, "output_tokens": 2},
        raw={"request_data", "response_data"},
    ),
    Case(
        "Azure AI Inference, messages in the content of events",
        "chat gpt-4",
        {"gen_ai.operation.name": "chat", "gen_ai.system": "az.ai.inference", "gen_ai.request.model": "gpt-4"},
        "model_call",
        {"provider": "az.ai.inference"},
        {"/messages": b'{"role":"user","content":"hi"}', "/output": b'{"message":{"content":"ho"}}'},
        events=[
            ("gen_ai.user.message", {"gen_ai.system": "x", "gen_ai.event.content": '{"role":"user","content":"hi"}'}),
            ("gen_ai.choice", {"gen_ai.system": "x", "gen_ai.event.content": '{"message":{"content":"ho"}}'}),
        ],
    ),
    Case(
        "OpenLLMetry, a guard that failed what it looked at",
        "pii.guard",
        {
            "gen_ai.operation.name": "guard",
            "gen_ai.guardrail.name": "pii",
            "gen_ai.guardrail.status": "FAILED",
            "gen_ai.guardrail.input": '{"text":"x"}',
            "gen_ai.guardrail.output": '{"found":1}',
        },
        "policy_decision",
        {"decision": "unknown", "rule": "pii"},  # what was done then is the application's, and not said
        {"/input": b'{"text":"x"}'},
    ),
    Case(
        "OpenLLMetry for LlamaIndex, a tool",
        "FunctionTool.tool",
        {"traceloop.span.kind": "tool", "tool.name": "add", "tool.arguments": '{"a": 1}'},
        "tool_call",
        {"tool": "add"},
        {"/input": b'{"a": 1}'},
    ),
    Case(
        "OpenLIT, a chat",
        "chat gpt-4",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4",
            "gen_ai.request.user": "ann",
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 4,
            "gen_ai.usage.total_tokens": 7,
            "gen_ai.usage.cost": 0.0012,
            "gen_ai.server.time_to_first_token": 0.25,
        },
        "model_call",
        {"cost_claimed": {"amount": "0.0012", "currency": "USD"}, "first_token_us": 250_000},
        principal="ann",
    ),
    Case(
        "OpenLIT, a tool",
        "execute_tool pay",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay", "gen_ai.tool.args": '{"a":1}'},
        "tool_call",
        {"tool": "pay"},
        {"/input": b'{"a":1}'},
    ),
    Case(
        "Azure AI Agents, a run on a thread",
        "process_thread_run",
        {
            "gen_ai.operation.name": "process_thread_run",
            "gen_ai.system": "az.ai.agents",
            "gen_ai.thread.id": "t-1",
            "gen_ai.agent.id": "asst_1",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 6,
        },
        "model_call",
        {"session": "t-1", "input_tokens": 5, "output_tokens": 6},
        agent="asst_1",
        raw={"gen_ai.operation.name"},  # a word that no rule knows
    ),
    Case(
        "Spring AI, a tool",
        "tool_call pay",
        {
            "gen_ai.operation.name": "framework",
            "gen_ai.system": "spring_ai",
            "spring.ai.kind": "tool_call",
            "spring.ai.tool.definition.name": "pay",
            "spring.ai.tool.call.id": "c1",
            "spring.ai.tool.call.arguments": '{"amount":5}',
            "spring.ai.tool.call.result": "done",
        },
        "tool_call",
        {"tool": "pay", "call": "c1"},
        {"/input": b'{"amount":5}', "/output": b"done"},
        raw={"gen_ai.operation.name", "gen_ai.system"},
    ),
    Case(
        "Spring AI, a model: its numbers are text",
        "chat gpt-4",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4",
            "gen_ai.usage.input_tokens": "12",
            "gen_ai.usage.output_tokens": "3",
            "gen_ai.usage.total_tokens": "15",
            "gen_ai.response.finish_reasons": '["STOP"]',
        },
        "model_call",
        {"input_tokens": 12, "output_tokens": 3, "finish_reason": "STOP"},
    ),
    Case(
        "Spring AI, the client around it",
        "spring_ai chat_client",
        {
            "gen_ai.operation.name": "framework",
            "gen_ai.system": "spring_ai",
            "spring.ai.kind": "chat_client",
            "spring.ai.chat.client.conversation.id": "conv-1",
        },
        "span",
        {"class": "structure", "session": "conv-1"},
        raw={"gen_ai.operation.name", "gen_ai.system"},
    ),
    Case(
        "Langfuse, a generation",
        "answer",
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.observation.input": '[{"role":"user","content":"hi"}]',
            "langfuse.observation.output": "ho",
            "langfuse.observation.usage_details": '{"input": 30, "output": 9, "input_cached_tokens": 10, "total": 39}',
            "langfuse.observation.cost_details": '{"total": 0.002}',
            "langfuse.observation.prompt.name": "triage",
            "langfuse.observation.prompt.version": 3,
            "user.id": "ann",
            "session.id": "s-1",
        },
        "model_call",
        {
            "model": "gpt-4o",
            "input_tokens": 30,
            "output_tokens": 9,
            "cache_read_tokens": 10,
            "cost_claimed": {"amount": "0.002", "currency": "USD"},
            "prompt": {"name": "triage", "version": "3"},
            "session": "s-1",
            "status": "ok",
        },
        {"/messages": b'[{"role":"user","content":"hi"}]', "/output": b"ho"},
        principal="ann",
        raw={"langfuse.observation.usage_details", "langfuse.observation.cost_details"},
    ),
    Case(
        "Langfuse, a tool that failed, which only an attribute says",
        "pay",
        {
            "langfuse.observation.type": "tool",
            "langfuse.observation.input": '{"amount": 5}',
            "langfuse.observation.level": "ERROR",
            "langfuse.observation.status_message": "no such account",
        },
        "tool_call",
        {"tool": "pay", "status": "error"},
        {"/input": b'{"amount": 5}'},
    ),
    Case(
        "Langfuse, a root agent",
        "helper",
        {"langfuse.observation.type": "agent", "langfuse.observation.input": "hi", "langfuse.observation.output": "ho"},
        "run_finished",
        {"status": "success"},
        {"/output": b"ho"},
        parent=None,
        raw=set(),
    ),
    Case(
        "MLflow, a chat model: each attribute is JSON",
        "ChatOpenAI",
        {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.model": '"gpt-4o"',
            "mlflow.llm.provider": '"openai"',
            "mlflow.spanInputs": '{"messages": [1]}',
            "mlflow.spanOutputs": '"ho"',
            "mlflow.chat.tokenUsage": '{"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 3}',
            "mlflow.llm.cost": '{"total_cost": 0.01}',
            "mlflow.chat.tools": '[{"type": "function", "function": {"name": "pay"}}]',
        },
        "model_call",
        {
            "model": "gpt-4o",
            "provider": "openai",
            "input_tokens": 11,
            "output_tokens": 7,
            "cache_read_tokens": 3,
            "cost_claimed": {"amount": "0.01", "currency": "USD"},
            "tools_offered": ["pay"],
        },
        {"/messages": b'{"messages": [1]}', "/output": b"ho"},
        raw={"mlflow.chat.tokenUsage", "mlflow.llm.cost", "mlflow.chat.tools"},
    ),
    Case(
        "MLflow, a tool",
        "pay",
        {"mlflow.spanType": "TOOL", "mlflow.spanInputs": '{"amount": 5}', "mlflow.spanOutputs": '"done"'},
        "tool_call",
        {"tool": "pay"},
        {"/input": b'{"amount": 5}', "/output": b"done"},
    ),
    Case(
        "LangSmith, usage as one object",
        "ChatX",
        {
            "langsmith.span.kind": "llm",
            "langsmith.usage_metadata": '{"input_tokens": 5, "output_tokens": 2, "total_cost": 0.5}',
        },
        "model_call",
        {"input_tokens": 5, "output_tokens": 2, "cost_claimed": {"amount": "0.5", "currency": "USD"}},
        raw={"langsmith.usage_metadata"},
    ),
    Case(
        "Haystack, a tool that failed, which only an attribute says",
        "haystack.agent.step.tool",
        {
            "haystack.tool.name": "pay",
            "haystack.tool.description": "pays",
            "haystack.tool.error": True,
            "haystack.agent.step.tool.input": '{"amount": 5}',
            "haystack.agent.step.tool.output": '{"error": "no"}',
        },
        "tool_call",
        {"tool": "pay", "status": "error"},
        {"/input": b'{"amount": 5}', "/output": b'{"error": "no"}'},
        raw={"haystack.tool.description"},
    ),
    Case(
        "Haystack, a person rejects a call",
        "haystack.agent.hook.human_in_the_loop.strategy",
        {
            "haystack.tool.name": "pay",
            "haystack.tool.call.id": "c1",
            "haystack.agent.hook.human_in_the_loop.strategy.decision": "reject",
            "haystack.agent.hook.human_in_the_loop.strategy.output": '{"execute": false}',
        },
        "approval_decision",
        {"approval": "c1", "call": "c1", "decision": "reject"},
        {"/reason": b'{"execute": false}'},
        raw={"haystack.tool.name"},
    ),
    Case(
        "Haystack, a root agent",
        "haystack.agent.run",
        {"haystack.agent.tools": '[{"type": "t", "data": {"name": "pay"}}]', "haystack.agent.output": '{"a": 1}'},
        "run_finished",
        {"status": "success"},
        {"/output": b'{"a": 1}'},
        parent=None,
        raw={"haystack.agent.tools"},
    ),
    Case(
        "CrewAI's own, what it remembered",
        "query memory",
        {
            "crewai.event_name": "memory_query_completed",
            "crewai.agent.role": "Researcher",
            "crewai.memory.query": "rain",
            "crewai.memory.results": '[{"a": 1}]',
        },
        "memory_read",
        {"missing": ["class", "record", "store"]},
        {"/value": b'[{"a": 1}]'},
        scope="crewai",
        agent="Researcher",
        raw={"crewai.event_name", "crewai.memory.query"},
    ),
    Case(
        "CrewAI's own, an MCP tool",
        "execute mcp tool",
        {
            "crewai.event_name": "mcp_tool_execution_completed",
            "gen_ai.operation.name": "execute_tool",
            "crewai.mcp.tool_name": "pay",
            "crewai.mcp.tool_args": '{"amount": 5}',
            "crewai.mcp.tool_result": "done",
            "crewai.principal.id": "ann",
        },
        "tool_call",
        {"tool": "pay"},
        {"/input": b'{"amount": 5}', "/output": b"done"},
        scope="crewai",
        principal="ann",
        raw={"crewai.event_name"},
    ),
    Case(
        "CrewAI's own, the row beside a call that failed, which is no second call",
        "tool failure",
        {
            "crewai.event_name": "tool_failure_detected",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "pay",
            "crewai.tool.failure.message": "no",
        },
        "span",
        {"class": "structure", "status": "error"},
        scope="crewai",
        raw={"crewai.event_name", "gen_ai.tool.name"},
    ),
    Case(
        "CrewAI's own, a person is asked",
        "request human feedback",
        {
            "crewai.event_name": "human_feedback_requested",
            "crewai.human_feedback.method_name": "review",
            "crewai.human_feedback.message": "Publish?",
        },
        "approval_request",
        {"approval": "review"},
        {"/context": b"Publish?"},
        scope="crewai",
        raw={"crewai.event_name"},
    ),
    *(
        Case(
            f"CrewAI's own, a person answers {word}",
            "receive human feedback",
            {
                "crewai.event_name": "human_feedback_received",
                "crewai.human_feedback.method_name": "review",
                "crewai.human_feedback.feedback": "too long",
                "crewai.human_feedback.outcome": word,
            },
            "approval_decision",
            {"approval": "review", "decision": decision},
            {"/reason": b"too long"},
            scope="crewai",
            raw={"crewai.event_name"} if decision else {"crewai.event_name", "crewai.human_feedback.outcome"},
        )
        for word, decision in (("approved", "approve"), ("Rejected", "reject"), ("needs_work", None))
    ),
    Case(
        "LiteLLM, a request that its proxy priced",
        "litellm_request",
        {
            "llm.request.type": "acompletion",
            "gen_ai.system": "hosted_vllm",
            "gen_ai.request.model": "qwen",
            "gen_ai.usage.input_tokens": 36,
            "gen_ai.usage.output_tokens": 48,
            "gen_ai.cost.total_cost": 0.25,
            "metadata.user_api_key_user_id": "ann",
        },
        "model_call",
        {
            "provider": "hosted_vllm",
            "operation": "completion",
            "input_tokens": 36,
            "cost_claimed": {"amount": "0.25", "currency": "USD"},
        },
        principal="ann",
    ),
    Case(
        "Mastra, an agent",
        "invoke_agent helper",
        {
            "mastra.span.type": "agent_run",
            "gen_ai.agent.name": "helper",
            "mastra.agent_run.input": '[{"role":"user"}]',
            "mastra.agent_run.output": '{"text":"4"}',
            "mastra.metadata.userId": "ann",
            "mastra.metadata.threadId": "t-1",
        },
        "run_finished",
        {"status": "success", "session": "t-1"},
        {"/output": b'{"text":"4"}'},
        parent=None,
        agent="helper",
        principal="ann",
    ),
    Case(
        "Mastra, a tool",
        "execute_tool pay",
        {"mastra.span.type": "mcp_tool_call", "gen_ai.tool.name": "pay", "mastra.mcp_tool_call.input": '{"a":1}'},
        "tool_call",
        {"tool": "pay"},
        {"/input": b'{"a":1}'},
    ),
    Case(
        "AG2, code that was run",
        "execute_code coder",
        {
            "gen_ai.operation.name": "execute_code",
            "ag2.span.type": "code_execution",
            "gen_ai.agent.name": "coder",
            "error.type": "CodeExecutionError",
        },
        "tool_call",
        {"status": "error"},
        agent="coder",
        raw={"ag2.span.type"},
    ),
    Case(
        "AG2, a conversation inside an agent",
        "conversation helper",
        {"gen_ai.operation.name": "conversation"},
        "span",
        {"class": "structure"},
    ),
    Case(
        "AG2, a conversation",
        "conversation user_proxy",
        {"gen_ai.operation.name": "conversation", "gen_ai.usage.input_tokens": 9, "gen_ai.request.model": "m"},
        "run_finished",
        {"status": "success"},
        parent=None,
        raw={"gen_ai.usage.input_tokens"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_dialect(case: Case) -> None:
    check(case)


def test_a_failure_that_only_an_attribute_says_is_an_error_with_its_message() -> None:
    told = {
        "langfuse.observation.type": "tool",
        "langfuse.observation.level": "ERROR",
        "langfuse.observation.status_message": "no such account",
    }
    _, error = events_of(span("pay", told))
    assert (error.kind, error.data["class"]) == ("error", "_OTHER")
    assert content_of(error, "/message") == b"no such account"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input": 20, "input_cached_tokens": 10, "output": 7, "output_reasoning": 2}, (30, 9)),
        ({"input_tokens": 20, "cache_read_input_tokens": 10, "output_tokens": 9}, (30, 9)),
        ({"input": 30, "input_cached_tokens": 10, "output": 9, "output_reasoning": 2, "total": 39}, (30, 9)),
        ({"prompt_tokens": 30, "completion_tokens": 9, "total_tokens": 39}, (30, 9)),
        ({"input": "many", "output": 9}, (None, 9)),
        ({}, (None, None)),
    ],
)
def test_langfuse_tells_tokens_apart_by_types_of_any_name(usage: dict[str, Any], tokens: tuple[Any, Any]) -> None:
    told = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": json.dumps(usage)}
    (own,) = events_of(span("answer", told))
    assert (own.data.get("input_tokens"), own.data.get("output_tokens")) == tokens


def test_a_guard_that_failed_itself_is_an_error() -> None:
    told = {
        "gen_ai.operation.name": "guard",
        "gen_ai.guardrail.name": "pii",
        "gen_ai.guardrail.error.type": "TimeoutError",
        "gen_ai.guardrail.error.message": "no answer",
    }
    own, error = events_of(span("pii.guard", told))
    assert (own.kind, own.data["decision"]) == ("policy_decision", "unknown")
    assert (error.kind, error.data["class"], content_of(error, "/message")) == ("error", "TimeoutError", b"no answer")
    assert raw_of(own).keys() <= {"otlp:span", "otlp:resource", "otlp:scope"}


def test_what_follows_from_a_span_holds_its_raw_part_no_second_time() -> None:
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.guardrail.result": "deny",
        "gen_ai.evaluation.name": "x",
        "anything": "else",
    }
    found = events_of(span("chat", told, status=(2, "no"), events=[("exception", {"exception.type": "E"})]))
    assert len(found) > 3
    assert "anything" in raw_of(found[0])
    assert [raw_of(one) for one in found[1:]] == [{}] * (len(found) - 1)


def test_a_guard_that_says_pass_or_fail_is_a_validator_as_well() -> None:
    told = {"gen_ai.operation.name": "guard", "gen_ai.guardrail.name": "pii", "gen_ai.guardrail.status": "FAILED"}
    decision, check = events_of(span("pii.guard", told))
    assert (decision.data["decision"], check.kind, check.data["result"]) == ("unknown", "validator", "fail")


def test_ag2_tells_who_speaks_next() -> None:
    told = {
        "gen_ai.operation.name": "speaker_selection",
        "ag2.speaker_selection.candidates": '["coder", "critic"]',
        "ag2.speaker_selection.selected": "critic",
    }
    own, routing = events_of(span("speaker_selection", told))
    assert (own.kind, own.data["class"]) == ("span", "structure")
    assert (routing.kind, routing.data["chosen"]) == ("routing_decision", "critic")
    assert routing.data["candidates"] == ["coder", "critic"]


def test_what_an_edit_put_in_place_is_an_override_by_a_person() -> None:
    told = {
        "haystack.tool.call.id": "c1",
        "haystack.tool.name": "pay",
        "haystack.agent.hook.human_in_the_loop.strategy.decision": "modify",
        "haystack.agent.hook.human_in_the_loop.strategy.output": '{"final_tool_params": {"amount": 4}}',
    }
    own, override = events_of(span("haystack.agent.hook.human_in_the_loop.strategy", told))
    assert (own.data["decision"], override.kind, override.data["of"]) == ("edit", "human_override", own.id)
    assert content_of(override, "/after") == b'{"final_tool_params": {"amount": 4}}'


def test_a_name_of_a_dialect_counts_less_than_the_usual_one() -> None:
    told = {"crewai.event_name": "x", "gen_ai.agent.name": "Lead", "crewai.agent.role": "Researcher"}
    (own,) = events_of(span("execute agent", told, parent="00f067aa0ba902b7"))
    assert own.actor["agent"] == "Lead"
    assert json.loads(content_of(own, "/raw") or b"")["crewai.agent.role"] == "Researcher"


# -- coding agents, which tell in log records --------------------------------------------------------------------------

CLAUDE = "com.anthropic.claude_code.events"


def test_claude_code_a_model_call_with_its_cached_tokens() -> None:
    told = {
        "session.id": "s-1",
        "user.id": "u-1",
        "model": "claude-sonnet",
        "cost_usd": "0.0123",
        "duration_ms": "2100",
        "input_tokens": "10",
        "output_tokens": 200,
        "cache_read_tokens": 300,
        "cache_creation_tokens": "40",
    }
    (own,) = log_events(log("api_request", told, body="claude_code.api_request"), scope=CLAUDE)
    wanted = {
        "model": "claude-sonnet",
        "input_tokens": 350,
        "output_tokens": 200,
        "cache_read_tokens": 300,
        "cache_write_tokens": 40,
        "cost_claimed": {"amount": "0.0123", "currency": "USD"},
        "latency_us": 2_100_000,
        "status": "ok",
        "session": "s-1",
    }
    assert own.kind == "model_call"
    assert {member: own.data.get(member) for member in wanted} == wanted
    assert own.persons == [("/actor/principal", "u-1")]
    assert {name for name in raw_of(own) if not name.startswith("otlp:")} == {"input_tokens"}  # of which it is a part


def test_claude_code_a_model_call_that_failed() -> None:
    told = {"event.name": "api_error", "model": "m", "error": "overloaded", "status_code": 529, "duration_ms": 5}
    own, error = log_events(log(attributes=told), scope=CLAUDE)
    assert (own.kind, own.data["status"], own.data["model"]) == ("model_call", "error", "m")
    assert (error.kind, error.data["class"], content_of(error, "/message")) == ("error", "529", b"overloaded")


@pytest.mark.parametrize(
    ("name", "scope", "attributes", "kind", "data"),
    [
        (
            "tool_decision",
            CLAUDE,
            {"decision": "reject", "source": "user_reject", "tool_use_id": "c1"},
            "approval_decision",
            {"decision": "reject", "approval": "c1", "call": "c1", "reviewer_kind": "human"},
        ),
        (
            "tool_decision",
            CLAUDE,
            {"decision": "accept", "source": "config", "tool_use_id": "c1"},
            "policy_decision",
            {"decision": "allow", "decided_by": "config", "call": "c1"},
        ),
        (
            "codex.tool_decision",
            "codex_otel",
            {"decision": "denied", "source": "User", "call_id": "c1", "conversation.id": "v-1"},
            "approval_decision",
            {"decision": "reject", "call": "c1", "session": "v-1", "reason_code": "User"},
        ),
        (
            "codex.tool_decision",
            "codex_otel",
            {"decision": "approved", "source": "AutomatedReviewer", "call_id": "c1"},
            "policy_decision",
            {"decision": "allow", "decided_by": "AutomatedReviewer"},
        ),
        (
            "codex.tool_decision",
            "codex_otel",
            {"decision": "perhaps", "source": "Config", "call_id": "c1"},
            "policy_decision",
            {"decision": "unknown"},
        ),
        (
            "tool_result",
            CLAUDE,
            {"tool_name": "Bash", "tool_use_id": "c1", "success": "false", "error": "exit 1", "duration_ms": 7},
            "tool_call",
            {"tool": "Bash", "call": "c1", "status": "error", "latency_us": 7_000, "phase": "finished"},
        ),
        (
            "codex.tool_result",
            "codex_otel",
            {"tool_name": "shell", "call_id": "c1", "success": "true", "arguments": '{"a":1}', "output": "ok"},
            "tool_call",
            {"tool": "shell", "call": "c1", "status": "ok"},
        ),
        (
            "codex.sse_event",
            "codex_otel",
            {"event.kind": "response.completed", "model": "m", "input_token_count": "9", "cached_token_count": 4},
            "model_call",
            {"model": "m", "input_tokens": 9, "cache_read_tokens": 4},
        ),
        ("codex.sse_event", "codex_otel", {"event.kind": "response.created"}, "span", {"class": "log"}),
        (
            "gemini_cli.api_response",
            "gemini-cli",
            {"model": "g", "input_token_count": 10, "output_token_count": 4, "thoughts_token_count": 2},
            "model_call",
            {"model": "g", "input_tokens": 10, "output_tokens": 6, "reasoning_tokens": 2},
        ),
        (
            "gemini_cli.tool_call",
            "gemini-cli",
            {"function_name": "write", "function_args": "{}", "success": True, "decision": "auto_accept"},
            "tool_call",
            {"tool": "write", "status": "ok", "phase": "finished"},
        ),
    ],
)
def test_what_a_coding_agent_tells(
    name: str, scope: str, attributes: dict[str, Any], kind: str, data: dict[str, Any]
) -> None:
    own = log_events(log(name, attributes), scope=scope)[0]
    assert own.kind == kind
    assert {member: own.data.get(member) for member in data} == data


def test_gemini_cli_a_call_that_a_person_refused_did_not_run() -> None:
    told = {"function_name": "write", "success": False, "decision": "reject", "error": "cancelled"}
    own, answer = log_events(log("gemini_cli.tool_call", told), scope="gemini-cli")
    assert (own.data["phase"], own.data["status"]) == ("proposed", "denied")
    assert (answer.kind, answer.data["decision"], answer.data["reviewer_kind"]) == (
        "approval_decision",
        "reject",
        "human",
    )


def raw_of(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content_of(event, "/raw") or b"{}")
    return found
