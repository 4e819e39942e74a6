"""The processes that verify ranges side by side.

This process is one of them; the others are its helpers, which take a third of a second to start. Each opens its own two
connections in the verification's snapshot, its own key store and its own spool files, and keeps them until the pool is
closed.

Guarantees: results of one log come in its order, and not more than a few are held. A worker that fails ends the
verification with its exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import sys
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from psycopg import sql

from ledger.db import Connection, connect
from ledger.errors import LedgerError
from ledger.keystore import KeyStore
from ledger.verify.ranges import Ranges
from ledger.verify.spool import Spool
from ledger.verify.work import Job, RangeResult, Session, check_range

QUEUED = 2  # shares of ranges per helper: one in work, one waiting
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
    """Workers for one verification; an async context manager. Worker 0 is this process."""

    def __init__(self, setup: Setup, workers: int) -> None:
        self.workers = workers
        self._setup = setup
        self._helpers: list[ProcessPoolExecutor] = []
        self._begun: dict[asyncio.Future[None], int] = {}
        self._ending: asyncio.Future[Any] | None = None
        self._session: Session | None = None

    async def __aenter__(self) -> Pool:
        context = multiprocessing.get_context("spawn")
        with _without_main():
            for worker in range(1, self.workers):
                # An executor for each: who does a job is decided here.
                helper = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(self._setup,))
                self._helpers.append(helper)
                self._begun[asyncio.wrap_future(helper.submit(_ready))] = worker
        try:
            self._session = await open_session(self._setup)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.dismiss()
        if self._ending is not None:
            await self._ending

    async def dismiss(self) -> None:
        """Let the workers go: there is nothing more to do. They end while the caller goes on."""
        if self._session is not None:
            session, self._session = self._session, None
            await close_session(session)
        if self._ending is None:
            for begun in self._begun:
                begun.cancel()
            end = partial(ProcessPoolExecutor.shutdown, cancel_futures=True)
            self._ending = asyncio.gather(*(asyncio.to_thread(end, helper) for helper in self._helpers))

    async def check(self, ranges: Ranges) -> AsyncIterator[RangeResult]:
        """The result of every range, those of one log in their order."""
        if self._session is None:
            raise RuntimeError("a pool is entered before it is used")
        session = self._session
        held: dict[str, dict[int, RangeResult]] = {}  # by log, those that came before their turn
        next_number: dict[str, int] = {}
        async for results in self._spread(_work, partial(_check, session), ranges.take, QUEUED):
            for result in results:
                log = result.job.log
                waiting, number = held.setdefault(log, {}), next_number.get(log, 0)
                waiting[result.job.number] = result
                while number in waiting:
                    turn = waiting.pop(number)
                    number += 1
                    ranges.use(turn.job)
                    yield turn
                next_number[log] = number
        session.spool.flush()

    async def apply(self, function: Callable[[A], T], arguments: Sequence[A]) -> AsyncIterator[tuple[int, T]]:
        """The place of each argument and `function` of it, as they are done."""
        rest = iter(enumerate(arguments))

        async def here(placed: tuple[int, A]) -> tuple[int, T]:
            return _placed(function, placed)

        async for result in self._spread(partial(_placed, function), here, lambda _: next(rest, None), 1):
            yield result

    async def _spread(
        self, there: Callable[[A], T], here: Callable[[A], Awaitable[T]], take: Callable[[int], A | None], queued: int
    ) -> AsyncIterator[T]:
        """Results of what `take` gives for each worker, as they are done, until it gives nothing and nothing is in
        work. A helper has up to `queued` of them, so that it has work while this process is busy itself; it begins when
        it has started. This process does one at a time."""
        work: dict[asyncio.Future[T], int] = {}
        free = [worker for worker in range(1, self.workers) if worker not in self._begun.values()] * queued + [0]

        def give(workers: list[int]) -> list[int]:
            """Give these workers something to do; returns those for whom there is nothing."""
            idle = []
            for worker in workers:
                argument = take(worker)
                if argument is None:
                    idle.append(worker)
                elif worker:
                    work[self._submit(worker, there, argument)] = worker
                else:
                    work[asyncio.ensure_future(here(argument))] = worker
            return idle

        try:
            while True:
                free = give(free)
                if not work:
                    return
                awaited: list[asyncio.Future[Any]] = [*work, *self._begun]
                done, _ = await asyncio.wait(awaited, return_when=FIRST_COMPLETED)
                for begun in self._begun.keys() & done:
                    begun.result()
                    free += [self._begun.pop(begun)] * queued
                results = [future for future in work if future in done]
                free = give(free + [work.pop(future) for future in results])
                for future in results:
                    yield future.result()
        except BrokenProcessPool as error:
            raise LedgerError(
                "a process of the verification ended on its own (out of memory, or no connection to Postgres);"
                " try again with fewer workers"
            ) from error
        finally:
            for future in work:
                future.cancel()
            for future, worker in work.items():
                if not worker:
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await future  # it uses this process' connections, which are closed next

    def _submit(self, worker: int, function: Callable[[A], T], argument: A) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._helpers[worker - 1], function, argument)


async def _check(session: Session, jobs: list[Job]) -> list[RangeResult]:
    with _uncollected():
        return [await check_range(session, job) for job in jobs]


def _placed(function: Callable[[A], T], placed: tuple[int, A]) -> tuple[int, T]:
    place, argument = placed
    with _uncollected():
        return place, function(argument)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's cycle collector: leaves and records hold no cycles, and looking for them again and again costs a
    third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


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


def _work(jobs: list[Job]) -> list[RangeResult]:
    runner, session = _mine()
    results = runner.run(_check(session, jobs))
    session.spool.flush()
    return results


def _ready() -> None:
    """Done when this process has begun."""
    _mine()


def _mine() -> tuple[asyncio.Runner, Session]:
    if _runner is None or _session is None:
        raise RuntimeError("this process was not begun as a worker")
    return _runner, _session
