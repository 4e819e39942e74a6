"""A request cut into the parts that become Kafka records: by tenant, run and trace, each below a size. Pure.

A part is made of the sender's own bytes, framed anew: nothing is written again, so what a field of a newer version
holds is in it too. A record is looked at only for its ids and its run. A body of usual size is parsed as a whole, once,
and the places of its records are found as bounds.py says; where that fails, it is cut field by field, and parsed in
chunks, with the same records, though parts may end elsewhere.

Guarantees: each part is a request that parses, except for what is marked oversized or broken; records of one trace keep
their order; a record is in exactly one part, or is counted as lost. Memory is bounded by the body and PARTS_MAX,
whatever the bytes are; time is linear in the body, and bounded by STEPS_MAX where it consists of tiny fields. Raises
Refused only, and then before any part.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise, repeat
from operator import itemgetter
from typing import Any, Final

from google.protobuf.message import DecodeError

from ingest.errors import Refused
from ingest.otlp.bounds import bounds_of, framed, is_usual
from ingest.otlp.forms import FORMS, Form, Signal
from ingest.otlp.framing import Malformed, delimited, fields
from ingest.otlp.wire import PARTS_MAX
from schemas.values import is_run_id

RECORD_BYTES_MAX: Final = 900_000
LOST_ABOVE_BYTES: Final = 15 * 1024 * 1024  # topics take 16 MiB
OUT_BYTES_MAX: Final = 128 * 1024 * 1024  # resources stand again in each part: small ones many times, or few large ones
WHOLE_BYTES_MAX: Final = 1024 * 1024  # of a body that is parsed at once, which takes thirty times as much at the worst
CHUNK_BYTES: Final = 512 * 1024  # parsed at a time of a larger one
FRAME_BYTES: Final = 32  # at most, around the records of a scope
STEPS_MAX: Final = 4_000_000  # of some microseconds each: seconds, where the fields of 64 MiB could be 32 million
_RESOURCE_STEPS: Final = 8  # what is done beyond looking at the field that it is
_SCOPE_STEPS: Final = 8
_ALONE_STEPS: Final = 4  # for a record that is parsed, or sent, alone
_ATTRIBUTES_A_STEP: Final = 8

RUN: Final = "tallystick.run_id"
TENANT: Final = "tallystick.tenant"
_RUN_BYTES: Final = RUN.encode()
_LIST: Final = 2 << 3 | 2  # scopes in a resource, records in a scope
_RESOURCES: Final = 1 << 3 | 2

_Piece = tuple[int, int]  # of the body: from, to


@dataclass(frozen=True, slots=True)
class Part:
    """What one Kafka record holds. `key`: the run's id, where there is one. `tenant`: as the resource names it."""

    key: bytes | None
    tenant: str | None
    value: bytes
    count: int
    oversized: bool = False


@dataclass(slots=True)
class Split:
    """A request's records by what becomes of them, and the parts, made as they are asked for.

    `too_large`, `broken` (they don't parse) and `bad_id` records are wrong for good: they are sent, to be on record as
    rejected. `lost` ones can't even be kept.
    """

    records: int = 0
    too_large: int = 0
    broken: int = 0
    bad_id: int = 0
    lost: int = 0
    out_bytes: int = 0  # of all parts
    _view: memoryview = field(default_factory=lambda: memoryview(b""))
    _scopes: list[_Scope] = field(default_factory=list)
    _groups: dict[tuple[int, bytes | None, bytes], _Group] = field(default_factory=dict)
    _alone: list[tuple[int, int, int, bytes | None, bool]] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """How many the sender must not send again."""
        return self.too_large + self.broken + self.bad_id + self.lost

    def parts(self) -> Iterator[Part]:
        """The parts, one run's in order. They are had once: then only the counts are kept."""
        for (_, key, _), group in self._groups.items():
            yield from self._parts_of(key, group)
        for scope, start, end, key, oversized in self._alone:
            yield Part(key, self._scopes[scope].tenant, self._framed([(scope, start, end)]), 1, oversized)
        self._groups, self._alone, self._scopes, self._view = {}, [], [], memoryview(b"")

    def _parts_of(self, key: bytes | None, group: _Group) -> Iterator[Part]:
        entries = group.entries
        tenant = self._scopes[~entries[0]].tenant
        waiting: list[tuple[int, int, int]] = []
        count = 0
        for place in range(0, len(entries), 4):
            scope, start, end, records = entries[place : place + 4]
            if scope < 0:  # the first of a part
                if waiting:
                    yield Part(key, tenant, self._framed(waiting), count)
                waiting, count = [], 0
                scope = ~scope
            waiting.append((scope, start, end))
            count += records
        yield Part(key, tenant, self._framed(waiting), count)

    def _framed(self, pieces: list[tuple[int, int, int]]) -> bytes:
        """A request of these records, given as scope, from, to; those of one scope that follow each other as one."""
        if len(pieces) == 1:  # the usual case
            number, start, end = pieces[0]
            return b"".join(self._frame(self._scopes[number], [self._view[start:end]]))
        out: list[bytes | memoryview] = []
        for number, group in groupby(pieces, key=itemgetter(0)):
            out += self._frame(self._scopes[number], [self._view[start:end] for _, start, end in group])
        return b"".join(out)

    def _frame(self, scope: _Scope, records: list[memoryview]) -> Iterable[bytes | memoryview]:
        body = self._view
        size = scope.own_bytes + sum(map(len, records))
        head = delimited(2, size)
        whole = delimited(1, scope.resource_bytes + len(head) + size)
        resource = [body[start:end] for start, end in scope.resource]
        return whole, *resource, head, *[body[start:end] for start, end in scope.own], *records


