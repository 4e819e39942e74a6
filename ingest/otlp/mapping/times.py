"""OTLP times and durations: nanoseconds since 1970 to the leaf's timestamps and microseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from schemas.values import INTEGER_MAX


def timestamp_of(nanoseconds: int) -> str | None:
    """The leaf's form, cut to microseconds. None for 0, which OTLP uses for "not known". (The largest fixed64 is in the
    year 2554.)"""
    if nanoseconds <= 0:
        return None
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


def latency_us(start: int, end: int) -> int | None:
    """Whole microseconds from start to end; None where either isn't known or the end comes first."""
    if start <= 0 or end < start:
        return None
    microseconds = (end - start) // 1000
    return microseconds if microseconds <= INTEGER_MAX else None


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
