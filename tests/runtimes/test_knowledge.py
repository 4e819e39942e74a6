"""What a runtime's own telemetry says of a run is told as far as it goes: nothing is invented."""

from __future__ import annotations

import pytest

from projections.knowledge import knowledge
from tests.runtimes.playing import ENVIRONMENT_OF
from tests.runtimes.recorded import Record

UNSAID = ("retrieved_context", "memory_reads_and_writes", "policy_decision", "human_approval", "final_action")


@pytest.mark.parametrize("app", ENVIRONMENT_OF)
def test_a_run_with_a_tool_call(record: Record, app: str) -> None:
    [entries] = record.of(app, "grpc", "tool_call").entries
    links = knowledge(entries).links

    assert {links[link].state for link in ("model_invocation", "tool_execution")} == {"reported"}
    assert {links[link].state for link in ("user_request", "agent_identity", "cost_and_latency")} == {"inferred"}
    assert {links[link].state for link in (*UNSAID, "error_path")} == {"missing"}


@pytest.mark.parametrize("app", ["pydantic_ai", "langgraph", "google_adk"])
def test_a_denial_found_in_a_conversation_is_inferred_and_its_reviewer_is_not_known(record: Record, app: str) -> None:
    asked, answered = record.of(app, "grpc", "approval_denied").entries
    approval = knowledge(answered).links["human_approval"]

    assert knowledge(asked).links["human_approval"].state == "missing"
    assert approval.state == "inferred"
    assert approval.lacks == ("reviewer",)


@pytest.mark.parametrize("app", ENVIRONMENT_OF)
def test_a_failure_is_known(record: Record, app: str) -> None:
    [entries] = record.of(app, "grpc", "tool_error").entries

    assert knowledge(entries).links["error_path"].state != "missing"
