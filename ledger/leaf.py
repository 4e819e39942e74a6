"""Reading leaves strictly: bytes in, the members of the log format out (docs/log-format.md, section 2). Pure.

Guarantees: a leaf that passes is the canonical form of what it says, and has exactly the members of `v` 1, each of its
form. Does not: judge what needs other entries (chains, order, duplicate ids), the fields of a kind (`schemas` does), or
whether it is the leaf that was signed (`merkle` and `checkpoint` do).

`check_leaf` runs once an entry in a verification, at about 6 us for a leaf of 800 bytes. So it walks only `data` for the
profile: every other member has a form of its own, which leaves no room for a float or a deep nesting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from ledger.errors import MalformedLeaf
from schemas.canonical import DEPTH_MAX, LEAF_BYTES_MAX, check_profile
from schemas.errors import SchemaError
from schemas.values import INTEGER_MAX, timestamp

VERSION = 1
MEMBERS = frozenset(
    ["v", "log", "id", "kind", "schema", "run", "run_seq", "prev", "src", "time", "recorded"]
    + ["source", "actor", "data", "commit", "sig"]
)

_SOURCE_OF_LEDGER = frozenset(["ledger"])
_SOURCE_OF_RECORD = frozenset(["cluster", "topic", "topic_id", "partition", "offset", "item"])
_SOURCE_OF_LINE = _SOURCE_OF_RECORD | {"file", "line"}
_SRC = frozenset(["id", "seq"])
_SIG = frozenset(["key"])
_COMMITMENT = frozenset(["c", "k"])
_ACTOR = frozenset(["agent", "version", "principal", "on_behalf_of"])
_PERSONS = ("principal", "on_behalf_of")

_ORIGIN = re.compile(r"[^\s+/]+(?:/[^\s+/]+)+").fullmatch
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[457][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}").fullmatch
_RUN = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
_HASH = re.compile(r"[0-9a-f]{64}").fullmatch
_PERSON = re.compile(r"p:[0-9a-f]{32}").fullmatch
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+").fullmatch
_C = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=").fullmatch  # 32 bytes in base64, without stray bits
_REF = re.compile(r"[prsla]:[0-9a-f]{32}").fullmatch
_TIME_FORM = "YYYY-MM-DDThh:mm:ss.ffffffZ"
_TEXT_SHOWN_MAX = 80  # characters of a wrong value in a message: enough to find it, too few to fill a screen


@dataclass(frozen=True, slots=True)
class Leaf:
    """The members of a leaf."""

    v: int
    log: str
    id: str
    kind: str
    schema: int
    run: str | None
    run_seq: int | None
    prev: str | None
    src: dict[str, Any] | None
    time: str | None
    recorded: str
    source: dict[str, Any]
    actor: dict[str, str] | None
    data: dict[str, Any]
    commit: dict[str, dict[str, Any]] | None
    sig: dict[str, str] | None


def parse_leaf(leaf: bytes) -> Leaf:
    """The members of a leaf; raises MalformedLeaf, which says what, expected and got."""
    return Leaf(**check_leaf(leaf))


def check_leaf(leaf: bytes) -> dict[str, Any]:
    """`parse_leaf` as the plain JSON object, for where speed counts; raises MalformedLeaf."""
    value = _object_of(leaf)
    log, id, kind, schema = value["log"], value["id"], value["kind"], value["schema"]
    if value["v"] != VERSION or value["v"] is True:
        _refuse("v", VERSION, value["v"])
    if type(log) is not str or not _ORIGIN(log):
        _refuse("log", "an origin", log)
    if type(id) is not str or not _ID(id):
        _refuse("id", "a UUID of version 4, 5 or 7 in lower case", id)
    if type(kind) is not str or not _KIND(kind):
        _refuse("kind", "a kind's name", kind)
    if type(schema) is not int or not 1 <= schema <= INTEGER_MAX:
        _refuse("schema", "an integer from 1", schema)
    _check_chain(value["run"], value["run_seq"], value["prev"])
    _check_time("recorded", value["recorded"])
    if value["time"] is not None:
        _check_time("time", value["time"])
    _check_source(value["source"])
    src, sig, actor, commit, data = value["src"], value["sig"], value["actor"], value["commit"], value["data"]
    if src is not None:
        if type(src) is not dict or src.keys() != _SRC or type(src["id"]) is not str or not src["id"]:
            _refuse("src", 'null or {"id","seq"}', src)
        if type(src["seq"]) is not int or not 1 <= src["seq"] <= INTEGER_MAX:
            _refuse("src.seq", "an integer from 1", src["seq"])
    if sig is not None and (type(sig) is not dict or sig.keys() != _SIG or type(sig["key"]) is not str):
        _refuse("sig", 'null or {"key"}', sig)
    if actor is not None:
        _check_actor(actor)
    if commit is not None:
        _check_commit(commit)
    _check_data(data)
    return value


def _object_of(leaf: bytes) -> dict[str, Any]:
    """The object with exactly our members whose sorted encoding these bytes are; `data` is not yet in the profile."""
    if len(leaf) > LEAF_BYTES_MAX:
        raise MalformedLeaf(f"leaf: expected at most {LEAF_BYTES_MAX} bytes, got {len(leaf)}")
    try:
        value = orjson.loads(leaf)
        again = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError as error:
        raise MalformedLeaf(f"leaf: expected JSON: {error}") from error
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise MalformedLeaf(f"leaf: expected a value that can be written as canonical JSON: {error}") from error
    if type(value) is not dict:
        _refuse("leaf", "an object", value)
    if again != leaf:
        at = next((i for i, (one, two) in enumerate(zip(again, leaf, strict=False)) if one != two), len(again))
        raise MalformedLeaf(
            f"leaf: expected canonical JSON (members sorted and unique, no white space, shortest escapes), "
            f"got other bytes from {at} on"
        )
    if value.keys() != MEMBERS:
        missing, unknown = sorted(MEMBERS - value.keys()), sorted(value.keys() - MEMBERS)
        raise MalformedLeaf(f"leaf: expected the 16 members of v 1, got {missing} missing and {unknown} unknown")
    return value


def _check_chain(run: Any, run_seq: Any, prev: Any) -> None:
    """Of no run: all null. Else a place from 0, and the previous entry's hash but for the first."""
    if run is None:
        if run_seq is not None or prev is not None:
            _refuse("run_seq and prev", "null without a run", (run_seq, prev))
        return
    if type(run) is not str or not _RUN(run):
        _refuse("run", "1 to 128 of A-Z a-z 0-9 . _ : -", run)
    if type(run_seq) is not int or not 0 <= run_seq <= INTEGER_MAX:
        _refuse("run_seq", "an integer from 0", run_seq)
    if run_seq == 0:
        if prev is not None:
            _refuse("prev", "null at run_seq 0", prev)
    elif type(prev) is not str or not _HASH(prev):
        _refuse("prev", "64 hex digits in lower case", prev)


