"""OpenInference (Phoenix): the JSON in `metadata` and `llm.invocation_parameters`, the first token's event, the first
agent of a graph, and feedback that people and evaluators left on a span."""

from __future__ import annotations

from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.said import Said

_METADATA: Final = (
    "thread_id",
    "session_id",
    "user_id",
    "lc_agent_name",
    "langgraph_step",
    "ls_provider",
    "ls_model_name",
    "ls_vector_store_provider",
    "ls_retriever_name",
)
_PARAMETERS: Final = ("model", "model_name")
_FEEDBACK: Final = (("<annotations.N>", "annotation"), ("<evaluations.N>", "evaluation"))
_FIRST_TOKEN: Final = "First Token Stream Event"  # noqa: S105 - the name of a span event


def read(said: Said) -> None:
    attributes = said.attributes
    if "metadata" in attributes:
        _members(said, "metadata", _METADATA)
    if "llm.invocation_parameters" in attributes:
        _members(said, "llm.invocation_parameters", _PARAMETERS)


def read_events(item: Item) -> None:
    """The time of the first token, which OpenInference tells by an event."""
    for event in item.events:
        if event.name == _FIRST_TOKEN and item.start_ns and event.time_ns >= item.start_ns:
            item.said.more["gen_ai.response.time_to_first_chunk"] = (event.time_ns - item.start_ns) / 1_000_000_000
            return


def is_own_agent(said: Said) -> bool:
    """Whether this agent is the first of its graph: nobody delegated to it. OpenAI Agents' has a workflow's span around
    it; an agent that somebody handed over to names that agent in `graph.node.parent_id`."""
    return "graph.node.id" in said.attributes and not said.attributes.get("graph.node.parent_id")


def feedback(said: Said) -> list[dict[str, Any]]:
    """Annotations and evaluations of the span: each a set of `name`, `label`, `score`, `annotator_kind`, ….

    They come as flattened lists (`annotations.0.annotation.name`).
    """
    found: list[dict[str, Any]] = []
    for list_name, item_name in _FEEDBACK:
        items = said.more.get(list_name)
        if type(items) is list:
            found += [told for item in items if type(item) is dict and type(told := item.get(item_name)) is dict]
    return found


def take_feedback(said: Said) -> None:
    """Count what `feedback` found as used."""
    for list_name, _ in _FEEDBACK:
        said.used.update(said.behind.get(list_name, ()))


def _members(said: Said, attribute: str, names: tuple[str, ...]) -> None:
    found = forms.json_object(said.attributes[attribute])
    if found is not None:
        for name in names:
            if name in found:
                said.more[f"{attribute}.{name}"] = found[name]
