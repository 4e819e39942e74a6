"""Each convention's names, also of runtimes without a capture: what a span of it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.otlp.mapping import map_request
from schemas.event import Event
from schemas.normalize import normalize_draft
from tests.mapping.cases import Case, check
from tests.mapping.otlp import START, content_of, events_of, log, log_events, span, spans_request

TEXT = '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'
REPLY = '[{"role":"assistant","parts":[{"type":"text","content":"ho"}],"finish_reason":"stop"}]'

CASES = [
    Case(
        "OpenTelemetry GenAI, current names",
        "chat gpt-4o",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_creation.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 7,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.conversation.id": "conv-1",
            "gen_ai.agent.name": "planner",
            "gen_ai.agent.version": "3",
            "gen_ai.prompt.name": "triage",
            "gen_ai.tool.definitions": [{"type": "function", "name": "pay"}],
            "gen_ai.input.messages": TEXT,
            "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "ho"}]}],
            "enduser.id": "ann",
        },
        "model_call",
        {
            "provider": "openai",
            "model": "gpt-4o-2024-08-06",
            "model_requested": "gpt-4o",
            "operation": "chat",
            "input_tokens": 100,
            "output_tokens": 20,
            "cache_read_tokens": 60,
            "cache_write_tokens": 5,
            "reasoning_tokens": 7,
            "finish_reason": "stop",
            "first_token_us": 250_000,
            "latency_us": 250_000,
            "status": "ok",
            "session": "conv-1",
            "prompt": {"name": "triage"},
            "tools_offered": ["pay"],
        },
        {
            "/messages": TEXT.encode(),
            "/output": b'[{"role":"assistant","parts":[{"type":"text","content":"ho"}]}]',
        },
        principal="ann",
        agent="planner",
        raw={"gen_ai.tool.definitions"},
    ),
    Case(
        "OpenTelemetry GenAI, old names and events",
        "chat gpt-4",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4",
            "gen_ai.usage.prompt_tokens": 9,
            "gen_ai.usage.completion_tokens": 3,
        },
        "model_call",
        {"provider": "openai", "model": "gpt-4", "input_tokens": 9, "output_tokens": 3, "finish_reason": "stop"},
        {
            "/messages": b'[{"name":"gen_ai.system.message","attributes":{"content":"be short"}},'
            b'{"name":"gen_ai.user.message","attributes":{"content":"hi"}}]',
            "/output": b'{"role":"assistant","content":"ho"}',
        },
        events=[
            ("gen_ai.system.message", {"content": "be short"}),
            ("gen_ai.user.message", {"content": "hi"}),
            ("gen_ai.choice", {"finish_reason": "stop", "message": '{"role":"assistant","content":"ho"}'}),
        ],
    ),
    Case(
        "OpenTelemetry GenAI, embeddings",
        "embeddings m",
        {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"},
        "model_call",
        {"operation": "embedding", "model": "m"},
    ),
    Case(
        "OpenTelemetry GenAI, a tool",
        "execute_tool pay",
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.call.arguments": {"amount": 5},
            "gen_ai.tool.call.result": "done",
        },
        "tool_call",
        {"tool": "pay", "call": "c1", "phase": "finished", "status": "ok", "latency_us": 250_000},
        {"/input": b'{"amount":5}', "/output": b"done"},
    ),
    Case(
        "OpenTelemetry GenAI, retrieval",
        "retrieval docs",
        {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": "docs",
            "gen_ai.retrieval.query.text": "weather?",
            "gen_ai.retrieval.documents": '[{"id":"d1","score":0.95},{"id":"d2","score":0.5}]',
        },
        "retrieval",
        {"store": "docs", "documents": [{"id": "d1", "score": "0.95"}, {"id": "d2", "score": "0.5"}]},
        {"/query": b"weather?", "/text": b'[{"id":"d1","score":0.95},{"id":"d2","score":0.5}]'},
    ),
    *(
        Case(
            f"OpenTelemetry GenAI, {operation}",
            operation,
            {
                "gen_ai.operation.name": operation,
                "gen_ai.memory.store.id": "prefs",
                "gen_ai.memory.record.id": "r1",
                "gen_ai.memory.records": '[{"content":"likes rain"}]',
            },
            kind,
            {"store": "prefs", "record": "r1", "missing": ["class"]},
            {"/value": b'[{"content":"likes rain"}]'},
        )
        for operation, kind in (
            ("search_memory", "memory_read"),
            ("create_memory", "memory_write"),
            ("update_memory", "memory_write"),
            ("upsert_memory", "memory_write"),
            ("delete_memory", "memory_delete"),
        )
    ),
    Case(
        "OpenTelemetry GenAI, a guardrail that blocks",
        "apply_guardrail",
        {
            "gen_ai.operation.name": "apply_guardrail",
            "gen_ai.guardrail.name": "pii",
            "gen_ai.guardrail.result": "block",
        },
        "policy_decision",
        {"rule": "pii", "decision": "deny"},
    ),
    Case(
        "OpenAI Agents instrumentation, a guardrail that was triggered",
        "guardrail pii",
        {"gen_ai.operation.name": "guardrail", "gen_ai.guardrail.name": "pii", "gen_ai.guardrail.triggered": True},
        "policy_decision",
        {"rule": "pii", "decision": "deny"},
    ),
    Case(
        "a guardrail that only scored",
        "apply_guardrail",
        {"gen_ai.operation.name": "apply_guardrail", "gen_ai.guardrail.result": "warn"},
        "policy_decision",
        {"rule": "apply_guardrail", "decision": "unknown"},
        raw={"gen_ai.guardrail.result"},
    ),
    *(
        Case(
            f"OpenTelemetry GenAI, {operation}",
            operation,
            {"gen_ai.operation.name": operation, "gen_ai.usage.input_tokens": 5},
            "span",
            {"name": operation, "class": "structure", "status": "ok"},
            raw={"gen_ai.usage.input_tokens"},
        )
        for operation in ("create_agent", "fetch_response", "plan")
    ),
    Case(
        "MCP, a tool",
        "tools/call weather",
        {
            "mcp.method.name": "tools/call",
            "mcp.session.id": "s",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.id": "c9",
            "gen_ai.tool.call.arguments": '{"city":"Paris"}',
        },
        "tool_call",
        {"tool": "weather", "call": "c9"},
        {"/input": b'{"city":"Paris"}'},
        raw={"mcp.session.id"},
    ),
    Case(
        "MCP, a tool named by the span only",
        "tools/call weather",
        {"mcp.method.name": "tools/call"},
        "tool_call",
        {"tool": "weather"},
    ),
    Case(
        "MCP, a resource",
        "resources/read file:///a",
        {"mcp.method.name": "resources/read", "mcp.resource.uri": "file:///a"},
        "retrieval",
        {"store": "file:///a"},
    ),
    Case(
        "MCP, anything else",
        "tools/list",
        {"mcp.method.name": "tools/list"},
        "span",
        {"class": "other"},
        raw={"mcp.method.name"},
    ),
    Case(
        "OpenInference, an LLM",
        "ChatCompletion",
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.system": "openai",
            "llm.request.model_name": "gpt-4o",
            "llm.response.model_name": "gpt-4o-2024",
            "llm.model_name": "gpt-4o",
            "llm.token_count.prompt": 30,
            "llm.token_count.completion": 9,
            "llm.token_count.total": 39,
            "llm.token_count.prompt_details.cache_read": 10,
            "llm.token_count.prompt_details.cache_write": 2,
            "llm.token_count.completion_details.reasoning": 4,
            "llm.cost.total": 0.002,
            "llm.finish_reason": "stop",
            "llm.tools.0.tool.json_schema": '{"type":"function","function":{"name":"pay"}}',
            "llm.tools.1.tool.json_schema": '{"name":"look"}',
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "hi",
            "llm.output_messages.0.message.content": "ho",
            "input.value": "hi",
            "user.id": "ann",
            "session.id": "s-1",
        },
        "model_call",
        {
            "provider": "openai",
            "model": "gpt-4o-2024",
            "model_requested": "gpt-4o",
            "input_tokens": 30,
            "output_tokens": 9,
            "cache_read_tokens": 10,
            "cache_write_tokens": 2,
            "reasoning_tokens": 4,
            "cost_claimed": {"amount": "0.002", "currency": "USD"},
            "finish_reason": "stop",
            "session": "s-1",
            "tools_offered": ["pay", "look"],
        },
        {
            "/messages": b'[{"message":{"role":"user","content":"hi"}}]',
            "/output": b'[{"message":{"content":"ho"}}]',
        },
        principal="ann",
        raw={"llm.tools.0.tool.json_schema", "llm.tools.1.tool.json_schema", "llm.model_name", "input.value"},
    ),
    Case(
        "OpenInference, the first token's event",
        "ChatCompletion",
        {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.provider": "p"},
        "model_call",
        {"first_token_us": 1000},
        events=[("x", {}), ("First Token Stream Event", {})],
    ),
    Case(
        "OpenInference, a retriever",
        "VectorStoreRetriever",
        {
            "openinference.span.kind": "RETRIEVER",
            "input.value": "weather?",
            "retrieval.documents.0.document.id": "d1",
            "retrieval.documents.0.document.score": 0.5,
            "retrieval.documents.0.document.content": "rain",
        },
        "retrieval",
        {"store": "VectorStoreRetriever", "documents": [{"id": "d1", "score": "0.5"}]},
        {"/query": b"weather?", "/text": b'[{"document":{"id":"d1","score":0.5,"content":"rain"}}]'},
    ),
    Case(
        "OpenInference, a reranker",
        "rerank",
        {
            "openinference.span.kind": "RERANKER",
            "reranker.query": "weather?",
            "reranker.output_documents.0.document.id": "d2",
        },
        "retrieval",
        {"documents": [{"id": "d2"}]},
        {"/query": b"weather?"},
    ),
    Case(
        "OpenInference, an evaluator",
        "Relevance",
        {"openinference.span.kind": "EVALUATOR", "annotation.name": "relevance", "annotation.label": "pass"},
        "validator",
        {"rule": "relevance", "result": "pass"},
        {"/found": b'{"annotation.label":"pass"}'},
    ),
    Case(
        "OpenInference, an evaluator that only scores",
        "Relevance",
        {"openinference.span.kind": "EVALUATOR", "annotation.score": 0.7},
        "validator",
        {"rule": "Relevance", "missing": ["result"]},
        {"/found": b'{"annotation.score":0.7}'},
    ),
    Case("OpenInference, a prompt", "p", {"openinference.span.kind": "PROMPT"}, "span", {"class": "structure"}),
    Case(
        "CrewAI (OpenInference), an agent inside a crew",
        "Researcher._execute_core",
        {"openinference.span.kind": "AGENT", "graph.node.id": "Researcher", "graph.node.parent_id": "Crew"},
        "delegation",
        {"to_agent": "Researcher"},
        agent="Crew",
    ),
    Case(
        "LlamaIndex (OpenInference), a tool",
        "FunctionTool.acall",
        {"openinference.span.kind": "TOOL", "tool.name": "add", "input.value": '{"a": 1}', "output.value": "3"},
        "tool_call",
        {"tool": "add", "status": "ok"},
        {"/input": b'{"a": 1}', "/output": b"3"},
    ),
    Case(
        "OpenLLMetry, a chat",
        "openai.chat",
        {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4",
            "gen_ai.response.model": "gpt-4-0613",
            "gen_ai.usage.prompt_tokens": 8,
            "gen_ai.usage.completion_tokens": 2,
            "llm.usage.total_tokens": 10,
            "gen_ai.usage.cache_read_input_tokens": 1,
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "hi",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "ho",
            "gen_ai.completion.0.finish_reason": "stop",
            "llm.request.functions.0.name": "pay",
            "llm.user": "ann",
            "traceloop.association.properties.thread_id": "t-1",
        },
        "model_call",
        {
            "provider": "OpenAI",
            "model": "gpt-4-0613",
            "operation": "chat",
            "input_tokens": 8,
            "output_tokens": 2,
            "cache_read_tokens": 1,
            "finish_reason": "stop",
            "session": "t-1",
            "tools_offered": ["pay"],
        },
        {
            "/messages": b'[{"role":"user","content":"hi"}]',
            "/output": b'[{"role":"assistant","content":"ho","finish_reason":"stop"}]',
        },
        principal="ann",
        raw={"llm.request.functions.0.name"},
    ),
    Case(
        "OpenLLMetry, a tool",
        "pay.tool",
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "pay",
            "traceloop.entity.input": '{"amount": 5}',
            "traceloop.entity.output": '"done"',
        },
        "tool_call",
        {"tool": "pay"},
        {"/input": b'{"amount": 5}', "/output": b'"done"'},
    ),
    Case(
        "OpenLLMetry, a task",
        "step.task",
        {"traceloop.span.kind": "task", "traceloop.workflow.name": "w"},
        "span",
        {"class": "structure"},
        raw={"traceloop.workflow.name"},
    ),
    Case(
        "OpenLLMetry, a root workflow",
        "refund.workflow",
        {
            "traceloop.span.kind": "workflow",
            "traceloop.entity.name": "refund",
            "traceloop.entity.output": '{"ok":true}',
        },
        "run_finished",
        {"status": "success", "total_latency_us": 250_000},
        {"/output": b'{"ok":true}'},
        parent=None,
        raw={"traceloop.entity.name"},
    ),
    Case(
        "LangSmith, an LLM",
        "ChatOpenAI",
        {
            "langsmith.span.kind": "llm",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.usage.total_tokens": 9,
            "gen_ai.usage.input_token_details": '{"cache_read": 3}',
            "gen_ai.usage.output_token_details": '{"reasoning": 1}',
            "gen_ai.prompt": '{"messages": []}',
            "gen_ai.completion": '{"generations": []}',
            "langsmith.metadata.thread_id": "t-1",
            "langsmith.metadata.user_id": "ann",
            "langsmith.metadata.lc_agent_name": "helper",
        },
        "model_call",
        {
            "provider": "openai",
            "model": "gpt-4o",
            "operation": "chat",
            "input_tokens": 7,
            "output_tokens": 2,
            "cache_read_tokens": 3,
            "reasoning_tokens": 1,
            "session": "t-1",
        },
        {"/messages": b'{"messages": []}', "/output": b'{"generations": []}'},
        principal="ann",
        agent="helper",
        raw={"gen_ai.usage.input_token_details", "gen_ai.usage.output_token_details"},
    ),
    Case(
        "LangSmith, a tool",
        "pay",
        {"langsmith.span.kind": "tool", "gen_ai.operation.name": "execute_tool", "gen_ai.prompt": '{"input": "5"}'},
        "tool_call",
        {"tool": "pay"},
        {"/input": b'{"input": "5"}'},
    ),
    Case(
        "LangSmith, a retriever, which it calls embeddings",
        "Retriever",
        {"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings", "gen_ai.system": "langchain"},
        "retrieval",
        {"store": "Retriever"},
        raw={"gen_ai.system"},
    ),
    Case(
        "LangSmith, a chain",
        "RunnableSequence",
        {"langsmith.span.kind": "chain", "gen_ai.operation.name": "chain", "gen_ai.system": "langchain"},
        "span",
        {"class": "structure"},
        raw={"gen_ai.operation.name", "gen_ai.system"},
    ),
    Case(
        "Strands, a chat",
        "chat",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "strands-agents",
            "gen_ai.request.model": "claude",
            "gen_ai.usage.prompt_tokens": 5,
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.completion_tokens": 2,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.usage.total_tokens": 7,
            "gen_ai.usage.cache_read_input_tokens": 0,
            "gen_ai.usage.cache_write_input_tokens": 1,
            "gen_ai.server.time_to_first_token": 120,
        },
        "model_call",
        {
            "model": "claude",
            "input_tokens": 5,
            "output_tokens": 2,
            "cache_read_tokens": 0,
            "cache_write_tokens": 1,
            "first_token_us": 120_000,
            "finish_reason": "tool_use",
            "missing": ["provider"],
        },
        {"/messages": b'[{"text": "hi"}]', "/output": b'[{"text": "ho"}]'},
        events=[
            ("gen_ai.user.message", {"content": '[{"text": "hi"}]'}),
            ("gen_ai.choice", {"finish_reason": "tool_use", "message": '[{"text": "ho"}]'}),
        ],
        scope="strands.telemetry.tracer",
        raw={"gen_ai.system"},
    ),
    Case(
        "Strands, a chat with details events",
        "chat",
        {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "strands-agents", "gen_ai.request.model": "m"},
        "model_call",
        {"missing": ["provider"]},
        {"/messages": TEXT.encode(), "/output": REPLY.encode()},
        events=[
            ("gen_ai.client.inference.operation.details", {"gen_ai.input.messages": TEXT}),
            ("gen_ai.client.inference.operation.details", {"gen_ai.output.messages": REPLY}),
        ],
        scope="strands.telemetry.tracer",
        raw={"gen_ai.provider.name"},
    ),
    Case(
        "Strands, a tool that failed",
        "execute_tool pay",
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "pay",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.status": "error",
        },
        "tool_call",
        {"tool": "pay", "call": "c1", "status": "error"},
        {"/input": b'{"amount": 5}', "/output": b'[{"text": "no"}]'},
        events=[
            ("gen_ai.tool.message", {"role": "tool", "content": '{"amount": 5}', "id": "c1"}),
            ("gen_ai.choice", {"message": '[{"text": "no"}]', "id": "c1"}),
        ],
        scope="strands.telemetry.tracer",
    ),
    Case(
        "Strands, an agent, with sums that are not counted",
        "invoke_agent helper",
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.system": "strands-agents",
            "gen_ai.agent.name": "helper",
            "gen_ai.request.model": "claude",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 4,
        },
        "run_finished",
        {"status": "success"},
        {"/output": b"It rains."},
        events=[("gen_ai.choice", {"message": "It rains.", "finish_reason": "end_turn"})],
        parent=None,
        agent="helper",
        raw={"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.system"},
    ),
    Case(
        "Strands, a swarm",
        "invoke_swarm",
        {"gen_ai.operation.name": "invoke_swarm", "gen_ai.agent.name": "swarm"},
        "run_finished",
        {"status": "success"},
        parent=None,
        agent="swarm",
    ),
    Case(
        "Microsoft Agent Framework, an agent under a workflow",
        "invoke_agent Reviewer",
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "microsoft.agent_framework",
            "gen_ai.agent.id": "7",
            "gen_ai.agent.name": "Reviewer",
            "gen_ai.usage.input_tokens": 10,
        },
        "delegation",
        {"to_agent": "Reviewer"},
        scope="agent_framework",
        raw={"gen_ai.provider.name", "gen_ai.agent.id", "gen_ai.usage.input_tokens"},
    ),
    Case(
        "Microsoft Agent Framework, a workflow",
        "workflow.run",
        {"workflow.id": "w1", "workflow.name": "review"},
        "run_finished",
        {"status": "success"},
        scope="agent_framework",
        parent=None,
        raw={"workflow.id"},
    ),
    Case(
        "AutoGen, a chat",
        "chat m",
        {"gen_ai.operation.name": "chat", "gen_ai.system": "autogen", "gen_ai.request.model": "m"},
        "model_call",
        {"model": "m", "missing": ["provider"]},
        raw={"gen_ai.system"},
    ),
    Case(
        "Semantic Kernel, a chat",
        "chat.completions gpt-4",
        {
            "gen_ai.operation.name": "chat.completions",
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4",
            "gen_ai.response.prompt_tokens": 6,
            "gen_ai.response.completion_tokens": 2,
            "gen_ai.response.finish_reason": "Stop",
        },
        "model_call",
        {"operation": "chat", "input_tokens": 6, "output_tokens": 2, "finish_reason": "Stop"},
        {"/messages": b"hi", "/output": b"ho"},
        events=[
            ("gen_ai.content.prompt", {"gen_ai.prompt": "hi"}),
            ("gen_ai.content.completion", {"gen_ai.completion": "ho"}),
        ],
    ),
    Case(
        "Vercel AI SDK, a generation",
        "ai.generateText.doGenerate",
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.id": "gpt-4o",
            "ai.model.provider": "openai.chat",
            "ai.response.model": "gpt-4o-2024",
            "ai.usage.promptTokens": 5,
            "ai.usage.completionTokens": 2,
            "ai.usage.cachedInputTokens": 1,
            "ai.usage.reasoningTokens": 1,
            "ai.response.finishReason": "stop",
            "ai.response.msToFirstChunk": 12.5,
            "ai.response.text": "ho",
            "ai.prompt.messages": '[{"role":"user","content":"hi"}]',
            "ai.prompt.tools": ['{"type":"function","name":"pay"}'],
            "ai.telemetry.metadata.userId": "ann",
            "ai.telemetry.metadata.sessionId": "s-1",
        },
        "model_call",
        {
            "provider": "openai.chat",
            "model": "gpt-4o-2024",
            "model_requested": "gpt-4o",
            "input_tokens": 5,
            "output_tokens": 2,
            "cache_read_tokens": 1,
            "reasoning_tokens": 1,
            "finish_reason": "stop",
            "first_token_us": 12_500,
            "session": "s-1",
            "tools_offered": ["pay"],
        },
        {"/messages": b'[{"role":"user","content":"hi"}]', "/output": b"ho"},
        principal="ann",
        raw={"ai.prompt.tools"},
    ),
    Case(
        "Vercel AI SDK, a tool",
        "ai.toolCall",
        {
            "ai.operationId": "ai.toolCall",
            "ai.toolCall.name": "pay",
            "ai.toolCall.id": "c1",
            "ai.toolCall.args": '{"amount":5}',
            "ai.toolCall.result": '"done"',
        },
        "tool_call",
        {"tool": "pay", "call": "c1"},
        {"/input": b'{"amount":5}', "/output": b'"done"'},
    ),
    Case(
        "Vercel AI SDK, the span around it, with the same tokens",
        "ai.generateText",
        {"ai.operationId": "ai.generateText", "ai.usage.promptTokens": 5},
        "span",
        {"class": "structure"},
        raw={"ai.usage.promptTokens"},
    ),
    Case(
        "Google ADK, old names",
        "call_llm",
        {
            "gen_ai.system": "gcp.vertex.agent",
            "gen_ai.request.model": "gemini",
            "gcp.vertex.agent.llm_request": '{"contents": []}',
            "gcp.vertex.agent.llm_response": '{"content": {}}',
            "gcp.vertex.agent.session_id": "s-1",
            "gen_ai.usage.input_tokens": 3,
        },
        "model_call",
        {"model": "gemini", "session": "s-1", "input_tokens": 3, "missing": ["provider"]},
        {"/messages": b'{"contents": []}', "/output": b'{"content": {}}'},
        scope="gcp.vertex.agent",
        raw={"gen_ai.system"},
    ),
    Case(
        "Google ADK, merged parallel calls",
        "execute_tool (merged tools)",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "(merged tools)"},
        "span",
        {"class": "structure"},
        scope="gcp.vertex.agent",
        raw={"gen_ai.tool.name"},
    ),
    Case(
        "Pydantic AI, old names: an agent",
        "agent run",
        {"agent_name": "helper", "model_name": "m", "final_result": "It rains.", "gen_ai.usage.input_tokens": 5},
        "run_finished",
        {"status": "success"},
        {"/output": b"It rains."},
        scope="pydantic-ai",
        parent=None,
        agent="helper",
        raw={"gen_ai.usage.input_tokens"},
    ),
    Case(
        "Pydantic AI, old names: a tool",
        "running tool",
        {"gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "c1", "tool_arguments": '{"a":1}', "tool_response": "done"},
        "tool_call",
        {"tool": "pay", "call": "c1"},
        {"/input": b'{"a":1}', "/output": b"done"},
        scope="pydantic-ai",
    ),
    Case(
        "Logfire, a span not yet ended",
        "chat m",
        {"gen_ai.operation.name": "chat", "logfire.span_type": "pending_span", "gen_ai.request.model": "m"},
        "span",
        {"class": "structure"},
        raw={"logfire.span_type", "gen_ai.request.model"},
    ),
    Case(
        "a model and tokens without any word of what it is",
        "litellm_request",
        {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5, "gen_ai.system": "openai"},
        "model_call",
        {"model": "m", "input_tokens": 5},
    ),
    Case("no convention at all", "GET /", {"http.route": "/"}, "span", {"class": "other"}, raw={"http.route"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_convention(case: Case) -> None:
    check(case)


def kinds(found: list[Event]) -> list[str]:
    return [event.kind for event in found]


# -- precedence and providers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "https://opentelemetry.io/schemas/1.21.0", "https://opentelemetry.io/schemas/9.9.9"]
)
def test_a_schema_url_decides_nothing_and_is_kept(url: str) -> None:
    """Rule 7: the attributes that are there say what they are, whatever version they are said to be of."""
    request = spans_request(
        span("chat", {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.usage.input_tokens": 5})
    )
    request.resource_spans[0].schema_url = request.resource_spans[0].scope_spans[0].schema_url = url
    (mapped,) = map_request("spans", request)
    (own,) = (normalize_draft(draft) for draft in mapped.drafts)
    assert (own.kind, own.data["provider"], own.data["input_tokens"]) == ("model_call", "openai", 5)
    raw = json.loads(content_of(own, "/raw") or b"")
    assert [raw[name].get("schema_url", "") for name in ("otlp:resource", "otlp:scope")] == [url, url]
    assert not url or url.encode() not in mapped.wire  # a Collector may change it: it is the same span all the same


def test_old_and_new_names_together_count_once_and_what_disagrees_is_kept() -> None:
    (own,) = events_of(
        span(
            "chat",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.usage.prompt_tokens": 5,
                "gen_ai.usage.input_tokens": 5,
                "llm.token_count.prompt": 6,
                "gen_ai.usage.output_tokens": "7",
            },
        )
    )
    assert (own.data["input_tokens"], own.data["output_tokens"]) == (5, 7)
    raw = json.loads(content_of(own, "/raw") or b"")
    assert raw["llm.token_count.prompt"] == 6
    assert "gen_ai.usage.prompt_tokens" not in raw


@pytest.mark.parametrize("wrong", [-1, 2**60, 1.5, float("nan"), "many", True, [1], {"a": 1}, b"1"])
def test_a_count_of_another_form_goes_to_raw_and_the_next_name_counts(wrong: Any) -> None:
    (own,) = events_of(
        span(
            "chat",
            {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": wrong, "gen_ai.usage.prompt_tokens": 4},
        )
    )
    assert own.data["input_tokens"] == 4
    assert "gen_ai.usage.input_tokens" in json.loads(content_of(own, "/raw") or b"")


@pytest.mark.parametrize(
    "framework",
    [
        "langchain",
        "strands-agents",
        "autogen",
        "microsoft.agent_framework",
        "Langchain",
        "OpenAI Agents",
        "llama-index",
    ],
)
def test_a_framework_is_no_provider(framework: str) -> None:
    (own,) = events_of(
        span("chat", {"gen_ai.operation.name": "chat", "gen_ai.system": framework, "llm.provider": "anthropic"})
    )
    assert own.data["provider"] == "anthropic"
    assert json.loads(content_of(own, "/raw") or b"")["gen_ai.system"] == framework


def test_a_claimed_cost_needs_its_currency() -> None:
    def cost(**told: Any) -> Any:
        attributes = {
            "gen_ai.operation.name": "chat",
            **{name.replace("__", "."): value for name, value in told.items()},
        }
        return events_of(span("chat", attributes))[0].data.get("cost_claimed")

    assert cost(gen_ai__usage__cost__amount=0.5) is None
    assert cost(gen_ai__usage__cost__amount=0.5, gen_ai__usage__cost__currency="EUR") == {
        "amount": "0.5",
        "currency": "EUR",
    }
    assert cost(gen_ai__usage__cost__amount=0.5, operation__cost=0.25) == {"amount": "0.25", "currency": "USD"}
    assert cost(operation__cost=1e-7) == {"amount": "0.0000001", "currency": "USD"}
    assert cost(operation__cost=float("inf")) is None


# -- errors (rule 3) --------------------------------------------------------------------------------------------------


def test_an_exception_and_its_status_are_one_error() -> None:
    own, error = events_of(
        span(
            "chat",
            {"gen_ai.operation.name": "chat", "error.type": "RateLimitError"},
            status=(2, "RateLimitError: slow down"),
            events=[
                (
                    "exception",
                    {
                        "exception.type": "openai.RateLimitError",
                        "exception.message": "slow down",
                        "exception.stacktrace": "File x",
                    },
                )
            ],
        )
    )
    assert own.data["status"] == "error"
    assert (error.kind, error.data["class"], error.data["of"]) == ("error", "openai.RateLimitError", own.id)
    assert error.data["from"] == "span_event"
    assert error.data["parent"] == own.id
    assert json.loads(content_of(error, "/message") or b"") == {
        "message": "slow down",
        "stacktrace": "File x",
        "status_message": "RateLimitError: slow down",
    }
    assert b"slow down" not in (content_of(own, "/raw") or b"")


def test_a_status_alone_is_an_error_and_a_timeout_is_told() -> None:
    own, error = events_of(
        span("chat", {"gen_ai.operation.name": "chat", "error.type": "TimeoutError"}, status=(2, "too slow"))
    )
    assert own.data["status"] == "timeout"
    assert (error.data["class"], error.data["from"]) == ("TimeoutError", "span")
    assert content_of(error, "/message") == b"too slow"
    own, error = events_of(span("GET /", status=(2, "")))
    assert (own.data["status"], error.data["class"]) == ("error", "_OTHER")


def test_an_error_type_alone_is_an_error() -> None:
    own, error = events_of(span("execute_tool x", {"gen_ai.operation.name": "execute_tool", "error.type": "500"}))
    assert (own.data["status"], error.data["class"], error.data["of"]) == ("error", "500", own.id)


def test_an_exception_recorded_twice_is_one_error() -> None:
    twice = {"exception.type": "x.AgentError", "exception.message": "no"}
    own, error = events_of(
        span(
            "Step 1",
            {"openinference.span.kind": "CHAIN"},
            status=(2, "AgentError: no"),
            events=[("exception", {**twice, "exception.stacktrace": "a"}), ("exception", twice)],
        )
    )
    assert (own.data["status"], error.data["class"]) == ("error", "x.AgentError")
    assert json.loads(content_of(error, "/message") or b"") == {
        "message": "no",
        "stacktrace": "a",
        "status_message": "AgentError: no",
    }


def test_messages_of_an_error_and_of_its_status_are_both_kept() -> None:
    _, error = events_of(span("x", {"error.type": "E", "error.message": "a"}, status=(2, "b")))
    assert json.loads(content_of(error, "/message") or b"") == {"message": "a", "status_message": "b"}


def test_an_exception_that_was_handled_is_an_error_of_a_span_that_succeeded() -> None:
    own, error = events_of(
        span("chat", {"gen_ai.operation.name": "chat"}, events=[("exception", {"exception.type": "ValueError"})])
    )
    assert (own.data["status"], error.kind, error.data["class"]) == ("ok", "error", "ValueError")


@pytest.mark.parametrize("status", [(0, ""), (1, ""), (2, "GraphInterrupt(...)")])
def test_an_interrupt_is_an_approval_request_and_no_error(status: tuple[int, str]) -> None:
    text = "(Interrupt(value={'action_requests': [{'name': 'pay', 'args': {'x': 1}}]}, id='4f1c0d'),)"
    own, request = events_of(
        span(
            "HumanInTheLoopMiddleware.after_model",
            {"openinference.span.kind": "CHAIN"},
            status=status,
            events=[("exception", {"exception.type": "langgraph.errors.GraphInterrupt", "exception.message": text})],
        )
    )
    assert own.data["status"] == "ok"
    assert (request.kind, request.data["approval"], request.data["from"]) == (
        "approval_request",
        "4f1c0d",
        "span_event",
    )
    assert content_of(request, "/context") == text.encode()


def test_an_interrupt_without_an_id_is_still_asked_for() -> None:
    _, request = events_of(
        span("node", events=[("exception", {"exception.type": "NodeInterrupt", "exception.message": "sure?"})])
    )
    assert (request.kind, request.data["missing"]) == ("approval_request", ["approval"])


def test_a_root_that_was_interrupted_is_handed_over() -> None:
    found = events_of(
        span(
            "agent",
            {"openinference.span.kind": "AGENT"},
            parent=None,
            events=[
                (
                    "exception",
                    {"exception.type": "GraphInterrupt", "exception.message": "(Interrupt(value=1, id='a'),)"},
                )
            ],
        )
    )
    assert kinds(found) == ["run_finished", "run_started", "approval_request"]
    assert found[0].data["status"] == "handed_over"


def test_a_command_to_a_parent_graph_is_no_error() -> None:
    (own,) = events_of(
        span(
            "transfer",
            {"openinference.span.kind": "CHAIN"},
            events=[
                ("exception", {"exception.type": "langgraph.errors.ParentCommand", "exception.message": "Command(...)"})
            ],
        )
    )
    assert own.data["status"] == "ok"
    assert b"ParentCommand" in (content_of(own, "/raw") or b"")


def test_a_run_that_was_cancelled_is_aborted() -> None:
    found = events_of(
        span(
            "invoke_agent a",
            {"gen_ai.operation.name": "invoke_agent"},
            parent=None,
            status=(2, ""),
            events=[("exception", {"exception.type": "asyncio.exceptions.CancelledError"})],
        )
    )
    assert found[0].data["status"] == "aborted"
    found = events_of(span("invoke_agent a", {"gen_ai.operation.name": "invoke_agent"}, parent=None, status=(2, "no")))
    assert found[0].data["status"] == "failure"


# -- approvals (rule 2) -----------------------------------------------------------------------------------------------

ASKED = '[{"role":"user","parts":[]},{"role":"assistant","parts":[{"type":"tool_call","id":"c1"}]},'


@pytest.mark.parametrize(
    ("part", "decision"),
    [
        ('{"type":"tool_call_response","id":"c1","result":"The tool call was denied."}', "reject"),
        ('{"type":"tool_call_response","id":"c1","result":"no","outcome":"denied"}', "reject"),
        ('{"type":"tool_call_response","id":"c1","result":"rainy"}', None),
    ],
)
def test_pydantic_ai_answers_to_calls_of_an_earlier_run(part: str, decision: str | None) -> None:
    found = events_of(
        span(
            "invoke_agent a",
            {
                "gen_ai.operation.name": "invoke_agent",
                "pydantic_ai.all_messages": f'{ASKED}{{"role":"user","parts":[{part}]}}]',
                "pydantic_ai.new_message_index": 2,
            },
            parent=None,
        )
    )
    assert kinds(found) == ["run_finished", "run_started", "approval_decision"]
    assert found[2].data.get("decision") == decision
    assert found[2].data["approval"] == "c1"
    assert found[2].time == (found[0] if decision == "reject" else found[1]).time  # the run's end, or its start
    assert found[0].time != found[1].time


def test_pydantic_ai_answers_within_one_run_are_no_decisions() -> None:
    found = events_of(
        span(
            "invoke_agent a",
            {
                "gen_ai.operation.name": "invoke_agent",
                "pydantic_ai.all_messages": ASKED
                + '{"role":"user","parts":[{"type":"tool_call_response","id":"c1"}]}]',
            },
            parent=None,
        )
    )
    assert kinds(found) == ["run_finished", "run_started"]


def test_pydantic_ai_a_tool_that_asks_while_it_runs_was_not_called() -> None:
    (own,) = events_of(
        span(
            "execute_tool pay",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "pay",
                "gen_ai.tool.call.id": "c1",
                "gen_ai.tool.call.arguments": '{"x": 1}',
                "pydantic_ai.tool.deferral.name": "ApprovalRequired",
                "pydantic_ai.tool.deferral.metadata": '{"why": "over limit"}',
            },
        )
    )
    assert (own.kind, own.data["approval"], own.data["call"]) == ("approval_request", "c1", "c1")
    assert content_of(own, "/input") == b'{"x": 1}'
    assert json.loads(content_of(own, "/context") or b"") == {
        "tool": "pay",
        "pydantic_ai.tool.deferral.metadata": '{"why": "over limit"}',
    }


def test_pydantic_ai_a_call_left_to_others_is_proposed() -> None:
    found = events_of(
        span(
            "invoke_agent a",
            {
                "gen_ai.operation.name": "invoke_agent",
                "final_result": '{"calls":[{"tool_name":"pay","args":"{\\"x\\": 1}","tool_call_id":"c2"}],'
                '"approvals":[]}',
            },
            parent=None,
        )
    )
    assert kinds(found) == ["run_finished", "run_started", "tool_call"]
    assert {name: found[2].data[name] for name in ("tool", "call", "phase", "status")} == {
        "tool": "pay",
        "call": "c2",
        "phase": "proposed",
        "status": "unknown",
    }
    assert content_of(found[2], "/input") == b'{"x": 1}'


def test_pydantic_ai_output_that_is_asked_again() -> None:
    own, failed, again = events_of(
        span(
            "execute_tool final_result",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "final_result",
                "pydantic_ai.output.retry.cause": "validation_error",
                "pydantic_ai.output.retry.attempt": 1,
            },
        )
    )
    assert (failed.kind, failed.data["rule"], failed.data["result"]) == ("validator", "validation_error", "fail")
    assert (again.kind, again.data["of"], again.data["attempt"]) == ("retry", own.id, 1)
    assert again.data["cause"] == "validation_error"


def test_pydantic_ai_arguments_that_were_refused_never_reached_the_tool() -> None:
    found = events_of(
        span(
            "execute_tool pay",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "pay",
                "pydantic_ai.tool.failure_stage": "validation",
                "pydantic_ai.tool.retry.cause": "validation_error",
            },
            status=(2, ""),
        )
    )
    assert kinds(found) == ["tool_call", "error", "validator"]
    assert found[0].data["phase"] == "proposed"


def test_pydantic_ai_a_tool_that_asks_to_be_called_again_was_judged_by_nobody() -> None:
    found = events_of(
        span(
            "execute_tool pay",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "pay",
                "pydantic_ai.tool.retry.cause": "model_retry",
                "pydantic_ai.tool.retry.attempt": 2,
            },
        )
    )
    assert kinds(found) == ["tool_call", "retry"]
    assert (found[1].data["attempt"], found[1].data["cause"]) == (2, "model_retry")


COMMAND = '{"graph": null, "update": null, "resume": %s, "goto": []}'


@pytest.mark.parametrize(
    ("resume", "decisions", "approvals"),
    [
        ('{"decisions": [{"type": "reject", "message": "no"}]}', ["reject"], [None]),
        ('{"decisions": [{"type": "approve"}, {"type": "edit", "x": 1}]}', ["approve", "edit"], [None, None]),
        (
            '{"0123456789abcdef0123456789abcdef": {"decisions": [{"type": "approve"}]}}',
            ["approve"],
            ["0123456789abcdef0123456789abcdef"],
        ),
        ('[{"type": "accept", "args": null}]', ["approve"], [None]),
        ('"yes"', [None], [None]),
    ],
)
def test_langgraph_resumed(resume: str, decisions: list[str | None], approvals: list[str | None]) -> None:
    found = events_of(span("agent", {"openinference.span.kind": "AGENT", "input.value": COMMAND % resume}, parent=None))
    made = [event for event in found if event.kind == "approval_decision"]
    assert [event.data.get("decision") for event in made] == decisions
    assert [event.data.get("approval") for event in made] == approvals
    assert all(content_of(event, "/input") is None for event in made if event.data.get("decision") != "edit")
    overrides = [event for event in found if event.kind == "human_override"]
    assert [event.data["of"] for event in overrides] == [
        event.id for event in made if event.data.get("decision") == "edit"
    ]


def test_langgraph_an_edit_has_the_arguments_that_it_puts_in_place() -> None:
    answer = '{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 90}}}'
    found = events_of(
        span(
            "agent",
            {"openinference.span.kind": "AGENT", "input.value": COMMAND % f'{{"decisions": [{answer}]}}'},
            parent=None,
        )
    )
    (decision,) = [event for event in found if event.kind == "approval_decision"]
    (override,) = [event for event in found if event.kind == "human_override"]
    assert content_of(decision, "/input") == b'{"amount": 90}'
    assert content_of(decision, "/reason") == content_of(override, "/after") == answer.encode()


def test_langgraph_the_middleware_asks_about_a_call() -> None:
    state = '{"messages": [{"type": "human"}, {"type": "ai", "data": {"tool_calls": [%s]}}]}'
    call = '{"name": "pay", "args": {"amount": 900}, "id": "call_3"}'
    text = "(Interrupt(value={'action_requests': [{'name': 'pay', 'args': {}}]}, id='e014', response_schema=None),)"

    def asked(calls: str, told: str = text) -> Event:
        return events_of(
            span(
                "HumanInTheLoopMiddleware.after_model",
                {"openinference.span.kind": "CHAIN", "input.value": state % calls},
                events=[("exception", {"exception.type": "GraphInterrupt", "exception.message": told})],
            )
        )[1]

    request = asked(call)
    assert (request.data["approval"], request.data["call"]) == ("e014", "call_3")
    assert content_of(request, "/input") == b'{"amount": 900}'
    for other in (asked(f"{call}, {call}"), asked(call.replace("pay", "look")), asked(call, text.replace("pay", "x"))):
        assert other.data["approval"] == "e014"
        assert other.data["call"] == other.id
        assert content_of(other, "/input") is None


@pytest.mark.parametrize(
    ("attribute", "wrapped"),
    [
        ("input.value", "%s"),
        ("gen_ai.prompt", '{"input": %s}'),  # LangSmith
        ("traceloop.entity.input", '{"inputs": %s, "tags": []}'),  # OpenLLMetry
    ],
)
def test_langgraph_is_resumed_by_whatever_instrumentation(attribute: str, wrapped: str) -> None:
    told = wrapped % (COMMAND % '{"decisions": [{"type": "reject", "message": "no"}]}')
    found = events_of(span("pay_agent.workflow", {"gen_ai.operation.name": "invoke_agent", attribute: told}))
    assert kinds(found) == ["delegation", "approval_decision"]
    assert found[1].data["decision"] == "reject"
    assert content_of(found[1], "/reason") == b'{"type": "reject", "message": "no"}'


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("gen_ai.prompt", '{"type": "ai", "tool_calls": [%s]}'),
        ("traceloop.entity.input", '{"lc": 1, "kwargs": {"tool_calls": [%s]}}'),
        ("input.value", '{"type": "ai", "data": {"tool_calls": [%s]}}'),
        ("input.value", '{"type": "ai", "data": "none", "tool_calls": [%s]}'),
    ],
)
def test_langgraph_the_call_asked_about_by_whatever_instrumentation(attribute: str, message: str) -> None:
    call = '{"name": "pay", "args": {"amount": 900}, "id": "call_3"}'
    text = "GraphInterrupt((Interrupt(value={'action_requests': [{'name': 'pay'}]}, id='e014'),))Traceback"
    own, request = events_of(
        span(
            "after_model",
            {attribute: f'{{"messages": [{message % call}]}}'},
            status=(2, text),
            events=[("exception", {"exception.type": "Exception", "exception.message": text})],
        )
    )
    assert own.data["status"] == "ok"
    assert (request.data["approval"], request.data["call"]) == ("e014", "call_3")
    assert content_of(request, "/input") == b'{"amount": 900}'


def test_langchain_tool_messages_name_the_call() -> None:
    message = '{"output": {"lc": 1, "kwargs": {"tool_call_id": "call_1", "status": "error"}}}'
    (own,) = events_of(
        span("execute_tool pay", {"gen_ai.operation.name": "execute_tool", "traceloop.entity.output": message})
    )
    assert (own.data["call"], own.data["status"]) == ("call_1", "error")


def test_langsmith_an_agent_is_a_chain_with_its_name() -> None:
    chain = {"langsmith.span.kind": "chain", "langsmith.metadata.lc_agent_name": "helper"}
    assert kinds(events_of(span("helper", chain, parent=None))) == ["run_finished", "run_started"]
    assert kinds(events_of(span("helper", chain))) == ["delegation"]
    assert kinds(events_of(span("model", chain))) == ["span"]


def test_langsmith_tells_what_was_raised_in_the_message() -> None:
    raised = {"exception.type": "Exception", "exception.message": "Boom('out of order')Traceback …"}
    _, error = events_of(span("x", status=(2, ""), events=[("exception", raised)]), scope="langsmith")
    assert error.data["class"] == "Boom"
    _, error = events_of(span("x", status=(2, ""), events=[("exception", raised)]))
    assert error.data["class"] == "Exception"


INTERRUPTED = "[{'id': 'v1:before_tool_call:call_4:0948095f', 'name': 'pay-approval', 'reason': {'amount': 900}}]"


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("gen_ai.choice", {"finish_reason": "interrupt", "message": INTERRUPTED}),
        (
            "gen_ai.client.inference.operation.details",
            {
                "gen_ai.output.messages": json.dumps(
                    [{"parts": [{"content": INTERRUPTED}], "finish_reason": "interrupt"}]
                )
            },
        ),
    ],
)
def test_strands_an_agent_that_was_interrupted(name: str, attributes: dict[str, Any]) -> None:
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "pay_agent"}
    found = events_of(span("invoke_agent pay_agent", agent, parent=None, events=[(name, attributes)]))
    assert kinds(found) == ["run_finished", "run_started", "approval_request"]
    assert found[0].data["status"] == "handed_over"
    assert found[2].data["approval"] == "v1:before_tool_call:call_4:0948095f"
    assert found[2].data["call"] == "call_4"


def test_strands_an_agent_that_goes_on_after_an_interrupt() -> None:
    told = json.dumps([{"role": "user", "parts": [{"type": "interrupt_response", "id": "i1", "response": "no"}]}])
    found = events_of(
        span(
            "invoke_agent a",
            {"gen_ai.operation.name": "invoke_agent"},
            parent=None,
            events=[("gen_ai.client.inference.operation.details", {"gen_ai.input.messages": told})],
        )
    )
    assert (found[2].kind, found[2].data["approval"]) == ("approval_decision", "i1")
    assert found[2].data["missing"] == ["decision"]  # a free answer: what it means is the application's


def test_finish_reasons_may_stand_in_the_messages() -> None:
    for told in (REPLY, json.loads(REPLY)):
        (own,) = events_of(span("chat", {"gen_ai.operation.name": "chat", "gen_ai.output.messages": told}))
        assert own.data["finish_reason"] == "stop"


def test_what_is_called_unknown_is_not_known() -> None:
    (own,) = events_of(
        span(
            "F.chat",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "unknown",
                "traceloop.association.properties.ls_model_name": "gpt-4o",
            },
        )
    )
    assert own.data["model"] == "gpt-4o"
    (own,) = events_of(
        span("execute_tool x", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": "<not specified>"})
    )
    assert own.data["call"] == own.id


def test_openai_agents_a_span_without_output_tells_of_a_proposed_call() -> None:
    scope = "openinference.instrumentation.openai_agents"
    attributes = {"openinference.span.kind": "TOOL", "tool.name": "pay", "input.value": '{"x": 1}'}
    (waits,) = events_of(span("pay", attributes, status=(1, "")), scope=scope)
    assert (waits.data["phase"], waits.data["status"]) == ("proposed", "unknown")
    (ran,) = events_of(span("pay", {**attributes, "output.value": "done"}, status=(1, "")), scope=scope)
    assert (ran.data["phase"], ran.data["status"]) == ("finished", "ok")
    (openllmetry,) = events_of(
        span("pay.tool", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": "{}"}),
        scope="opentelemetry.instrumentation.openai_agents",
    )
    assert openllmetry.data["phase"] == "proposed"
    failed, _ = events_of(span("pay", attributes, status=(2, "no")), scope=scope)
    assert (failed.data["phase"], failed.data["status"]) == ("finished", "error")


def test_google_adk_a_tool_that_asks_and_one_that_was_refused() -> None:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "pay",
        "gen_ai.tool.call.id": "c1",
        "gcp.vertex.agent.tool_call_args": '{"x": 1}',
    }
    asks = {"error": "This tool call requires confirmation, please approve or reject."}
    (own,) = events_of(span("execute_tool pay", {**attributes, "gcp.vertex.agent.tool_response": json.dumps(asks)}))
    assert (own.kind, own.data["approval"], content_of(own, "/input")) == ("approval_request", "c1", b'{"x": 1}')
    refused = {"error": "This tool call is rejected."}
    (own,) = events_of(span("execute_tool pay", {**attributes, "gcp.vertex.agent.tool_response": json.dumps(refused)}))
    assert (own.kind, own.data["decision"]) == ("approval_decision", "reject")
    assert own.time == "2026-11-21T01:20:02.250000Z"


def test_microsoft_agent_framework_approvals() -> None:
    call = {"call_id": "c1", "name": "pay", "arguments": '{"x": 1}'}
    asked = [{"role": "assistant", "parts": [{"type": "function_approval_request", "id": "a1", "function_call": call}]}]
    answered = [
        {
            "role": "user",
            "parts": [{"type": "function_approval_response", "id": "a1", "approved": False, "function_call": call}],
        }
    ]
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    found = events_of(span("invoke_agent a", {**agent, "gen_ai.output.messages": json.dumps(asked)}, parent=None))
    assert kinds(found) == ["run_finished", "run_started", "approval_request"]
    assert (found[2].data["approval"], found[2].data["call"]) == ("a1", "c1")
    assert content_of(found[2], "/input") == b'{"x": 1}'
    assert found[0].data["status"] == "handed_over"
    found = events_of(span("invoke_agent a", {**agent, "gen_ai.input.messages": json.dumps(answered)}, parent=None))
    assert (found[2].kind, found[2].data["decision"], found[2].data["approval"]) == (
        "approval_decision",
        "reject",
        "a1",
    )


# -- handoffs, final answers, routing, feedback -----------------------------------------------------------------------


def test_smolagents_final_answer_is_no_tool_call() -> None:
    attributes = {"openinference.span.kind": "TOOL", "tool.name": "final_answer"}
    assert (
        events_of(span("FinalAnswerTool", attributes), scope="openinference.instrumentation.smolagents")[0].kind
        == "span"
    )
    assert events_of(span("final_answer", attributes), scope="mine")[0].kind == "tool_call"  # anybody's own tool


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("handoff to billing", {"openinference.span.kind": "TOOL", "input.value": "triage", "output.value": "billing"}),
        ("Handoff to billing", {"traceloop.span.kind": "tool"}),
        ("triage → billing.handoff", {"gen_ai.operation.name": "handoff"}),
        ("handoff", {"gen_ai.operation.name": "handoff", "gen_ai.handoff.to_agent": "billing"}),
    ],
)
def test_a_handoff_is_a_delegation(name: str, attributes: dict[str, Any]) -> None:
    (own,) = events_of(span(name, {"gen_ai.agent.name": "triage", **attributes}))
    assert (own.kind, own.data["to_agent"], own.actor["agent"]) == ("delegation", "billing", "triage")


def test_google_adk_a_transfer_is_a_handoff_to_whom_its_arguments_say() -> None:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "transfer_to_agent",
        "gen_ai.tool.type": "TransferToAgentTool",
        "gen_ai.agent.name": "triage",
    }
    (own,) = events_of(span("execute_tool transfer_to_agent", attributes))
    assert (own.kind, own.actor["agent"], own.data["missing"]) == ("delegation", "triage", ["to_agent"])
    told = {**attributes, "gen_ai.tool.call.arguments": '{"agent_name": "billing"}'}
    (own,) = events_of(span("execute_tool transfer_to_agent", told))
    assert own.data["to_agent"] == "billing"


def test_openai_agents_the_first_agent_of_a_run_was_delegated_to_by_nobody() -> None:
    agent = {"openinference.span.kind": "AGENT", "graph.node.id": "triage", "agent.name": "triage"}
    (own,) = events_of(span("triage", agent))
    assert (own.kind, own.data["class"], own.actor["agent"]) == ("span", "structure", "triage")
    (next_one,) = events_of(span("billing", {**agent, "agent.name": "billing", "graph.node.parent_id": "triage"}))
    assert next_one.kind == "delegation"


def test_routing_by_command() -> None:
    own, routing = events_of(
        span("node", {"openinference.span.kind": "CHAIN", "langgraph.command.goto_node": "billing"})
    )
    assert (own.kind, routing.kind, routing.data["chosen"]) == ("span", "routing_decision", "billing")


def test_feedback_of_people_and_evaluators() -> None:
    own, judged, overridden = events_of(
        span(
            "chat",
            {
                "openinference.span.kind": "LLM",
                "annotations.0.annotation.name": "tone",
                "annotations.0.annotation.label": "fail",
                "annotations.0.annotation.annotator_kind": "LLM",
                "annotations.1.annotation.name": "correct",
                "annotations.1.annotation.annotator_kind": "HUMAN",
                "annotations.1.annotation.explanation": "should be 5",
            },
        )
    )
    assert (judged.kind, judged.data["rule"], judged.data["result"]) == ("validator", "tone", "fail")
    assert (overridden.kind, overridden.data["of"]) == ("human_override", own.id)
    assert b"should be 5" in (content_of(overridden, "/after") or b"")


def test_verdicts_and_evaluations_beside_a_call() -> None:
    own, verdict, evaluation = events_of(
        span(
            "chat",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.guardrail.name": "pii",
                "gen_ai.guardrail.result": "allow",
                "gen_ai.evaluation.name": "tone",
                "gen_ai.evaluation.score.label": "pass",
            },
        )
    )
    assert own.kind == "model_call"
    assert (verdict.kind, verdict.data["rule"], verdict.data["decision"]) == ("policy_decision", "pii", "allow")
    assert (evaluation.kind, evaluation.data["rule"], evaluation.data["result"]) == ("validator", "tone", "pass")


def test_a_persons_evaluation_is_an_override() -> None:
    said = {"annotation.name": "correct", "annotation.annotator_kind": "HUMAN", "annotation.label": "fail"}
    own, override = events_of(span("Review", {"openinference.span.kind": "EVALUATOR", **said}))
    assert (own.kind, own.data["result"], override.kind) == ("validator", "fail", "human_override")
    assert override.data["of"] == own.data["parent"]
    assert json.loads(content_of(override, "/after") or b"") == said


def test_too_much_feedback_stays_in_raw() -> None:
    many = {f"annotations.{at}.annotation.name": "x" for at in range(100)}
    (own,) = events_of(span("chat", {"openinference.span.kind": "LLM", **many}))
    assert many.keys() <= json.loads(content_of(own, "/raw") or b"").keys()


def test_an_evaluation_as_an_event() -> None:
    own, found = events_of(
        span(
            "chat",
            {"gen_ai.operation.name": "chat"},
            events=[
                (
                    "gen_ai.evaluation.result",
                    {"gen_ai.evaluation.name": "Relevance", "gen_ai.evaluation.score.label": "pass"},
                )
            ],
        )
    )
    assert (found.kind, found.data["rule"], found.data["result"]) == ("validator", "Relevance", "pass")
    assert (found.data["from"], found.data["parent"]) == ("span_event", own.id)


def test_what_an_sdk_dropped_is_said() -> None:
    own, attributes, events = events_of(span("x", dropped_attributes_count=3, dropped_events_count=1))
    assert [(gap.kind, gap.data["count"], gap.data["cause"]) for gap in (attributes, events)] == [
        ("producer_gap", 3, "dropped_attributes"),
        ("producer_gap", 1, "dropped_events"),
    ]
    assert attributes.data["src"] == "svc"
    assert attributes.data["parent"] == own.id
    assert attributes.data["missing"] == ["from", "to"]


# -- logs -------------------------------------------------------------------------------------------------------------


def test_details_in_a_log_are_a_model_call_of_its_span() -> None:
    (own,) = log_events(
        log(
            "gen_ai.client.inference.operation.details",
            {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"},
            body={"gen_ai.input.messages": [{"role": "user"}]},
        )
    )
    (call,) = events_of(span("chat", {"gen_ai.operation.name": "chat"}))
    assert (own.kind, own.data["from"], own.data["parent"]) == ("model_call", "log", call.id)
    assert own.data["trace"] == {"trace_id": call.data["trace"]["trace_id"], "span_id": call.data["trace"]["span_id"]}
    assert own.run == call.run
    assert content_of(own, "/messages") == b'[{"role":"user"}]'


def test_an_exception_in_a_log_is_an_error_of_its_span() -> None:
    (own,) = log_events(
        log("exception", {"exception.type": "ValueError", "exception.message": "bad", "exception.stacktrace": "File"})
    )
    (call,) = events_of(span("x"))
    assert (own.kind, own.data["class"], own.data["of"]) == ("error", "ValueError", call.id)
    assert json.loads(content_of(own, "/message") or b"") == {"message": "bad", "stacktrace": "File"}


def test_any_other_log_is_kept_as_one() -> None:
    (own,) = log_events(log("", {"event.name": "user.login", "n": 1}, body="ann logged in", severity_number=9))
    assert (own.kind, own.data["name"], own.data["class"]) == ("span", "user.login", "log")
    raw = json.loads(content_of(own, "/raw") or b"")
    assert raw["otlp:body"] == "ann logged in"
    assert raw["n"] == 1
    assert raw["otlp:log"]["severity_number"] == 9


def test_a_log_of_no_trace_is_of_no_run() -> None:
    (own,) = log_events(log("x", trace_id=b"", span_id=b""))
    assert own.run is None
    assert "trace" not in own.data
    (own,) = log_events(log("x", {"tallystick.run_id": "r-1"}, trace_id=b"", span_id=b""))
    assert own.run == "r-1"


def test_a_log_has_its_time_else_the_time_it_was_observed() -> None:
    assert log_events(log("x"))[0].time == "2026-11-21T01:20:02.000000Z"
    observed = log_events(log("x", time_unix_nano=0, observed_time_unix_nano=START + 5_000))[0]
    assert observed.time == "2026-11-21T01:20:02.000005Z"
