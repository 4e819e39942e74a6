"""What a model call cost, by the price table that comes with genai-prices: offline, exact decimals, effective by date.

Pure: the same call at the same time under the same table version has the same price, and that is frozen into the entry
when it is sealed. A model or provider that the table does not know has no price; nothing is guessed. Counts that
contradict each other (more cached tokens than input tokens) have none either.

The table's own calculation takes 50 µs. Without tiers it is linear in the counts, so its rates are asked for once per
price and each call costs a few multiplications; with tiers each result is memoized. A property test holds both to the
table's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

TABLE: Final = "genai-prices"
TABLE_VERSION: Final = version("genai-prices")
CURRENCY: Final = "USD"

_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_USAGE_KEYS: Final = (*_COUNTS[:4], "output_reasoning_tokens")
_MINUTE_LENGTH: Final = len("2026-11-21T09:00")  # prices change by date and by time of day, never within a minute

Counts = tuple[int, int, int, int, int]
Cost = tuple[Decimal, Decimal, Decimal]  # input, output, total


def price(call: dict[str, Any], at: str) -> dict[str, Any] | None:
    """The `price` member for the public members of a model call, at a normalized time; None where there is no price.

    Amounts are decimals in US dollars: of the input side, of the output side, and in all (which may hold more than
    both).
    """
    counts: Counts = tuple(call.get(name, 0) for name in _COUNTS)
    if "input_tokens" not in call and "output_tokens" not in call:
        return None
    tokens_in, tokens_out, cache_read, cache_write, reasoning = counts
    if cache_read + cache_write > tokens_in or reasoning > tokens_out:
        return None
    rates = _rates(call.get("provider"), call.get("model"), at[:_MINUTE_LENGTH])
    if rates is None:
        return None
    cost = rates.cost(counts)
    if cost is None:
        return None
    into, out, total = cost
    return {
        "table": TABLE,
        "version": TABLE_VERSION,
        "at": at,
        "currency": CURRENCY,
        "input": _text(into),
        "output": _text(out),
        "amount": _text(total),
    }


def _text(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, eq=False)
class _ById:
    """A price as a cache key: by identity, since the table's objects live as long as the process."""

    model_price: ModelPrice

    def __hash__(self) -> int:
        return id(self.model_price)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.model_price is other.model_price


@dataclass(frozen=True, slots=True)
class _Rates:
    """The price of one model at one time: a constant and a rate per token of each count, or the table's way for
    tiers."""

    key: _ById
    constant: Cost
    per_token: tuple[Cost, ...]  # one per count; empty for tiered prices

    def cost(self, counts: Counts) -> Cost | None:
        if not self.per_token:
            return _cost_by_table(self.key, counts)
        into, out, total = self.constant
        for count, (rate_in, rate_out, rate_total) in zip(counts, self.per_token, strict=True):
            if count:
                into += rate_in * count
                out += rate_out * count
                total += rate_total * count
        return into, out, total


@lru_cache(maxsize=4096)
def _rates(provider_name: str | None, model_name: str | None, minute: str) -> _Rates | None:
    model = _model(provider_name, model_name)
    if model is None:
        return None
    return _rates_of(_ById(model.get_prices(datetime.fromisoformat(minute + "+00:00"))))


@lru_cache(maxsize=4096)
def _rates_of(key: _ById) -> _Rates | None:
    zero = _cost_by_table(key, (0, 0, 0, 0, 0))
    if zero is None:
        return None
    if any(isinstance(value, TieredPrices) for value in vars(key.model_price).values()):
        return _Rates(key, zero, ())
    # A token's rate is the difference that one makes; cached tokens count as input tokens and reasoning as output too.
    one_in = _cost_by_table(key, (1, 0, 0, 0, 0))
    one_out = _cost_by_table(key, (0, 1, 0, 0, 0))
    one_read = _cost_by_table(key, (1, 0, 1, 0, 0))
    one_write = _cost_by_table(key, (1, 0, 0, 1, 0))
    one_reasoning = _cost_by_table(key, (0, 1, 0, 0, 1))
    if one_in is None or one_out is None or one_read is None or one_write is None or one_reasoning is None:
        return None
    pairs = ((one_in, zero), (one_out, zero), (one_read, one_in), (one_write, one_in), (one_reasoning, one_out))
    return _Rates(key, zero, tuple(_difference(more, less) for more, less in pairs))


def _difference(more: Cost, less: Cost) -> Cost:
    return (more[0] - less[0], more[1] - less[1], more[2] - less[2])


@lru_cache(maxsize=16_384)
def _cost_by_table(key: _ById, counts: Counts) -> Cost | None:
    usage = Usage(**{key: count for key, count in zip(_USAGE_KEYS, counts, strict=True) if count})
    try:
        cost = key.model_price.calc_price(usage)
    except ValueError:  # the table finds that the counts contradict each other
        return None
    return cost["input_price"], cost["output_price"], cost["total_price"]


@lru_cache(maxsize=4096)
def _model(provider_name: str | None, model_name: str | None) -> ModelInfo | None:
    """Look-ups of our own: the table's keep every name ever asked for, and names come from outside."""
    if not model_name:
        return None
    provider = _provider(provider_name, model_name)
    return provider.find_model(model_name, all_providers=providers) if provider else None


def _provider(provider_name: str | None, model_name: str) -> Provider | None:
    if provider_name is not None:
        return find_provider_by_id(providers, provider_name)
    for provider in providers:
        if provider.model_match is not None and provider.model_match.is_match(model_name.lower()):
            return provider
    return None
