"""What is not tampering: gaps, erasures, rotations, lag, marks, and a writer at work meanwhile."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import Checkpoint, sign_checkpoint
from ledger.seal import Pending, ledger_event
from ledger.verify import verify
from schemas.event import Event
from tests.support.servers import Database
from tests.verify.support import (
    CLUSTER,
    PREFIX,
    TOPIC,
    TOPIC_ID,
    World,
    event,
    found,
    kinds,
    leaf_hash,
    tampering,
    world,
)

LOG = f"{PREFIX}/acme"


@pytest.fixture
async def made(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    """A ledger with one tenant and one finished batch."""
    async with world(database, tmp_path) as made:
        made.tenants.append(await made.registry.add_tenant(made.appender, "acme", slug="acme"))
        await made.batch(made.tenants[0], ["one", "two", "three"], 30, finish=True)
        await made.publish()
        await made.publish()
        yield made


async def append(made: World, *events: Event) -> None:
    """Append entries of the ledger's own, or events that came from nowhere."""
    pendings = [
        Pending(item, "acme", LOG, {"ledger": f"{item.kind}/{number}/{item.id}"}) for number, item in enumerate(events)
    ]
    made.appender.prepare(pendings)
    await made.appender.append([made.appender.seal(pending) for pending in pendings])


async def test_a_missing_number_is_a_gap_declared_or_not(made: World) -> None:
    await append(
        made,
        *[event(made.rng, "tool_call", "four", ("p-1", number)) for number in (2, 3, 7)],
        ledger_event("producer_gap", {"ledger": "producer_gap/1"}, run="four", data={"src": "p-1", "from": 4, "to": 6}),
    )
    report = await made.verify()
    gaps = [finding for finding in report.findings if finding.kind == "producer_gap"]
    assert [finding.detail for finding in gaps] == [
        "the producer's numbers 1 are missing, not declared",
        "the producer's numbers 4 to 6 are missing, declared by the producer",
    ]
    assert (report.integrity, report.completeness, report.exit_status) == ("ok", "gaps", 1)


async def test_completeness_is_unknown_without_numbers_or_with_an_open_run(made: World) -> None:
    assert (await made.verify()).completeness == "ok"
    await append(made, event(made.rng, "tool_call", "four", ("p-1", 1)))
    assert (await made.verify()).completeness == "unknown"
    await append(made, event(made.rng, "run_finished", "four", ("p-1", 2)))
    assert (await made.verify()).completeness == "ok"
    await append(made, event(made.rng, "tool_call", None, None))
    report = await made.verify()
    assert (report.completeness, report.findings, report.exit_status) == ("unknown", [], 0)


async def test_erased_content_is_not_a_finding(made: World) -> None:
    cursor = await made.conn.execute(
        "SELECT index, convert_from(leaf, 'UTF8')::json -> 'commit' -> '/input' -> 'k' FROM entries"
        " WHERE log = %s AND kind = 'tool_call' ORDER BY index LIMIT 1",
        (LOG,),
    )
    index, refs = await cursor.fetchone() or (0, [])
    made.keystore.destroy(refs)
    before = await made.verify()
    assert kinds(before) == {"key_missing"}
    assert ("key_missing", LOG, index) in found(before)
    assert before.integrity == "failed"
    await append(made, ledger_event("erasure", {"ledger": "erasure/1"}, data={"keys": refs, "scope": "run"}))
    assert (await made.verify()).findings == []
    async with tampering(made.database) as conn:
        await conn.execute(
            "UPDATE content SET sealed = array_fill(NULL::bytea, ARRAY[cardinality(sealed)]), fingerprint = NULL"
            " WHERE log = %s AND index = %s",
            (LOG, index),
        )
    left = await made.verify()
    assert kinds(left) <= {"content_tampered"}  # only fields of that entry under other keys, if it has any


