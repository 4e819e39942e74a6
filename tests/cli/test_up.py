"""The whole way by the command alone: `tally up`, and everything else in other processes beside it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.importer import STALL_S
from ledger.checkpoint import verify_checkpoint
from ledger.keystore import SqliteKeyStore
from ledger.merkle import Edge, leaf_hash
from ledger.tiles import bundle_path, decode_bundle
from tests.cli.tally import PLAIN, Tally, wait_for_file
from tests.support.servers import PrivateKafka, PrivatePostgres, make_template, processes_of

RUN = "7f31-returns"
END_S = 60


@contextmanager
def up(tally: Tally) -> Iterator[subprocess.Popen[bytes]]:
    """A `tally up` that is ready; ended politely unless the test ended it."""
    log = tally.home.parent / "up.log"
    process = tally.start("up", log=log)
    try:
        wait_for_file(tally.home / "endpoints.json", process, log)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(END_S)


def nothing_runs(home: Path) -> bool:
    """Whether every process of a home ends soon; a killed `tally up` leaves that to the servers' guards."""
    deadline = time.monotonic() + END_S
    while processes_of(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def endpoints(tally: Tally) -> dict[str, str]:
    found: dict[str, str] = json.loads((tally.home / "endpoints.json").read_text())
    return found


@pytest.mark.timeout(400)
def test_the_whole_way(tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home")
    with up(tally) as process:
        first = tally("import", PLAIN, "--json")
        assert (first.status, first.json["appended"], first.json["rejected"]) == (0, 5, 0), first
        second = tally("import", PLAIN, "--json")
        assert (second.status, second.json["appended"], second.json["duplicate"]) == (0, 0, 5), second

        shown = tally("show", RUN, "--json").json
        steps = [entry for entry in shown["entries"] if entry["kind"] != "run_head"]
        assert [entry["kind"] for entry in steps] == [
            "model_call",
            "tool_call",
            "validator",
            "tool_call",
            "run_finished",
        ]
        assert steps[1]["content"]["/input"]["value"] == '{"parcel":"P-2207","weight_kg":1.250}'
        assert "find_parcel" in tally("show", RUN).out

        verified = tally("verify", "--json")
        assert (verified.status, verified.json["integrity"], verified.json["findings"]) == (0, "ok", [])
        assert verified.json["independence"] == "unwitnessed"
        sizes = {log["origin"]: log for log in verified.json["logs"]}
        assert sizes[shown["log"]]["size"] >= 6

        vkeys = tally("keys", "vkey", shown["log"]).out.splitlines()
        assert tally("keys", "vkey", "--tenant", "default").out.splitlines() == vkeys
        assert set(vkeys) < set(tally("keys", "vkey").out.splitlines())
        assert tally("keys", "list", "--json").json["logs"]
        unknown = tally("keys", "vkey", "nope")
        assert (unknown.status, "no key of nope" in unknown.err, "tally keys list" in unknown.err) == (2, True, True)

        export(tally, shown["log"], vkeys, sizes[shown["log"]]["root"])
        tenants(tally)
        rejected(tally)
        conflict(tally)
        refused(tally)

        doctor = tally("doctor", "--json")
        assert doctor.status == 0, doctor.out
        assert {"Postgres", "Kafka", "lag", "heads"} <= {check["name"] for check in doctor.json["checks"]}
        assert tally("up").one_line().count(str(process.pid)) == 2
        assert tally("migrate", "--json").json == {"applied": []}
        drained = tally("ingest", "--until-idle", "1", "--json")
        assert (drained.status, drained.json["rejected"]) == (0, 0), drained

        tamper(tally, shown["log"])
        process.terminate()
        assert process.wait(END_S) == 0
    assert not (tally.home / "endpoints.json").exists()
    assert processes_of(tally.home) == []
    assert "stopping" in (tmp_path / "up.log").read_text()
    assert "Traceback" not in (tmp_path / "up.log").read_text()


def export(tally: Tally, log: str, vkeys: list[str], root: str) -> None:
    """The directory's checkpoint is the log's, and its entries give that root."""
    folder = tally.home.parent / "out"
    done = tally("export", "log", log, "-o", folder, "--json")
    assert (done.status, done.json["root"]) == (0, root), done
    found = verify_checkpoint((folder / "checkpoint").read_bytes(), vkeys).checkpoint
    entries = decode_bundle((folder / bundle_path(0, found.tree_size)).read_bytes(), found.tree_size)
    edge = Edge.empty()
    edge.extend([leaf_hash(entry) for entry in entries])
    assert (edge.tree_size, edge.root()) == (found.tree_size, found.root_hash)
    assert "is not empty" in tally("export", "log", log, "-o", folder).one_line()
    unknown = tally("export", "log", f"{log}/9", "-o", folder / "new").one_line()
    assert unknown.startswith(f"tally: the database has no log {log}/9. `tally tenant list`")
    assert "no tenant nope was ever registered" in tally("verify", "--tenant", "nope").one_line()
    assert "no log nope was ever registered" in tally("verify", "--log", "nope", "--json").one_line()
    known = tally("verify", "--known-checkpoint", folder / "checkpoint", "--json")
    assert (known.status, known.json["findings"]) == (0, []), known
    damaged = folder.parent / "damaged"
    text, signature = (folder / "checkpoint").read_bytes().rsplit(b" ", 1)
    damaged.write_bytes(text + b" " + signature[:20] + (b"A" if signature[20:21] != b"A" else b"B") + signature[21:])
    assert "the file, not the ledger" in tally("verify", "--known-checkpoint", damaged).one_line()
    since = tally("verify", "--since-verified", "--json")
    assert since.status == 0
    assert {log["origin"] for log in since.json.get("not_reread", [])} <= {log["origin"] for log in since.json["logs"]}


def tenants(tally: Tally) -> None:
    """A new tenant's topic is consumed without a restart; its producer's key makes events `signed`."""
    added = tally("tenant", "add", "Acme GmbH", "--slug", "acme", "--json").json
    assert (added["slug"], added["topic"]) == ("acme", "tally.events.acme")
    assert tally("tenant", "add", "Acme GmbH", "--json").json == added
    assert "fixed" in tally("tenant", "add", "Acme GmbH", "--slug", "other").one_line()
    assert [row["tenant"] for row in tally("tenant", "list", "--json").json["tenants"]] == ["Acme GmbH", "default"]
    done = tally("import", "--tenant", "Acme GmbH", PLAIN, "--json")
    assert done.json["appended"] == 5, done
    assert "of several tenants" in tally("show", RUN).one_line()
    assert tally("show", RUN, "--tenant", "Acme GmbH", "--json").json["log"] == added["logs"][0]
    assert "tally tenant add nobody" in tally("import", "--tenant", "nobody", PLAIN).one_line()

    private = Ed25519PrivateKey.generate()
    pem = tally.home.parent / "key.pem"
    pem.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    key = tally("tenant", "key", "add", "Acme GmbH", "desk-1", "--pem", pem, "--json").json
    assert key["role"] == "producer"
    assert base64.b64decode(key["vkey"].split("+", 2)[2])[1:] == private.public_key().public_bytes_raw()
    listed = tally("tenant", "key", "list", "Acme GmbH", "--json").json["keys"]
    assert listed == [{"key": "desk-1", "role": "producer", "vkey": key["vkey"]}]
    attester = tally("tenant", "key", "add", "Acme GmbH", "board", "--attester", "--vkey", key["vkey"])
    assert "attester" in attester.out
    assert "no tenant nobody" in tally("tenant", "key", "add", "nobody", "k", "--vkey", key["vkey"]).one_line()


def rejected(tally: Tally) -> None:
    """A refused line is counted, listed, shown, and repaired from standard input."""
    wrong = json.dumps({"run_id": "r", "step": 1, "type": "dance"})
    done = tally("import", "-", "--json", stdin=wrong + "\n")
    assert (done.status, done.json["rejected"]) == (1, 1), done
    (refused,) = done.json["rejections"]
    assert (refused["reason"], refused["file"], refused["line"]) == ("unknown_kind", "-", 1)
    (entry,) = tally("rejected", "list", "--json").json["rejected"]
    assert (entry["id"], entry["said"]) == (refused["id"], {"tenant": None, "kind": "dance", "run": "r"})
    assert "kind dance, run r" in tally("rejected", "list", "--reason", "unknown_kind").out
    shown = tally("rejected", "show", entry["id"], "--json").json
    assert (shown["received"], shown["key"]) == (wrong, "r")
    assert tally("rejected", "show", entry["id"], "--raw").out == wrong
    again = tally("rejected", "repair", entry["id"], "--as-is", "--json")
    assert (again.status, again.json["rejected"]) == (1, 1), again
    right = json.dumps({"run_id": "r", "step": 1, "type": "validator", "rule": "a", "result": "pass"})
    repaired = tally("rejected", "repair", entry["id"], "--with", "-", "--json", stdin=right)
    assert (repaired.status, repaired.json["appended"], repaired.json["refers"]) == (0, 1, True), repaired
    assert entry["id"] in tally("show", "r", "--json").json["entries"][0]["content"]["/raw"]["value"]


def conflict(tally: Tally) -> None:
    """A line that says something else under an id on the record ends an import with 1, and is named."""
    file = tally.home.parent / "again.jsonl"
    first = {"run_id": "k", "step": 1, "type": "validator", "rule": "a", "result": "pass"}
    file.write_text("".join(json.dumps(first | {"rule": rule}) + "\n" for rule in "ab"))
    done = tally("import", file)
    assert (done.status, done.out.splitlines()[1].startswith("again.jsonl:2: conflict: ")) == (1, True), done
    assert done.out.startswith("2 lines: 1 appended, 0 duplicate, 1 conflict")
    twice = [tally("import", file, "--json").json for _ in range(2)]
    assert [(one["appended"], one["duplicate"], one["conflict"]) for one in twice] == [(0, 1, 1)] * 2
    assert twice[0]["conflicts"][0]["id"] != twice[1]["conflicts"][0]["id"]  # an entry each time, as the help says


def refused(tally: Tally) -> None:
    """A key store or a prefix that isn't this ledger's is told, and nothing new is begun."""
    other = Tally.at(tally.home, TALLY_KEYSTORE=str(tally.home.parent / "elsewhere"))
    assert "no key store at" in other("tenant", "add", "x").one_line()
    assert not (tally.home.parent / "elsewhere").exists()
    other = Tally.at(tally.home, TALLY_ORIGIN_PREFIX="other.example")
    assert "TALLY_ORIGIN_PREFIX" in other("tenant", "add", "x").one_line()


def tamper(tally: Tally, log: str) -> None:
    """One byte, by somebody who may do all in the database: found under its name, and not exported."""
    with psycopg.connect(endpoints(tally)["postgres_admin"], autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(
            "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '\"find_parcel\"',"
            " '\"find_parcem\"'), 'UTF8') WHERE log = %s AND index = 2",
            (log,),
        )
    found = tally("verify", "--json")
    assert (found.status, found.json["integrity"]) == (1, "failed")
    assert ("leaf_edited", log, 2) in {(one["kind"], one["log"], one["index"]) for one in found.json["findings"]}
    told = tally("verify", "--log", log)
    assert told.status == 1
    assert "leaf_edited" in told.out
    assert tally("verify", "--tenant", "Acme GmbH").status == 0
    folder = tally.home.parent / "tampered"
    exported = tally("export", "log", log, "-o", folder)
    assert (exported.status, folder.exists()) == (1, False), exported
    with psycopg.connect(endpoints(tally)["postgres"], autocommit=True) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("tally_auditor",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("UPDATE logs SET tree_size = 0")


@pytest.mark.timeout(300)
def test_killed_it_leaves_nothing_running_and_the_next_one_has_everything(tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home")
    with up(tally) as process:
        before = endpoints(tally)
        assert tally("import", PLAIN, "--json").json["appended"] == 5
        assert tally("import", PLAIN, "--no-wait", "--json").json == {"published": 5}
        process.send_signal(signal.SIGKILL)
        process.wait(END_S)
    assert nothing_runs(tally.home)
    assert not (tally.home / "endpoints.json").exists()
    with up(tally) as process:
        after = endpoints(tally)
        assert after["pid"] == process.pid
        assert {name: before[name] for name in ("postgres", "kafka")} == {
            name: after[name] for name in ("postgres", "kafka")
        }
        assert tally("import", PLAIN, "--json").json["duplicate"] == 5
        assert tally("verify", "--json").status == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 0
    assert processes_of(tally.home) == []


@pytest.mark.timeout(200)
def test_a_server_that_dies_ends_it_with_one_line(tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home")
    with up(tally) as process:
        postmaster = int((tally.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        assert process.wait(END_S) == 2
    last = (tmp_path / "up.log").read_text().splitlines()[-1]
    assert last.startswith("tally: Postgres was killed")
    assert processes_of(tally.home) == []


@pytest.mark.timeout(300)
def test_where_no_consumer_can_work_the_servers_stay_to_look_at(tmp_path: Path) -> None:
    """A database older than what was published of it: nothing is appended, and it can be verified and exported."""
    tally = Tally.at(tmp_path / "home")
    with up(tally):
        assert tally("import", PLAIN, "--json").json["appended"] == 5
        log = tally("show", RUN, "--json").json["log"]
    with SqliteKeyStore(tally.home / "keys", create=False) as keystore:
        heads = log.replace("/default", "/heads")
        size, root = keystore.published(heads) or (0, b"")
        keystore.publish(heads, size + 5, root)
    with up(tally) as process:
        deadline = time.monotonic() + END_S
        while "nothing is appended any more" not in (tmp_path / "up.log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "up.log").read_text()
            time.sleep(0.1)
        found = tally("verify", "--json")
        assert found.status == 1
        assert {one["log"] for one in found.json["findings"]} == {heads}
        doctor = tally("doctor", "--json")
        told = next(check for check in doctor.json["checks"] if check["name"] == "tally up")
        assert (doctor.status, told["state"]) == (1, "failed")
        assert heads in told["detail"]
        began = time.monotonic()
        assert heads in tally("import", PLAIN).one_line()
        assert time.monotonic() - began < STALL_S / 2
        assert tally("export", "log", log, "-o", tmp_path / "out").status == 0
        process.terminate()
        assert process.wait(END_S) == 2
    last = (tmp_path / "up.log").read_text().splitlines()[-1]
    assert last.startswith("tally: ")
    assert heads in last
    assert processes_of(tally.home) == []


@pytest.mark.timeout(200)
def test_stopped_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home")
    process = tally.start("up", log=tmp_path / "up.log")
    wait_for_file(tally.home / "postgres" / "lock", process, tmp_path / "up.log")
    process.terminate()
    assert process.wait(END_S) == 0
    assert processes_of(tally.home) == []
    assert not (tally.home / "endpoints.json").exists()


@pytest.mark.timeout(300)
async def test_servers_of_ones_own(
    private_postgres: PrivatePostgres, private_kafka: PrivateKafka, tmp_path: Path
) -> None:
    """Addresses that are set: no server is started, each part is a command of its own, and roles do what they may."""
    await make_template(private_postgres)  # for the roles' logins
    async with await psycopg.AsyncConnection.connect(private_postgres.url(), autocommit=True) as conn:
        await conn.execute("CREATE DATABASE ours")
    settings = {
        "TALLY_KAFKA_BOOTSTRAP": private_kafka.bootstrap,
        "TALLY_ORIGIN_PREFIX": "ledger.example.org",
        "TALLY_EVENTS_TENANT": "acme",
    }
    home = tmp_path / "ours"
    admin, writer, auditor = (
        Tally.at(home, TALLY_POSTGRES_URL=private_postgres.url(role, "ours"), **settings)
        for role in (None, "tally_writer", "tally_auditor")
    )
    assert "tally migrate" in admin("tenant", "list").one_line()
    assert len(admin("migrate", "--json").json["applied"]) >= 1
    added = writer("tenant", "add", "acme", "--shards", "2", "--json").json
    assert added["logs"][0].startswith("ledger.example.org/t-")
    assert len(added["logs"]) == 2
    drained = writer("ingest", "--until-idle", "1", "--json")
    assert drained.status == 0, drained
    nowhere = Tally(home, writer.env | {"TALLY_KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert "Kafka at 127.0.0.1:1 does not answer" in nowhere("ingest").one_line()
    assert auditor("import", PLAIN, "--no-wait", "--json").json == {"published": 5}
    drained = writer("ingest", "--until-idle", "1", "--json")
    assert (drained.status, drained.json["entries"]) == (0, drained.json["batches"] + 6), drained
    assert auditor("show", RUN, "--json").json["log"] in added["logs"]
    assert auditor("verify", "--json").json["integrity"] == "ok"
    assert "may not act as tally_writer" in auditor("tenant", "add", "x").one_line()
    assert auditor("doctor").status == 0
    assert not (home / "postgres").exists()
    with up(writer):
        found = endpoints(writer)
        assert (found["postgres_admin"], found["kafka"]) == (None, private_kafka.bootstrap)
        assert auditor("import", PLAIN, "--json").json["duplicate"] == 5
    assert private_postgres.running
    assert private_kafka.running
