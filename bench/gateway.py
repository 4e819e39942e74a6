"""A child: the gateway alone in a process of its own, or the same server without what comes after parsing, or cutting.

It says its port as soon as it listens, and, told to end by a line on standard input, what it used.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bench.common import cpu_seconds, peak_memory_mb
from ingest.otlp import gateway, receiver
from ingest.otlp.address import Address
from ingest.otlp.answers import Answer
from ingest.otlp.split import split
from ingest.otlp.wire import Encoding, Signal, parse


class Discarding(receiver.Receiver):
    """Parses what it gets, and that is all."""

    async def take(self, signal: Signal, body: bytearray, encoding: Encoding, tenant: str | None) -> Answer:
        parse(signal, body, encoding)
        return Answer(signal)


class Cutting(receiver.Receiver):
    """Does all that the gateway does but for sending it."""

    async def take(self, signal: Signal, body: bytearray, encoding: Encoding, tenant: str | None) -> Answer:
        for _ in split(signal, body).parts():
            pass
        return Answer(signal)


RECEIVERS = {"parse": Discarding, "cut": Cutting, "send": receiver.Receiver}


async def serve(arguments: dict[str, Any]) -> None:
    """Serve until a line comes."""
    gateway.Receiver = RECEIVERS[arguments["until"]]  # type: ignore[misc]
    anywhere = Address("127.0.0.1", 0)
    async with gateway.serving(gateway.GatewayConfig(anywhere, anywhere, arguments["kafka"])) as served:
        if not await served.forward.started(30):
            raise SystemExit("Kafka does not answer")
        print(json.dumps({"port": served.http.port}), flush=True)
        used = cpu_seconds()
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps({"cpu_seconds": cpu_seconds() - used, "peak_memory_mb": peak_memory_mb()}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
