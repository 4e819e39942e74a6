"""Microsoft Agent Framework: approvals stand in an agent's messages, as parts of their own.

A request is a part `{"type": "function_approval_request", "id", "function_call": {"call_id", "name", "arguments"}}` of
the output; the answer, in the input of the next invocation, is
`{"type": "function_approval_response", "approved", "id", "function_call"}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said

_REQUEST: Final = "function_approval_request"
_RESPONSE: Final = "function_approval_response"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval asked for (`approved` None), or answered."""

    approval: str | None
    call: str | None
    arguments: Any  # a value, or JSON in a string, or None
    approved: bool | None


def requested(said: Said) -> list[Approval]:
    """Approvals that the agent asked for in its output."""
    return _parts(said.get("gen_ai.output.messages"), _REQUEST)


def answered(said: Said) -> list[Approval]:
    """Answers that the agent was given with its input."""
    return [part for part in _parts(said.get("gen_ai.input.messages"), _RESPONSE) if part.approved is not None]


def _parts(messages: Any, type_: str) -> list[Approval]:
    if type(messages) is str:
        messages = forms.parsed(messages) if type_ in messages else None
    if type(messages) is not list:
        return []
    return [
        _approval(part)
        for message in messages
        if type(message) is dict and type(message.get("parts")) is list
        for part in message["parts"]
        if type(part) is dict and part.get("type") == type_
    ]


def _approval(part: dict[str, Any]) -> Approval:
    approved = part.get("approved")
    return Approval(
        forms.name(part.get("id")),
        forms.name(forms.member(part, ("function_call", "call_id"))),
        forms.member(part, ("function_call", "arguments")),
        approved if type(approved) is bool else None,
    )
