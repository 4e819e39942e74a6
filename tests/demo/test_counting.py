"""What the demo counts: only what the entries say, and nothing twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tallystick.demo import counting
from tallystick.demo.shop import Payment
from tests.projections.test_links import leaf


def call(phase: str, call: str = "c1", action: str = "refund", amount: str | None = "12.90", **more: Any) -> Any:
    effect = {"effect": {"action": action, "amount": amount}} if amount is not None else {}
    return leaf("tool_call", {"tool": "pay", "phase": phase, "call": call, **effect, **more})


def payment(key: str, amount: str = "12.90") -> Payment:
    return Payment(f"pay-{key}", key, "refund", "A-1", Decimal(amount))


def test_money_is_what_finished_well_and_phases_count_once() -> None:
    leaves = [
        call("proposed"),
        call("started"),
        call("finished", status="timeout", amount=None),
        call("finished", status="timeout"),
        call("finished", status="ok"),
        call("finished", "c2", "reverse", "12.90", status="ok"),
        leaf("final_action", {"effect": {"action": "refund", "amount": "12.90"}}),
        leaf("rollback", {"effect": {"action": "reverse", "amount": "12.90"}}),
    ]

    moved = counting.moved(leaves)

    assert moved == {"refund": Decimal("12.90"), "reverse": Decimal("12.90")}
    assert counting.net(moved) == 0


def test_of_a_call_that_says_no_effect_the_final_action_counts_once() -> None:
    told = leaf("final_action", {"call": "c1", "effect": {"action": "refund", "amount": "8.50"}})

    assert counting.moved([call("finished", amount=None, status="ok"), told]) == {"refund": Decimal("8.50")}
    assert counting.moved([call("finished", amount="8.50", status="ok"), told]) == {"refund": Decimal("8.50")}


def test_the_three_questions_are_answered_from_what_is_about_the_call() -> None:
    done = call("finished", status="ok", **{"from": "span"})
    allowed = {"decision": "allow", "rule": "small", "bundle": "sha256:0123456789"}
    policy = leaf("policy_decision", {"call": "c1", **allowed})

    assert counting.answers([done, policy], "c1") == {
        "principal": "",
        "policy": "rule small of sha256:01234567…",
        "evidence": "pay ok, told by its own span",
    }
    assert counting.answers([done, policy], "c2") == {"principal": "", "policy": "", "evidence": ""}


def test_a_payment_counts_as_announced_only_if_its_start_stands_before_its_end() -> None:
    good = [call("started"), call("finished", status="ok")]

    assert counting.announced(good, [payment("c1")])
    assert not counting.announced(good[::-1], [payment("c1")])
    assert not counting.announced(good, [payment("c1"), payment("c2")])
    assert not counting.announced(good[1:], [payment("c1")])
    assert not counting.announced(good, [])


def test_approved_arguments_must_be_those_executed() -> None:
    asked = leaf("approval_request", {"call": "c1", "arguments": "hmac-sha256:1"})

    assert counting.approved_as_executed([asked, call("started", arguments="hmac-sha256:1")])
    assert not counting.approved_as_executed([asked, call("started", arguments="hmac-sha256:2")])
    assert not counting.approved_as_executed([asked, call("started")])
    assert not counting.approved_as_executed([asked])


def test_cost_is_summed_by_the_ledgers_price_and_by_the_claim() -> None:
    calls = [
        leaf("model_call", {"price": {"amount": "0.0004"}, "cost_claimed": {"amount": "0.0005"}}),
        leaf("model_call", {"cost_claimed": {"amount": "0.1"}}),
    ]

    assert counting.cost(calls) == (Decimal("0.0004"), Decimal("0.1005"))
