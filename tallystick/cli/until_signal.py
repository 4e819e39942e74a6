"""Runs what runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def until_signal(main: Coroutine[Any, Any, Any]) -> bool:
    """Run to the end, or until SIGINT or SIGTERM cancel it; whether one did. Only the first one counts: ending takes
    its time, and whoever can't wait has SIGKILL, which leaves nothing running either."""

    async def guarded() -> bool:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main)
        asked = False

        def ask() -> None:
            nonlocal asked
            if not asked:
                asked = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ask)
        try:
            await task
        except asyncio.CancelledError:
            if not asked:
                raise
        return asked

    return asyncio.run(guarded())
