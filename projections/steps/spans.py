"""What a span, its events and its logs tell several times; several roots of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from projections.steps.merging import Merging, alive, groups
from projections.steps.told import FROM_OTLP, Told
from schemas.canonical import canonical_bytes

TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

# Kinds that a span has as a whole; what a log or a span event says of the same is merged into it. The members beside a
# kind tell two of them at one span apart: if both say one, it has to be the same.
_OF_SPANS: Final[Mapping[str, tuple[str, ...]]] = {
    "model_call": (),
    "tool_call": ("tool", "phase", "attempt"),
    "retrieval": ("store",),
    "memory_read": ("store", "record"),
    "memory_write": ("store", "record"),
    "memory_delete": ("store", "record"),
    "validator": ("rule",),
    "delegation": ("to_agent",),
}
# Kinds of which a span, its events and its logs may each tell several: the n-th of each are the same, if these are.
_TOLD_TWICE: Final[Mapping[str, tuple[str, ...]]] = {
    "tool_selection": ("chosen",),
    "policy_decision": ("decision", "policy", "rule", "call", "decision_id"),
    "routing_decision": ("chosen",),
    "validator": ("rule", "result", "call"),
    "retrieval": ("store", "documents"),
    "memory_read": ("store", "record"),
    "memory_write": ("store", "record"),
    "memory_delete": ("store", "record"),
    "delegation": ("to_agent", "to_run"),
    "human_override": ("of", "by"),
    "retry": ("of", "attempt"),
    "final_action": ("effect", "call"),
    "rollback": ("of", "status"),
    "outcome": ("outcome", "work_item", "verified"),
}


def same_events(told: Told, merging: Merging) -> None:
    """The same id again is the same event."""
    for at in range(len(told)):
        merging.merge(at, told.by_id[told.entries[at].leaf.id], "same_event")


def of_their_spans(told: Told, merging: Merging) -> None:
    """What a log or a span event says of the thing that its span is."""
    at_node = groups(((told.kind(at), told.nodes[at]), at) for at in alive(told, merging, *_OF_SPANS))
    for found in at_node:
        own = next((at for at in found if told.is_own(at)), None)
        beside = [at for at in found if at != own and told.came_from(at) in ("log", "span_event")]
        if own is not None:
            for at in beside:
                if _agree(told, own, at):
                    merging.merge(at, own, "of_its_span")
        elif told.kind(found[0]) == "model_call" and told.by_id.get(told.nodes[found[0]]) is None:
            _without_their_span(told, merging, beside)


def _without_their_span(told: Told, merging: Merging, logs: Sequence[int]) -> None:
    """Logs of a model call whose span isn't there: those that count nothing belong to the first that does."""
    counting = {at for at in logs if any(name in told.data(at) for name in TOKENS)}
    for at in logs:
        if at not in counting:
            merging.merge(at, min(counting or logs), "of_its_span")


def _agree(told: Told, one: int, other: int) -> bool:
    """Whether two entries of a kind at one span may be the same thing."""
    calls = (told.call(one), told.call(other))
    if None not in calls and calls[0] != calls[1]:
        return False
    first, second = told.data(one), told.data(other)
    names = _OF_SPANS[told.kind(one)]
    return all(first[name] == second[name] for name in names if name in first and name in second)


def told_twice(told: Told, merging: Merging) -> None:
    """What a span says, its event says, and its log says: the n-th of each, where they are equal in what counts."""
    found = alive(told, merging, *_TOLD_TWICE)
    for same in groups((_identity(told, at), at) for at in found if told.came_from(at) in FROM_OTLP):
        by_carrier = {carrier: [at for at in same if told.came_from(at) == carrier] for carrier in FROM_OTLP}
        for n in range(max(len(told_by) for told_by in by_carrier.values())):
            nth = [told_by[n] for told_by in by_carrier.values() if n < len(told_by)]
            for at in nth[1:]:
                merging.merge(at, nth[0], "told_twice")


def _identity(told: Told, at: int) -> tuple[object, ...]:
    data: dict[str, Any] = told.data(at)
    said = {name: data[name] for name in _TOLD_TWICE[told.kind(at)] if name in data}
    return told.nodes[at], told.kind(at), canonical_bytes(said)


def one_run(told: Told, merging: Merging) -> None:
    """Several roots are one logical run: the first start, and the last end. A producer's own word goes first."""
    starts = sorted(alive(told, merging, "run_started"), key=lambda at: (told.came_from(at) in FROM_OTLP, at))
    ends = sorted(alive(told, merging, "run_finished"), key=lambda at: (told.came_from(at) in FROM_OTLP, -at))
    for roots in (starts, ends):
        for at in roots[1:]:
            merging.merge(at, roots[0], "one_run")
