"""FastStream's part: a subscriber that hands over raw records in batches, and acknowledges nothing by itself.

FastStream's defaults don't suit a ledger: it would acknowledge before the handler ran, decode headers as UTF-8 (and
lose the records where they aren't), and parse each record's JSON. So the parser and decoder here read nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage

from ingest.records import install as read_any_header_name
from ingest.security import broker_options

POLL_MS = 20  # FastStream sleeps this long again when a poll was empty
METADATA_MAX_AGE_MS = 3_000  # how soon a new tenant's topic is found
SESSION_TIMEOUT_MS = 10_000


class Member(Protocol):
    """A member of the consumer group, told of rebalances."""

    async def revoked(self) -> None: ...

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None: ...

    def end(self, error: BaseException) -> None: ...


def make_subscriber(
    bootstrap: str,
    topics: str,
    group: str,
    records_max: int,
    kafka: dict[str, Any],
    member: Member,
    handle: Callable[[Sequence[ConsumerRecord]], Awaitable[None]],
) -> tuple[KafkaBroker, Any]:
    """(broker to start, its subscriber). `topics`: a pattern; `kafka`: further arguments for aiokafka's clients."""
    read_any_header_name()
    broker = KafkaBroker(
        bootstrap,
        apply_types=False,
        consumer_only=True,
        logger=None,
        log_level=30,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        **broker_options(kafka),
    )
    subscriber = broker.subscriber(
        pattern=topics,
        group_id=group,
        batch=True,
        batch_timeout_ms=POLL_MS,
        max_records=records_max,
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        listener=_Listener(member),
        parser=_whole,
        decoder=_records,
    )
    subscriber(handle)
    return broker, subscriber


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, member: Member) -> None:
        self._member = member

    # aiokafka logs what a listener raises and goes on, so nothing may leave these two.

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        try:
            await self._member.revoked()
        except Exception as error:
            self._member.end(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            await self._member.assigned(assigned)
        except Exception as error:
            self._member.end(error)


async def _whole(records: tuple[ConsumerRecord, ...]) -> KafkaMessage:
    return KafkaMessage(body=b"", raw_message=records, consumer=FAKE_CONSUMER)


async def _records(message: KafkaMessage) -> tuple[ConsumerRecord, ...]:
    records: tuple[ConsumerRecord, ...] = message.raw_message
    return records
