"""Waiting for a server that went away: growing pauses, each told in the log."""

from __future__ import annotations

import asyncio

import structlog

RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger("tallystick.ingest")


class Pauses:
    """The pauses between the tries of one thing; the last one is repeated."""

    def __init__(self) -> None:
        self._tries = 0

    async def after(self, what: str, error: Exception) -> None:
        """Say what failed and sleep until the next try."""
        pause = pause_s(self._tries)
        self._tries += 1
        log.warning(f"{what}; trying again", error=str(error).split("\n")[0], pause_s=pause)
        await asyncio.sleep(pause)


def pause_s(failures: int) -> float:
    """Seconds to wait after so many earlier failures."""
    return RETRY_S[min(failures, len(RETRY_S) - 1)]
