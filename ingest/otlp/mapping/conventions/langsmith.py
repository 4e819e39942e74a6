"""LangSmith: token details are JSON in one attribute."""

from __future__ import annotations

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said

_DETAILS = (
    ("gen_ai.usage.input_token_details", ("cache_read", "cache_creation")),
    ("gen_ai.usage.output_token_details", ("reasoning",)),
)


def read(said: Said) -> None:
    for attribute, members in _DETAILS:
        if attribute in said.attributes:
            found = forms.json_object(said.attributes[attribute]) or {}
            for member in members:
                if member in found:
                    said.more[f"{attribute}.{member}"] = found[member]
