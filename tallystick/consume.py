"""Keeps a consumer running: another one after each that ended, unless none could ever work.

Guarantees: a failure that passes (Postgres or Kafka away, fenced out, the disk full) is waited out with growing pauses;
one that another try can't mend (an older database, a fork, keys of another ledger) is raised at once; when this is
cancelled, what was read is committed first, if that takes no longer than a consumer's own flush.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
import structlog
from aiokafka.errors import KafkaError

from ingest.consumer import FLUSH_S, Consumer, ConsumerConfig, Progress
from ingest.errors import ClusterUnreachable, ConsumerEnded
from ledger.errors import (
    DatabaseUnreachable,
    FencedOut,
    ForkRefused,
    KeyStoreCorrupt,
    KeyStoreError,
    KeyStoreExposed,
    KeyStoreMissing,
    LogMissing,
    LogRolledBack,
    MissingKey,
)
from ledger.keystore import KeyStore
from tallystick.settings import Settings

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # who ran this long starts again without a pause
DEFECTS_MAX = 3  # in a row: what nobody foresaw may pass, but is not tried for ever
END_S = FLUSH_S + 10.0

_LASTING = (
    ForkRefused,
    LogRolledBack,
    LogMissing,
    MissingKey,
    KeyStoreCorrupt,
    KeyStoreExposed,
    KeyStoreMissing,
)
_PASSING = (
    ConsumerEnded,
    FencedOut,
    DatabaseUnreachable,
    ClusterUnreachable,
    KeyStoreError,
    psycopg.Error,
    KafkaError,
    OSError,
)

log = structlog.get_logger("tallystick.consumer")


@dataclass(slots=True)
class Consuming:
    """What the consumers of this process did, those that ended included."""

    _ended: list[Progress] = field(default_factory=list)
    _running: Consumer | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def total(self) -> dict[str, int]:
        """The sums, by the names of Progress."""
        sums = dict.fromkeys(asdict(Progress()), 0)
        running = [self._running.progress] if self._running is not None else []
        for progress in (*self._ended, *running):
            for name, count in asdict(progress).items():
                sums[name] += count
        return sums

    async def run(
        self,
        config: ConsumerConfig,
        keystore: KeyStore,
        *,
        until_idle_s: float | None = None,
        tries_max: int | None = None,
    ) -> None:
        """Consume until idle as asked, or for ever.

        Raises what no further try can mend, or what ended the last of `tries_max` tries in a row; and CancelledError.
        """
        attempt = defects = 0
        while True:
            began = time.monotonic()
            try:
                await self._run_one(Consumer(config, keystore), until_idle_s)
                return
            except Exception as error:
                cause = root_cause(error)
                known = isinstance(cause, _PASSING)
                defects = 0 if known else defects + 1
                if isinstance(cause, _LASTING) or defects >= DEFECTS_MAX:
                    raise cause from error
                if time.monotonic() - began > STEADY_S:
                    attempt = 0
                if tries_max is not None and attempt + 1 >= tries_max:
                    raise cause from error
                pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
                attempt += 1
                told = {"reason": str(cause).split("\n", 1)[0], "pause_s": pause}
                if known:
                    log.warning("consumer ended; another one starts", **told)
                else:
                    log.error("consumer failed; another one starts", exc_info=cause, **told)
                await asyncio.sleep(pause)

    async def _run_one(self, consumer: Consumer, until_idle_s: float | None) -> None:
        self._running = consumer
        task = asyncio.create_task(consumer.run(until_idle_s=until_idle_s))
        ready = asyncio.create_task(self._note_ready(consumer))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if consumer.ready.is_set():
                consumer.stop.set()
            else:
                task.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(END_S):
                    await asyncio.gather(task, return_exceptions=True)
            raise
        finally:
            ready.cancel()
            self._running = None
            self._ended.append(consumer.progress)

    async def _note_ready(self, consumer: Consumer) -> None:
        await consumer.ready.wait()
        self.ready.set()


def root_cause(error: BaseException) -> BaseException:
    """What ended a consumer, taken out of groups and of the error that only says that it ended."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, ConsumerEnded) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def consumer_config(
    settings: Settings, postgres: str, kafka: str, client: dict[str, Any], prefix: str
) -> ConsumerConfig:
    """A consumer's configuration under these settings. Only on the embedded Kafka may anybody name a tenant."""
    unauthenticated = settings.unauthenticated_intake
    if unauthenticated is None:
        unauthenticated = settings.kafka_bootstrap is None
    return ConsumerConfig(
        postgres_url=postgres,
        bootstrap=kafka,
        prefix=prefix,
        events_tenant=settings.events_tenant,
        unauthenticated=unauthenticated,
        kafka=client,
    )
