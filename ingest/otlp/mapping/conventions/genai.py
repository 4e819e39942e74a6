"""OpenTelemetry GenAI: messages that stand in span events instead of attributes.

Until 1.36 the convention had one event a message (`gen_ai.user.message`, …, `gen_ai.choice`); later one event of all
details (`gen_ai.client.inference.operation.details`), which belongs in a log record and which some write as a span
event. Semantic Kernel wrote `gen_ai.content.prompt` and `gen_ai.content.completion`.
"""

from __future__ import annotations

from typing import Final

from ingest.otlp.mapping import clear
from ingest.otlp.mapping.events import MessageEvents, SpanEvent
from ingest.otlp.mapping.item import Item

DETAILS: Final = "gen_ai.client.inference.operation.details"
TOOL_MESSAGE: Final = "gen_ai.tool.message"
CHOICE_EVENTS: Final = frozenset({"gen_ai.choice", "gen_ai.content.completion"})
MESSAGE_EVENTS: Final = frozenset(
    {
        "gen_ai.system.message",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        TOOL_MESSAGE,
        "gen_ai.content.prompt",
    }
)
EVALUATION_RESULT: Final = "gen_ai.evaluation.result"
GUARDRAIL_RESULT: Final = "gen_ai.guardrail.result"


def read_events(item: Item) -> None:
    """Messages of the item's span events, in their order."""
    messages: list[SpanEvent] = []
    choices: list[SpanEvent] = []
    for event in item.events:
        if event.name in MESSAGE_EVENTS:
            messages.append(event)
        elif event.name in CHOICE_EVENTS:
            choices.append(event)
        elif event.name == DETAILS:
            _details(item, event)
    said = item.said
    if messages:
        said.more["<message events>"] = MessageEvents(messages)
        tool = [event for event in messages if event.name == TOOL_MESSAGE]
        if tool:
            said.more["<tool message events>"] = MessageEvents(tool)
            said.more["<tool events: id>"] = tool[0].attributes.get("id")
            said.behind["<tool events: id>"] = (tool[0].key("id"),)
    if choices:
        said.more["<choice events>"] = MessageEvents(choices)
        told = [event for event in choices if clear.term(event.attributes.get("finish_reason")) is not None]
        said.more["<choice events: finish_reason>"] = [event.attributes["finish_reason"] for event in told]
        said.behind["<choice events: finish_reason>"] = [event.key("finish_reason") for event in told]


def _details(item: Item, event: SpanEvent) -> None:
    """What the event says stands for attributes; the first of several events that says a name counts."""
    said = item.said
    for name, value in event.attributes.items():
        if name not in said.more:
            said.more[name] = value
            said.behind[name] = (event.key(name),)
