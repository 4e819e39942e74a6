"""Langfuse: what a generation used is JSON, of types that are any words.

Types whose name has `input` in it are input tokens, those with `output` output tokens, each apart from the others, as
each has a price of its own: together they are the whole. Where the `total` that is told is that of the plain input and
output, the others are parts of them.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said

_USAGE: Final = "langfuse.observation.usage_details"
_WHOLE: Final = {"input": "gen_ai.usage.input_tokens", "output": "gen_ai.usage.output_tokens"}


def read(said: Said) -> None:
    if _USAGE not in said.attributes:
        return
    found = forms.json_object(said.attributes[_USAGE]) or {}
    counts = {name: number for name, value in found.items() if (number := forms.count(value)) is not None}
    plain = {word: counts.get(word, counts.get(f"{word}_tokens")) for word in _WHOLE}
    is_whole = counts.get("total") == sum(number or 0 for number in plain.values())
    for word, usual in _WHOLE.items():
        parts = [number for name, number in counts.items() if word in name]
        value: Any = plain[word] if is_whole else sum(parts) if parts else None
        if value is not None and "prompt_tokens" not in counts:
            said.more[usual] = value
