"""Where keys live: outside the database and its backups, with the record of what was published under them.

`KeyStore` is the interface that a vault or KMS would implement; `SqliteKeyStore` is the default, for one host.

Guarantees: what a method returns is durable (one sync a call when it wrote, none when it did not); get-or-create gives
the same key to every process that asks at once; nothing is cached, so a key destroyed by one process is gone for all
at their next call; names of tenants, runs and people stand in the store only as HMACs under a key that never leaves it;
the published record never goes back. Does not: encrypt itself (use the disk's encryption), reach blocks that the file
system freed or copies that a device kept, or bound its own backups: how long those live bounds every erasure.

Invariants: a reference names one key for ever and is never reused; a name has at most one living key; a row of
`content_keys` is written once and later overwritten with zeros in place, never moved, so that no copy of it is left in
a page; an origin has exactly one current signer, or none.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
import stat
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.content import KEY_BYTES, lp
from ledger.errors import (
    ForkRefused,
    KeyStoreCorrupt,
    KeyStoreError,
    KeyStoreExposed,
    KeyStoreMissing,
    LedgerError,
    MissingKey,
)
from ledger.merkle import HASH_BYTES
from ledger.note import Ed25519Signer, Signer, open_note, sign_note, vkey_text

REFERENCE_KINDS = frozenset("prsla")  # person, run, session, log, archive
REFERENCE_BYTES = 16
EMBEDDED_PREFIX = "tallystick.local/"
STORE_FILE = "keys.sqlite"
SIGNERS_KEPT_MAX = 4096
# A transaction here takes milliseconds; whoever waits this long waits for a stalled disk or a stopped process.
BUSY_SECONDS = 30.0

_APPLICATION_ID = 0x74616C79
_VERSION = 1
_LOOKUPS_PER_QUERY = 500  # SQLite takes at least 999 parameters
_MARK_DOMAIN = "tallystick/verified-mark/v1"
_MARK_KEY_NAME = "verified-mark"

Wanted = tuple[str, str, str]  # tenant, kind of reference (p, r, s, l, a), name


class ContentKey(NamedTuple):
    """A content key and the reference that leaves name it by."""

    ref: str
    key: bytes


class Published(NamedTuple):
    """A checkpoint as it was published."""

    origin: str
    tree_size: int
    root_hash: bytes


@dataclass(frozen=True, slots=True)
class Rotation:
    """A log's signer and the one that is to follow it."""

    old: Signer
    new: Signer


@dataclass(frozen=True, slots=True)
class VerifiedMark:
    """How far a log was verified: the tree then, its `Edge.dump()`, and when (RFC 3339)."""

    origin: str
    tree_size: int
    root_hash: bytes
    edge: bytes
    verified_at: str


