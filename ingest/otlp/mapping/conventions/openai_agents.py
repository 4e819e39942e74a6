"""OpenAI Agents, by OpenInference and OpenLLMetry: a tool that waits for approval, and one that was denied, has a span
without output.

So has a tool that returned nothing. Such a span tells that the call was proposed, not whether it was made.
"""

from __future__ import annotations

from typing import Final

from ingest.otlp.mapping.item import Item

OPENINFERENCE: Final = "openinference.instrumentation.openai_agents"
# Per instrumentation, where the arguments and the result stand.
_SCOPES: Final = {
    OPENINFERENCE: ("input.value", "output.value"),
    "opentelemetry.instrumentation.openai_agents": ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
}


def tells_handoffs(item: Item) -> bool:
    """Whether this handoff's span has the two agents' names as its input and output."""
    attributes = item.said.attributes
    return item.origin.scope_name == OPENINFERENCE and attributes.get("openinference.span.kind") == "TOOL"


def only_proposed(item: Item) -> bool:
    """Whether this tool's span leaves open if the tool ran."""
    places = _SCOPES.get(item.origin.scope_name)
    if places is None or item.failed:
        return False
    arguments, result = places
    return arguments in item.said.attributes and result not in item.said.attributes
