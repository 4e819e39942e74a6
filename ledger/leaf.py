"""Reading leaves strictly: bytes in, the members of the log format out (docs/log-format.md, section 2). Pure.

Guarantees: a leaf that passes is the canonical form of what it says, and has exactly the members of `v` 1, each of its
form. Does not: judge what needs other entries (chains, order, duplicate ids), the fields of a kind (`schemas` does), or
whether it is the leaf that was signed (`merkle` and `checkpoint` do).

`check_leaf` runs once an entry in a verification, at about 8 us for a leaf of 1,170 bytes, of which reading and writing
the JSON are 40 %. It walks only `data` for the profile: every other member has a form of its own, which leaves no room
for a float or a deep nesting. And since canonical members are sorted, the names of an object are compared as a tuple.

What leaves usually look like is accepted by a few cheap tests. They only ever accept: what they don't is judged again,
member by member, and there alone it is refused. So each of these tests must imply the long one that it stands for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import orjson

from ledger.errors import MalformedLeaf
from schemas.canonical import DEPTH_MAX, LEAF_BYTES_MAX, check_profile
from schemas.errors import SchemaError
from schemas.values import INTEGER_MAX, timestamp

VERSION = 1
# All names are sorted, as they stand in canonical bytes.
MEMBERS = (
    *("actor", "commit", "data", "id", "kind", "log", "prev", "recorded"),
    *("run", "run_seq", "schema", "sig", "source", "src", "time", "v"),
)

_SOURCE_OF_LEDGER = ("ledger",)
_SOURCE_OF_RECORD = ("cluster", "item", "offset", "partition", "topic", "topic_id")
_SOURCE_OF_LINE = ("cluster", "file", "item", "line", "offset", "partition", "topic", "topic_id")
_SRC = ("id", "seq")
_SIG = ("key",)
_COMMITMENT = ("c", "k")
_ACTOR = frozenset(["agent", "version", "principal", "on_behalf_of"])
_PERSONS = frozenset(["principal", "on_behalf_of"])

_ORIGIN = re.compile(r"[^\s+/]+(?:/[^\s+/]+)+").fullmatch
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[457][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}").fullmatch
_RUN = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
_HASH = re.compile(r"[0-9a-f]{64}").fullmatch
_PERSON = re.compile(r"p:[0-9a-f]{32}").fullmatch
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)+").fullmatch
_C = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=").fullmatch  # 32 bytes in base64, without stray bits
_REF = re.compile(r"[prsla]:[0-9a-f]{32}").fullmatch

_USUAL_POINTER = re.compile(r"/[ -}]*").fullmatch
_PLAIN = frozenset([str, int, bool])
_CANONICAL = orjson.OPT_SORT_KEYS
_CANONICAL_53 = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
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
    value, small = _object_of(leaf)
    actor, commit, data, id, kind, log, prev, recorded, run, run_seq, schema, sig, source, src, time, v = value.values()
    if type(v) is not int or v != VERSION:
        _refuse("v", VERSION, v)
    if type(log) is not str or not _is_origin(log):
        _refuse("log", "an origin", log)
    if type(id) is not str or not _ID(id):
        _refuse("id", "a UUID of version 4, 5 or 7 in lower case", id)
    if type(kind) is not str or not _KIND(kind):
        _refuse("kind", "a kind's name", kind)
    if type(schema) is not int or not 1 <= schema <= INTEGER_MAX:
        _refuse("schema", "an integer from 1", schema)
    _check_chain(run, run_seq, prev)
    _check_time("recorded", recorded)
    if time is not None:
        _check_time("time", time)
    _check_source(source)
    if src is not None:
        _check_src(src)
    if sig is not None and (type(sig) is not dict or tuple(sig) != _SIG or type(sig["key"]) is not str):
        _refuse("sig", 'null or {"key"}', sig)
    if actor is not None:
        _check_actor(actor)
    if commit is not None:
        _check_commit(commit)
    if not (small and leaf.isascii() and type(data) is dict and _is_usual(data)):
        _check_data(data)
    return value


def _object_of(leaf: bytes) -> tuple[dict[str, Any], bool]:
    """The object with exactly our members whose sorted encoding these bytes are; `data` is not yet in the profile. And
    whether all integers in it are within ±(2^53-1)."""
    if len(leaf) > LEAF_BYTES_MAX:
        raise MalformedLeaf(f"leaf: expected at most {LEAF_BYTES_MAX} bytes, got {len(leaf)}")
    try:
        value = orjson.loads(leaf)
        again, small = _encoded(value)
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
    if tuple(value) != MEMBERS:
        missing = [name for name in MEMBERS if name not in value]
        unknown = [name for name in value if name not in MEMBERS]
        raise MalformedLeaf(f"leaf: expected the members of v 1, got missing {missing}, unknown {_shown(unknown)}")
    return value, small


def _encoded(value: Any) -> tuple[bytes, bool]:
    """The sorted encoding, and whether all integers in it are within ±(2^53-1). Raises JSONEncodeError."""
    try:
        return orjson.dumps(value, option=_CANONICAL_53), True
    except orjson.JSONEncodeError:
        return orjson.dumps(value, option=_CANONICAL), False


@lru_cache(maxsize=1024)
def _is_origin(text: str) -> bool:
    return _ORIGIN(text) is not None


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
    names = tuple(source)
    if names == _SOURCE_OF_RECORD:
        cluster, item, offset, partition, topic, topic_id = source.values()
    elif names == _SOURCE_OF_LINE:
        cluster, file, item, line, offset, partition, topic, topic_id = source.values()
        if type(file) is not str or not _is_count(line):
            _refuse("source", "a file's name and a line number", (file, line))
    else:
        if names != _SOURCE_OF_LEDGER:
            _refuse("source", f"the members {_SOURCE_OF_RECORD}, with file and line or not, or ledger", names)
        if type(source["ledger"]) is not str or "/" not in source["ledger"]:
            _refuse("source.ledger", "<kind>/<what makes it unique>", source["ledger"])
        return
    if type(cluster) is not str or type(topic) is not str or not topic:
        _refuse("source", "the names of a cluster and a topic", (cluster, topic))
    if topic_id is not None and type(topic_id) is not str:
        _refuse("source.topic_id", "a text or null", topic_id)
    if not (_is_count(partition) and _is_count(offset) and _is_count(item)):
        _refuse("source", "partition, offset and item as integers from 0", (partition, offset, item))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= INTEGER_MAX


def _check_src(src: Any) -> None:
    if type(src) is not dict or tuple(src) != _SRC or type(src["id"]) is not str or not src["id"]:
        _refuse("src", 'null or {"id","seq"}', src)
    seq = src["seq"]
    if type(seq) is not int or not 1 <= seq <= INTEGER_MAX:
        _refuse("src.seq", "an integer from 1", seq)


def _check_actor(actor: Any) -> None:
    if type(actor) is not dict or not actor or not actor.keys() <= _ACTOR:
        _refuse("actor", f"null or an object of {sorted(_ACTOR)}", actor)
    for name, said in actor.items():
        if type(said) is not str:
            _refuse(f"actor.{name}", "a text", said)
        if name in _PERSONS and not _PERSON(said):
            # What stands there instead may be a person's name, which a message must not repeat.
            raise MalformedLeaf(f"actor.{name}: expected a person's reference, p: and 32 hex digits, got another text")


def _check_commit(commit: Any) -> None:
    if type(commit) is not dict or not commit:
        _refuse("commit", "null or an object that is not empty", commit)
    if not _is_usual_commit(commit):
        for pointer, said in commit.items():
            _check_commitment(pointer, said)


def _is_usual_commit(commit: dict[str, Any]) -> bool:
    try:
        for pointer, said in commit.items():
            refs = said["k"]
            if len(said) != 2 or type(refs) is not list or not refs:
                return False
            if _USUAL_POINTER(pointer) is None or _C(said["c"]) is None:
                return False
            for ref in refs:
                if _REF(ref) is None:
                    return False
    except (KeyError, TypeError):
        return False
    return True


def _check_commitment(pointer: str, said: Any) -> None:
    if not pointer.isascii() or not _POINTER(pointer):
        _refuse("commit", "JSON Pointers in ASCII", pointer)
    if type(said) is not dict or tuple(said) != _COMMITMENT:
        _refuse(f"commit{pointer}", 'the members "c" and "k"', said)
    c, refs = said.values()
    if type(c) is not str or not _C(c):
        _refuse(f"commit{pointer}.c", "the base64 of 32 bytes", c)
    if type(refs) is not list or not refs:
        _refuse(f"commit{pointer}.k", "one key reference or more", refs)
    for ref in refs:
        if type(ref) is not str or not _REF(ref):
            _refuse(f"commit{pointer}.k", "references, one of p r s l a, a colon, 32 hex digits", ref)


def _is_usual(data: dict[str, Any]) -> bool:
    """Whether data has texts, integers and truth values, and objects and lists of these; its names are ASCII."""
    for member in data.values():
        kind = type(member)
        if kind is str or kind is int or kind is bool:
            continue
        if kind is dict:
            if not _PLAIN.issuperset(map(type, member.values())):
                return False
        elif kind is not list or not _PLAIN.issuperset(map(type, member)):
            return False
    return True


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
