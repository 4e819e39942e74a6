"""A run's entries in order, with what became of their content, what is known of the run, and what it comes to.

Guarantees: `disclosed` is said only of a value that opened under the keys its leaf names and is what the leaf commits
to; whatever the tables hold, the other entries are shown. Does not: verify chains or signatures, or leaves beyond their
form; `tally verify` does.

An entry whose leaf can't be read has `verdict` tampered, and of the rest only what the columns say; it adds nothing to
what is known.

Verdicts of a field (log-format.md, "Content"): disclosed; withheld, no key store was given; erased, an erasure entry of
the log names one of its keys; key_missing, a key is gone and no entry says why; tampered, it doesn't open or isn't what
the leaf commits to, or its bytes are gone though its keys are there.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import orjson

from ledger.content import commitment, open_field
from ledger.db import Connection
from ledger.errors import MalformedLeaf, SealedFieldError
from ledger.keystore import KeyStore
from ledger.leaf import Leaf, check_leaf
from projections.knowledge import Knowledge, knowledge_of
from projections.steps import Run, Totals, steps, totals_of
from replay.errors import Newest, NoSuchRun, RunUnknown

ROWS_AT_ONCE = 500
# Suggested instead of a run that isn't there: so many, found among so many entries of so many logs.
NEWEST_RUNS = 3
NEWEST_ENTRIES = 200
NEWEST_LOGS = 20


@dataclass(frozen=True, slots=True)
class RunShown:
    """A run as design.md, "Commands", has it, and what follows from its entries."""

    run: str
    log: str
    entries: list[dict[str, Any]]
    recorded: list[str | None]  # of each entry, when the ledger sealed it
    told: Run
    knowledge: Knowledge
    totals: Totals

    def to_json(self) -> str:
        """One line of JSON."""
        told, totals = self.told, self.totals.as_json()
        whole = {"status": told.status, "started": told.started, "ended": told.ended, "roots": told.roots, **totals}
        merged = [{"index": at, "into": into, "why": why} for at, (into, why) in sorted(self.merged().items())]
        known = {**self.knowledge.as_json(), "merged": merged}
        shown = {"run": self.run, "log": self.log, "entries": self.entries}
        return orjson.dumps({**shown, "knowledge": known, "totals": whole}).decode()

    def merged(self) -> dict[int, tuple[int, str]]:
        """Of each entry that tells what another one does: the index of that one, and by which rule."""
        return {one.entry.index: (step.entry.index, one.why) for step in self.told.steps for one in step.merged}


async def show_run(conn: Connection, keystore: KeyStore | None, run: str, tenant: str | None) -> RunShown:
    """The entries of a run by place in its chain. Raises RunUnknown."""
    log = await _log_of(conn, run, tenant)
    erased = await _erased(conn, log)
    entries: list[dict[str, Any]] = []
    recorded: list[str | None] = []
    readable: list[tuple[int, Leaf]] = []
    cursor = conn.cursor(binary=True)
    await cursor.execute(
        "SELECT e.index, e.id, e.run_seq, e.kind, e.leaf, c.pointers, c.types, c.sealed FROM entries e"
        " LEFT JOIN content c ON c.log = e.log AND c.index = e.index"
        " WHERE e.log = %b AND e.run = %b ORDER BY e.run_seq",
        (log, run),
    )
    while rows := await cursor.fetchmany(ROWS_AT_ONCE):
        leaves = [_leaf(row[4]) for row in rows]
        keys = _keys(keystore, [leaf for leaf in leaves if leaf is not None])
        for (index, id, run_seq, kind, _, pointers, types, sealed), leaf in zip(rows, leaves, strict=True):
            recorded.append(None if leaf is None else leaf["recorded"])
            if leaf is None:
                entries.append(_unreadable(index, str(id), run_seq, kind))
                continue
            readable.append((index, Leaf(**leaf)))
            held = _held(pointers or (), types or (), sealed or ())
            entries.append(
                {
                    "index": index,
                    "id": leaf["id"],
                    "run_seq": leaf["run_seq"],
                    "kind": leaf["kind"],
                    "time": leaf["time"],
                    "recorded": leaf["recorded"],
                    "actor": leaf["actor"],
                    "data": leaf["data"],
                    "source": leaf["source"],
                    "content": {
                        pointer: _field(leaf, pointer, committed, held.get(pointer), keys, erased)
                        for pointer, committed in (leaf["commit"] or {}).items()
                    },
                }
            )
    told = steps(readable)
    return RunShown(run, log, entries, recorded, told, knowledge_of(told), totals_of(told))


def _leaf(leaf: bytes) -> dict[str, Any] | None:
    """The members of a leaf; None where it is none."""
    try:
        return check_leaf(leaf)
    except MalformedLeaf:
        return None


def _unreadable(index: int, id: str, run_seq: int, kind: str) -> dict[str, Any]:
    """An entry whose leaf can't be read."""
    return {
        "index": index,
        "id": id,
        "run_seq": run_seq,
        "kind": kind,
        "time": None,
        "recorded": None,
        "actor": None,
        "data": {},
        "source": {},
        "content": {},
        "verdict": "tampered",
    }


