"""The checks across ranges, one spool partition at a time: ids, run chains, producers' numbers. Pure.

Guarantees: each function sees all records that must meet, whatever ranges and workers they came from, and returns what
does not hold. Whether something is explained by an entry that was found touched, the caller knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.verify.spool import (
    ID,
    ID_KEY_BYTES,
    NUMBERS,
    RUN_FINISHED,
    RUN_HEAD,
    SEGMENT,
)

_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class DuplicateId:
    """An id that an entry shares with an earlier one."""

    ordinal: int
    index: int
    first_index: int


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """A place where a run's chain does not hold: the entry at `index` does not follow the one at `before`.

    `prev` is what the entry names as its predecessor's hash; `reordered`: the link holds, but the entry stands, or was
    recorded, before its predecessor.
    """

    ordinal: int
    index: int
    before: int | None
    prev: bytes
    run_seq: int
    expected_seq: int
    reordered: bool = False


@dataclass(frozen=True, slots=True)
class NumberGap:
    """Numbers `first` to `last` of a producer that no entry has; `index` is of the entry after them."""

    tenant_ordinal: int
    digest: bytes
    first: int
    last: int
    ordinal: int
    index: int


def duplicate_ids(records: bytes) -> list[DuplicateId]:
    """Ids that stand twice in a log."""
    width = ID.size
    keys = [records[at : at + ID_KEY_BYTES] for at in range(0, len(records), width)]
    if len(set(keys)) == len(keys):
        return []
    first: dict[bytes, int] = {}
    found: list[DuplicateId] = []
    for ordinal, id, index in sorted(ID.iter_unpack(records), key=lambda record: (record[0], record[2])):
        key = ordinal.to_bytes(4, "big") + id
        if key in first:
            found.append(DuplicateId(ordinal, index, first[key]))
        else:
            first[key] = index
    return found


_Segment = tuple[int, bytes, int, int, bytes, int, int, bytes, int, int, int]


def broken_links(records: bytes, excluded: dict[int, set[int]]) -> tuple[list[BrokenLink], bool, dict[int, int]]:
    """Where run chains do not hold, whether every run is finished and closed by a `run_head`, and how many begin, by
    log ordinal.

    `excluded`: by log ordinal the indexes of entries that are known not to belong. A chain whose first entry here is
    not its first is a broken link too; whether that entry was only not read, the caller knows.
    """
    runs: dict[tuple[int, bytes], list[_Segment]] = {}
    for segment in SEGMENT.iter_unpack(records):
        runs.setdefault((segment[0], segment[1]), []).append(segment)
    found: list[BrokenLink] = []
    begun: dict[int, int] = {}
    closed = True
    for (ordinal, _), segments in runs.items():
        segments.sort(key=lambda segment: (segment[2], segment[3]))
        flags = 0
        before: _Segment | None = None
        for segment in segments:
            _, _, first_seq, first_index, first_prev, _, last_index, _, first_recorded, _, mark = segment
            if first_index == last_index and first_index in excluded.get(ordinal, ()):
                continue
            flags |= mark
            if before is None:
                begun[ordinal] = begun.get(ordinal, 0) + (first_seq == 0)
                if first_seq != 0 or first_prev != _NO_HASH:
                    found.append(BrokenLink(ordinal, first_index, None, first_prev, first_seq, 0))
            else:
                _, _, _, _, _, last_seq, before_index, last_hash, _, last_recorded, _ = before
                if first_seq != last_seq + 1 or first_prev != last_hash:
                    found.append(BrokenLink(ordinal, first_index, before_index, first_prev, first_seq, last_seq + 1))
                elif first_index < before_index or first_recorded < last_recorded:
                    found.append(
                        BrokenLink(ordinal, first_index, before_index, first_prev, first_seq, last_seq + 1, True)
                    )
            before = segment
        closed = closed and flags == RUN_FINISHED | RUN_HEAD
    return found, closed, begun


def number_gaps(records: bytes, *, from_start: bool) -> list[NumberGap]:
    """Numbers that producers gave and that no entry has. `from_start`: a missing 1 is a gap."""
    producers: dict[tuple[int, bytes], list[tuple[int, int, int, int]]] = {}
    for tenant, digest, first, last, ordinal, first_index, _ in NUMBERS.iter_unpack(records):
        producers.setdefault((tenant, digest), []).append((first, last, ordinal, first_index))
    found: list[NumberGap] = []
    for (tenant, digest), stretches in producers.items():
        stretches.sort()
        expected = 1 if from_start else stretches[0][0]
        for first, last, ordinal, index in stretches:
            if first > expected:
                found.append(NumberGap(tenant, digest, expected, first - 1, ordinal, index))
            expected = max(expected, last + 1)
    return found


def is_declared(gap: NumberGap, declared: Iterable[tuple[int, int]]) -> bool:
    """Whether declared ranges of the same producer cover a gap whole."""
    at = gap.first
    for first, last in sorted(declared):
        if first > at:
            break
        at = max(at, last + 1)
    return at > gap.last
