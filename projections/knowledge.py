"""What is known of a run, link by link: reported, inferred (by which rule) or missing; and what is gone. Pure.

Reported: a runtime said so in our own kinds, or a span, event or log says plainly what it is. Inferred: something else
was said that it follows from, by a rule of `inference`. Missing: the record holds nothing of it, which does not mean
that it didn't happen. A link is as well known as the least known of its aspects that are known at all; `lacks` names
those that aren't. A question that nobody answered in this run is no approval: it is `pending`.

Guarantees: only public members decide, so erasing content changes nothing here; each rule is named, and each statement
names the entries that show it. A link that `links` holds is never missing and lacks nothing, but for the cost of each
call where some calls have one and others none. Does not: guess a verdict (a guardrail that doesn't say its own is
none), or judge whether what was said is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from ledger.leaf import Leaf
from projections.inference import references, rule_of, rules_of_members
from projections.links import ASPECTS
from projections.reading import Entry, amount, count, text
from projections.steps import Run, approvals, steps
from projections.steps.spans import TOKENS
from projections.steps.told import node_of
from projections.steps.totals import calls_without_cost, counted

State = Literal["reported", "inferred", "missing"]

COST_OF_EACH_CALL: Final = "cost_of_each_call"  # what the cost of a run lacks where it is that of some of its calls
DROPPED: Final = ("dropped_attributes", "dropped_events", "dropped_links")  # what an SDK counts, by OTLP's names


@dataclass(frozen=True, slots=True)
class Known:
    """One of the twelve links."""

    state: State
    rules: tuple[str, ...]  # by which it was inferred; empty where it was reported
    lacks: tuple[str, ...]  # aspects of which nothing is known
    entries: tuple[int, ...]  # indexes of what shows it


@dataclass(frozen=True, slots=True)
class Member:
    """A member that the entries have but nobody said in so many words."""

    name: str  # kind and member, like tool_call.status
    rule: str
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What whoever sent it said is gone: evidence that was there once and will never come."""

    what: str
    number: int | None  # None: not said how many
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One model call, of which its entries say different things: they are claims, and one of them counts."""

    name: str  # kind and member, like model_call.input_tokens
    counts: int | None  # index of the entry whose word is in the sums; None: none is
    entries: tuple[int, ...]  # of all that say it


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that entries name: as the one that acts, or as the one that work is handed to."""

    name: str
    versions: tuple[str, ...]
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Of one run."""

    links: Mapping[str, Known]
    members: tuple[Member, ...]
    missing: Mapping[str, tuple[int, ...]]  # required members that nobody said, by kind and member
    dropped: tuple[Dropped, ...]
    disagreements: tuple[Disagreement, ...]
    unmapped: tuple[int, ...]  # indexes of entries that keep, encrypted, what has no member of ours
    agents: tuple[Agent, ...]  # by the first entry that names it: more than one where the run has several, or two names
    conflicts: tuple[int, ...]  # indexes of entries by which an id of this run came with two contents
    after_head: tuple[
        int, ...
    ]  # indexes of what came after the last run_head: it isn't known complete by the run alone
    pending: tuple[int, ...]  # indexes of the approvals asked for that have no answer in this run

    def as_json(self) -> dict[str, Any]:
        """As it is printed."""
        return {
            "links": {
                name: {
                    "state": known.state,
                    "rules": list(known.rules),
                    "lacks": list(known.lacks),
                    "entries": list(known.entries),
                }
                for name, known in self.links.items()
            },
            "members": [{"member": one.name, "rule": one.rule, "entries": list(one.entries)} for one in self.members],
            "missing": {name: list(indexes) for name, indexes in self.missing.items()},
            "dropped": [{"what": one.what, "number": one.number, "entries": list(one.entries)} for one in self.dropped],
            "disagreements": [
                {"member": one.name, "counts": one.counts, "entries": list(one.entries)} for one in self.disagreements
            ],
            "unmapped": list(self.unmapped),
            "agents": [
                {"agent": one.name, "versions": list(one.versions), "entries": list(one.entries)} for one in self.agents
            ],
            "conflicts": list(self.conflicts),
            "after_head": list(self.after_head),
            "pending": list(self.pending),
        }


def knowledge(entries: Iterable[tuple[int, Leaf]]) -> Knowledge:
    """What is known of the run that these entries, given as (index, leaf), tell."""
    return knowledge_of(steps(entries))


def knowledge_of(run: Run) -> Knowledge:
    """What is known of a run."""
    entries = sorted((entry for step in run.steps for entry in step.entries), key=lambda one: one.index)
    return Knowledge(
        links={link: _known(link, entries) for link in ASPECTS} | _cost_and_latency(run, entries),
        members=_inferred_members(entries),
        missing=_missing(run),
        dropped=_dropped(entries),
        disagreements=_disagreements(run),
        unmapped=tuple(entry.index for entry in entries if "/raw" in (entry.leaf.commit or {})),
        agents=_agents(entries),
        conflicts=tuple(entry.index for entry in entries if entry.leaf.kind == "conflict"),
        after_head=_after_head(entries),
        pending=_pending(run),
    )


# -- links ------------------------------------------------------------------------------------------------------------


def _is_asked(leaf: Leaf) -> bool:
    asked = leaf.kind == "model_call" and leaf.data.get("operation") != "embedding"
    return asked and "/messages" in (leaf.commit or {})


# By which rule an entry that shows an aspect shows it, where that isn't the rule that made the entry.
_BY_ASPECT: Final[Mapping[tuple[str, str], Callable[[Leaf], str | None]]] = {
    ("cost_and_latency", "cost"): lambda leaf: None if _says_cost(leaf) else "price_table",
    ("cost_and_latency", "latency"): lambda leaf: "span_times" if _is_from_span(leaf) else None,
    ("error_path", "failure"): lambda leaf: "span_status" if _failed_by_status(leaf) else rule_of(leaf),
}
# What an aspect follows from where no entry is of it.
_FOLLOWS_FROM: Final[Mapping[tuple[str, str], tuple[str, Callable[[Leaf], bool]]]] = {
    ("user_request", "request"): ("model_messages", _is_asked),
    ("agent_identity", "agent"): ("step_actor", lambda leaf: "agent" in (leaf.actor or {})),
    ("agent_identity", "version"): ("step_actor", lambda leaf: "version" in (leaf.actor or {})),
    ("tool_selection", "choice"): ("tool_called", lambda leaf: leaf.kind == "tool_call"),
}


def _known(link: str, entries: Iterable[Entry]) -> Known:
    entries = list(entries)
    states: list[State] = []
    rules: set[str] = set()
    lacks: list[str] = []
    shown: set[int] = set()
    for aspect, test in ASPECTS[link].items():
        by = _BY_ASPECT.get((link, aspect), rule_of)
        found = [(entry.index, by(entry.leaf)) for entry in entries if test(entry.leaf)]
        if not found and (link, aspect) in _FOLLOWS_FROM:
            rule, follows = _FOLLOWS_FROM[link, aspect]
            found = [(entry.index, rule) for entry in entries if follows(entry.leaf)]
        shown.update(index for index, _ in found)
        said = [rule for _, rule in found if rule is not None]
        if not found:
            lacks.append(aspect)
        elif len(said) < len(found):
            states.append("reported")
        else:
            states.append("inferred")
            rules.update(said)
    state: State = "missing" if not states else "inferred" if "inferred" in states else "reported"
    return Known(state, tuple(sorted(rules)), tuple(lacks), tuple(sorted(shown)))


def _cost_and_latency(run: Run, entries: Iterable[Entry]) -> dict[str, Known]:
    """A sum over some of the calls is not the run's cost, unless its end claims one for all of it."""
    known = _known("cost_and_latency", entries)
    whole = any(step.kind == "run_finished" and amount(step.said("cost_claimed")) is not None for step in run.steps)
    if "cost" not in known.lacks and not whole and calls_without_cost(run):
        known = replace(known, lacks=(*known.lacks, COST_OF_EACH_CALL))
    return {"cost_and_latency": known}


