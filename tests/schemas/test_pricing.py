"""Prices are the table's own, exact, by date, and absent where the table does not know."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import canonical_bytes
from schemas.kinds import KINDS
from schemas.pricing import TABLE, TABLE_VERSION, price
from schemas.values import is_decimal

AT = "2026-11-21T09:00:00.000000Z"
MODELS = [
    ("openai", "gpt-4.1-mini"),
    ("openai", "gpt-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gcp.vertex_ai", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("deepseek", "deepseek-chat"),
    ("openai", "o3"),
    ("openai", "text-embedding-3-small"),
]


def test_a_price() -> None:
    call = {"provider": "openai", "model": "gpt-4.1-mini", "input_tokens": 1_000_000, "output_tokens": 500_000}
    assert price(call, AT) == {
        "table": TABLE,
        "version": TABLE_VERSION,
        "at": AT,
        "currency": "USD",
        "input": "0.4",
        "output": "0.8",
        "amount": "1.2",
    }


@given(
    st.sampled_from(MODELS),
    st.tuples(*[st.integers(0, 400_000)] * 2),
    st.tuples(*[st.integers(0, 100)] * 3),
    st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001 - made UTC below
)
def test_prices_are_the_tables_own(
    model: tuple[str, str], tokens: tuple[int, int], shares: tuple[int, int, int], moment: datetime
) -> None:
    into, out = tokens
    read = into * shares[0] // 100
    write = (into - read) * shares[1] // 100
    reasoning = out * shares[2] // 100
    moment = moment.replace(second=0, microsecond=0, tzinfo=UTC)
    provider, name = model
    call = {
        "provider": provider,
        "model": name,
        "input_tokens": into,
        "output_tokens": out,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "reasoning_tokens": reasoning,
    }
    usage = Usage(
        input_tokens=into,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_reasoning_tokens=reasoning,
    )
    expected = calc_price(usage, name, provider_id=provider, genai_request_timestamp=moment)
    found = price(call, f"{moment:%Y-%m-%dT%H:%M:%S}.000000Z")
    assert found is not None
    assert Decimal(found["input"]) == expected.input_price
    assert Decimal(found["output"]) == expected.output_price
    assert Decimal(found["amount"]) == expected.total_price
    assert all(is_decimal(found[name]) for name in ("input", "output", "amount"))
    canonical_bytes(found)
    KINDS["model_call"].shape.by_ledger["price"](found)


def test_prices_move_with_the_date_and_with_the_hour() -> None:
    o3 = {"provider": "openai", "model": "o3", "input_tokens": 1_000_000}
    chat = {"provider": "deepseek", "model": "deepseek-chat", "input_tokens": 1_000_000}
    for call, one, other in [
        (o3, "2025-06-09T23:59", "2025-06-10T00:00"),
        (chat, "2026-11-21T12:00", "2026-11-21T20:00"),
    ]:
        before, after = price(call, f"{one}:00.000000Z"), price(call, f"{other}:00.000000Z")
        assert before is not None
        assert after is not None
        assert before["amount"] != after["amount"]


@pytest.mark.parametrize(
    "call",
    [
        {"provider": "openai", "model": "no-such-model", "input_tokens": 1},
        {"provider": "no-such-provider", "model": "gpt-4.1", "input_tokens": 1},
        {"model": "no-such-model", "input_tokens": 1},
        {"provider": "openai", "model": "gpt-4.1"},
        {"provider": "openai", "input_tokens": 1},
        {"provider": "", "model": "", "input_tokens": 1},
        {"provider": "openai", "model": "gpt-4.1", "input_tokens": 1, "cache_read_tokens": 2},
        {"provider": "openai", "model": "gpt-4.1", "output_tokens": 1, "reasoning_tokens": 2},
    ],
)
def test_what_is_unknown_or_contradictory_has_no_price(call: dict[str, object]) -> None:
    assert price(call, AT) is None


def test_a_model_without_a_provider_is_found_by_its_name() -> None:
    with_provider = price({"provider": "openai", "model": "gpt-4.1-mini", "input_tokens": 986}, AT)
    assert price({"model": "gpt-4.1-mini", "input_tokens": 986}, AT) == with_provider


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_names_are_taken(provider: str, model: str) -> None:
    price({"provider": provider, "model": model, "input_tokens": 1}, AT)
