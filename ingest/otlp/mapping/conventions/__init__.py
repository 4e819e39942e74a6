"""One module per convention: what is particular to it beyond the names in `precedence`. Those that only name things
otherwise are data, in `dialects`.

Each reads what only it says into `Said.more`; none decides what a span is (`classify`) or which name counts
(`precedence`).
"""

from __future__ import annotations

from ingest.otlp.mapping.conventions.dialects import read as read_dialects
from ingest.otlp.mapping.conventions.flattened import read as read_flattened
from ingest.otlp.mapping.conventions.genai import read_events as read_message_events
from ingest.otlp.mapping.conventions.langfuse import read as read_langfuse
from ingest.otlp.mapping.conventions.langgraph import read as read_langgraph
from ingest.otlp.mapping.conventions.langsmith import read as read_langsmith
from ingest.otlp.mapping.conventions.openinference import read as read_openinference
from ingest.otlp.mapping.conventions.openinference import read_events as read_first_token
from ingest.otlp.mapping.conventions.pydantic_ai import read as read_pydantic_ai
from ingest.otlp.mapping.conventions.strands import read as read_strands
from ingest.otlp.mapping.conventions.vercel import read as read_vercel
from ingest.otlp.mapping.item import Item


def read(item: Item) -> None:
    """Let every convention read the item. What isn't there costs a look-up."""
    said = item.said
    read_flattened(said)
    read_openinference(said)
    read_langgraph(said)
    read_langsmith(said)
    read_vercel(said)
    read_pydantic_ai(said)
    read_langfuse(said)
    read_dialects(item)
    if item.events:
        read_message_events(item)
        read_first_token(item)
    read_strands(item)
