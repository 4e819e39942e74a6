"""A span of a convention, and what it becomes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.mapping.otlp import content_of, events_of, span


@dataclass
class Case:
    """A span of a convention; what its own event says (`missing` too), its content, and what alone stays in /raw."""

    name: str
    span: str
    attributes: dict[str, Any]
    kind: str
    data: dict[str, Any]
    content: dict[str, bytes] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    scope: str = "test"
    principal: str | None = None
    agent: str | None = "svc"
    parent: str | None = "00f067aa0ba902b7"
    raw: set[str] = field(default_factory=set)


def check(case: Case) -> None:
    """The case is what it says; nothing else stays in /raw."""
    made = span(case.span, case.attributes, parent=case.parent, events=case.events)
    own = events_of(made, scope=case.scope)[0]
    assert own.kind == case.kind
    assert {member: own.data.get(member) for member in case.data} == case.data
    for pointer, text in case.content.items():
        assert content_of(own, pointer) == text, pointer
    assert own.persons == ([("/actor/principal", case.principal)] if case.principal else [])
    assert own.actor.get("agent") == case.agent
    raw = json.loads(content_of(own, "/raw") or b"{}")
    assert {name for name in raw if not name.startswith("otlp:")} == case.raw
