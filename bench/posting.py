"""A child: posts prepared requests to one port over several connections, for a while, and says how many were taken."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from bench.common import now
from bench.spans import request

BODIES = 24


async def post(arguments: dict[str, Any]) -> dict[str, Any]:
    """Post for so many seconds; return statuses, seconds, and the longest time an answer took."""
    bodies = [request(arguments.get("first", 0) + n) for n in range(BODIES)]
    statuses: Counter[int] = Counter()
    slowest = 0.0
    start = now()
    until = start + arguments["seconds"]

    async def connection(number: int) -> None:
        nonlocal slowest
        reader, writer = await asyncio.open_connection("127.0.0.1", arguments["port"])
        turn = number
        while now() < until:
            body = bodies[turn % BODIES]
            turn += arguments["connections"]
            began = now()
            writer.write(
                b"POST /v1/traces HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-protobuf\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            statuses[int(head.split(b" ")[1])] += 1
            slowest = max(slowest, now() - began)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection(number) for number in range(arguments["connections"])))
    return {"statuses": dict(statuses), "seconds": now() - start, "slowest_s": slowest}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(post(json.loads(sys.argv[1])))))