def _held(pointers: Sequence[Any], types: Sequence[Any], sealed: Sequence[Any]) -> dict[str, tuple[str, bytes | None]]:
    """What the content row holds by pointer; nothing where its columns don't fit each other."""
    if not len(pointers) == len(types) == len(sealed):
        return {}
    return {
        pointer: (type, box)
        for pointer, type, box in zip(pointers, types, sealed, strict=True)
        if isinstance(pointer, str) and isinstance(type, str) and isinstance(box, bytes | None)
    }


async def _log_of(conn: Connection, run: str, tenant: str | None) -> str:
    cursor = await conn.execute(
        "SELECT tenant, log FROM runs WHERE run = %(run)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"
        " ORDER BY tenant",
        {"run": run, "tenant": tenant},
    )
    found = await cursor.fetchall()
    if not found:
        whose = f" of tenant {tenant}" if tenant is not None else ""
        raise NoSuchRun(f"there is no run {run}{whose} on the record", await _newest(conn, tenant))
    if len(found) > 1:
        raise RunUnknown(f"run {run} is of several tenants, {', '.join(row[0] for row in found)}: name one, --tenant T")
    return str(found[0][1])


async def _newest(conn: Connection, tenant: str | None) -> list[Newest]:
    """The runs that were added to last, of all that this connection may read, or of one tenant; among the newest
    entries of the newest logs, so that it costs the same whatever the record holds."""
    cursor = await conn.execute(
        "SELECT e.run, l.tenant, max(e.recorded) FROM"
        " (SELECT log, tenant FROM logs WHERE class = 'tenant' AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)"
        " ORDER BY recorded DESC LIMIT %(logs)s) l"
        " CROSS JOIN LATERAL (SELECT run, recorded FROM entries WHERE log = l.log ORDER BY index DESC"
        " LIMIT %(entries)s) e WHERE e.run IS NOT NULL AND e.recorded IS NOT NULL"
        " GROUP BY 1, 2 ORDER BY 3 DESC, 2, 1 LIMIT %(runs)s",
        {"tenant": tenant, "logs": NEWEST_LOGS, "entries": NEWEST_ENTRIES, "runs": NEWEST_RUNS},
    )
    return [Newest(run, whose, recorded.astimezone(UTC)) for run, whose, recorded in await cursor.fetchall()]


async def _erased(conn: Connection, log: str) -> frozenset[str]:
    """The key references that erasure entries of a log name."""
    cursor = await conn.execute("SELECT leaf FROM entries WHERE log = %s AND kind = 'erasure'", (log,))
    refs: set[str] = set()
    for (stored,) in await cursor.fetchall():
        leaf = _leaf(stored)
        named = leaf["data"].get("keys") if leaf is not None else None
        if isinstance(named, list):
            refs.update(ref for ref in named if isinstance(ref, str))
    return frozenset(refs)


def _keys(keystore: KeyStore | None, leaves: Sequence[dict[str, Any]]) -> dict[str, bytes] | None:
    if keystore is None:
        return None
    refs = {ref for leaf in leaves for said in (leaf["commit"] or {}).values() for ref in said["k"]}
    return keystore.keys_by_ref(sorted(refs))


def _field(
    leaf: dict[str, Any],
    pointer: str,
    committed: dict[str, Any],
    held: tuple[str, bytes | None] | None,
    keys: dict[str, bytes] | None,
    erased: frozenset[str],
) -> dict[str, Any]:
    refs = committed["k"]
    if not erased.isdisjoint(refs):
        return {"verdict": "erased"}
    if keys is None:
        return {"verdict": "withheld"}
    if any(ref not in keys for ref in refs):
        return {"verdict": "key_missing"}
    type, sealed = held if held is not None else ("", None)
    if sealed is None:
        return {"verdict": "tampered"}
    log, id = leaf["log"], leaf["id"]
    try:
        salt, value = open_field([keys[ref] for ref in refs], sealed, log, id, pointer, type)
    except SealedFieldError:
        return {"verdict": "tampered"}
    if b64encode(commitment(salt, log, id, pointer, type, value)).decode() != committed["c"]:
        return {"verdict": "tampered"}
    return {"verdict": "disclosed", "type": type, **shown_value(value)}


def shown_value(value: bytes) -> dict[str, str]:
    """A value as it is shown: the exact text where the bytes are UTF-8, whatever their type; else base64, marked so."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value": b64encode(value).decode(), "encoding": "base64"}