@dataclass(frozen=True, slots=True)
class _Scope:
    """A scope of the body: where its own fields stand and its resource's, and what the resource says."""

    resource: list[_Piece]
    resource_bytes: int
    own: list[_Piece]
    own_bytes: int
    named: int  # a number for the tenant that the resource names
    tenant: str | None
    run: bytes | None


@dataclass(slots=True)
class _Group:
    """Of one tenant, run and trace: scope, from, to, how many records; the scope inverted where a part begins."""

    entries: array[int] = field(default_factory=lambda: array("q"))
    open_bytes: int = 0  # of the part that was begun last
    scope: int = -1


def split(
    signal: Signal,
    body: bytes | bytearray,
    record_bytes_max: int = RECORD_BYTES_MAX,
    steps_max: int = STEPS_MAX,
    whole_bytes_max: int = WHOLE_BYTES_MAX,
) -> Split:
    """The parts of a request in protobuf. `steps_max`: how much work it may be, a field at least a step.
    `whole_bytes_max`: of a body that is parsed at once.

    Raises Refused: not_otlp, too_large.
    """
    form = FORMS[signal]
    try:
        return _Splitting(form, signal, body, record_bytes_max, steps_max, whole_bytes_max).run()
    except (Malformed, DecodeError) as error:
        raise Refused("not_otlp", f"the body is not an {form.request.DESCRIPTOR.name} in protobuf") from error


