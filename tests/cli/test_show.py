"""What a run shows: its entries in order, and a verdict for each content field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.append import Appender
from ledger.db import connect
from ledger.keystore import SqliteKeyStore
from ledger.registry import Registry, append_pending
from ledger.seal import Pending, Sealer, ledger_event
from replay.errors import NoSuchRun, RunUnknown
from replay.show import show_run, shown_value
from tests.cli.tally import Tally
from tests.faults.support import Site, event

MEMBERS = {"index", "id", "run_seq", "kind", "time", "recorded", "actor", "data", "source", "content"}


async def shown(site: Site, run: str, tenant: str | None = None, *, keys: bool = True) -> dict[str, Any]:
    async with await connect(site.postgres, "tally_auditor") as conn:
        if not keys:
            return dict(json.loads((await show_run(conn, None, run, tenant)).to_json()))
        with SqliteKeyStore(site.keys, create=False) as keystore:
            return dict(json.loads((await show_run(conn, keystore, run, tenant)).to_json()))


async def tamper(site: Site, statement: str) -> None:
    async with await connect(site.postgres, None) as conn:
        await conn.execute("SET session_replication_role = replica")
        await conn.execute(statement.encode())


async def send(site: Site, *events: dict[str, Any]) -> None:
    await site.send([(one["subject"].encode(), json.dumps(one).encode(), []) for one in events])
    await site.consume()


async def test_a_run_in_order_with_its_content(site: Site) -> None:
    first, second = event("run", 1), event("run", 2)
    second["data"]["actor"] = {"agent": "desk", "principal": "ann@example.org"}
    await send(site, first, second, event("other", 1))
    found = await shown(site, "run")
    assert found.keys() == {"run", "log", "entries", "knowledge", "totals"}
    assert (found["run"], found["log"]) == ("run", site.origin)
    assert [entry.keys() for entry in found["entries"]] == [MEMBERS] * 2
    assert [(entry["id"], entry["run_seq"]) for entry in found["entries"]] == [(first["id"], 0), (second["id"], 1)]
    entry = found["entries"][1]
    assert entry["kind"] == "tool_call"
    assert entry["time"] == "2026-11-21T03:00:00.000001Z"
    sealed = {leaf["id"]: leaf["recorded"] for leaf in await site.leaves("tool_call")}
    assert [one["recorded"] for one in found["entries"]] == [sealed[first["id"]], sealed[second["id"]]]
    assert entry["data"]["call"] == "call-2"
    assert entry["source"]["topic"] == site.topic
    assert entry["actor"]["principal"].startswith("p:")
    assert entry["content"] == {
        "/input": {"verdict": "disclosed", "type": "application/json", "value": '{"amount": "12.90"}'},
        "/output": {"verdict": "disclosed", "type": "application/json", "value": '{"state": "done"}'},
        "/actor/principal": {"verdict": "disclosed", "type": "text/plain", "value": "ann@example.org"},
    }


async def test_what_is_known_of_a_run_and_what_it_comes_to(site: Site) -> None:
    await send(site, event("run", 1), event("run", 2))
    found = await shown(site, "run")
    first, second = (entry["index"] for entry in found["entries"])
    execution = {"state": "reported", "rules": [], "lacks": [], "entries": [first, second]}
    assert found["knowledge"]["links"]["tool_execution"] == execution
    assert found["knowledge"]["links"]["model_invocation"]["state"] == "missing"
    assert (found["totals"]["tool_calls"], found["totals"]["model_calls"]) == (2, 0)
    await tamper(site, "UPDATE entries SET leaf = convert_to('garbage', 'UTF8') WHERE run_seq = 0")
    assert (await shown(site, "run"))["knowledge"]["links"]["tool_execution"]["entries"] == [second]


async def test_the_bytes_of_a_conflict_are_text_and_the_run_is_said_to_have_one(site: Site) -> None:
    first = event("run", 1)
    await send(site, first, first | {"data": {**first["data"], "tool": "another"}})
    found = await shown(site, "run")
    (conflict,) = (entry for entry in found["entries"] if entry["kind"] == "conflict")
    received = conflict["content"]["/received"]
    assert "encoding" not in received
    assert json.loads(received["value"])["data"]["tool"] == "another"
    assert found["knowledge"]["conflicts"] == [conflict["index"]]


async def test_without_a_key_store_content_is_withheld(site: Site) -> None:
    await send(site, event("run", 1))
    (entry,) = (await shown(site, "run", keys=False))["entries"]
    assert set(map(json.dumps, entry["content"].values())) == {'{"verdict": "withheld"}'}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE content SET sealed[1] = set_byte(sealed[1], 20, get_byte(sealed[1], 20) # 1)",
        "UPDATE content SET sealed = ARRAY[sealed[2], sealed[1]] WHERE cardinality(sealed) = 2",
        "UPDATE content SET types[1] = 'text/plain'",
        "UPDATE content SET sealed[1] = NULL",
        "DELETE FROM content",
        "UPDATE content SET types = types[1:1]",
        "UPDATE content SET types[1] = NULL",
    ],
)
async def test_changed_content_is_tampered(site: Site, change: str) -> None:
    await send(site, event("run", 1))
    await tamper(site, change)
    (entry,) = (await shown(site, "run"))["entries"]
    assert entry["content"]["/input"] == {"verdict": "tampered"}


@pytest.mark.parametrize("leaf", ["'garbage'", "'{}'", "''", "'[1]'"])
async def test_an_entry_whose_leaf_cannot_be_read_is_tampered_and_the_others_are_shown(site: Site, leaf: str) -> None:
    await send(site, event("run", 1), event("run", 2))
    await tamper(site, f"UPDATE entries SET leaf = convert_to({leaf}, 'UTF8') WHERE run_seq = 0")
    first, second = (await shown(site, "run"))["entries"]
    assert (first["verdict"], first["kind"], first["run_seq"], first["content"]) == ("tampered", "tool_call", 0, {})
    assert "verdict" not in second
    assert second["content"]["/input"]["verdict"] == "disclosed"


async def test_another_commitment_is_tampered(site: Site) -> None:
    await send(site, event("run", 1))
    other = "A" * 43 + "="
    await tamper(
        site,
        "UPDATE entries SET leaf = convert_to(regexp_replace(convert_from(leaf, 'UTF8'),"
        f' \'"/input":{{"c":"[^"]*"\', \'"/input":{{"c":"{other}"\'), \'UTF8\') WHERE kind = \'tool_call\'',
    )
    (entry,) = (await shown(site, "run"))["entries"]
    assert entry["content"]["/input"] == {"verdict": "tampered"}
    assert entry["content"]["/output"]["verdict"] == "disclosed"


async def test_a_key_that_is_gone_is_missing_unless_an_erasure_says_so(site: Site) -> None:
    await send(site, event("run", 1))
    ref = (await site.leaves("tool_call"))[0]["commit"]["/input"]["k"][0]
    with SqliteKeyStore(site.keys) as keystore:
        keystore.destroy([ref])
        (entry,) = (await shown(site, "run"))["entries"]
        assert entry["content"]["/input"] == {"verdict": "key_missing"}
        source = {"ledger": "erasure/1"}
        erasure = ledger_event("erasure", source, data={"keys": [ref], "scope": "run", "basis": "request"})
        async with await connect(site.postgres, "tally_writer") as conn:
            appender = Appender(conn, keystore, Sealer(keystore))
            await append_pending(appender, Pending(erasure, site.tenant, site.origin, source))
    (entry,) = (await shown(site, "run"))["entries"]
    assert entry["content"]["/input"] == {"verdict": "erased"}


async def test_a_run_of_several_tenants_must_be_named_with_its_tenant(site: Site) -> None:
    await send(site, event("run", 1))
    with pytest.raises(RunUnknown, match="there is no run nothing on the record"):
        await shown(site, "nothing")
    with SqliteKeyStore(site.keys) as keystore:
        async with await connect(site.postgres, "tally_writer") as conn:
            registry = Registry(conn, keystore, site.prefix)
            appender = Appender(conn, keystore, Sealer(keystore))
            other = await registry.add_tenant(appender, "other")
            source = {"ledger": "correction/1"}
            entry = ledger_event("correction", source, data={"of": "x", "cause": "y"}, run="run")
            await append_pending(appender, Pending(entry, "other", other.origins[0], source))
    with pytest.raises(RunUnknown, match=rf"of several tenants, {site.tenant}, other"):
        await shown(site, "run")
    assert (await shown(site, "run", site.tenant))["log"] == site.origin
    assert (await shown(site, "run", "other"))["log"] == other.origins[0]
    with pytest.raises(RunUnknown, match="of tenant nobody"):
        await shown(site, "run", "nobody")


async def test_the_command_shows_as_many_entries_as_it_is_told_and_as_json_all(site: Site, tmp_path: Path) -> None:
    await send(site, event("run", 1), event("run", 2), event("run", 3))
    tally = Tally.at(tmp_path / "home", TALLY_POSTGRES_URL=site.postgres)

    first = tally("show", "run", "--limit", "2")
    every = tally("show", "run", "--limit", "2", "--all")
    as_json = tally("show", "run", "--limit", "2", "--json")

    assert (first.status, every.status, as_json.status) == (0, 0, 0)
    assert first.out.splitlines()[-1] == "and 1 more: --all shows every entry, --limit N the first N"
    assert [first.out.count("call-3"), every.out.count("call-3"), len(as_json.json["entries"])] == [0, 1, 3]
    assert [entry["run_seq"] for entry in as_json.json["entries"]] == [0, 1, 2]


async def test_for_a_run_that_is_not_there_the_newest_are_named(site: Site, tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home", TALLY_POSTGRES_URL=site.postgres, TALLY_KEYSTORE=str(site.keys))
    assert "No run was recorded lately" in tally("show", "nope", "--tenant", "nobody").one_line()

    await send(site, event("run-1", 1))
    await send(site, event("run-2", 1))
    await send(site, event("run-1", 2))
    with pytest.raises(NoSuchRun) as refused:
        await shown(site, "nope", site.tenant)
    assert [(one.run, one.tenant) for one in refused.value.newest] == [("run-1", site.tenant), ("run-2", site.tenant)]

    told = tally("show", "nope", "--tenant", site.tenant).one_line()
    assert f"there is no run nope of tenant {site.tenant} on the record. The newest on the record: run-1 (" in told
    assert "else the trace id" in told
    assert site.tenant not in tally("show", "nope", "--tenant", "nobody").one_line()


async def test_who_may_read_one_tenant_hears_of_no_other_ones_runs(site: Site) -> None:
    await send(site, event("mine", 1))
    with SqliteKeyStore(site.keys) as keystore:
        async with await connect(site.postgres, "tally_writer") as conn:
            appender = Appender(conn, keystore, Sealer(keystore))
            other = await Registry(conn, keystore, site.prefix).add_tenant(appender, f"{site.tenant}-other")
            source = {"ledger": "correction/1"}
            entry = ledger_event("correction", source, data={"of": "x", "cause": "y"}, run="theirs")
            await append_pending(appender, Pending(entry, other.tenant, other.origins[0], source))
    async with await connect(site.postgres, None) as conn:
        await conn.execute(
            "INSERT INTO reader_tenants VALUES (session_user, %s) ON CONFLICT DO NOTHING", (site.tenant,)
        )
        try:
            await conn.execute("SET ROLE tally_reader")
            with pytest.raises(NoSuchRun) as refused:
                await show_run(conn, None, "theirs", None)
            assert {one.tenant for one in refused.value.newest} == {site.tenant}
        finally:
            await conn.execute("RESET ROLE")
            await conn.execute("DELETE FROM reader_tenants WHERE login = session_user")


def test_values_are_exact_text_or_base64_that_is_marked() -> None:
    assert shown_value(b'{"w": 1.2500}') == {"value": '{"w": 1.2500}'}
    assert shown_value("größer".encode()) == {"value": "größer"}
    assert shown_value(b"YWI=") == {"value": "YWI="}
    assert shown_value(b"\xff") == {"value": "/w==", "encoding": "base64"}
