"""The `heads` log: leaves that are other logs' signed checkpoints, and what each says of its log.

Guarantees: a leaf that is not reported is a note to the letter, either byte for byte a checkpoint that is stored, or
signed by the named log's own key and handed up as a claim to be held against that log's tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from ledger.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from ledger.db import Connection
from ledger.errors import MalformedNote, NoteError, UnknownKey
from ledger.note import parse_note
from ledger.verify.entries import Checked
from ledger.verify.report import Findings
from ledger.verify.rows import fields_of

COMPARED_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Claim:
    """A tree head that somebody holds of a log: it must be one of the log's, or the log isn't what it was."""

    origin: str
    tree_size: int
    root_hash: bytes
    where: str


@dataclass(slots=True)
class HeadsSeen:
    """What a range of `heads` holds: by log the largest size it names, and the claims no stored checkpoint matches."""

    newest: dict[str, int] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Leaf:
    index: int
    note: bytes
    said: Checkpoint


class HeadsCheck:
    """Checks the entries of one range of `heads`."""

    def __init__(self, log: str, vkeys: Callable[[str], list[str]], findings: Findings) -> None:
        self.seen = HeadsSeen()
        self._log = log
        self._vkeys = vkeys
        self._findings = findings
        self._leaves: list[_Leaf] = []

    def tile(self, rows: list[bytes]) -> Checked:
        """Check rows for what they say of themselves."""
        indexes: list[int] = []
        hashes: list[bytes] = []
        for row in rows:
            index = int.from_bytes(row[6:14], "big", signed=True)
            _, leaf, *columns = fields_of(row)
            note = leaf or b""
            indexes.append(index)
            hashes.append(hashlib.sha256(b"\0" + note).digest())
            if any(column is not None for column in columns):
                self._findings.add(
                    "column_mismatch", self._log, index, "an entry of heads has no id, kind, run or recorded"
                )
            try:
                said = parse_checkpoint(parse_note(note).text)
            except MalformedNote as error:
                self._findings.add("leaf_malformed", self._log, index, f"not a signed checkpoint: {error}")
                continue
            if said.origin == self._log:
                self._findings.add("leaf_malformed", self._log, index, "heads can't name itself")
                continue
            self._leaves.append(_Leaf(index, note, said))
        return Checked(indexes, hashes, {}, set())

    async def compare(self, conn: Connection) -> HeadsSeen:
        """Hold the leaves against the stored checkpoints."""
        newest = self.seen.newest
        for at in range(0, len(self._leaves), COMPARED_AT_ONCE):
            leaves = self._leaves[at : at + COMPARED_AT_ONCE]
            cursor = conn.cursor(binary=True)
            await cursor.execute(
                "SELECT w.n, c.note FROM unnest(%b::text[], %b::bigint[]) WITH ORDINALITY AS w(log, tree_size, n)"
                " JOIN checkpoints c ON c.log = w.log AND c.tree_size = w.tree_size",
                ([leaf.said.origin for leaf in leaves], [leaf.said.tree_size for leaf in leaves]),
            )
            stored = {n - 1: note async for n, note in cursor}
            for number, leaf in enumerate(leaves):
                said = leaf.said
                newest[said.origin] = max(newest.get(said.origin, 0), said.tree_size)
                if stored.get(number) != leaf.note:
                    self._claim(leaf)
        self._leaves.clear()
        return self.seen

    def _claim(self, leaf: _Leaf) -> None:
        said = leaf.said
        try:
            verify_checkpoint(leaf.note, self._vkeys(said.origin))
        except UnknownKey as error:
            self._findings.add(
                "unknown_key", self._log, leaf.index, f"it names {said.origin} under no key of it: {error}"
            )
        except NoteError as error:
            self._findings.add("bad_signature", self._log, leaf.index, f"it names {said.origin}: {error}")
        else:
            self.seen.claims.append(
                Claim(said.origin, said.tree_size, said.root_hash, f"entry {leaf.index} of {self._log}")
            )