def _is_from_span(leaf: Leaf) -> bool:
    return leaf.data.get("from") == "span"


def _says_cost(leaf: Leaf) -> bool:
    return "cost_claimed" in leaf.data or "cost" in leaf.data


def _failed_by_status(leaf: Leaf) -> bool:
    return _is_from_span(leaf) and leaf.kind in ("model_call", "tool_call", "error")


# -- members, and what is gone ----------------------------------------------------------------------------------------


def _pending(run: Run) -> tuple[int, ...]:
    """Whether another run of the session holds the answer can't be known from this one."""
    waiting = (one for one in approvals(run.steps) if one.answer == "unanswered")
    return tuple(sorted(step.entry.index for one in waiting for step in one.requests))


def _agents(entries: Iterable[Entry]) -> tuple[Agent, ...]:
    versions: dict[str, set[str]] = {}
    indexes: dict[str, list[int]] = {}
    for entry in entries:
        actor = entry.leaf.actor or {}
        acts = text(actor.get("agent"))
        handed = text(entry.leaf.data.get("to_agent")) if entry.leaf.kind == "delegation" else None
        for name in dict.fromkeys(name for name in (acts, handed) if name is not None):
            indexes.setdefault(name, []).append(entry.index)
            version = text(actor.get("version"))
            versions.setdefault(name, set()).update({version} if version is not None and name == acts else ())
    return tuple(Agent(name, tuple(sorted(versions[name])), tuple(named)) for name, named in indexes.items())


