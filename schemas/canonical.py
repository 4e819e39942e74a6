"""Canonical bytes: the leaf profile of RFC 8785, and the normal form that digests are made over.

The profile (log-format.md, "Leaf"): objects, arrays, strings, integers within ±(2^53-1), true, false, null; ASCII
member names; no floats, no lone surrogates, no duplicate members; depth at most 32; at most 65,535 bytes. In it, orjson
with sorted keys writes exactly what RFC 8785 asks for (a property test holds it against `rfc8785`); outside it would
not, so outside it is refused.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.errors import ProfileError
from schemas.jsontext import normal_form
from schemas.values import INTEGER_MAX

__all__ = ["DEPTH_MAX", "LEAF_BYTES_MAX", "canonical_bytes", "encode_unchecked", "normal_form", "parse_canonical"]

DEPTH_MAX: Final = 32
LEAF_BYTES_MAX: Final = 65_535  # a tlog-tiles entry has a 16-bit length


def encode_unchecked(value: dict[str, Any]) -> bytes:
    """Canonical bytes of a value already known to be in the profile. The hot path; checks nothing."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def canonical_bytes(value: object) -> bytes:
    """Canonical bytes of any value of the profile. Raises ProfileError outside it. The size is not limited here."""
    check_profile(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as wrong:  # what the check leaves to the encoder: lone surrogates
        raise ProfileError(f"expected text without lone surrogates: {wrong}") from wrong


def parse_canonical(leaf: bytes) -> dict[str, Any]:
    """The object whose canonical bytes these are. Raises ProfileError unless the bytes are exactly those."""
    if len(leaf) > LEAF_BYTES_MAX:
        raise ProfileError(f"expected at most {LEAF_BYTES_MAX} bytes, got {len(leaf)}")
    try:
        value = orjson.loads(leaf)
    except orjson.JSONDecodeError as wrong:
        raise ProfileError(f"expected JSON: {wrong}") from wrong
    if type(value) is not dict:
        raise ProfileError(f"expected an object, got {type(value).__name__}")
    check_profile(value)
    if orjson.dumps(value, option=orjson.OPT_SORT_KEYS) != leaf:
        raise ProfileError("expected canonical JSON: members sorted and unique, no white space, shortest escapes")
    return value


def check_profile(value: object, depth_max: int = DEPTH_MAX) -> None:
    """Raise ProfileError unless the value is in the profile, but for lone surrogates, which the encoder refuses."""
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        deeper: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                for name, member in item.items():
                    if type(name) is not str or not name.isascii():
                        raise ProfileError("expected member names in ASCII")
                    kind = type(member)
                    if kind is str or kind is bool or member is None:
                        continue
                    deeper.append(member)
            elif kind is list:
                deeper += item
            elif kind is int:
                if not -INTEGER_MAX <= item <= INTEGER_MAX:
                    raise ProfileError("expected integers within ±(2^53-1)")
            elif kind is not str and kind is not bool and item is not None:
                raise ProfileError(f"expected JSON without floats, got {kind.__name__}")
        if depth > depth_max and any(type(item) is dict or type(item) is list for item in level):
            raise ProfileError(f"expected a depth of at most {depth_max}")
        level = deeper
