"""Sending JSONL through Kafka, and telling what became of each line.

Guarantees: a line goes out with exactly the bytes it has in the file, with its form, file and line number in headers;
what is counted is what the ledger's entries say of the offsets that these lines got, not what was expected of them.
Does not: append anything itself, or drop a line: a line that is wrong becomes a `rejected` entry like any other record.

Importing again appends no event twice: ids follow from the lines (kinds.md, "Ids"). So an import that was cut short is
simply done again. A line that is refused, or in conflict, is so each time, with an entry for each.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from ingest.authority import EVENTS
from ingest.cluster import describe
from ingest.decode import FILE_HEADER, FORM_HEADER, LINE_HEADER
from ingest.errors import ClusterUnreachable, ImportStopped
from ledger.db import Connection

LINE_BYTES_MAX: Final = 16 * 1024 * 1024 - 64 * 1024  # what a topic takes, less what goes around a value
SENT_AHEAD_MAX: Final = 2_000  # lines whose acknowledgement is not in yet
LOOK_EVERY_S: Final = 0.1
STALL_S: Final = 60.0  # without any offset moving: nobody is consuming
ROWS_AT_ONCE: Final = 2_000
LISTED_MAX: Final = 1_000  # of each kind; they are all counted

Headers = list[tuple[str, bytes]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file; `number` from 1."""

    file: str
    number: int
    value: bytes
    form: str  # plain, event
    key: bytes | None

    @property
    def headers(self) -> Headers:
        return [
            (FORM_HEADER, self.form.encode()),
            (FILE_HEADER, self.file.encode("utf-8", "replace")),
            (LINE_HEADER, b"%d" % self.number),
        ]


def read_lines(file: BinaryIO, name: str) -> Iterator[Line]:
    """The lines of a file that are not blank, without their line ends. Raises ImportStopped for one no topic takes."""
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 2):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # marks the file, is not part of a line
        value = line.rstrip(b"\r\n")
        if len(value) > LINE_BYTES_MAX:
            raise ImportStopped(f"{name}:{number}: expected a line of at most {LINE_BYTES_MAX} bytes")
        if value.strip():
            form, key = form_of(value)
            yield Line(name, number, value, form, key)


def form_of(value: bytes) -> tuple[str, bytes | None]:
    """Which form a line is in, `event` or `plain`, and the key it goes under: the run, else the work item."""
    try:
        said = orjson.loads(value)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        return "plain", None
    form = "event" if "specversion" in said else "plain"
    name = said.get("subject" if form == "event" else "run_id")
    if name is None and isinstance(said.get("data"), dict) and isinstance(said["data"].get("work_item"), dict):
        name = said["data"]["work_item"].get("id")
    return form, name.encode("utf-8", "replace") if isinstance(name, str) else None


@dataclass(slots=True)
class Offsets:
    """A set of offsets of one partition, kept as ranges: an import's are nearly all in a row."""

    _first: list[int] = field(default_factory=list)
    _last: list[int] = field(default_factory=list)

    def add(self, offset: int) -> None:
        """Add one; a partition's come in rising order."""
        if self._last and offset == self._last[-1] + 1:
            self._last[-1] = offset
        else:
            self._first.append(offset)
            self._last.append(offset)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._first, offset) - 1
        return at >= 0 and offset <= self._last[at]

    @property
    def newest(self) -> int:
        return self._last[-1]


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """What became of a line that was refused."""

    log: str
    id: str
    reason: str
    detail: str
    file: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class ConflictLine:
    """A line that says something else under an id that is on the record; `of` is that id."""

    log: str
    id: str
    of: str
    file: str | None
    line: int | None


@dataclass(slots=True)
class Outcome:
    """Counts of lines. `lines` = appended + duplicate + conflict + rejected, once all are committed."""

    lines: int = 0
    appended: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    rejections: list[RejectedLine] = field(default_factory=list)
    conflicts: list[ConflictLine] = field(default_factory=list)

    def list_first(self) -> None:
        """Keep of the lines that are listed the first ones, in the files' order of names."""
        for listed in (self.rejections, self.conflicts):
            listed.sort(key=lambda one: (one.file or "", one.line or 0))
            del listed[LISTED_MAX:]


@dataclass(slots=True)
class Sent:
    """What was published: to which cluster and topic, and with which offsets."""

    cluster: str
    topic: str
    count: int = 0
    offsets: dict[int, Offsets] = field(default_factory=dict)

    def note(self, partition: int, offset: int) -> None:
        self.offsets.setdefault(partition, Offsets()).add(offset)
        self.count += 1


async def tree_sizes(conn: Connection) -> dict[str, int]:
    """How long each log is that a record can end in."""
    cursor = await conn.execute("SELECT log, tree_size FROM logs WHERE class IN ('tenant', 'intake')")
    return dict(await cursor.fetchall())


