"""What has been decoded and sealed and waits for its transaction, by topic partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.positions import Position
from ledger.append import Account, Item

Partition = tuple[str, int]


@dataclass(slots=True)
class Held:
    """A topic partition that this consumer holds. `committed`, `queued`: next offsets, stored and read so far."""

    position: Position
    committed: int
    queued: int


@dataclass(slots=True)
class Batch:
    """Items in the order they were read, and an account for each partition they came from."""

    items: list[Item] = field(default_factory=list)
    accounts: dict[Partition, Account] = field(default_factory=dict)
    bytes: int = 0
    opened_at: float = 0.0

    def add(self, held: Held, items: Sequence[Item], offset: int, size: int) -> None:
        """Take one record's items; its offset is the next that its partition has, or a later one."""
        position = held.position
        key = (position.topic, position.partition)
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = Account(
                log=position.log,
                cluster=position.cluster,
                topic=position.topic,
                topic_id=position.topic_id,
                partition=position.partition,
                epoch=position.epoch,
                expected=held.queued,
                first=held.queued,
                last=offset,
                records=0,
                number=len(self.accounts),
            )
        account.last = offset
        account.records += 1
        for item in items:
            item.pending.account = account.number
        held.queued = offset + 1
        self.items += items
        self.bytes += size
