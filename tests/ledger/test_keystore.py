"""The key store: one contract for every implementation, then what one SQLite file has to survive."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import keystore, note
from ledger.errors import (
    ForkRefused,
    KeyStoreCorrupt,
    KeyStoreError,
    KeyStoreExposed,
    KeyStoreMissing,
    MissingKey,
)
from ledger.keystore import ContentKey, KeyStore, Published, SqliteKeyStore, VerifiedMark

ORIGIN = "ledger.example.org/t-1"
ROOTS = [bytes([number]) * 32 for number in range(4)]
WANTED = [("default", "p", "alice"), ("default", "r", "run-1"), ("other", "p", "alice"), ("default", "r", "alice")]


class KeyStoreContract:
    """What every implementation of KeyStore keeps. `store` and `again` are two clients of one store."""

    @pytest.fixture
    def store(self) -> KeyStore:
        raise NotImplementedError

    @pytest.fixture
    def again(self, store: KeyStore) -> KeyStore:
        raise NotImplementedError

    def test_a_signer_is_made_once_and_only_when_asked_for(self, store: KeyStore, again: KeyStore) -> None:
        with pytest.raises(MissingKey, match=ORIGIN):
            store.signer(ORIGIN)
        assert store.vkeys(ORIGIN) == []
        assert store.origins() == []
        signer = store.create_signer(ORIGIN)
        assert again.create_signer(ORIGIN).vkey == again.signer(ORIGIN).vkey == signer.vkey
        assert signer.name == ORIGIN
        assert store.vkeys(ORIGIN) == again.vkeys(ORIGIN) == [signer.vkey]
        public = Ed25519PublicKey.from_public_bytes(note.parse_vkey(signer.vkey).public)
        public.verify(again.signer(ORIGIN).sign(b"message"), b"message")
        store.create_signer("ledger.example.org/heads")
        assert again.origins() == ["ledger.example.org/heads", ORIGIN]

    def test_a_rotation_is_begun_then_finished(self, store: KeyStore, again: KeyStore) -> None:
        with pytest.raises(MissingKey):
            store.rotate_signer(ORIGIN)
        first = store.create_signer(ORIGIN)
        assert store.next_signer(ORIGIN) is None
        begun = store.rotate_signer(ORIGIN)
        assert begun.old.vkey == first.vkey != begun.new.vkey
        assert again.rotate_signer(ORIGIN).new.vkey == begun.new.vkey
        following = again.next_signer(ORIGIN)
        assert following is not None
        assert following.vkey == begun.new.vkey
        assert again.signer(ORIGIN).vkey == first.vkey
        assert again.vkeys(ORIGIN) == [first.vkey, begun.new.vkey]
        with pytest.raises(MissingKey, match="no rotation"):
            store.finish_rotation(ORIGIN, store.create_signer("ledger.example.org/x").vkey)
        for client in (store, again):  # the second is a retry after a crash
            assert client.finish_rotation(ORIGIN, begun.new.vkey).vkey == begun.new.vkey
        assert again.signer(ORIGIN).vkey == begun.new.vkey
        assert again.next_signer(ORIGIN) is None
        assert again.vkeys(ORIGIN) == [first.vkey, begun.new.vkey]

    def test_a_name_has_one_key(self, store: KeyStore, again: KeyStore) -> None:
        keys = store.content_keys(WANTED)
        assert again.content_keys([*reversed(WANTED), *WANTED]) == [*reversed(keys), *keys]
        assert len({key.ref for key in keys}) == len({key.key for key in keys}) == len(WANTED)
        assert [key.ref[:2] for key in keys] == ["p:", "r:", "p:", "r:"]
        assert all(len(key.key) == 32 and len(key.ref) == 34 for key in keys)
        assert again.keys_by_ref([key.ref for key in keys]) == {key.ref: key.key for key in keys}
        assert store.content_keys([]) == []

    def test_names_do_not_run_into_each_other(self, store: KeyStore) -> None:
        found = store.content_keys([("ab", "p", "c"), ("a", "p", "bc"), ("", "p", "abc"), ("abc", "p", "")])
        assert len({key.ref for key in found}) == 4
        assert len({store.tenant_secret(tenant, purpose) for tenant, purpose in (("a", "bc"), ("ab", "c"))}) == 2

    def test_finding_creates_nothing(self, store: KeyStore, again: KeyStore) -> None:
        assert store.find_keys(WANTED) == [None] * len(WANTED)
        (key,) = store.content_keys(WANTED[:1])
        assert again.find_keys(WANTED) == [key, None, None, None]

    def test_a_kind_of_key_that_does_not_exist_is_refused(self, store: KeyStore) -> None:
        with pytest.raises(KeyStoreError, match="kind of a key"):
            store.content_keys([("default", "x", "name")])

    def test_a_destroyed_key_is_gone_for_all(self, store: KeyStore, again: KeyStore) -> None:
        keys = store.content_keys(WANTED)
        assert again.content_keys(WANTED) == keys
        gone, kept = keys[0], keys[1:]
        assert store.destroy([gone.ref, gone.ref, "p:" + "0" * 32]) == 1
        assert again.destroy([gone.ref]) == 0
        for client in (store, again):
            assert client.keys_by_ref([key.ref for key in keys]) == {key.ref: key.key for key in kept}
            assert client.find_keys(WANTED) == [None, *kept]
        following = again.content_keys(WANTED)
        assert following[1:] == kept
        assert following[0].ref != gone.ref
        assert following[0].key != gone.key

    def test_a_tenants_secret_stays(self, store: KeyStore, again: KeyStore) -> None:
        secret = store.tenant_secret("default", "dedup")
        assert len(secret) == 32
        assert again.tenant_secret("default", "dedup") == secret
        assert again.tenant_secret("default", "other") != secret
        assert again.tenant_secret("other", "dedup") != secret

    def test_the_published_record_only_grows(self, store: KeyStore, again: KeyStore) -> None:
        assert store.published(ORIGIN) is None
        store.publish(ORIGIN, 5, ROOTS[0])
        again.publish(ORIGIN, 5, ROOTS[0])
        again.publish(ORIGIN, 7, ROOTS[1])
        for size, root in ((7, ROOTS[0]), (5, ROOTS[0]), (6, ROOTS[1]), (0, ROOTS[1])):
            with pytest.raises(ForkRefused, match=f"offered is size {size}") as refused:
                store.publish(ORIGIN, size, root)
            assert refused.value.recorded == (7, ROOTS[1])
            assert refused.value.offered == (size, root)
        assert store.published(ORIGIN) == again.published(ORIGIN) == (7, ROOTS[1])
        with pytest.raises(KeyStoreError, match="root of 32 bytes"):
            store.publish(ORIGIN, 8, b"short")

    def test_many_are_published_at_once_or_none(self, store: KeyStore, again: KeyStore) -> None:
        store.publish_many([("b", 1, ROOTS[0]), ("a", 2, ROOTS[1])])
        with pytest.raises(ForkRefused):
            store.publish_many([("a", 3, ROOTS[2]), ("b", 1, ROOTS[1]), ("c", 1, ROOTS[0])])
        assert again.all_published() == [Published("a", 2, ROOTS[1]), Published("b", 1, ROOTS[0])]

    def test_the_prefix_is_fixed(self, store: KeyStore, again: KeyStore) -> None:
        prefix = store.prefix()
        assert again.prefix() == prefix
        host, _, digits = prefix.partition("/")
        assert (host, len(digits), int(digits, 16) >= 0) == ("tallystick.local", 12, True)

    def test_a_mark_is_kept(self, store: KeyStore, again: KeyStore) -> None:
        assert store.verified_mark(ORIGIN) is None
        for size in (3, 2):
            mark = VerifiedMark(ORIGIN, size, ROOTS[0], b"edge" * size, "2026-11-21T09:00:00.000000Z")
            store.set_verified_mark(mark)
            assert again.verified_mark(ORIGIN) == mark

    def test_clients_that_ask_at_once_get_the_same(self, store: KeyStore, again: KeyStore) -> None:
        wanted = [("default", "r", f"run-{number}") for number in range(200)]
        barrier = threading.Barrier(4)

        def ask(client: KeyStore) -> tuple[list[ContentKey], bytes, str]:
            barrier.wait()
            return client.content_keys(wanted), client.tenant_secret("t", "p"), client.create_signer(ORIGIN).vkey

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, [store, again, store, again]))
        assert all(answer == answers[0] for answer in answers)


class TestSqliteKeyStore(KeyStoreContract):
    """The contract on two connections to one file."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[KeyStore]:
        with SqliteKeyStore(tmp_path / "keys") as store:
            yield store

    @pytest.fixture
    def again(self, store: KeyStore, tmp_path: Path) -> Iterator[KeyStore]:
        with SqliteKeyStore(tmp_path / "keys") as again:
            yield again


def modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with SqliteKeyStore(tmp_path / "home" / "keys") as store:
            store.content_keys(WANTED)
            assert stat.S_IMODE((tmp_path / "home" / "keys").stat().st_mode) == 0o700
            assert modes(tmp_path / "home" / "keys") == {0o600}
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "home" / "keys").iterdir()] == ["keys.sqlite"]


@pytest.mark.parametrize(("name", "mode"), [("", 0o750), ("", 0o701), ("keys.sqlite", 0o640), ("keys.sqlite", 0o604)])
def test_a_store_that_others_can_reach_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    SqliteKeyStore(tmp_path / "keys").close()
    exposed = tmp_path / "keys" / name
    exposed.chmod(mode)
    with pytest.raises(KeyStoreExposed, match=f"has mode 0{mode:o}, .* chmod [67]00 "):
        SqliteKeyStore(tmp_path / "keys")
    exposed.chmod(0o600 if name else 0o700)
    SqliteKeyStore(tmp_path / "keys").close()


def test_a_folder_that_others_can_reach_is_not_used_for_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    with pytest.raises(KeyStoreExposed):
        SqliteKeyStore(tmp_path / "keys")
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_store_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreMissing, match="there is no key store at"):
        SqliteKeyStore(tmp_path / "keys", create=False)
    assert list(tmp_path.iterdir()) == []


