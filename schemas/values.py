"""The forms of single values: decimals, times, run ids, UUIDs.

Each function returns the one normal form or raises `SchemaError`; none rounds, and none invents a digit.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from jiter import LosslessFloat

from schemas.errors import SchemaError

INTEGER_MAX: Final = 2**53 - 1  # what every JSON reader keeps exactly (RFC 8785, RFC 7493)
DECIMAL_DIGITS_MAX: Final = 38  # fits decimal128 and Postgres numeric(38, n) alike

DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
RUN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
NORMAL_TIME = re.compile(
    r"(?:19[7-9][0-9]|[2-9][0-9]{3})-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))"
)
_YEAR_MIN: Final = 1970


def is_decimal(text: str) -> bool:
    """Whether the text already is a decimal of the leaf profile."""
    return DECIMAL.fullmatch(text) is not None and sum(map(str.isdigit, text)) <= DECIMAL_DIGITS_MAX


def decimal_text(value: object) -> str:
    """The decimal of the profile for a JSON number (token, `LosslessFloat`, int) or a string holding one.

    Digits are kept as written, trailing zeros too; an exponent is expanded. Raises SchemaError for anything else
    (floats among it: their digits are already lost) and above 38 digits.
    """
    kind = type(value)
    if kind is str:
        text = str(value)
    elif kind is LosslessFloat or kind is int:
        if kind is int and not -(10**DECIMAL_DIGITS_MAX) < int(value) < 10**DECIMAL_DIGITS_MAX:  # type: ignore[call-overload]
            raise SchemaError(f"expected a decimal of at most {DECIMAL_DIGITS_MAX} digits, got a longer integer")
        text = str(value)
    else:
        raise SchemaError(f"expected a decimal, got {kind.__name__}")
    if len(text) <= DECIMAL_DIGITS_MAX and DECIMAL.fullmatch(text):
        return text
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise SchemaError("expected a decimal: digits with an optional sign, point and exponent")
    sign, whole, fraction, exponent = match.groups(default="")
    expanded = _expand(whole, fraction, exponent)
    if sum(map(str.isdigit, expanded)) > DECIMAL_DIGITS_MAX:
        raise SchemaError(f"expected a decimal of at most {DECIMAL_DIGITS_MAX} digits")
    return sign + expanded


def _expand(whole: str, fraction: str, exponent: str) -> str:
    if len(exponent) > 4:  # beyond 9999 places the digit limit is broken anyway; and so `int` stays cheap
        raise SchemaError(f"expected a decimal of at most {DECIMAL_DIGITS_MAX} digits, got an exponent far beyond")
    digits, point = whole + fraction, len(whole) + int(exponent or 0)
    if point <= 0:
        digits, point = "0" * (1 - point) + digits, 1
    elif point > len(digits):
        digits += "0" * (point - len(digits))
    head, tail = digits[:point].lstrip("0") or "0", digits[point:]
    return f"{head}.{tail}" if tail else head


def timestamp(text: object) -> str:
    """An RFC 3339 time of any offset as `YYYY-MM-DDThh:mm:ss.ffffffZ`, further digits cut off.

    Raises SchemaError for another form, a day that does not exist, a leap second, a year outside 1970 to 9999 (in UTC).
    """
    if type(text) is not str:
        raise SchemaError(f"expected an RFC 3339 time, got {type(text).__name__}")
    if NORMAL_TIME.fullmatch(text):
        return text
    match = _TIME.fullmatch(text) if text.isascii() else None
    if match is None:
        raise SchemaError("expected an RFC 3339 time like 2026-11-21T09:00:00Z")
    year, month, day, hour, minute, second, fraction, zulu, sign, offset_hour, offset_minute = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        if not zulu:
            if int(offset_hour) > 23 or int(offset_minute) > 59:
                raise SchemaError("expected an offset of less than 24 hours")
            offset = timedelta(hours=int(offset_hour), minutes=int(offset_minute))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError) as wrong:
        raise SchemaError("expected a time that exists, in the years 1970 to 9999") from wrong
    if moment.year < _YEAR_MIN:
        raise SchemaError("expected a time in the years 1970 to 9999")
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction or '')[:6]:0<6}Z"


def is_run_id(value: object) -> bool:
    """1 to 128 of `[A-Za-z0-9._:-]`."""
    return type(value) is str and RUN_ID.fullmatch(value) is not None


def is_uuid(text: str) -> bool:
    """A UUID of version 4 or 7 in 8-4-4-4-12 lower-case hex digits: what a CloudEvents id may keep."""
    return _UUID.fullmatch(text) is not None
