"""From a kind and its data to the bytes of a CloudEvent: pure, and fast enough to stand in an agent's way.

Guarantees: what comes out is valid JSON in UTF-8 (no NaN, no lone surrogates), whatever the agent put in; numbers are
never rounded (a Decimal becomes its decimal text, a float its shortest text that reads back); an amount of money as a
float is refused. What had to be changed is counted in the member `emitter` of the event's data, which the ledger keeps.
Does not guarantee that the ledger's schema accepts the event: the ledger decides, and keeps what it rejects.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import hashlib
import json
import math
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .errors import EventError

RUN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
KIND = re.compile(r"[a-z][a-z_]{0,63}")
KEY_ID = re.compile(r"[!-9;-~]{1,200}")  # printable ASCII without the colon that ends it in the header
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
DEPTH_MAX = 64  # deeper content is given as text: the encoder recurses, and the agent's stack is not ours

# Kinds whose loss would leave an action without its authority, its evidence or its end.
CRITICAL_KINDS = frozenset(
    {
        "approval_decision",
        "approval_request",
        "autonomy_changed",
        "contract_applied",
        "credential_issued",
        "credential_revoked",
        "delegation",
        "error",
        "final_action",
        "human_override",
        "incident",
        "kill_switch",
        "memory_delete",
        "outcome",
        "policy_decision",
        "policy_published",
        "producer_gap",
        "release",
        "rollback",
        "run_finished",
        "run_started",
        "tool_registered",
    }
)
# Members that hold content in any kind: what is trimmed, largest first, from an event over the size limit.
CONTENT_MEMBERS = frozenset(
    {
        "after",
        "before",
        "context",
        "diff",
        "document",
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


def is_critical(kind: str, data: Mapping[str, Any]) -> bool:
    """Whether an event of this kind and data is never dropped in favour of another (docs/emitting.md lists them)."""
    if kind == "tool_call":  # a call that doesn't say it only reads may have written
        return data.get("access") != "read" or data.get("risk") in ("high", "critical")
    if kind == "memory_write":
        return data.get("class") not in ("working", "session")
    return kind in CRITICAL_KINDS


def uuid7() -> str:
    """A version 7 UUID (RFC 9562): milliseconds, 12 bits of their fraction, 62 random bits. Sorted ids index faster."""
    ms, ns = divmod(time.time_ns(), 1_000_000)
    high = ms << 16 | 0x7000 | ns * 4096 // 1_000_000
    low = 1 << 63 | int.from_bytes(os.urandom(8)) >> 2
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def timestamp(at: dt.datetime | None = None) -> str:
    """RFC 3339 in UTC with microseconds; now, if no time is given. A time without a zone is refused."""
    if at is None:
        at = dt.datetime.now(dt.UTC)
    elif at.tzinfo is None:
        raise EventError(f"time: expected a datetime with a time zone, got {at!r}")
    else:
        at = at.astimezone(dt.UTC)
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def decimal_text(value: Decimal | str | int, what: str = "amount") -> str:
    """A decimal string for an amount, digits kept, exponents expanded. Floats are refused: 0.1 + 0.2 is no amount."""
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        return value
    raise EventError(f"{what}: expected a Decimal, an int or a decimal string like '12.90', got {value!r}")


def check_amounts(kind: str, data: Mapping[str, Any]) -> None:
    """Raise EventError if an amount of money in the public members is not exact."""
    for member in ("value",) if kind == "outcome" else ("effect", "cost", "cost_claimed"):
        money = data.get(member)
        if isinstance(money, Mapping) and money.get("amount") is not None:
            decimal_text(money["amount"], f"{member}.amount")


# ---- JSON that can't fail ---------------------------------------------------------------------------------------


def _known(value: Any) -> Any:
    """The JSON form of common Python types, for the encoder's `default`. TypeError for the rest."""
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (uuid.UUID, PurePath)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Sequence, set, frozenset)):
        return list(value)
    if hasattr(type(value), "__index__"):
        return int(value)
    raise TypeError(type(value).__name__)


_encode: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_known
).encode


def json_text(value: str) -> str:
    """One string as JSON, lone surrogates replaced by U+FFFD."""
    return _encode(_well_formed(value, Counter()))


def encode_data(data: dict[str, Any]) -> bytes:
    """The data object as compact JSON. Never fails: what JSON can't say is given as text and counted in `emitter`."""
    notes: Counter[str] = Counter()
    encoded = _encode_value(data, notes)
    if not notes:
        return encoded
    members = {name: _repaired(value, Counter(), 1) for name, value in data.items()}
    members["emitter"] = {**data.get("emitter", {}), **notes}
    return _encode(_repaired(members, Counter(), 0)).encode()


def _encode_value(value: Any, notes: Counter[str]) -> bytes:
    try:
        return _encode(value).encode()
    except Exception:  # whatever the agent's own objects raise: the slow way asks each of them, guarded
        return _encode(_repaired(value, notes, 0)).encode()


def _well_formed(text: str, notes: Counter[str]) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        notes["surrogates_replaced"] += 1
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


