"""Members of entries, read without trust: a value of another form than its kind's is as if it weren't there.

A leaf that passed its check is in the leaf profile; that its `data` fits its kind was checked by whoever sealed it, and
a table that somebody edited may hold anything. So nothing here raises, whatever a member holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact
from typing import Any, Final, NamedTuple

from ledger.leaf import Leaf
from schemas.values import is_decimal

# 38 digits before or after the point, and room for more entries than a log can have: sums are exact, or raise.
EXACT: Final = Context(prec=120, traps=[Inexact])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf with its index in its log."""

    index: int
    leaf: Leaf


class Amount(NamedTuple):
    """Money, exactly."""

    amount: Decimal
    currency: str


def text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if type(value) is str and value else None


def count(value: Any) -> int | None:
    """An integer from 0."""
    return value if type(value) is int and value >= 0 else None


def amount(value: Any) -> Amount | None:
    """`{amount, currency}`, whatever else stands beside."""
    if not isinstance(value, Mapping):
        return None
    digits, currency = text(value.get("amount")), text(value.get("currency"))
    if digits is None or currency is None or not is_decimal(digits):
        return None
    return Amount(Decimal(digits), currency)


def microseconds(time: str | None) -> int | None:
    """A leaf's time since 1970."""
    if time is None:
        return None
    try:
        return (datetime.fromisoformat(time) - _EPOCH) // _MICROSECOND
    except (ValueError, TypeError):
        return None


def add(sums: dict[str, Decimal], more: Amount) -> None:
    """Add to the sum of that currency, exactly."""
    sums[more.currency] = EXACT.add(sums.get(more.currency, Decimal(0)), more.amount)
