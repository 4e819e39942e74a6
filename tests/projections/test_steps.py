"""What is one step: each rule by what runtimes send, and what only looks like it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ledger.leaf import Leaf
from projections.steps import WHYS, Run, steps
from tests.projections.leaves import arrived, event, event_id, leaf, log, node, span

OTHER_TRACE = "f" * 32

CHAT = span("chat", "model_call", {"input_tokens": 5}, parent="agent", at=10)
AGENT = span("agent", "run_finished", {"status": "success"}, at=90)
TOOL = span("tool", "tool_call", {"tool": "weather", "call": "c1", "latency_us": 50}, parent="agent", at=20)


def merged(*leaves: Leaf) -> Mapping[int, tuple[int, str]]:
    """What is merged, by place among the leaves: into which, and why."""
    run = steps(arrived(leaves))
    return {one.entry.index: (step.entry.index, one.why) for step in run.steps for one in step.merged}


# name, leaves, what is merged by place: (into, why)
ONE = [
    ("a log and its span", [log("l", "chat", "model_call"), CHAT], {0: (1, "of_its_span")}),
    (
        "logs of a span that isn't there",
        [log("l1", "chat", "model_call"), log("l2", "chat", "model_call", {"input_tokens": 3}, at=5)],
        {0: (1, "of_its_span")},
    ),
    (
        "a log of a memory's span",
        [
            span("m", "memory_write", {"store": "s", "record": "1"}),
            log("l", "m", "memory_write", {"store": "s", "record": "1"}),
        ],
        {1: (0, "of_its_span")},
    ),
    (
        "one selection told by span and log",
        [
            span("chat", "tool_selection", {"chosen": "weather", "offered": ["weather"]}, derived=0),
            log("l", "chat", "tool_selection", {"chosen": "weather"}),
        ],
        {1: (0, "told_twice")},
    ),
    (
        "MCP inside the agent's tool call, by call id",
        [span("mcp", "tool_call", {"tool": "srv.weather", "call": "c1"}, parent="tool", at=21), TOOL],
        {0: (1, "inner_call")},
    ),
    (
        "MCP's client and server, by parent and name, with a span between",
        [
            span("server", "tool_call", {"tool": "weather"}, parent="http", at=23),
            span("http", "span", {"name": "POST"}, parent="client", at=22),
            span("client", "tool_call", {"tool": "weather"}, parent="tool", at=21),
            TOOL,
        ],
        {2: (3, "inner_call"), 0: (3, "inner_call")},
    ),
    (
        "the same call id inside, with an agent between",
        [
            span("deep", "tool_call", {"tool": "weather", "call": "c1"}, parent="sub", at=22),
            span("sub", "delegation", {"to_agent": "x"}, parent="tool", at=21),
            TOOL,
        ],
        {0: (2, "inner_call")},
    ),
    (
        "a server's span in a trace of its own",
        [TOOL, span("server", "tool_call", {"tool": "weather", "call": "c1"}, trace=OTHER_TRACE, at=40)],
        {1: (0, "same_call")},
    ),
    (
        "a producer's event of a call that has a span too",
        [TOOL, event("done", "tool_call", {"tool": "weather", "call": "c1", "phase": "finished"}, at=71)],
        {1: (0, "same_call")},
    ),
    (
        "the phases of a call",
        [
            event("p", "tool_call", {"tool": "pay", "call": "c", "phase": "proposed"}, at=1),
            event("v", "tool_call", {"tool": "pay", "call": "c", "phase": "validated"}, at=2),
            event("s", "tool_call", {"tool": "pay", "call": "c", "phase": "started"}, at=3),
            event("f", "tool_call", {"tool": "pay", "call": "c", "phase": "finished"}, at=4),
        ],
        {0: (3, "phase"), 1: (3, "phase"), 2: (3, "phase")},
    ),
    (
        "a model call told by two instrumentations",
        [span("sdk", "model_call", {"input_tokens": 5}, parent="chain", at=11), span("chain", "model_call", at=10)],
        {1: (0, "outer_call")},
    ),
    (
        "an exception, its log and its span's status",
        [
            span("tool", "error", {"class": "m.Timeout"}, derived=0, came_from="span_event", at=3),
            log("l", "tool", "error", {"class": "Timeout"}, at=4),
            span("tool", "error", {"class": "timeout"}, derived=1, at=0),
        ],
        {1: (0, "same_error"), 2: (0, "same_error")},
    ),
    (
        "an exception on every span that it passed, the last without its class",
        [
            span("tool", "error", {"class": "E"}, parent="step", derived=0, came_from="span_event", at=5),
            span("step", "error", {"class": "m.E"}, parent="agent", derived=0, came_from="span_event", at=6),
            span("agent", "error", {"missing": ["class"]}, derived=0, at=0),
        ],
        {1: (0, "error_above"), 2: (0, "error_above")},
    ),
    (
        "a refused tool's span that says that it failed",
        [
            span("tool", "approval_decision", {"approval": "c1", "decision": "reject"}, at=5),
            span("tool", "error", {"class": "TOOL_ERROR", "of": node("tool")}, derived=0, at=6),
        ],
        {1: (0, "denial")},
    ),
    (
        "an interrupt on every span that it passed",
        [
            span("agent", "approval_request", {"approval": "i1"}, derived=0, came_from="span_event", at=9),
            span("step", "approval_request", {"approval": "i1"}, parent="agent", derived=0, came_from="span_event"),
            span("tool", "approval_request", {"approval": "i1"}, parent="step", derived=0, came_from="span_event"),
        ],
        {0: (2, "same_approval"), 1: (2, "same_approval")},
    ),
    (
        "an answer in every later message history",
        [
            span("b", "approval_decision", {"approval": "i1", "decision": "reject"}, derived=0, at=8),
            span("a", "approval_decision", {"approval": "i1", "decision": "reject"}, derived=0, at=5),
            event("human", "approval_decision", {"approval": "i1", "decision": "reject", "reviewer": "p:1"}, at=3),
        ],
        {0: (2, "same_decision"), 1: (2, "same_decision")},
    ),
    (
        "an answer by its approval's id, and the call's answer that doesn't say what was decided",
        [
            span("resumed", "approval_decision", {"approval": "c1", "call": "c1"}, derived=0, at=8),
            log("human", None, "approval_decision", {"approval": "a1", "call": "c1", "decision": "approve"}, at=3),
        ],
        {0: (1, "same_answer")},
    ),
    (
        "an undecided answer, and what every span says of the decided one",
        [
            span("a", "approval_decision", {"approval": "i1"}, derived=0, at=1),
            span("b", "approval_decision", {"approval": "i1", "decision": "edit"}, derived=0, at=2),
            span("c", "approval_decision", {"approval": "i1", "decision": "edit", "reviewer": "p:1"}, derived=0, at=3),
        ],
        {0: (2, "same_answer"), 1: (2, "same_decision")},
    ),
    (
        "a question and its answer, by the approval's id and by the call's",
        [
            span("r", "approval_request", {"approval": "c1", "call": "c1"}, derived=0),
            span("s", "approval_decision", {"approval": "c1", "call": "c1", "decision": "reject"}, derived=0, at=9),
            log("q", None, "approval_request", {"approval": "a1", "call": "c1"}, at=4),
            log("n", None, "approval_decision", {"approval": "a1", "call": "c1", "decision": "reject"}, at=5),
        ],
        {0: (2, "same_approval"), 1: (3, "same_decision")},
    ),
    (
        "a handoff and the agent that took over",
        [
            span("handoff", "delegation", {"to_agent": "w"}, parent="turn", at=5),
            span("chat2", "model_call", parent="w", at=8),
            span("w", "delegation", {"to_agent": "w"}, parent="agent", at=7),
        ],
        {0: (2, "handoff")},
    ),
    (
        "a handoff that doesn't say to whom",
        [
            span("transfer", "delegation", {"missing": ["to_agent"]}, parent="turn", at=5),
            span("chat2", "model_call", parent="w", at=8),
            span("w", "delegation", {"to_agent": "w"}, parent="agent", at=7),
        ],
        {0: (2, "handoff")},
    ),
    (
        "an error that became another one above",
        [
            span("tool", "error", {"class": "E"}, parent="step", derived=0, came_from="span_event", at=5),
            span("chat", "model_call", parent="step", at=1),
            span("step", "error", {"class": "GaveUp"}, parent="agent", derived=0, came_from="span_event", at=6),
            span("agent", "error", {"class": "Failed"}, derived=0, came_from="span_event", at=7),
        ],
        {2: (0, "error_above"), 3: (0, "error_above")},
    ),
    (
        "a workflow and its agent, nested in a tool",
        [
            span("a", "delegation", {"to_agent": "forecast"}, parent="wf", at=8),
            span("wf", "delegation", {"to_agent": "forecast"}, parent="tool", at=7),
            span("tool", "tool_call", {"tool": "forecast"}, parent="agent", at=6),
        ],
        {0: (1, "inner_agent"), 2: (1, "agent_as_tool")},
    ),
    (
        "the agent of a root that is a workflow of its name",
        [
            span("chat", "model_call", parent="a", at=3),
            span("a", "delegation", {"to_agent": "desk"}, parent="root", at=2),
            span("root", "run_finished", {"status": "success"}, at=9),
            span("root", "run_started", {"workflow": "desk"}, derived=0, at=1),
        ],
        {1: (3, "own_agent")},
    ),
    (
        "the agent of a root that does nothing itself, before and after a break",
        [
            span("chat", "model_call", parent="a", at=3),
            span("a", "delegation", {"to_agent": "desk"}, parent="task", at=2),
            span("chat2", "model_call", parent="b", at=5),
            span("b", "delegation", {"to_agent": "desk"}, parent="task", at=4),
            span("task", "span", {"name": "task"}, parent="root", at=1),
            span("root", "run_finished", {"status": "success"}, at=9),
            span("root", "run_started", derived=0, at=0),
        ],
        {1: (6, "own_agent"), 3: (6, "own_agent")},
    ),
    (
        "two roots in one trace",
        [
            span("r1", "run_finished", {"status": "success"}, at=80),
            span("r1", "run_started", at=1, derived=0),
            AGENT,
            span("agent", "run_started", at=0, derived=0),
        ],
        {0: (2, "one_run"), 1: (3, "one_run")},
    ),
]


@pytest.mark.parametrize(("what", "leaves", "expected"), ONE, ids=[one[0] for one in ONE])
def test_told_several_times(what: str, leaves: list[Leaf], expected: dict[int, tuple[int, str]]) -> None:
    assert merged(*leaves) == expected


@pytest.mark.parametrize(("what", "leaves", "expected"), ONE, ids=[one[0] for one in ONE])
def test_told_several_times_and_every_entry_twice(
    what: str, leaves: list[Leaf], expected: dict[int, tuple[int, str]]
) -> None:
    again = {len(leaves) + at for at in range(len(leaves))}

    found = merged(*leaves, *leaves)

    assert {at for at, (_, why) in found.items() if why == "same_event"} == again
    assert {at: into for at, into in found.items() if at not in again} == expected


def test_every_rule_has_an_example() -> None:
    shown = {why for _, _, expected in ONE for _, why in expected.values()}

    assert shown | {"same_event"} == set(WHYS)


SEVERAL = [
    ("a log of another span", [log("l", "other", "model_call", {"input_tokens": 1}), CHAT]),
    (
        "model calls told by logs at an agent's span",
        [AGENT, log("l1", "agent", "model_call"), log("l2", "agent", "model_call")],
    ),
    (
        "two logs that each count, of a span that isn't there",
        [log("l1", "gone", "model_call", {"input_tokens": 1}), log("l2", "gone", "model_call", {"input_tokens": 2})],
    ),
    (
        "another record at a memory's span",
        [
            span("m", "memory_write", {"store": "s", "record": "1"}),
            log("l", "m", "memory_write", {"store": "s", "record": "2"}),
        ],
    ),
    (
        "two selections of one tool in one answer",
        [span("chat", "tool_selection", {"chosen": "weather"}, derived=n) for n in (0, 1)],
    ),
    (
        "the same tool twice under one agent",
        [TOOL, span("tool2", "tool_call", {"tool": "weather"}, parent="agent", at=80)],
    ),
    (
        "the same tool twice under one agent, by a test model with one call id",
        [TOOL, span("tool2", "tool_call", {"tool": "weather", "call": "c1"}, parent="agent", at=80)],
    ),
    (
        "the same in two turns whose spans haven't come",
        [
            span("t1", "tool_call", {"tool": "weather", "call": "c1"}, parent="turn1", at=0),
            span("t2", "tool_call", {"tool": "weather", "call": "c1"}, parent="turn2", at=2_000_000),
        ],
    ),
    (
        "a tool that an agent inside a tool calls",
        [
            span("deep", "tool_call", {"tool": "weather"}, parent="sub", at=22),
            span("sub", "delegation", {"to_agent": "x"}, parent="tool", at=21),
            TOOL,
        ],
    ),
    (
        "another call inside a tool call",
        [TOOL, span("inner", "tool_call", {"tool": "weather", "call": "c2"}, parent="tool", at=21)],
    ),
    (
        "another tool inside a tool call",
        [TOOL, span("inner", "tool_call", {"tool": "geocode"}, parent="tool", at=21)],
    ),
    (
        "attempts of one call",
        [
            event("f1", "tool_call", {"tool": "pay", "call": "c", "phase": "finished", "attempt": 1}, at=1),
            event("f2", "tool_call", {"tool": "pay", "call": "c", "phase": "finished", "attempt": 2}, at=2),
        ],
    ),
    (
        "a model call inside a tool inside a model call",
        [
            span("inner", "model_call", parent="t", at=12),
            span("t", "tool_call", {"tool": "ask"}, parent="outer", at=11),
            span("outer", "model_call", at=10),
        ],
    ),
    (
        "two failures of two tools of which one went up",
        [
            span("t1", "error", {"class": "E"}, parent="agent", derived=0, came_from="span_event", at=1),
            span("t2", "error", {"class": "F"}, parent="agent", derived=0, came_from="span_event", at=2),
        ],
    ),
    (
        "an error of another class above, after other work",
        [
            span("t1", "error", {"class": "E"}, parent="agent", derived=0, came_from="span_event", at=1),
            span("chat", "model_call", parent="agent", at=2),
            span("agent", "error", {"class": "GaveUp"}, derived=0, came_from="span_event", at=3),
        ],
    ),
    (
        "an error of another class above a span that went well",
        [
            span("t1", "error", {"class": "E"}, parent="step", derived=0, came_from="span_event", at=1),
            span("step", "span", {"name": "step"}, parent="agent", at=0),
            span("agent", "error", {"class": "GaveUp"}, derived=0, came_from="span_event", at=3),
        ],
    ),
    (
        "an agent to which the run's own delegates",
        [
            span("chat", "model_call", parent="root", at=1),
            span("chat2", "model_call", parent="a", at=3),
            span("a", "delegation", {"to_agent": "forecast"}, parent="step", at=2),
            span("step", "span", {"name": "step"}, parent="root", at=2),
            span("root", "run_finished", {"status": "success"}, at=9),
        ],
    ),
    (
        "a tool that asks an agent of another name",
        [
            span("tool", "tool_call", {"tool": "ask_forecast"}, parent="agent", at=6),
            span("a", "delegation", {"to_agent": "forecast"}, parent="tool", at=7),
        ],
    ),
    (
        "the same class in another trace",
        [
            span("t1", "error", {"class": "E"}, derived=0, came_from="span_event"),
            span("t1", "error", {"class": "E"}, derived=0, came_from="span_event", trace=OTHER_TRACE),
        ],
    ),
    (
        "a producer's errors of two attempts",
        [
            event("e1", "error", {"class": "E", "of": event_id("m1")}, at=1),
            event("e2", "error", {"class": "E", "of": event_id("m1")}, at=2),
        ],
    ),
    (
        "a producer's error and its cause, which is no part of it",
        [
            event("m1", "model_call", {"status": "error"}),
            event("e1", "error", {"class": "E", "of": event_id("m1"), "parent": event_id("m1")}, at=1),
            event("m2", "model_call", {"status": "error", "parent": event_id("e1")}, at=2),
            event("e2", "error", {"class": "E", "of": event_id("m2"), "parent": event_id("m2")}, at=3),
        ],
    ),
    (
        "two interrupts",
        [
            span("tool", "approval_request", {"approval": approval}, derived=n, came_from="span_event")
            for n, approval in enumerate(["i1", "i2"])
        ],
    ),
    (
        "the same approval asked for other arguments",
        [
            span("t", "approval_request", {"approval": "i1", "arguments": digest}, derived=n, came_from="span_event")
            for n, digest in enumerate(["aa", "bb"])
        ],
    ),
    (
        "two reviewers of one approval",
        [
            span("t", "approval_decision", {"approval": "i1", "decision": "approve", "reviewer": who}, derived=n)
            for n, who in enumerate(["p:1", "p:2"])
        ],
    ),
    (
        "an approval and its expiry",
        [
            span("t", "approval_decision", {"approval": "i1", "decision": decision}, derived=n)
            for n, decision in enumerate(["approve", "expire"])
        ],
    ),
    (
        "an undecided answer, and two answers that don't agree",
        [
            span("t", "approval_decision", {"approval": "i1", **said}, derived=n)
            for n, said in enumerate([{}, {"decision": "approve"}, {"decision": "reject"}])
        ],
    ),
    (
        "an undecided answer of another call",
        [
            span("t", "approval_decision", {"approval": "c1", "call": "c1"}, derived=0),
            log("l", None, "approval_decision", {"approval": "a2", "call": "c2", "decision": "approve"}),
        ],
    ),
    (
        "an undecided answer that a producer told in our own words",
        [
            event("e", "approval_decision", {"approval": "i1"}),
            log("l", None, "approval_decision", {"approval": "i1", "decision": "approve"}),
        ],
    ),
    (
        "two approvals of one call",
        [log(id, None, "approval_request", {"approval": id, "call": "c1"}) for id in ("a1", "a2")],
    ),
    (
        "two handoffs to one agent that hasn't begun",
        [span(name, "delegation", {"to_agent": "w"}, at=at) for at, name in enumerate(["h1", "h2"])],
    ),
]


@pytest.mark.parametrize(("what", "leaves"), SEVERAL, ids=[one[0] for one in SEVERAL])
def test_what_only_looks_like_one_stays_several(what: str, leaves: list[Leaf]) -> None:
    assert merged(*leaves) == {}


def test_a_second_exception_of_a_tool_is_not_the_first_and_goes_up_as_itself() -> None:
    leaves = [
        span("t1", "error", {"class": "E"}, parent="agent", derived=0, came_from="span_event", at=1),
        span("t2", "error", {"class": "E"}, parent="agent", derived=0, came_from="span_event", at=2),
        span("agent", "error", {"class": "E"}, derived=0, came_from="span_event", at=3),
    ]

    assert merged(*leaves) == {2: (1, "error_above")}


def test_around_several_model_calls_is_their_total() -> None:
    outer = span("outer", "model_call", {"input_tokens": 9}, at=1)
    first = span("first", "model_call", {"input_tokens": 4}, parent="outer", at=2)
    second = span("second", "model_call", {"input_tokens": 5}, parent="outer", at=3)

    run = steps(arrived([second, first, outer]))

    assert [(step.entry.index, step.total, step.within) for step in run.steps] == [
        (2, True, None),
        (1, False, 0),
        (0, False, 0),
    ]


def test_the_steps_stand_by_time_whatever_came_first() -> None:
    leaves = [CHAT, TOOL, AGENT, span("agent", "run_started", at=0, derived=0)]

    assert [step.kind for step in steps(arrived(leaves)).steps] == [
        "run_started",
        "model_call",
        "tool_call",
        "run_finished",
    ]


def test_lines_without_a_time_stay_in_the_order_in_which_they_were_recorded() -> None:
    lines = [
        leaf("tool_call", {"from": "line", "tool": str(n), "call": str(n)}, id=event_id(str(n))) for n in (3, 1, 2)
    ]

    assert [step.said("tool") for step in steps(arrived(lines)).steps] == ["3", "1", "2"]


def ended(*leaves: Leaf) -> Run:
    return steps(arrived(leaves))


def test_a_run_begins_with_its_first_root_and_ends_as_its_last_one_did() -> None:
    denied = [
        span("first", "run_finished", {"status": "handed_over"}, at=50),
        span("first", "run_started", derived=0, at=10),
        span("second", "run_finished", {"status": "failure"}, trace=OTHER_TRACE, at=95),
        span("second", "run_started", trace=OTHER_TRACE, derived=0, at=60),
    ]

    run = ended(*denied)

    assert (run.status, run.roots) == ("failure", 2)
    assert (run.started, run.ended) == ("2026-11-21T03:00:00.000010Z", "2026-11-21T03:00:00.000095Z")


def test_a_run_whose_root_never_came_is_a_run() -> None:
    run = ended(CHAT, TOOL)

    assert (run.status, run.started, run.ended, run.roots) == (None, None, None, 0)
    assert len(run.steps) == 2


def test_a_producers_own_word_about_the_run_goes_before_a_root_span() -> None:
    run = ended(AGENT, event("end", "run_finished", {"status": "failure"}, at=80))

    assert (run.status, run.roots, run.ended) == ("failure", 2, "2026-11-21T03:00:00.000090Z")


def test_no_entries_are_no_steps() -> None:
    assert ended() == Run((), None, None, None, 0)


def test_a_member_is_taken_from_the_best_entry_that_has_it() -> None:
    entries = [log("l", "chat", "model_call", {"input_tokens": 7, "output_tokens": 2}), CHAT]

    (step,) = steps(arrived(entries)).steps

    assert (step.entry.leaf.id, step.said("input_tokens"), step.said("output_tokens")) == (node("chat"), 5, 2)
    assert step.said("price") is None


def test_a_member_of_another_kind_is_not_the_steps_own() -> None:
    run = steps(
        arrived(
            [
                span("a", "delegation", {"to_agent": "forecast"}, parent="tool", at=7),
                span("tool", "tool_call", {"tool": "forecast", "call": "c"}, at=6),
            ]
        )
    )

    (step,) = run.steps
    assert (step.kind, step.said("to_agent"), step.said("call")) == ("delegation", "forecast", None)
