"""Coding agents on a command line, which tell what they do in log records: Claude Code, Codex and Gemini CLI.

Each record is an event with a name of its own and attributes without a prefix. Who decided about a call, a person or a
setting, is said as its source. Numbers may be text. Claude Code's input tokens leave out the cached ones and Gemini's
output tokens the reasoning, as their models' APIs do; ours include both, so they are summed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping.said import Said

MODEL_CALL, TOOL_CALL, DECISION = "model_call", "tool_call", "decision"


@dataclass(frozen=True, slots=True)
class Event:
    """What a record of this name is. `sums`: counts that are made of several."""

    kind: str
    names: dict[str, str]
    sums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: bool = False
    needs: str | None = None  # an attribute without which it is no such thing


_TOOL: Final = {"tool_name": "gen_ai.tool.name", "tool_use_id": "gen_ai.tool.call.id", "call_id": "gen_ai.tool.call.id"}
_FAILURE: Final = {"model": "gen_ai.request.model", "error": "error.message", "error_type": "error.type"}
EVENTS: Final[dict[str, Event]] = {
    "claude_code.api_request": Event(
        MODEL_CALL,
        {
            "model": "gen_ai.response.model",
            "output_tokens": "gen_ai.usage.output_tokens",
            "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
            "cache_creation_tokens": "gen_ai.usage.cache_creation.input_tokens",
            "cost_usd": "gen_ai.usage.total_cost",
        },
        {"gen_ai.usage.input_tokens": ("input_tokens", "cache_read_tokens", "cache_creation_tokens")},
    ),
    "claude_code.api_error": Event(MODEL_CALL, {**_FAILURE, "status_code": "error.type"}, failed=True),
    "claude_code.tool_result": Event(
        TOOL_CALL,
        {
            **_TOOL,
            "tool_input": "gen_ai.tool.call.arguments",
            "tool_parameters": "gen_ai.tool.call.arguments",
            "error": "error.message",
            "error_type": "error.type",
        },
    ),
    "claude_code.tool_decision": Event(DECISION, _TOOL),
    "codex.sse_event": Event(
        MODEL_CALL,
        {
            "model": "gen_ai.response.model",
            "conversation.id": "session.id",
            "input_token_count": "gen_ai.usage.input_tokens",
            "output_token_count": "gen_ai.usage.output_tokens",
            "cached_token_count": "gen_ai.usage.cache_read.input_tokens",
            "reasoning_token_count": "gen_ai.usage.reasoning_tokens",
        },
        needs="input_token_count",
    ),
    "codex.tool_result": Event(
        TOOL_CALL,
        {
            **_TOOL,
            "conversation.id": "session.id",
            "arguments": "gen_ai.tool.call.arguments",
            "output": "gen_ai.tool.call.result",
        },
    ),
    "codex.tool_decision": Event(DECISION, {**_TOOL, "conversation.id": "session.id"}),
    "gemini_cli.api_response": Event(
        MODEL_CALL,
        {
            "model": "gen_ai.response.model",
            "input_token_count": "gen_ai.usage.input_tokens",
            "cached_content_token_count": "gen_ai.usage.cache_read.input_tokens",
            "thoughts_token_count": "gen_ai.usage.reasoning_tokens",
            "finish_reasons": "gen_ai.response.finish_reasons",
            "response_text": "output.value",
        },
        {"gen_ai.usage.output_tokens": ("output_token_count", "thoughts_token_count")},
    ),
    "gemini_cli.api_error": Event(MODEL_CALL, {**_FAILURE, "error_message": "error.message"}, failed=True),
    "gemini_cli.tool_call": Event(
        TOOL_CALL,
        {
            "function_name": "gen_ai.tool.name",
            "function_args": "gen_ai.tool.call.arguments",
            "error": "error.message",
            "error_type": "error.type",
        },
    ),
}
_CLAUDE: Final = "com.anthropic.claude_code"  # its scope; its `event.name` has no prefix
APPROVED: Final = frozenset({"accept", "approved", "approved_for_session", "modify"})
REFUSED: Final = frozenset({"reject", "denied", "abort"})


def event_of(name: str, scope: str, said: Said) -> Event | None:
    """What a log record of this name is, if it is of such an agent."""
    found = EVENTS.get(f"claude_code.{name}" if scope.startswith(_CLAUDE) else name)
    return None if found is None or (found.needs is not None and found.needs not in said.attributes) else found


def read(event: Event, said: Said) -> None:
    """Let the record say in the usual names what it says."""
    attributes = said.attributes
    for theirs, usual in event.names.items():
        if theirs in attributes and usual not in said.more:
            said.more[usual] = attributes[theirs]
            said.behind[usual] = (theirs,)
    for usual, parts in event.sums.items():
        counts = [forms.count(attributes.get(part)) for part in parts]
        if counts[0] is not None:
            said.more[usual] = sum(one for one in counts if one is not None)
            said.behind[usual] = parts[:1] if not any(counts[1:]) else ()


def latency_us(said: Said) -> int | None:
    told = forms.count(said.attributes.get("duration_ms"))
    if told is not None:
        said.used.add("duration_ms")
    return None if told is None else forms.milliseconds(told)


def succeeded(said: Said) -> bool | None:
    told = forms.boolean(said.attributes.get("success"))
    if told is not None:
        said.used.add("success")
    return told


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision about a call: `by_person` tells whose it was, `source` the runtime's word for it."""

    approved: bool | None
    edited: bool
    by_person: bool
    source: str | None


def decided(said: Said) -> Decided:
    """What was decided, and by whom."""
    told: Any = said.attributes.get("decision")
    word = told.lower() if type(told) is str and len(told) < 64 else ""
    approved = True if word in APPROVED else False if word in REFUSED else None
    if approved is not None:
        said.used.add("decision")
    source = said.first(("source",), clear.term)
    return Decided(approved, word == "modify", source is not None and source.lower().startswith("user"), source)