def damage_header(data: bytearray) -> None:
    data[:16] = b"not a database!!"


def damage_pages(data: bytearray) -> None:
    data[4096:] = b"\xa5" * (len(data) - 4096)


def damage_length(data: bytearray) -> None:
    data.clear()


def damage_tail(data: bytearray) -> None:
    del data[5000:]


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_length, damage_tail])
def test_a_damaged_store_is_said_to_be_damaged(tmp_path: Path, damage: object) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store:
        store.content_keys(WANTED)
        store.create_signer(ORIGIN)
    path = tmp_path / "keys" / "keys.sqlite"
    data = bytearray(path.read_bytes())
    damage(data)  # type: ignore[operator]
    path.write_bytes(data)
    with pytest.raises(KeyStoreCorrupt, match=r"keys\.sqlite"), SqliteKeyStore(tmp_path / "keys") as store:
        store.content_keys(WANTED)


def test_another_database_and_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    path = tmp_path / "keys" / "keys.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    path.chmod(0o600)
    with pytest.raises(KeyStoreCorrupt, match="is not a key store"):
        SqliteKeyStore(tmp_path / "keys")
    path.unlink()
    SqliteKeyStore(tmp_path / "keys").close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(KeyStoreCorrupt, match="of version 2; this code knows version 1"):
        SqliteKeyStore(tmp_path / "keys")


