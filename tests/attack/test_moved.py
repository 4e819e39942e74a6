"""Thousands of runs that live in another shard than their partition's: one refusal says so of all of them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest.authority import Authority
from ingest.consumer import Consumer, ConsumerConfig
from ingest.decode import Decoder
from ledger.append import TURN_EVERY, Item, _by_log, _Head
from ledger.errors import RunMoved
from ledger.merkle import Edge
from ledger.seal import LEAF_BYTES_MAX, Sealer, _leaf_bytes
from tests.ledger.appending import Bench, bench, make_event
from tests.support.servers import Database


@pytest.fixture
async def made(database: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(database, tmp_path) as made:
        yield made


async def test_runs_that_moved_are_named_at_once(made: Bench) -> None:
    tenant = await made.tenant(shards=2)
    names = [f"run-{n}" for n in range(500)]
    await made.append(await made.appender(), [made.pending(tenant, make_event(name)) for name in names])
    fresh = await made.appender()
    late = [made.pending(tenant, make_event(name), shard=1) for name in names]
    with pytest.raises(RunMoved) as moved:
        await made.append(fresh, late)
    assert moved.value.homes == {("acme", name): tenant.origins[0] for name in names}
    for pending in late:
        pending.log = moved.value.homes[pending.tenant, str(pending.event.run)]
    await made.append(fresh, late)
    await made.sound()


async def test_the_loop_has_its_turns_while_a_batch_is_sealed_again(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved runs, an erasure, and conflicts: thousands of entries at once, while heartbeats are due."""
    tenant, appender = await made.tenant(shards=2), await made.appender()
    consumer = Consumer(ConsumerConfig("", "", "ledger.example.org"), made.keystore)
    consumer._appender = appender
    count, turns = 1_000, 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def sealed(pendings: list[Any]) -> list[Item]:
        appender.prepare(pendings)
        return [appender.seal(pending) for pending in pendings]

    ids = [str(uuid.uuid4()) for _ in range(count)]
    runs = ["moved" if n % 2 else "here" for n in range(count)]
    items = sealed([made.pending(tenant, make_event(run, id=id)) for run, id in zip(runs, ids, strict=True)])
    others = asyncio.create_task(turn())
    try:
        await consumer._reroute(items, RunMoved({("acme", "moved"): tenant.origins[1]}))
        assert turns >= count // 2 // TURN_EVERY - 1
        appender._epochs = dict.fromkeys(tenant.origins, 5)  # as if each had been erased from
        before = turns
        await appender._seal_again_where_erased(_by_log(items), {tenant.origins[0]: _Head(Edge.empty(), 0, 6)})
        assert turns - before >= 2 * (count // TURN_EVERY - 1)
        await appender.append(items)
        again = sealed([made.pending(tenant, make_event("here", id=id, output=b"2")) for id in ids])
        held = iter([await appender._known_ids(again), {}])  # read before: waiting for Postgres gives turns as well

        async def known_ids(_: object) -> Any:
            return next(held)

        monkeypatch.setattr(appender, "_known_ids", known_ids)
        before = turns
        kept = await appender._without_repeated(again, [], careful=True)
        assert [item.draft.kind for item in kept] == ["conflict"] * count
        assert turns - before >= count // TURN_EVERY - 1
    finally:
        others.cancel()


async def test_an_event_that_fits_only_the_log_it_was_sealed_for_is_rejected(made: Bench) -> None:
    """The name of shard 1 is two bytes longer: sealing again for it raised in the middle of a commit, for ever."""
    tenant = await made.tenant(shards=2)
    consumer = Consumer(ConsumerConfig("", "", "ledger.example.org"), made.keystore)
    consumer._appender = await made.appender()

    def pending(length: int) -> Any:
        event = make_event("run-1")
        event.data["destination"] = "d" * length
        return made.pending(tenant, event)

    sealer = Sealer(made.keystore)
    sealer.prepare([pending(1)])
    room = LEAF_BYTES_MAX - _leaf_bytes(sealer.seal(pending(1))) + 1 - 8  # offsets of more digits
    large = pending(room + 8)
    consumer._appender.prepare([large])
    item = consumer._appender.seal(large)
    item.account = 3

    consumer._reader.decoder = Decoder(Authority({"acme": tenant}), {})
    rerouted = await consumer._reroute([item], RunMoved({("acme", "run-1"): tenant.origins[1]}))
    assert [(one.draft.kind, one.draft.log, one.account) for one in rerouted] == [("rejected", tenant.origins[0], 3)]
