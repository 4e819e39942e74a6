"""From bytes to an OTLP request: protobuf, or JSON. Pure.

Guarantees: nothing but Refused is raised, and memory is bounded, whatever the bytes are.
"""

from __future__ import annotations

from typing import Final, Literal

from google.protobuf.message import DecodeError

from ingest.errors import Refused
from ingest.otlp.forms import FORMS, Form, Request, Signal
from ingest.otlp.framing import DELIMITED, Malformed, depth_within, fields, messages_within
from ingest.otlp.jsonform import to_protobuf

__all__ = [
    "OVERSIZED_HEADER",
    "TENANT_HEADER",
    "Encoding",
    "Request",
    "Signal",
    "looks_like_json",
    "parse",
    "protobuf_of",
]

Encoding = Literal["proto", "json"]

TENANT_HEADER: Final = "tallystick-tenant"
OVERSIZED_HEADER: Final = "tallystick-oversized"

PARTS_MAX: Final = 200_000  # resources, scopes and records of a request: 64 MiB of spans of 335 bytes
UNCOUNTED_BYTES_MAX: Final = 1024 * 1024  # parsed, these take 30 MiB at the worst; more than these are counted before
MESSAGES_MAX: Final = 2_000_000  # of a body above that: at 50 bytes each
DEPTH_MAX: Final = 100  # protobuf's own

_WHITE: Final = b" \t\r\n"
_RESOURCES_TAG: Final = 1 << 3 | DELIMITED  # also a line feed


def parse(signal: Signal, body: bytes | bytearray, encoding: Encoding) -> Request:
    """The request. Raises Refused: not_otlp; too_deep; too_large, for what would take too much memory."""
    form = FORMS[signal]
    if encoding == "json":
        body, broken = protobuf_of(signal, body)
        if broken is not None:
            raise broken
    name = form.request.DESCRIPTOR.name
    try:
        if len(body) > UNCOUNTED_BYTES_MAX and not messages_within(body, form.request.DESCRIPTOR, MESSAGES_MAX):
            raise Refused("too_large", f"more than {MESSAGES_MAX:,} messages in a request")
        request = form.request.FromString(bytes(body))
        if body and not request.ListFields():
            raise Malformed("nothing in it is a request's")
        return request
    except (Malformed, DecodeError) as error:
        if isinstance(error, DecodeError) and _too_deep(form, body):
            raise Refused("too_deep", f"more than {DEPTH_MAX} messages in each other") from error
        raise Refused("not_otlp", f"the body is not an {name} in protobuf") from error


def protobuf_of(signal: Signal, body: bytes | bytearray) -> tuple[bytes, Refused | None]:
    """A request in JSON as protobuf, and why the first of its records can't be read that stand in it as text, if any.

    Raises Refused: not_otlp; too_deep; too_large.
    """
    converted = to_protobuf(FORMS[signal], body, PARTS_MAX)
    if converted.lost:
        raise Refused("too_large", f"{converted.lost} records are too large to be read as JSON")
    return bytes(converted.value), converted.broken


def _too_deep(form: Form, body: bytes | bytearray) -> bool:
    try:
        return not depth_within(body, form.request.DESCRIPTOR, DEPTH_MAX)
    except Malformed:
        return False


def looks_like_json(body: bytes | bytearray) -> bool:
    """Whether a body without a content type is JSON rather than protobuf.

    A request in protobuf begins with a line feed (the tag of its first resource), and so may JSON; then it is JSON if
    an object follows and the bytes aren't resources end to end. An object's first byte is no tag of a request.
    """
    start = bytes(body[:4096]).lstrip(_WHITE)
    if not start.startswith(b"{"):
        return False
    if body[0] != _RESOURCES_TAG:
        return True
    try:
        return any(tag != _RESOURCES_TAG for tag, *_ in fields(body, 0, len(body)))
    except Malformed:
        return True
