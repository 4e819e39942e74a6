"""The quick way to read a record: msgspec parses its members, checks them and tells them apart in one pass.

Guarantees: what `read_attributes` and `Reader` return is what the general way (`schemas.normalize`) finds in the same
text, since each type here takes only values that the kind's own check takes and leaves as they are. Does not: refuse
anything. For what is not plainly good (white space between members, another spelling of a value, an unknown or repeated
member, a null, a number where a decimal's text is usual) both return None, and the general way decides.

Repeated and unknown members leave no trace in what msgspec returns. They show in the length: msgspec writes every value
in its shortest spelling, so what was read, written again, is as long as the text only where every byte of the text
belongs to a member that was read.
"""

from __future__ import annotations

from collections.abc import Callable
from re import Pattern
from typing import Annotated, Any, Final, Literal, Required, TypedDict, get_args, get_origin

import msgspec
from pydantic import BaseModel

from schemas import fields, values
from schemas.compile import annotation_of, form_of, is_by_ledger
from schemas.kinds import TYPES

_REFUSED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MEMBERS_SKIPPED: Final = frozenset({"attestation"})  # it is over the text of all others, which the general way keeps
_write = msgspec.json.Encoder().encode


class _Attributes(TypedDict, total=False):
    """The attributes of a structured CloudEvent that we know, all of them texts."""

    specversion: Required[str]
    type: Required[str]
    id: Required[str]
    source: Required[str]
    subject: str
    time: str
    sequence: str
    producerid: str
    tenant: str
    traceparent: str
    datasubject: str
    datacontenttype: str
    data: msgspec.Raw  # msgspec can't require a Raw


_decode_attributes: Final = msgspec.json.Decoder(_Attributes).decode


def read_attributes(record: bytes) -> dict[str, Any] | None:
    """The attributes of a structured record, the text of `data` as a msgspec.Raw among them; None: not plainly good."""
    try:
        attributes: dict[str, Any] = _decode_attributes(record)  # type: ignore[assignment]
        if len(_write(attributes)) == len(record) and "data" in attributes and is_utf8(record):
            return attributes
    except _REFUSED:
        pass
    return None


class Reader:
    """Reads `data` of one kind."""

    __slots__ = ("_content", "_decode")

    def __init__(self, model: type[BaseModel]) -> None:
        members = _members(model, _MEMBERS_SKIPPED)
        self._decode = msgspec.json.Decoder(_typed_dict(model, members)).decode
        self._content = tuple(sorted(name for name, type_ in members.items() if type_ is msgspec.Raw))

    def read(self, text: bytes | msgspec.Raw) -> tuple[dict[str, Any], dict[str, bytes]] | None:
        """(public members, texts of content members) of the text of `data`, known to be UTF-8; None: not plainly good.

        msgspec does not decode what it leaves as text, so it would not notice bytes there that are not UTF-8.
        """
        try:
            public: dict[str, Any] = self._decode(text)
            if len(_write(public)) == len(text):
                return public, {name: bytes(public.pop(name)) for name in self._content if name in public}
        except _REFUSED:
            pass
        return None


_readers: Final[dict[str, Reader]] = {}


def reader_of(type_: str) -> Reader | None:
    """The reader for a CloudEvents type; None where nobody may send it."""
    reader = _readers.get(type_)
    if reader is None:
        kind = TYPES.get(type_)
        if kind is not None and not kind.ledger_only:
            reader = _readers[type_] = Reader(kind.model)
    return reader


def is_utf8(text: bytes) -> bool:
    """Whether the text is UTF-8."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# -- types ----------------------------------------------------------------------------------------------------------


def _matching(pattern: Pattern[str], max_length: int | None = None) -> Any:
    return Annotated[str, msgspec.Meta(pattern=rf"\A(?:{pattern.pattern})\Z", max_length=max_length)]


def _integer_from(minimum: int) -> Any:
    return Annotated[int, msgspec.Meta(ge=minimum, le=values.INTEGER_MAX)]


# By the check of a form, the values that it takes and leaves as they are. An open object has no type: it is read in
# the general way.
_TYPES: Final[dict[Callable[[Any], Any], Any]] = {
    fields.check_text: str,
    fields.check_name: Annotated[str, msgspec.Meta(min_length=1)],
    fields.check_integer: _integer_from(-values.INTEGER_MAX),
    fields.check_count: _integer_from(0),
    fields.check_ordinal: _integer_from(1),
    fields.check_boolean: bool,
    fields.check_digest: _matching(fields.DIGEST),
    fields.check_currency: _matching(fields.CURRENCY),
    fields.check_run: _matching(values.RUN_ID),
    fields.check_step: str | _integer_from(-values.INTEGER_MAX),
    fields.check_verified: bool,
    fields.check_content: msgspec.Raw,
    values.decimal_text: _matching(values.DECIMAL, values.DECIMAL_DIGITS_MAX),
    values.timestamp: _matching(values.NORMAL_TIME),
}


def _members(model: type[BaseModel], skipped: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The members that a producer may send and that have a type here."""
    named = {info.alias or name: info for name, info in model.model_fields.items()}
    types = {
        name: _type(annotation_of(info))
        for name, info in named.items()
        if name not in skipped and not is_by_ledger(info)
    }
    return {  # content is never required, and msgspec can't require a Raw
        name: Required[type_] if named[name].is_required() and type_ is not msgspec.Raw else type_
        for name, type_ in types.items()
        if type_ is not None
    }


def _typed_dict(model: type[BaseModel], members: dict[str, Any]) -> Any:
    return TypedDict(model.__name__, members, total=False)  # type: ignore[operator]  # made of a model, not written


def _type(annotation: Any) -> Any:
    form = form_of(annotation)
    if form is not None:
        return _TYPES.get(form.check)
    origin = get_origin(annotation)
    if origin is Literal:
        return annotation
    if origin is list:
        item = _type(get_args(annotation)[0])
        return None if item is None else list[item]  # type: ignore[valid-type]  # made at run time
    return _typed_dict(annotation, _members(annotation))
