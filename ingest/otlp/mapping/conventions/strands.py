"""Strands Agents: its time to the first token is in milliseconds, under a name that elsewhere means seconds; and its
interrupts.

An agent that was interrupted ends with the finish reason `interrupt` and the Python form of its interrupts as its
message: `[{'id': 'v1:before_tool_call:<call>:<uuid>', 'name': …, 'reason': …, 'response': None}]`. Resuming is told
only where messages are: as parts `{"type": "interrupt_response", "id", "response"}` of the input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.item import Item

INTERRUPTS_MAX: Final = 64  # in one message
_INTERRUPT = re.compile(r"'id': '(v[0-9]+:[a-z_]+:([^':]{0,256}):[^']{1,128})'")
_NAME = "gen_ai.server.time_to_first_token"


def read(item: Item) -> None:
    said = item.said
    if _NAME in said.attributes and item.origin.scope_name.startswith("strands."):
        said.more["<strands: time to first token>"] = said.attributes[_NAME]
        said.behind["<strands: time to first token>"] = (_NAME,)
    elif _NAME in said.attributes:
        said.more["gen_ai.response.time_to_first_chunk"] = said.attributes[_NAME]
        said.behind["gen_ai.response.time_to_first_chunk"] = (_NAME,)


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupt that an agent ended with. `call` where it was before a tool's call."""

    approval: str
    call: str | None


def interrupts(item: Item) -> list[Interrupt]:
    """The interrupts that this agent ended with."""
    text = _interrupted_with(item)
    found: dict[str, Interrupt] = {}
    for match in _INTERRUPT.finditer(text):
        call = match[2] if ":before_tool_call:" in match[1] else ""
        found[match[1]] = Interrupt(match[1], call or None)
        if len(found) == INTERRUPTS_MAX:
            break
    return list(found.values())


def answered(item: Item) -> list[str]:
    """The ids of the interrupts that this agent's input answers."""
    told = item.said.get("gen_ai.input.messages")
    messages = forms.parsed(told) if type(told) is str and '"interrupt_response"' in told else None
    if type(messages) is not list:
        return []
    return [
        found
        for message in messages
        if type(message) is dict and type(message.get("parts")) is list
        for part in message["parts"]
        if type(part) is dict
        and part.get("type") == "interrupt_response"
        and (found := forms.name(part.get("id"))) is not None
    ]


def _interrupted_with(item: Item) -> str:
    for event in item.events:
        message = event.attributes.get("message")
        if event.attributes.get("finish_reason") == "interrupt" and type(message) is str:
            return message
    told = item.said.get("gen_ai.output.messages")
    if type(told) is str and '"finish_reason": "interrupt"' in told:
        return told
    return ""
