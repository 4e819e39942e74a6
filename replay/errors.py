"""What can go wrong in replay.

ReplayError
└── RunUnknown          no such run, or one of several tenants
    └── NoSuchRun       no such run; with the newest ones that there are
"""

# ruff: noqa: N818  names say what was found

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


class ReplayError(Exception):
    """Root of everything replay raises on purpose."""


class RunUnknown(ReplayError):
    """There is no such run on the record, or several tenants have one of this name."""


@dataclass(frozen=True, slots=True)
class Newest:
    """A run that was added to lately."""

    run: str
    tenant: str
    recorded: datetime  # when the ledger last sealed an entry of it


class NoSuchRun(RunUnknown):
    """There is no such run on the record, as far as whoever asks may read it."""

    def __init__(self, message: str, newest: Sequence[Newest]) -> None:
        self.newest = tuple(newest)  # the newest first
        super().__init__(message)
