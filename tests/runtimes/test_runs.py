"""What real runtimes did, as the ledger tells it: held to what their models and tools say happened."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from tests.runtimes.playing import ENVIRONMENT_OF, PLAYS
from tests.runtimes.recorded import Record, Recorded
from tests.runtimes.stories import STORIES, story

USD_PER_MILLION = {"gpt-4o": (Decimal("2.5"), Decimal(10)), "gemini-2.5-flash": (Decimal("0.3"), Decimal("2.5"))}
"""Of input and of output; `test`, a framework's own, has no price."""

SCENARIOS = [(app, protocol, scenario) for app, protocol in PLAYS for of, scenario in STORIES if of == app]


@pytest.fixture
def told(record: Record, app: str, protocol: str, scenario: str) -> Recorded:
    return record.of(app, protocol, scenario)


def test_every_scenario_has_its_story(record: Record) -> None:
    played = {(app, scenario) for (app, _), one in record.played.items() for scenario in one.scenarios}

    assert played == set(STORIES)
    assert {app for app, _ in played} == set(ENVIRONMENT_OF)


@pytest.mark.parametrize(("app", "protocol", "scenario"), SCENARIOS)
class TestScenario:
    def test_is_told_in_order(self, told: Recorded, app: str, scenario: str) -> None:
        assert [story(run) for run in told.runs()] == STORIES[app, scenario]

    def test_has_each_token_once(self, told: Recorded) -> None:
        sums: Counter[str] = Counter()
        for totals in told.totals():
            sums.update(totals.tokens)

        assert sums == Counter(told.sent_tokens())

    def test_has_each_model_call_once(self, told: Recorded) -> None:
        calls = told.happened.model_calls[: told.seen("model_calls")]

        assert told.summed(lambda totals: totals.model_calls) == len(calls) + told.happened.model_errors

    def test_costs_what_it_used(self, told: Recorded) -> None:
        priced = sum((totals.cost.priced.get("USD", Decimal(0)) for totals in told.totals()), Decimal(0))

        assert priced == sum(
            (
                (
                    USD_PER_MILLION[call["model"]][0] * call["input_tokens"]
                    + USD_PER_MILLION[call["model"]][1] * call["output_tokens"]
                )
                / 1_000_000
                for call in told.happened.model_calls[: told.seen("model_calls")]
                if call["model"] in USD_PER_MILLION
            ),
            Decimal(0),
        )

    def test_has_a_tool_call_for_each_tool_that_ran_and_for_no_other(self, told: Recorded) -> None:
        ran = [(call["tool"], call["status"]) for call in told.happened.tool_calls[: told.seen("tool_calls")]]

        assert told.tools_run() == Counter(ran)
        assert told.summed(lambda totals: totals.tool_calls) == len(ran)

    def test_has_one_error_for_each_failure_and_keeps_the_deepest(self, told: Recorded) -> None:
        failures = told.happened.model_errors + sum(call["status"] == "error" for call in told.happened.tool_calls)

        assert told.summed(lambda totals: totals.errors) == failures + told.happened.told.get("tripped", 0)

    def test_runs_no_tool_that_was_denied(self, told: Recorded) -> None:
        denied = set(told.happened.told.get("denied", ()))

        assert denied.isdisjoint(tool for tool, _ in told.tools_run())

    def test_delegates_to_whom_it_did(self, told: Recorded) -> None:
        delegated = [step.said("to_agent") for step in told.steps("delegation")]

        assert delegated == told.happened.told.get("delegated", [])


@pytest.mark.parametrize(
    ("app", "scenario"),
    [
        (app, scenario)
        for app in ("pydantic_ai", "langgraph", "google_adk")
        for of, scenario in STORIES
        if of == app and scenario in ("approval_denied", "approval_edited", "interrupt_denied")
    ],
)
def test_an_answer_in_a_trace_of_its_own_leads_to_what_was_asked(record: Record, app: str, scenario: str) -> None:
    told = record.of(app, "grpc", scenario)
    [asked], [answered] = told.steps("approval_request"), told.steps("approval_decision")

    assert asked.said("approval") is not None
    if app == "langgraph":  # its answer names no interrupt: the thread joins them
        assert asked.said("session") == answered.said("session") is not None
    else:
        assert answered.said("approval") == asked.said("approval")
    assert "/input" in (asked.entry.leaf.commit or {}) or "/context" in (asked.entry.leaf.commit or {})
