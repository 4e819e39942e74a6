"""A request's body as it comes in: decompressed piece by piece, counted, and paid for out of one budget.

Guarantees: a compressed body is whole, or refused; no more than BODY_BYTES_MAX bytes are kept of it, counted after
decompression, and no more are read, nor more than MEMBERS_MAX members begun, which may be empty; the bodies of all
requests together never exceed the budget; whatever was taken from it is given back when the body is closed.
"""

from __future__ import annotations

import zlib
from types import TracebackType
from typing import Final, Literal

from ingest.otlp.answers import Failure

BODY_BYTES_MAX: Final = 64 * 1024 * 1024
PIECE_BYTES: Final = 256 * 1024  # decompressed at a time
COMPRESSED_BYTES: Final = 16 * 1024  # given to zlib at a time: with each member it copies what is left of them
MEMBERS_MAX: Final = 4_096  # of gzip; writers make one, or one for each piece they were given
RETRY_FULL_S: Final = 2

Coding = Literal["identity", "gzip", "deflate"]
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}


class Budget:
    """Bytes of requests that are not decided yet. `free` may be asked before anything is read."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.free = bytes_max

    def take(self, size: int) -> None:
        """Raise Failure where so many bytes are not free; else they are the caller's, to give back."""
        if size > self.free:
            raise Failure("unavailable", "the gateway's buffer is full", RETRY_FULL_S)
        self.free -= size

    def give(self, size: int) -> None:
        self.free += size


class Body:
    """`with Body(budget, coding) as body: body.feed(…); body.value()`. Raises Failure."""

    def __init__(self, budget: Budget, coding: Coding = "identity", bytes_max: int = BODY_BYTES_MAX) -> None:
        self._budget = budget
        self._max = bytes_max
        self._value = bytearray()
        self._taken = 0
        self._came = 0  # compressed bytes
        self._members = 1
        self._wbits = _WINDOW_BITS.get(coding)
        self._unpacking = None if self._wbits is None else zlib.decompressobj(self._wbits)

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._value = bytearray()
        self._budget.give(self._taken)
        self._taken = 0

    def expect(self, size: int) -> None:
        """Refuse a body that is said to be so large before any of it is read. Takes nothing."""
        if size > self._max:
            raise self._too_large()
        if size > self._budget.free:
            raise Failure("unavailable", "the gateway's buffer is full", RETRY_FULL_S)

    def feed(self, data: bytes) -> None:
        """Add what came next."""
        if self._wbits is None:
            self._add(data)
            return
        self._came += len(data)
        if self._came > self._max:
            raise self._too_large()
        try:
            for start in range(0, len(data), COMPRESSED_BYTES):
                self._unpack(data[start : start + COMPRESSED_BYTES])
        except zlib.error as error:
            raise Failure("bad_request", "the body can't be decompressed") from error

    def value(self) -> bytearray:
        """The whole body, decompressed."""
        if self._unpacking is not None and self._came and not self._unpacking.eof:
            raise Failure("bad_request", "the compressed body has no end")
        return self._value

    def _unpack(self, data: bytes) -> None:
        while data and self._unpacking is not None and self._wbits is not None:
            if self._unpacking.eof:  # gzip may have several members
                self._members += 1
                if self._members > MEMBERS_MAX:
                    raise Failure("bad_request", f"the compressed body has more than {MEMBERS_MAX:,} members")
                self._unpacking = zlib.decompressobj(self._wbits)
            self._add(self._unpacking.decompress(data, PIECE_BYTES))
            data = self._unpacking.unconsumed_tail or self._unpacking.unused_data

    def _add(self, data: bytes) -> None:
        if len(self._value) + len(data) > self._max:
            raise self._too_large()
        self._budget.take(len(data))
        self._taken += len(data)
        self._value += data

    def _too_large(self) -> Failure:
        return Failure("too_large", f"the body is larger than {self._max:,} bytes")