class KeyStore(Protocol):
    """What the ledger asks of a key store. Methods are synchronous and short; all raise KeyStoreError."""

    def prefix(self) -> str:
        """The origin prefix of the embedded stack, `tallystick.local/<12 hex>`, fixed at the first call."""

    def signer(self, origin: str) -> Signer:
        """The log's current signer. Creates nothing; raises MissingKey."""

    def create_signer(self, origin: str) -> Signer:
        """The log's current signer, created if the log has none."""

    def rotate_signer(self, origin: str) -> Rotation:
        """Get or create the signer that is to follow. `signer` stays the old one until `finish_rotation`.

        The caller then commits the `key_rotated` entry and a checkpoint signed by both. A writer that starts and finds
        `next_signer` looks in the log for that entry: finish if it is there, else begin again with the same new key.
        """

    def next_signer(self, origin: str) -> Signer | None:
        """The signer of a rotation that was begun and not finished."""

    def finish_rotation(self, origin: str, vkey: str) -> Signer:
        """Make the next signer, which must have this vkey, the current one; the old private key is destroyed.

        Doing it again is no error. Raises MissingKey where no such rotation was begun.
        """

    def vkeys(self, origin: str) -> list[str]:
        """The log's verifier keys, oldest first, with that of a rotation begun; empty for an unknown log."""

    def origins(self) -> list[str]:
        """The logs that have signers, sorted."""

    def content_keys(self, wanted: Sequence[Wanted]) -> list[ContentKey]:
        """Get or create the keys of (tenant, kind, name)s, in their order: one transaction, durable on return."""

    def find_keys(self, wanted: Sequence[Wanted]) -> list[ContentKey | None]:
        """The keys of (tenant, kind, name)s where there are any; creates nothing."""

    def keys_by_ref(self, refs: Sequence[str]) -> dict[str, bytes]:
        """The keys of references. One that is missing here was destroyed, or never was in this store."""

    def destroy(self, refs: Sequence[str]) -> int:
        """Destroy keys, durably; returns how many of them lived. A name's next key is a new one, with a new reference.

        When this raises, the keys may still be readable: call it again.
        """

    def tenant_secret(self, tenant: str, purpose: str) -> bytes:
        """A tenant's 32-byte secret for a purpose, created at the first call."""

    def publish(self, origin: str, tree_size: int, root_hash: bytes) -> None:
        """Record a committed checkpoint before it leaves the process.

        The same again is no error; the same size with another root, or a smaller size, raises ForkRefused.
        """

    def publish_many(self, checkpoints: Sequence[tuple[str, int, bytes]]) -> None:
        """`publish` of many (origin, tree size, root hash)s at once: all, or on ForkRefused none."""

    def published(self, origin: str) -> tuple[int, bytes] | None:
        """Tree size and root hash of the newest published checkpoint."""

    def all_published(self) -> list[Published]:
        """The newest published checkpoint of every log, sorted by origin."""

    def set_verified_mark(self, mark: VerifiedMark) -> None:
        """Remember how far a log was verified, signed; replaces the log's earlier mark."""

    def verified_mark(self, origin: str) -> VerifiedMark | None:
        """How far the log was verified; raises KeyStoreCorrupt when the mark's signature fails."""

    def close(self) -> None:
        """Let go of the store. Using it afterwards raises."""


