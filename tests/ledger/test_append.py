"""The append transaction, on a real database: chains, duplicates, conflicts, fences, shards, trees."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.append import RECORDED_BACK_US_MAX, Account
from ledger.checkpoint import verify_checkpoint
from ledger.errors import FencedOut, LeafTooLarge, LogMissing, LogRolledBack, RunMoved, SealedFieldError
from ledger.merkle import Edge
from ledger.registry import Tenant
from tests.ledger.appending import CLUSTER, TOPIC, Bench, bench, leaf_hash, make_event, naive_root
from tests.support import servers
from tests.support.servers import Database


@pytest.fixture
async def made(database: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(database, tmp_path) as made:
        yield made


async def _account(made: Bench, records: int, *, epoch: int = 1, first: int = 0) -> Account:
    log = made.registry.intake(TOPIC, 0)
    await made.registry.add_log(await made.appender(), log, "intake")
    await made.conn.execute(
        "INSERT INTO positions (cluster, topic, partition, epoch) VALUES (%s, %s, 0, 1) ON CONFLICT DO NOTHING",
        (CLUSTER, TOPIC),
    )
    return Account(log, CLUSTER, TOPIC, None, 0, epoch, first, first, first + records - 1, records)


# -- chains ---------------------------------------------------------------------------------------------------------


async def test_each_run_is_a_chain_through_the_batches(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    for _ in range(3):
        batch = [made.pending(tenant, make_event(f"run-{n % 3}")) for n in range(10)]
        batch.append(made.pending(tenant, make_event(None)))
        await made.append(appender, batch)
    raw = await made.raw_leaves(tenant.origins[0])
    tails: dict[str, tuple[int, bytes]] = {}
    for bytes_, leaf in zip(raw, await made.leaves(tenant.origins[0]), strict=True):
        if leaf["run"] is None:
            assert (leaf["run_seq"], leaf["prev"]) == (None, None)
            continue
        seq, last = tails.get(leaf["run"], (-1, b""))
        assert leaf["run_seq"] == seq + 1
        assert leaf["prev"] == (last.hex() or None)
        tails[leaf["run"]] = (seq + 1, leaf_hash(bytes_))
    assert {run: seq for run, (seq, _) in tails.items()} == {"run-0": 11, "run-1": 8, "run-2": 8}
    await made.sound()


async def test_a_finished_run_gets_a_run_head_and_may_go_on(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    kinds = ["tool_call", "run_finished", "tool_call", "run_finished"]
    await made.append(appender, [made.pending(tenant, make_event("run-1", kind=kind)) for kind in kinds])
    leaves = [leaf for leaf in await made.leaves(tenant.origins[0]) if leaf["run"]]
    assert [leaf["kind"] for leaf in leaves] == [
        "tool_call",
        "run_finished",
        "run_head",
        "tool_call",
        "run_finished",
        "run_head",
    ]
    for head in (leaves[2], leaves[5]):
        assert head["data"]["entries"] == head["run_seq"]
        assert head["data"]["last"] == head["prev"]
    await made.sound()


async def test_every_append_has_one_checkpoint_under_its_key(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    log = tenant.origins[0]
    for count in (1, 7, 300):
        await made.append(appender, [made.pending(tenant, make_event("run-1")) for _ in range(count)])
    rows = await made.rows("SELECT tree_size, root_hash, note FROM checkpoints WHERE log = %s ORDER BY 1", log)
    assert [row[0] for row in rows] == [1, 2, 9, 309]
    hashes = [leaf_hash(leaf) for leaf in await made.raw_leaves(log)]
    for tree_size, root_hash, note in rows:
        checkpoint = verify_checkpoint(bytes(note), made.keystore.vkeys(log)).checkpoint
        assert (checkpoint.origin, checkpoint.tree_size) == (log, tree_size)
        assert checkpoint.root_hash == bytes(root_hash) == naive_root(hashes[:tree_size])


async def test_tiles_edge_and_root_beyond_two_levels_of_tiles(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    log = tenant.origins[0]
    for count in (255, 1, 65_300, 500):  # 256, 257, past 65,536
        batch = [made.pending(tenant, make_event(f"run-{n % 200}", output=b"1")) for n in range(count)]
        await made.append(appender, batch)
    hashes = [leaf_hash(leaf) for leaf in await made.raw_leaves(log)]
    assert len(hashes) == 66_057
    ((tree_size, root_hash, edge),) = await made.rows("SELECT tree_size, root_hash, edge FROM logs WHERE log = %s", log)
    assert tree_size == len(hashes)
    assert bytes(root_hash) == naive_root(hashes) == Edge.parse(tree_size, bytes(edge)).root()
    tiles = await made.rows("SELECT level, index, hashes FROM tiles WHERE log = %s ORDER BY level, index", log)
    assert Counter(level for level, _, _ in tiles) == {0: 258, 1: 1}
    for level, index, stored in tiles:
        width = 256**level
        first = index * 256 * width
        wanted = [naive_root(hashes[at : at + width]) for at in range(first, first + 256 * width, width)]
        assert bytes(stored) == b"".join(wanted)


# -- duplicates and conflicts ---------------------------------------------------------------------------------------


async def test_the_same_events_again_append_nothing(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    ids = [str(uuid.uuid4()) for _ in range(20)]

    def batch() -> list[Any]:
        return [made.pending(tenant, make_event("run-1", id=id)) for id in ids]

    await made.append(appender, batch())
    again = await made.append(appender, batch())
    other = await made.append(await made.appender(), batch())
    assert (again.appended, other.appended) == (0, 0)
    mixed = await made.append(appender, [*batch(), made.pending(tenant, make_event("run-1"))])
    assert mixed.appended == 1
    await made.sound()


async def test_repeats_and_conflicts_within_a_batch(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    id = str(uuid.uuid4())
    contents = [b"1", b"1", b"2", b"1", b"3"]
    batch = [made.pending(tenant, make_event("run-1", id=id, output=content)) for content in contents]
    account = await _account(made, len(batch))
    outcome = await made.append(appender, batch, [account])
    (said,) = outcome.accounts
    assert (said.events, said.appended, said.duplicates, said.conflicts, said.rejected) == (5, 1, 2, 2, 0)
    conflicts = await made.leaves(tenant.origins[0], "conflict")
    assert [leaf["source"]["offset"] for leaf in conflicts] == [2, 4]
    for leaf, pending in zip(conflicts, [batch[2], batch[4]], strict=True):
        assert leaf["data"]["of"] == id
        assert leaf["data"]["first"] == batch[0].source
        assert leaf["data"]["second"] == leaf["source"] == pending.source
        assert leaf["run"] == "run-1"
        assert await made.opened(leaf, "/received") == pending.received
    (intake,) = (leaf for leaf in await made.leaves(account.log) if leaf["kind"] == "intake")
    assert intake["data"] | {"duplicates": 2, "conflicts": 2, "appended": 1, "records": 5} == intake["data"]
    await made.sound()


async def test_a_conflict_across_batches_is_kept_once(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    first = made.pending(tenant, make_event("run-1", output=b"1"))
    await made.append(appender, [first])
    loser = made.pending(tenant, make_event("run-2", id=first.event.id, output=b"2"))
    for writer in (appender, await made.appender()):
        await made.append(writer, [loser])  # the second time: the same record read again
    (conflict,) = await made.leaves(tenant.origins[0], "conflict")
    assert conflict["data"]["first"] == first.source
    assert conflict["run"] == "run-2"
    assert await made.opened(conflict, "/received") == loser.received
    await made.sound()


async def test_a_signed_loser_keeps_its_signature_with_its_bytes(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    first = made.pending(tenant, make_event("run-1", output=b"1"))
    loser = made.pending(
        tenant, make_event("run-1", id=first.event.id, output=b"2"), sig={"key": "k1"}, received_sig=b"k1:c2ln"
    )
    await made.append(appender, [first, loser])
    (conflict,) = await made.leaves(tenant.origins[0], "conflict")
    assert conflict["sig"] == {"key": "k1"}
    assert await made.opened(conflict, "/received") == loser.received
    assert await made.opened(conflict, "/received_sig") == b"k1:c2ln"
    await made.sound()


async def test_an_id_whose_fingerprint_was_erased_is_taken_for_the_same(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    first = made.pending(tenant, make_event("run-1", output=b"1"))
    await made.append(appender, [first])
    async with await psycopg.AsyncConnection.connect(made.database.url(), autocommit=True) as admin:
        await admin.execute("SET ROLE tally_eraser")
        await admin.execute("UPDATE content SET fingerprint = NULL WHERE log = %s AND index = 1", (tenant.origins[0],))
    again = made.pending(tenant, make_event("run-1", id=first.event.id, output=b"2"))
    assert (await made.append(appender, [again])).appended == 0


# -- several writers ------------------------------------------------------------------------------------------------


async def test_two_writers_in_turn_on_the_same_runs(made: Bench) -> None:
    tenant = await made.tenant()
    writers = [await made.appender(), await made.appender()]
    for n in range(12):
        batch = [made.pending(tenant, make_event(f"run-{at % 4}")) for at in range(9)]
        await made.append(writers[n % 2], batch)
    assert len(await made.leaves(tenant.origins[0], "tool_call")) == 108
    await made.sound()


async def test_two_writers_at_once_on_the_same_runs(made: Bench) -> None:
    tenants = [await made.tenant("acme"), await made.tenant("globex")]

    async def write(tenants: list[Tenant]) -> None:
        writer = await made.appender()
        for _ in range(10):
            await made.append(writer, [made.pending(tenants[at % 2], make_event(f"run-{at % 5}")) for at in range(20)])

    await asyncio.gather(write(tenants), write(tenants[::-1]))
    for tenant in tenants:
        assert len(await made.leaves(tenant.origins[0], "tool_call")) == 200
    await made.sound()


async def test_a_run_lives_in_one_shard(made: Bench) -> None:
    tenant = await made.tenant(shards=3)
    writer = await made.appender()
    await made.append(writer, [made.pending(tenant, make_event("run-1"), 1)])
    for fresh in (writer, await made.appender()):
        with pytest.raises(RunMoved) as moved:
            await made.append(fresh, [made.pending(tenant, make_event("run-1"), 2)])
        assert (moved.value.run, moved.value.log) == ("run-1", tenant.origins[1])


@pytest.mark.parametrize("home", [0, 1, 2, None])
async def test_a_batch_that_asks_for_a_run_in_several_shards_is_sent_home(made: Bench, home: int | None) -> None:
    tenant = await made.tenant(shards=3)
    if home is not None:
        await made.append(await made.appender(), [made.pending(tenant, make_event("run-1"), home)])
    batch = [made.pending(tenant, make_event("run-1"), shard) for shard in range(3)]
    with pytest.raises(RunMoved) as moved:
        await made.append(await made.appender(), batch)
    if home is not None:
        assert moved.value.log == tenant.origins[home]
    assert len(await made.rows("SELECT FROM entries WHERE run = 'run-1'")) == (0 if home is None else 1)


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "first"), [(0, 0), (2, 0), (1, 5)])
async def test_another_epoch_or_offset_is_fenced_out(made: Bench, epoch: int, first: int) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    account = await _account(made, 1, epoch=epoch, first=first)
    with pytest.raises(FencedOut, match="another consumer has this partition"):
        await made.append(appender, [made.pending(tenant, make_event("run-1"))], [account])
    assert await made.leaves(tenant.origins[0], "tool_call") == []
    assert await made.rows("SELECT next_offset FROM positions") == [(0,)]


async def test_a_batch_for_a_log_that_is_not_there(made: Bench) -> None:
    tenant = Tenant("nobody", "nobody", ("ledger.example.org/nobody",))
    with pytest.raises(LogMissing, match=r"ledger\.example\.org/nobody"):
        await made.append(await made.appender(), [made.pending(tenant, make_event(None))])


@pytest.mark.parametrize("published", [(900, bytes(32)), (2, bytes(32)), (1, bytes(32))])
async def test_what_was_published_must_be_extended(made: Bench, published: tuple[int, bytes]) -> None:
    tenant = await made.tenant()
    await made.append(await made.appender(), [made.pending(tenant, make_event("run-1"))])
    made.keystore.publish(tenant.origins[0], *published)
    with pytest.raises(LogRolledBack):
        await made.append(await made.appender(), [made.pending(tenant, make_event("run-1"))])
    assert len(await made.leaves(tenant.origins[0])) == 2


async def test_a_database_behind_what_this_writer_committed(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    await made.append(appender, [made.pending(tenant, make_event("run-1"))])
    async with await psycopg.AsyncConnection.connect(made.database.url(), autocommit=True) as admin:
        await admin.execute("UPDATE logs SET tree_size = 1 WHERE log = %s", (tenant.origins[0],))
    with pytest.raises(LogRolledBack, match="restored from an older copy"):
        await made.append(appender, [made.pending(tenant, make_event("run-1"))])


async def test_a_head_whose_edge_is_not_its_roots(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    await made.append(appender, [made.pending(tenant, make_event("run-1"))])
    async with await psycopg.AsyncConnection.connect(made.database.url(), autocommit=True) as admin:
        await admin.execute("UPDATE logs SET root_hash = sha256('x') WHERE log = %s", (tenant.origins[0],))
    with pytest.raises(LogRolledBack, match="don't give its root hash"):
        await made.append(await made.appender(), [made.pending(tenant, make_event("run-1"))])


async def test_after_a_refusal_the_same_writer_goes_on(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    account = await _account(made, 1, epoch=9)
    with pytest.raises(FencedOut):
        await made.append(appender, [made.pending(tenant, make_event("run-1"))], [account])
    await made.append(appender, [made.pending(tenant, make_event("run-1"))])
    await made.sound()


# -- time, erasure, size --------------------------------------------------------------------------------------------


async def test_recorded_stands_still_while_the_clock_steps_back(made: Bench) -> None:
    tenant = await made.tenant()
    now = 1_800_000_000_000_000
    times = [now, now - 3_600_000_000, now + 5, now - 20_000_000, now + 60_000_000]
    clock = iter(times)
    writer = await made.appender(lambda: next(clock))
    other = await made.appender(lambda: now - 7_200_000_000)
    for n in range(len(times)):
        batch = [made.pending(tenant, make_event("old")), made.pending(tenant, make_event(f"new-{n}"))]
        await made.append(writer, batch)
        await made.append(other, [made.pending(tenant, make_event(f"other-{n}"))])
    rows = await made.rows(
        "SELECT run, extract(epoch FROM recorded) * 1000000 FROM entries WHERE log = %s AND index > 0 ORDER BY index",
        tenant.origins[0],
    )
    newest = 0
    last: dict[str, int] = {}
    for run, recorded in rows:
        assert recorded >= newest - RECORDED_BACK_US_MAX
        assert recorded >= last.get(run, 0)
        newest, last[run] = max(newest, recorded), recorded
    assert newest == times[-1]
    await made.sound()


async def test_an_erasure_between_sealing_and_appending_seals_again(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    await made.append(appender, [made.pending(tenant, make_event("run-1"))])
    ((first,),) = [[leaf["commit"]["/output"]["k"][0]] for leaf in await made.leaves(tenant.origins[0], "tool_call")]
    pending = made.pending(tenant, make_event("run-1", output=b'"later"'))
    appender.prepare([pending])
    item = appender.seal(pending)
    await made.conn.execute("UPDATE logs SET erasure_epoch = erasure_epoch + 1 WHERE log = %s", (tenant.origins[0],))
    made.keystore.destroy([first])
    await appender.append([item])
    leaf = (await made.leaves(tenant.origins[0], "tool_call"))[-1]
    assert leaf["commit"]["/output"]["k"] != [first]
    assert await made.opened(leaf, "/output") == b'"later"'
    with pytest.raises((KeyError, SealedFieldError)):
        await made.opened((await made.leaves(tenant.origins[0], "tool_call"))[0], "/output")
    next_one = made.pending(tenant, make_event("run-1"))
    await made.append(appender, [next_one])
    assert (await made.leaves(tenant.origins[0], "tool_call"))[-1]["commit"]["/output"]["k"] == leaf["commit"][
        "/output"
    ]["k"]


async def test_the_largest_arrays_move_to_content_until_the_leaf_fits(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    documents = [{"id": f"document-{n}"} for n in range(3000)]
    small = [{"what": "rule", "id": "r-1"}]
    event = make_event("run-1", kind="retrieval", store="s", documents=documents, refs=small)
    pending = made.pending(tenant, event)
    await made.append(appender, [pending])
    (leaf,) = await made.leaves(tenant.origins[0], "retrieval")
    assert leaf["data"]["overflow"] == {"documents": 3000}
    assert leaf["data"]["refs"] == small
    assert "documents" not in leaf["data"]
    moved = await made.opened(leaf, "/overflow/documents")
    assert moved.startswith(b'[{"id":"document-0"}')
    assert max(len(raw) for raw in await made.raw_leaves(tenant.origins[0])) <= 65_535
    await made.sound()


async def test_two_large_arrays_both_move(made: Bench) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    many = [{"id": "x" * 100, "what": "w"} for _ in range(700)]
    event = make_event("run-1", kind="retrieval", store="s", documents=[{"id": "x" * 100}] * 700, refs=many)
    await made.append(appender, [made.pending(tenant, event)])
    (leaf,) = await made.leaves(tenant.origins[0], "retrieval")
    assert leaf["data"]["overflow"] == {"documents": 700, "refs": 700}
    await made.sound()


@pytest.mark.parametrize("bytes_over", [-1, 0, 1, 300])
async def test_no_leaf_is_longer_than_a_bundle_can_hold(made: Bench, bytes_over: int) -> None:
    tenant, appender = await made.tenant(), await made.appender()
    pending = made.pending(tenant, make_event("run-1", destination=""))
    appender.prepare([pending])
    room = 65_535 - len(appender.seal(pending).draft.leaf(b"0" * 64, 2**53, b"2026-11-21T10:00:00.000000Z"))
    pending.event.data["destination"] = "x" * (room + bytes_over)
    try:
        await made.append(appender, [pending])
    except LeafTooLarge:
        assert bytes_over > -256
        return
    assert max(len(raw) for raw in await made.raw_leaves(tenant.origins[0])) <= 65_535
    await made.sound()


# -- a law ----------------------------------------------------------------------------------------------------------

# A step: which writer appends a batch of (run, which of a few ids, which of two contents).
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 1)), max_size=8),
        st.sampled_from(["tool_call", "run_finished"]),
    ),
    max_size=8,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_interleaving_of_two_writers_verifies(
    postgres_server: servers.PostgresServer, steps: list[tuple[int, list[tuple[int, int, int]], str]]
) -> None:
    servers.run(_interleave(postgres_server, steps))


async def _interleave(server: servers.PostgresServer, steps: list[tuple[int, list[tuple[int, int, int]], str]]) -> None:
    database = await servers.clone(server)
    with tempfile.TemporaryDirectory() as folder:
        async with bench(database, Path(folder)) as made:
            tenant = await made.tenant()
            writers = [await made.appender(), await made.appender()]
            ids = [str(uuid.UUID(int=n, version=4)) for n in range(10)]
            seen: dict[str, tuple[int, int, str]] = {}
            lost = 0
            for writer, batch, kind in steps:
                pendings = []
                for run, at, content in batch:
                    said = (run, content, kind)
                    lost += seen.setdefault(ids[at], said) != said
                    made_event = make_event(f"run-{run}", id=ids[at], kind=kind, output=b"%d" % content)
                    pendings.append(made.pending(tenant, made_event))
                if pendings:
                    await made.append(writers[writer], pendings)
            leaves = await made.leaves(tenant.origins[0])
            kinds = Counter(leaf["kind"] for leaf in leaves)
            assert {leaf["id"] for leaf in leaves if leaf["kind"] in ("tool_call", "run_finished")} == set(seen)
            assert kinds["tool_call"] + kinds["run_finished"] == len(seen)
            assert kinds["conflict"] == lost
            assert kinds["run_head"] == kinds["run_finished"]
            await made.sound()
    await database.drop()
