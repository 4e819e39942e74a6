"""What every span above tells again, or every later message: errors, interrupts, answers. The deepest is kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from projections.reading import text
from projections.steps.merging import Merging, Why, alive, groups
from projections.steps.told import FROM_OTLP, Told, approval_of

_ANY: Final = ""  # the class of every error, beside its own: no class is empty
# What tells most of an error comes first: the exception that was recorded, a log of it, the status of the span.
_MOST_TELLING: Final = {"span_event": 0, "log": 1, "span": 2}
_DISTINCT: Final = ("arguments", "reviewer")  # another of these is another question, or another answer


def errors(told: Told, merging: Merging) -> None:
    """One failure is told by the exception, its log and its span's status, and again by each span that it passed."""
    _denials(told, merging)
    _of_one_span(told, merging)
    _of_spans_above(told, merging)


def _denials(told: Told, merging: Merging) -> None:
    """Frameworks tell a tool that was refused as a tool that failed: it is the refusal."""
    denied = {
        node: at
        for node, at in told.own("approval_decision", "tool_call").items()
        if _says(told, at, "decision") == "reject" or _says(told, at, "status") == "denied"
    }
    for at in alive(told, merging, "error"):
        refusal = denied.get(failed_node(told, at))
        if refusal is not None and not _is_event(told, at):
            merging.merge(at, refusal, "denial")


def _says(told: Told, at: int, name: str) -> str | None:
    return text(told.data(at).get(name))


def failed_node(told: Told, at: int) -> str:
    """What an error entry is about: the event that `of` names, else the span that it was told at."""
    of = text(told.data(at).get("of"))
    if of is None:
        return told.nodes[at]
    named = told.by_id.get(of)
    return of if named is None else told.nodes[named]


def _class(told: Told, at: int) -> str:
    """An error's class without its module; _ANY where none is said."""
    said = text(told.data(at).get("class"))
    return _ANY if said is None else said.rsplit(".", 1)[-1]


def _is_event(told: Told, at: int) -> bool:
    """Whether a producer told it in our own words: two such errors are two."""
    return told.came_from(at) not in FROM_OTLP


def _of_one_span(told: Told, merging: Merging) -> None:
    for found in groups(((failed_node(told, at),), at) for at in alive(told, merging, "error")):
        ranked = sorted(found, key=lambda at: (_MOST_TELLING.get(told.came_from(at) or "", -1), at))
        first_of_class: dict[str, int] = {}
        for at in ranked:
            name = _class(told, at)
            # A span's status has the class that a convention gave it; the last exception beside it is the same failure.
            by_status = name == _ANY or (told.came_from(at) == "span" and name not in first_of_class)
            same = max(first_of_class.values(), default=at) if by_status else first_of_class.setdefault(name, at)
            if _is_event(told, at) or same == at:
                first_of_class.setdefault(name, at)
            else:
                merging.merge(at, same, "same_error")


def _of_spans_above(told: Told, merging: Merging) -> None:
    """An error is a repeat of one below it that has its class, or of any below it where it says no class. And of
    another class, where a span failed last of all with the last that it did: then that failure became this one."""
    at_node: dict[str, dict[str, int]] = {}
    last: dict[str, int] = {}
    for at in alive(told, merging, "error"):
        node = failed_node(told, at)
        here = at_node.setdefault(node, {})
        here.setdefault(_ANY, at)
        here.setdefault(_class(told, at), at)
        last[node] = at
    below: dict[int, list[tuple[int, int]]] = {}
    for (node, name), above in told.forest.nearest_with(at_node).items():
        higher = at_node[above][name]
        if _class(told, higher) == name and not _is_event(told, higher):
            below.setdefault(higher, []).append((told.forest.depth(node), at_node[node][name]))
    for node, higher in last.items():
        if higher not in below and not _is_event(told, higher) and (lower := _cause(told, node, last)) is not None:
            below[higher] = [(told.depth(lower), lower)]
    for higher, lower_ones in sorted(below.items(), key=lambda one: -told.forest.depth(failed_node(told, one[0]))):
        merging.merge(higher, max(lower_ones)[1], "error_above")


def _cause(told: Told, node: str, last: Mapping[str, int]) -> int | None:
    """The last error of the last span that began inside this one, if that failed."""
    inside = told.forest.children(node)
    if not inside:
        return None
    return last.get(max(inside, key=lambda child: (told.began.get(child, ""), child)))