async def rotate(made: World) -> int:
    """Rotate the key of the tenant's log as the log format has it; returns the index of the entry."""
    rotation = made.keystore.rotate_signer(LOG)
    text = f"tallystick/key-rotation/v1\n{LOG}\n{rotation.old.vkey}\n{rotation.new.vkey}\n"
    signature = b64encode(rotation.new.sign(text.encode())).decode()
    data = {"old": rotation.old.vkey, "new": rotation.new.vkey, "signature": signature}
    cursor = await made.conn.execute("SELECT tree_size FROM logs WHERE log = %s", (LOG,))
    (index,) = await cursor.fetchone() or (0,)
    await append(made, ledger_event("key_rotated", {"ledger": f"key_rotated/{LOG}/1"}, data=data))
    cursor = await made.conn.execute("SELECT root_hash FROM logs WHERE log = %s", (LOG,))
    (root_hash,) = await cursor.fetchone() or (b"",)
    note = sign_checkpoint(Checkpoint(LOG, index + 1, root_hash), rotation.old, rotation.new)
    async with tampering(made.database) as conn:
        await conn.execute("UPDATE checkpoints SET note = %s WHERE log = %s AND tree_size = %s", (note, LOG, index + 1))
    made.keystore.finish_rotation(LOG, rotation.new.vkey)
    return int(index)


async def test_a_rotated_key_and_one_used_after_its_time(made: World) -> None:
    old = made.keystore.signer(LOG)
    await rotate(made)
    await append(made, event(made.rng, "tool_call", "four", ("p-1", 1)))
    assert (await made.verify()).findings == []
    cursor = await made.conn.execute(
        "SELECT tree_size, root_hash FROM checkpoints WHERE log = %s ORDER BY tree_size DESC LIMIT 1", (LOG,)
    )
    size, root_hash = await cursor.fetchone() or (0, b"")
    async with tampering(made.database) as conn:
        note = sign_checkpoint(Checkpoint(LOG, size, root_hash), old)
        await conn.execute("UPDATE checkpoints SET note = %s WHERE log = %s AND tree_size = %s", (note, LOG, size))
    assert found(await made.verify()) == {("retired_key", LOG, size - 1)}


async def test_the_first_checkpoint_of_a_new_key_needs_the_old_one_too(made: World) -> None:
    index = await rotate(made)
    new = made.keystore.signer(LOG)
    cursor = await made.conn.execute(
        "SELECT root_hash FROM checkpoints WHERE log = %s AND tree_size = %s", (LOG, index + 1)
    )
    (root_hash,) = await cursor.fetchone() or (b"",)
    async with tampering(made.database) as conn:
        note = sign_checkpoint(Checkpoint(LOG, index + 1, root_hash), new)
        await conn.execute("UPDATE checkpoints SET note = %s WHERE log = %s AND tree_size = %s", (note, LOG, index + 1))
    assert found(await made.verify()) == {("bad_signature", LOG, index)}


async def test_heads_that_lag_are_told(made: World) -> None:
    made.appender._clock_us = lambda: 1_600_000_000_000_000  # the writer's clock, years ago
    await append(made, event(made.rng, "run_finished", "four", ("p-1", 1)))
    report = await made.verify()
    assert kinds(report) <= {"heads_lag", "order"}
    cursor = await made.conn.execute("SELECT tree_size FROM logs WHERE log = %s", (LOG,))
    (size,) = await cursor.fetchone() or (0,)
    assert kinds(report) == set() or ("heads_lag", LOG, size - 2) in found(report)


async def intake(made: World, kind: str, **data: Any) -> int:
    """Append an account as a faulty consumer might have; returns its index."""
    log = made.registry.intake(TOPIC, 0)
    source = {"ledger": f"{kind}/test/{data['from']}"}
    item = ledger_event(kind, source, data={"cluster": CLUSTER, "topic_id": TOPIC_ID, **data})
    made.appender.prepare([Pending(item, "", log, source)])
    await made.appender.append([made.appender.seal(Pending(item, "", log, source))])
    cursor = await made.conn.execute("SELECT tree_size FROM logs WHERE log = %s", (log,))
    (size,) = await cursor.fetchone() or (0,)
    return int(size) - 1


NOTHING = {"skipped": 0, "events": 0, "appended": 0, "duplicates": 0, "conflicts": 0, "rejected": 0}


async def test_a_hole_between_accounts_is_a_source_hole(made: World) -> None:
    log = made.registry.intake(TOPIC, 0)
    end = made.offsets[0]
    index = await intake(made, "intake", **{"from": end + 5, "to": end + 9, "records": 5}, **NOTHING)
    report = await made.verify()
    assert ("source_hole", log, index) in found(report)
    assert (report.integrity, report.completeness) == ("ok", "gaps")
    assert any(f"{end} to {end + 4}" in finding.detail for finding in report.findings)
    assert any("stored position" in finding.detail for finding in report.findings)


