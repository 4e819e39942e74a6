"""What becomes of a request's body, whichever way it came: read, cut into parts, sent to Kafka, answered.

Guarantees: an answer is given only when Kafka has every part; a body is read on another thread where that takes long,
so that other senders are served meanwhile; every request is counted once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ingest.errors import Refused
from ingest.otlp.answers import METRICS_WARNING, Answer, Failure, answer_of
from ingest.otlp.body import Budget
from ingest.otlp.forms import FORMS
from ingest.otlp.forward import Forward
from ingest.otlp.jsonform import to_protobuf
from ingest.otlp.metrics import count_points
from ingest.otlp.refusals import Refusals
from ingest.otlp.split import RECORD_BYTES_MAX, STEPS_MAX, Split, split
from ingest.otlp.tokens import Tokens
from ingest.otlp.wire import PARTS_MAX, Encoding, Signal

UNDECIDED_BYTES_MAX: Final = 64 * 1024 * 1024  # of all bodies; one of the largest size fits
INLINE_BYTES_MAX: Final = 2 * 1024 * 1024  # read in a few milliseconds, where its records are of the usual size
INLINE_JSON_BYTES_MAX: Final = 64 * 1024
INLINE_STEPS_MAX: Final = 15_000  # of cutting, 30 ms at the most: for records that are tiny, or many of them broken
INLINE_PARTS_MAX: Final = 2_000  # of JSON
LARGE_AT_ONCE: Final = 1  # of the others: it may take 100 MB for a moment

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """What a gateway did. `refused`: requests told to try again; `wrong`: requests that can't be taken at all."""

    requests: int = 0
    spans: int = 0
    logs: int = 0
    data_points: int = 0
    rejected: int = 0
    refused: int = 0
    wrong: int = 0


@dataclass(slots=True)
class Receiver:
    """Takes requests. `tokens`: who may send; None: anybody, for whom the resource names, else `default_tenant`."""

    forward: Forward
    tokens: Tokens | None
    default_tenant: str
    budget: Budget = field(default_factory=lambda: Budget(UNDECIDED_BYTES_MAX))
    counts: Counts = field(default_factory=Counts)
    refusals: Refusals = field(default_factory=Refusals)
    _large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE))

    def admit(self, authorization: str | None, signal: Signal | None) -> str | None:
        """Whose a sender is, if it proved it, before its body is read. `signal`: None for metrics. Raises Failure."""
        tenant = self.tokens.tenant_of(authorization) if self.tokens is not None else None
        if signal is not None:
            self.forward.check()
        return tenant

    async def take(self, signal: Signal, body: bytearray, encoding: Encoding, tenant: str | None) -> Answer:
        """The answer to a request, once Kafka has it. Raises Failure."""
        inline = len(body) <= (INLINE_BYTES_MAX if encoding == "proto" else INLINE_JSON_BYTES_MAX)
        done = await self._run(True, lambda: _cut_inline(signal, body, encoding)) if inline else None
        if done is None:
            done = await self._run(False, lambda: _cut(signal, body, encoding, PARTS_MAX, STEPS_MAX))
        cut, lost = done
        await self.forward.send(signal, cut.parts(), tenant, self.default_tenant, cut.out_bytes)
        answer = answer_of(signal, cut, lost, RECORD_BYTES_MAX)
        self.counts.requests += 1
        self.counts.rejected += answer.rejected
        if signal == "spans":
            self.counts.spans += cut.records - answer.rejected + lost
        else:
            self.counts.logs += cut.records - answer.rejected + lost
        return answer

    async def take_metrics(self, body: bytearray, encoding: Encoding) -> Answer:
        """The answer to metrics, which are only counted. Raises Failure."""
        points = await self._run(len(body) <= INLINE_JSON_BYTES_MAX, lambda: count_points(body, encoding))
        self.counts.requests += 1
        self.counts.data_points += points
        return Answer("metrics", 0, METRICS_WARNING if points else "")

    async def _run(self, inline: bool, work: Callable[[], T]) -> T:
        try:
            if inline:
                return work()
            async with self._large:
                return await asyncio.to_thread(work)
        except Refused as refused:
            raise Failure.of(refused) from refused

    def refused(self, failure: Failure, path: str, peer: str) -> None:
        """Count and tell a request that was not taken."""
        self.refusals.tell(failure, path, peer)
        if failure.reason == "unavailable":
            self.counts.refused += 1
        else:
            self.counts.wrong += 1


def _cut_inline(signal: Signal, body: bytearray, encoding: Encoding) -> tuple[Split, int] | None:
    """None where that takes longer than others should wait."""
    try:
        return _cut(signal, body, encoding, INLINE_PARTS_MAX, INLINE_STEPS_MAX)
    except Refused as refused:
        if refused.code != "too_large":
            raise
        return None


def _cut(signal: Signal, body: bytearray, encoding: Encoding, parts_max: int, steps_max: int) -> tuple[Split, int]:
    if encoding == "proto":
        return split(signal, body, steps_max=steps_max), 0
    converted = to_protobuf(FORMS[signal], body, parts_max)
    return split(signal, converted.value, steps_max=steps_max), converted.lost
