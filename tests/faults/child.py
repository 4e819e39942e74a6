"""A consumer in a process of its own, which can be made to die or freeze by its own hand at a step of its choosing.

`python -m tests.faults.child '{"postgres": …, "kafka": …, "keys": …, "prefix": …, "topic": …, "idle_s": …,
"die_after": "STEP", "nth": N}'`, or `"freeze_after"`. Prints its progress as JSON. The steps are functions of the
production code, wrapped here; the code itself knows nothing of it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ledger.publish
from ingest.consumer import Consumer, ConsumerConfig
from ledger.append import Appender, wall_clock_us
from ledger.keystore import SqliteKeyStore
from ledger.seal import Sealer

# In the order of the append transaction; each names the function after whose nth return the process dies.
STEPS: dict[str, tuple[Any, str]] = {
    "keys_created": (Sealer, "prepare"),
    "positions_held": (Appender, "_hold_positions"),
    "runs_inserted": (Appender, "_insert_runs"),
    "heads_locked": (Appender, "_lock_heads"),
    "known_left_out": (Appender, "_without_known"),
    "tails_found": (Appender, "_find_tails"),
    "placed": (Appender, "_place"),
    "rows_copied": (Appender, "_copy"),
    "written": (Appender, "_write"),
    "committed": (Appender, "append"),
    "counted": (Consumer, "_commit"),
    "published_recorded": (SqliteKeyStore, "publish_many"),
    "heads_appended": (ledger.publish, "_append_notes"),
    "heads_committed": (SqliteKeyStore, "publish"),
}


def signal_after(owner: Any, name: str, nth: int, signal_number: int) -> None:
    """Wrap a function: a signal to this process as soon as it has returned for the nth time."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal_number)

    if inspect.iscoroutinefunction(original):

        async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            count()
            return result

        setattr(owner, name, wrapped_async)
    else:

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            count()
            return result

        setattr(owner, name, wrapped)


async def main(arguments: dict[str, Any]) -> dict[str, Any]:
    config = ConsumerConfig(
        arguments["postgres"],
        arguments["kafka"],
        arguments["prefix"],
        group=arguments["group"],
        topics=f"^{re.escape(arguments['topic'])}$",
        batch_items_max=arguments.get("batch", 100),
        transaction_s_max=arguments.get("transaction_s_max", 30),
        unauthenticated=True,
    )
    with SqliteKeyStore(arguments["keys"], create=False) as keystore:
        offset_us = arguments.get("clock_offset_s", 0) * 1_000_000
        consumer = Consumer(config, keystore, clock_us=lambda: wall_clock_us() + offset_us)
        progress = await consumer.run(until_idle_s=arguments["idle_s"])
    return asdict(progress)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    for order, number in (("die_after", signal.SIGKILL), ("freeze_after", signal.SIGSTOP)):
        if order in given:
            signal_after(*STEPS[given[order]], given.get("nth", 1), number)
    sys.stdout.write(json.dumps(asyncio.run(main(given))) + "\n")
