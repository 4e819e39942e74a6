"""Embedded Postgres and Kafka: real ones, in a home folder, ended with the process that started them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tallystick.errors import ServerError
from tallystick.servers.kafka import EmbeddedKafka
from tallystick.servers.postgres import EmbeddedPostgres
from tallystick.servers.progress import Report, progress_bar, silent
from tallystick.servers.topics import TOPICS, ensure_topics

__all__ = ["TOPICS", "EmbeddedKafka", "EmbeddedPostgres", "Stack", "ensure_topics", "progress_bar", "stack"]


@dataclass(frozen=True, slots=True)
class Stack:
    """Both servers, running."""

    pg: EmbeddedPostgres
    kafka: EmbeddedKafka

    async def ended(self) -> ServerError:
        """Return, once one of the two has ended by itself, the error that says why."""
        watches = [asyncio.create_task(self.pg.ended()), asyncio.create_task(self.kafka.ended())]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)


@asynccontextmanager
async def stack(home: Path, progress: Report = silent) -> AsyncIterator[Stack]:
    """Both servers of a home, started at the same time; both are ended at the end, or when one does not start.

    Raises ServerError, the first one's when both fail.
    """
    pg, kafka = EmbeddedPostgres(home, progress), EmbeddedKafka(home, progress)
    async with AsyncExitStack() as ending:
        starts = [asyncio.create_task(ending.enter_async_context(server)) for server in (pg, kafka)]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            # The other one must get to its own clean-up before we go.
            for start in starts:
                if not start.cancelling():  # a second time would cut its clean-up short
                    start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise
        try:
            yield Stack(pg, kafka)
        finally:
            await asyncio.gather(pg.stop(), kafka.stop())
