"""The twelve links of a run: which of them its entries hold, and which entries show it. Pure.

A link has up to three aspects; it is held when each of them is shown by at least one entry. So `cost_and_latency` needs
a cost and a latency, in one entry or in two, and what is there of a link that isn't held is still given. How far the
runtime said it, and how far it was inferred: `knowledge`.

Guarantees: only public members of leaves decide, so erasing content changes no link; whether a content field was
recorded is read from the leaf's commitment. Does not: judge whether the evidence is enough, true, or vouched for by
more than the runtime; a held link says that something of the kind is on the record.

Source: docs/kinds.md; the list is R1 of the requirements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ledger.leaf import Leaf
from projections.reading import text
from projections.steps.approvals import ANSWERS

Test = Callable[[Leaf], bool]


@dataclass(frozen=True, slots=True, order=True)
class Shown:
    """An entry that shows a link."""

    log: str
    index: int
    kind: str


def _of_kind(*kinds: str) -> Test:
    wanted = frozenset(kinds)
    return lambda leaf: leaf.kind in wanted


def _is_request(leaf: Leaf) -> bool:
    return leaf.kind == "run_started" and "/request" in (leaf.commit or {})


def _begins_with(member: str) -> Test:
    """A run's beginning whose actor says this."""
    return lambda leaf: leaf.kind == "run_started" and member in (leaf.actor or {})


def _is_execution(leaf: Leaf) -> bool:
    return leaf.kind == "tool_call" and leaf.data.get("phase") in ("started", "finished")


def _is_verdict(leaf: Leaf) -> bool:
    return leaf.kind == "policy_decision" and leaf.data.get("decision") not in (None, "unknown")


def _is_human_answer(leaf: Leaf) -> bool:
    return leaf.kind == "approval_decision" and leaf.data.get("reviewer_kind") != "system"


def _says_answer(leaf: Leaf) -> bool:
    return _is_human_answer(leaf) and text(leaf.data.get("decision")) in ANSWERS


def _names_reviewer(leaf: Leaf) -> bool:
    return _is_human_answer(leaf) and "reviewer" in leaf.data


def _has_cost(leaf: Leaf) -> bool:
    return any(name in leaf.data for name in ("price", "cost_claimed", "cost"))


def _has_latency(leaf: Leaf) -> bool:
    return any(name in leaf.data for name in ("latency_us", "total_latency_us"))


def _is_failure(leaf: Leaf) -> bool:
    failed = leaf.kind in ("model_call", "tool_call") and leaf.data.get("status") in ("error", "timeout")
    return failed or leaf.kind in ("error", "retry", "rollback")


ASPECTS: Final[Mapping[str, Mapping[str, Test]]] = {
    "user_request": {"request": _is_request},
    "agent_identity": {"agent": _begins_with("agent"), "version": _begins_with("version")},
    "model_invocation": {"call": _of_kind("model_call")},
    "retrieved_context": {"retrieval": _of_kind("retrieval")},
    "memory_reads_and_writes": {"access": _of_kind("memory_read", "memory_write", "memory_delete")},
    "tool_selection": {"choice": _of_kind("tool_selection")},
    "tool_execution": {"execution": _is_execution},
    "policy_decision": {"verdict": _is_verdict},
    "human_approval": {"answer": _is_human_answer, "decision": _says_answer, "reviewer": _names_reviewer},
    "final_action": {"action": _of_kind("final_action")},
    "cost_and_latency": {"cost": _has_cost, "latency": _has_latency},
    "error_path": {"failure": _is_failure},
}
LINKS: Final = tuple(ASPECTS)


@dataclass(frozen=True, slots=True)
class Link:
    """One of LINKS: whether it is held, and the entries that show it or a part of it, in the order they were given."""

    name: str
    held: bool
    shown: tuple[Shown, ...]


def links(entries: Iterable[tuple[int, Leaf]]) -> dict[str, Link]:
    """Every one of LINKS, in that order, over entries given as (index, leaf): of one run, or of several together."""
    given = [(Shown(leaf.log, index, leaf.kind), leaf) for index, leaf in entries]
    found: dict[str, Link] = {}
    for name, aspects in ASPECTS.items():
        shown = tuple(place for place, leaf in given if any(test(leaf) for test in aspects.values()))
        held = all(any(test(leaf) for _, leaf in given) for test in aspects.values())
        found[name] = Link(name, held, shown)
    return found
