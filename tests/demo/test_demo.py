"""`tally demo`, played for real: once in a new home, and once more in the same home after somebody was at its database.

What the demo says of itself is compared with what stands in its Postgres, read here anew after it has ended.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from ledger.leaf import Leaf, parse_leaf
from projections.links import LINKS, links
from tallystick import demo
from tallystick.demo.story import PERSONS
from tallystick.errors import TallyError
from tallystick.servers import EmbeddedPostgres
from tests.support.servers import processes_of, run

PLAY_S = 150  # it takes 10 s; a first start on a busy machine, with jars to fetch, may take long
PROGRAM = "import sys, pathlib, tallystick.demo as demo\nsys.exit(demo.main(pathlib.Path(sys.argv[1]), as_json={}))"


@dataclass(frozen=True)
class Shown:
    """One showing that has ended, and what Postgres holds after it."""

    home: Path
    status: int
    said: str
    entries: list[tuple[str, int, bytes]]
    sealed: bytes

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said)
        return found

    def leaves(self) -> list[tuple[int, Leaf]]:
        """The entries of the showing's tenant, read from their bytes."""
        log = self.summary["log"]
        return [(index, parse_leaf(leaf)) for origin, index, leaf in self.entries if origin == log]

    def by_otlp(self) -> list[Leaf]:
        """The entries of the run that was sent by OTLP, in the log of the tenant default."""
        leaves = [parse_leaf(leaf) for log, _, leaf in self.entries if log.endswith("/default")]
        return [leaf for leaf in leaves if leaf.run == self.summary["otlp"]["run"]]

    def kinds(self, run: str) -> set[str]:
        """The kinds of a run's entries."""
        return {leaf.kind for _, leaf in self.leaves() if leaf.run == run}


def play(home: Path, *, as_json: bool) -> tuple[int, str]:
    """Run the demo's main as a process of its own; warnings are errors there too. Its standard error is a terminal,
    and nothing tells the libraries that this is a test: what they would say to a person, they would say."""
    program = PROGRAM.format(as_json)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_VERSION")}
    screen, terminal = pty.openpty()
    remarks = bytearray()
    reader = Thread(target=lambda: remarks.extend(b"".join(iter(lambda: on_screen(screen), b""))))
    reader.start()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, str(home)],
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            timeout=PLAY_S,
            env=environment,
            check=False,
        )
    finally:
        os.close(terminal)
        reader.join()
        os.close(screen)
    assert b"Traceback" not in remarks, remarks.decode()
    assert b"pydantic-ai" not in remarks, remarks.decode()
    return done.returncode, done.stdout


def on_screen(screen: int) -> bytes:
    """What was written to the terminal, nothing when nobody holds it any more."""
    try:
        return os.read(screen, 65536)
    except OSError:  # so Linux says that it is closed
        return b""


async def read(home: Path) -> tuple[list[tuple[str, int, bytes]], bytes]:
    """Every entry, and all content as it is stored."""
    async with (
        EmbeddedPostgres(home) as server,
        await psycopg.AsyncConnection.connect(server.url("tally_auditor")) as conn,
    ):
        rows = await (await conn.execute("SELECT log, index, leaf FROM entries ORDER BY log, index")).fetchall()
        contents = await (await conn.execute("SELECT sealed FROM content")).fetchall()
    sealed = b"".join(box for (boxes,) in contents for box in boxes if box is not None)
    return [(log, index, bytes(leaf)) for log, index, leaf in rows], sealed


