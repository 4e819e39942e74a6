"""Google ADK: a tool that needs confirmation is "called" without running. Its response says so in a fixed text, first
when it asks and again when it was refused."""

from __future__ import annotations

from typing import Final, Literal

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping.said import Said

SCOPE: Final = "gcp.vertex.agent"
MERGED: Final = "(merged tools)"  # a span around parallel calls that are told by their own spans
_ASKS: Final = "This tool call requires confirmation, please approve or reject."
_REFUSED: Final = "This tool call is rejected."
_RESPONSES: Final = ("gcp.vertex.agent.tool_response", "gen_ai.tool.call.result")


def is_transfer(said: Said, scope: str) -> bool:
    """Whether this tool's span is a handoff to another agent, which a span of that agent follows."""
    return said.attributes.get("gen_ai.tool.type") == "TransferToAgentTool" or (
        scope == SCOPE and said.attributes.get("gen_ai.tool.name") == "transfer_to_agent"
    )


def transfer_to(said: Said) -> str | None:
    """The agent that a transfer names in its arguments, which are told only where content is captured."""
    for name in ("gen_ai.tool.call.arguments", "gcp.vertex.agent.tool_call_args"):
        arguments = forms.json_object(said.attributes.get(name))
        if arguments is not None and (agent := clear.term(arguments.get("agent_name"))) is not None:
            return agent
    return None


def confirmation(said: Said) -> Literal["asked", "rejected"] | None:
    """Whether this tool call only asked to be confirmed, or was refused."""
    for name in _RESPONSES:
        told = said.attributes.get(name)
        if type(told) is dict or (type(told) is str and "This tool call" in told and len(told) < 1024):
            error = (forms.json_object(told) or {}).get("error")
            if error == _ASKS:
                return "asked"
            if error == _REFUSED:
                return "rejected"
    return None
