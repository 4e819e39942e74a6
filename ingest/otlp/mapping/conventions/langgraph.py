"""LangGraph and LangChain, by whatever instrumentation: interrupts, which look like errors and are approval requests
(rule 3); resuming, which decides them; and the tool messages that name a call.

An interrupt leaves the node as `GraphInterrupt`, whose text is the Python form of its interrupts:
`(Interrupt(value={…}, id='4f1c…', response_schema=None),)`. Every ancestor's span repeats the exception, with the same
ids. A graph is resumed by an input that is a `Command`: `{"graph": null, "update": null, "resume": …, "goto": []}`;
`resume` is one answer, or answers by interrupt id, or the decisions of the human-in-the-loop middleware:
`{"decisions": [{"type": "reject"}]}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said
from schemas import jsontext

INTERRUPTS: Final = frozenset({"GraphInterrupt", "NodeInterrupt"})
CONTROL: Final = frozenset({"ParentCommand", "GraphBubbleUp"})  # a node's command to its parent graph
_INTERRUPT_ID = re.compile(r", id='([0-9A-Za-z_-]{1,128})'[,)]")
_ACTION = re.compile(r"'action_requests': \[\{'name': '([^']{1,512})'")
_RESUMES_BY_ID = re.compile(r"[0-9a-f]{32}")
_DECISIONS: Final = {"approve": "approve", "accept": "approve", "reject": "reject", "ignore": "reject", "edit": "edit"}
_COMMAND: Final = frozenset({"graph", "update", "resume", "goto"})
_INPUTS: Final = ("input.value", "gen_ai.prompt", "traceloop.entity.input")  # OpenInference, LangSmith, OpenLLMetry
_WRAPPED: Final = ("data", "kwargs")  # where a message's own members may stand
_OUTPUTS: Final = ("output.value", "traceloop.entity.output")
IDS_MAX: Final = 64  # interrupts in one exception


@dataclass(frozen=True, slots=True)
class Resumed:
    """One answer to an interrupt. `approval` is the interrupt's id where it is told; `decision` where it is one of
    ours; `answer` its exact JSON text; `edited` that of the arguments which an edit puts in place."""

    approval: str | None
    decision: str | None
    answer: bytes
    edited: bytes = b""


def is_interrupt(exception_type: Any) -> bool:
    return type(exception_type) is str and exception_type.rpartition(".")[2] in INTERRUPTS


def is_control(exception_type: Any) -> bool:
    """Whether this is a command on its way to a parent graph, told as an exception: neither error nor interrupt."""
    return type(exception_type) is str and exception_type.rpartition(".")[2] in CONTROL


def interrupt_ids(message: Any) -> list[str]:
    """The ids of the interrupts in the exception's text, each once."""
    if type(message) is not str:
        return []
    found: dict[str, None] = {}
    for match in _INTERRUPT_ID.finditer(message):
        found[match[1]] = None
        if len(found) == IDS_MAX:
            break
    return list(found)


def read(said: Said) -> None:
    """A tool's result is told as the tool message that holds it: it names the call, and says how it went."""
    for name in _OUTPUTS:
        told = said.attributes.get(name)
        if type(told) is str and '"tool_call_id"' in told:
            message = forms.json_object(told)
            if message is not None and type(message.get("output")) is dict:
                message = message["output"]
            if message is not None:
                message = _plain(message)
                said.more["<tool message: tool_call_id>"] = message.get("tool_call_id")
                said.more["<tool message: status>"] = message.get("status")
            return


@dataclass(frozen=True, slots=True)
class Asked:
    """The one tool call that the human-in-the-loop middleware asks about: its arguments are their exact text."""

    tool: str
    call: str
    arguments: bytes


def asks(message: Any) -> str | None:
    """The tool that the middleware's interrupt asks about, first of several."""
    action = _ACTION.search(message) if type(message) is str else None
    return action[1] if action else None


def last_call(said: Said) -> Asked | None:
    """The call that the state which the span was given ends with, where the last message makes only one. Reads the
    whole state: ask once for a span."""
    found = _input(said, '"tool_calls"')
    if found is None:
        return None
    state, text = found
    messages = state.get("messages")
    last: Any = messages[-1] if type(messages) is list and messages else None
    calls = _plain(last).get("tool_calls") if type(last) is dict else None
    if type(calls) is not list or len(calls) != 1 or type(calls[0]) is not dict:
        return None
    tool, call = forms.name(calls[0].get("name")), forms.name(calls[0].get("id"))
    last_text = jsontext.items(_at(text, "messages"))[-1]
    wrapped = next((name for name in _WRAPPED if type(last.get(name)) is dict), None)
    calls_text = _at(last_text if wrapped is None else _at(last_text, wrapped), "tool_calls")
    arguments = _at(jsontext.items(calls_text)[0], "args")
    return Asked(tool, call, arguments) if tool is not None and call is not None and arguments else None


def _input(said: Said, sign: str) -> tuple[dict[str, Any], bytes] | None:
    """What the span was given, as an object and as its exact text, if the text has this sign."""
    for name in _INPUTS:
        told = said.attributes.get(name)
        if type(told) is str and sign in told and (found := forms.json_object(told)) is not None:
            text = told.encode()
            for wrapped in ("input", "inputs"):
                if type(found.get(wrapped)) is dict:
                    found, text = found[wrapped], _at(text, wrapped)
            return found, text
    return None


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A LangChain message's own members, which some ways of writing it wrap."""
    for wrapped in _WRAPPED:
        inner = message.get(wrapped)
        if type(inner) is dict:
            return inner
    return message


def _at(text: bytes, member: str) -> bytes:
    """The exact text of an object's member; empty where it has none, or is no object."""
    if not text.lstrip().startswith(b"{"):
        return b""
    return next((part for quoted, part in jsontext.members(text) if jsontext.name_text(quoted) == member), b"")


def resumed(said: Said) -> Iterator[Resumed]:
    """The answers with which this graph was resumed, each read when it is asked for."""
    found = _input(said, '"resume"')
    if found is None:
        return
    command, text = found
    if not command.keys() <= _COMMAND or command.get("resume") is None:
        return
    yield from _answers(command["resume"], _at(text, "resume"), None)


def _answers(resume: Any, text: bytes, approval: str | None) -> Iterator[Resumed]:
    if type(resume) is dict and resume and all(_RESUMES_BY_ID.fullmatch(name) for name in resume) and approval is None:
        for quoted, part in jsontext.members(text):
            name = jsontext.name_text(quoted)
            yield from _answers(resume[name], part, name)
        return
    decisions = resume.get("decisions") if type(resume) is dict else resume
    if type(decisions) is list and decisions and all(_decision(one) is not None for one in decisions):
        parts = _at(text, "decisions") if type(resume) is dict else text
        for one, part in zip(decisions, jsontext.items(parts), strict=True):
            yield _resumed(one, part, approval)
        return
    yield _resumed(resume, text, approval)


def _resumed(answer: Any, text: bytes, approval: str | None) -> Resumed:
    decision = _decision(answer)
    edited = b""
    if decision == "edit":
        action = next((name for name in ("edited_action", "args") if type(answer.get(name)) is dict), None)
        edited = b"" if action is None else _at(_at(text, action), "args")
    return Resumed(approval, decision, text, edited)


def _decision(answer: Any) -> str | None:
    told = answer.get("type") if type(answer) is dict else None
    return _DECISIONS.get(told) if type(told) is str else None