def _check_time(name: str, text: Any) -> None:
    try:
        if timestamp(text) == text:
            return
    except SchemaError as error:
        raise MalformedLeaf(f"{name}: expected {_TIME_FORM}, got {_shown(text)}: {error}") from error
    _refuse(name, _TIME_FORM, text)


def _check_source(source: Any) -> None:
    if type(source) is not dict:
        _refuse("source", "an object", source)
    names = source.keys()
    if names == _SOURCE_OF_LEDGER:
        if type(source["ledger"]) is not str or "/" not in source["ledger"]:
            _refuse("source.ledger", "<kind>/<what makes it unique>", source["ledger"])
        return
    if names != _SOURCE_OF_RECORD:
        if names != _SOURCE_OF_LINE:
            _refuse("source", f"the members {sorted(_SOURCE_OF_RECORD)} (with file and line), or ledger", sorted(names))
        if type(source["file"]) is not str or not _is_count(source["line"]):
            _refuse("source", "a file's name and a line number", (source["file"], source["line"]))
    topic_id = source["topic_id"]
    if type(source["cluster"]) is not str or type(source["topic"]) is not str or not source["topic"]:
        _refuse("source", "the names of a cluster and a topic", (source["cluster"], source["topic"]))
    if topic_id is not None and type(topic_id) is not str:
        _refuse("source.topic_id", "a text or null", topic_id)
    if not (_is_count(source["partition"]) and _is_count(source["offset"]) and _is_count(source["item"])):
        _refuse("source", "partition, offset and item as integers from 0", source)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= INTEGER_MAX


def _check_actor(actor: Any) -> None:
    if type(actor) is not dict or not actor or not actor.keys() <= _ACTOR:
        _refuse("actor", f"null or an object of {sorted(_ACTOR)}", actor)
    for name, said in actor.items():
        if type(said) is not str:
            _refuse(f"actor.{name}", "a text", said)
        if name in _PERSONS and not _PERSON(said):
            _refuse(f"actor.{name}", "a person's reference, p: and 32 hex digits", said)


def _check_commit(commit: Any) -> None:
    if type(commit) is not dict or not commit:
        _refuse("commit", "null or an object that is not empty", commit)
    for pointer, said in commit.items():
        if not pointer.isascii() or not _POINTER(pointer):
            _refuse("commit", "JSON Pointers in ASCII", pointer)
        if type(said) is not dict or said.keys() != _COMMITMENT:
            _refuse(f"commit{pointer}", 'the members "c" and "k"', said)
        if type(said["c"]) is not str or not _C(said["c"]):
            _refuse(f"commit{pointer}.c", "the base64 of 32 bytes", said["c"])
        refs = said["k"]
        if type(refs) is not list or not refs:
            _refuse(f"commit{pointer}.k", "one key reference or more", refs)
        for ref in refs:
            if type(ref) is not str or not _REF(ref):
                _refuse(f"commit{pointer}.k", "references, one of p r s l a, a colon, 32 hex digits", ref)


def _check_data(data: Any) -> None:
    if type(data) is not dict:
        _refuse("data", "an object", data)
    if None in data.values():
        _refuse("data", "no null: absent members are left out", sorted(name for name in data if data[name] is None))
    try:
        check_profile(data, DEPTH_MAX - 1)
    except SchemaError as error:
        raise MalformedLeaf(f"data: {error}") from error


def _refuse(what: str, expected: object, got: object) -> NoReturn:
    raise MalformedLeaf(f"{what}: expected {expected}, got {_shown(got)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT_SHOWN_MAX else text[: _TEXT_SHOWN_MAX - 1] + "…"
