"""The twelve links: each kind of entry that shows one, and those that look like it and don't."""

from __future__ import annotations

import pytest

from ledger.leaf import Leaf
from projections.links import LINKS, Shown, links
from tests.projections.leaves import COMMITTED, LOG, leaf

AGENT = {"agent": "desk", "version": "1"}
SAID = {"reviewer": "p:1", "decision": "approve"}

SHOWS = [
    ("user_request", leaf("run_started", commit={"/request": COMMITTED})),
    ("agent_identity", leaf("run_started", actor=AGENT)),
    ("model_invocation", leaf("model_call")),
    ("retrieved_context", leaf("retrieval")),
    ("memory_reads_and_writes", leaf("memory_read")),
    ("memory_reads_and_writes", leaf("memory_write")),
    ("memory_reads_and_writes", leaf("memory_delete")),
    ("tool_selection", leaf("tool_selection", {"chosen": "orders.get"})),
    ("tool_execution", leaf("tool_call", {"phase": "finished", "status": "ok"})),
    ("tool_execution", leaf("tool_call", {"phase": "started"})),
    ("policy_decision", leaf("policy_decision", {"decision": "deny"})),
    ("human_approval", leaf("approval_decision", {"reviewer": "p:1", "reviewer_kind": "human", "decision": "edit"})),
    ("human_approval", leaf("approval_decision", {"reviewer": "p:1", "decision": "reject"})),
    ("final_action", leaf("final_action")),
    ("cost_and_latency", leaf("model_call", {"price": {"amount": "1"}, "latency_us": 5})),
    ("cost_and_latency", leaf("run_finished", {"cost_claimed": {"amount": "1"}, "total_latency_us": 5})),
    ("error_path", leaf("error", {"class": "x"})),
    ("error_path", leaf("retry")),
    ("error_path", leaf("rollback")),
    ("error_path", leaf("tool_call", {"phase": "finished", "status": "timeout"})),
    ("error_path", leaf("model_call", {"status": "error"})),
]

DOES_NOT_SHOW = [
    ("user_request", leaf("run_started"), "a run that names no request"),
    ("user_request", leaf("model_call", commit={"/request": COMMITTED}), "content of that name of another kind"),
    ("agent_identity", leaf("run_started", actor={"agent": "desk"}), "an agent without its version"),
    ("agent_identity", leaf("model_call", actor=AGENT), "an actor that no run began with"),
    ("tool_execution", leaf("tool_call", {"phase": "proposed"}), "a call that was only proposed"),
    ("tool_execution", leaf("tool_selection"), "a choice"),
    ("policy_decision", leaf("policy_decision", {"decision": "unknown"}), "a guardrail without a verdict"),
    ("human_approval", leaf("approval_request", {"approval": "a"}), "a question without an answer"),
    ("human_approval", leaf("approval_decision", {**SAID, "reviewer_kind": "system"}), "a machine"),
    ("human_approval", leaf("approval_decision", {"reviewer_kind": "human", "decision": "approve"}), "nobody"),
    ("human_approval", leaf("approval_decision", {"reviewer": "p:1"}), "an answer that nobody says"),
    ("human_approval", leaf("approval_decision", {**SAID, "decision": "perhaps"}), "an answer that is none"),
    ("final_action", leaf("run_finished", {"status": "success"}), "an end"),
    ("cost_and_latency", leaf("model_call", {"latency_us": 5}), "a latency alone"),
    ("cost_and_latency", leaf("model_call", {"price": {"amount": "1"}}), "a cost alone"),
    ("error_path", leaf("tool_call", {"phase": "finished", "status": "denied"}), "a denied call"),
]


@pytest.mark.parametrize(("name", "entry"), SHOWS)
def test_an_entry_shows_its_link(name: str, entry: Leaf) -> None:
    found = links([(7, entry)])[name]

    assert found.held
    assert found.shown == (Shown(LOG, 7, entry.kind),)


@pytest.mark.parametrize(("name", "entry", "what"), DOES_NOT_SHOW)
def test_what_only_looks_like_a_link_does_not_hold_it(name: str, entry: Leaf, what: str) -> None:
    assert not links([(0, entry)])[name].held, what


def test_the_links_are_twelve_and_an_empty_run_holds_none() -> None:
    found = links([])

    assert tuple(found) == LINKS
    assert len(LINKS) == 12
    assert not any(link.held or link.shown for link in found.values())


def test_a_link_with_two_aspects_is_held_by_two_entries_together_and_names_both() -> None:
    costs, takes = leaf("model_call", {"cost_claimed": {"amount": "1"}}), leaf("span", {"latency_us": 1})

    assert links([(1, costs)])["cost_and_latency"].shown == (Shown(LOG, 1, "model_call"),)
    both = links([(1, costs), (4, takes)])["cost_and_latency"]
    assert both.held
    assert [shown.index for shown in both.shown] == [1, 4]


def test_evidence_stands_in_the_order_given_and_with_its_own_log() -> None:
    other = leaf("retrieval", log="ledger.example.org/other")

    found = links([(9, leaf("retrieval")), (2, other)])["retrieved_context"]

    assert [(shown.log, shown.index) for shown in found.shown] == [(LOG, 9), ("ledger.example.org/other", 2)]
