"""Temporary files that carry fixed-width records from the workers to the checks across ranges.

What one entry says about another (a run's chain, an id used twice, a producer's numbers, an intake account) can't be
judged within a range of indexes. So each range writes small records into partitions by a hash of what they are joined
on, and each partition is judged alone. The number of partitions follows the number of entries, so a partition stays
within a bounded size.

Invariant: records that must meet have the same partition. Files are written by one process each and only ever appended.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

PARTITION_ENTRIES = 400_000  # entries whose records share a partition: some 100 MB while it is judged
PARTITIONS_MAX = 1024

# log ordinal, event id, index
ID = struct.Struct(">I16sq")
ID_KEY_BYTES = 20
# log ordinal, run digest, first run_seq, first index, first prev, last run_seq, last index, last leaf hash,
# first recorded, last recorded, flags
SEGMENT = struct.Struct(">I16sqq32sqq32sqqB")
RUN_FINISHED, RUN_HEAD = 1, 2
# tenant ordinal, digest of producer and run, first number, last number, log ordinal, index of the first, of the last
NUMBERS = struct.Struct(">I16sqqIqq")
# topic partition digest, offset, class (0 appended, 1 conflict, 2 rejected)
SOURCE = struct.Struct(">8sqB")
# topic partition digest, from, to, appended, conflicts, rejected, log ordinal, index
ACCOUNT = struct.Struct(">8sqqqqqIq")
OFFSET_BLOCK_BITS = 18  # offsets of one topic partition that share a spool partition


def partitions_for(entries: int) -> int:
    """How many partitions a verification of so many entries uses."""
    return max(1, min(PARTITIONS_MAX, entries // PARTITION_ENTRIES))


def offset_partition(topic_partition: bytes, offset: int, partitions: int) -> int:
    """The spool partition of a block of offsets."""
    return (int.from_bytes(topic_partition[:4], "big") + (offset >> OFFSET_BLOCK_BITS)) % partitions


@dataclass(slots=True)
class Spool:
    """One process' end of the spool: buffers, appended to its own files by `flush`."""

    folder: Path
    name: str
    partitions: int
    buffers: dict[tuple[str, int], bytearray] = field(default_factory=dict)

    def buffer(self, kind: str, partition: int) -> bytearray:
        """Where records of a kind for a partition are appended; valid until the next flush."""
        found = self.buffers.get((kind, partition))
        if found is None:
            found = self.buffers[(kind, partition)] = bytearray()
        return found

    def add(self, kind: str, key: bytes, record: bytes) -> None:
        """Append a record to the partition that its key's last two bytes choose."""
        self.buffer(kind, int.from_bytes(key[-2:], "big") % self.partitions).extend(record)

    def flush(self) -> None:
        """Write the buffers to the files."""
        for (kind, partition), data in self.buffers.items():
            if data:
                with (self.folder / f"{kind}.{partition}.{self.name}").open("ab") as file:
                    file.write(data)
        self.buffers.clear()


def read_partition(folder: Path, kind: str, partition: int) -> bytes:
    """All records of a kind in a partition, from every process."""
    return b"".join(file.read_bytes() for file in sorted(folder.glob(f"{kind}.{partition}.*")))
