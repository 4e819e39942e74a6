"""What was sent is on the record once, whichever way it came, and nothing went anywhere else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from ledger.leaf import Leaf
from schemas.ids import span_id
from tests.runtimes.conftest import Stack
from tests.runtimes.playing import ENVIRONMENT_OF, PLAYS
from tests.runtimes.recorded import Record

FOLDER = Path(__file__).parent


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

    assert intake["duplicates"] == intake["appended"] > 0
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


@pytest.mark.parametrize("app", ["pydantic_ai", "langgraph", "openai_agents", "smolagents", "google_adk"])
def test_a_run_is_shown_with_what_its_tool_got_and_gave(record: Record, stack: Stack, app: str) -> None:
    happened = record.played[app, "grpc"].scenarios["tool_call"]
    shown = stack.tally("show", next(iter(happened.traces)), "--json").json

    [call] = [entry for entry in shown["entries"] if entry["kind"] == "tool_call"]
    assert call["data"]["tool"] == "get_weather"
    assert "Paris" in call["content"]["/input"]["value"]
    assert "sunny in Paris" in call["content"]["/output"]["value"]
