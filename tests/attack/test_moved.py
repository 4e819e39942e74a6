"""Thousands of runs that live in another shard than their partition's: one refusal says so of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest.authority import Authority
from ingest.consumer import Consumer, ConsumerConfig
from ingest.decode import Decoder
from ledger.errors import RunMoved
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
