"""What real runtimes did, as the ledger tells it: held to what their models and tools say happened.

One module, since every test here reads the one record that `conftest.py` makes.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from ledger.leaf import Leaf
from projections.knowledge import knowledge
from projections.steps import steps, totals
from schemas.ids import span_id
from tests.runtimes.conftest import Stack
from tests.runtimes.playing import ENVIRONMENT_OF, PLAYS, Played, play
from tests.runtimes.recorded import Record, Recorded, read_run
from tests.runtimes.stories import STORIES, story

FOLDER = Path(__file__).parent
USD_PER_MILLION = {"gpt-4o": (Decimal("2.5"), Decimal(10)), "gemini-2.5-flash": (Decimal("0.3"), Decimal("2.5"))}
"""Of input and of output; `test`, a framework's own, has no price."""

SCENARIOS = [(app, protocol, scenario) for app, protocol in PLAYS for of, scenario in STORIES if of == app]
UNSAID = ("retrieved_context", "memory_reads_and_writes", "policy_decision", "human_approval", "final_action")
RUN = "order-7731"
ENVELOPE = {
    "tallystick.run_id": RUN,
    "tallystick.principal": "desk-1",
    "tallystick.owner": "returns",
    "tallystick.environment": "test",
    "tallystick.work_item.system": "zendesk",
    "tallystick.work_item.id": "7731",
}


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
        for one in told.totals():
            sums.update(one.tokens)

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


# -- delivery ----------------------------------------------------------------------------------------------------------


def locked(environment: str) -> dict[str, str]:
    """The versions that an environment's lock names."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (FOLDER / f"{environment}.lock").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("app", "protocol"), PLAYS)
class TestPlay:
    def test_each_span_and_log_record_is_one_entry(self, record: Record, app: str, protocol: str) -> None:
        played = record.played[app, protocol]
        leaves = [leaf for scenario in played.scenarios for leaf in record.of(app, protocol, scenario).leaves()]
        came = Counter(leaf.data.get("from") for leaf in leaves if is_own(leaf))

        assert came["span"] == played.spans()
        assert came["log"] == played.logs()

    def test_nothing_else_was_connected_to(self, record: Record, app: str, protocol: str) -> None:
        assert record.played[app, protocol].attempts == []

    def test_the_versions_are_those_of_the_lock(self, record: Record, app: str, protocol: str) -> None:
        versions = record.played[app, protocol].versions

        assert versions.items() <= locked(ENVIRONMENT_OF[app]).items()


def is_own(leaf: Leaf) -> bool:
    """Whether this is the entry of a span or log record itself, not one of what follows from it."""
    trace = leaf.data.get("trace")
    if leaf.data.get("from") != "span":
        return leaf.data.get("from") == "log"
    return trace is not None and leaf.id == span_id(trace["trace_id"], trace["span_id"])


def test_sent_twice_is_recorded_once(record: Record) -> None:
    intake = record.intake

    assert intake["duplicates"] >= intake["appended"] > 0
    assert (intake["conflicts"], intake["rejected"]) == (0, 0)


def test_the_ways_make_no_difference(record: Record) -> None:
    """A scenario leaves the same kinds with the same members, over protobuf, gRPC and JSON."""
    for app in ENVIRONMENT_OF:
        ways = [protocol for of, protocol in PLAYS if of == app]
        for scenario in record.played[app, ways[0]].scenarios:
            shapes = [
                [sorted((leaf.kind, *sorted(leaf.data), *sorted(leaf.commit or ())) for _, leaf in run) for run in runs]
                for runs in (record.of(app, way, scenario).entries for way in ways)
            ]
            assert all(shape == shapes[0] for shape in shapes), (app, scenario)


def test_it_verifies(record: Record, stack: Stack) -> None:
    done = stack.tally("verify", "--json")

    assert (done.status, done.json["integrity"]) == (0, "ok"), done
    assert len(record.entries) > 0


@pytest.mark.parametrize("app", ENVIRONMENT_OF)
def test_a_run_is_shown_with_what_its_tool_got_and_gave(record: Record, stack: Stack, app: str) -> None:
    happened = record.played[app, "grpc"].scenarios["tool_call"]
    shown = stack.tally("show", next(iter(happened.traces)), "--json").json

    [call] = [entry for entry in shown["entries"] if entry["kind"] == "tool_call"]
    assert call["data"]["tool"] == "get_weather"
    assert "Paris" in call["content"]["/input"]["value"]
    assert "sunny in Paris" in call["content"]["/output"]["value"]


# -- what is known -----------------------------------------------------------------------------------------------------


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
    said = any("decision" in entry.data for _, entry in answered if entry.kind == "approval_decision")
    assert approval.lacks == (("reviewer",) if said else ("decision", "reviewer"))


@pytest.mark.parametrize("app", ENVIRONMENT_OF)
def test_a_failure_is_known(record: Record, app: str) -> None:
    [entries] = record.of(app, "grpc", "tool_error").entries

    assert knowledge(entries).links["error_path"].state != "missing"


# -- two runtimes in one run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(stack: Stack) -> list[Played]:
    attributes = ",".join(f"{name}={value}" for name, value in ENVELOPE.items())
    http, grpc = stack.endpoints["otlp_http"], f"http://{stack.endpoints['otlp_grpc']}"
    return [
        play("pydantic_ai", "http/protobuf", http, "tool_call", attributes=attributes),
        play("langgraph", "grpc", grpc, "tool_call", attributes=attributes),
    ]


@pytest.fixture(scope="module")
def entries(stack: Stack, two: list[Played]) -> list[tuple[int, Leaf]]:
    return read_run(stack.endpoints["postgres"], RUN, two)


def test_it_is_one_chain(entries: list[tuple[int, Leaf]]) -> None:
    assert sorted(leaf.run_seq for _, leaf in entries if leaf.run_seq is not None) == list(range(len(entries)))


def test_it_comes_to_what_both_used(entries: list[tuple[int, Leaf]], two: list[Played]) -> None:
    happened = [one.scenarios["tool_call"] for one in two]
    used: Counter[str] = Counter()
    for call in (call for one in happened for call in one.model_calls):
        used.update({name: call[name] for name in ("input_tokens", "output_tokens")})

    assert Counter(totals(entries).tokens) == used
    assert totals(entries).tool_calls == sum(len(one.tool_calls) for one in happened) == 2


def test_its_start_says_the_envelope(entries: list[tuple[int, Leaf]]) -> None:
    [started] = [step for step in steps(entries).steps if step.kind == "run_started"]

    assert started.said("owner") == "returns"
    assert started.said("environment") == "test"
    assert started.said("work_item") == {"system": "zendesk", "id": "7731"}
    assert started.entry.leaf.actor is not None
    assert "principal" in started.entry.leaf.actor