def test_a_mark_that_was_changed_is_refused(tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store:
        for origin in (ORIGIN, "ledger.example.org/t-2"):
            store.set_verified_mark(VerifiedMark(origin, 3, ROOTS[0], b"", "2026-11-21T09:00:00.000000Z"))
        with sqlite3.connect(store.path) as other:
            other.execute("UPDATE marks SET note = (SELECT note FROM marks WHERE origin <> ?)", (ORIGIN,))
        with pytest.raises(KeyStoreCorrupt, match="was signed for"):
            store.verified_mark(ORIGIN)
        with sqlite3.connect(store.path) as other:
            other.execute("UPDATE marks SET note = CAST(replace(CAST(note AS TEXT), '\n3\n', '\n9\n') AS BLOB)")
        other.close()
        with pytest.raises(KeyStoreCorrupt, match="is not what was signed"):
            store.verified_mark("ledger.example.org/t-2")


def test_a_store_that_was_replaced_under_a_process_takes_no_more_keys(tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store:
        (tmp_path / "keys" / "keys.sqlite").rename(tmp_path / "moved")
        with pytest.raises(KeyStoreError, match="was removed or replaced"):
            store.content_keys(WANTED)


def test_a_forked_process_may_not_use_it(tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store:
        child = os.fork()
        if child == 0:
            try:
                store.content_keys(WANTED)
            except KeyStoreError as error:
                os._exit(0 if "before a fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_byte_of_a_destroyed_key_stays_in_the_files(tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store, SqliteKeyStore(tmp_path / "keys") as other:
        keys: list[ContentKey] = []
        gone: list[ContentKey] = []
        for batch in range(12):
            keys += store.content_keys(
                [("default", "r", f"run-{batch}-{number}") for number in range(100 + 37 * batch)]
            )
            erased, keys = keys[batch % 3 :: 3], [key for at, key in enumerate(keys) if at % 3 != batch % 3]
            assert other.destroy([key.ref for key in erased]) == len(erased)
            gone += erased
            files = b"".join(path.read_bytes() for path in (tmp_path / "keys").iterdir())
            assert not any(key.key in files for key in gone)
            assert all(key.key in files for key in keys)
        old = store.create_signer(ORIGIN)
        private = old._private.private_bytes_raw()  # type: ignore[attr-defined]
        other.finish_rotation(ORIGIN, other.rotate_signer(ORIGIN).new.vkey)
        assert not any(private in path.read_bytes() for path in (tmp_path / "keys").iterdir())


def test_destroying_says_so_when_another_process_holds_old_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keystore, "BUSY_SECONDS", 0.2)
    with SqliteKeyStore(tmp_path / "keys") as store:
        (key,) = store.content_keys(WANTED[:1])
        reader = sqlite3.connect(store.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM content_keys").fetchall()
        with pytest.raises(KeyStoreError, match="write-ahead log still holds them"):
            store.destroy([key.ref])
        assert store.keys_by_ref([key.ref]) == {}
        reader.execute("COMMIT")
        reader.close()
        assert store.destroy([key.ref]) == 0
        assert not any(key.key in path.read_bytes() for path in (tmp_path / "keys").iterdir())


def test_a_lock_that_is_never_let_go_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "BUSY_SECONDS", 0.2)
    with SqliteKeyStore(tmp_path / "keys") as store:
        holder = sqlite3.connect(store.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(KeyStoreError, match="was locked"):
            store.content_keys(WANTED)
        holder.execute("ROLLBACK")
        holder.close()
        assert len(store.content_keys(WANTED)) == len(WANTED)


# Each line that this prints was durable before.
WRITER = """
import sys
from ledger.keystore import SqliteKeyStore
store = SqliteKeyStore(sys.argv[1])
name, batch = sys.argv[2], 0
while True:
    for key in store.content_keys([("default", "r", f"{name}-{batch}-{number}") for number in range(20)]):
        print(f"{name}-{batch}", key.ref, key.key.hex())
    store.publish(f"ledger.example.org/{name}", batch, bytes(32))
    print("published", batch, flush=True)
    batch += 1
"""


def test_kill_9_loses_nothing_that_was_returned(tmp_path: Path) -> None:
    for round in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "keys"), f"w{round}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(21 * (5 + round))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        with SqliteKeyStore(tmp_path / "keys") as store:
            said = dict(line.split()[1:] for line in lines if line.endswith("\n") and line.startswith("w"))
            published = [int(line.split()[1]) for line in lines if line.startswith("published") and line.endswith("\n")]
            whole = {ref: bytes.fromhex(key) for ref, key in said.items() if len(key) == 64}
            assert len(whole) >= 100
            assert store.keys_by_ref(list(whole)) == whole
            recorded = store.published(f"ledger.example.org/w{round}")
            assert recorded is not None
            assert recorded[0] >= published[-1]


# Waits for a common moment, so that processes meet in the same call.
RACER = """
import sys, time
from ledger.keystore import SqliteKeyStore
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
store = SqliteKeyStore(sys.argv[1])
for key in store.content_keys([("default", "r", f"run-{number}") for number in range(500)]):
    print(key.ref, key.key.hex())
print(store.create_signer("ledger.example.org/t-1").vkey, store.tenant_secret("t", "p").hex(), store.prefix())
"""


def test_processes_that_create_the_same_at_once_get_the_same(tmp_path: Path) -> None:
    start = str(time.time() + 1.0)
    command = [sys.executable, "-c", RACER, str(tmp_path / "keys"), start]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    answers = [racer.communicate()[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(set(answers)) == 1
    assert len(answers[0].splitlines()) == 501
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["keys.sqlite"]


def test_asking_again_writes_nothing(tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store:
        keys = store.content_keys(WANTED)
        store.create_signer(ORIGIN)
        store.publish(ORIGIN, 1, ROOTS[0])
        wal = tmp_path / "keys" / "keys.sqlite-wal"
        before = wal.read_bytes()
        assert store.content_keys(WANTED) == keys
        store.create_signer(ORIGIN)
        store.publish(ORIGIN, 1, ROOTS[0])
        assert wal.read_bytes() == before


def test_a_signer_that_was_rotated_away_is_not_kept_in_memory(tmp_path: Path) -> None:
    with SqliteKeyStore(tmp_path / "keys") as store:
        store.create_signer(ORIGIN)
        store.create_signer("ledger.example.org/other")
        kept = store.signer(ORIGIN)
        assert store.signer(ORIGIN) is kept
        store.finish_rotation(ORIGIN, store.rotate_signer(ORIGIN).new.vkey)
        assert all(signer is not kept for _, signer in store._signers.values())
        assert store.signer(ORIGIN).vkey != kept.vkey
