"""Naming what was touched: entries that do not have the hashes the tree was signed over. Pure.

Given the hash that each disputed index must have and the hash that the entry there has, the two are matched up. An
entry whose hash belongs elsewhere was moved; a hash that no entry has any more was deleted or edited; an entry whose
hash belongs nowhere was edited or inserted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ledger.verify.report import Finding


@dataclass(frozen=True, slots=True)
class Slot:
    """A disputed index: the hash of the entry there (None: no entry), the hash it must have (None: nothing belongs)."""

    index: int
    found: bytes | None
    wanted: bytes | None


@dataclass(slots=True)
class Located:
    """What was touched. `lost`: hashes that belong to the log and that no entry has, with their indexes; `excluded`:
    indexes of entries that do not belong to it; `edited`: indexes of entries that were changed."""

    findings: list[Finding] = field(default_factory=list)
    lost: dict[bytes, int] = field(default_factory=dict)
    excluded: set[int] = field(default_factory=set)
    edited: set[int] = field(default_factory=set)


def locate(log: str, size: int, slots: Iterable[Slot], foreign: set[int], nodes: set[int]) -> Located:
    """Name what happened at the disputed indexes of a log of `size` entries.

    `foreign`: indexes whose leaf says another log; `nodes`: those whose leaf is an inner node of a tree, or so formed.
    Both are findings already and only left out here.
    """
    ordered = sorted(slots, key=lambda slot: slot.index)
    belongs = {slot.wanted: slot.index for slot in ordered if slot.wanted is not None}
    stands = {slot.found: slot.index for slot in ordered if slot.found is not None}
    located = Located(lost={wanted: index for wanted, index in belongs.items() if wanted not in stands})
    moved: list[tuple[int, int]] = []
    missing: list[int] = []
    for slot in ordered:
        home = belongs.get(slot.found) if slot.found is not None else None
        original_moved = slot.wanted is not None and slot.wanted in stands
        if slot.found is None:
            if not original_moved:
                missing.append(slot.index)
        elif home is not None:
            if home != slot.index:
                moved.append((slot.index, home))
            if slot.wanted is not None and not original_moved:
                missing.append(slot.index)
        elif slot.index in foreign:
            located.excluded.add(slot.index)
        elif slot.wanted is None or original_moved:
            located.excluded.add(slot.index)
            where = f"past the {size} that were sealed" if slot.wanted is None else "among those that were sealed"
            located.findings.append(Finding("entry_inserted", log, slot.index, f"an entry {where}"))
        elif slot.index in nodes:
            located.edited.add(slot.index)
        else:
            located.edited.add(slot.index)
            located.findings.append(
                Finding(
                    "leaf_edited",
                    log,
                    slot.index,
                    f"sealed with leaf hash {slot.wanted.hex()}, now has {slot.found.hex()}",
                )
            )
    located.findings.extend(_moves(log, moved))
    located.findings.extend(_absences(log, size, missing))
    return located


def _moves(log: str, moved: Sequence[tuple[int, int]]) -> list[Finding]:
    """One finding for each stretch of entries that stand the same distance from where they were sealed."""
    found: list[Finding] = []
    at = 0
    while at < len(moved):
        first, home = moved[at]
        end = at + 1
        while end < len(moved) and moved[end] == (first + end - at, home + end - at):
            end += 1
        last = first + end - at - 1
        detail = (
            f"the entry here was sealed at index {home}"
            if last == first
            else f"the entries from here to {last} were sealed at indexes {home} to {home + last - first}"
        )
        found.append(Finding("order", log, first, detail))
        at = end
    return found


def _absences(log: str, size: int, missing: Sequence[int]) -> list[Finding]:
    """Entries that are gone: from the middle, or the tail as one finding."""
    tail = size
    gone = set(missing)
    while tail - 1 in gone:
        tail -= 1
    found = [
        Finding("entry_missing", log, index, "no entry stands where one was sealed")
        for index in missing
        if index < tail or size - tail == 1
    ]
    if tail < size:
        found.append(
            Finding("truncated", log, tail, f"{size} entries were sealed, the last {size - tail} are not there")
        )
    return found