_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE signers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    origin TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('retired', 'current', 'next')),
    vkey TEXT NOT NULL UNIQUE,
    private BLOB NOT NULL CHECK (length(private) = 32)
) STRICT;
CREATE UNIQUE INDEX signers_state ON signers (origin, state) WHERE state <> 'retired';
CREATE INDEX signers_origin ON signers (origin, number);
CREATE TABLE content_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    ref TEXT NOT NULL UNIQUE,
    key BLOB NOT NULL CHECK (length(key) = 32)
) STRICT;
CREATE TABLE names (lookup BLOB PRIMARY KEY, number INTEGER NOT NULL UNIQUE) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (lookup BLOB PRIMARY KEY, secret BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE published (
    origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, root_hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE marks (origin TEXT PRIMARY KEY, note BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

_DESTROYED = bytes(KEY_BYTES)


class SqliteKeyStore:
    """A key store in one SQLite file, `<directory>/keys.sqlite`, shared by the processes of one host.

    The directory is 0700 and the files 0600; a store that others can read is refused. Threads may share an object, a
    forked process may not.
    """

    def __init__(self, directory: Path | str, *, create: bool = True) -> None:
        """Open the store, by default creating it where there is none."""
        self._path = Path(directory) / STORE_FILE
        self._lock = threading.RLock()
        self._signers: dict[str, tuple[tuple[str, bytes], Ed25519Signer]] = {}  # by origin, with what they were made of
        if create:
            _create(self._path)
        elif not self._path.exists():
            raise KeyStoreMissing(
                f"there is no key store at {self._path}: set TALLY_KEYSTORE, or start the ledger once"
            )
        self._inode = _check_access(self._path)
        self._pid = os.getpid()
        self._connection = _connect(self._path)
        try:
            _check_store(self._connection, self._path)
            self._index_key = self._setting("index_key")
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The store's file."""
        return self._path

    def close(self) -> None:
        """Let go of the store. Using it afterwards raises."""
        with self._lock:
            self._connection.close()

    # Settings

    def prefix(self) -> str:
        """The origin prefix of the embedded stack, fixed when the store was created."""
        return self._setting("prefix").decode()

    def _setting(self, name: str) -> bytes:
        with self._read() as run:
            row = run.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise KeyStoreCorrupt(f"the key store {self._path} lacks its setting {name}: restore it from a backup")
        value: bytes = row[0]
        return value

    # Signers

    def signer(self, origin: str) -> Signer:
        """The log's current signer. Creates nothing; raises MissingKey."""
        with self._read() as run:
            row = _signer_row(run, origin, "current")
        if row is None:
            raise MissingKey(f"the key store {self._path} holds no signing key of {origin}")
        kept = self._signers.get(origin)
        if kept is not None and kept[0] == row:
            return kept[1]
        if len(self._signers) >= SIGNERS_KEPT_MAX:
            self._signers.clear()
        signer = _signer_of(origin, row)
        self._signers[origin] = (row, signer)
        return signer

    def create_signer(self, origin: str) -> Signer:
        """The log's current signer, created if the log has none."""
        with self._read() as run:
            found = _signer(run, origin, "current")
        if found is not None:
            return found
        with self._write() as run:
            return _signer(run, origin, "current") or _insert_signer(run, origin, "current")

    def rotate_signer(self, origin: str) -> Rotation:
        """Get or create the signer that is to follow the current one."""
        with self._write() as run:
            old = _signer(run, origin, "current")
            if old is None:
                raise MissingKey(f"the key store {self._path} holds no signing key of {origin} to rotate")
            new = _signer(run, origin, "next") or _insert_signer(run, origin, "next")
        return Rotation(old, new)

    def next_signer(self, origin: str) -> Signer | None:
        """The signer of a rotation that was begun and not finished."""
        with self._read() as run:
            return _signer(run, origin, "next")

    def finish_rotation(self, origin: str, vkey: str) -> Signer:
        """Make the next signer the current one and destroy the old private key."""
        self._signers.pop(origin, None)  # a destroyed key is not kept in memory either
        with self._write() as run:
            current, following = _signer(run, origin, "current"), _signer(run, origin, "next")
            if current is not None and current.vkey == vkey:
                return current
            if following is None or following.vkey != vkey:
                raise MissingKey(f"the key store {self._path} has no rotation of {origin} to {vkey}")
            run.execute(
                "UPDATE signers SET state = 'retired', private = ? WHERE origin = ? AND state = 'current'",
                (_DESTROYED, origin),
            )
            run.execute("UPDATE signers SET state = 'current' WHERE origin = ? AND state = 'next'", (origin,))
        self._flush_destroyed()
        return following

    def vkeys(self, origin: str) -> list[str]:
        """The log's verifier keys, oldest first, with that of a rotation begun."""
        with self._read() as run:
            rows = run.execute("SELECT vkey FROM signers WHERE origin = ? ORDER BY number", (origin,)).fetchall()
        return [vkey for (vkey,) in rows]

    def origins(self) -> list[str]:
        """The logs that have signers, sorted."""
        with self._read() as run:
            rows = run.execute("SELECT DISTINCT origin FROM signers ORDER BY origin").fetchall()
        return [origin for (origin,) in rows]

    # Content keys

    def content_keys(self, wanted: Sequence[Wanted]) -> list[ContentKey]:
        """Get or create the keys of (tenant, kind, name)s: one transaction and one sync if anything is new."""
        lookups = self._lookups(wanted)
        with self._read() as run:
            found = _keys_of(run, list(dict.fromkeys(lookups)))
        if len(found) < len(set(lookups)):
            kinds = {lookup: kind for lookup, (_, kind, _) in zip(lookups, wanted, strict=True)}
            with self._write() as run:
                # Another process may have created some of them since the read.
                missing = [lookup for lookup in kinds if lookup not in found]
                found.update(_keys_of(run, missing))
                missing = [lookup for lookup in missing if lookup not in found]
                found.update(_insert_keys(run, [(lookup, kinds[lookup]) for lookup in missing]))
        return [found[lookup] for lookup in lookups]

    def find_keys(self, wanted: Sequence[Wanted]) -> list[ContentKey | None]:
        """The keys of (tenant, kind, name)s where there are any."""
        lookups = self._lookups(wanted)
        with self._read() as run:
            found = _keys_of(run, list(dict.fromkeys(lookups)))
        return [found.get(lookup) for lookup in lookups]

    def keys_by_ref(self, refs: Sequence[str]) -> dict[str, bytes]:
        """The living keys of references."""
        found: dict[str, bytes] = {}
        with self._read() as run:
            for ref in refs:
                row = run.execute(
                    "SELECT key FROM content_keys WHERE ref = ? AND key <> ?", (ref, _DESTROYED)
                ).fetchone()
                if row is not None:
                    found[ref] = row[0]
        return found

    def destroy(self, refs: Sequence[str]) -> int:
        """Overwrite keys with zeros and forget whose they were; returns how many of them lived."""
        with self._write() as run:
            found = self._living(run, refs)
            run.executemany("UPDATE content_keys SET key = ? WHERE number = ?", [(_DESTROYED, n) for n in found])
            run.executemany("DELETE FROM names WHERE number = ?", [(n,) for n in found])
        # Done for keys destroyed before, too: an earlier call may have been killed between commit and flush.
        self._flush_destroyed()
        return len(found)

    @staticmethod
    def _living(run: sqlite3.Cursor, refs: Sequence[str]) -> list[int]:
        select = "SELECT number FROM content_keys WHERE ref = ? AND key <> ?"
        rows = [run.execute(select, (ref, _DESTROYED)).fetchone() for ref in dict.fromkeys(refs)]
        return [row[0] for row in rows if row is not None]

    def _flush_destroyed(self) -> None:
        """Move the write-ahead log into the file and empty it, since it holds pages from before the overwriting."""
        self._check_open()
        give_up = time.monotonic() + BUSY_SECONDS
        with self._lock, _translated(self._path):
            while True:
                busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return
                if time.monotonic() > give_up:
                    raise KeyStoreError(
                        f"keys were destroyed in {self._path}, but its write-ahead log still holds them and another "
                        f"process keeps it open: stop that process and repeat"
                    )

    def tenant_secret(self, tenant: str, purpose: str) -> bytes:
        """A tenant's 32-byte secret for a purpose, created at the first call."""
        lookup = self._lookup("secret", tenant, purpose)
        select = "SELECT secret FROM secrets WHERE lookup = ?"
        with self._read() as run:
            row = run.execute(select, (lookup,)).fetchone()
        if row is None:
            with self._write() as run:
                run.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (lookup, os.urandom(KEY_BYTES)))
                row = run.execute(select, (lookup,)).fetchone()
        secret: bytes = row[0]
        return secret

    def _lookup(self, *parts: str) -> bytes:
        return hmac.digest(self._index_key, b"".join([lp(part.encode()) for part in parts]), "sha256")

    def _lookups(self, wanted: Sequence[Wanted]) -> list[bytes]:
        for _, kind, _ in wanted:
            if kind not in REFERENCE_KINDS:
                raise KeyStoreError(f"kind of a key: expected one of {sorted(REFERENCE_KINDS)}, got {kind!r}")
        return [self._lookup("key", tenant, kind, name) for tenant, kind, name in wanted]

    # What was published, and what was verified

    def publish(self, origin: str, tree_size: int, root_hash: bytes) -> None:
        """Record a committed checkpoint before it leaves the process; raises ForkRefused."""
        self.publish_many([(origin, tree_size, root_hash)])

    def publish_many(self, checkpoints: Sequence[tuple[str, int, bytes]]) -> None:
        """Record committed checkpoints: all, or on ForkRefused none; one sync if any is new."""
        with self._write() as run:
            for origin, tree_size, root_hash in checkpoints:
                if len(root_hash) != HASH_BYTES or tree_size < 0:
                    raise KeyStoreError(f"checkpoint of {origin}: expected a size and a root of {HASH_BYTES} bytes")
                recorded = _published(run, origin)
                if recorded == (tree_size, root_hash):
                    continue
                if recorded is not None and tree_size <= recorded[0]:
                    raise ForkRefused(origin, recorded, (tree_size, root_hash))
                run.execute("INSERT OR REPLACE INTO published VALUES (?, ?, ?)", (origin, tree_size, root_hash))

    def published(self, origin: str) -> tuple[int, bytes] | None:
        """Tree size and root hash of the newest published checkpoint."""
        with self._read() as run:
            return _published(run, origin)

    def all_published(self) -> list[Published]:
        """The newest published checkpoint of every log, sorted by origin."""
        with self._read() as run:
            rows = run.execute("SELECT origin, tree_size, root_hash FROM published ORDER BY origin").fetchall()
        return [Published(*row) for row in rows]

    def set_verified_mark(self, mark: VerifiedMark) -> None:
        """Remember how far a log was verified, signed by a key of the store."""
        signer = self._mark_signer()
        root, edge = b64encode(mark.root_hash).decode(), b64encode(mark.edge).decode()
        text = f"{_MARK_DOMAIN}\n{mark.origin}\n{mark.tree_size}\n{root}\n{edge}\n{mark.verified_at}\n"
        note = sign_note(text, signer)
        with self._write() as run:
            run.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (mark.origin, note))

    def verified_mark(self, origin: str) -> VerifiedMark | None:
        """How far the log was verified; raises KeyStoreCorrupt when the mark's signature fails."""
        with self._read() as run:
            row = run.execute("SELECT note FROM marks WHERE origin = ?", (origin,)).fetchone()
        if row is None:
            return None
        try:
            lines = open_note(row[0], [self._mark_signer().vkey]).text.split("\n")
            domain, named, size, root, edge, verified_at, end = lines
            mark = VerifiedMark(named, int(size), b64decode(root), b64decode(edge), verified_at)
        except (LedgerError, ValueError) as error:
            raise KeyStoreCorrupt(f"the mark of {origin} in {self._path} is not what was signed: {error}") from error
        if (domain, named, end) != (_MARK_DOMAIN, origin, ""):
            raise KeyStoreCorrupt(f"the mark of {origin} in {self._path} was signed for {domain} of {named}")
        return mark

    def _mark_signer(self) -> Ed25519Signer:
        return Ed25519Signer(_MARK_KEY_NAME, Ed25519PrivateKey.from_private_bytes(self._setting("mark_key")))

    # Transactions

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Cursor]:
        with self._transaction("BEGIN") as cursor:
            yield cursor

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Cursor]:
        with self._transaction("BEGIN IMMEDIATE") as cursor:
            yield cursor

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Cursor]:
        self._check_open()
        with self._lock, _translated(self._path):
            cursor = self._connection.cursor()
            cursor.execute(begin)
            try:
                yield cursor
                cursor.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")

    def _check_open(self) -> None:
        """A file that was replaced or removed would take new keys with it; a forked connection corrupts the file."""
        if os.getpid() != self._pid:
            raise KeyStoreError(f"the key store {self._path} was opened before a fork: open it again in this process")
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            inode = -1
        if inode != self._inode:
            raise KeyStoreError(f"the key store {self._path} was removed or replaced since it was opened: restart")


