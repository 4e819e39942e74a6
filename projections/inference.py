"""Inference: which entries and members nobody said in so many words, and the rules by which they are there. Pure.

The mapping of foreign conventions may name its rule in a reference (`refs`, `what` MAPPING_RULE). Where it names none,
the rule follows from the entry's kind, from what carried it, and from whether it is the span's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ledger.leaf import Leaf
from projections.reading import text
from projections.steps.told import FROM_OTLP, node_of

MAPPING_RULE: Final = "mapping_rule"

RULES: Final[Mapping[str, str]] = {
    "root_span": "a root span of an agent or a workflow is a run's start and its end",
    "span_nesting": "an agent's span inside another span, or one named as a handoff, is a delegation",
    "part_of_span": "a span says it beside what the span itself is",
    "output_messages": "a model's output asks for the tool",
    "tool_called": "a tool that was called was chosen",
    "model_messages": "what a model was asked holds what the user asked",
    "step_actor": "the steps name the agent that the run's start doesn't",
    "interrupt": "an exception that stops a graph for a person asks for approval",
    "deferred_call": "a tool call put off until somebody approves asks for approval",
    "answered_call": "a message that answers a call that was put off is the answer to its approval",
    "graph_command": "a graph's command to go to a node is a routing decision",
    "span_status": "a span whose status is an error failed, and any other didn't",
    "span_times": "a span took as long as from its start to its end",
    "price_table": "the ledger priced the tokens that were said, when it sealed the call",
    "own_id": "a call that has no id is named by its event",
}

_BY_CARRIER: Final[Mapping[tuple[str, str], str]] = {
    ("run_started", "span"): "root_span",
    ("run_finished", "span"): "root_span",
    ("delegation", "span"): "span_nesting",
    ("approval_request", "span"): "deferred_call",
    ("approval_request", "span_event"): "interrupt",
    ("approval_decision", "span"): "answered_call",
    ("tool_selection", "span"): "output_messages",
    ("tool_selection", "log"): "output_messages",
    ("routing_decision", "span"): "graph_command",
    ("error", "span"): "span_status",
}
_OF_SPANS: Final[Mapping[str, str]] = {
    "status": "span_status",
    "latency_us": "span_times",
    "total_latency_us": "span_times",
}


def rule_of(leaf: Leaf) -> str | None:
    """The rule by which an entry is there; None where somebody plainly said it."""
    came_from = text(leaf.data.get("from")) or ""
    for reference in references(leaf) if came_from in FROM_OTLP else ():
        if reference.get("what") == MAPPING_RULE and (named := text(reference.get("id"))) is not None:
            return named
    rule = _BY_CARRIER.get((leaf.kind, came_from))
    if rule is None and came_from == "span" and leaf.id != node_of(leaf):
        return "part_of_span"
    return rule


def rules_of_members(leaf: Leaf) -> Iterator[tuple[str, str]]:
    """Members of an entry that nobody said as such, and by which rule it has them."""
    if leaf.data.get("from") == "span":
        yield from ((member, rule) for member, rule in _OF_SPANS.items() if member in leaf.data)
    if "price" in leaf.data:
        yield "price", "price_table"
    if leaf.data.get("call") == leaf.id:
        yield "call", "own_id"


def references(leaf: Leaf) -> list[dict[str, Any]]:
    """An entry's references that have a reference's form."""
    refs = leaf.data.get("refs")
    return [one for one in refs if isinstance(one, dict)] if isinstance(refs, list) else []
