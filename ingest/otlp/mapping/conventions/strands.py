"""Strands Agents: its time to the first token is in milliseconds, under a name that elsewhere means seconds."""

from __future__ import annotations

from ingest.otlp.mapping.item import Item

_NAME = "gen_ai.server.time_to_first_token"


def read(item: Item) -> None:
    said = item.said
    if _NAME in said.attributes and item.origin.scope_name.startswith("strands."):
        said.more["<strands: time to first token>"] = said.attributes[_NAME]
        said.behind["<strands: time to first token>"] = (_NAME,)
