"""The forms that attribute values are taken in: each takes what an attribute holds and returns our value, or None.

None means "not of this form": the attribute then stays for /raw and the next name is asked. What is returned always
passes the kind's own check, so that nothing of a span is refused for one odd attribute.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jiter import LosslessFloat

from ingest.otlp.mapping.anyvalue import json_text
from schemas.errors import SchemaError
from schemas.event import JSON, TEXT, Content
from schemas.fields import check_open
from schemas.jsontext import parse_strict, quote
from schemas.values import INTEGER_MAX, decimal_text, is_run_id

NAME_CHARACTERS_MAX: Final = 512  # a name is public and must fit a leaf; longer text is content
NAMES_MAX: Final = 1024  # names in one list
_DIGITS = re.compile(r"[0-9]{1,16}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_JSON_BEGINS: Final = frozenset('{["-0123456789tfn')
# Names that frameworks put where a provider belongs (rule 8), in lower case and without what some write between words.
FRAMEWORKS: Final = frozenset(
    {
        "ag2",
        "agentframework",
        "agentscope",
        "agno",
        "aisdk",
        "autogen",
        "autogenagentchat",
        "browseruse",
        "camel",
        "crewai",
        "dspy",
        "gcpvertexagent",
        "googleadk",
        "haystack",
        "langchain",
        "langchain4j",
        "langchaincore",
        "langgraph",
        "letta",
        "litellm",
        "llamaindex",
        "mastra",
        "mcp",
        "mem0",
        "microsoftagentframework",
        "openaiagents",
        "phidata",
        "pydanticai",
        "semantickernel",
        "smolagents",
        "springai",
        "strands",
        "strandsagents",
        "traceloop",
        "vercel",
        "vercelaisdk",
    }
)
_BETWEEN_WORDS: Final = str.maketrans("", "", "-_. ")


class Json(bytes):
    """JSON text that we wrote ourselves out of several attributes or events."""


def name(value: Any) -> str | None:
    return value if type(value) is str and 0 < len(value) <= NAME_CHARACTERS_MAX else None


def model(value: Any) -> str | None:
    """A model's name; some write `unknown` where they have none."""
    found = name(value)
    return None if found is None or found.lower() == "unknown" else found


def call_id(value: Any) -> str | None:
    """A call's id; Google ADK writes `<not specified>` where it has none."""
    found = name(value)
    return None if found is None or found.startswith("<") else found


def person(value: Any) -> str | None:
    """A person's name or id; numbers are ids too."""
    return label(value)


def label(value: Any) -> str | None:
    """A name that some write as a number: a session, a step, a version."""
    if type(value) is int:  # an attribute's is of 64 bits; one out of JSON text may have thousands of digits
        return str(value) if value.bit_length() <= 64 else None
    return name(value)


def service(value: Any) -> str | None:
    """A service's name; `unknown_service…` is what an SDK says when it was given none."""
    return None if type(value) is str and value.startswith("unknown_service") else name(value)


def provider(value: Any) -> str | None:
    """A provider's name, which a framework's isn't."""
    found = name(value)
    return None if found is None or found.lower().translate(_BETWEEN_WORDS) in FRAMEWORKS else found


def step(value: Any) -> str | int | None:
    return value if type(value) is int and 0 <= value <= INTEGER_MAX else name(value)


def count(value: Any) -> int | None:
    """A number of something: an integer of at least 0, also written as a double or as digits."""
    if type(value) is int or type(value) is LosslessFloat:
        number = int(value) if type(value) is int else _whole(float(value))
    elif type(value) is float:
        number = _whole(value)
    elif type(value) is str and _DIGITS.fullmatch(value):
        number = int(value)
    else:
        return None
    return number if number is not None and 0 <= number <= INTEGER_MAX else None


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) and value == int(value) else None


def decimal(value: Any) -> str | None:
    """A decimal with the digits that its shortest form has; a sum of money or a score."""
    kind = type(value)
    try:
        if kind is float:
            return decimal_text(repr(value)) if math.isfinite(value) else None
        if kind is int or kind is str or kind is LosslessFloat:
            return decimal_text(value)
    except SchemaError:
        pass
    return None


def currency(value: Any) -> str | None:
    return value if type(value) is str and _CURRENCY.fullmatch(value) else None


def seconds(value: Any) -> int | None:
    """Seconds as whole microseconds."""
    return _microseconds(value, 1_000_000)


def milliseconds(value: Any) -> int | None:
    """Milliseconds as whole microseconds."""
    return _microseconds(value, 1_000)


def _microseconds(value: Any, factor: int) -> int | None:
    if (type(value) is not int and type(value) is not float) or not 0 <= value <= INTEGER_MAX:  # nor NaN
        return None
    scaled = round(value * factor)
    return scaled if scaled <= INTEGER_MAX else None


