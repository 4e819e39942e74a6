"""The names of the attributes, and from a member's value to an attribute's. Pure; raises nothing.

An envelope's members are `tallystick.<member>`, an event's are `tallystick.data.<member>`, with dots into objects. What
an attribute can't say (objects in lists, content of any form) is JSON text. docs/otlp-attributes.md is the list.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import json
import logging
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, TypeAlias
from urllib.parse import quote

Attribute: TypeAlias = str | bool | int | float | Sequence[str]

PREFIX: Final = "tallystick."
KIND: Final = "tallystick.kind"
DATA: Final = "tallystick.data."
INEXACT: Final = "tallystick.inexact."
RUN_ID: Final = "tallystick.run_id"
PARENT_RUN: Final = "tallystick.parent_run"
ROOT_RUN: Final = "tallystick.root_run"
DEPTH: Final = "tallystick.depth"
DATA_SUBJECT: Final = "tallystick.data_subject"

# What a run's id and its place in a run tree are: opaque, and enough for another process to be on the same record.
RUN_NAMES: Final = frozenset({RUN_ID, PARENT_RUN, ROOT_RUN, DEPTH})
# Members that name persons, or may: these never leave the process unless everything is to be carried.
PERSON_NAMES: Final = frozenset({"tallystick.principal", "tallystick.on_behalf_of", DATA_SUBJECT})

# What a runtime may say; the other kinds are the ledger's own, or said in topics of their own.
KINDS: Final = frozenset(
    {
        "approval_decision",
        "approval_request",
        "autonomy_changed",
        "credential_issued",
        "credential_revoked",
        "delegation",
        "error",
        "evaluation",
        "final_action",
        "human_override",
        "memory_delete",
        "memory_read",
        "memory_write",
        "model_call",
        "outcome",
        "policy_decision",
        "producer_gap",
        "release",
        "retrieval",
        "retry",
        "rollback",
        "routing_decision",
        "run_finished",
        "run_started",
        "span",
        "tool_call",
        "tool_selection",
        "validator",
    }
)
# Members of events whose value is content: sealed and erasable in the ledger. Sent as JSON text, whatever it is.
CONTENT: Final = frozenset(
    {
        "after",
        "before",
        "context",
        "diff",
        "expected",
        "found",
        "input",
        "message",
        "messages",
        "output",
        "query",
        "rationale",
        "reason",
        "request",
        "summary",
        "text",
        "value",
    }
)
WARNED_MAX: Final = 1_000
DEPTH_MAX: Final = 64  # levels of content; deeper ones are given as text

logger: Final = logging.getLogger("tallystick.otel")
_warned: Final[set[str]] = set()
_RUN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def install_hint(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error, with what to install where it is a package of OpenTelemetry."""
    if (error.name or "").partition(".")[0] != "opentelemetry":
        return error
    said = f"tallystick.otel needs {error.name}: pip install -e '.[otel]' in the checkout of tallystick"
    return ModuleNotFoundError(f"{said} (tallystick[otel], once it is on an index)", name=error.name)


def warn_once(about: str, why: str) -> None:
    """A warning about a use that is wrong each time it is made, at the first time."""
    if about not in _warned and len(_warned) < WARNED_MAX:
        _warned.add(about)
        logger.warning("%s: %s", about, why)


def is_run_id(run: object) -> bool:
    """Whether the ledger takes it for a run's id; it would use the trace id instead."""
    return isinstance(run, str) and _RUN_ID.fullmatch(run) is not None