class _Splitting:
    def __init__(
        self,
        form: Form,
        signal: Signal,
        body: bytes | bytearray,
        record_bytes_max: int,
        steps_max: int,
        whole_bytes_max: int,
    ) -> None:
        self._form = form
        self._spans = signal == "spans"
        self._body = body
        self._view = memoryview(body)
        self._max = record_bytes_max
        self._left = PARTS_MAX
        self._steps_max = steps_max
        self._steps = steps_max  # left
        self._whole_bytes_max = whole_bytes_max
        self._own_reads: bool | None = None  # whether the fields of the scope in hand parse; None: not known
        self._names: dict[str | None, int] = {}
        self._split = Split(_view=self._view)

    def run(self) -> Split:
        split = self._split
        known = not self._body
        read = self._read_whole()
        for tag, _, start, end in fields(self._body, 0, len(self._body)):
            self._step(1)
            if tag == _RESOURCES:
                known = True
                self._count()
                self._resource(start, end, *next(read))
        if not known:
            raise Malformed("nothing in it is a request's")
        if split.records and split.broken == split.records:
            raise Malformed("no record of it can be read")
        return split

    def _read_whole(self) -> Iterator[tuple[Any, Any]]:
        """Each resource's message and its frame, of a body that is parsed at once; else None, without end."""
        if len(self._body) > self._whole_bytes_max:
            return repeat((None, None))
        body: Any = self._body  # the parser takes a bytearray as it is; its types don't say so
        frame = framed(body)
        if frame is None or not is_usual(frame, len(body)):
            return repeat((None, None))
        try:
            read = self._form.request.FromString(body)
        except DecodeError:
            return repeat((None, None))
        return zip(getattr(read, self._form.resources), frame.resources, strict=True)

    def _count(self, more: int = 1) -> None:
        self._left -= more
        if self._left < 0:
            raise Refused("too_large", f"more than {PARTS_MAX:,} resources, scopes and records in a request")

    def _step(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise Refused("too_large", f"too many small fields: more than {self._steps_max:,} steps to cut it up")

    def _resource(self, start: int, end: int, read: Any, frame: Any) -> None:
        """Add what a resource holds. `read`, `frame`: its message and its frame; None where it is not parsed yet."""
        self._step(_RESOURCE_STEPS)
        own: list[_Piece] = []
        scopes: list[_Piece] = []
        for tag, begin, payload, stop in fields(self._body, start, end):
            self._step(1)
            if tag == _LIST:
                self._count()
                scopes.append((payload, stop))
            else:
                own.append((begin, stop))
        own, own_bytes = _joined(own)
        try:
            tenant, run = self._said(own, own_bytes, read)
        except DecodeError:  # another process's resource may stand beside it: its own records only are broken
            before = self._split.records
            for scope_start, scope_end in scopes:
                self._broken_scope(scope_start, scope_end, own, own_bytes)
            if self._split.records == before:
                raise  # nothing of it would be on record
            return
        named = self._names.setdefault(tenant, len(self._names))
        read_scopes = repeat(None) if read is None else getattr(read, self._form.scopes)
        frames = repeat(None) if frame is None else frame.scopes
        for (scope_start, scope_end), *of_scope in zip(scopes, read_scopes, frames, strict=False):
            self._scope(scope_start, scope_end, own, own_bytes, named, tenant, run, *of_scope)

    def _broken_scope(self, start: int, end: int, resource: list[_Piece], resource_bytes: int) -> None:
        """Each record alone, with the resource that can't be read."""
        own, records = self._parted(start, end)
        own, own_bytes = _joined(own)
        self._split._scopes.append(_Scope(resource, resource_bytes, own, own_bytes, -1, None, None))
        self._split.records += len(records)
        around = resource_bytes + own_bytes + FRAME_BYTES
        for record in records:
            size = around + record[1] - record[0]
            if size > self._max:
                self._add_oversized(record, size)
                continue
            self._split.broken += 1
            self._add_alone(len(self._split._scopes) - 1, record, None, False, size)

    def _said(self, own: list[_Piece], own_bytes: int, read: Any) -> tuple[str | None, bytes | None]:
        """The tenant and the run that a resource names. One that fits no part says nothing: it is not parsed."""
        if own_bytes > self._max:
            return None, None
        if read is None:
            pieces = [self._view[a:b] for a, b in own]
            request: Any = self._form.request.FromString(b"".join((delimited(1, own_bytes), *pieces)))
            read = getattr(request, self._form.resources)[0]
        attributes = read.resource.attributes
        self._step(len(attributes) // _ATTRIBUTES_A_STEP)
        return _text(attributes, TENANT), _run(attributes)

    def _scope(
        self,
        start: int,
        end: int,
        resource: list[_Piece],
        resource_bytes: int,
        named: int,
        tenant: str | None,
        run: bytes | None,
        read: Any,
        frame: Any,
    ) -> None:
        found = None if frame is None else bounds_of(frame, self._body, start, end)
        records: list[_Piece] = []
        if found is None:
            own, records = self._parted(start, end)
        else:
            own = found.own
            self._step(_SCOPE_STEPS + len(own) + len(found.places))
            self._count(len(found.places) - 1)
        own, own_bytes = _joined(own)
        self._own_reads = None
        scope = _Scope(resource, resource_bytes, own, own_bytes, named, tenant, run)
        self._split._scopes.append(scope)
        around = resource_bytes + own_bytes + FRAME_BYTES
        if found is not None and around + found.widest <= self._max:
            self._split.records += len(found.places) - 1
            self._add_read(scope, found.places, getattr(read, self._form.records), around)
            return
        if found is not None:
            records = list(pairwise(found.places))
        self._split.records += len(records)
        if read is None:
            self._add_unread(scope, records, around)
            return
        small: list[_Piece] = []
        messages: list[Any] = []
        for record, message in zip(records, getattr(read, self._form.records), strict=True):
            size = around + record[1] - record[0]
            if size > self._max:
                self._add_oversized(record, size)
            else:
                small.append(record)
                messages.append(message)
        self._add_pieces(scope, small, messages, around)

    def _add_unread(self, scope: _Scope, records: list[_Piece], around: int) -> None:
        """Add records that are not parsed yet, in chunks."""
        chunk: list[_Piece] = []
        chunk_bytes = 0
        for record in records:
            size = record[1] - record[0]
            if around + size > self._max:
                self._add_oversized(record, around + size)
                continue
            if chunk and chunk_bytes + size > CHUNK_BYTES:
                self._chunk(scope, chunk, around)
                chunk, chunk_bytes = [], 0
            chunk.append(record)
            chunk_bytes += size
        if chunk:
            self._chunk(scope, chunk, around)

    def _parted(self, start: int, end: int) -> tuple[list[_Piece], list[_Piece]]:
        """A scope's own fields, and its records. Done for every record, so the usual length is read in place."""
        data = self._body
        own: list[_Piece] = []
        records: list[_Piece] = []
        self._step(_SCOPE_STEPS)
        left = self._steps
        at = start
        while at < end:
            left -= 1
            if left < 0:
                break
            if data[at] == _LIST and at + 2 < end and data[at + 1] > 0x7F and data[at + 2] < 0x80:
                stop = at + 3 + (data[at + 1] & 0x7F | data[at + 2] << 7)  # of 128 to 16,383 bytes
                if stop > end:
                    raise Malformed("a record is longer than its scope")
                records.append((at, stop))
            else:
                tag, _, _, stop = next(fields(data, at, end))
                (records if tag == _LIST else own).append((at, stop))
            at = stop
        self._step(self._steps - left)
        self._count(len(records))
        return own, records

    def _chunk(self, scope: _Scope, chunk: list[_Piece], around: int) -> None:
        """Add records of a scope; where they can't be read together, those that can be, and the others alone."""
        joined, size = _joined(chunk)
        try:
            if self._own_reads is False:
                raise DecodeError
            self._add_pieces(scope, chunk, self._read(scope.own, scope.own_bytes, joined, size), around)
            return
        except DecodeError:
            messages = self._read_each(scope, chunk)
        read = [record for record, message in zip(chunk, messages, strict=True) if message is not None]
        if read:
            self._add_pieces(scope, read, [message for message in messages if message is not None], around)
        for record, message in zip(chunk, messages, strict=True):
            if message is None:
                self._split.broken += 1
                number = len(self._split._scopes) - 1
                self._add_alone(number, record, None, False, around + record[1] - record[0])

    def _read_each(self, scope: _Scope, chunk: list[_Piece]) -> list[Any]:
        """The message of each record, None for one that can't be read. A record parses within its scope where the
        scope's own fields parse and it parses alone, so they are parsed once, not with each record."""
        if self._own_reads is None:
            self._own_reads = self._read_or_none(scope.own, scope.own_bytes, [], 0) is not None
        if not self._own_reads:
            return [None] * len(chunk)
        self._step(len(chunk) * _ALONE_STEPS)
        found = [self._read_or_none([], 0, [record], record[1] - record[0]) for record in chunk]
        return [None if one is None else one[0] for one in found]

    def _read_or_none(self, own: list[_Piece], own_bytes: int, records: list[_Piece], size: int) -> Any:
        try:
            return self._read(own, own_bytes, records, size)
        except DecodeError:
            return None

    def _add_pieces(self, scope: _Scope, records: list[_Piece], messages: Any, around: int) -> None:
        """Add records that were read; those that follow each other together."""
        first = 0
        for last in range(1, len(records) + 1):
            if last == len(records) or records[last][0] != records[last - 1][1]:
                bounds = [start for start, _ in records[first:last]]
                bounds.append(records[last - 1][1])
                self._add_read(scope, bounds, messages[first:last], around)
                first = last

    def _add_read(self, scope: _Scope, bounds: list[int], messages: Any, around: int) -> None:
        """Add records that were read and follow each other: those of one run and trace together."""
        number = len(self._split._scopes) - 1
        messages = list(messages)  # of a list of protobuf's, each would be made anew each time
        traces: list[bytes] = [message.trace_id for message in messages]
        if self._spans:
            self._check_ids(traces, [message.span_id for message in messages])
        first = 0
        if self._body.find(_RUN_BYTES, bounds[0], bounds[-1]) < 0:
            for trace, same in groupby(traces):
                last = first + len(list(same))
                self._add_all(number, scope.named, scope.run, trace, bounds[first : last + 1], around)
                first = last
            return
        self._step(sum(len(message.attributes) for message in messages) // _ATTRIBUTES_A_STEP)
        runs = [_run(message.attributes) for message in messages]
        for (trace, run), same_run in groupby(zip(traces, runs, strict=True)):
            last = first + len(list(same_run))
            self._add_all(number, scope.named, run or scope.run, trace, bounds[first : last + 1], around)
            first = last

    def _read(self, own: list[_Piece], own_bytes: int, records: list[_Piece], size: int) -> Any:
        """The messages of records, parsed where they stand in a request: as deep as the consumer will."""
        inner = own_bytes + size
        head = delimited(2, inner)
        pieces = [self._view[a:b] for a, b in (*own, *records)]
        request: Any = self._form.request.FromString(b"".join((delimited(1, len(head) + inner), head, *pieces)))
        scopes = getattr(getattr(request, self._form.resources)[0], self._form.scopes)
        return getattr(scopes[0], self._form.records)

    def _check_ids(self, traces: list[bytes], spans: list[bytes]) -> None:
        if all(_is_id(trace, 16) for trace in set(traces)) and set(map(len, spans)) == {8} and bytes(8) not in spans:
            return
        good = sum(_is_id(trace, 16) and _is_id(span, 8) for trace, span in zip(traces, spans, strict=True))
        self._split.bad_id += len(spans) - good

    def _add_all(
        self, number: int, named: int, run: bytes | None, trace: bytes, bounds: list[int], around: int
    ) -> None:
        """Add records that follow each other to the group they are of, in as many parts as their size takes."""
        key = run or (trace.hex().encode() if _is_id(trace, 16) else None)
        self._step(1)
        groups = self._split._groups
        group = groups.get((named, key, trace))
        if group is None:
            group = groups[(named, key, trace)] = _Group()
        start, end = bounds[0], bounds[-1]
        if around + end - start <= self._max:
            self._add(group, number, (start, end), len(bounds) - 1, around)
        else:
            for record in pairwise(bounds):
                self._add(group, number, record, 1, around)

    def _add(self, group: _Group, number: int, piece: _Piece, count: int, around: int) -> None:
        size = piece[1] - piece[0]
        more = size if group.scope == number else size + around
        begins = group.open_bytes == 0 or group.open_bytes + more > self._max
        if begins:
            group.open_bytes, more = 0, size + around
        group.open_bytes += more
        group.scope = number
        group.entries.extend((~number if begins else number, *piece, count))
        self._account(more)

    def _add_oversized(self, record: _Piece, size: int) -> None:
        if size > LOST_ABOVE_BYTES:
            self._split.lost += 1
            return
        self._split.too_large += 1
        self._add_alone(len(self._split._scopes) - 1, record, self._trace_of(record), True, size)

    def _add_alone(self, number: int, record: _Piece, key: bytes | None, oversized: bool, size: int) -> None:
        self._step(_ALONE_STEPS)
        self._split._alone.append((number, *record, key, oversized))
        self._account(size)

    def _account(self, size: int) -> None:
        self._split.out_bytes += size
        if self._split.out_bytes > OUT_BYTES_MAX:
            detail = f"cut by trace, with its resource each time, the request takes more than {OUT_BYTES_MAX:,} bytes"
            raise Refused("too_large", detail)

    def _trace_of(self, record: _Piece) -> bytes | None:
        """The trace of a span that is too large to be parsed, where it stands among its first fields."""
        number = 1 if self._spans else 9
        (_, _, start, end) = next(fields(self._body, *record))
        try:
            for (tag, _, payload, stop), _ in zip(fields(self._body, start, end), range(16), strict=False):
                if tag == number << 3 | 2 and stop - payload == 16:
                    return bytes(self._view[payload:stop]).hex().encode()
        except Malformed:
            pass
        return None


def _joined(spans: list[_Piece]) -> tuple[list[_Piece], int]:
    """The same bytes in as few pieces as may be, and how many bytes they are."""
    joined: list[_Piece] = []
    total = 0
    for start, end in spans:
        total += end - start
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined, total


def _is_id(value: bytes, size: int) -> bool:
    return len(value) == size and value.count(0) < size


def _text(attributes: Any, name: str) -> str | None:
    for attribute in attributes:
        if attribute.key == name:
            return attribute.value.string_value or None
    return None


def _run(attributes: Any) -> bytes | None:
    """The run that attributes name, as the mapping finds it: what can't be one says nothing."""
    named = _text(attributes, RUN)
    return named.encode() if named is not None and is_run_id(named) else None
