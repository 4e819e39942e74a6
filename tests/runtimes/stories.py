"""What each scenario is, told as the ledger should tell it: its runs, and the steps of each in order.

Structure and the ledger's own entries are left out. A step is its kind, with what tells it from others of the kind.
"""

from __future__ import annotations

from projections.steps import Run, Step

GPT = "model_call gpt-4o"
GEMINI = "model_call gemini-2.5-flash"
START = "run_started"
SUCCESS = "run_finished success"
FAILURE = "run_finished failure"
HANDED_OVER = "run_finished handed_over"
WEATHER = "tool_call get_weather ok"
PAID = "tool_call pay ok"
ASKED = "tool_call pay unknown"  # proposed: its span doesn't tell whether it ran, or waits for an approval
TILL = "tool_call broken_till error"
FAILED = " error"  # of a model call

STORIES: dict[tuple[str, str], list[list[str]]] = {
    ("pydantic_ai", "tool_call"): [[START, GPT, WEATHER, GPT, SUCCESS]],
    ("pydantic_ai", "own_test_model"): [[START, "model_call test", WEATHER, "model_call test", SUCCESS]],
    ("pydantic_ai", "tool_error"): [[START, GPT, "tool_call pay error", "error", FAILURE]],
    ("pydantic_ai", "model_error"): [[START, GPT + FAILED, "error", FAILURE]],
    ("pydantic_ai", "approval_denied"): [
        [START, GPT, "approval_request", HANDED_OVER],
        [START, "approval_decision", GPT, SUCCESS],
    ],
    ("pydantic_ai", "approval_given"): [
        [START, GPT, "approval_request", HANDED_OVER],
        [START, "approval_decision", PAID, GPT, SUCCESS],
    ],
    ("pydantic_ai", "delegation"): [
        [START, GPT, "tool_call ask_forecast ok", "delegation forecast_agent", GPT, GPT, SUCCESS]
    ],
    ("langgraph", "tool_call"): [[START, GPT, WEATHER, GPT, SUCCESS]],
    ("langgraph", "tool_error"): [[START, GPT, TILL, "error", FAILURE]],
    ("langgraph", "model_error"): [[START, GPT + FAILED, "error", FAILURE]],
    ("langgraph", "approval_denied"): [
        [START, GPT, "approval_request", SUCCESS],
        [START, "approval_decision reject", GPT, SUCCESS],
    ],
    ("langgraph", "approval_given"): [
        [START, GPT, "approval_request", SUCCESS],
        [START, "approval_decision approve", PAID, GPT, SUCCESS],
    ],
    ("langgraph", "approval_edited"): [
        [START, GPT, "approval_request", SUCCESS],
        [START, "approval_decision edit", "human_override", PAID, GPT, SUCCESS],
    ],
    ("langgraph", "interrupt_denied"): [
        [GPT, "approval_request"],
        ["approval_decision"],
    ],
    ("openai_agents", "tool_call"): [[START, GPT, WEATHER, GPT, SUCCESS]],
    ("openai_agents", "tool_error"): [[START, GPT, TILL, "error", SUCCESS]],
    ("openai_agents", "model_error"): [[START, GPT, "error", SUCCESS]],
    ("openai_agents", "handoff"): [[START, GPT, "delegation weather_agent", GPT, WEATHER, GPT, SUCCESS]],
    ("openai_agents", "approval_denied"): [[START, GPT, ASKED, GPT, SUCCESS]],
    ("openai_agents", "approval_given"): [[START, GPT, ASKED, PAID, GPT, SUCCESS]],
    ("openai_agents", "resumed_unseen"): [[START, GPT, ASKED, SUCCESS]],
    ("openai_agents", "guardrail_tripped"): [[START, "policy_decision unknown", "error", SUCCESS]],
    ("smolagents", "tool_call"): [[START, GPT, WEATHER, GPT, SUCCESS]],
    ("smolagents", "tool_error"): [[START, GPT, TILL, "error", GPT, SUCCESS]],
    ("smolagents", "model_error"): [["model_call ? error", "error"]],
    ("smolagents", "delegation"): [[START, GPT, "delegation forecast_agent", GPT, WEATHER, GPT, GPT, SUCCESS]],
    ("smolagents", "code_agent"): [[START, GPT, WEATHER, GPT, SUCCESS]],
    ("google_adk", "tool_call"): [[START, GEMINI, WEATHER, GEMINI, SUCCESS]],
    ("google_adk", "tool_error"): [[START, GEMINI, TILL, "error", FAILURE]],
    ("google_adk", "model_error"): [[START, GEMINI + FAILED, "error", FAILURE]],
    ("google_adk", "handoff"): [[START, GEMINI, "delegation weather_agent", GEMINI, WEATHER, GEMINI, SUCCESS]],
    ("google_adk", "delegation"): [[START, GEMINI, "delegation forecast_agent", GEMINI, GEMINI, SUCCESS]],
    ("google_adk", "approval_denied"): [
        [START, GEMINI, "approval_request", SUCCESS],
        [START, "approval_decision reject", GEMINI, SUCCESS],
    ],
    ("google_adk", "approval_given"): [
        [START, GEMINI, "approval_request", SUCCESS],
        [START, PAID, GEMINI, SUCCESS],
    ],
}

_TELLING = {
    "run_finished": ("status",),
    "model_call": ("model", "status"),
    "tool_call": ("tool", "status"),
    "approval_decision": ("decision",),
    "delegation": ("to_agent",),
    "policy_decision": ("decision",),
    "routing_decision": ("chosen",),
}
_LEFT_OUT = ("span", "run_head")


def story(run: Run) -> list[str]:
    """A run's steps as a story has them."""
    return [_told(step) for step in run.steps if step.kind not in _LEFT_OUT]


def _told(step: Step) -> str:
    members = {name: step.said(name) for name in _TELLING.get(step.kind, ())}
    if step.kind == "model_call" and members["status"] == "ok":
        del members["status"]
    if step.kind == "model_call":
        members["model"] = members["model"] or "?"
    return " ".join([step.kind, *(str(value) for value in members.values() if value is not None)])
