"""Conventions that say what others say under names of their own: each name, and the one in `precedence` it stands for.

A dialect is read where one of its marks is among the attributes. What it says then stands in `Said.more` under the
usual name, unless the item says that name itself; a name that is taken counts as used, and a JSON object of which only
members are read stays for /raw as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.said import Said

_INPUT, _OUTPUT = "input.value", "output.value"


@dataclass(frozen=True, slots=True)
class Dialect:
    """`names`: theirs to the usual ones; `members`: of JSON objects, by attribute, a dot leading into an object.
    `quoted`: each of its attributes is JSON text, a name too."""

    name: str
    marks: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    members: dict[str, dict[str, str]] = field(default_factory=dict)
    quoted: bool = False


DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        "Langfuse",
        ("langfuse.observation.type",),
        {
            "langfuse.observation.model.name": "gen_ai.request.model",
            "langfuse.observation.input": _INPUT,
            "langfuse.observation.output": _OUTPUT,
        },
        {
            "langfuse.observation.usage_details": {
                "prompt_tokens": "gen_ai.usage.prompt_tokens",
                "completion_tokens": "gen_ai.usage.completion_tokens",
                "cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
                "input_cached_tokens": "gen_ai.usage.cache_read_input_tokens",
                "input_cache_read": "cache_read_input_tokens",
                "input_cache_creation": "cache_creation.input_tokens",
                "cache_creation_input_tokens": "gen_ai.usage.cache_creation.input_tokens",
                "output_reasoning_tokens": "gen_ai.usage.reasoning_tokens",
                "output_reasoning": "gen_ai.usage.reasoning.output_tokens",
            },
            "langfuse.observation.cost_details": {"total": "operation.cost"},
        },
    ),
    Dialect(
        "MLflow",
        ("mlflow.spanType",),
        {
            "mlflow.spanType": "mlflow.spanType",
            "mlflow.llm.model": "gen_ai.request.model",
            "mlflow.llm.provider": "gen_ai.provider.name",
            "mlflow.chat.tools": "gen_ai.tool.definitions",
            "mlflow.spanInputs": _INPUT,
            "mlflow.spanOutputs": _OUTPUT,
            "mlflow.trace.user": "user.id",
            "mlflow.trace.session": "session.id",
        },
        {
            "mlflow.chat.tokenUsage": {
                "input_tokens": "gen_ai.usage.input_tokens",
                "output_tokens": "gen_ai.usage.output_tokens",
                "cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
                "cache_creation_input_tokens": "gen_ai.usage.cache_creation.input_tokens",
            },
            "mlflow.llm.cost": {"total_cost": "operation.cost"},
        },
        quoted=True,
    ),
    Dialect(
        "LangSmith",
        ("langsmith.usage_metadata",),
        members={
            "langsmith.usage_metadata": {
                "input_tokens": "gen_ai.usage.input_tokens",
                "output_tokens": "gen_ai.usage.output_tokens",
                "total_cost": "gen_ai.usage.total_cost",
            }
        },
    ),
    Dialect(
        "OpenLLMetry",
        ("gen_ai.guardrail.error.type",),
        {"gen_ai.guardrail.error.type": "error.type", "gen_ai.guardrail.error.message": "error.message"},
    ),
    Dialect(
        "Logfire",
        ("response_data",),
        members={
            "request_data": {"model": "gen_ai.request.model"},
            "response_data": {
                "usage.prompt_tokens": "gen_ai.usage.prompt_tokens",
                "usage.input_tokens": "gen_ai.usage.input_tokens",
                "usage.completion_tokens": "gen_ai.usage.completion_tokens",
                "usage.output_tokens": "gen_ai.usage.output_tokens",
                "usage.prompt_tokens_details.cached_tokens": "gen_ai.usage.cache_read.input_tokens",
            },
        },
    ),
    Dialect(
        "Mastra",
        ("mastra.span.type",),
        {
            "mastra.agent_run.input": _INPUT,
            "mastra.agent_run.output": _OUTPUT,
            "mastra.workflow_run.input": _INPUT,
            "mastra.workflow_run.output": _OUTPUT,
            "mastra.tool_call.input": _INPUT,
            "mastra.tool_call.output": _OUTPUT,
            "mastra.mcp_tool_call.input": _INPUT,
            "mastra.mcp_tool_call.output": _OUTPUT,
            "mastra.metadata.userId": "user.id",
            "mastra.metadata.sessionId": "session.id",
            "mastra.metadata.threadId": "metadata.thread_id",
        },
    ),
    Dialect(
        "Spring AI",
        ("spring.ai.kind",),
        {
            "spring.ai.tool.definition.name": "gen_ai.tool.name",
            "spring.ai.tool.call.id": "gen_ai.tool.call.id",
            "spring.ai.tool.call.arguments": "gen_ai.tool.call.arguments",
            "spring.ai.tool.call.result": "gen_ai.tool.call.result",
            "spring.ai.chat.client.conversation.id": "gen_ai.conversation.id",
        },
    ),
    Dialect(
        "Haystack",
        ("haystack.tool.name", "haystack.agent.tools", "haystack.agent.step.llm.input"),
        {
            "haystack.tool.name": "gen_ai.tool.name",
            "haystack.tool.call.id": "gen_ai.tool.call.id",
            "haystack.agent.step.tool.input": "gen_ai.tool.call.arguments",
            "haystack.agent.step.tool.output": "gen_ai.tool.call.result",
            "haystack.agent.step.llm.input": _INPUT,
            "haystack.agent.step.llm.output": _OUTPUT,
            "haystack.agent.input": _INPUT,
            "haystack.agent.output": _OUTPUT,
            "haystack.agent.tools": "gen_ai.tool.definitions",
        },
    ),
    Dialect(
        "CrewAI",
        ("crewai.event_name",),
        {
            "crewai.agent.role": "gen_ai.agent.name",
            "crewai.memory.query": "gen_ai.memory.query.text",
            "crewai.memory.value": "gen_ai.memory.content",
            "crewai.memory.results": "gen_ai.memory.records",
            "crewai.knowledge.query": "gen_ai.retrieval.query.text",
            "crewai.knowledge.retrieved_knowledge": _OUTPUT,
            "crewai.mcp.tool_name": "gen_ai.tool.name",
            "crewai.mcp.tool_args": "gen_ai.tool.call.arguments",
            "crewai.mcp.tool_result": "gen_ai.tool.call.result",
            "crewai.mcp.error_type": "error.type",
            "crewai.policy.decision": "gen_ai.guardrail.verdict.type",
            "crewai.policy.name": "gen_ai.security.policy.name",
            "crewai.policy.id": "gen_ai.security.policy.id",
            "crewai.policy.reason": "gen_ai.guardrail.verdict.reason",
            "crewai.guardrail.type": "gen_ai.guardrail.type",
        },
    ),
)
_BY_MARK: Final = {mark: dialect for dialect in DIALECTS for mark in dialect.marks}


def read(item: Item) -> None:
    """Read what the item says in a dialect."""
    said = item.said
    if said.attributes.keys().isdisjoint(_BY_MARK):
        return
    for dialect in DIALECTS:
        if not said.attributes.keys().isdisjoint(dialect.marks):
            _read(said, dialect)
            _failed(item)


def _read(said: Said, dialect: Dialect) -> None:
    attributes = said.attributes
    for theirs, usual in dialect.names.items():
        if theirs in attributes:
            value = attributes[theirs]
            _say(said, usual, _unquoted(value) if dialect.quoted else value, (theirs,))
    for theirs, members in dialect.members.items():
        found = forms.json_object(attributes[theirs]) if theirs in attributes else None
        if found is None:
            continue
        for member, usual in members.items():
            value = forms.member(found, member.split("."))
            if value is not None:
                _say(said, usual, value, ())


def _say(said: Said, usual: str, value: Any, behind: tuple[str, ...]) -> None:
    if usual not in said.more:
        said.more[usual] = value
        said.behind[usual] = behind


def _unquoted(value: Any) -> Any:
    """The text in a JSON string; any other JSON stays the text it is."""
    found = forms.parsed(value) if type(value) is str and value.startswith('"') else None
    return found if type(found) is str else value


def _failed(item: Item) -> None:
    """A failure that an attribute says, where the span's status doesn't."""
    said = item.said
    attributes = said.attributes
    if attributes.get("langfuse.observation.level") == "ERROR":
        item.failed = True
        said.used.add("langfuse.observation.level")
        message = attributes.get("langfuse.observation.status_message")
        if type(message) is str and item.status_message in ("", message):
            item.status_message = message
            said.used.add("langfuse.observation.status_message")
    if attributes.get("haystack.tool.error") is True:
        item.failed = True
        said.used.add("haystack.tool.error")
    if type(message := attributes.get("crewai.tool.failure.message")) is str:
        item.failed = True
        if item.status_message in ("", message):
            item.status_message = message
            said.used.add("crewai.tool.failure.message")
