"""One log as its ranges come in: roots at every checkpoint, who signed them, whether anything needs settling. Pure.

Guarantees: given the results of all ranges in order, `troubled` is false only if every entry is there with the hash
that the stored tiles have, and every checkpoint's root is the one recomputed at its size. Holds one hash a tile: 12 MB
for 100 million entries.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import MalformedNote
from ledger.merkle import TILE_WIDTH
from ledger.note import parse_vkey
from ledger.verify.entries import RECORDED_BACK_US_MAX
from ledger.verify.report import Findings
from ledger.verify.tree import TreeFold, head_hash, levels_of
from ledger.verify.work import Dispute, RangeResult, SeenCheckpoint, TileSeen

DISPUTES_MAX = 65_536  # of one log; past that only how many more is known
_ROTATION_DOMAIN = "tallystick/key-rotation/v1"


@dataclass(frozen=True, slots=True)
class LogRow:
    """A log as the database lists it; `listed` is false where only its entries are there."""

    log: str
    ordinal: int
    log_class: str
    tenant: str | None
    tenant_ordinal: int
    tree_size: int
    root_hash: bytes
    listed: bool = True


@dataclass(slots=True)
class LogCheck:
    """What the ranges of a log came to so far. `span`: how many entries the log is taken to have."""

    row: LogRow
    span: int
    vkeys: list[str]
    tiles: list[bytes | None] = field(default_factory=list)  # hashes of the full tiles as recomputed
    differing: dict[int, TileSeen] = field(default_factory=dict)
    tail: list[bytes | None] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)
    disputes_more: int = 0
    extra: dict[int, bytes] = field(default_factory=dict)
    newest: SeenCheckpoint | None = None
    newest_signed: SeenCheckpoint | None = None
    mismatched: bool = False
    foreign: dict[int, str] = field(default_factory=dict)
    nodes: set[int] = field(default_factory=set)
    fold: TreeFold = field(default_factory=TreeFold)
    recorded_max: int | None = None  # microseconds since 2000
    _rotations: list[tuple[int, int]] = field(default_factory=list)  # index of the entry, position of the new key
    _rotations_used: int = 0

    @property
    def troubled(self) -> bool:
        """Whether anything within the ranges is not as it must be."""
        return bool(self.mismatched or self.differing or self.disputes or None in self.tail)

    def begin_at(self, tiles: list[bytes]) -> None:
        """Begin past tiles that an earlier verification vouches for."""
        for tile in tiles:
            self.tiles.append(tile)
            self.fold.add(tile)

    def take(self, result: RangeResult, findings: Findings) -> None:
        """Take in the next range; its own findings too."""
        findings.merge(result.findings)
        gathered = result.gathered
        self.foreign.update(gathered.foreign)
        self.nodes.update(gathered.nodes)
        self.extra.update(result.extra)
        for index, data in gathered.rotations:
            self._rotation(index, data, findings)
        room = DISPUTES_MAX - len(self.disputes)
        self.disputes += result.disputes[:room]
        self.disputes_more += result.disputes_more + max(0, len(result.disputes) - room)
        self._recorded(result, findings)
        pending = iter(result.checkpoints)
        seen = next(pending, None)
        for tile in result.tiles:
            number = len(self.tiles)
            while seen is not None and seen.tree_size <= (number + 1) * TILE_WIDTH:
                self._checkpoint(seen, findings)
                seen = next(pending, None)
            self.tiles.append(tile.computed)
            if tile.computed is None or tile.computed != tile.stored:
                self.differing[number] = tile
            self.fold.add(tile.computed or bytes(32))
        self.tail = result.tail or self.tail
        while seen is not None:
            self._checkpoint(seen, findings)
            seen = next(pending, None)

    def computed_root(self) -> bytes | None:
        """Root of all entries as recomputed; None where some are not there."""
        if None in self.tiles or None in self.tail:
            return None
        tail = [leaf_hash for leaf_hash in self.tail if leaf_hash is not None]
        return self.fold.root(head_hash(levels_of(tail), len(tail)) if tail else None)

    def _checkpoint(self, seen: SeenCheckpoint, findings: Findings) -> None:
        self.newest = seen
        if seen.signed_by:
            self.newest_signed = seen
            self._signers(seen, findings)
        if seen.root_hash is None or seen.tree_size > self.span:
            return
        unknown = seen.head is None and seen.tree_size > 0
        if unknown or self.fold.root(seen.head) != seen.root_hash:
            self.mismatched = True

    def _signers(self, seen: SeenCheckpoint, findings: Findings) -> None:
        """Which key had to sign: that of the last rotation below this size; at its first checkpoint the old one too."""
        used = self._rotations_used
        while used < len(self._rotations) and self._rotations[used][0] < seen.tree_size:
            used += 1
        position = self._rotations[used - 1][1] if used else 0
        first_after = used > self._rotations_used
        before = self._rotations[self._rotations_used - 1][1] if self._rotations_used else 0
        self._rotations_used = used
        index = seen.tree_size - 1 if seen.tree_size else None
        if position not in seen.signed_by:
            kind = "retired_key" if max(seen.signed_by) < position else "unknown_key"
            expected = self.vkeys[position] if position < len(self.vkeys) else "a key that the store lacks"
            got = ", ".join(self.vkeys[at] for at in seen.signed_by)
            findings.add(
                kind,
                self.row.log,
                index,
                f"the checkpoint of size {seen.tree_size} must be under {expected}, not {got}",
            )
        elif first_after and before not in seen.signed_by:
            findings.add(
                "bad_signature",
                self.row.log,
                index,
                f"the checkpoint of size {seen.tree_size} is the first of a new key and lacks the old one's signature",
            )

    def _rotation(self, index: int, data: dict[str, Any], findings: Findings) -> None:
        """A `key_rotated` entry of this log's key. Entries that name another log's key, or its first, are records."""
        old, new = data.get("old"), data.get("new")
        if not isinstance(old, str) or not isinstance(new, str) or old.partition("+")[0] != self.row.log:
            return
        text = f"{_ROTATION_DOMAIN}\n{self.row.log}\n{old}\n{new}\n"
        try:
            key = Ed25519PublicKey.from_public_bytes(parse_vkey(new).public)
            key.verify(b64decode(str(data.get("signature")), validate=True), text.encode())
        except (MalformedNote, InvalidSignature, ValueError) as error:
            findings.add("bad_signature", self.row.log, index, f"the new key did not sign its rotation: {error}")
        if new in self.vkeys:
            self._rotations.append((index, self.vkeys.index(new)))
        else:
            findings.add("unknown_key", self.row.log, index, f"rotated to a key that the key store lacks: {new}")

    def _recorded(self, result: RangeResult, findings: Findings) -> None:
        """`recorded` against the ranges before; within the range it was checked already."""
        gathered = result.gathered
        low, high = gathered.recorded_min, gathered.recorded_max
        if low is not None and self.recorded_max is not None and low[0] < self.recorded_max - RECORDED_BACK_US_MAX:
            findings.add("order", self.row.log, low[1], "recorded over 10 s before an earlier entry")
        if high is not None:
            self.recorded_max = high if self.recorded_max is None else max(self.recorded_max, high)
