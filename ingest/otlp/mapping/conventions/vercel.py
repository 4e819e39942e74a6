"""Vercel AI SDK: the parts of a response stand in attributes of their own."""

from __future__ import annotations

from typing import Final

from ingest.otlp.mapping.said import Said

_RESPONSE: Final = (
    "ai.response.text",
    "ai.response.toolCalls",
    "ai.response.object",
    "ai.response.reasoning",
    "ai.response.files",
)


def read(said: Said) -> None:
    attributes = said.attributes
    if "ai.operationId" not in attributes:
        return
    parts = {name: attributes[name] for name in _RESPONSE if name in attributes}
    if len(parts) == 1:
        said.more["<ai.response>"] = next(iter(parts.values()))
    elif parts:
        said.more["<ai.response>"] = {name.removeprefix("ai.response."): value for name, value in parts.items()}
    said.behind["<ai.response>"] = list(parts)