async def edit(home: Path, log: str, index: int) -> None:
    """Change one entry of the original, as a superuser can."""
    async with (
        EmbeddedPostgres(home) as server,
        await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as conn,
    ):
        await conn.execute("SET session_replication_role = replica")
        await conn.execute(
            "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '\"v\":1', '\"v\":2'), 'UTF8')"
            " WHERE log = %s AND index = %s",
            (log, index),
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def shown(home: Path) -> Shown:
    status, said = play(home, as_json=True)
    assert processes_of(home) == [], "something of the demo runs on"
    return Shown(home, status, said, *run(read(home)))


def test_it_ends_well_and_every_check_says_so(shown: Shown) -> None:
    summary = shown.summary

    assert [check for check in summary["checks"] if not check["ok"]] == []
    assert (shown.status, summary["ok"]) == (0, True)
    assert len(summary["checks"]) >= 15


def test_three_verdicts_and_no_finding_on_the_original(shown: Shown) -> None:
    verdicts = shown.summary["verdicts"]

    assert verdicts["tenant"] == {"integrity": "ok", "completeness": "ok", "independence": "unwitnessed"}
    assert verdicts["ledger"] == {"integrity": "ok", "completeness": "unknown", "independence": "unwitnessed"}
    assert shown.summary["tampering"]["original"] == verdicts["ledger"]


def test_the_tampering_is_found_by_name_log_and_index_and_the_original_still_says_what_it_said(shown: Shown) -> None:
    tampering = shown.summary["tampering"]
    place = (tampering["log"], tampering["index"])

    assert tampering["verdicts"]["integrity"] == "failed"
    finding = tampering["finding"]
    assert (finding["kind"], finding["log"], finding["index"]) == ("leaf_edited", *place)
    assert "append-only" in tampering["refusal"]
    original = next(leaf for log, index, leaf in shown.entries if (log, index) == place)
    assert tampering["before"].encode() in original
    assert tampering["after"].encode() not in original


def test_the_runs_hold_all_twelve_links_counted_from_the_entries(shown: Shown) -> None:
    runs = {told["run"] for told in shown.summary["runs"]}
    found = links((index, leaf) for index, leaf in shown.leaves() if leaf.run in runs)

    assert [name for name in LINKS if not found[name].held] == []
    said = shown.summary["links"]
    assert {name: [place.index for place in link.shown] for name, link in found.items()} == {
        name: link["entries"] for name, link in said.items()
    }
    kinds = {place.kind for place in found["memory_reads_and_writes"].shown}
    assert {"memory_read", "memory_write"} <= kinds


def test_the_money_in_the_ledger_is_what_the_payment_provider_paid(shown: Shown) -> None:
    lines = [json.loads(line) for line in (shown.home / "payments.jsonl").read_text().splitlines()]
    effects = {
        leaf.data["call"]: leaf.data["effect"]
        for _, leaf in shown.leaves()
        if leaf.kind == "tool_call" and leaf.data["phase"] == "finished" and leaf.data.get("status") == "ok"
        if "effect" in leaf.data
    }
    effects |= {leaf.data["call"]: leaf.data["effect"] for leaf in shown.by_otlp() if leaf.kind == "final_action"}

    assert {line["key"]: (line["action"], line["amount"], line["currency"]) for line in lines} == {
        call: (effect["action"], effect["amount"], effect["currency"]) for call, effect in effects.items()
    }
    assert sorted((line["action"], line["amount"]) for line in lines) == [
        ("credit", "5.00"),
        ("refund", "12.90"),
        ("refund", "184.00"),
        ("refund", "8.50"),
        ("reverse", "184.00"),
    ]
    assert Decimal(shown.summary["money"]["net"]) == Decimal("26.40")


def test_one_run_went_wrong_and_was_rolled_back_and_one_delegated(shown: Shown) -> None:
    right, wrong, parent, child = shown.summary["runs"]
    kinds = {
        told["run"]: {leaf.kind for _, leaf in shown.leaves() if leaf.run == told["run"]} for told in (right, wrong)
    }

    assert [told["status"] for told in shown.summary["runs"]] == ["success", "handed_over", "success", "success"]
    assert {"error", "retry", "rollback", "human_override"} <= kinds[wrong["run"]]
    assert not {"error", "retry", "rollback", "human_override"} & kinds[right["run"]]
    started = next(leaf for _, leaf in shown.leaves() if leaf.run == child["run"])
    assert (started.kind, started.data["parent_run"], started.data["root_run"], started.data["depth"]) == (
        "run_started",
        parent["run"],
        parent["run"],
        1,
    )
    assert any(leaf.kind == "delegation" and leaf.data["to_run"] == child["run"] for _, leaf in shown.leaves())


def test_signed_stands_beside_claimed_and_an_approval_is_attested(shown: Shown) -> None:
    signed = [leaf for _, leaf in shown.leaves() if leaf.sig is not None]
    attested = [leaf for _, leaf in shown.leaves() if leaf.data.get("vouched") == "attested"]

    assert {leaf.run for leaf in signed} == {shown.summary["runs"][0]["run"]}
    assert [leaf.kind for leaf in attested] == ["approval_decision"]
    assert shown.summary["vouched"]["claimed"] > 0


def test_no_call_was_made_with_other_arguments_than_were_approved(shown: Shown) -> None:
    checked = [leaf.data for _, leaf in shown.leaves() if leaf.data.get("rule") == "arguments_as_approved"]
    asked = [leaf.data for _, leaf in shown.leaves() if leaf.kind == "approval_request"]

    assert [(data["call"], data["result"]) for data in checked] == [(data["call"], "pass") for data in asked]
    assert len(asked) == 2


def test_what_became_of_the_tickets_is_learned_later_and_joins_by_work_item(shown: Shown) -> None:
    leaves = shown.leaves()
    items = {leaf.data["work_item"]["id"]: leaf.run for _, leaf in leaves if leaf.kind == "run_started"}
    learned = [leaf for _, leaf in leaves if leaf.kind == "outcome"]

    assert {leaf.data["work_item"]["id"]: leaf.data["verified"] for leaf in learned} == {
        "T-501": True,
        "T-502": False,
        "T-503": "pending",
    }
    assert items.keys() == {"T-501", "T-502", "T-503"}
    assert {leaf.run for leaf in learned} == {None}


def test_what_runs_cite_was_applied_through_control(shown: Shown) -> None:
    leaves = [leaf for _, leaf in shown.leaves()]
    applied = {leaf.data["digest"] for leaf in leaves if leaf.source.get("topic") == "tally.control"}
    started = [leaf.data for leaf in leaves if leaf.kind == "run_started"]

    assert {data["contract"] for data in started} | {data["policy_bundle"] for data in started} == applied


def test_no_name_of_a_person_stands_in_the_clear_anywhere_in_the_database(shown: Shown) -> None:
    clear = b"".join(leaf for _, _, leaf in shown.entries) + shown.sealed

    assert [name for name in PERSONS if name.encode() in clear] == []


def test_the_run_by_otlp_came_through_the_gateway_and_answers_the_three_questions(shown: Shown) -> None:
    sent, leaves = shown.summary["otlp"], shown.by_otlp()
    call = sent["key"]
    about = {leaf.kind: leaf for leaf in leaves if leaf.data.get("call") == call}

    topics = {leaf.source["topic"] for leaf in leaves if leaf.kind != "run_head"}
    assert topics == {"tally.gateway.spans", "tally.gateway.logs"}
    assert {"model_call", "tool_call", "policy_decision", "final_action", "run_started", "run_finished"} <= {
        leaf.kind for leaf in leaves
    }
    assert {leaf.actor["principal"] for leaf in about.values() if leaf.actor} == {about["tool_call"].actor["principal"]}
    assert (about["policy_decision"].data["decision"], about["policy_decision"].data["rule"]) == (
        "allow",
        "refund-small",
    )
    assert (about["tool_call"].data["tool"], about["tool_call"].data["status"]) == ("payments.refund", "ok")
    assert {"/input", "/output"} <= (about["tool_call"].commit or {}).keys()
    assert [leaf.data["work_item"]["id"] for leaf in leaves if leaf.kind == "run_started"] == ["T-504"]


def test_what_opentelemetry_does_not_tell_of_a_run_is_called_missing(shown: Shown) -> None:
    links = shown.summary["otlp"]["links"]

    assert tuple(links) == LINKS
    assert {name for name, link in links.items() if link["state"] == "missing"} == {
        "retrieved_context",
        "memory_reads_and_writes",
        "human_approval",
        "error_path",
    }
    assert links["policy_decision"] == {"state": "reported", "rules": []}
    assert links["user_request"]["state"] == "inferred"
    assert links["user_request"]["rules"]


def test_the_plain_step_form_is_imported_once(shown: Shown) -> None:
    imported = [
        leaf
        for log, _, raw in shown.entries
        if log.endswith("/default")
        for leaf in [parse_leaf(raw)]
        if leaf.source.get("file") == "plain-steps.jsonl"
    ]

    assert [leaf.source["line"] for leaf in imported] == [1, 2, 3, 4, 5]
    assert shown.summary["imported"] == {"lines": 5, "after_first": 5, "after_second": 5}


def test_the_packaged_lines_are_the_fixture() -> None:
    packaged = resources.files("tallystick.demo") / "plain-steps.jsonl"

    assert packaged.read_bytes() == (Path(__file__).parents[1] / "fixtures" / "plain-steps.jsonl").read_bytes()


def test_a_home_that_cannot_be_is_said_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(TallyError, match="can't make the folder") as told:
        demo.main(tmp_path / "file" / "home")

    assert told.value.exit_status == 2


def test_a_ledger_that_was_touched_ends_it_with_1_in_plain_words(shown: Shown) -> None:
    index, _ = shown.leaves()[-1]
    run(edit(shown.home, shown.summary["log"], index))

    status, said = play(shown.home, as_json=False)

    assert status == 1
    assert "NOT as it must be: integrity" in said
    assert "FAILED integrity" in said
    assert str(shown.home) in said
    for word in ("unwitnessed", "leaf_edited", "proves", "does not"):
        assert word in said
    assert processes_of(shown.home) == []
    lines = said.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert f"   TALLY_HOME={shown.home} {sys.executable} -m tallystick up" in lines
    assert lines[-1].startswith(f"   TALLY_HOME={shown.home} {sys.executable} -m tallystick show ")
