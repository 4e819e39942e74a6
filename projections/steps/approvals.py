"""What was asked of somebody in a run, and what came of it: each approval once. Pure.

An approval is named by its id; where a runtime has none for it, the call's id stands in its place, or the call alone is
named: then it is the approval of that call. What a person answered is the last word that was told; two entries of one
approval that were not merged (two reviewers, two questions of other arguments) are still one approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from projections.reading import text
from projections.steps.run import Step
from projections.steps.told import approval_of

Answer = Literal["approved", "rejected", "expired", "undecided", "unanswered"]

_KINDS: Final = ("approval_request", "approval_decision")
# By the word of an approval_decision. An edit lets the call go on with other arguments.
ANSWERS: Final[dict[str, Answer]] = {
    "approve": "approved",
    "edit": "approved",
    "reject": "rejected",
    "expire": "expired",
}


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval of a run."""

    name: str  # its id, or its call's
    calls: frozenset[str]  # the calls that its entries name
    requests: tuple[Step, ...]  # none where it was asked in another run
    decisions: tuple[Step, ...]  # none where the run has no answer

    @property
    def answer(self) -> Answer:
        """The last word, a refusal where there are several at that time (the answers to one question about several
        calls); `undecided` where somebody answered and nobody said what."""
        if not self.decisions:
            return "unanswered"
        told = [
            (step.entry.leaf.time or "", answer == "rejected", answer)
            for step in self.decisions
            if (answer := ANSWERS.get(text(step.said("decision")) or "")) is not None
        ]
        return max(told)[2] if told else "undecided"


def approvals(steps: Sequence[Step]) -> tuple[Approval, ...]:
    """The approvals that these steps ask for or answer, by name."""
    found = [step for step in steps if step.kind in _KINDS]
    named = [(step, *_names(step)) for step in found]
    of_call: dict[str, str] = {}  # the approval that has an id of its own, of each call
    for _, approval, calls in named:
        for call in calls if approval is not None else ():
            of_call[call] = min(approval or "", of_call.get(call, approval or ""))
    gathered: dict[str, list[tuple[Step, frozenset[str]]]] = {}
    for step, approval, calls in named:
        first = min(calls, default=step.entry.leaf.id)
        name = approval or of_call.get(first, first)
        gathered.setdefault(name, []).append((step, calls))
    return tuple(
        Approval(
            name,
            frozenset().union(*(calls for _, calls in of_it)),
            tuple(step for step, _ in of_it if step.kind == "approval_request"),
            tuple(step for step, _ in of_it if step.kind == "approval_decision"),
        )
        for name, of_it in sorted(gathered.items())
    )


def _names(step: Step) -> tuple[str | None, frozenset[str]]:
    """The approval that a step names, if it has an id of its own, and the calls that its entries name."""
    told = [approval_of(entry.leaf) for entry in step.entries if entry.leaf.kind == step.kind]
    return (
        next((approval for approval, _ in told if approval is not None), None),
        frozenset(call for _, call in told if call is not None),
    )
