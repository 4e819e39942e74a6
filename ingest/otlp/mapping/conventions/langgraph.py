"""LangGraph: interrupts, which look like errors and are approval requests (rule 3); resuming, which decides them; and
routing by `Command(goto=…)`.

An interrupt leaves the node as `GraphInterrupt`, whose text is the Python form of its interrupts:
`(Interrupt(value={…}, id='4f1c…'),)`. Every ancestor's span repeats the exception, with the same ids. A graph is
resumed by an input that is a `Command`: `{"graph": null, "update": null, "resume": …, "goto": []}`; `resume` is one
answer, or answers by interrupt id, or the decisions of the human-in-the-loop middleware:
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
_INTERRUPT_ID = re.compile(r", id='([0-9A-Za-z_-]{1,128})'\)")
_RESUMES_BY_ID = re.compile(r"[0-9a-f]{32}")
_DECISIONS: Final = {"approve": "approve", "accept": "approve", "reject": "reject", "ignore": "reject", "edit": "edit"}
_COMMAND: Final = frozenset({"graph", "update", "resume", "goto"})
IDS_MAX: Final = 64  # interrupts in one exception


@dataclass(frozen=True, slots=True)
class Resumed:
    """One answer to an interrupt. `approval` is the interrupt's id where it is told; `decision` where it is one of
    ours; `answer` its exact JSON text."""

    approval: str | None
    decision: str | None
    answer: bytes


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


def resumed(said: Said) -> list[Resumed]:
    """The answers with which this graph was resumed."""
    told = said.attributes.get("input.value")
    if type(told) is not str or '"resume"' not in told:
        return []
    command = forms.json_object(told)
    if command is None or not command.keys() <= _COMMAND or command.get("resume") is None:
        return []
    text = next(text for name, text in jsontext.members(told.encode()) if jsontext.name_text(name) == "resume")
    return list(_answers(command["resume"], text, None))


def _answers(resume: Any, text: bytes, approval: str | None) -> Iterator[Resumed]:
    if type(resume) is dict and resume and all(_RESUMES_BY_ID.fullmatch(name) for name in resume) and approval is None:
        for quoted, part in jsontext.members(text):
            name = jsontext.name_text(quoted)
            yield from _answers(resume[name], part, name)
        return
    decisions = resume.get("decisions") if type(resume) is dict else resume
    if type(decisions) is list and decisions and all(_decision(one) is not None for one in decisions):
        parts = text
        if type(resume) is dict:
            parts = next(part for name, part in jsontext.members(text) if jsontext.name_text(name) == "decisions")
        for one, part in zip(decisions, jsontext.items(parts), strict=True):
            yield Resumed(approval, _decision(one), part)
        return
    yield Resumed(approval, _decision(resume), text)


def _decision(answer: Any) -> str | None:
    told = answer.get("type") if type(answer) is dict else None
    return _DECISIONS.get(told) if type(told) is str else None
