"""Intake accounts: what the ledger says it took in from each topic partition, against the entries that name it as their
source. Pure.

Guarantees: within one topic partition the accounts follow on each other without a hole that no `source_gap` covers, and
each counts as many entries, conflicts and rejected records as name an offset within it. Duplicates leave no entry, so
their number can't be checked.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ledger.verify.entries import partition_digest
from ledger.verify.report import Findings
from ledger.verify.spool import ACCOUNT, OFFSET_BLOCK_BITS, SOURCE, Spool, offset_partition

TOPIC_RECREATED = "topic_recreated"
_CLASSES = ("appended", "conflicts", "rejected")
SPANNING_MAX = 1 << 12  # offset blocks of one account; past that its counts are not checked (compacted topics)

Counted = dict[bytes, tuple[int, ...]]  # an account record to the entries found within it, by class


@dataclass(slots=True)
class PartitionChain:
    """Follows the accounts of one topic partition in the order of its log."""

    log: str
    ordinal: int
    topic: str
    partition: int
    expected: int | None = None  # the next offset; None: not known yet
    topic_id: str | None = None
    cluster: str | None = None
    fresh_from: int = 0  # accounts below this index were verified before, and are not counted again

    @classmethod
    def of(cls, log: str, ordinal: int) -> PartitionChain | None:
        """For the log `<prefix>/_intake/<topic>/<partition>`; None where the name is not of that form."""
        _, found, rest = log.partition("/_intake/")
        topic, _, partition = rest.rpartition("/")
        if not found or not topic or not partition.isdigit():
            return None
        return cls(log, ordinal, topic, int(partition))

    def take(self, index: int, kind: str, data: dict[str, Any], findings: Findings, spool: Spool) -> None:
        """The next `intake` or `source_gap` entry."""
        try:
            first, last = int(data["from"]), int(data["to"])
            topic_id, cluster = data.get("topic_id"), str(data["cluster"])
            counts = [_count(data, name) for name in _CLASSES]
            records, skipped = _count(data, "records"), _count(data, "skipped")
        except (KeyError, TypeError, ValueError):
            findings.add("leaf_malformed", self.log, index, f"{kind}: expected cluster, from, to and counts")
            return
        if kind == "source_gap":
            self._gap(index, first, last, str(data.get("cause")), findings)
            self.topic_id, self.cluster = topic_id, cluster
            return
        anew = self._begins_anew(cluster, topic_id)
        expected = 0 if anew else self.expected
        if expected is not None and first != expected:
            what = "offsets are in no account" if first > expected else "offsets are in two accounts"
            low, high = min(first, expected), max(first, expected) - 1
            findings.add("source_hole", self.log, index, f"{what}: {low} to {high} of {self._name()}")
        self.expected, self.topic_id, self.cluster = last + 1, topic_id, cluster
        if records + skipped != last - first + 1:
            findings.add(
                "source_hole",
                self.log,
                index,
                f"{records} records and {skipped} skipped offsets do not make {first} to {last} of {self._name()}",
            )
        digest = partition_digest(cluster, self.topic, topic_id, self.partition)
        if index >= self.fresh_from:
            self._spool_account(digest, first, last, counts, index, spool)

    def _gap(self, index: int, first: int, last: int, cause: str, findings: Findings) -> None:
        """Offsets that the broker no longer had: on the record as missing, so told as such."""
        if self.expected is not None and first != self.expected:
            findings.add("source_hole", self.log, index, f"the gap begins at {first}, expected {self.expected}")
        lost = f"offsets {first} to {last}" if last >= first else f"what followed offset {first - 1}"
        findings.add("source_hole", self.log, index, f"recorded as lost: {lost} of {self._name()} ({cause})")
        # A topic that lost its end goes on anywhere; the next account says where.
        self.expected = last + 1 if last >= first or cause == TOPIC_RECREATED else None

    def _begins_anew(self, cluster: str, topic_id: str | None) -> bool:
        """Whether this account is of another topic of the same name than the one before."""
        if self.cluster is None:
            return False
        known = self.topic_id is not None and topic_id is not None
        return cluster != self.cluster or (known and topic_id != self.topic_id)

    def _name(self) -> str:
        return f"{self.topic}/{self.partition}"

    def _spool_account(self, digest: bytes, first: int, last: int, counts: list[int], index: int, spool: Spool) -> None:
        record = ACCOUNT.pack(digest, first, last, *counts, self.ordinal, index)
        blocks = range(first >> OFFSET_BLOCK_BITS, (last >> OFFSET_BLOCK_BITS) + 1)
        if len(blocks) > SPANNING_MAX:
            return
        partitions = {offset_partition(digest, block << OFFSET_BLOCK_BITS, spool.partitions) for block in blocks}
        for partition in sorted(partitions):
            spool.buffer("account", partition).extend(record)


def _count(data: dict[str, Any], name: str) -> int:
    """A count of an account, which is an integer of the profile. Raises ValueError."""
    found = data.get(name, 0)
    if type(found) is not int:
        raise ValueError(name)
    return found


def counted(sources: bytes, accounts: bytes) -> tuple[Counted, dict[bytes, tuple[int, int]]]:
    """Count, in one spool partition, the sources within each account; and by topic partition those within none
    (how many, and the lowest offset). An account may also stand in other spool partitions: its counts add up."""
    offsets: dict[bytes, tuple[list[int], list[int], list[int]]] = {}
    for digest, offset, kind in SOURCE.iter_unpack(sources):
        offsets.setdefault(digest, ([], [], []))[kind].append(offset)
    for lists in offsets.values():
        for numbers in lists:
            numbers.sort()
    found: Counted = {}
    covered: dict[bytes, int] = {}
    ranges: dict[bytes, list[tuple[int, int]]] = {}
    for record in _records(accounts):
        digest, first, last, *_ = ACCOUNT.unpack(record)
        lists = offsets.get(digest, ([], [], []))
        counts = tuple(bisect_right(numbers, last) - bisect_left(numbers, first) for numbers in lists)
        found[record] = counts
        covered[digest] = covered.get(digest, 0) + sum(counts)
        ranges.setdefault(digest, []).append((first, last))
    outside: dict[bytes, tuple[int, int]] = {}
    for digest, lists in offsets.items():
        total = sum(map(len, lists))
        if covered.get(digest, 0) < total:
            lowest = _lowest_outside(sorted(offset for numbers in lists for offset in numbers), ranges.get(digest, []))
            if lowest is not None:
                outside[digest] = (total - covered.get(digest, 0), lowest)
    return found, outside


def _lowest_outside(offsets: list[int], ranges: list[tuple[int, int]]) -> int | None:
    ranges = sorted(ranges)
    at = 0
    for offset in offsets:
        while at < len(ranges) and ranges[at][1] < offset:
            at += 1
        if at == len(ranges) or offset < ranges[at][0]:
            return offset
    return None


def _records(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), ACCOUNT.size):
        yield data[at : at + ACCOUNT.size]


def judge_counts(record: bytes, counts: tuple[int, ...]) -> tuple[int, int, str] | None:
    """Whether an account counts what was found; else its log's ordinal, its index, and what differs."""
    _, first, last, appended, conflicts, rejected, ordinal, index = ACCOUNT.unpack(record)
    stated = (appended, conflicts, rejected)
    if stated == counts:
        return None
    said = ", ".join(f"{number} {name}" for name, number in zip(_CLASSES, stated, strict=True))
    seen = ", ".join(f"{number} {name}" for name, number in zip(_CLASSES, counts, strict=True))
    return ordinal, index, f"offsets {first} to {last}: the account says {said}; the logs have {seen}"
