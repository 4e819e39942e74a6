"""Source to kind (events.md): what a span is, from its own attributes and name alone.

A role names the kind, or what decides between kinds once the span's place is known: `agent` and `workflow` become
run_finished where the span is a root and delegation where it isn't.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.conventions import google_adk, langsmith, openinference
from ingest.otlp.mapping.said import Said

Role = Literal[
    "model_call",
    "tool_call",
    "retrieval",
    "memory_read",
    "memory_write",
    "memory_delete",
    "policy_decision",
    "validator",
    "approval_request",
    "approval_decision",
    "agent",
    "workflow",
    "handoff",
    "structure",
    "other",
]


@dataclass(frozen=True, slots=True)
class Source:
    """An attribute that says what a span is, and what its values mean. `keep`: they say more, and stay for /raw."""

    attribute: str
    roles: dict[str, Role]
    keep: bool = False


# In the order in which they are asked. LangSmith's comes first: it also writes `gen_ai.operation.name`, where a
# retriever is `embeddings` and a prompt is `chat`.
SOURCES: Final[tuple[Source, ...]] = (
    Source("logfire.span_type", {"pending_span": "structure"}, keep=True),
    Source(
        "langsmith.span.kind",
        {
            "llm": "model_call",
            "embedding": "model_call",
            "tool": "tool_call",
            "retriever": "retrieval",
            "chain": "structure",
            "prompt": "structure",
            "parser": "structure",
        },
    ),
    Source(
        "gen_ai.operation.name",
        {
            "chat": "model_call",
            "generate_content": "model_call",
            "text_completion": "model_call",
            "embeddings": "model_call",
            "chat.completions": "model_call",
            "text.completions": "model_call",
            "completion": "model_call",
            "embedding": "model_call",
            "decide": "model_call",
            "execute_tool": "tool_call",
            "execute_code": "tool_call",
            "retrieval": "retrieval",
            "search_memory": "memory_read",
            "create_memory": "memory_write",
            "update_memory": "memory_write",
            "upsert_memory": "memory_write",
            "delete_memory": "memory_delete",
            "apply_guardrail": "policy_decision",
            "guardrail": "policy_decision",
            "guardrail_check": "policy_decision",
            "run_guardrail": "policy_decision",
            "guard": "policy_decision",
            "guardrail.run": "policy_decision",
            "invoke_agent": "agent",
            "agent": "agent",
            "invoke_workflow": "workflow",
            "invoke_swarm": "workflow",
            "invoke_graph": "workflow",
            "conversation": "workflow",
            "initiate_chats": "workflow",
            "handoff": "handoff",
            "agent_handoff": "handoff",
            "create_agent": "structure",
            "execute_task": "structure",
            "execute_method": "structure",
            "speaker_selection": "structure",
            "await_human_input": "structure",
            "fetch_response": "structure",
            "plan": "structure",
            "create_memory_store": "structure",
            "delete_memory_store": "structure",
        },
    ),
    Source(
        "openinference.span.kind",
        {
            "LLM": "model_call",
            "EMBEDDING": "model_call",
            "DECISION": "model_call",
            "TOOL": "tool_call",
            "RETRIEVER": "retrieval",
            "RERANKER": "retrieval",
            "GUARDRAIL": "policy_decision",
            "EVALUATOR": "validator",
            "AGENT": "agent",
            "CHAIN": "structure",
            "PROMPT": "structure",
        },
    ),
    Source(
        "mcp.method.name",
        {"tools/call": "tool_call", "resources/read": "retrieval"},
    ),
    Source(
        "llm.request.type",
        {
            "chat": "model_call",
            "completion": "model_call",
            "acompletion": "model_call",
            "text_completion": "model_call",
            "atext_completion": "model_call",
            "responses": "model_call",
            "aresponses": "model_call",
            "embedding": "model_call",
            "aembedding": "model_call",
            "rerank": "retrieval",
            "arerank": "retrieval",
        },
    ),
    Source(
        "traceloop.span.kind",
        {
            "tool": "tool_call",
            "agent": "agent",
            "workflow": "workflow",
            "task": "structure",
            "handoff": "handoff",
            "guardrail": "policy_decision",
        },
    ),
    Source(
        "ai.operationId",
        {
            "ai.generateText.doGenerate": "model_call",
            "ai.streamText.doStream": "model_call",
            "ai.generateObject.doGenerate": "model_call",
            "ai.streamObject.doStream": "model_call",
            "ai.embed.doEmbed": "model_call",
            "ai.embedMany.doEmbed": "model_call",
            "ai.toolCall": "tool_call",
            "ai.generateText": "structure",
            "ai.streamText": "structure",
            "ai.generateObject": "structure",
            "ai.streamObject": "structure",
            "ai.embed": "structure",
            "ai.embedMany": "structure",
        },
    ),
    Source(
        "langfuse.observation.type",
        {
            "generation": "model_call",
            "embedding": "model_call",
            "tool": "tool_call",
            "retriever": "retrieval",
            "guardrail": "policy_decision",
            "evaluator": "validator",
            "agent": "agent",
            "chain": "structure",
        },
    ),
    Source(
        "mlflow.spanType",
        {
            "LLM": "model_call",
            "CHAT_MODEL": "model_call",
            "EMBEDDING": "model_call",
            "TOOL": "tool_call",
            "RETRIEVER": "retrieval",
            "RERANKER": "retrieval",
            "GUARDRAIL": "policy_decision",
            "EVALUATOR": "validator",
            "AGENT": "agent",
            "WORKFLOW": "workflow",
            "CHAIN": "structure",
            "PARSER": "structure",
            "TASK": "structure",
        },
    ),
    Source(
        "mastra.span.type",
        {
            "model_generation": "model_call",
            "tool_call": "tool_call",
            "mcp_tool_call": "tool_call",
            "agent_run": "agent",
            "workflow_run": "workflow",
            "workflow_step": "structure",
            "processor_run": "structure",
        },
    ),
    Source(
        "spring.ai.kind",
        {"tool_call": "tool_call", "chat_client": "structure", "advisor": "structure"},
    ),
)

# Spans that are told by their name alone, under an instrumentation scope that begins so.
NAMED: Final[tuple[tuple[str, re.Pattern[str], Role], ...]] = (
    ("agent_framework", re.compile(r"workflow\.run"), "workflow"),
    ("pydantic-ai", re.compile(r"agent run"), "agent"),
    ("pydantic-ai", re.compile(r"running tool"), "tool_call"),
    ("strands.", re.compile(r"execute_event_loop_cycle"), "structure"),
    (google_adk.SCOPE, re.compile(r"call_llm"), "model_call"),
    (google_adk.SCOPE, re.compile(r"invocation"), "workflow"),
    (google_adk.SCOPE, re.compile(r"agent_run \[.+\]"), "agent"),
    ("crewai", re.compile(r"(?:query|retrieve) memory"), "memory_read"),
    ("crewai", re.compile(r"save memory"), "memory_write"),
    ("crewai", re.compile(r"(?:query|search) knowledge"), "retrieval"),
    ("crewai", re.compile(r"evaluate guardrail"), "policy_decision"),
    ("crewai", re.compile(r"request human feedback"), "approval_request"),
    ("crewai", re.compile(r"receive human feedback"), "approval_decision"),
    ("crewai", re.compile(r"a2a (?:parallel )?delegate"), "handoff"),
    ("", re.compile(r"haystack\.agent\.hook\.human_in_the_loop\.strategy"), "approval_decision"),
    ("", re.compile(r"haystack\.agent\.run"), "agent"),
    ("", re.compile(r"haystack\.agent\.step\.llm"), "model_call"),
    ("", re.compile(r"haystack\.agent\.step\.tool"), "tool_call"),
    ("", re.compile(r"haystack\.(?:pipeline|component)\.run|haystack\.agent\.(?:step|hook)"), "structure"),
)
# A span with a model and token counts is a model call, whatever else it leaves unsaid (rule 7).
_MODELS: Final = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name")
_COUNTS: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_HANDOFF_TO: Final = "handoff to "
_HANDED, _HANDOFF = " → ", ".handoff"
_CONVERSATIONS: Final = ("conversation", "initiate_chats")  # AG2's: one inside another delegates to nobody
_CREW_FAILURE: Final = "tool failure"  # a row beside the span of the call that failed
_FINAL_ANSWERS: Final = frozenset({"final_answer", "FinalAnswerTool"})


def classify(said: Said, name: str, scope: str, inside: bool) -> Role:
    """The role of a span with this name, from this instrumentation scope; `inside`: it has a parent."""
    role = _said_role(said) or _named_role(name, scope)
    if role == "tool_call":
        tool = said.get("gen_ai.tool.name") or said.get("tool.name")
        if handoff_between(name) != (None, None) or google_adk.is_transfer(said, scope):
            return "handoff"
        if name == _CREW_FAILURE and scope.startswith("crewai"):
            return "structure"
        if type(tool) is str and (tool == google_adk.MERGED or (tool in _FINAL_ANSWERS and "smolagents" in scope)):
            return "structure"
    if role == "workflow" and inside and said.attributes.get("gen_ai.operation.name") in _CONVERSATIONS:
        return "structure"
    if role == "agent" and openinference.is_own_agent(said):
        return "structure" if inside else role
    if role == "structure" and langsmith.is_agent(said, name):
        return "agent"
    if role is None and "final_result" in said.attributes and "agent_name" in said.attributes:
        return "agent"  # Pydantic AI's, under whatever name
    if role is None:
        get = said.get
        counted = any(get(name) is not None for name in _MODELS) and any(get(name) is not None for name in _COUNTS)
        return "model_call" if counted else "other"
    return role


def told_by_kind(said: Said) -> None:
    """Count the attributes that only name the kind as used. A word that no source knows stays for /raw."""
    get = said.attributes.get
    for source in SOURCES:
        told = get(source.attribute)
        if (
            told is not None
            and not source.keep
            and (_known(source, told) or _known(source, said.more.get(source.attribute)))
        ):
            said.used.add(source.attribute)


def _known(source: Source, told: Any) -> bool:
    return type(told) is str and told in source.roles


def handoff_between(name: str) -> tuple[str | None, str | None]:
    """The agents (from, to) in `handoff to X` (rule 4) and in OpenLLMetry's `A → B.handoff`, as far as told."""
    if len(name) > forms.NAME_CHARACTERS_MAX:
        return None, None
    giver, to = None, name[len(_HANDOFF_TO) :]
    if name[: len(_HANDOFF_TO)].lower() != _HANDOFF_TO:
        giver, _, to = name.removesuffix(_HANDOFF).rpartition(_HANDED)
        if not giver or not name.endswith(_HANDOFF):
            return None, None
    return (giver, None if to == "unknown" else to) if to else (None, None)


def _said_role(said: Said) -> Role | None:
    get, more = said.attributes.get, said.more
    for source in SOURCES:
        told: Any = get(source.attribute)
        if more and source.attribute in more:
            told = more[source.attribute]  # what stands in the attribute, read
        if type(told) is str and (role := source.roles.get(told)) is not None:
            return role
    return None


def _named_role(name: str, scope: str) -> Role | None:
    for scope_begins, pattern, role in NAMED:
        if scope.startswith(scope_begins) and pattern.fullmatch(name):
            return role
    return None
