"""The processes that verify ranges side by side.

This process is one of them; the others are its helpers, which take a second to start. Each opens its own two
connections in the verification's snapshot, its own key store and its own spool files, and keeps them until the pool is
closed.

Guarantees: results come in the order of the jobs, and not more than a few are held. A worker that fails ends the
verification with its exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import sys
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from psycopg import sql

from ledger.db import Connection, connect
from ledger.errors import LedgerError
from ledger.keystore import KeyStore
from ledger.verify.spool import Spool
from ledger.verify.work import Job, RangeResult, Session, check_range

AHEAD = 4  # jobs per process that are in work or done before their turn: what is held in memory
QUEUED = 2  # jobs per helper: one in work, one waiting
ROLE = "tally_auditor"
# A range is read along its table's key, and begins to arrive at once. The planner would have it sorted, on disk and by
# parallel workers of its own: that costs the cores four times what the reading does.
_READING = "SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0"

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to begin. `open_keystore` must be picklable."""

    url: str
    snapshot: str
    open_keystore: Callable[[], KeyStore]
    folder: Path
    partitions: int


async def open_session(setup: Setup) -> Session:
    """Two connections in the snapshot, the key store, and a spool of this process."""
    conns: list[Connection] = []
    for _ in range(2):
        conn = await connect(setup.url, ROLE, application="tallystick verify")
        conns.append(conn)
        await conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(setup.snapshot)))
        await conn.execute(_READING)
    return Session((conns[0], conns[1]), setup.open_keystore(), Spool(setup.folder, str(os.getpid()), setup.partitions))


async def close_session(session: Session) -> None:
    """Let go of a session; its spool is complete then."""
    session.spool.flush()
    await session.entries.close()
    await session.content.close()


class Pool:
    """Workers for one verification; an async context manager."""

    def __init__(self, setup: Setup, workers: int) -> None:
        self._setup = setup
        self._helpers = workers - 1
        self._executor: ProcessPoolExecutor | None = None
        self._session: Session | None = None

    async def __aenter__(self) -> Pool:
        self._session = await open_session(self._setup)
        if self._helpers:
            self._executor = ProcessPoolExecutor(
                self._helpers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._setup,),
            )
            with _without_main():
                for _ in range(self._helpers):
                    self._executor.submit(_ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        if self._session is not None:
            await close_session(self._session)

    async def check(self, jobs: Iterable[Job]) -> AsyncIterator[RangeResult]:
        """The results of jobs, in their order."""
        if self._session is None:
            raise RuntimeError("a pool is entered before it is used")
        session = self._session
        async for result in self._ordered(_work, partial(check_range, session), jobs):
            yield result
        session.spool.flush()

    async def apply(self, function: Callable[[A], T], arguments: Iterable[A]) -> AsyncIterator[T]:
        """`function` of each argument, in order."""

        async def here(argument: A) -> T:
            await asyncio.sleep(0)
            return function(argument)

        async for result in self._ordered(function, here, arguments):
            yield result

    async def _ordered(
        self, there: Callable[[A], T], here: Callable[[A], Awaitable[T]], arguments: Iterable[A]
    ) -> AsyncIterator[T]:
        """Results in order. Helpers are kept busy, also while this process is at work itself: it does one argument at
        a time, whenever they have enough waiting."""
        rest = iter(arguments)
        waiting: deque[asyncio.Future[T]] = deque()
        own: asyncio.Future[T] | None = None
        ahead_max = (self._helpers + 1) * AHEAD
        try:
            while True:
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
                busy = sum(not future.done() and future is not own for future in waiting)
                own_free = own is None or own.done()
                if len(waiting) < ahead_max and (busy < self._helpers * QUEUED or own_free):
                    for argument in islice(rest, 1):
                        if busy < self._helpers * QUEUED:
                            waiting.append(self._submit(there, argument))
                        else:
                            own = asyncio.ensure_future(here(argument))
                            waiting.append(own)
                        break
                    else:
                        if not waiting:
                            return
                        yield await waiting.popleft()
                    continue
                await asyncio.wait([future for future in waiting if not future.done()], return_when=FIRST_COMPLETED)
        except BrokenProcessPool as error:
            raise LedgerError(
                "a process of the verification ended on its own (out of memory, or no connection to Postgres);"
                " try again with fewer workers"
            ) from error
        finally:
            for future in waiting:
                future.cancel()
            if own is not None:
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await own  # it uses this process' connections, which are closed next

    def _submit(self, function: Callable[[A], T], argument: A) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, function, argument)


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the program's main module: they need this package only, and a main module
    may take seconds to import, or lack the guard against being imported."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# Below: a worker process' own state and entry points.

_runner: asyncio.Runner | None = None
_session: Session | None = None


def _begin(setup: Setup) -> None:
    global _runner, _session
    _runner = asyncio.Runner()
    _session = _runner.run(open_session(setup))


def _work(job: Job) -> RangeResult:
    runner, session = _mine()
    result = runner.run(check_range(session, job))
    session.spool.flush()
    return result


def _ready() -> None:
    """Done when this process has begun."""
    _mine()


def _mine() -> tuple[asyncio.Runner, Session]:
    if _runner is None or _session is None:
        raise RuntimeError("this process was not begun as a worker")
    return _runner, _session
