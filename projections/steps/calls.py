"""One call told several times: by an agent and by MCP, in phases, by two instrumentations, as a total. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from projections.reading import count, text
from projections.steps.merging import Merging, alive, groups
from projections.steps.told import FROM_OTLP, Told

# Two clocks that tell one call from both ends differ by less; two calls of one id are further apart, or in one tree.
CLOCKS_APART_US_MAX: Final = 1_000_000


def inner_calls(told: Told, merging: Merging) -> None:
    """A tool call inside a tool call that is the same: of the same call id, else of the same name with no step between.

    So an MCP client's and server's spans of one call belong to the outer one.
    """
    calls = {told.nodes[at]: at for at in alive(told, merging, "tool_call") if told.is_own(at)}
    by_call = {node: [call] for node, at in calls.items() if (call := told.call(at)) is not None}
    above_by_call = told.forest.nearest_with(by_call)
    above = told.forest.nearest(told.own_steps())
    for node, at in calls.items():
        outer = calls.get(above.get(node, ""))
        if outer is not None and _same_call_inside(told, outer, at):
            merging.merge(at, outer, "inner_call")
            continue
        call = told.call(at)
        far = above_by_call.get((node, call)) if call is not None else None
        if far is not None and _name(told, calls[far]) == _name(told, at):
            merging.merge(at, calls[far], "inner_call")


def _same_call_inside(told: Told, outer: int, inner: int) -> bool:
    """Of the call right above: by call id where both say one, else by name."""
    calls = (told.call(outer), told.call(inner))
    if None not in calls:
        return calls[0] == calls[1]
    name = _name(told, inner)
    return name is not None and name == _name(told, outer)


def _name(told: Told, at: int) -> str | None:
    return text(told.data(at).get("tool"))


def same_calls(told: Told, merging: Merging) -> None:
    """One call told from two places that nothing connects: the same id and name, at the same time, one of them a span.

    In one tree they are two executions: what contains one contains the other too, and they stand beside each other.
    """
    finished = (at for at in alive(told, merging, "tool_call") if told.data(at).get("phase") == "finished")
    for same in groups(((told.call(at), _name(told, at)) if told.call(at) else None, at) for at in finished):
        timed = sorted((interval, at) for at in same if (interval := told.interval(at)) is not None)
        first: int | None = None
        until = 0
        for (start, end), at in timed:
            if first is None or start > until + CLOCKS_APART_US_MAX:
                first, until = at, end
            elif _are_one(told, first, at):
                merging.merge(at, first, "same_call")
                until = max(until, end)
            else:
                first, until = at, end


def _are_one(told: Told, one: int, other: int) -> bool:
    attempts = (count(told.data(one).get("attempt")), count(told.data(other).get("attempt")))
    return (
        told.forest.top(told.nodes[one]) != told.forest.top(told.nodes[other])
        and any(told.came_from(at) in FROM_OTLP for at in (one, other))
        and (None in attempts or attempts[0] == attempts[1])
    )


def phases(told: Told, merging: Merging) -> None:
    """Proposed, validated, started, finished: the n-th of each, of one call, are the phases of its n-th execution."""
    found = alive(told, merging, "tool_call")
    for same in groups(((told.call(at), _name(told, at)) if told.call(at) else None, at) for at in found):
        executions = list(_executions(told, same))
        proposed, validated = (_in_phase(told, same, phase) for phase in ("proposed", "validated"))
        for nth in zip_longest(executions, validated, proposed):
            parts = [at for part in nth if part is not None for at in (part if isinstance(part, list) else [part])]
            for at in parts[1:]:
                merging.merge(at, parts[0], "phase")


def _executions(told: Told, same: Sequence[int]) -> Iterator[list[int]]:
    """What was finished and what was started, the n-th of each attempt together, in order of attempts."""
    by_attempt: dict[int, list[int]] = {}
    for at in same:
        by_attempt.setdefault(count(told.data(at).get("attempt")) or 0, []).append(at)
    for _, of_it in sorted(by_attempt.items()):
        for pair in zip_longest(_in_phase(told, of_it, "finished"), _in_phase(told, of_it, "started")):
            yield [at for at in pair if at is not None]


def _in_phase(told: Told, found: Sequence[int], phase: str) -> list[int]:
    return [at for at in found if told.data(at).get("phase") == phase]


def outer_model_calls(told: Told, merging: Merging) -> dict[int, int]:
    """A model call around a single one is that one, told by two instrumentations; around several, it is their total.

    Returns for each first entry of a model call inside a total that total. What a tool does in between is not part of
    the call around it.
    """
    calls = {told.nodes[at]: at for at in alive(told, merging, "model_call") if told.is_own(at)}
    above = told.forest.nearest(calls.keys() | told.own("tool_call").keys())
    inner: dict[int, list[int]] = {}
    for node, at in calls.items():
        outer = calls.get(above.get(node, ""))
        if outer is not None:
            inner.setdefault(outer, []).append(at)
    for outer in sorted(inner, key=lambda at: -told.depth(at)):
        if len(inner[outer]) == 1:
            merging.merge(outer, inner[outer][0], "outer_call")
    return {merging.first(at): outer for outer, of_it in inner.items() if merging.is_first(outer) for at in of_it}
