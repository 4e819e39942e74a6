"""From a model to the checks of the hot path: one dictionary look-up and one call a member, no model instance.

The models stay the truth. What is compiled accepts, refuses and returns exactly what pydantic would for the same public
members (a property test holds both together); it is here only because it costs a third.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.errors import SchemaError
from schemas.fields import ByLedger, Form, Mark

Check = Callable[[Any], Any]


class UnknownMember(Exception):  # noqa: N818 - a signal between two of our functions, never an error that leaves them
    """A nested object has a member that its model does not know: it belongs into /raw, with its text."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model, compiled."""

    checks: dict[str, Check]  # public members that a producer may send
    by_ledger: dict[str, Check]  # public members that only the ledger sets
    content: frozenset[str]
    persons: tuple[str, ...]
    required: tuple[str, ...]
    references: tuple[str, ...]  # members that name events
    reference_lists: tuple[str, ...]
    nested: dict[str, Nested]  # members that hold objects, for finding what is unknown in them
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class Nested:
    """A member that holds an object (or a list of them) of this shape."""

    shape: Shape
    is_list: bool


def shape(model: type[BaseModel]) -> Shape:
    """Compile a model of `schemas.kinds`. Raises TypeError for an annotation that has no compiled form."""
    checks: dict[str, Check] = {}
    by_ledger: dict[str, Check] = {}
    content, persons, required = set(), set(), []
    references, reference_lists = [], []
    nested: dict[str, Nested] = {}
    for field_name, info in model.model_fields.items():
        name = info.alias or field_name
        annotation = annotation_of(info)
        form = form_of(annotation)
        if form is not None and form.mark == "content":
            content.add(name)
            continue
        if form is not None and form.mark == "person":
            persons.add(name)
        if is_by_ledger(info):
            by_ledger[name] = _check(annotation)
            continue
        checks[name] = _check(annotation)
        if info.is_required():
            required.append(name)
        if form is not None and form.reference:
            references.append(name)
        if get_origin(annotation) is list:
            item = get_args(annotation)[0]
            item_form = form_of(item)
            if item_form is not None and item_form.reference:
                reference_lists.append(name)
            if is_model(item):
                nested[name] = Nested(shape(item), is_list=True)
        elif is_model(annotation):
            nested[name] = Nested(shape(annotation), is_list=False)
    return Shape(
        checks=checks,
        by_ledger=by_ledger,
        content=frozenset(content),
        persons=tuple(sorted(persons)),
        required=tuple(sorted(required)),
        references=tuple(references),
        reference_lists=tuple(reference_lists),
        nested=nested,
        members=frozenset(info.alias or name for name, info in model.model_fields.items()),
    )


def property_marks(model: type[BaseModel]) -> dict[str, tuple[Mark, bool]]:
    """Per member: its mark, and whether only the ledger sets it."""
    marks: dict[str, tuple[Mark, bool]] = {}
    for field_name, info in model.model_fields.items():
        form = form_of(annotation_of(info))
        by_ledger = is_by_ledger(info)
        marks[info.alias or field_name] = (form.mark if form else "public", by_ledger)
    return marks


def is_by_ledger(info: FieldInfo) -> bool:
    """Whether only the ledger sets the member."""
    return any(isinstance(mark, ByLedger) for mark in info.metadata)


def annotation_of(info: FieldInfo) -> Any:
    """The field's type without None; with its Form, which pydantic moves into the metadata of a required field."""
    form = next((mark for mark in info.metadata if isinstance(mark, Form)), None)
    if form is not None:
        return Annotated[info.annotation, form]
    annotation: Any = info.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    return annotation


def form_of(annotation: Any) -> Form | None:
    """The form of a single value; None for a list, an object or a choice of words."""
    if get_origin(annotation) is Annotated:
        return next((mark for mark in get_args(annotation)[1:] if isinstance(mark, Form)), None)
    return None


def is_model(annotation: Any) -> bool:
    """Whether members of this type hold an object of a model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _check(annotation: Any) -> Check:
    form = form_of(annotation)
    if form is not None:
        return form.check
    origin = get_origin(annotation)
    if origin is Literal:
        return _literal_check(get_args(annotation))
    if origin is list:
        return _list_check(_check(get_args(annotation)[0]))
    if is_model(annotation):
        return _object_check(shape(annotation))
    raise TypeError(f"no compiled form for {annotation!r}")


def _literal_check(words: tuple[Any, ...]) -> Check:
    allowed = frozenset(words)
    message = f"expected one of {', '.join(words)}"

    def check(value: Any) -> Any:
        if type(value) is str and value in allowed:
            return value
        raise SchemaError(message)

    return check


def _list_check(item_check: Check) -> Check:
    def check(value: Any) -> list[Any]:
        if type(value) is not list:
            raise SchemaError("expected an array")
        return [item_check(item) for item in value]

    return check


def _object_check(of: Shape) -> Check:
    checks, required = of.checks, of.required

    def check(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise SchemaError("expected an object")
        normal: dict[str, Any] = {}
        for name, member in value.items():
            member_check = checks.get(name)
            if member_check is None:
                raise UnknownMember(name)
            if member is None:
                continue
            try:
                normal[name] = member_check(member)
            except SchemaError as wrong:
                raise type(wrong)(f"{name}: {wrong}") from None
        for name in required:
            if name not in normal:
                raise SchemaError(f"{name}: missing")
        return normal

    return check
