"""What others hold of the logs: each must be a state the log has passed through.

Claims come from `heads`, from the record of published checkpoints in the key store, from the mark of an earlier
verification, and from a checkpoint that the caller knows. A log that is smaller than a claim was rolled back; one with
another root at the claim's size was forked; one that is not there is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from ledger.checkpoint import parse_checkpoint, verify_checkpoint
from ledger.db import Connection
from ledger.errors import KeyStoreError, MalformedNote, NoteError, UnknownKey
from ledger.keystore import KeyStore
from ledger.merkle import TILE_WIDTH
from ledger.note import parse_note
from ledger.verify.heads import Claim
from ledger.verify.report import Findings
from ledger.verify.settle import Settled, leaf_hashes
from ledger.verify.tree import TreeFold, head_hash, levels_of

HEADS_LAG_MAX = timedelta(seconds=60)
CLAIMS_PER_LOG_MAX = 256  # the newest ones; a log with more that no stored checkpoint matches is named by those


async def check_claims(
    conn: Connection, claims: Iterable[Claim], settled: Mapping[str, Settled], known: set[str], findings: Findings
) -> None:
    """Hold claims against the logs that were verified. `known`: all logs of the database, verified or not."""
    by_log: dict[str, dict[tuple[int, bytes], Claim]] = {}
    for claim in claims:
        by_log.setdefault(claim.origin, {}).setdefault((claim.tree_size, claim.root_hash), claim)
    for log, distinct in sorted(by_log.items()):
        newest_first = sorted(distinct.values(), key=lambda claim: -claim.tree_size)[:CLAIMS_PER_LOG_MAX]
        state = settled.get(log)
        if state is None:
            if log not in known:
                first = newest_first[0]
                findings.add("log_missing", log, None, f"{first.where} has it with {first.tree_size} entries")
            continue
        for claim in newest_first:
            if claim.tree_size > state.size:
                findings.add(
                    "rolled_back",
                    log,
                    state.size,
                    f"{claim.where} has it with {claim.tree_size} entries, the database with {state.size}",
                )
                break
        for claim in newest_first:
            if claim.tree_size <= state.size and await _contradicts(conn, claim, state):
                findings.add(
                    "forked",
                    log,
                    claim.tree_size - 1 if claim.tree_size else None,
                    f"{claim.where} has root {claim.root_hash.hex()} at size {claim.tree_size}, the database another",
                )
                break
        else:
            await _all_stored(conn, log, newest_first, state, findings)


async def _contradicts(conn: Connection, claim: Claim, state: Settled) -> bool:
    root_hash = await _root(conn, claim.origin, claim.tree_size, state)
    return root_hash is not None and root_hash != claim.root_hash


async def _root(conn: Connection, log: str, size: int, state: Settled) -> bytes | None:
    """The log's root at a size; None where the entries that decide it are not there."""
    if size == state.size:
        return state.root_hash
    fold = TreeFold()
    tile, width = divmod(size, TILE_WIDTH)
    for tile_hash in state.tiles[:tile]:
        fold.add(tile_hash)
    if not width:
        return fold.root(None)
    leaves: list[bytes] | None
    if tile == len(state.tiles):
        leaves = state.tail[:width]
    elif state.sides.get(tile, "computed") == "computed":
        leaves = await leaf_hashes(conn, log, tile * TILE_WIDTH, tile * TILE_WIDTH + width)
    else:
        return None
    if leaves is None or len(leaves) < width:
        return None
    return fold.root(head_hash(levels_of(leaves), width))


async def _all_stored(conn: Connection, log: str, claims: list[Claim], state: Settled, findings: Findings) -> None:
    """Every checkpoint is kept: one that was published and is not stored any more was removed."""
    sizes = [claim.tree_size for claim in claims if 0 < claim.tree_size <= state.size]
    cursor = await conn.execute(
        "SELECT tree_size FROM checkpoints WHERE log = %s AND tree_size = ANY(%s)", (log, sizes)
    )
    stored = {size for (size,) in await cursor.fetchall()}
    for claim in claims:
        if claim.tree_size in sizes and claim.tree_size not in stored:
            findings.add(
                "checkpoint_mismatch",
                log,
                claim.tree_size - 1,
                f"{claim.where} has its checkpoint of size {claim.tree_size}, which is not stored any more",
            )


def held_outside(keystore: KeyStore) -> list[Claim]:
    """The claims that the key store holds: what was published, and what was verified before."""
    claims = [
        Claim(published.origin, published.tree_size, published.root_hash, "the record of what was published")
        for published in keystore.all_published()
    ]
    for log in keystore.origins():
        mark = keystore.verified_mark(log)
        if mark is not None:
            claims.append(
                Claim(log, mark.tree_size, mark.root_hash, f"the mark of the verification at {mark.verified_at}")
            )
    return claims


def read_known(keystore: KeyStore, note: bytes, findings: Findings) -> Claim | None:
    """The checkpoint a caller knows, if it is the log's own. Raises MalformedNote where it is no checkpoint at all."""
    said = parse_checkpoint(parse_note(note).text)
    index = said.tree_size - 1 if said.tree_size else None
    try:
        verify_checkpoint(note, keystore.vkeys(said.origin))
    except MalformedNote:
        raise
    except (UnknownKey, KeyStoreError) as error:
        findings.add("unknown_key", said.origin, index, f"the known checkpoint is under no key of the log: {error}")
    except NoteError as error:
        findings.add("bad_signature", said.origin, index, f"the known checkpoint: {error}")
    else:
        return Claim(said.origin, said.tree_size, said.root_hash, "the known checkpoint")
    return None


async def latest_in_heads(
    conn: Connection, keystore: KeyStore, heads: Iterable[str], logs: Iterable[str], findings: Findings
) -> list[Claim]:
    """The newest that `heads` says of each log, when `heads` itself is not verified; its signature is."""
    claims: list[Claim] = []
    cursor = conn.cursor(binary=True)
    for heads_log in heads:
        for log in logs:
            if log == heads_log:
                continue
            start = f"{log}\n".encode()
            await cursor.execute(
                "SELECT index, leaf FROM entries WHERE log = %b AND substring(leaf FROM 1 FOR %b) = %b"
                " ORDER BY index DESC LIMIT 1",
                (heads_log, len(start), start),
            )
            row = await cursor.fetchone()
            if row is None:
                continue
            index, leaf = row
            try:
                said = verify_checkpoint(leaf, keystore.vkeys(log)).checkpoint
            except NoteError as error:
                findings.add("bad_signature", heads_log, index, f"it names {log}: {error}")
                continue
            claims.append(Claim(log, said.tree_size, said.root_hash, f"entry {index} of {heads_log}"))
    return claims


async def check_lag(conn: Connection, log: str, size: int, in_heads: int, now: datetime, findings: Findings) -> None:
    """`heads` must name a log's newest checkpoint soon after it was made."""
    if in_heads >= size:
        return
    cursor = await conn.execute("SELECT recorded FROM entries WHERE log = %s AND index = %s", (log, in_heads))
    row = await cursor.fetchone()
    if row is not None and row[0] is not None and now - row[0] > HEADS_LAG_MAX:
        findings.add(
            "heads_lag",
            log,
            in_heads,
            f"heads has it with {in_heads} entries, the database with {size};"
            f" the first of the others was recorded at {row[0]:%Y-%m-%dT%H:%M:%SZ}",
        )