def boolean(value: Any) -> bool | None:
    if type(value) is bool:
        return value
    return {"true": True, "false": False}.get(value.lower()) if type(value) is str and len(value) < 6 else None


def digest(value: Any) -> str | None:
    return value if type(value) is str and _DIGEST.fullmatch(value) else None


def run_id(value: Any) -> str | None:
    return value if type(value) is str and is_run_id(value) else None


def tool_names(value: Any) -> list[str] | None:
    """The names in tool definitions: a list (or its JSON) of objects with `name`, or `function.name`, or of names."""
    items = parsed(value) if type(value) is str else value
    if type(items) is not list or len(items) > NAMES_MAX:
        return None
    found: dict[str, None] = {}
    for item in items:
        if type(item) is str and item.startswith("{"):
            item = parsed(item)
        tool = _tool_name(item)
        if tool is not None:
            found[tool] = None
    return list(found) or None


def _tool_name(item: Any) -> str | None:
    """The name in one definition; OpenInference has it inside `tool`, as a name or in the JSON of a schema."""
    if type(item) is not dict:
        return name(item)
    tool = item.get("tool")
    if type(tool) is dict:
        item = json_object(tool.get("json_schema")) or tool
    return name(item.get("name")) or name(member(item, ("function", "name")))


def parsed(value: Any) -> Any:
    """JSON text as values (numbers with a fraction as LosslessFloat); another value as it is; None if it isn't JSON."""
    if type(value) is not str:
        return value
    try:
        return parse_strict(value.encode())
    except (ValueError, RecursionError):
        return None


def json_object(value: Any) -> dict[str, Any] | None:
    if type(value) is str and value.lstrip()[:1] != "{":
        return None
    found = parsed(value)
    return found if type(found) is dict else None


def content(pointer: str, value: Any, *, as_json: bool = False) -> Content:
    """The value as content with the exact text received: JSON if it is JSON, else plain text; with `as_json`, text that
    isn't JSON becomes a JSON string (what a keyed digest is made of must be JSON)."""
    if type(value) is str:
        text = value.encode()
        if _is_json(value, text):
            return Content(pointer, JSON, text)
        return Content(pointer, JSON, quote(value)) if as_json else Content(pointer, TEXT, text)
    return Content(pointer, JSON, bytes(value) if type(value) is Json else json_text(value))


def _is_json(value: str, text: bytes) -> bool:
    if value[:1] not in _JSON_BEGINS and value.lstrip(" \t\r\n")[:1] not in _JSON_BEGINS:
        return False
    try:
        parse_strict(text)
    except (ValueError, RecursionError):
        return False
    return True


def member(value: Mapping[str, Any], path: Iterable[str]) -> Any:
    """What stands at this path of nested objects, or None."""
    found: Any = value
    for part in path:
        if type(found) is not dict:
            return None
        found = found.get(part)
    return found


@dataclass(frozen=True, slots=True)
class OneOf:
    """The form of an enumeration, in any letter case."""

    values: frozenset[str]

    def __call__(self, value: Any) -> str | None:
        found = value.lower() if type(value) is str and len(value) < 64 else None
        return found if found in self.values else None


@dataclass(frozen=True, slots=True)
class Equal:
    """The form of a value that says, in another form, what is already known: taking it marks where it is said again."""

    form: Callable[[Any], Any]
    known: Any

    def __call__(self, value: Any) -> Any:
        return self.known if self.form(value) == self.known else None


OPEN_BYTES_MAX: Final = 16_384  # of a public open object: a leaf has 64 KiB


def open_object(value: Any) -> dict[str, Any] | None:
    """A public open object, told as JSON text or as a key-value list."""
    if type(value) is str and len(value) > OPEN_BYTES_MAX:
        return None
    found = json_object(value)
    try:
        return None if found is None else check_open(decimals(found))
    except SchemaError:
        return None


def decimals(value: Any) -> Any:
    """The value with its doubles as the decimals of their shortest form, as JSON would have written them."""
    if type(value) is float and math.isfinite(value):
        return LosslessFloat(repr(value).encode())
    if type(value) is list:
        return [decimals(item) for item in value]
    if type(value) is dict:
        return {name: decimals(item) for name, item in value.items()}
    return value


def put_at(tree: dict[str, Any], path: list[str], value: Any, depth_max: int) -> bool:
    """Put a value where the parts of its dotted name lead, making objects on the way. Whether it found its place: no
    other value stands there or above, and it is no more than so many parts deep."""
    if len(path) > depth_max:
        return False
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        if type(below) is not dict:
            return False
        tree = below
    if path[-1] in tree:
        return False
    tree[path[-1]] = value
    return True
