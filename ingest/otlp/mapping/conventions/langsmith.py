"""LangSmith: token details are JSON in one attribute; an agent is a chain with the agent's name; and what was raised is
the beginning of the exception's message."""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said

_DETAILS = (
    ("gen_ai.usage.input_token_details", ("cache_read", "cache_creation")),
    ("gen_ai.usage.output_token_details", ("reasoning",)),
)


SCOPE: Final = "langsmith"
_RAISED = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,127})\(")


def is_agent(said: Said, name: str) -> bool:
    """Whether this chain is an agent: LangSmith has no kind of its own for one."""
    attributes = said.attributes
    return (
        attributes.get("langsmith.span.kind") == "chain" and attributes.get("langsmith.metadata.lc_agent_name") == name
    )


def raised(message: Any) -> str | None:
    """The class in `Boom('out of order')Traceback …`; the exception's type is `Exception`, whatever was raised."""
    match = _RAISED.match(message) if type(message) is str else None
    return match[1] if match else None


def read(said: Said) -> None:
    for attribute, members in _DETAILS:
        if attribute in said.attributes:
            found = forms.json_object(said.attributes[attribute]) or {}
            for member in members:
                if member in found:
                    said.more[f"{attribute}.{member}"] = found[member]