def _repaired(value: Any, notes: Counter[str], depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _well_formed(str.__str__(value), notes)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        notes["not_finite"] += 1
        return float.__repr__(value)
    if isinstance(value, int):
        if value.bit_length() <= 4096:
            return int(value)
        notes["too_long"] += 1
        return hex(value)
    if depth > DEPTH_MAX:
        notes["too_deep"] += 1
        return _as_text(value, notes)
    try:
        if isinstance(value, dict):
            return {
                _well_formed(key if isinstance(key, str) else _as_text(key, notes), notes): _repaired(
                    member, notes, depth + 1
                )
                for key, member in list(value.items())
            }
        if isinstance(value, (list, tuple)):
            return [_repaired(item, notes, depth + 1) for item in list(value)]
        return _repaired(_known(value), notes, depth + 1)
    except Exception:  # an object's own code: anything may come out, none of it may reach the agent
        notes["not_json"] += 1
        return _as_text(value, notes)


def _as_text(value: Any, notes: Counter[str]) -> str:
    try:
        return _well_formed(repr(value)[:10_000], notes)
    except Exception:  # as above; RecursionError of a deep list ends here too
        return f"<{type(value).__name__}>"


def text_of(error: BaseException) -> str:
    """An exception's message; its own __str__ may fail."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__}>"


def trimmed(data: dict[str, Any], bytes_max: int) -> bytes | None:
    """The data object without its largest content members, named under `emitter` with size and SHA-256, so that it
    fits; None if it does not fit without any of them."""
    parts = {name: _encode_value(data[name], Counter()) for name in CONTENT_MEMBERS & data.keys()}
    kept, gone = dict(data), []
    for name in sorted(parts, key=lambda name: len(parts[name]), reverse=True):
        digest = hashlib.sha256(parts[name]).hexdigest()
        gone.append({"member": name, "bytes": len(parts[name]), "sha256": digest})
        del kept[name]
        encoded = encode_data(kept | {"emitter": {"trimmed": gone}})
        if len(encoded) <= bytes_max:
            return encoded
    return None


# ---- The envelope -------------------------------------------------------------------------------------------------


def envelope_head(source: str, tenant: str | None) -> str:
    """The part of every event of one emitter that does not change, up to its type."""
    head = f'{{"specversion":"1.0","datacontenttype":"application/json","source":{json_text(source)}'
    return f'{head},"tenant":{json_text(tenant)}' if tenant is not None else head


def envelope(
    head: str,
    kind: str,
    event_id: str,
    run: str | None,
    at: str,
    traceparent: str | None,
    subjects: Iterable[str],
) -> bytes:
    """The event up to where its producer id is to be written: `head ‖ producer id ‖ SEQUENCE ‖ number ‖ tail`."""
    if not KIND.fullmatch(kind):
        raise EventError(f"kind: expected lower-case letters and underscores, got {kind!r}")
    text = f'{head},"type":"tallystick.{kind}.v1","id":"{event_id}","time":"{at}"'
    if run is not None:
        text += f',"subject":"{run}"'
    if traceparent is not None and TRACEPARENT.fullmatch(traceparent):
        text += f',"traceparent":"{traceparent}"'
    if names := " ".join(quote(_well_formed(name, Counter()), safe="") for name in subjects):
        text += f',"datasubject":"{names}"'
    return f'{text},"producerid":"'.encode()


SEQUENCE = b'","sequence":"'


def envelope_tail(data: bytes) -> bytes:
    return b'","data":' + data + b"}"


def check_run_id(run: str) -> str:
    if not isinstance(run, str) or not RUN_ID.fullmatch(run):
        raise EventError(f"run: expected 1 to 128 of A-Z a-z 0-9 . _ : -, got {run!r}")
    return run


# ---- The producer's signature ---------------------------------------------------------------------------------------


def _lp(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


class Signer:
    """A producer's Ed25519 key and the id under which the ledger knows it (`tally keys`, entry `producer_key`)."""

    def __init__(self, key_id: str, private_key: Ed25519PrivateKey) -> None:
        if not KEY_ID.fullmatch(key_id):
            raise EventError(f"key id: expected printable ASCII without space or colon, got {key_id!r}")
        self.key_id, self._private_key = key_id, private_key

    @classmethod
    def from_pem(cls, key_id: str, pem: bytes, password: bytes | None = None) -> Signer:
        """Raises EventError if the PEM does not hold an Ed25519 private key."""
        try:
            key = load_pem_private_key(pem, password)
        except (ValueError, TypeError) as problem:
            raise EventError(f"signing key {key_id}: not a readable PEM private key: {problem}") from problem
        if not isinstance(key, Ed25519PrivateKey):
            raise EventError(f"signing key {key_id}: expected an Ed25519 private key, got {type(key).__name__}")
        return cls(key_id, key)

    def header(self, tenant: str, value: bytes) -> bytes:
        """The header `tallystick-sig`: `<key id>:<base64>` over lp("tallystick/producer-sig/v1") ‖ lp(tenant) ‖
        lp(value), where lp(x) is an 8-byte big-endian length and then x."""
        signature = self._private_key.sign(_lp(b"tallystick/producer-sig/v1") + _lp(tenant.encode()) + _lp(value))
        return self.key_id.encode() + b":" + base64.b64encode(signature)
