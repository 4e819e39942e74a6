"""Hypothesis strategies for JSON, and for members of each kind's `data`."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from schemas import compile as compiled
from schemas.values import INTEGER_MAX

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=8)
integers = st.integers(-INTEGER_MAX, INTEGER_MAX)

profile = st.recursive(
    st.none() | st.booleans() | integers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
profile_objects = st.dictionaries(names, profile, max_size=6)

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,12})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
decimals = st.from_regex(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?([eE][+-]?[0-9])?", fullmatch=True)
spaces = st.sampled_from(["", " ", "\n", "\t \r"])


@st.composite
def json_text(draw: st.DrawFn, depth: int = 3) -> str:
    """Any JSON text: odd white space, escapes, repeated members, lone surrogates and long numbers among it."""
    kind = draw(st.sampled_from(["number", "string", "word", "array", "object"] if depth else ["number", "word"]))
    before, after = draw(spaces), draw(spaces)
    if kind == "number":
        body = draw(numbers)
    elif kind == "word":
        body = draw(st.sampled_from(["true", "false", "null"]))
    elif kind == "string":
        body = draw(json_strings())
    elif kind == "array":
        body = "[" + ",".join(draw(st.lists(json_text(depth - 1), max_size=3))) + "]"
        body = "[ ]" if body == "[]" and draw(st.booleans()) else body
    else:
        parts = draw(st.lists(st.tuples(json_strings(), json_text(depth - 1)), max_size=3))
        body = "{" + ",".join(f"{name}{draw(spaces)}:{value}" for name, value in parts) + "}"
    return before + body + after


@st.composite
def json_strings(draw: st.DrawFn) -> str:
    pieces = st.one_of(
        st.sampled_from(
            ["a", "b", "\\n", "\\u0041", "\\ud800", "\\udc00", "\\ud83d\\ude00", "\u00e9", "\U0001f600", "\ue000"]
        ),
        st.sampled_from(['\\"', "\\\\", "\\/", " ", "\x7f", "\\u0000"]),
    )
    return '"' + "".join(draw(st.lists(pieces, max_size=4))) + '"'


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | text
    | st.sampled_from(["1.50", "pass", "low", "x" * 40]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


def good(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that the annotation's check mostly accepts."""
    form = compiled.form_of(annotation)
    if form is not None:
        return _by_check(form.check.__name__)
    origin = get_origin(annotation)
    if origin is Literal:
        return st.sampled_from(get_args(annotation))
    if origin is list:
        return st.lists(good(get_args(annotation)[0]), max_size=3)
    assert issubclass(annotation, BaseModel)
    return data_of(annotation)


def _by_check(name: str) -> st.SearchStrategy[Any]:
    return {
        "check_text": text,
        "check_name": text.filter(bool),
        "check_integer": integers,
        "check_count": st.integers(0, INTEGER_MAX),
        "check_ordinal": st.integers(1, INTEGER_MAX),
        "check_boolean": st.booleans(),
        "check_digest": st.just("sha256:" + "0f" * 32),
        "check_currency": st.sampled_from(["EUR", "USD"]),
        "check_run": st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True),
        "check_step": text | integers,
        "check_verified": st.sampled_from([True, False, "pending", "true"]),
        "check_content": any_json,
        "check_open": st.dictionaries(names, profile, max_size=3),
        "decimal_text": decimals,
        "timestamp": st.sampled_from(["2026-11-21T09:00:00Z", "1999-12-31T23:59:59.9999999+14:00"]),
    }[name]


def members_of(model: type[BaseModel]) -> dict[str, Any]:
    """Annotation by member, of those that a producer may send."""
    return {
        info.alias or name: compiled.annotation_of(info)
        for name, info in model.model_fields.items()
        if not compiled.is_by_ledger(info)
    }


@st.composite
def data_of(draw: st.DrawFn, model: type[BaseModel], wild: bool = False) -> dict[str, Any]:
    """Data for a model: all required members and some others; with `wild`, any may be anything, or be missing."""
    data: dict[str, Any] = {}
    required = {info.alias or name for name, info in model.model_fields.items() if info.is_required()}
    for name, annotation in members_of(model).items():
        if name in required or draw(st.booleans()):
            data[name] = draw(good(annotation))
            if wild and draw(st.integers(0, 9)) == 0:
                data[name] = draw(any_json)
    if wild and data and draw(st.integers(0, 4)) == 0:
        del data[draw(st.sampled_from(sorted(data)))]
    if wild and draw(st.integers(0, 3)) == 0:
        data[draw(text)] = draw(any_json)
    return data
