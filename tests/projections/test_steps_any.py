"""Laws of steps and totals, over any run: nothing is lost, and nothing depends on the order of arrival."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.leaf import Leaf
from projections.steps import WHYS, Run, steps, totals
from tests.projections.any_run import runs
from tests.projections.leaves import arrived

# An agent's span that is the run's own, a tool that is an agent, an error that is a refusal.
MIXED = (
    *({"delegation", "run_started"}, {"delegation", "run_finished"}, {"delegation", "tool_call"}),
    *({"error", "approval_decision"}, {"error", "tool_call"}, {"error", "delegation"}),
)


def shape(run: Run) -> Any:
    """What a run says, whatever the indexes."""
    told = [
        (
            step.entry.leaf.id,
            sorted((one.entry.leaf.id, one.why) for one in step.merged),
            None if step.within is None else run.steps[step.within].entry.leaf.id,
            step.total,
        )
        for step in run.steps
    ]
    return sorted(told, key=str), run.status, run.started, run.ended, run.roots


@given(runs())
def test_each_entry_is_a_step_or_merged_into_one_exactly_once(leaves: list[Leaf]) -> None:
    entries = arrived(leaves)

    run = steps(entries)

    told = [entry.index for step in run.steps for entry in step.entries]
    assert sorted(told) == [index for index, _ in entries]
    assert {one.why for step in run.steps for one in step.merged} <= set(WHYS)


@given(runs(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_step_and_no_total(leaves: list[Leaf], random: Any) -> None:
    other = list(leaves)
    random.shuffle(other)

    assert shape(steps(arrived(other))) == shape(steps(arrived(leaves)))
    assert totals(arrived(other)) == totals(arrived(leaves))


@given(runs(), st.data())
def test_what_comes_twice_counts_once(leaves: list[Leaf], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(leaves), max_size=5)) if leaves else []

    run = steps(arrived([*leaves, *again]))

    assert totals(arrived([*leaves, *again])) == totals(arrived(leaves))
    assert Counter(one.why for step in run.steps for one in step.merged)["same_event"] >= len(again)
    assert len(run.steps) == len(steps(arrived(leaves)).steps)


@given(runs())
def test_only_agents_mix_kinds_and_totals_hold_several(leaves: list[Leaf]) -> None:
    run = steps(arrived(leaves))

    for at, step in enumerate(run.steps):
        for one in step.merged:
            assert one.entry.leaf.kind == step.kind or {one.entry.leaf.kind, step.kind} in MIXED
        inside = [other for other in run.steps if other.within == at]
        assert step.total == bool(inside)
        assert not inside or len(inside) > 1
        assert not inside or step.kind == "model_call"


@given(runs())
def test_no_total_exceeds_what_all_entries_say_together(leaves: list[Leaf]) -> None:
    found = totals(arrived(leaves))

    for name, sum_ in found.tokens.items():
        said = [leaf.data[name] for leaf in leaves if leaf.kind == "model_call" and type(leaf.data.get(name)) is int]
        assert 0 <= sum_ <= sum(number for number in said if number > 0)
    assert found.model_calls <= sum(1 for leaf in leaves if leaf.kind == "model_call")
    calls = [leaf for leaf in leaves if leaf.kind == "tool_call"]
    answered = [leaf for leaf in leaves if leaf.kind.startswith("approval_")]
    assert found.tool_calls + found.tool_calls_denied <= len(calls) + len(answered)
    assert found.tool_calls_denied <= len(calls) or found.approvals.rejected
    assert found.errors <= sum(1 for leaf in leaves if leaf.kind in ("error", "model_call", "tool_call"))
