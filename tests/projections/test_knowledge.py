"""What is known of a run: reported, inferred and by which rule, missing; what was dropped."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from ledger.leaf import Leaf
from projections.inference import RULES
from projections.knowledge import Disagreement, Dropped, Known, Member, knowledge
from projections.links import LINKS, links
from projections.steps import totals
from tests.projections.any_run import runs
from tests.projections.leaves import COMMITTED, arrived, event, leaf, log, node, span

AGENT = {"agent": "desk", "version": "1"}
HUMAN = {"approval": "a", "decision": "reject", "reviewer": "p:1", "reviewer_kind": "human"}
MONEY = {"amount": "1", "currency": "USD"}


def known(link: str, *leaves: Leaf) -> Known:
    return knowledge(arrived(leaves)).links[link]


def refs(**said: str) -> dict[str, Any]:
    return {"refs": [{"what": what, "id": id} for what, id in said.items()]}


# link, the entries, its state, the rules, what it lacks
KNOWN = [
    ("user_request", [event("s", "run_started", commit={"/request": COMMITTED})], "reported", [], []),
    (
        "user_request",
        [span("s", "run_started", derived=0, commit={"/request": COMMITTED})],
        "inferred",
        ["root_span"],
        [],
    ),
    ("user_request", [span("m", "model_call", commit={"/messages": COMMITTED})], "inferred", ["model_messages"], []),
    ("agent_identity", [event("s", "run_started", actor=AGENT)], "reported", [], []),
    ("agent_identity", [span("s", "run_started", derived=0, actor=AGENT)], "inferred", ["root_span"], []),
    ("agent_identity", [event("s", "run_started", actor={"agent": "desk"})], "reported", [], ["version"]),
    ("agent_identity", [span("m", "model_call", actor=AGENT)], "inferred", ["step_actor"], []),
    (
        "agent_identity",
        [event("s", "run_started", actor={"agent": "desk"}), span("m", "model_call", actor=AGENT)],
        "inferred",
        ["step_actor"],
        [],
    ),
    ("model_invocation", [span("m", "model_call")], "reported", [], []),
    ("model_invocation", [log("l", "m", "model_call")], "reported", [], []),
    ("retrieved_context", [span("r", "retrieval", {"store": "s"})], "reported", [], []),
    ("memory_reads_and_writes", [span("r", "memory_read", {"store": "s"})], "reported", [], []),
    ("tool_selection", [event("t", "tool_selection", {"chosen": "x"})], "reported", [], []),
    ("tool_selection", [span("m", "tool_selection", {"chosen": "x"}, derived=0)], "inferred", ["output_messages"], []),
    ("tool_selection", [span("t", "tool_call", {"tool": "x"})], "inferred", ["tool_called"], []),
    ("tool_execution", [span("t", "tool_call", {"tool": "x", "status": "ok"})], "reported", [], []),
    ("policy_decision", [span("g", "policy_decision", {"decision": "allow"})], "reported", [], []),
    ("human_approval", [event("a", "approval_decision", HUMAN)], "reported", [], []),
    (
        "human_approval",
        [span("a", "approval_decision", {"approval": "a", "missing": ["decision"]}, derived=0)],
        "inferred",
        ["answered_call"],
        ["decision", "reviewer"],
    ),
    (
        "human_approval",
        [span("a", "approval_decision", {"approval": "a", "decision": "reject"}, derived=0)],
        "inferred",
        ["answered_call"],
        ["reviewer"],
    ),
    (
        "human_approval",
        [span("a", "approval_decision", {**HUMAN, **refs(mapping_rule="refused_call")})],
        "inferred",
        ["refused_call"],
        [],
    ),
    ("final_action", [event("f", "final_action")], "reported", [], []),
    ("cost_and_latency", [event("m", "model_call", {"cost_claimed": MONEY, "latency_us": 1})], "reported", [], []),
    (
        "cost_and_latency",
        [span("m", "model_call", {"price": MONEY, "latency_us": 1})],
        "inferred",
        ["price_table", "span_times"],
        [],
    ),
    ("cost_and_latency", [span("m", "model_call", {"latency_us": 1})], "inferred", ["span_times"], ["cost"]),
    ("cost_and_latency", [event("m", "model_call", {"price": MONEY})], "inferred", ["price_table"], ["latency"]),
    ("error_path", [span("t", "error", {"class": "E"}, derived=0, came_from="span_event")], "reported", [], []),
    ("error_path", [span("t", "error", derived=0)], "inferred", ["span_status"], []),
    ("error_path", [span("t", "tool_call", {"status": "error"})], "inferred", ["span_status"], []),
    ("error_path", [event("t", "retry", {"of": "x", "attempt": 2})], "reported", [], []),
]
PRICED = event("priced", "model_call", {"price": MONEY, "latency_us": 1})
ALL = {"cost_claimed": MONEY}
INNER = [span(f"i{n}", "model_call", parent="o", at=n) for n in (1, 2)]


@pytest.mark.parametrize(
    ("what", "others", "lacks"),
    [
        ("another call without any cost", [event("m", "model_call")], ("cost_of_each_call",)),
        ("another call that claims one", [event("m", "model_call", ALL)], ()),
        ("the run's end claims one for all", [event("m", "model_call"), event("e", "run_finished", ALL)], ()),
        ("calls in a total that has one", [span("o", "model_call", ALL), *INNER], ()),
        (
            "calls in a total that has one, which doesn't count, since a call in it has one too",
            [span("o", "model_call", ALL), *INNER, span("i3", "model_call", ALL, parent="o", at=3)],
            ("cost_of_each_call",),
        ),
        (
            "calls in a total in a total that has one",
            [
                span("top", "model_call", ALL),
                span("o", "model_call", parent="top"),
                span("beside", "model_call", parent="top"),
                *INNER,
            ],
            (),
        ),
    ],
)
def test_the_cost_of_some_calls_is_not_that_of_the_run(what: str, others: list[Leaf], lacks: tuple[str, ...]) -> None:
    assert known("cost_and_latency", PRICED, *others).lacks == lacks, what


MISSING = [
    ("policy_decision", [span("g", "policy_decision", {"decision": "unknown"})], "a guardrail that says no verdict"),
    ("policy_decision", [span("t", "tool_call", {"status": "denied"})], "a denied call"),
    ("human_approval", [event("q", "approval_request", {"approval": "a"})], "a question"),
    ("human_approval", [event("a", "approval_decision", {**HUMAN, "reviewer_kind": "system"})], "a machine's answer"),
    ("final_action", [span("r", "run_finished", {"status": "success"})], "an end"),
    ("user_request", [span("e", "model_call", {"operation": "embedding"}, commit={"/messages": COMMITTED})], "a text"),
    ("memory_reads_and_writes", [span("r", "retrieval", {"store": "s"})], "a retrieval"),
    ("error_path", [span("t", "tool_call", {"status": "ok"})], "a call that went well"),
]


@pytest.mark.parametrize(("link", "leaves", "state", "rules", "lacks"), KNOWN)
def test_a_link_is_known_as_well_as_it_was_said(
    link: str, leaves: list[Leaf], state: str, rules: list[str], lacks: list[str]
) -> None:
    found = known(link, *leaves)

    assert (found.state, list(found.rules), list(found.lacks)) == (state, rules, lacks)
    assert found.entries
    assert set(found.entries) <= set(range(len(leaves)))


@pytest.mark.parametrize(("link", "leaves", "what"), MISSING)
def test_what_nobody_said_is_missing(link: str, leaves: list[Leaf], what: str) -> None:
    assert known(link, *leaves).state == "missing", what


def test_all_twelve_are_missing_of_a_run_without_entries() -> None:
    found = knowledge([])

    assert tuple(found.links) == LINKS
    assert {(one.state, one.entries) for one in found.links.values()} == {("missing", ())}
    assert (found.members, found.missing, found.dropped, found.unmapped, found.pending) == ((), {}, (), (), ())


def test_one_plain_word_is_enough_to_be_reported() -> None:
    leaves = [span("m", "tool_selection", {"chosen": "x"}, derived=0), event("t", "tool_selection", {"chosen": "x"})]

    found = known("tool_selection", *leaves)

    assert (found.state, found.rules, found.entries) == ("reported", (), (0, 1))


def test_interrupts_and_what_else_spans_imply_are_told_from_what_is_said() -> None:
    found = knowledge(
        arrived(
            [
                span("t", "tool_call", {"status": "error", "latency_us": 5, "tool": "x", "call": "c"}),
                span("u", "tool_call", {"tool": "x"}, at=1),
                event("m", "model_call", {"status": "ok", "latency_us": 5, "price": MONEY}, at=2),
            ]
        )
    )

    assert found.members == (
        Member("model_call.price", "price_table", (2,)),
        Member("tool_call.call", "own_id", (1,)),
        Member("tool_call.latency_us", "span_times", (0,)),
        Member("tool_call.status", "span_status", (0,)),
    )


def test_a_required_member_is_missing_of_a_step_if_none_of_its_entries_has_it() -> None:
    told = [
        span("m", "model_call", {"missing": ["model", "provider"]}),
        log("l", "m", "model_call", {"provider": "openai", "missing": ["model"]}),
        span("other", "model_call", {"model": "x", "missing": ["provider"]}, at=1),
    ]

    assert knowledge(arrived(told)).missing == {"model_call.model": (0,), "model_call.provider": (2,)}


def test_a_decision_is_not_missing_where_the_same_answer_was_told_with_it() -> None:
    undecided = {"approval": "c1", "call": "c1", "missing": ["decision"]}
    decided = {"approval": "a1", "call": "c1", "decision": "approve", "reviewer": "p:1"}
    told = [span("resumed", "approval_decision", undecided, derived=0)]

    assert knowledge(arrived(told)).missing == {"approval_decision.decision": (0,)}
    told.append(log("human", None, "approval_decision", decided))
    assert knowledge(arrived(told)).missing == {}


def test_a_question_without_an_answer_is_pending() -> None:
    asked = {"approval": "a1", "call": "c1"}
    told = [
        span("r", "approval_request", {"approval": "c1", "call": "c1"}, derived=0),
        log("q", None, "approval_request", asked),
        log("other", None, "approval_request", {"approval": "a2", "call": "c2"}, at=1),
        log("n", None, "approval_decision", {"approval": "a2", "decision": "expire", "reviewer_kind": "system"}, at=2),
    ]

    found = knowledge(arrived(told))
    assert (found.pending, found.links["human_approval"].state) == ((1,), "missing")
    told.append(span("s", "approval_decision", {"approval": "c1", "call": "c1"}, derived=0, at=3))  # undecided
    assert knowledge(arrived(told)).pending == ()


def test_what_was_dropped_is_summed_once_a_span_and_gaps_with_it() -> None:
    gone = refs(dropped_attributes="3", dropped_events="1", something_else="9")
    told = [
        span("m", "model_call", gone),
        span("m", "tool_selection", {"chosen": "x", **gone}, derived=0),
        log("l", "m", "model_call", refs(dropped_attributes="2")),
        span("n", "span", refs(dropped_links="many"), at=1),
        leaf("producer_gap", {"src": "x", "from": 4, "to": 6}, id=node("g1"), time="2026-11-21T04:00:00.000000Z"),
        leaf("producer_gap", {"src": "x", "from": 9, "to": 30, "count": 5}, id=node("g2")),
    ]

    assert knowledge(arrived(told)).dropped == (
        Dropped("dropped_attributes", 5, (0, 1, 2)),
        Dropped("dropped_events", 1, (0, 1)),
        Dropped("dropped_links", None, (3,)),
        Dropped("events", 8, (4, 5)),
    )


def test_what_has_no_member_of_ours_is_said_to_be_kept() -> None:
    told = [span("a", "span", commit={"/raw": COMMITTED}), span("b", "model_call", commit={"/messages": COMMITTED})]

    assert knowledge(arrived(told)).unmapped == (0,)


@given(runs())
def test_a_link_that_is_held_is_known_and_whatever_is_said_names_entries_of_the_run(leaves: list[Leaf]) -> None:
    entries = arrived(leaves)
    found = knowledge(entries)
    held = links(entries)

    indexes = {index for index, _ in entries}
    for name, one in found.links.items():
        assert set(one.entries) <= indexes
        assert (one.state == "missing") == (not one.entries)
        assert (one.state == "inferred") == bool(one.rules)
        assert set(one.rules) <= set(RULES)
        if held[name].held:
            assert one.state != "missing"
            assert one.lacks == () or (name, one.lacks) == ("cost_and_latency", ("cost_of_each_call",))
        assert {shown.index for shown in held[name].shown} <= set(one.entries)
    assert {index for one in found.members for index in one.entries} <= indexes
    asked = {index for index, leaf in entries if leaf.kind == "approval_request"}
    assert set(found.pending) <= asked
    assert not asked or found.pending or any(leaf.kind == "approval_decision" for leaf in leaves)
    assert orjson.loads(orjson.dumps(found.as_json())) == found.as_json()


@given(runs())
def test_the_order_of_arrival_changes_no_knowledge(leaves: list[Leaf]) -> None:
    def told(order: list[Leaf]) -> Any:
        found = knowledge(arrived(order))
        ids = [one.id for one in order]
        return (
            {
                name: (one.state, one.rules, one.lacks, {ids[at] for at in one.entries})
                for name, one in found.links.items()
            },
            {(one.name, one.rule): {ids[at] for at in one.entries} for one in found.members},
            {name: {ids[at] for at in indexes} for name, indexes in found.missing.items()},
            {one.what: {ids[at] for at in one.entries} for one in found.dropped},
            {ids[at] for at in found.pending},
        )

    assert told(leaves[::-1]) == told(leaves)


def test_what_two_logs_of_one_call_say_differently_is_told_and_one_of_them_counts() -> None:
    mine = {"input_tokens": 11, "output_tokens": 7, "cost_claimed": {"amount": "0.5", "currency": "USD"}}
    told = [
        log("l1", "m", "model_call", {**mine, "output_tokens": 8}),
        log("l2", "m", "model_call", {"input_tokens": 99, "output_tokens": 7}),
        span("m", "model_call", mine, at=1),
    ]

    assert knowledge(arrived(told)).disagreements == (
        Disagreement("model_call.input_tokens", 2, (0, 1, 2)),
        Disagreement("model_call.output_tokens", 2, (0, 1, 2)),
    )
    assert totals(arrived(told)).tokens == {"input_tokens": 11, "output_tokens": 7}
    assert knowledge(arrived(told[1:2])).disagreements == ()


def test_what_two_instrumentations_of_one_call_say_differently_is_told_and_what_they_agree_on_is_not() -> None:
    told = [
        span("outer", "model_call", {"input_tokens": 11, "output_tokens": 7}),
        span("inner", "model_call", {"input_tokens": 12, "output_tokens": 7, "cache_read_tokens": 4}, parent="outer"),
    ]

    assert knowledge(arrived(told)).disagreements == (Disagreement("model_call.input_tokens", 1, (0, 1)),)
    assert totals(arrived(told)).tokens["input_tokens"] == 12
