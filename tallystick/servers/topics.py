"""The topics Tallystick reads and writes, made if they are missing. Works on any Kafka, embedded or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from tallystick.errors import TallyError

# Partitions of a first start. Keys are run ids, so this is how many consumers can share the work.
TOPICS: Mapping[str, int] = {
    "tally.events": 6,
    "tally.otlp.spans": 3,
    "tally.otlp.logs": 3,
    "tally.gateway.spans": 3,
    "tally.gateway.logs": 3,
    "tally.control": 1,
    "tally.findings": 1,
}
MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # a model call with its content; what is larger belongs into a document store
READY_S = 30.0


async def ensure_topics(
    bootstrap: str,
    topics: Mapping[str, int] = TOPICS,
    *,
    replication: int = 1,
    config: Mapping[str, str] | None = None,
    client: Mapping[str, Any] | None = None,
) -> list[str]:
    """Make the topics that are missing, wait until each partition has a leader, and return the names of the made ones.

    `config`: topic settings besides `max.message.bytes`; `client`: security settings for aiokafka. A topic that exists
    is left as it is. Raises TallyError when Kafka can't be reached or refuses.
    """
    settings = {"max.message.bytes": str(MESSAGE_BYTES_MAX), **(config or {})}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **(client or {}))
    try:
        await admin.start()
        missing = sorted(set(topics) - set(await admin.list_topics()))
        if missing:
            new = [NewTopic(name, topics[name], replication, topic_configs=settings) for name in missing]
            answer = await admin.create_topics(new, timeout_ms=int(READY_S * 1000))
            for name, code, *detail in answer.topic_errors:
                if for_code(code) not in (NoError, TopicAlreadyExistsError):
                    raise TallyError(
                        f"Kafka at {bootstrap} did not make the topic {name}: {for_code(code).__name__} {detail}",
                        "Make it by hand, or give this client the right to.",
                    )
        if missing:
            await _wait_for_leaders(admin, topics)
            await _wait_for_logs(bootstrap, {name: topics[name] for name in missing}, client or {})
    except (KafkaError, OSError) as error:
        raise TallyError(
            f"Kafka at {bootstrap} can't be used: {error}", "Check that it runs and TALLY_KAFKA_BOOTSTRAP is right."
        ) from error
    finally:
        await admin.close()
    return missing


async def _wait_for_leaders(admin: AIOKafkaAdminClient, topics: Mapping[str, int]) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        described = await admin.describe_topics(list(topics))
        waiting = [
            topic["topic"]
            for topic in described
            if topic["error_code"] or any(part["error_code"] or part["leader"] < 0 for part in topic["partitions"])
        ]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise TallyError(
                f"Kafka has no leader for {', '.join(waiting)} after {READY_S:.0f} s", "Check the state of its brokers."
            )
        await asyncio.sleep(0.05)


async def _wait_for_logs(bootstrap: str, topics: Mapping[str, int], client: Mapping[str, Any]) -> None:
    """A leader that is named may not have heard of it yet; asking it for offsets waits until it has."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, **client) as consumer:
        partitions = [TopicPartition(name, index) for name, count in topics.items() for index in range(count)]
        await consumer.beginning_offsets(partitions)


async def answers(bootstrap: str, client: Mapping[str, Any] | None = None) -> bool:
    """Whether a Kafka answers there, with at least one broker that takes part."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=2000, **(client or {}))
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
