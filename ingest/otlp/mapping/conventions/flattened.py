"""Lists that a convention flattens into attributes, like `llm.input_messages.0.message.role`: rebuilt as JSON.

OpenInference flattens messages, tools, documents and annotations; OpenLLMetry prompts, completions and functions. A
list is rebuilt with its items in the order of their numbers and the names kept as the attributes have them. What does
not fit together (`a.b` and `a.b.c`) stays for /raw.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.said import Said

DEPTH_MAX: Final = 24  # parts of a name after its list; a deeper one stays for /raw
LISTS: Final = (
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts",
    "llm.choices",
    "llm.completions",
    "llm.tools",
    "llm.request.functions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "retrieval.documents",
    "reranker.input_documents",
    "reranker.output_documents",
    "embedding.embeddings",
    "annotations",
    "evaluations",
)
_FLAT = re.compile(rf"({'|'.join(re.escape(name) for name in LISTS)})\.([0-9]{{1,9}}(?:\..*)?)")
_BEGINNING = 10  # characters that tell most other names apart
_BEGINNINGS: Final = frozenset(f"{name}."[:_BEGINNING] for name in LISTS)


def read(said: Said) -> None:
    """Rebuild each flattened list as `<list.N>`, a Python list whose values are as they came."""
    trees: dict[str, dict[str, Any]] = {}
    behind: dict[str, list[str]] = {}
    for name, value in said.attributes.items():
        if name[:_BEGINNING] in _BEGINNINGS and (match := _FLAT.fullmatch(name)) is not None:
            list_name = match[1]
            leaf = _Leaf(value) if type(value) is dict else value
            if forms.put_at(trees.setdefault(list_name, {}), match[2].split("."), leaf, DEPTH_MAX):
                behind.setdefault(list_name, []).append(name)
    for list_name, names in behind.items():
        if not all(name.endswith(".role") for name in names):  # roles alone are no messages
            said.more[f"<{list_name}.N>"] = _unnumbered(trees[list_name])
            said.behind[f"<{list_name}.N>"] = names


class _Leaf:
    """A value that is itself a key-value list: it has no flattened members."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _unnumbered(tree: Any) -> Any:
    """The tree with lists where all members are numbers."""
    if type(tree) is _Leaf:
        return tree.value
    if type(tree) is not dict:
        return tree
    if all(part.isascii() and part.isdigit() and len(part) < 10 for part in tree):
        return [_unnumbered(tree[part]) for part in sorted(tree, key=int)]
    return {part: _unnumbered(below) for part, below in tree.items()}
