"""What a run comes to, counted once, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest

from ledger.leaf import Leaf
from projections.steps import Approvals, Totals, totals
from tests.projections.leaves import arrived, event, event_id, log, span

USD = "USD"


def of(*leaves: Leaf) -> Totals:
    return totals(arrived(leaves))


def money(amount: str, currency: str = USD) -> dict[str, str]:
    return {"amount": amount, "currency": currency}


def test_tokens_of_a_log_and_its_span_count_once_and_the_fuller_of_them_counts() -> None:
    told = {"input_tokens": 11, "output_tokens": 7}
    fuller = {**told, "cache_read_tokens": 3, "price": money("0.5")}

    found = of(span("c", "model_call", told, parent="a"), log("l", "c", "model_call", fuller))

    assert found.tokens == {"input_tokens": 11, "output_tokens": 7, "cache_read_tokens": 3}
    assert found.cost.priced == {USD: Decimal("0.5")}
    assert (found.model_calls, found.model_calls_unpriced) == (1, 0)


@pytest.mark.parametrize(
    ("inner", "tokens", "priced"),
    [
        ([{"input_tokens": 4, "price": money("0.4")}, {"input_tokens": 5, "price": money("0.5")}], 9, "0.9"),
        ([{"input_tokens": 4, "price": money("0.4")}, {}], 4, "0.4"),
        ([{}, {}], 10, "1"),
    ],
    ids=["all inner calls say", "one inner call says", "no inner call says"],
)
def test_a_total_counts_only_where_nothing_inside_it_does(
    inner: list[dict[str, Any]], tokens: int, priced: str
) -> None:
    total = span("outer", "model_call", {"input_tokens": 10, "price": money("1")}, at=0)
    calls = [span(f"i{n}", "model_call", data, parent="outer", at=n + 1) for n, data in enumerate(inner)]

    found = of(*calls, total)

    assert found.tokens == {"input_tokens": tokens}
    assert found.cost.priced == {USD: Decimal(priced)}
    assert found.model_calls == 2


def test_a_span_that_came_twice_tells_no_more_than_once() -> None:
    outer = span("outer", "model_call", {"input_tokens": 4, "output_tokens": 2})
    beside = log("l", "outer", "model_call", {"input_tokens": 4, "cache_read_tokens": 3})
    leaves = [outer, beside, span("inner", "model_call", parent="outer", at=1)]

    assert of(*leaves) == of(*leaves, outer)


def test_totals_of_totals_count_once() -> None:
    leaves = [
        span("top", "model_call", {"input_tokens": 100, "cost_claimed": money("7")}),
        span("left", "model_call", {"input_tokens": 60}, parent="top", at=1),
        span("l1", "model_call", {"input_tokens": 20}, parent="left", at=2),
        span("l2", "model_call", {"input_tokens": 30}, parent="left", at=3),
        span("right", "model_call", {"input_tokens": 40}, parent="top", at=4),
    ]

    found = of(*leaves)

    assert found.tokens == {"input_tokens": 90}
    assert found.cost.claimed == {USD: Decimal(7)}
    assert found.model_calls == 3


def test_currencies_prices_and_claims_are_sums_of_their_own_and_exact() -> None:
    huge, tiny = "9" * 38, "0." + "0" * 36 + "1"
    leaves = [
        event("m1", "model_call", {"input_tokens": 1, "price": money(huge), "cost_claimed": money("1.10", "EUR")}),
        event("m2", "model_call", {"input_tokens": 1, "price": money(tiny), "cost_claimed": money("2")}, at=1),
        event("t", "tool_call", {"call": "c", "tool": "t", "phase": "finished", "cost": money("0.3")}, at=2),
        event("end", "run_finished", {"cost_claimed": money("99")}, at=3),
    ]

    cost = of(*leaves).cost

    assert f"{cost.priced[USD]:f}" == huge + tiny[1:]
    assert cost.claimed == {"EUR": Decimal("1.10"), USD: Decimal(2)}
    assert (cost.tools, cost.whole) == ({USD: Decimal("0.3")}, {USD: Decimal(99)})


def test_a_tool_call_is_counted_when_it_ran() -> None:
    def call(name: str, phase: str, **data: Any) -> Leaf:
        return event(f"{name} {phase}", "tool_call", {"call": name, "tool": "t", "phase": phase, **data})

    leaves = [
        *(call("whole", "proposed"), call("whole", "started"), call("whole", "finished", latency_us=5)),
        *(call("broken off", "started"), call("only proposed", "proposed")),
        *(call("denied", "proposed"), call("denied", "finished", status="denied", latency_us=100)),
        span("span", "tool_call", {"tool": "t", "latency_us": 7}),
    ]

    found = of(*leaves)

    assert (found.tool_calls, found.tool_calls_denied, found.tool_latency_us) == (3, 1, 12)


NO = {"call": "c1", "decision": "reject"}
ASKED = {"approval": "c1", "call": "c1"}


@pytest.mark.parametrize(
    ("what", "leaves", "denied", "ran"),
    [
        ("a span tells the answer", [span("s", "approval_decision", {"approval": "c1", **NO}, derived=0)], 1, 0),
        ("a helper does", [log("l", None, "approval_decision", {"approval": "a1", **NO})], 1, 0),
        (
            "both do",
            [
                span("s", "approval_decision", {"approval": "c1", **NO}, derived=0),
                log("l", None, "approval_decision", {"approval": "a1", **NO}),
            ],
            1,
            0,
        ),
        (
            "the span doesn't say what was decided",
            [
                span("s", "approval_decision", ASKED, derived=0),
                log("l", None, "approval_decision", {"approval": "a1", **NO}),
            ],
            1,
            0,
        ),
        (
            "the call is told as denied as well",
            [
                log("l", None, "approval_decision", {"approval": "a1", **NO}),
                span("t", "tool_call", {"call": "c1", "status": "denied"}),
            ],
            1,
            0,
        ),
        (
            "only the question names the call, which was proposed",
            [
                log("q", None, "approval_request", {"approval": "a1", "call": "c1"}),
                log("l", None, "approval_decision", {"approval": "a1", "decision": "reject"}),
                event("t", "tool_call", {"call": "c1", "phase": "proposed"}),
            ],
            1,
            0,
        ),
        ("no call is named", [span("s", "approval_decision", {"approval": "i1", "decision": "reject"})], 1, 0),
        (
            "it ran all the same",
            [
                log("l", None, "approval_decision", {"approval": "a1", **NO}),
                span("t", "tool_call", {"call": "c1", "status": "ok"}),
            ],
            0,
            1,
        ),
        ("nobody said what was decided", [span("s", "approval_decision", ASKED, derived=0)], 0, 0),
    ],
)
def test_a_call_whose_approval_was_refused_is_denied_once(what: str, leaves: list[Leaf], denied: int, ran: int) -> None:
    found = of(*leaves)

    assert (found.tool_calls_denied, found.tool_calls) == (denied, ran), what


def test_approvals_are_counted_by_the_last_word_on_each() -> None:
    def decided(approval: str, decision: str | None, at: int = 0, **more: Any) -> Leaf:
        said = {} if decision is None else {"decision": decision}
        return event(f"{approval} {at}", "approval_decision", {"approval": approval, **said, **more}, at=at)

    leaves = [
        *(event(f"q{n}", "approval_request", {"approval": f"a{n}", "call": f"c{n}"}) for n in range(6)),
        span("again", "approval_request", {"approval": "c0", "call": "c0"}, derived=0),  # the same as a0
        *(decided("a1", "approve"), decided("a2", "edit"), decided("a3", "expire"), decided("a4", None)),
        *(decided("a5", "approve", 1, reviewer="p:1"), decided("a5", "reject", 2, reviewer="p:2")),
        decided("asked in another run", "approve"),
    ]

    assert of(*leaves).approvals == Approvals(asked=6, approved=3, rejected=1, expired=1, undecided=1, unanswered=1)


@pytest.mark.parametrize("answers", [("approve", "reject"), ("reject", "approve")])
def test_one_question_that_was_answered_both_ways_at_once_was_refused(answers: tuple[str, str]) -> None:
    leaves = [
        span("resumed", "approval_decision", {"approval": "i1", "decision": decision}, derived=n)
        for n, decision in enumerate(answers)
    ]

    assert (of(*leaves).approvals.rejected, of(*leaves).approvals.approved) == (1, 0)


def test_a_failure_is_one_error_whether_or_not_it_was_told_as_one() -> None:
    leaves = [
        event("m1", "model_call", {"status": "error"}),
        event("e1", "error", {"class": "E", "of": event_id("m1")}, at=1),
        event("m2", "model_call", {"status": "timeout"}, at=2),
        span("t", "tool_call", {"tool": "t", "status": "error"}, parent="agent", at=3),
        span("t", "error", {"class": "E"}, parent="agent", derived=0, came_from="span_event", at=4),
        span("agent", "error", {"class": "E"}, derived=0, came_from="span_event", at=5),
    ]

    assert of(*leaves).errors == 3


def test_an_attempt_that_is_told_as_a_retry_and_by_the_call_counts_once() -> None:
    def tool(attempt: int) -> Leaf:
        data = {"call": "c", "tool": "t", "phase": "finished", "attempt": attempt}
        return event(f"t{attempt}", "tool_call", data, at=attempt)

    leaves = [
        *(tool(1), tool(2), tool(3)),
        event("r2", "retry", {"of": event_id("t1"), "attempt": 2}),
        event("r3", "retry", {"of": event_id("t1"), "attempt": 3}),
        *(event("m1", "model_call", {"attempt": 1}), event("m2", "model_call", {"attempt": 2})),
        event("rm", "retry", {"of": event_id("m1"), "attempt": 2}),
        event("rx", "retry", {"of": "something else", "attempt": 2}),
    ]

    assert of(*leaves).retries == 4


def test_latency_is_that_of_calls_and_time_that_of_the_run() -> None:
    leaves = [
        span("m", "model_call", {"latency_us": 30}, parent="a", at=10),
        log("l", "m", "model_call", {"latency_us": 30}),
        span("a", "run_finished", {"total_latency_us": 95}, at=100),
        span("a", "run_started", derived=0, at=5),
    ]

    found = of(*leaves)

    assert (found.model_latency_us, found.elapsed_us, found.latency_claimed_us) == (30, 95, 95)
    assert of(leaves[0]).elapsed_us is None


def test_nothing_comes_to_nothing() -> None:
    found = of()

    assert (found.model_calls, found.tool_calls, found.errors, found.retries) == (0, 0, 0, 0)
    assert found.tokens == {}
    assert found.elapsed_us is None


def test_as_json_money_is_text() -> None:
    found = of(span("m", "model_call", {"input_tokens": 2, "price": money("0.000000010")})).as_json()

    assert orjson.loads(orjson.dumps(found)) == found
    assert found["cost"] == {"priced": {USD: "0.000000010"}, "claimed": {}, "tools": {}, "whole": {}}
    assert (found["model_calls"], found["tokens"]) == (1, {"input_tokens": 2})
    nothing = ("asked", "approved", "rejected", "expired", "undecided", "unanswered")
    assert found["approvals"] == dict.fromkeys(nothing, 0)
