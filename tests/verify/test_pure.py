"""The parts of verification that need no database, against slow and obvious versions of themselves."""

from __future__ import annotations

import random
import struct
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.merkle import EMPTY_ROOT, Edge, node_hash
from ledger.verify.accounts import counted, judge_counts
from ledger.verify.cross import NumberGap, broken_links, duplicate_ids, is_declared, number_gaps
from ledger.verify.located import Slot, locate
from ledger.verify.report import Finding, Findings, Report, completeness_of, integrity_of
from ledger.verify.rows import array_of, fields_of
from ledger.verify.spool import ACCOUNT, ID, NUMBERS, RUN_FINISHED, RUN_HEAD, SEGMENT, SOURCE
from ledger.verify.tree import TreeFold, edge_of, head_hash, levels_of, root_at, tile_hash, upper_tiles

LEAVES = [sha256(b"%d" % number).digest() for number in range(70_000)]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1, by the letter."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


@given(st.integers(0, 3000))
def test_roots_at_any_size_are_those_of_the_rfc(size: int) -> None:
    fold = TreeFold()
    for tile in range(size // 256):
        fold.add(tile_hash(LEAVES[tile * 256 : tile * 256 + 256]))
    rest = LEAVES[size // 256 * 256 : size]
    levels = levels_of(rest)
    assert fold.root(head_hash(levels, len(rest)) if rest else None) == naive_root(LEAVES[:size])
    for width in range(1, len(rest) + 1, 17):
        assert fold.root(head_hash(levels, width)) == naive_root(LEAVES[: size // 256 * 256 + width])
    tiles = [tile_hash(LEAVES[at : at + 256]) for at in range(0, size // 256 * 256, 256)]
    assert root_at(size, tiles, lambda tile: LEAVES[tile * 256 : tile * 256 + 256]) == naive_root(LEAVES[:size])


def test_tiles_and_edge_are_those_of_the_writer() -> None:
    edge = Edge.empty()
    written = {(tile.level, tile.index): tile.hashes for tile in edge.extend(LEAVES)}
    size = len(LEAVES) // 256 * 256
    tiles = [tile_hash(LEAVES[at : at + 256]) for at in range(0, size, 256)]
    assert {(level, index): hashes for level, index, hashes in upper_tiles(tiles)} == {
        key: hashes for key, hashes in written.items() if key[0] > 0
    }
    assert edge_of(tiles, LEAVES[size:]) == edge.dump()


def test_a_head_of_no_leaves_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        head_hash(levels_of(LEAVES[:3]), 0)


@given(st.integers(1, 40), st.data())
def test_what_was_done_to_a_log_is_named(size: int, data: st.DataObject) -> None:
    """Edits, deletions, insertions and swaps of a list are told apart, wherever they are."""
    sealed = [sha256(b"entry %d" % number).digest() for number in range(size)]
    stands: dict[int, bytes] = dict(enumerate(sealed))
    at = data.draw(st.integers(0, size - 1))
    how = data.draw(st.sampled_from(["edit", "delete", "insert", "swap", "append"]))
    expected: set[tuple[str, int]] = set()
    if how == "edit":
        stands[at] = sha256(b"other").digest()
        expected = {("leaf_edited", at)}
    elif how == "delete":
        del stands[at]
        expected = {("truncated", at), ("entry_missing", at)} if at == size - 1 else {("entry_missing", at)}
    elif how == "insert":
        shifted = [*sealed[:at], sha256(b"other").digest(), *sealed[at:]]
        stands = dict(enumerate(shifted))
        expected = {("entry_inserted", at), ("order", at + 1)}
    elif how == "append":
        stands[size] = sha256(b"other").digest()
        expected = {("entry_inserted", size)}
    else:
        other = data.draw(st.integers(0, size - 1))
        stands[at], stands[other] = stands[other], stands[at]
        expected = {("order", at), ("order", other)} if other != at else set()
    slots = [
        Slot(index, stands.get(index), sealed[index] if index < size else None)
        for index in range(size + 1)
        if stands.get(index) != (sealed[index] if index < size else None)
    ]
    located = locate("log", size, slots, set(), set())
    assert {(finding.kind, finding.index) for finding in located.findings} == expected


@given(st.lists(st.integers(1, 60), max_size=40, unique=True))
def test_number_gaps_are_the_numbers_nobody_has(numbers: list[int]) -> None:
    records = b"".join(NUMBERS.pack(0, b"k" * 16, number, number, 0, at, at) for at, number in enumerate(numbers))
    gaps = number_gaps(records, from_start=True)
    missing = {number for gap in gaps for number in range(gap.first, gap.last + 1)}
    assert missing == set(range(1, max(numbers, default=0))) - set(numbers)


@pytest.mark.parametrize(
    ("declared", "covered"),
    [
        ([], False),
        ([(4, 6)], True),
        ([(1, 9)], True),
        ([(4, 5), (6, 6)], True),
        ([(4, 4), (6, 6)], False),
        ([(5, 6)], False),
    ],
)
def test_a_gap_is_declared_where_ranges_cover_it_whole(declared: list[tuple[int, int]], covered: bool) -> None:
    assert is_declared(NumberGap(0, b"k" * 16, 4, 6, 0, 9), declared) is covered


def segment(run: bytes, first: int, last: int, prev: bytes, last_hash: bytes, at: int, flags: int = 3) -> bytes:
    return SEGMENT.pack(0, run * 16, first, at, prev, last, at + last - first, last_hash, at, at, flags)


NO, ONE, TWO = bytes(32), b"1" * 32, b"2" * 32


def test_run_chains_hold_across_ranges_in_any_order() -> None:
    records = [
        segment(b"a", 0, 4, NO, ONE, 0, RUN_FINISHED),
        segment(b"a", 5, 9, ONE, TWO, 100, RUN_HEAD),
        segment(b"b", 0, 0, NO, ONE, 50),
    ]
    random.Random(1).shuffle(records)
    assert broken_links(b"".join(records), {}) == ([], True, {0: 2})


@pytest.mark.parametrize(
    "second",
    [
        segment(b"a", 6, 9, ONE, TWO, 100),
        segment(b"a", 5, 9, TWO, TWO, 100),
        segment(b"a", 4, 9, ONE, TWO, 100),
        segment(b"a", 0, 9, NO, TWO, 100),
    ],
)
def test_a_run_chain_that_does_not_hold(second: bytes) -> None:
    links, _, _ = broken_links(segment(b"a", 0, 4, NO, ONE, 0) + second, {})
    assert [(link.index, link.reordered) for link in links] == [(100, False)]


def test_a_run_that_goes_back_in_its_log() -> None:
    links, _, _ = broken_links(segment(b"a", 0, 4, NO, ONE, 100) + segment(b"a", 5, 5, ONE, TWO, 7), {})
    assert [(link.index, link.reordered) for link in links] == [(7, True)]


def test_an_id_twice_in_a_log_and_once_in_another() -> None:
    records = b"".join(ID.pack(log, b"i" * 16, index) for log, index in [(0, 9), (1, 1), (0, 3)])
    assert [(found.ordinal, found.index, found.first_index) for found in duplicate_ids(records)] == [(0, 9, 3)]
    assert duplicate_ids(records[: 2 * ID.size]) == []


def test_accounts_are_counted_by_kind_of_entry() -> None:
    sources = b"".join(SOURCE.pack(b"t" * 8, offset, kind) for offset, kind in [(0, 0), (1, 2), (2, 0), (2, 0), (9, 1)])
    good = ACCOUNT.pack(b"t" * 8, 0, 2, 3, 0, 1, 0, 0)
    bad = ACCOUNT.pack(b"t" * 8, 3, 8, 1, 0, 0, 0, 1)
    found, outside = counted(sources, good + bad)
    assert judge_counts(good, found[good]) is None
    assert judge_counts(bad, found[bad]) is not None
    assert outside == {b"t" * 8: (1, 9)}


def test_findings_are_bounded_and_told_once() -> None:
    findings = Findings(listed_max=3)
    for index in (5, 5, 1, 2, 7, 8):
        findings.add("leaf_edited", "log", index, "edited")
    listed = list(findings)
    assert [finding.index for finding in listed] == [1, 2, 5, None]
    assert listed[-1].detail.startswith("and 2 more")
    findings.drop("leaf_edited", "log", [1])
    assert [finding.index for finding in findings.of("leaf_edited", "log")] == [5, 2]


@pytest.mark.parametrize(
    ("kinds", "empty", "integrity", "completeness"),
    [
        (set(), False, "ok", "ok"),
        (set(), True, "empty", "ok"),
        ({"leaf_edited"}, True, "failed", "ok"),
        ({"producer_gap"}, False, "ok", "gaps"),
        ({"source_hole", "order"}, False, "failed", "gaps"),
        ({"heads_lag"}, False, "ok", "ok"),
    ],
)
def test_each_verdict_follows_from_its_own_findings(
    kinds: set[str], empty: bool, integrity: str, completeness: str
) -> None:
    assert integrity_of(kinds, empty=empty) == integrity
    assert completeness_of(kinds, unknown=False) == completeness


def test_the_exit_status_is_of_the_verdicts() -> None:
    assert Report("ok", "unknown", "unwitnessed").exit_status == 0
    assert Report("ok", "gaps", "unwitnessed").exit_status == 1
    assert Report("empty", "ok", "unwitnessed").exit_status == 1
    assert Report("ok", "ok", "failed").exit_status == 1
    assert Finding("order", "log", None, "x").index is None


def test_rows_and_arrays_of_binary_copy() -> None:
    row = struct.pack(">hiqi", 3, 8, 7, -1) + struct.pack(">i2s", 2, b"ab")
    assert fields_of(row) == [struct.pack(">q", 7), None, b"ab"]
    array = struct.pack(">iiIii", 1, 1, 17, 2, 1) + struct.pack(">i", -1) + struct.pack(">i1s", 1, b"x")
    assert array_of(array) == [None, b"x"]
    assert array_of(struct.pack(">iiI", 0, 0, 17)) == []