def approval_requests(told: Told, merging: Merging) -> None:
    """One question, told by every span that the interrupt passed: the deepest is kept. A producer's own word goes
    first."""
    for same in _of_one_approval(told, merging, "approval_request", ()):
        ranked = sorted(same, key=lambda at: (not _is_event(told, at), -told.depth(at), at))
        _merge_what_fits(told, merging, ranked, "same_approval")
    _named_by_their_call(told, merging, "approval_request", "same_approval")


def approval_decisions(told: Told, merging: Merging) -> None:
    """One answer, told again by every later message history: the one that names a reviewer is kept, then the first."""
    for same in _of_one_approval(told, merging, "approval_decision", ("decision",)):
        ranked = sorted(same, key=lambda at: ("reviewer" not in told.data(at), not _is_event(told, at), at))
        _merge_what_fits(told, merging, ranked, "same_decision")
    _named_by_their_call(told, merging, "approval_decision", "same_decision")
    _undecided(told, merging)


def _named_by_their_call(told: Told, merging: Merging, kind: str, why: Why) -> None:
    """What a convention tells of an approval that it has no id for stands under the call's: it is the one of that call
    that has an id, and says the same."""
    named: dict[str, list[int]] = {}
    unnamed: list[tuple[str, int]] = []
    for at in alive(told, merging, kind):
        approval, call = approval_of(told.entries[at].leaf)
        if approval is not None and call is not None:
            named.setdefault(call, []).append(at)
        elif approval is None and call is not None and not _is_event(told, at):
            unnamed.append((call, at))
    for call, at in unnamed:
        fits = (other for other in named.get(call, ()) if _says_the_same(told, at, other, "decision"))
        if (same := next(fits, None)) is not None:
            merging.merge(at, same, why)


def _undecided(told: Told, merging: Merging) -> None:
    """An answer that doesn't tell what was decided, and the one of the same approval or call that does: if several do,
    they must agree."""
    decided: dict[str, list[int]] = {}
    undecided: list[int] = []
    for at in alive(told, merging, "approval_decision"):
        if _says(told, at, "decision") is not None:
            for name in _named(told, at):
                decided.setdefault(name, []).append(at)
        elif not _is_event(told, at):
            undecided.append(at)
    for at in undecided:
        found = {other for name in _named(told, at) for other in decided.get(name, ())}
        fits = sorted(other for other in found if _says_the_same(told, at, other))
        if len({_says(told, other, "decision") for other in fits}) == 1:
            merging.merge(at, min(fits, key=lambda other: ("reviewer" not in told.data(other), other)), "same_answer")


def _named(told: Told, at: int) -> set[str]:
    """The approval and the call that an entry names: a runtime without ids for approvals gives the call's."""
    return {name for name in approval_of(told.entries[at].leaf) if name is not None}


def _says_the_same(told: Told, one: int, other: int, *names: str) -> bool:
    """Exactly the same in the members named, and nothing that contradicts about who answered what."""
    reviewed = ([_says(told, at, name) for name in _DISTINCT] for at in (one, other))
    return all(_says(told, one, name) == _says(told, other, name) for name in names) and _contradicts_nothing(*reviewed)


def _of_one_approval(told: Told, merging: Merging, kind: str, names: Sequence[str]) -> list[list[int]]:
    """Entries of one approval, or, where none is named, of one call, that have the same in the members named."""

    def key(at: int) -> tuple[object, ...] | None:
        approval, call = text(told.data(at).get("approval")), told.call(at)
        if approval is None and call is None:
            return None
        of = ("call", call) if approval is None else ("approval", approval)
        return *of, *(text(told.data(at).get(name)) for name in names)

    return groups((key(at), at) for at in alive(told, merging, kind))


def _merge_what_fits(told: Told, merging: Merging, ranked: Sequence[int], why: Why) -> None:
    """Merge into the first whatever contradicts nothing: another reviewer is another answer, other arguments another
    question. What producers told in our own words is never merged: two of them are two."""
    firsts: dict[tuple[str | None, ...], int] = {}
    for at in ranked:
        distinct = tuple(_says(told, at, name) for name in _DISTINCT)
        same = firsts.get(distinct)
        if same is None and firsts and _contradicts_nothing(distinct, next(iter(firsts))):
            same = ranked[0]
        if same is None or _is_event(told, at):
            firsts.setdefault(distinct, at)
        else:
            merging.merge(at, same, why)


def _contradicts_nothing(one: Sequence[str | None], other: Sequence[str | None]) -> bool:
    return all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))
