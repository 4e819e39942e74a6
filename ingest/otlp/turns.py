"""Whose message is read next: so many at once, so many of one sender, none for long while others wait.

Guarantees: a sender that opens calls and says nothing in them takes no more than its own places, and where others wait
it gives them up after SILENT_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.otlp.answers import Failure

AT_ONCE_MAX: Final = 8
EACH_MAX: Final = 4
CALLS_EACH_MAX: Final = 64  # of one sender, waiting or reading
SILENT_S: Final = 1.0
WAIT_S: Final = 10.0  # for its turn and its message
RETRY_S: Final = 2


@dataclass(slots=True)
class _Sender:
    calls: int = 0
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(EACH_MAX))


class Turns:
    """The places of one server."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE_MAX)
        self._senders: dict[str, _Sender] = {}

    async def take(self, sender: str, read: Callable[[], Awaitable[Any]]) -> Any:
        """What is read, when it is the sender's turn. Raises Failure where that takes too long, or too many wait."""
        own = self._senders.setdefault(sender, _Sender())
        if own.calls >= CALLS_EACH_MAX:
            raise Failure("unavailable", f"more than {CALLS_EACH_MAX} calls of one sender are open", RETRY_S)
        own.calls += 1
        try:
            async with asyncio.timeout(WAIT_S), own.places, self._places:
                return await self._read(own, read)
        except TimeoutError as error:
            raise Failure("unavailable", f"the message was not there after {WAIT_S:.0f} s", RETRY_S) from error
        finally:
            own.calls -= 1
            if not own.calls:
                del self._senders[sender]

    async def _read(self, own: _Sender, read: Callable[[], Awaitable[Any]]) -> Any:
        reading = asyncio.ensure_future(read())
        try:
            while not (await asyncio.wait([reading], timeout=SILENT_S))[0]:
                if own.calls > EACH_MAX or self._places.locked():
                    raise Failure("unavailable", "the message is not there, and others wait", RETRY_S)
            return reading.result()
        finally:
            reading.cancel()
