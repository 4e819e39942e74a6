"""A gateway in the test's own process, and what came of it in Kafka."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.otlp.address import Address
from ingest.otlp.forward import TOPICS
from ingest.otlp.gateway import GatewayConfig, Serving, serving
from tallystick.servers import TOPICS as PARTITIONS
from tallystick.servers import ensure_topics

ANYWHERE = Address("127.0.0.1", 0)
PROTO = "application/x-protobuf"
JSON = "application/json"
ANSWER_S = 30


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Sender:
    """Posts to one gateway over HTTP."""

    address: Address

    async def post(
        self, path: str, body: Any, content_type: str = PROTO, method: str = "POST", **headers: str
    ) -> Reply:
        """One request; names of headers with an underscore for a hyphen."""
        said = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await asyncio.to_thread(self._post, path, body, said, method)

    def _post(self, path: str, body: Any, headers: Mapping[str, str], method: str) -> Reply:
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=ANSWER_S)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@dataclass(slots=True)
class Topics:
    """What came into the gateway's topics since this was made."""

    bootstrap: str
    _ends: dict[TopicPartition, int] = field(default_factory=dict)

    async def mark(self) -> None:
        """From here on."""
        await ensure_topics(self.bootstrap)
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer:
            self._ends = await self._offsets(consumer)

    async def records(self) -> list[ConsumerRecord]:
        """All that came."""
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer:
            ends = await self._offsets(consumer)
            consumer.assign(list(ends))
            for partition in ends:
                consumer.seek(partition, self._ends[partition])
            found: list[ConsumerRecord] = []
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                batch = await consumer.getmany(timeout_ms=500)
                found += [record for records in batch.values() for record in records]
            return found

    async def _offsets(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        partitions = [TopicPartition(topic, n) for topic in TOPICS.values() for n in range(PARTITIONS[topic])]
        found: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return found


@asynccontextmanager
async def gateway(bootstrap: str, **more: Any) -> AsyncIterator[tuple[Serving, Sender]]:
    """A gateway that reached Kafka, on ports of its own."""
    config = replace(GatewayConfig(ANYWHERE, ANYWHERE, bootstrap), **more)
    async with serving(config) as served:
        assert await served.forward.started(30)
        yield served, Sender(served.http)


def one_span(trace: int, number: int = 1, size: int = 0) -> bytes:
    """A request of one span."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="one")
    span.trace_id, span.span_id = trace.to_bytes(16, "big"), number.to_bytes(8, "big")
    if size:
        span.attributes.add(key="text").value.string_value = "x" * size
    return request.SerializeToString()