# The functions below run inside a transaction of the caller.


def _signer_row(run: sqlite3.Cursor, origin: str, state: str) -> tuple[str, bytes] | None:
    """(verifier key, private key) of a log's signer in that state."""
    row: tuple[str, bytes] | None = run.execute(
        "SELECT vkey, private FROM signers WHERE origin = ? AND state = ?", (origin, state)
    ).fetchone()
    return row


def _signer(run: sqlite3.Cursor, origin: str, state: str) -> Ed25519Signer | None:
    row = _signer_row(run, origin, state)
    return None if row is None else _signer_of(origin, row)


def _signer_of(origin: str, row: tuple[str, bytes]) -> Ed25519Signer:
    vkey, private = row
    signer = Ed25519Signer(origin, Ed25519PrivateKey.from_private_bytes(private))
    if signer.vkey != vkey:
        raise KeyStoreCorrupt(f"signing key of {origin}: expected the one of {vkey}, got the one of {signer.vkey}")
    return signer


def _insert_signer(run: sqlite3.Cursor, origin: str, state: str) -> Ed25519Signer:
    private = Ed25519PrivateKey.generate()
    vkey = vkey_text(origin, private.public_key().public_bytes_raw())
    run.execute(
        "INSERT INTO signers (origin, state, vkey, private) VALUES (?, ?, ?, ?)",
        (origin, state, vkey, private.private_bytes_raw()),
    )
    return Ed25519Signer(origin, private)


