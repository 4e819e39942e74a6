"""The plain step form, version 1: one JSON object a line, one step each (kinds.md, "The plain step form").

Exact: a decimal keeps its digits, inputs and outputs keep their text, milliseconds become whole microseconds and the
original is kept where that loses anything. Nothing that a line does not say is invented.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, Final

import msgspec
from jiter import LosslessFloat

from schemas import jsontext
from schemas.errors import Rejection, SchemaError
from schemas.event import JSON, Content, Draft
from schemas.ids import plain_id
from schemas.raw import raw_name
from schemas.values import DECIMAL_DIGITS_MAX, decimal_text, is_run_id

_CONTENT: Final = frozenset({"input", "output"})
_decode_texts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

# Foreign member -> ours, per type. `*_ms` and `cost_usd` are converted below.
_MEMBERS: Final[dict[str, dict[str, str]]] = {
    "model_call": {
        "model": "model",
        "tokens_in": "input_tokens",
        "tokens_out": "output_tokens",
        "latency_ms": "latency_us",
    },
    "tool_call": {"tool": "tool", "input": "input", "output": "output", "latency_ms": "latency_us"},
    "validator": {"rule": "rule", "result": "result"},
    "final": {"final": "status", "cost_usd": "cost_claimed", "total_latency_ms": "total_latency_us"},
}
_KINDS: Final = {
    "model_call": "model_call",
    "tool_call": "tool_call",
    "validator": "validator",
    "final": "run_finished",
}
_EXACT: Final = Context(prec=DECIMAL_DIGITS_MAX + 3)
_OWN: Final = frozenset({"run_id", "step", "type"})


def draft(line: bytes) -> Draft:
    """The line in our words. Raises Rejection."""
    values, texts = _read(line)
    run = values.get("run_id")
    if not is_run_id(run):
        raise Rejection("bad_run", "run_id: expected a run id: 1 to 128 of A-Z a-z 0-9 . _ : -")
    step, type_ = values.get("step"), values.get("type")
    if step is None and type_ is None:
        if "final" not in values:
            raise Rejection("schema", "expected step and type, or final")
        step_text, type_ = "", "final"
    else:
        step_text = _step(step)
        if type(type_) is not str:
            raise Rejection("schema", "type: expected a string")
        if type_ not in _MEMBERS or type_ == "final":
            raise Rejection("unknown_kind", "type: expected model_call, tool_call or validator")
    event = Draft(id=plain_id(str(run), step_text, type_), kind=_KINDS[type_], came_from="line", run=str(run))
    if step_text:
        event.data["step"] = step
    known = _MEMBERS[type_]
    for name, value in values.items():
        if name in _OWN:
            continue
        ours = known.get(name)
        if ours is None:
            event.raw.append((raw_name(name), texts[name]))
        elif name in _CONTENT:
            event.content.append(Content("/" + ours, JSON, texts[name]))
        elif value is not None:
            event.originals[ours] = (name, texts[name])
            _CONVERTERS.get(name, _keep)(event, ours, value)
    return event


def _step(step: Any) -> str:
    """The step's text as it counts in the id: a string, or a number as written."""
    if type(step) is str and step:
        return step
    if type(step) is int:
        return str(step)
    raise Rejection("schema", "step: expected a string that is not empty, or an integer")


def _keep(event: Draft, ours: str, value: Any) -> None:
    event.data[ours] = value


def _microseconds(event: Draft, ours: str, value: Any) -> None:
    """Milliseconds times 1000, cut to whole microseconds; the original goes to /raw if that loses anything."""
    if type(value) is not int and type(value) is not LosslessFloat:
        event.data[ours] = value  # refused by the kind, and then kept as it came
        return
    try:
        exact = _EXACT.multiply(Decimal(decimal_text(value)), Decimal(1000))
    except SchemaError:
        event.raw.append(event.originals.pop(ours))
        return
    event.data[ours] = int(exact)
    if exact != int(exact):
        event.raw.append(event.originals[ours])


def _dollars(event: Draft, ours: str, value: Any) -> None:
    event.data[ours] = {"amount": value, "currency": "USD"}


_CONVERTERS: Final[dict[str, Callable[[Draft, str, Any], None]]] = {
    "latency_ms": _microseconds,
    "total_latency_ms": _microseconds,
    "cost_usd": _dollars,
}


def _read(line: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Values and exact texts by member. What is wrong inside content is kept; elsewhere it is a Rejection."""
    try:
        values = jsontext.parse_strict(line)
        if type(values) is dict:
            return values, {name: bytes(text) for name, text in _decode_texts(line).items()}
    except (ValueError, RecursionError, msgspec.MsgspecError):
        pass
    known = _OWN.union(*_MEMBERS.values()) - _CONTENT
    values, texts = {}, {}
    for quoted, text in jsontext.members(line):
        name = jsontext.name_text(quoted)
        if name in values:
            raise Rejection("duplicate_member", "expected each member once")
        texts[name] = text
        values[name] = jsontext.public_value(text, name) if name in known else None
    return values, texts


PLAIN_SCHEMA: Final[dict[str, Any]] = {
    "title": "plain step",
    "description": "One line of the plain step form. Other members are kept, encrypted, as unmapped.",
    "type": "object",
    "required": ["run_id"],
    "properties": {"run_id": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}},
    "oneOf": [
        {
            "required": ["step", "type"],
            "properties": {
                "step": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]},
                "type": {"enum": [type_ for type_ in _MEMBERS if type_ != "final"]},
                **{
                    name: {"x-tallystick": "content" if name in _CONTENT else "public"}
                    for type_, names in _MEMBERS.items()
                    if type_ != "final"
                    for name in names
                },
            },
        },
        {
            "required": ["final"],
            "properties": {
                "step": {"type": "null"},
                "type": {"type": "null"},
                **{name: {"x-tallystick": "public"} for name in _MEMBERS["final"]},
            },
        },
    ],
}
