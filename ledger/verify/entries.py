"""Checking entries against what they say of themselves, a tile's worth at a time. Pure.

Guarantees, for each row: the leaf is in the profile and of the log format; it says this log; every column says what the
leaf says. What can't be judged here goes to the spool (ids, runs, producers' numbers, sources) or is handed up
(rotations, erasures, declared gaps, accounts). Does not: touch content (`fields`) or trees (`tree`).

The loop is the hot path of a verification: about 10 us an entry, of which the leaf's canonical form is half.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.errors import MalformedLeaf
from ledger.leaf import check_leaf
from ledger.verify.report import Findings
from ledger.verify.rows import fields_of
from ledger.verify.spool import ID, NUMBERS, RUN_FINISHED, RUN_HEAD, SEGMENT, SOURCE, Spool, offset_partition

COLUMNS = "index, leaf, id, recorded, kind, run, run_seq"

RECORDED_BACK_US_MAX = 10_000_000  # log-format.md, "Leaf": within a log `recorded` steps back at most 10 s
LEDGER_KINDS = frozenset(
    [
        "rejected",
        "conflict",
        "intake",
        "source_gap",
        "erasure",
        "legal_hold",
        "key_rotated",
        "producer_key",
        "tenant",
        "run_head",
        "export_made",
        "content_disclosed",
        "log_continued",
        "prune",
        "period_closed",
        "correction",
    ]
)
NODE_BYTES = (64, 65)  # two hashes, with or without the prefix that makes them a node's
_CLASS_OF_KIND = {"conflict": 1, "rejected": 2}
_HANDED_UP = frozenset({"erasure", "key_rotated", "producer_gap", "intake", "source_gap"})

_HEAD = struct.Struct(">hiqi")  # count of fields; length of index, index; length of leaf
_HEAD_BYTES = _HEAD.size
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_LENGTH_AND_INT64 = struct.Struct(">iq")
_NULL_RUN = b"\xff\xff\xff\xff" * 2
_INT8_LENGTH = b"\0\0\0\x08"
_UUID_LENGTH = b"\0\0\0\x10"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # Postgres counts microseconds from here
_MICROSECOND = timedelta(microseconds=1)
_NO_HASH = bytes(32)
_TEXTS_CACHED_MAX = 65_536

Commit = dict[str, dict[str, Any]]


@dataclass(slots=True)
class Gathered:
    """What a range hands up as values: all of it is rare, or little per entry."""

    erased: list[str] = field(default_factory=list)  # references of keys that an erasure entry names
    rotations: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    declared_gaps: list[tuple[str, str | None, int, int]] = field(default_factory=list)  # producer, run, from, to
    accounts: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)  # index, kind, data
    unknown: bool = False  # an event without a producer's number
    foreign: list[tuple[int, str]] = field(default_factory=list)  # index, the log that the leaf says it is of
    nodes: list[int] = field(default_factory=list)  # indexes of leaves that are formed like a tree's inner node
    partitions: dict[bytes, tuple[str, int]] = field(default_factory=dict)  # by digest, topic and partition
    recorded_min: tuple[int, int] | None = None  # time, index
    recorded_max: int | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries that were checked: their indexes, their leaf hashes, by index the id and commitments of those that have
    content, and the indexes of those that have none. A leaf that can't be judged is in neither."""

    indexes: list[int]
    hashes: list[bytes]
    commits: dict[int, tuple[str, Commit]]
    without: set[int]


@dataclass(slots=True)
class _Run:
    """A stretch of a run's chain that holds together, as far as it was read."""

    next_seq: int
    last_hash: str
    last_recorded: int
    last_index: int
    first_seq: int
    first_index: int
    first_prev: bytes
    first_recorded: int
    run_field: bytes
    flags: int


@dataclass(slots=True)
class _Numbers:
    """A stretch of a producer's consecutive numbers."""

    next: int
    first: int
    first_index: int
    last_index: int