def envelope_attributes(members: Mapping[str, Any]) -> dict[str, Attribute]:
    """An envelope's members as attributes. None is left out; so is a run id that the ledger would refuse, with a
    warning."""
    found: dict[str, Attribute] = {}
    for member, value in members.items():
        if value is None:
            continue
        name = PREFIX + ("agent_version" if member == "version" else member)
        if member in ("run_id", "parent_run", "root_run") and not is_run_id(value):
            logger.warning("%s: expected 1 to 128 of A-Z a-z 0-9 . _ : -, got %.200r; left out", member, value)
        elif member == "data_subjects":
            names = [value] if isinstance(value, str) else list(value)
            found[DATA_SUBJECT] = " ".join(quote(_well_formed(str(one)), safe="") for one in names)
        elif member == "budget":
            found[name] = json_text(value)
        elif isinstance(value, Mapping):
            found |= {f"{name}.{part}": attribute(inner) for part, inner in value.items() if inner is not None}
        else:
            found[name] = attribute(value)
    return found


def data_attributes(kind: str, members: Mapping[str, Any]) -> dict[str, Attribute]:
    """An event's members as attributes. None is left out; `class_` is `class`. A float is no amount of money: it goes
    under another name, which the ledger keeps in /raw, and is never added up; with a warning."""
    found: dict[str, Attribute] = {}
    for member, value in members.items():
        if value is None:
            continue
        name = member.rstrip("_")
        is_money = kind == "outcome" and name == "value"
        if (name in CONTENT and not is_money) or name == "budget":  # a budget is an open object
            found[DATA + name] = json_text(value)
        else:
            _add(found, DATA + name, value)
    for name in [name for name, value in found.items() if isinstance(value, float) and name.endswith(".amount")]:
        path = name.removeprefix(DATA)
        found[INEXACT + path] = found.pop(name)
        warn_once(
            f"{kind}: {path}", "a float is no amount of money, say it as a Decimal or as text; it is kept in /raw"
        )
    return found


def _add(found: dict[str, Attribute], name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for part, inner in value.items():
            if inner is not None:
                _add(found, f"{name}.{part}", inner)
    else:
        found[name] = attribute(value)


def attribute(value: Any) -> Attribute:
    """A public member's value: a number, a flag, text, a list of texts; else JSON text. A Decimal keeps its digits."""
    if isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return attribute(value.value)
    if isinstance(value, str):
        return _well_formed(str.__str__(value))
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, dt.datetime):
        return timestamp(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes, bytearray)):
        items = list(value)
        if all(isinstance(item, str) for item in items):
            return [_well_formed(str.__str__(item)) for item in items]
        return json_text(items)
    return json_text(value)


def timestamp(at: dt.datetime) -> str:
    """RFC 3339 in UTC. A time without a zone is taken for local time, as `datetime` does."""
    return at.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


# ---- JSON text of anything ------------------------------------------------------------------------------------------


def json_text(value: Any) -> str:
    """Compact JSON of whatever it is: what JSON can't say is given as text."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_known)
        text.encode()  # refuses lone surrogates, which no protobuf string can hold
    except Exception:  # whatever the agent's own objects raise; the slow way asks each of them, guarded
        return json.dumps(_repaired(value, 0), ensure_ascii=False, separators=(",", ":"))
    return text


def _known(value: Any) -> Any:
    """The JSON form of common Python types. TypeError for the rest."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, uuid.UUID | PurePath | dt.timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    raise TypeError(type(value).__name__)


def _well_formed(text: str) -> str:
    """Text with U+FFFD in the place of lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def _repaired(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _well_formed(str.__str__(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, int):
        return int(value) if value.bit_length() <= 4096 else hex(value)
    try:
        if depth > DEPTH_MAX:
            return _well_formed(repr(value)[:10_000])
        if isinstance(value, dict):
            return {_well_formed(str(name)): _repaired(inner, depth + 1) for name, inner in list(value.items())}
        if isinstance(value, list | tuple):
            return [_repaired(item, depth + 1) for item in list(value)]
        return _repaired(_known(value), depth + 1)
    except Exception:  # an object's own code: anything may come out, none of it may reach the agent
        return _text_of(value)


def _text_of(value: Any) -> str:
    try:
        return _well_formed(repr(value)[:10_000])
    except Exception:  # as above; RecursionError of a deep list ends here too
        return f"<{type(value).__name__}>"