def _after_head(entries: Sequence[Entry]) -> tuple[int, ...]:
    """Nothing where the run has no head: then it has no end either."""
    heads = [entry.index for entry in entries if entry.leaf.kind == "run_head"]
    return tuple(entry.index for entry in entries if entry.index > heads[-1]) if heads else ()


def _inferred_members(entries: Iterable[Entry]) -> tuple[Member, ...]:
    found: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        for member, rule in rules_of_members(entry.leaf):
            found.setdefault((f"{entry.leaf.kind}.{member}", rule), []).append(entry.index)
    return tuple(Member(name, rule, tuple(indexes)) for (name, rule), indexes in sorted(found.items()))


def _missing(run: Run) -> dict[str, tuple[int, ...]]:
    """Required members that no entry of a step has."""
    found: dict[str, list[int]] = {}
    for step in run.steps:
        if step.kind == "producer_gap":  # of what OTLP counts as dropped, from and to can't be known
            continue
        named = {name: entry.index for entry in reversed(step.entries) for name in _names(entry.leaf.data)}
        for name, index in named.items():
            if step.said(name) is None:
                found.setdefault(f"{step.kind}.{name}", []).append(index)
    return {name: tuple(sorted(indexes)) for name, indexes in sorted(found.items())}


def _names(data: Mapping[str, Any]) -> list[str]:
    missing = data.get("missing")
    return [name for name in missing if text(name) is not None] if isinstance(missing, list) else []


def _dropped(entries: Iterable[Entry]) -> tuple[Dropped, ...]:
    """What SDKs counted as dropped, of each span and log once, and the gaps that producers declared."""
    numbers: dict[str, dict[str, int | None]] = {}
    indexes: dict[str, list[int]] = {}
    for entry in entries:
        leaf = entry.leaf
        whole = leaf.id if leaf.data.get("from") == "log" else node_of(leaf)
        for what, number in _gone(leaf):
            numbers.setdefault(what, {}).setdefault(whole, number)
            indexes.setdefault(what, []).append(entry.index)
    return tuple(
        Dropped(what, _sum(by_whole.values()), tuple(dict.fromkeys(indexes[what])))
        for what, by_whole in sorted(numbers.items())
    )


_COUNTED: Final = (*TOKENS, "cost_claimed")


def _disagreements(run: Run) -> tuple[Disagreement, ...]:
    """What the entries of one model call say differently. Two of them are told by a runtime for one thing, as a span
    and a log; which of them is wrong, the record doesn't say."""
    found = []
    for step in run.steps:
        if step.kind != "model_call" or not step.merged:
            continue
        for name in _COUNTED:
            said = [entry for entry in step.entries if entry.leaf.kind == step.kind and name in entry.leaf.data]
            if any(entry.leaf.data[name] != said[0].leaf.data[name] for entry in said[1:]):
                counting = None if step.total else counted(step, name)
                indexes = tuple(sorted({entry.index for entry in said}))
                counts = None if counting is None else counting.index
                found.append(Disagreement(f"{step.kind}.{name}", counts, indexes))
    return tuple(found)


def _sum(numbers: Iterable[int | None]) -> int | None:
    """None as soon as one isn't known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _gone(leaf: Leaf) -> list[tuple[str, int | None]]:
    if leaf.kind == "producer_gap":
        cause = leaf.data.get("cause")
        return [(cause if cause in DROPPED else "events", _gap(leaf.data))]
    found: list[tuple[str, int | None]] = []
    for reference in references(leaf):
        what = reference.get("what")
        if what in DROPPED:
            number = text(reference.get("id"))
            found.append((what, int(number) if number is not None and _is_number(number) else None))
    return found


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 20


def _gap(data: Mapping[str, Any]) -> int | None:
    said, first, last = (count(data.get(name)) for name in ("count", "from", "to"))
    if said is not None or first is None or last is None:
        return said
    return max(0, last - first + 1)
