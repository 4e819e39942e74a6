"""What operators see of requests that were refused: who sent what where, and why.

Guarantees: at most one line for each status and reason in EVERY_S, however many are refused, with how many they were;
what a sender wrote stands in it escaped and cut off, so that it can't forge a line.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog

from ingest.otlp.answers import Failure

EVERY_S: Final = 10.0
TEXT_CHARACTERS_MAX: Final = 200

log = structlog.get_logger("tallystick.otlp")


@dataclass(slots=True)
class _Told:
    """Refusals of one status and reason: those that came since one was told, and the last of them."""

    more: int = 0
    last: dict[str, str | int] = field(default_factory=dict)


@dataclass(slots=True)
class Refusals:
    """Tells the first of a kind at once, and those that follow within EVERY_S together when that is over."""

    _told: dict[tuple[int, str], _Told] = field(default_factory=dict)

    def tell(self, failure: Failure, path: str, peer: str) -> None:
        """Log a refusal, now or counted with others. Runs within the event loop."""
        self.tell_as(failure.http_status, failure.reason, failure.message, path, peer)

    def tell_as(self, status: int, reason: str, message: str, path: str, peer: str) -> None:
        """The same of a request that was none. `reason`: one of few; `message`: ours, not a sender's."""
        known = self._told.get((status, reason))
        line: dict[str, str | int] = {
            "path": _escaped(path),
            "peer": _escaped(peer),
            "status": status,
            "reason": reason,
            "message": message,
        }
        if known is not None:
            known.more += 1
            known.last = line
            return
        self._told[status, reason] = _Told()
        log.warning("OTLP refused", **line)
        asyncio.get_running_loop().call_later(EVERY_S, self._over, status, reason)

    def flush(self) -> None:
        """Tell what was counted and not told yet."""
        for told in self._told.values():
            self._say(told)
        self._told.clear()

    def _over(self, status: int, reason: str) -> None:
        told = self._told.get((status, reason))
        if told is None:
            return
        if told.more == 0:
            del self._told[status, reason]
            return
        self._say(told)
        asyncio.get_running_loop().call_later(EVERY_S, self._over, status, reason)

    @staticmethod
    def _say(told: _Told) -> None:
        if told.more:
            log.warning("OTLP refused", **told.last, times=told.more)
            told.more = 0


def _escaped(text: str) -> str:
    """In ASCII, on one line, without what a terminal would obey."""
    whole = ascii(text[:TEXT_CHARACTERS_MAX])[1:-1]
    return whole + "…" if len(text) > TEXT_CHARACTERS_MAX else whole