class EntryCheck:
    """Checks the entries of one range of one log, given in order of index."""

    def __init__(
        self,
        log: str,
        ordinal: int,
        tenant_ordinal: int,
        spool: Spool,
        findings: Findings,
        *,
        is_tenant: bool,
        fresh_from: int = 0,
    ) -> None:
        self.gathered = Gathered()
        self._log = log
        self._ordinal = ordinal
        self._tenant_ordinal = tenant_ordinal
        self._spool = spool
        self._findings = findings
        self._is_tenant = is_tenant
        self._fresh_from = fresh_from
        self._runs: dict[str, _Run] = {}
        self._numbers: dict[tuple[str, str | None], _Numbers] = {}
        self._texts: dict[str, bytes] = {}
        self._partitions: dict[tuple[str, str, str | None, int], bytes] = {}
        self._recorded_text = ""
        self._recorded = 0
        self._recorded_field = b""

    def tile(self, rows: list[bytes]) -> Checked:
        """Check rows."""
        log, findings, gathered = self._log, self._findings, self.gathered
        indexes: list[int] = []
        hashes: list[bytes] = []
        commits: dict[int, tuple[str, Commit]] = {}
        without: set[int] = set()
        sha256, head, check, join = hashlib.sha256, _HEAD.unpack_from, check_leaf, b"".join
        runs, numbers, kind_fields, ordinal = self._runs, self._numbers, self._texts, self._ordinal
        partitions = self._spool.partitions
        ids, sources = self._spool.buffer("id", 0), self._spool.buffer("source", 0)
        named_partitions, fresh_from = self._partitions, self._fresh_from
        for row in rows:
            _, _, index, size = head(row)
            end = _HEAD_BYTES + size
            leaf = row[_HEAD_BYTES:end]
            leaf_hash = sha256(b"\0" + leaf)
            digest = leaf_hash.digest()
            indexes.append(index)
            hashes.append(digest)
            try:
                value = check(leaf)
            except MalformedLeaf as error:
                findings.add("leaf_malformed", log, index, str(error))
                if size in NODE_BYTES:
                    gathered.nodes.append(index)
                continue
            if value["log"] != log:
                gathered.foreign.append((index, value["log"]))
                findings.add("wrong_log", log, index, f"the leaf says it is of {value['log']}")
                continue
            id, kind, run, recorded = value["id"], value["kind"], value["run"], value["recorded"]
            if recorded != self._recorded_text:
                self._set_recorded(recorded, index)
            elif gathered.recorded_min is None:
                gathered.recorded_min = (self._recorded, index)
            id_bytes = bytes.fromhex(id.replace("-", ""))
            if run is None:
                run_fields = _NULL_RUN
            else:
                run_seq = value["run_seq"]
                known = runs.get(run)
                if (
                    known is not None
                    and known.next_seq == run_seq
                    and known.last_hash == value["prev"]
                    and known.last_recorded <= self._recorded
                ):
                    known.next_seq = run_seq + 1
                    known.last_hash = leaf_hash.hexdigest()
                    known.last_recorded = self._recorded
                    known.last_index = index
                else:
                    known = self._begin_run(run, run_seq, value["prev"], leaf_hash.hexdigest(), index)
                run_fields = known.run_field + _LENGTH_AND_INT64.pack(8, run_seq)
                if kind == "run_finished":
                    known.flags |= RUN_FINISHED
                elif kind == "run_head":
                    known.flags |= RUN_HEAD
            kind_field = kind_fields.get(kind) or self._text(kind)
            if row[end:] != join((_UUID_LENGTH, id_bytes, self._recorded_field, kind_field, run_fields)):
                self._name_columns(row, index, value)
            if partitions != 1:
                ids = self._spool.buffer("id", int.from_bytes(id_bytes[-2:], "big") % partitions)
            ids += ID.pack(ordinal, id_bytes, index)
            src = value["src"]
            if src is not None:
                number = src["seq"]
                stretch = numbers.get((src["id"], run))
                if stretch is not None and stretch.next == number:
                    stretch.next = number + 1
                    stretch.last_index = index
                else:
                    self._begin_numbers(src["id"], run, number, index)
            elif self._is_tenant and kind not in LEDGER_KINDS:
                gathered.unknown = True
            source = value["source"]
            if "topic" in source and index >= fresh_from:
                names = (source["cluster"], source["topic"], source["topic_id"], source["partition"])
                named = named_partitions.get(names) or self._name_partition(names)
                offset = source["offset"]
                if partitions != 1:
                    sources = self._spool.buffer("source", offset_partition(named, offset, partitions))
                sources += SOURCE.pack(named, offset, _CLASS_OF_KIND.get(kind, 0))
            if kind in _HANDED_UP:
                self._hand_up(index, kind, run, value["data"])
            commit = value["commit"]
            if commit:
                commits[index] = (id, commit)
            else:
                without.add(index)
        return Checked(indexes, hashes, commits, without)

    def finish(self) -> Gathered:
        """Write what is still open to the spool."""
        for run, known in self._runs.items():
            self._end_run(run, known)
        self._runs.clear()
        for (producer, run_of), numbers in self._numbers.items():
            self._end_numbers(producer, run_of, numbers)
        self._numbers.clear()
        return self.gathered

    def _set_recorded(self, text: str, index: int) -> None:
        self._recorded_text = text
        self._recorded = recorded = (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
        self._recorded_field = _INT8_LENGTH + _INT64.pack(recorded)
        gathered = self.gathered
        if gathered.recorded_max is not None and recorded < gathered.recorded_max - RECORDED_BACK_US_MAX:
            self._findings.add("order", self._log, index, f"recorded at {text}, over 10 s before an earlier entry")
        if gathered.recorded_min is None or recorded < gathered.recorded_min[0]:
            gathered.recorded_min = (recorded, index)
        if gathered.recorded_max is None or recorded > gathered.recorded_max:
            gathered.recorded_max = recorded

    def _text(self, text: str) -> bytes:
        if len(self._texts) >= _TEXTS_CACHED_MAX:
            self._texts.clear()
        data = text.encode()
        found = self._texts[text] = _INT32.pack(len(data)) + data
        return found

    def _begin_run(self, run: str, run_seq: int, prev: str | None, leaf_hash: str, index: int) -> _Run:
        before = self._runs.get(run)
        if before is not None:
            self._end_run(run, before)
        data = run.encode()
        begun = self._runs[run] = _Run(
            next_seq=run_seq + 1,
            last_hash=leaf_hash,
            last_recorded=self._recorded,
            last_index=index,
            first_seq=run_seq,
            first_index=index,
            first_prev=_NO_HASH if prev is None else bytes.fromhex(prev),
            first_recorded=self._recorded,
            run_field=_INT32.pack(len(data)) + data,
            flags=0,
        )
        return begun

    def _end_run(self, run: str, known: _Run) -> None:
        digest = hashlib.sha256(run.encode()).digest()[:16]
        record = SEGMENT.pack(
            self._ordinal,
            digest,
            known.first_seq,
            known.first_index,
            known.first_prev,
            known.next_seq - 1,
            known.last_index,
            bytes.fromhex(known.last_hash),
            known.first_recorded,
            known.last_recorded,
            known.flags,
        )
        self._spool.add("segment", digest, record)

    def _begin_numbers(self, producer: str, run: str | None, number: int, index: int) -> None:
        known = self._numbers.get((producer, run))
        if known is not None:
            self._end_numbers(producer, run, known)
        self._numbers[(producer, run)] = _Numbers(number + 1, number, index, index)

    def _end_numbers(self, producer: str, run: str | None, known: _Numbers) -> None:
        digest = numbers_digest(producer, run)
        record = NUMBERS.pack(
            self._tenant_ordinal,
            digest,
            known.first,
            known.next - 1,
            self._ordinal,
            known.first_index,
            known.last_index,
        )
        self._spool.add("numbers", digest, record)

    def _name_partition(self, names: tuple[str, str, str | None, int]) -> bytes:
        digest = self._partitions[names] = partition_digest(*names)
        self.gathered.partitions[digest] = (names[1], names[3])
        return digest

    def _hand_up(self, index: int, kind: str, run: str | None, data: dict[str, Any]) -> None:
        gathered = self.gathered
        if kind == "erasure":
            keys = data.get("keys")
            if isinstance(keys, list):
                gathered.erased.extend(ref for ref in keys if isinstance(ref, str))
        elif kind == "key_rotated":
            gathered.rotations.append((index, data))
        elif kind == "producer_gap":
            producer, first, last = data.get("src"), data.get("from"), data.get("to")
            if isinstance(producer, str) and isinstance(first, int) and isinstance(last, int):
                gathered.declared_gaps.append((producer, run, first, last))
        else:
            gathered.accounts.append((index, kind, data))

    def _name_columns(self, row: bytes, index: int, value: dict[str, Any]) -> None:
        """Say which columns differ from the leaf."""
        _, _, id, recorded, kind, run, run_seq = fields_of(row)
        wanted: dict[str, tuple[bytes | None, bytes | None]] = {
            "id": (id, bytes.fromhex(value["id"].replace("-", ""))),
            "recorded": (recorded, _INT64.pack(self._recorded)),
            "kind": (kind, value["kind"].encode()),
            "run": (run, None if value["run"] is None else value["run"].encode()),
            "run_seq": (run_seq, None if value["run_seq"] is None else _INT64.pack(value["run_seq"])),
        }
        for name, (found, expected) in wanted.items():
            if found != expected:
                self._findings.add(
                    "column_mismatch", self._log, index, f"column {name} is not what the leaf says: {value[name]}"
                )


def partition_digest(cluster: str, topic: str, topic_id: str | None, partition: int) -> bytes:
    """Eight bytes that stand for a topic partition in the spool."""
    return hashlib.sha256(f"{cluster}\n{topic}\n{topic_id}\n{partition}".encode()).digest()[:8]


def numbers_digest(producer: str, run: str | None) -> bytes:
    """Sixteen bytes that stand for a producer's numbering of one run's events, or of those of no run."""
    return hashlib.sha256(f"{producer}\n{'' if run is None else run}".encode()).digest()[:16]