class Publisher:
    """Sends values to one topic; an async context manager. Raises ClusterUnreachable, ImportStopped."""

    def __init__(self, bootstrap: str, client: Mapping[str, Any], topic: str = EVENTS) -> None:
        self._bootstrap = bootstrap
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=LINE_BYTES_MAX + 32 * 1024,
            **client,
        )
        self._topic = topic
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self.sent = Sent("", topic)

    async def __aenter__(self) -> Publisher:
        try:
            await self._producer.start()
            self.sent.cluster, _ = await describe(self._producer.client, [self._topic])
            cluster = await self._producer.client.fetch_all_metadata()
        except (KafkaError, ClusterUnreachable) as error:
            await self._producer.stop()
            raise ClusterUnreachable(f"Kafka at {self._bootstrap} can't be reached: {error!r}") from error
        if self._topic not in cluster.topics():
            await self._producer.stop()
            raise ImportStopped(f"Kafka at {self._bootstrap} has no topic {self._topic}; `tally ingest` makes it")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, value: bytes, key: bytes | None, headers: Headers, where: str) -> None:
        """Hand a value to Kafka; waits where too many are on their way."""
        try:
            future = await self._producer.send(self._topic, value, key=key, headers=headers)
        except MessageSizeTooLargeError as error:
            raise ImportStopped(f"{where}: expected at most {LINE_BYTES_MAX} bytes, got {len(value)}") from error
        except KafkaError as error:
            raise ImportStopped(f"{where}: Kafka at {self._bootstrap} refused it: {error!r}") from error
        self._waiting.append(future)
        if len(self._waiting) > SENT_AHEAD_MAX:
            await self._acknowledged(len(self._waiting) - SENT_AHEAD_MAX)

    async def flush(self) -> None:
        """Return when Kafka has all of it."""
        await self._acknowledged(len(self._waiting))

    async def _acknowledged(self, count: int) -> None:
        for _ in range(count):
            try:
                done = await self._waiting.popleft()
            except KafkaError as error:
                raise ImportStopped(
                    f"Kafka at {self._bootstrap} did not take a line for {self._topic}: {error!r};"
                    f" {self.sent.count} were taken before"
                ) from error
            self.sent.note(done.partition, done.offset)


def _no_reason() -> str | None:
    return None


async def until_committed(
    conn: Connection,
    sent: Sent,
    progress: Progress,
    stall_s: float = STALL_S,
    ended: Callable[[], str | None] = _no_reason,
) -> None:
    """Wait until the stored offsets have passed all that was sent.

    Raises ImportStopped when nothing moves, or at once where `ended` says why nothing will.
    """
    moved_at = time.monotonic()
    before: dict[int, int] = {}
    while True:
        cursor = await conn.execute(
            "SELECT partition, next_offset FROM positions WHERE cluster = %s AND topic = %s", (sent.cluster, sent.topic)
        )
        stored: dict[int, int] = dict(await cursor.fetchall())
        behind = {
            partition: offsets.newest + 1 - stored.get(partition, 0)
            for partition, offsets in sent.offsets.items()
            if stored.get(partition, 0) <= offsets.newest
        }
        progress("Appending", sent.count - min(sent.count, sum(behind.values())), sent.count)
        if not behind:
            return
        reason = ended()
        if reason is not None:
            raise ImportStopped(
                f"{sent.count} lines are in Kafka, topic {sent.topic}, but nothing is appended any more: {reason}"
            )
        if stored != before:
            before, moved_at = stored, time.monotonic()
        if time.monotonic() - moved_at > stall_s:
            raise ImportStopped(
                f"{sent.count} lines are in Kafka, topic {sent.topic}, but nothing was appended for {stall_s:.0f} s;"
                " they will be when a consumer runs (`tally up`, `tally ingest`)"
            )
        await asyncio.sleep(LOOK_EVERY_S)


async def count_outcome(conn: Connection, sent: Sent, since: Mapping[str, int]) -> Outcome:
    """What became of what was sent, once it is committed: read from the entries made since the noted tree sizes."""
    outcome = Outcome(lines=sent.count)
    for log, tree_size in (await tree_sizes(conn)).items():
        first = since.get(log, 0)
        if tree_size > first:
            await _count_log(conn, sent, log, first, tree_size, outcome)
    outcome.list_first()
    outcome.duplicate = sent.count - outcome.appended - outcome.conflict - outcome.rejected
    return outcome


async def _count_log(conn: Connection, sent: Sent, log: str, first: int, end: int, outcome: Outcome) -> None:
    async with conn.transaction(), conn.cursor("imported", binary=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        await cursor.execute(
            "SELECT kind, leaf FROM entries WHERE log = %b AND index >= %b AND index < %b ORDER BY index",
            (log, first, end),
        )
        async for kind, leaf in cursor:
            said = orjson.loads(leaf)
            source = said["source"]
            if source.get("topic") != sent.topic or source["cluster"] != sent.cluster:
                continue
            offsets = sent.offsets.get(source["partition"])
            if offsets is None or source["offset"] not in offsets:
                continue
            if kind == "conflict":
                outcome.conflict += 1
                outcome.conflicts.append(
                    ConflictLine(log, said["id"], said["data"]["of"], source.get("file"), source.get("line"))
                )
            elif kind == "rejected":
                outcome.rejected += 1
                data = said["data"]
                outcome.rejections.append(
                    RejectedLine(
                        log, said["id"], data["reason"], data["detail"], source.get("file"), source.get("line")
                    )
                )
            else:
                outcome.appended += 1
            if max(len(outcome.rejections), len(outcome.conflicts)) > 2 * LISTED_MAX:
                outcome.list_first()
