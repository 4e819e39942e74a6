"""Two runtimes in one run: what the environment says of the run joins what two processes send of it."""

from __future__ import annotations

from collections import Counter

import pytest

from ledger.leaf import Leaf
from projections.steps import steps, totals
from tests.runtimes.conftest import Stack
from tests.runtimes.playing import Played, play
from tests.runtimes.recorded import read_run

RUN = "order-7731"
ENVELOPE = {
    "tallystick.run_id": RUN,
    "tallystick.principal": "desk-1",
    "tallystick.owner": "returns",
    "tallystick.environment": "test",
    "tallystick.work_item.system": "zendesk",
    "tallystick.work_item.id": "7731",
}


@pytest.fixture(scope="module")
def played(stack: Stack) -> list[Played]:
    attributes = ",".join(f"{name}={value}" for name, value in ENVELOPE.items())
    http, grpc = stack.endpoints["otlp_http"], f"http://{stack.endpoints['otlp_grpc']}"
    return [
        play("pydantic_ai", "http/protobuf", http, "tool_call", attributes=attributes),
        play("langgraph", "grpc", grpc, "tool_call", attributes=attributes),
    ]


@pytest.fixture(scope="module")
def entries(stack: Stack, played: list[Played]) -> list[tuple[int, Leaf]]:
    return read_run(stack.endpoints["postgres"], RUN, played)


def test_it_is_one_chain(entries: list[tuple[int, Leaf]]) -> None:
    assert sorted(leaf.run_seq for _, leaf in entries if leaf.run_seq is not None) == list(range(len(entries)))


def test_it_comes_to_what_both_used(entries: list[tuple[int, Leaf]], played: list[Played]) -> None:
    happened = [one.scenarios["tool_call"] for one in played]
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
