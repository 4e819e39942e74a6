"""What can go wrong with words and bytes.

    SchemaError (ValueError)
    ├── ProfileError       a value or its bytes are outside the leaf profile of RFC 8785
    ├── Rejection          a record can't become an event; `code` is what the `rejected` entry says
    ├── ContractError      an agent contract can't be read
    └── UpcastError        no way leads from a stored form to the current one

Nothing else leaves the functions of this package, whatever bytes they are given.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Code = Literal[
    "not_json",
    "too_deep",
    "duplicate_member",
    "lone_surrogate",
    "bad_number",
    "schema",
    "unknown_kind",
    "reserved_kind",
    "bad_id",
    "bad_run",
    "bad_time",
    "bad_sequence",
    "bad_header",
    "defect",
]
CODES: Final[frozenset[str]] = frozenset(get_args(Code))

DETAIL_CHARACTERS_MAX: Final = 400  # the detail stands in a public leaf: it names members, never values


class SchemaError(ValueError):
    """Root of this package's errors."""


class ProfileError(SchemaError):
    """Outside the leaf profile: says what was expected, what was found, and where."""


class Rejection(SchemaError):  # noqa: N818 - the word of the log: a record is rejected, its entry is `rejected`
    """The record can't become an event. `code` is closed, `detail` names members and forms but repeats no value."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Code = code
        self.detail = detail.encode("ascii", "backslashreplace").decode("ascii")[:DETAIL_CHARACTERS_MAX]


class ContractError(SchemaError):
    """An agent contract can't be read: says which member, expected and got."""


class UpcastError(SchemaError):
    """No upcaster leads from this form and version to the current one."""
