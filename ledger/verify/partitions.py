"""Judging one partition of the spool: runs in a worker process, reads the partition's files and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ledger.verify.accounts import Counted, counted
from ledger.verify.cross import BrokenLink, DuplicateId, NumberGap, broken_links, duplicate_ids, number_gaps
from ledger.verify.spool import read_partition

Part = Literal["ids", "runs", "numbers", "accounts"]
PARTS: tuple[Part, ...] = ("ids", "accounts", "runs", "numbers")  # the longest first
ANSWERS_MAX = 20_000  # of each kind from one partition: past that a ledger is beyond naming each


@dataclass(frozen=True, slots=True)
class PartitionJob:
    """What to judge of a partition: one kind of its records, so that all cores have work where there is one partition.

    `excluded`: by log ordinal, entries known not to belong; `from_start`: all entries were read, from index 0;
    `accounts`: sources are to be held against the intake accounts.
    """

    folder: Path
    number: int
    excluded: dict[int, set[int]]
    from_start: bool
    accounts: bool
    part: Part


@dataclass(slots=True)
class PartitionAnswer:
    """What partitions came to."""

    duplicates: list[DuplicateId] = field(default_factory=list)
    links: list[BrokenLink] = field(default_factory=list)
    gaps: list[NumberGap] = field(default_factory=list)
    counted: Counted = field(default_factory=dict)
    outside: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    open_runs: bool = False
    begun: dict[int, int] = field(default_factory=dict)  # runs by log ordinal

    def merge(self, other: PartitionAnswer) -> None:
        """Add another partition's answer."""
        self.duplicates += other.duplicates
        self.links += other.links
        self.gaps += other.gaps
        self.open_runs = self.open_runs or other.open_runs
        for ordinal, count in other.begun.items():
            self.begun[ordinal] = self.begun.get(ordinal, 0) + count
        for record, counts in other.counted.items():
            before = self.counted.get(record, (0, 0, 0))
            self.counted[record] = tuple(one + two for one, two in zip(before, counts, strict=True))
        for digest, (count, lowest) in other.outside.items():
            known = self.outside.get(digest, (0, lowest))
            self.outside[digest] = (known[0] + count, min(known[1], lowest))


def judge_partition(job: PartitionJob) -> PartitionAnswer:
    """Judge one kind of record of a partition."""
    answer = PartitionAnswer()
    if job.part == "ids":
        answer.duplicates = duplicate_ids(read_partition(job.folder, "id", job.number))[:ANSWERS_MAX]
    elif job.part == "runs":
        links, closed, answer.begun = broken_links(read_partition(job.folder, "segment", job.number), job.excluded)
        answer.links, answer.open_runs = links[:ANSWERS_MAX], not closed
    elif job.part == "numbers":
        gaps = number_gaps(read_partition(job.folder, "numbers", job.number), from_start=job.from_start)
        answer.gaps = gaps[:ANSWERS_MAX]
    elif job.accounts:
        answer.counted, answer.outside = counted(
            read_partition(job.folder, "source", job.number), read_partition(job.folder, "account", job.number)
        )
    return answer