async def test_a_recorded_gap_is_told_and_covers_its_hole(made: World) -> None:
    log = made.registry.intake(TOPIC, 0)
    end = made.offsets[0]
    index = await intake(made, "source_gap", **{"from": end, "to": end + 99, "cause": "retention"})
    await made.conn.execute("UPDATE positions SET next_offset = %s", (end + 100,))
    made.offsets[0] = end + 100
    account_from = made.offsets[0]
    await intake(made, "intake", **{"from": account_from, "to": account_from, "records": 1}, **NOTHING)
    await made.conn.execute("UPDATE positions SET next_offset = %s", (account_from + 1,))
    report = await made.verify()
    assert found(report) == {("source_hole", log, index)}
    assert "recorded as lost" in report.findings[0].detail


async def test_an_account_that_counts_otherwise_than_the_logs(made: World) -> None:
    end = made.offsets[0]
    said = {**NOTHING, "events": 3, "appended": 3}
    index = await intake(made, "intake", **{"from": end, "to": end + 2, "records": 3}, **said)
    await made.conn.execute("UPDATE positions SET next_offset = %s", (end + 3,))
    report = await made.verify()
    assert found(report) == {("source_hole", made.registry.intake(TOPIC, 0), index)}
    assert "the account says 3 appended" in report.findings[0].detail


async def test_what_was_verified_before_is_passed_over_and_said(made: World) -> None:
    tenant = made.tenants[0]
    for number in range(8):
        await made.batch(tenant, [f"long-{at}" for at in range(4)], 100)
        if number == 5:
            assert (await made.verify()).findings == []
    await made.batch(tenant, [f"long-{at}" for at in range(4)], 10, finish=True)
    while await made.publish():
        """Until heads names everything."""
    again = await made.verify(since_verified=True)
    assert again.findings == []
    assert again.integrity == "ok"
    assert again.not_reread == {LOG: 512}, again
    assert '"not_reread": [{"origin": "ledger.example.org/acme", "size": 512}]' in again.to_json()
    last = await made.verify(since_verified=True)
    assert last.not_reread[LOG] > 512
    async with tampering(made.database) as conn:
        await conn.execute(
            "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '\"ok\"', '\"OK\"'), 'UTF8')"
            " WHERE log = %s AND index IN (3, 840)",
            (LOG,),
        )
    passed = await made.verify(since_verified=True)
    assert found(passed) == {("leaf_edited", LOG, 840)}
    whole = await made.verify()
    assert {("leaf_edited", LOG, 3), ("leaf_edited", LOG, 840)} <= found(whole)
    async with tampering(made.database) as conn:  # tiles that the mark's root doesn't bear out: nothing is passed over
        await conn.execute("UPDATE tiles SET hashes = sha256(hashes) || substr(hashes, 33) WHERE log = %s", (LOG,))
    assert ("leaf_edited", LOG, 840) in found(await made.verify(since_verified=True))


async def test_a_writer_at_work_does_not_disturb(made: World) -> None:
    """Verifications while batches are committed see whole states only."""
    done = asyncio.Event()

    async def write() -> None:
        for number in range(60):
            await made.batch(made.tenants[0], [f"busy-{number}"], 40, finish=True)
            await made.publish()
        done.set()

    writing = asyncio.create_task(write())
    reports = []
    while not done.is_set():
        reports.append(await made.verify())
    await writing
    sizes = [{log.origin: log.size for log in report.logs}[LOG] for report in reports]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]
    assert [report.findings for report in reports] == [[]] * len(reports)
    assert {report.integrity for report in reports} == {"ok"}


async def test_one_log_or_one_tenant_alone(made: World) -> None:
    one = await made.verify(logs=[LOG])
    assert [log.origin for log in one.logs] == [LOG]
    assert (one.integrity, one.findings) == ("ok", [])
    assert [log.origin for log in (await made.verify(tenant="acme")).logs] == [LOG]


async def test_progress_is_told(made: World) -> None:
    told: list[tuple[str, int, int]] = []
    await verify(
        made.database.url("tally_auditor"),
        made.keystore,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    stages = {stage for stage, _, _ in told}
    assert stages == {"entries", "across"}
    assert all(done == total for _, done, total in [told[-1]])


def test_leaf_hashes_are_those_of_rfc_6962() -> None:
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
