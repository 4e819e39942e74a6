"""JSON as text: where each member stands, exactly, and the normal form of any JSON text.

The fast parsers decide for well-behaved records. This one decides for the rest: it keeps the text of content that holds
duplicate members, lone surrogates, integers of any length or nesting beyond their limits, and still refuses what is not
JSON (RFC 8259). It never recurses. It is slow (about 0.4 µs a token), and only records that a fast parser refused pay
for it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import jiter
import orjson

from schemas.errors import ProfileError, Rejection

NESTING_MAX: Final = 10_000  # levels that content may have; no reader downstream recurses that far
EXPONENT_MAX: Final = 1_000  # places that the normal form writes out; beyond, a number keeps an exponent

_TOKEN = re.compile(
    rb'[ \t\n\r]*+(?:("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")'
    rb"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    rb"|(true|false|null)|([\[\]{},:]))"
)
_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING, _NUMBER, _WORD = 1, 2, 3
_NUMBER_PARTS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
# What makes sorting by UTF-16 differ from sorting by code point (astral characters), or hides it (escapes).
_SORTS_APART = re.compile(rb"[\xf0-\xf4]|\\u")


def tokens(text: bytes) -> list[tuple[int, int, int]]:
    """The text's tokens as (group, start, end), once its whole grammar is checked.

    Raises Rejection `not_json`, or `too_deep` beyond NESTING_MAX.
    """
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        raise Rejection("not_json", f"expected UTF-8, got another byte at {wrong.start}") from None
    found: list[tuple[int, int, int]] = []
    open_: list[int] = []
    # What may come next: a value; a value or ]; a name or }; a name; a colon; a comma or the end of the container.
    want = "value"
    position, match_at = 0, _TOKEN.match
    while True:
        if want == "after" and not open_:
            break
        match = match_at(text, position)
        if match is None:
            raise Rejection("not_json", f"expected JSON, stopped at byte {position}")
        group = match.lastindex or 0
        start, position = match.span(group)
        byte = text[start]
        if want == "name" or want == "name or }":
            good = group == _STRING or (want == "name or }" and byte == 0x7D)
            want = "colon" if group == _STRING else "after"
            if good and group != _STRING:
                open_.pop()
        elif want == "colon":
            good, want = byte == 0x3A, "value"
        elif want == "after":
            if byte == 0x2C:
                good, want = True, "name" if open_[-1] == 0x7B else "value"
            else:  # [ and ], { and } are two apart
                good = group == 4 and byte == open_.pop() + 2
        elif byte == 0x7B or byte == 0x5B:
            good, want = True, "name or }" if byte == 0x7B else "value or ]"
            open_.append(byte)
            if len(open_) > NESTING_MAX:
                raise Rejection("too_deep", f"expected at most {NESTING_MAX} levels of nesting")
        elif want == "value or ]" and byte == 0x5D:
            good, want = True, "after"
            open_.pop()
        else:
            good, want = group != 4, "after"
        if not good:
            raise Rejection("not_json", f"expected JSON, stopped at byte {start}")
        found.append((group, start, position))
    space = _SPACE.match(text, position)
    if space is None or space.end() != len(text):
        raise Rejection("not_json", f"expected the end of the text at byte {position}")
    return found


def members(text: bytes) -> list[tuple[bytes, bytes]]:
    """The members of the object in this text, in order, as exact texts of name (with its quotes) and value.

    Repeated names come repeatedly. Raises Rejection `not_json`, `too_deep`, or `schema` for another value than an
    object.
    """
    found = tokens(text)
    if text[found[0][1]] != 0x7B:
        raise Rejection("schema", "expected a JSON object")
    parts: list[tuple[bytes, bytes]] = []
    at, end = 1, len(found) - 1
    while at < end:
        name = text[found[at][1] : found[at][2]]
        last = _value_end(text, found, at + 2)
        parts.append((name, text[found[at + 2][1] : found[last][2]]))
        at = last + 2  # past the comma, or past the end
    return parts


def items(text: bytes) -> list[bytes]:
    """The exact texts of the items of the array in this text; raises as `members` does."""
    found = tokens(text)
    if text[found[0][1]] != 0x5B:
        raise Rejection("schema", "expected a JSON array")
    parts: list[bytes] = []
    at, end = 1, len(found) - 1
    while at < end:
        last = _value_end(text, found, at)
        parts.append(text[found[at][1] : found[last][2]])
        at = last + 2
    return parts


def _value_end(text: bytes, found: list[tuple[int, int, int]], at: int) -> int:
    """The index of the last token of the value that begins with token `at`."""
    depth = 0
    while True:
        group, start, _ = found[at]
        if group == 4:
            byte = text[start]
            if byte == 0x7B or byte == 0x5B:
                depth += 1
            elif byte == 0x7D or byte == 0x5D:
                depth -= 1
        if depth == 0:
            return at
        at += 1


def name_text(quoted: bytes) -> str:
    """The name written in this JSON string; may hold lone surrogates."""
    name = json.loads(quoted)
    return str(name)


def quote(name: str) -> bytes:
    """The name as a JSON string, whatever it holds."""
    return json.dumps(name, ensure_ascii=not _encodable(name)).encode()


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_strict(text: bytes) -> Any:
    """The JSON value with digits kept: numbers with a fraction or exponent are `LosslessFloat`. Raises ValueError for
    what is not JSON, duplicate members, lone surrogates, NaN, integers above 4,300 digits, and more than 200 levels."""
    return jiter.from_json(text, catch_duplicate_keys=True, float_mode="lossless-float", allow_inf_nan=False)


def public_value(text: bytes, where: str) -> Any:
    """Parse a public value strictly, and say by code what is wrong with it. The text is known to be JSON."""
    try:
        return parse_strict(text)
    except ValueError as wrong:
        reason = str(wrong)
    if reason.startswith("Detected duplicate key"):
        raise Rejection("duplicate_member", f"{where}: expected each member once")
    if reason.startswith("recursion limit"):
        raise Rejection("too_deep", f"{where}: expected fewer levels")
    if reason.startswith("number out of range"):
        raise Rejection("bad_number", f"{where}: expected integers within ±(2^53-1)")
    raise Rejection("lone_surrogate", f"{where}: expected text without lone surrogates")


def normal_form(json_text: bytes) -> bytes:
    """The digest normal form of a JSON text (log-format.md, "Persons"): members sorted as in RFC 8785 (by UTF-16
    units), no white space, strings with RFC 8785's escapes, numbers as exact decimals without exponent or trailing
    zeros.

    Of two repeated members both stay, in their order. A lone surrogate is written as its lower-case escape. A number
    beyond 10^±1000 keeps an exponent (`12e1001`) so that a short text can't become a long one. Raises ProfileError if
    the text is not JSON.
    """
    if _SORTS_APART.search(json_text) is None:
        try:
            value = jiter.from_json(
                json_text,
                catch_duplicate_keys=True,
                float_mode="lossless-float",
                allow_inf_nan=False,
                cache_mode="keys",
            )
            return orjson.dumps(value, default=_plain_number, option=orjson.OPT_SORT_KEYS)
        except (ValueError, TypeError):
            pass  # duplicates, depth, integers beyond 64 bits: the exact way decides
    try:
        return _normal_form_exact(json_text)
    except Rejection as wrong:
        raise ProfileError(wrong.detail) from wrong


def _plain_number(value: Any) -> orjson.Fragment:
    if type(value) is jiter.LosslessFloat:
        return orjson.Fragment(_plain_decimal(str(value)).encode())
    raise TypeError


def _plain_decimal(token: str) -> str:
    """A JSON number as an exact decimal without exponent or trailing zeros; -0 is 0."""
    match = _NUMBER_PARTS.fullmatch(token)
    if match is None:
        raise ProfileError("expected a JSON number")
    sign, whole, fraction, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "0"
    shift = _exponent(exponent) - len(fraction) + len(digits) - len(stripped)  # value = stripped * 10**shift
    if not -EXPONENT_MAX <= shift <= EXPONENT_MAX:
        return f"{sign}{stripped}e{shift}"
    if shift >= 0:
        return sign + stripped + "0" * shift
    padded = stripped.rjust(1 - shift, "0")
    return f"{sign}{padded[:shift]}.{padded[shift:]}"


def _exponent(text: str) -> int:
    """An exponent of any length; beyond 4,000 digits (Python's limit for reading integers) it is cut to its sign's
    extreme."""
    if len(text) > 4_000:
        return -(10**4_000) if text.startswith("-") else 10**4_000
    return int(text or 0)


def _normal_form_exact(text: bytes) -> bytes:
    """Bottom up over the tokens with an own stack: each open container collects its finished parts."""
    stack: list[tuple[bool, list[tuple[bytes, bytes]]]] = []
    name: bytes = b""
    names: list[bytes] = []
    found = tokens(text)
    for at, (group, start, end) in enumerate(found):
        if group == 4:
            byte = text[start]
            if byte == 0x7B or byte == 0x5B:
                stack.append((byte == 0x7B, []))
                names.append(name)
                continue
            if byte == 0x2C or byte == 0x3A:
                continue
            is_object, parts = stack.pop()
            name = names.pop()
            if is_object:
                parts.sort(key=lambda part: name_text(part[0]).encode("utf-16-be", "surrogatepass"))
                done = b"{" + b",".join(b"%b:%b" % part for part in parts) + b"}"
            else:
                done = b"[" + b",".join(part for _, part in parts) + b"]"
        elif group == _STRING:
            done = _plain_string(text[start:end])
            if stack and stack[-1][0] and text[found[at + 1][1]] == 0x3A:
                name = done
                continue
        elif group == _NUMBER:
            done = _plain_decimal(text[start:end].decode()).encode()
        else:
            done = text[start:end]
        if not stack:
            return done
        stack[-1][1].append((name, done))
    raise ProfileError("expected a JSON value")


def _plain_string(quoted: bytes) -> bytes:
    value = name_text(quoted)
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # lone surrogates
        return b"".join(
            b"\\u%04x" % ord(character) if "\ud800" <= character <= "\udfff" else orjson.dumps(character)[1:-1]
            for character in value
        ).join((b'"', b'"'))
