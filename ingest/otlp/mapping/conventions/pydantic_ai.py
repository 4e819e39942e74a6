"""Pydantic AI: approvals that a run ended with, answers to calls of an earlier run, and why output was asked again.

A run that needs approvals ends with a `DeferredToolRequests` as its `final_result`: `{"calls": […], "approvals":
[{"tool_name", "args", "tool_call_id", …}], …}`. The run that goes on has the answers in its messages: tool responses,
right after `pydantic_ai.new_message_index`, to calls that the earlier messages made. The messages do not tell an
approved call's result from the reason of a denial, except where the denial has its standard text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said
from schemas import jsontext

OUTPUT_RETRY: Final = "pydantic_ai.output.retry"
RETRIES: Final = (OUTPUT_RETRY, "pydantic_ai.tool.retry")
DEFERRAL: Final = "pydantic_ai.tool.deferral.name"
DEFERRAL_METADATA: Final = "pydantic_ai.tool.deferral.metadata"
FAILURE_STAGE: Final = "pydantic_ai.tool.failure_stage"
ALL_MESSAGES: Final = ("pydantic_ai.all_messages", "all_messages_events")
_NEW_INDEX: Final = "pydantic_ai.new_message_index"
_DENIED: Final = "The tool call was denied."


@dataclass(frozen=True, slots=True)
class Deferred:
    """A call that a run left to somebody else: to approve it (`approval`), or to make it."""

    approval: bool
    call: str | None
    tool: str | None
    arguments: Any  # as content: its exact text, or None
    text: bytes  # all that is told of it


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a deferred call. `denied` where it says so plainly; else it is not known what was decided."""

    call: str
    denied: bool
    text: str | None


def read(said: Said) -> None:
    parameters = said.attributes.get("model_request_parameters")
    if type(parameters) is str and "gen_ai.tool.definitions" not in said.attributes:
        found = forms.json_object(parameters) or {}
        said.more["model_request_parameters.function_tools"] = found.get("function_tools")


def deferred(said: Said) -> Iterator[Deferred]:
    """The calls that the run left open, in their order: those to approve first. Each is read when it is asked for."""
    result = said.attributes.get("final_result")
    if type(result) is not str or '"approvals"' not in result:
        return
    found = forms.json_object(result)
    if found is None or type(found.get("approvals")) is not list or type(found.get("calls")) is not list:
        return
    members = {jsontext.name_text(name): text for name, text in jsontext.members(result.encode())}
    for member in ("approvals", "calls"):
        for call, text in zip(found[member], jsontext.items(members[member]), strict=True):
            if type(call) is dict:
                arguments = {jsontext.name_text(name): value for name, value in jsontext.members(text)}.get("args")
                yield _deferred(member == "approvals", call, arguments, text)


def _deferred(approval: bool, call: dict[str, Any], arguments: bytes | None, text: bytes) -> Deferred:
    told = call.get("args")  # an object, or JSON in a string
    value = told if type(told) is str else None if told is None or arguments is None else forms.Json(arguments)
    return Deferred(approval, forms.name(call.get("tool_call_id")), forms.name(call.get("tool_name")), value, text)


def request(said: Said) -> forms.Json | None:
    """The messages that this run began with: those before the model's first answer in it, each with its exact text."""
    text = next((told for name in ALL_MESSAGES if type(told := said.attributes.get(name)) is str), None)
    messages = None if text is None else forms.parsed(text)
    if text is None or type(messages) is not list:
        return None
    start = said.attributes.get(_NEW_INDEX)
    start = start if type(start) is int and 0 <= start < len(messages) else 0
    end = start
    while end < len(messages) and type(messages[end]) is dict and messages[end].get("role") != "assistant":
        end += 1
    return forms.Json(b"[%b]" % b",".join(jsontext.items(text.encode())[start:end])) if end > start else None


def answers(said: Said) -> list[Answer]:
    """The answers to deferred calls that this run began with."""
    start = said.attributes.get(_NEW_INDEX)
    text = next((told for name in ALL_MESSAGES if type(told := said.attributes.get(name)) is str), None)
    if type(start) is not int or start < 1 or text is None or "tool_call_response" not in text:
        return []
    messages = forms.parsed(text)
    if type(messages) is not list or start >= len(messages):
        return []
    earlier = [part for message in messages[:start] for part in _parts(message)]
    asked = {forms.name(part.get("id")) for part in earlier if part.get("type") == "tool_call"}
    answered = {forms.name(part.get("id")) for part in earlier if part.get("type") == "tool_call_response"}
    found = []
    for part in _parts(messages[start]):
        call = forms.name(part.get("id"))
        if part.get("type") == "tool_call_response" and call is not None and call in asked and call not in answered:
            result = part.get("result")
            denied = part.get("outcome") == "denied" or result == _DENIED
            found.append(Answer(call, denied, result if type(result) is str else None))
    return found


def _parts(message: Any) -> list[dict[str, Any]]:
    parts = message.get("parts") if type(message) is dict else None
    return [part for part in parts if type(part) is dict] if type(parts) is list else []