def _keys_of(run: sqlite3.Cursor, lookups: Sequence[bytes]) -> dict[bytes, ContentKey]:
    found: dict[bytes, ContentKey] = {}
    for at in range(0, len(lookups), _LOOKUPS_PER_QUERY):
        some = lookups[at : at + _LOOKUPS_PER_QUERY]
        marks = ",".join("?" * len(some))
        rows = run.execute(
            f"SELECT lookup, ref, key FROM names JOIN content_keys USING (number) WHERE lookup IN ({marks})",  # noqa: S608  only question marks
            some,
        )
        found.update((lookup, ContentKey(ref, key)) for lookup, ref, key in rows)
    return found


def _insert_keys(run: sqlite3.Cursor, wanted: Sequence[tuple[bytes, str]]) -> dict[bytes, ContentKey]:
    row = run.execute("SELECT seq FROM sqlite_sequence WHERE name = 'content_keys'").fetchone()
    first = 1 if row is None else row[0] + 1
    random = os.urandom(len(wanted) * (REFERENCE_BYTES + KEY_BYTES))
    found: dict[bytes, ContentKey] = {}
    at = 0
    for lookup, kind in wanted:
        end = at + REFERENCE_BYTES + KEY_BYTES
        found[lookup] = ContentKey(
            f"{kind}:{random[at : at + REFERENCE_BYTES].hex()}", random[at + REFERENCE_BYTES : end]
        )
        at = end
    run.executemany(
        "INSERT INTO content_keys VALUES (?, ?, ?)", [(n, *key) for n, key in enumerate(found.values(), first)]
    )
    run.executemany("INSERT INTO names VALUES (?, ?)", [(lookup, n) for n, lookup in enumerate(found, first)])
    return found


