"""Decimals keep their digits, times have one form, ids and run ids have an alphabet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jiter import LosslessFloat

from schemas.errors import SchemaError
from schemas.values import decimal_text, is_decimal, is_run_id, is_uuid, timestamp
from tests.schemas import strategies as some


@pytest.mark.parametrize(
    ("written", "decimal"),
    [
        ("0", "0"),
        ("1.250", "1.250"),
        ("12.90", "12.90"),
        ("-0.0", "-0.0"),
        ("1e3", "1000"),
        ("1.5E+2", "150"),
        ("1.50e1", "15.0"),
        ("1.5e-3", "0.0015"),
        ("0e5", "0"),
        ("0.00e1", "0.0"),
        ("9" * 38, "9" * 38),
        ("0." + "1" * 37, "0." + "1" * 37),
    ],
)
def test_a_decimal_keeps_its_digits(written: str, decimal: str) -> None:
    assert decimal_text(written) == decimal_text(LosslessFloat(written.encode())) == decimal
    assert is_decimal(decimal)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "1.",
        ".5",
        "+1",
        "01",
        "1,5",
        "1_000",
        "\u0661",
        " 1",
        "1\n",
        "NaN",
        "1e38",
        "1e-38",
        "1e99999999999",
        "9" * 39,
        None,
        True,
        1.5,
        b"1",
        [],
        10**38,
        -(10**38),
    ],
)
def test_what_is_no_decimal_is_refused(wrong: object) -> None:
    with pytest.raises(SchemaError):
        decimal_text(wrong)


@given(some.numbers)
def test_a_decimal_is_the_number_that_was_written(written: str) -> None:
    try:
        decimal = decimal_text(written)
    except SchemaError:
        assert sum(map(str.isdigit, format(Decimal(written), "f"))) > 38
        return
    assert is_decimal(decimal)
    assert Decimal(decimal) == Decimal(written)
    assert decimal_text(decimal) == decimal


@given(st.integers(-(10**38) + 1, 10**38 - 1))
def test_integers_are_decimals(value: int) -> None:
    assert int(decimal_text(value)) == value


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone is drawn beside it
    st.integers(-14 * 60, 14 * 60),
    st.text("0123456789", max_size=12),
)
def test_times_of_any_offset_become_utc_cut_to_microseconds(local: datetime, minutes: int, digits: str) -> None:
    zone = timezone(timedelta(minutes=minutes))
    moment = local.replace(microsecond=0, tzinfo=zone)
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    written = f"{moment:%Y-%m-%dT%H:%M:%S}{'.' + digits if digits else ''}{offset}"
    normal = timestamp(written)
    expected = moment.astimezone(UTC).replace(microsecond=int(digits[:6].ljust(6, "0")))
    assert normal == f"{expected:%Y-%m-%dT%H:%M:%S}.{expected.microsecond:06}Z"
    assert timestamp(normal) == normal


@pytest.mark.parametrize(
    "wrong",
    [
        "2026-11-21",
        "2026-11-21 09:00:00Z",
        "2026-11-21T09:00:00",
        "2026-11-21T09:00:60Z",
        "2026-11-21T24:00:00Z",
        "2026-02-29T09:00:00Z",
        "2026-13-01T09:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:59:59+01:00",
        "9999-12-31T23:30:00-01:00",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-21T09:00:00+24:00",
        "2026-11-21T09:00:00.Z",
        "2026-11-21T09:00:00Z\n",
        "\u0662026-11-21T09:00:00Z",
        1763712000,
        None,
    ],
)
def test_what_is_no_time_is_refused(wrong: object) -> None:
    with pytest.raises(SchemaError):
        timestamp(wrong)


def test_the_28th_and_later_days_are_the_calendars() -> None:
    assert timestamp("2028-02-29T00:00:00.000000Z") == "2028-02-29T00:00:00.000000Z"
    with pytest.raises(SchemaError):
        timestamp("2026-02-29T00:00:00.000000Z")


def test_an_integer_too_long_to_print_is_refused() -> None:
    with pytest.raises(SchemaError):
        decimal_text(10**6000)


def test_run_ids_and_uuids() -> None:
    assert is_run_id("7f31-returns")
    assert is_run_id("a" * 128)
    assert not any(is_run_id(wrong) for wrong in ("", "a" * 129, "a b", "a/b", "\u00e9", "a\n", None, 1))
    assert is_uuid("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
    assert is_uuid("0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4a5b")
    assert not is_uuid("0190a1b2-c3d4-5e5f-8a9b-0c1d2e3f4a5b")
    assert not is_uuid("0190A1B2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
    assert not is_uuid("0190a1b2c3d47e5f8a9b0c1d2e3f4a5b")


def test_exact_multiplication_needs_no_more_than_our_digits() -> None:
    assert Context(prec=41).multiply(Decimal("9" * 38), Decimal(1000)) == int("9" * 38) * 1000
