"""What the broker says of itself: cluster id and topic ids.

aiokafka asks for metadata in versions without topic ids, so this asks in version 12 by itself. A broker older than that
gives null topic ids, never an error.
Source: the Kafka protocol guide, Metadata API.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from ingest.errors import ClusterUnreachable

_NO_UUID = UUID(int=0)
_TEXT = CompactString("utf-8")


class _Uuid(AbstractType[UUID]):
    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes


class _MetadataResponse12(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest12(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIds(Request[_MetadataRequest12]):
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest12]) -> _MetadataRequest12:
        return request_struct_class([(_NO_UUID, topic, {}) for topic in self._topics], False, False, {})


async def describe(client: AIOKafkaClient, topics: list[str]) -> tuple[str, dict[str, str | None]]:
    """The cluster's id and each topic's id as a UUID (null where the broker can't say).

    Raises ClusterUnreachable.
    """
    try:
        node = client.get_random_node()
        if node is None or not await client.ready(node):
            raise ClusterUnreachable("no Kafka broker answers")
        try:
            response: Any = await client.send(node, _TopicIds(topics))
            ids = {t[1]: None if t[2] == _NO_UUID else str(t[2]) for t in response.topics}
        except NotImplementedError:  # the broker doesn't know version 12
            response = await client.send(node, MetadataRequest([]))
            ids = {}
    except KafkaError as error:
        raise ClusterUnreachable(f"Kafka can't be asked for its metadata: {error!r}") from error
    return response.cluster_id, {topic: ids.get(topic) for topic in topics}