def _published(run: sqlite3.Cursor, origin: str) -> tuple[int, bytes] | None:
    row = run.execute("SELECT tree_size, root_hash FROM published WHERE origin = ?", (origin,)).fetchone()
    return None if row is None else (row[0], row[1])


# Opening


def _create(path: Path) -> None:
    """Create a store where there is none: complete under another name first, so that nobody sees half of one."""
    if path.exists():
        return
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    _check_mode(path.parent, 0o700)
    draft = path.with_name(f"{STORE_FILE}.{os.getpid()}-{secrets.token_hex(4)}.new")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with _translated(draft):
            _write_store(draft)
        # A link, unlike a rename, fails where another process was first; its store then counts.
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink()


def _write_store(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA}")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        settings = {
            "index_key": os.urandom(KEY_BYTES),
            "mark_key": os.urandom(KEY_BYTES),
            "prefix": f"{EMBEDDED_PREFIX}{secrets.token_hex(6)}".encode(),
        }
        connection.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    with _translated(path):
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the disk (macOS)
        connection.execute("PRAGMA secure_delete = ON")
        return connection


def _check_access(path: Path) -> int:
    """Refuse a store that others can read; returns the file's inode."""
    _check_mode(path.parent, 0o700)
    return _check_mode(path, 0o600)


def _check_mode(path: Path, allowed: int) -> int:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & ~allowed & 0o777:
        raise KeyStoreExposed(
            f"{path} has mode {mode:04o}, so others than its owner can reach the keys: chmod {allowed:o} {path}, "
            f"and rotate the keys if somebody did"
        )
    return found.st_ino


def _check_store(connection: sqlite3.Connection, path: Path) -> None:
    with _translated(path):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if application != _APPLICATION_ID:
        raise KeyStoreCorrupt(
            f"{path} is not a key store: expected application id {_APPLICATION_ID}, got {application}"
        )
    if version != _VERSION:
        raise KeyStoreCorrupt(f"{path} is a key store of version {version}; this code knows version {_VERSION}")
    if mode != "wal":
        raise KeyStoreCorrupt(f"{path}: expected journal mode wal, got {mode}")


_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGE:
            raise KeyStoreCorrupt(f"the key store {path} is damaged ({error}): restore it from a backup") from error
        if code == sqlite3.SQLITE_BUSY:
            raise KeyStoreError(
                f"the key store {path} was locked for {BUSY_SECONDS:.0f} s by another process"
            ) from error
        raise KeyStoreError(f"the key store {path}: {error}") from error
