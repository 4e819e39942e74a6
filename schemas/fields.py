"""The types that kinds are written with, and the marks that tell public, content and person members apart.

A type is pydantic's and the fast check's at once: both call the one function in `Form`. The marks travel into the
published JSON Schema as `x-tallystick`: `public`, `content` or `person`. A member that only the ledger sets is
`readOnly` there; sent by a producer it counts as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from jiter import LosslessFloat
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from schemas.errors import ProfileError, SchemaError
from schemas.values import DECIMAL_DIGITS_MAX, INTEGER_MAX, decimal_text, is_run_id, timestamp

Mark = Literal["public", "content", "person"]
OPEN_DEPTH_MAX: Final = 16  # levels in a public open object; the leaf around it has 32

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, eq=False)
class Form:
    """One form of value. `check` returns the normal value or raises SchemaError; it is the only judge of the form."""

    check: Callable[[Any], Any]
    json_schema: dict[str, Any]
    mark: Mark = "public"
    reference: bool = False  # an event id, to be mapped with the carrying event's source

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.json_schema)


@dataclass(frozen=True)
class ByLedger:
    """Marks a member that only the ledger sets."""


def _got(value: object) -> str:
    names = {"LosslessFloat": "a number with a fraction or exponent", "dict": "an object", "list": "an array"}
    kind = type(value).__name__
    return "null" if value is None else names.get(kind, kind)


def check_text(value: Any) -> str:
    if type(value) is not str:
        raise SchemaError(f"expected a string, got {_got(value)}")
    return value


def check_name(value: Any) -> str:
    if type(value) is not str or not value:
        raise SchemaError(f"expected a string that is not empty, got {_got(value)}")
    return value


def check_integer(value: Any) -> int:
    """A JSON integer; a number like 5.0 or 1e3, equal to one, is that integer (as JSON Schema has it)."""
    if type(value) is int:
        number = value
    elif type(value) is LosslessFloat:
        whole, _, fraction = decimal_text(value).partition(".")
        if fraction.strip("0"):
            raise SchemaError("expected an integer, got a number with a fraction")
        number = int(whole)
    else:
        raise SchemaError(f"expected an integer, got {_got(value)}")
    if not -INTEGER_MAX <= number <= INTEGER_MAX:
        raise SchemaError("expected an integer within ±(2^53-1)")
    return number


def check_count(value: Any) -> int:
    if type(value) is int and 0 <= value <= INTEGER_MAX:
        return value
    number = check_integer(value)
    if number < 0:
        raise SchemaError("expected an integer of at least 0")
    return number


def check_ordinal(value: Any) -> int:
    number = check_integer(value)
    if number < 1:
        raise SchemaError("expected an integer of at least 1")
    return number


def check_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise SchemaError(f"expected true or false, got {_got(value)}")
    return value


def check_digest(value: Any) -> str:
    if type(value) is not str or not DIGEST.fullmatch(value):
        raise SchemaError("expected sha256: and 64 lower-case hex digits")
    return value


def check_currency(value: Any) -> str:
    if type(value) is not str or not CURRENCY.fullmatch(value):
        raise SchemaError("expected a currency code of three capital letters")
    return value


def check_run(value: Any) -> str:
    if not is_run_id(value):
        raise SchemaError("expected a run id: 1 to 128 of A-Z a-z 0-9 . _ : -")
    return str(value)


def check_step(value: Any) -> str | int:
    return value if type(value) is str else check_integer(value)


def check_verified(value: Any) -> bool | str:
    """true, false or "pending"; the words "true" and "false" are the booleans."""
    normal = {"true": True, "false": False, "pending": "pending"}.get(value) if type(value) is str else value
    if type(normal) is not bool and normal != "pending":
        raise SchemaError('expected true, false or "pending"')
    return normal


def check_content(value: Any) -> Any:
    return value


def check_open(value: Any) -> dict[str, Any]:
    """A public open object: profile values, ASCII names, numbers with a fraction as decimals, nulls left out."""
    if type(value) is not dict:
        raise SchemaError(f"expected an object, got {_got(value)}")
    return _open_object(value, 1)


def _open_object(value: dict[str, Any], depth: int) -> dict[str, Any]:
    if depth > OPEN_DEPTH_MAX:
        raise ProfileError(f"expected at most {OPEN_DEPTH_MAX} levels")
    if not all(type(name) is str and name.isascii() for name in value):
        raise SchemaError("expected member names in ASCII")
    return {name: _open_value(member, depth) for name, member in value.items() if member is not None}


def _open_value(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str or kind is bool or value is None:  # None: an item of a list; as a member it is left out before
        return value
    if kind is dict:
        return _open_object(value, depth + 1)
    if kind is list:
        if depth + 1 > OPEN_DEPTH_MAX:
            raise ProfileError(f"expected at most {OPEN_DEPTH_MAX} levels")
        return [_open_value(item, depth + 1) for item in value]
    if kind is LosslessFloat:
        return decimal_text(value)
    return check_integer(value)


_STRING: Final[dict[str, Any]] = {"type": "string"}
_DECIMAL_PATTERN: Final = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"

Text = Annotated[str, Form(check_text, _STRING)]
Name = Annotated[str, Form(check_name, {"type": "string", "minLength": 1})]
Integer = Annotated[int, Form(check_integer, {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX})]
Count = Annotated[int, Form(check_count, {"type": "integer", "minimum": 0, "maximum": INTEGER_MAX})]
Microseconds = Annotated[
    int, Form(check_count, {"type": "integer", "minimum": 0, "maximum": INTEGER_MAX, "description": "microseconds"})
]
Ordinal = Annotated[int, Form(check_ordinal, {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX})]
Boolean = Annotated[bool, Form(check_boolean, {"type": "boolean"})]
Decimal = Annotated[
    str,
    Form(
        decimal_text,
        {
            "anyOf": [{"type": "string", "pattern": _DECIMAL_PATTERN}, {"type": "number"}],
            "description": f"a decimal of at most {DECIMAL_DIGITS_MAX} digits, kept as written; a string in the leaf",
        },
    ),
]
Digest = Annotated[str, Form(check_digest, {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"})]
Currency = Annotated[str, Form(check_currency, {"type": "string", "pattern": "^[A-Z]{3}$"})]
Moment = Annotated[str, Form(timestamp, {"type": "string", "format": "date-time"})]
RunId = Annotated[str, Form(check_run, {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"})]
Step = Annotated[str | int, Form(check_step, {"anyOf": [_STRING, {"type": "integer"}]})]
Verified = Annotated[bool | str, Form(check_verified, {"enum": [True, False, "pending", "true", "false"]})]
EventRef = Annotated[
    str, Form(check_name, {"type": "string", "minLength": 1, "description": "the id of an event"}, reference=True)
]
Open = Annotated[
    dict[str, Any], Form(check_open, {"type": "object", "propertyNames": {"pattern": "^[\\u0000-\\u007f]*$"}})
]
Content = Annotated[Any, Form(check_content, {"description": "any JSON; kept as its exact text"}, mark="content")]
Person = Annotated[str, Form(check_name, {"type": "string", "minLength": 1}, mark="person")]
