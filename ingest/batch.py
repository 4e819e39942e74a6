"""What has been decoded and sealed and waits for its transaction, by topic partition."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.positions import Position
from ingest.reading import Stretch
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

    def add(self, held: Held, stretch: Stretch) -> None:
        """Take records of a partition: the next that it has, or later ones."""
        position, last = held.position, stretch.last
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
                last=last,
                records=0,
                number=len(self.accounts),
            )
        account.last = last
        account.records += stretch.records
        held.queued = last + 1
        for item in stretch.items:
            item.account = account.number
        self.items += stretch.items
        self.bytes += stretch.held_bytes
