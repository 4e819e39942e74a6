"""JSON as text: where each member stands, exactly, and the normal form of any JSON text.

The fast parsers decide for well-behaved records. This one decides for the rest: it keeps the text of content that holds
duplicate members, lone surrogates, integers of any length or nesting beyond their limits, and still refuses what is not
JSON (RFC 8259). Its own scanner never recurses and is slow (about 0.5 µs a token): only deep nesting and the normal
form of texts that a fast parser refused pay for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final

import jiter
import orjson

from schemas.errors import ProfileError, Rejection

NESTING_MAX: Final = 10_000  # levels that content may have; no reader downstream recurses that far
DEEP_CHARACTERS_MAX: Final = 1_048_576  # what may nest beyond the C parser: seconds of work stay tenths of one
EXPONENT_MAX: Final = 1_000  # places that the normal form writes out; beyond, a number keeps an exponent
EXPANDED_MAX: Final = 16_777_216  # places that all exponents of a text may make the normal form longer by
_EXPANDS_FROM: Final = 65_536  # bytes; a shorter text's exponents can't make it longer than that

_TOKEN = re.compile(
    rb'[ \t\n\r]*+(?:("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")'
    rb"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    rb"|(true|false|null)|([\[\]{},:]))"
)
_SPACE = re.compile(rb"[ \t\n\r]*+")
_TEXT_SPACE = re.compile(r"[ \t\n\r]*+")
STRING, NUMBER, WORD, MARK, NAME = 1, 2, 3, 4, 5  # what a token is; the first four are the pattern's groups
_VALUE, _VALUE_OR_END, _NAME, _NAME_OR_END, _COLON, _AFTER = range(6)  # what may come next; the order counts
_EXPONENT = re.compile(rb"[0-9][eE][+-]?0*([1-9][0-9]*)")
_NUMBER_PARTS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_ASTRAL = re.compile(rb"[\xf0-\xf4]")  # the first byte of a character beyond the 16-bit ones


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


# Builds as little as it can: numbers and objects become a boolean as soon as they are read.
_SCANNER = json.JSONDecoder(object_pairs_hook=bool, parse_int=bool, parse_float=bool, parse_constant=_refuse_constant)


def tokens(text: bytes, whole: bool = True) -> Iterator[tuple[int, int, int]]:
    """The text's tokens as (what, start, end), one by one, the grammar checked as they come. Not `whole`: of the value
    that the text begins with.

    Raises Rejection `not_json`, or `too_deep` beyond NESTING_MAX, when it gets there: run it to the end to be sure.
    """
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        raise Rejection("not_json", f"expected UTF-8, got another byte at {wrong.start}") from None
    open_ = bytearray()  # the containers around: 0x5b for [, 0x7b for {
    want = _VALUE
    position, match_at = 0, _TOKEN.match
    while want != _AFTER or open_:
        match = match_at(text, position)
        if match is None:
            raise Rejection("not_json", f"expected JSON, stopped at byte {position}")
        what = match.lastindex or 0
        start, position = match.span(what)
        byte = text[start]
        if want <= _VALUE_OR_END:
            good, want_end, want = True, want == _VALUE_OR_END, _AFTER
            if byte == 0x5B or byte == 0x7B:
                want = _VALUE_OR_END if byte == 0x5B else _NAME_OR_END
                open_.append(byte)
                if len(open_) > NESTING_MAX:
                    raise Rejection("too_deep", f"expected at most {NESTING_MAX} levels of nesting")
            elif what == MARK:
                good = want_end and byte == 0x5D
                del open_[-1:]
        elif want <= _NAME_OR_END:
            if what == STRING:
                good, want, what = True, _COLON, NAME
            else:
                good, want = want == _NAME_OR_END and byte == 0x7D, _AFTER
                del open_[-1:]
        elif want == _COLON:
            good, want = byte == 0x3A, _VALUE
        elif byte == 0x2C:
            good, want = True, _NAME if open_[-1] == 0x7B else _VALUE
        else:
            good = what == MARK and byte == open_.pop() + 2  # [ and ], { and } are two apart
        if not good:
            raise Rejection("not_json", f"expected JSON, stopped at byte {start}")
        yield what, start, position
    if not whole:
        return
    space = _SPACE.match(text, position)
    if space is None or space.end() != len(text):
        raise Rejection("not_json", f"expected the end of the text at byte {position}")


def check(text: bytes) -> None:
    """Raise Rejection `not_json` or `too_deep` unless the text is JSON."""
    for _ in tokens(text):
        pass


def members(text: bytes) -> list[tuple[bytes, bytes]]:
    """The members of the object in this text, in order, as exact texts of name (with its quotes) and value.

    Repeated names come repeatedly. Raises Rejection `not_json`, `too_deep`, or `schema` for another value than an
    object.
    """
    parts = _parts(text, "{", "}", "an object")
    return [(name.encode(), value.encode()) for name, value in parts]


def items(text: bytes) -> list[bytes]:
    """The exact texts of the items of the array in this text; raises as `members` does."""
    return [value.encode() for _, value in _parts(text, "[", "]", "an array")]


def _parts(text: bytes, opening: str, closing: str, expected: str) -> list[tuple[str, str]]:
    """Names (in an object) and values right inside the text's one container. Values are skipped at C speed by Python's
    own parser, which takes everything that content may hold but deep nesting; that, `tokens` delimits."""
    try:
        whole = text.decode()
    except UnicodeDecodeError as wrong:
        raise Rejection("not_json", f"expected UTF-8, got another byte at {wrong.start}") from None
    position = _skip_space(whole, 0)
    if whole[position : position + 1] != opening:
        check(text)  # what is not JSON at all is told first
        raise Rejection("schema", f"expected {expected}")
    parts: list[tuple[str, str]] = []
    position = _skip_space(whole, position + 1)
    more = whole[position : position + 1] != closing
    while more:
        name = ""
        if opening == "{":
            start, position = position, _skip_value(whole, position, '"')
            name = whole[start:position]
            position = _expect(whole, position, ":")
        start, position = position, _skip_value(whole, position)
        parts.append((name, whole[start:position]))
        position = _skip_space(whole, position)
        more = whole[position : position + 1] == ","
        if more:
            position = _skip_space(whole, position + 1)
    if _expect(whole, position, closing) != len(whole):
        raise Rejection("not_json", "expected the end of the text after its container")
    return parts


def _skip_space(text: str, position: int) -> int:
    match = _TEXT_SPACE.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, mark: str) -> int:
    position = _skip_space(text, position)
    if text[position : position + 1] != mark:
        raise Rejection("not_json", f"expected {mark} at character {position}")
    return _skip_space(text, position + 1)


def _skip_value(text: str, position: int, first: str = "") -> int:
    """The end of the value that begins here. `first`: what it has to begin with."""
    try:
        if not text.startswith(first, position):
            raise ValueError
        return _SCANNER.raw_decode(text, position)[1]
    except ValueError:
        raise Rejection("not_json", f"expected JSON, stopped after character {position}") from None
    except RecursionError:
        pass
    if len(text) > DEEP_CHARACTERS_MAX:
        raise Rejection("too_deep", f"expected fewer levels in a text of more than {DEEP_CHARACTERS_MAX} characters")
    rest = text[position:].encode()
    end = max(end for _, _, end in tokens(rest, whole=False))
    return position + len(rest[:end].decode())


def name_text(quoted: bytes) -> str:
    """The name written in this JSON string; may hold lone surrogates."""
    name = json.loads(quoted)
    return str(name)


def quote(name: str) -> bytes:
    """The name as a JSON string, whatever it holds."""
    try:
        return encode_basestring(name).encode()
    except UnicodeEncodeError:  # lone surrogates, which only an escape can say
        return encode_basestring_ascii(name).encode()


def parse_strict(text: bytes) -> Any:
    """The JSON value with digits kept: numbers with a fraction or exponent are `LosslessFloat`. Raises ValueError for
    what is not JSON, duplicate members, lone surrogates, NaN, integers above 4,300 digits, and more than 200 levels."""
    return jiter.from_json(
        text, catch_duplicate_keys=True, float_mode="lossless-float", allow_inf_nan=False, cache_mode="keys"
    )


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
    try:
        value = jiter.from_json(
            json_text,
            catch_duplicate_keys=True,
            float_mode="lossless-float",
            allow_inf_nan=False,
            cache_mode="keys",
        )
        if not _sorts_apart(json_text):
            return orjson.dumps(value, default=_plain_number, option=orjson.OPT_SORT_KEYS)
        return orjson.dumps(_sorted(value), default=_plain_number)
    except (ValueError, TypeError):
        pass  # duplicates, depth, integers beyond 64 bits: the exact way decides
    try:
        return _normal_form_exact(json_text)
    except Rejection as wrong:
        raise ProfileError(wrong.detail) from wrong


def expands_too_far(json_text: bytes) -> bool:
    """Whether exponents would make the normal form of this text longer by more than EXPANDED_MAX: six bytes of `1e999,`
    become a thousand, so that a record of 12 MB would become one of 2 GB. Strings that look like numbers count too."""
    if len(json_text) <= _EXPANDS_FROM:
        return False
    longer = 0
    for match in _EXPONENT.finditer(json_text):
        digits = match[1]
        longer += min(int(digits), EXPONENT_MAX) if len(digits) <= 4 else 0
        if longer > EXPANDED_MAX:
            return True
    return False


def _sorts_apart(json_text: bytes) -> bool:
    """Whether sorting by UTF-16 may differ from sorting by code point, as it does for astral characters, which escapes
    may stand for."""
    return b"\\u" in json_text or (not json_text.isascii() and _ASTRAL.search(json_text) is not None)


def _sorted(value: Any) -> Any:
    """The value with its members in the order of RFC 8785, by UTF-16 units. Recurses no deeper than jiter reads."""
    if type(value) is dict:
        names = sorted(value, key=_utf16)
        return {name: _sorted(value[name]) for name in names}
    if type(value) is list:
        return [_sorted(item) for item in value]
    return value


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


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
    whole: list[tuple[bytes, bytes]] = []
    parts, name = whole, b""
    stack: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
    for what, start, end in tokens(text):
        if what == NAME:
            name = _plain_string(text[start:end])
            continue
        if what == STRING:
            done = _plain_string(text[start:end])
        elif what == NUMBER:
            done = _plain_decimal(text[start:end].decode()).encode()
        elif what == WORD:
            done = text[start:end]
        else:
            byte = text[start]
            if byte == 0x7B or byte == 0x5B:
                stack.append((name, parts))
                parts = []
                continue
            if byte == 0x7D:
                parts.sort(key=lambda part: name_text(part[0]).encode("utf-16-be", "surrogatepass"))
                done = b"{" + b",".join(b"%b:%b" % part for part in parts) + b"}"
            elif byte == 0x5D:
                done = b"[" + b",".join(part for _, part in parts) + b"]"
            else:
                continue
            name, parts = stack.pop()
        parts.append((name, done))
    return whole[0][1]


def _plain_string(quoted: bytes) -> bytes:
    value = name_text(quoted)
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # lone surrogates
        return b"".join(
            b"\\u%04x" % ord(character) if "\ud800" <= character <= "\udfff" else orjson.dumps(character)[1:-1]
            for character in value
        ).join((b'"', b'"'))
