"""What can go wrong in replay.

ReplayError
└── RunUnknown    no such run, or one of several tenants
"""

# ruff: noqa: N818  names say what was found

from __future__ import annotations


class ReplayError(Exception):
    """Root of everything replay raises on purpose."""


class RunUnknown(ReplayError):
    """There is no such run on the record, or several tenants have one of this name."""
