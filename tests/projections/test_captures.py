"""What real runtimes sent, as steps: everything once, whatever came first, however often."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.otlp.mapping import map_request
from ledger.leaf import Leaf
from projections.knowledge import knowledge
from projections.steps import Totals, steps, totals_of
from schemas.event import Event
from schemas.normalize import normalize_draft
from tests.projections.leaves import COMMITTED, arrived, leaf

CAPTURES = Path(__file__).parents[1] / "fixtures" / "otlp"
SAYING = ("tool", "to_agent", "chosen", "decision", "status")

STORIES: dict[tuple[str, ...], list[list[str]]] = {
    ("google_adk", "google_adk_logs"): [
        ["run_started", "model_call ok", "tool_call get_weather ok", "model_call ok", "run_finished success"]
    ],
    ("langgraph_oi",): [
        ["run_started", "model_call ok", "tool_call get_weather ok", "model_call ok", "run_finished success"]
    ],
    ("openai_agents_oi",): [
        [
            *("run_started", "policy_decision unknown", "model_call ok", "delegation weather_agent"),
            *("model_call ok", "tool_call get_weather ok", "model_call ok", "run_finished success"),
        ]
    ],
    ("pydantic_ai_approval_denied",): [
        ["run_started", "model_call ok", "approval_request", "run_finished handed_over"],
        ["run_started", "approval_decision", "model_call ok", "run_finished success"],
    ],
    ("pydantic_ai_testmodel",): [
        ["run_started", "model_call ok", "tool_call get_weather ok", "model_call ok", "run_finished success"]
    ],
    ("smolagents_oi",): [
        ["run_started", "model_call ok", "tool_call get_weather ok", "model_call ok", "run_finished success"]
    ],
}
TOKENS = {
    "google_adk": [(22, 14)],
    "langgraph_oi": [(42, 13)],
    "openai_agents_oi": [(33, 21)],
    "pydantic_ai_approval_denied": [(51, 5), (53, 6)],
    "pydantic_ai_testmodel": [(109, 16)],
    "smolagents_oi": [(22, 14)],
}
EACH = pytest.mark.parametrize("names", STORIES, ids=[names[0] for names in STORIES])


@cache
def runs(*names: str) -> tuple[tuple[Leaf, ...], ...]:
    """The leaves that captures become, by run, the runs in the order in which they began."""
    found: dict[str | None, list[Leaf]] = {}
    for name in names:
        body = (CAPTURES / f"{name}.pb").read_bytes()
        if name.endswith("_logs"):
            mapped = list(map_request("logs", ExportLogsServiceRequest.FromString(body)))
        else:
            mapped = list(map_request("spans", ExportTraceServiceRequest.FromString(body)))
        for draft in (draft for one in mapped for draft in one.drafts):
            event = normalize_draft(draft)
            found.setdefault(event.run, []).append(sealed(event))
    return tuple(tuple(leaves) for leaves in sorted(found.values(), key=lambda of: min(one.time or "" for one in of)))


def sealed(event: Event) -> Leaf:
    return leaf(
        event.kind,
        {**event.data, "vouched": "claimed"},
        id=event.id,
        run=event.run,
        time=event.time,
        actor=dict(event.actor) or None,
        commit={content.pointer: COMMITTED for content in event.content} or None,
    )


def story(leaves: Sequence[Leaf]) -> list[str]:
    shown = [step for step in steps(arrived(leaves)).steps if step.kind != "span"]
    return [" ".join([step.kind, *(said for name in SAYING if (said := step.said(name)))]) for step in shown]


def totals(leaves: Sequence[Leaf]) -> Totals:
    return totals_of(steps(arrived(leaves)))


@EACH
def test_each_step_is_told_once_and_in_order(names: tuple[str, ...]) -> None:
    assert [story(run) for run in runs(*names)] == STORIES[names]


@EACH
def test_tokens_are_counted_once(names: tuple[str, ...]) -> None:
    found = [totals(run).tokens for run in runs(*names)]

    assert [(one["input_tokens"], one["output_tokens"]) for one in found] == TOKENS[names[0]]


@EACH
def test_children_first_parents_first_and_all_of_it_twice_come_to_the_same(names: tuple[str, ...]) -> None:
    for run in runs(*names):
        assert story(run[::-1]) == story(run)
        assert totals(run[::-1]) == totals([*run, *run]) == totals(run)


@EACH
def test_a_run_whose_root_never_came_has_its_steps_all_the_same(names: tuple[str, ...]) -> None:
    for run in runs(*names):
        rootless = [one for one in run if one.kind not in ("run_started", "run_finished")]
        told = steps(arrived(rootless))

        assert (told.status, told.roots) == (None, 0)
        assert (totals_of(told).tokens, totals_of(told).tool_calls) == (totals(run).tokens, totals(run).tool_calls)


def test_no_tool_ran_where_the_approval_was_denied_and_the_denial_is_inferred() -> None:
    asked, denied = runs("pydantic_ai_approval_denied")

    assert totals(asked).tool_calls == totals(denied).tool_calls == 0
    assert (totals(asked).approvals.asked, totals(asked).approvals.unanswered) == (1, 1)
    assert (totals(denied).approvals.undecided, totals(denied).approvals.asked) == (1, 0)  # the reason is its own words
    answer = knowledge(arrived(denied)).links["human_approval"]
    assert (answer.state, answer.rules, answer.lacks) == ("inferred", ("answered_call",), ("decision", "reviewer"))
    assert knowledge(arrived(asked)).links["human_approval"].state == "missing"


def test_a_guardrail_that_says_no_verdict_is_none() -> None:
    (run,) = runs("openai_agents_oi")

    assert knowledge(arrived(run)).links["policy_decision"].state == "missing"
