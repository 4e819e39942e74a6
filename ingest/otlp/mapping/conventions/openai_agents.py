"""OpenAI Agents by OpenInference: a tool that waits for approval, and one that was denied, has a span without output.

So has a tool that returned nothing. Such a span tells that the call was proposed, not whether it was made.
"""

from __future__ import annotations

from typing import Final

from ingest.otlp.mapping.item import Item

SCOPE: Final = "openinference.instrumentation.openai_agents"


def only_proposed(item: Item) -> bool:
    """Whether this tool's span leaves open if the tool ran."""
    attributes = item.said.attributes
    return (
        item.origin.scope_name == SCOPE
        and not item.failed
        and "input.value" in attributes
        and "output.value" not in attributes
    )
