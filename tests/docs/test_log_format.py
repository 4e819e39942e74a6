"""A reader written from docs/log-format.md alone, without our code, run on the published vectors.

It imports nothing of ours on purpose: what the page leaves out, this could not do. Not for use: it is slow and terse.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VECTORS = Path(__file__).parents[2] / "docs" / "vectors"


def vectors(name: str) -> dict[str, Any]:
    return dict(json.loads((VECTORS / name).read_text(encoding="utf-8")))


def each(name: str, member: str) -> Any:
    items = vectors(name)[member]
    return pytest.mark.parametrize(
        "given", items, ids=[item.get("description", str(n)) for n, item in enumerate(items)]
    )


class RefusedError(Exception):
    """The page says that a reader refuses this."""


# Section 2: leaves

MEMBERS = {"v", "log", "id", "kind", "schema", "run", "run_seq", "prev", "src", "time", "recorded", "source", "actor"}
MEMBERS |= {"data", "commit", "sig"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _no_float(text: str) -> NoReturn:
    raise RefusedError(f"{text} is no integer")


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**53:
        raise RefusedError("integer out of range")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names) or not all(name.isascii() for name in names):
        raise RefusedError("member names")
    return dict(pairs)


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


def read_leaf(text: str) -> dict[str, Any]:
    leaf = json.loads(
        text, parse_float=_no_float, parse_constant=_no_float, parse_int=_integer, object_pairs_hook=_distinct
    )
    if canonical(leaf) != text or len(text.encode("utf-8", "surrogatepass")) > 65_535 or depth(leaf) > 32:
        raise RefusedError("not canonical")
    text.encode()  # a lone surrogate has no UTF-8
    if set(leaf) != MEMBERS or leaf["v"] != 1 or None in leaf["data"].values():
        raise RefusedError("members")
    if (leaf["run"] is None) != (leaf["run_seq"] is None) or (leaf["prev"] is None) != (not leaf["run_seq"]):
        raise RefusedError("chain")
    for moment in (leaf["recorded"], leaf["time"]):
        if moment is not None:
            if not TIME.fullmatch(moment):
                raise RefusedError("time")
            datetime.fromisoformat(moment)
    for person in ("principal", "on_behalf_of"):
        if not re.fullmatch(r"p:[0-9a-f]{32}", (leaf["actor"] or {}).get(person, "p:" + "0" * 32)):
            raise RefusedError("a person in clear")
    return dict(leaf)


@each("leaf.json", "leaves")
def test_leaves_are_read_and_hashed(given: dict[str, Any]) -> None:
    read_leaf(given["leaf"])
    assert leaf_hash(given["leaf"].encode()).hex() == given["hash"]


@each("leaf.json", "refused")
def test_leaves_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises((RefusedError, ValueError)):
        read_leaf(given["leaf"])


# Section 3: trees


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def root(hashes: list[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256().digest()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(hashes[:split]) + root(hashes[split:])).digest()


def inclusion(hashes: list[bytes], index: int) -> list[bytes]:
    if len(hashes) < 2:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return [*inclusion(hashes[:split], index), root(hashes[split:])]
    return [*inclusion(hashes[split:], index - split), root(hashes[:split])]


def consistency(hashes: list[bytes], old: int, *, whole: bool = True) -> list[bytes]:
    if old == len(hashes):
        return [] if whole else [root(hashes)]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if old <= split:
        return [*consistency(hashes[:split], old, whole=whole), root(hashes[split:])]
    return [*consistency(hashes[split:], old - split, whole=False), root(hashes[:split])]


NUMBERS = [leaf_hash(b"%d" % n) for n in range(2048)]


def test_trees_and_proofs() -> None:
    given = vectors("merkle.json")
    for item in given["leaf_hashes"]:
        assert leaf_hash(bytes.fromhex(item["leaf"])).hex() == item["hash"]
    for item in given["roots"]:
        assert root(NUMBERS[: item["tree_size"]]).hex() == item["root_hash"]
    for item in given["inclusion_proofs"]:
        proof = inclusion(NUMBERS[: item["tree_size"]], item["index"])
        assert [step.hex() for step in proof] == item["proof"]
    for item in given["consistency_proofs"]:
        old = item["old_size"]
        proof = consistency(NUMBERS[: item["new_size"]], old) if old else []
        assert [step.hex() for step in proof] == item["proof"]


# Section 7: tiles


def tile_path(level: int | None, index: int, width: int) -> str:
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return f"tile/{'entries' if level is None else level}/{name}" + (f".p/{width}" if width < 256 else "")


def test_tiles() -> None:
    given = vectors("merkle.json")
    for item in given["tile_paths"]:
        assert tile_path(item["level"], item["index"], item["width"]) == item["path"]
    size = given["tiles"]["tree_size"]
    made: dict[str, bytes] = {}
    for level, span in ((0, 1), (1, 256)):
        hashes = [root(NUMBERS[at : at + span]) for at in range(0, size - span + 1, span)]
        for at in range(0, len(hashes), 256):
            part = hashes[at : at + 256]
            made[tile_path(level, at // 256, len(part))] = b"".join(part)
    for at in range(0, size, 256):
        leaves = [b"%d" % n for n in range(at, min(at + 256, size))]
        bundle = b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)
        made[tile_path(None, at // 256, len(leaves))] = bundle
    assert {path: hashlib.sha256(data).hexdigest() for path, data in made.items()} == {
        item["path"]: item["sha256"] for item in given["tiles"]["files"]
    }


# Section 6: checkpoints


def open_checkpoint(note: str, vkeys: list[str]) -> tuple[str, int, bytes, list[str]]:
    """Origin, size, root and the verifier keys that signed; Ed25519 (type 1) only."""
    text, found, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if not found or not note.endswith("\n") or len(lines) != 3 or not re.fullmatch(r"0|[1-9][0-9]*", lines[1]):
        raise RefusedError("malformed")
    root_hash = base64.b64decode(lines[2], validate=True)
    if len(root_hash) != 32:
        raise RefusedError("malformed")
    signed: list[str] = []
    for line in signatures.removesuffix("\n").split("\n"):
        dash, name, encoded = line.split(" ")
        blob = base64.b64decode(encoded, validate=True)
        for vkey in vkeys:
            key_name, key_id, key = vkey.split("+", 2)
            typed = base64.b64decode(key)
            wanted = hashlib.sha256(key_name.encode() + b"\n" + typed).digest()[:4]
            if dash == "—" and name == key_name and blob[:4] == wanted == bytes.fromhex(key_id) and typed[0] == 1:
                Ed25519PublicKey.from_public_bytes(typed[1:]).verify(blob[4:], (text + "\n").encode())
                signed.append(vkey)
    if not signed:
        raise RefusedError("unknown_key")
    return lines[0], int(lines[1]), root_hash, signed


@each("checkpoint.json", "checkpoints")
def test_checkpoints(given: dict[str, Any]) -> None:
    ours = [vkey for vkey in given["verified_by"] if base64.b64decode(vkey.split("+", 2)[2])[0] == 1]
    opened = open_checkpoint(given["note"], ours)
    assert opened == (given["origin"], given["tree_size"], bytes.fromhex(given["root_hash"]), ours)
    assert root(NUMBERS[: given["tree_size"]]) == opened[2]


@each("checkpoint.json", "refused_with_the_first_key")
def test_checkpoints_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises((RefusedError, ValueError, InvalidSignature)):
        open_checkpoint(given["note"], [vectors("checkpoint.json")["keys"][0]["vkey"]])


def test_a_rotation() -> None:
    given = vectors("checkpoint.json")["key_rotation"]
    text = f"tallystick/key-rotation/v1\n{given['origin']}\n{given['old']}\n{given['new']}\n"
    assert text == given["signed_text"]
    key = base64.b64decode(given["new"].split("+", 2)[2])[1:]
    Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(given["signature"]), text.encode())


# Section 5: content


def lp(value: bytes) -> bytes:
    return len(value).to_bytes(8, "big") + value


def hkdf(material: bytes, info: bytes) -> bytes:
    extracted = hmac.digest(bytes(32), material, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


@each("content.json", "fields")
def test_content(given: dict[str, Any]) -> None:
    keys = [bytes.fromhex(key) for key in given["keys"]]
    key = keys[0] if len(keys) == 1 else hkdf(b"".join(keys), b"tallystick/field/v1")
    assert key.hex() == given["field_key"]
    place = b"".join(lp(given[name].encode()) for name in ("log", "id", "pointer", "type"))
    sealed, value = bytes.fromhex(given["sealed"]), bytes.fromhex(given["value"])
    assert sealed[:12].hex() == given["nonce"]
    opened = AESGCM(key).decrypt(sealed[:12], sealed[12:], place)
    assert (opened[:32].hex(), opened[32:]) == (given["salt"], value)
    commitment = hmac.digest(opened[:32], lp(b"tallystick/commit/v1") + place + lp(value), "sha256")
    assert base64.b64encode(commitment).decode() == given["commitment"]


@each("content.json", "arguments")
def test_digests_of_arguments(given: dict[str, Any]) -> None:
    key = hkdf(bytes.fromhex(given["key"]), b"tallystick/digest/v1")
    assert key.hex() == given["digest_key"]
    assert "hmac-sha256:" + hmac.digest(key, given["normal_form"].encode(), "sha256").hex() == given["digest"]


# Section 4: ids


def test_ids() -> None:
    given = vectors("ids.json")
    ns = uuid.uuid5(uuid.NAMESPACE_URL, "https://tallystick/ns/v1")
    assert str(ns) == given["namespace"]
    form = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[47][0-9a-fA-F]{3}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
    for item in given["cloudevents"]:
        through = str(uuid.uuid5(ns, f"ce\n{item['source']}\n{item['id']}"))
        assert (item["id"].lower() if form.fullmatch(item["id"]) else through) == item["event_id"]
    for item in given["plain"]:
        assert str(uuid.uuid5(ns, f"plain\n{item['run_id']}\n{item['step']}\n{item['type']}")) == item["event_id"]
    for item in given["ledger"]:
        assert canonical(item["source"]) == item["canonical"]
        assert str(uuid.uuid5(ns, f"{item['kind']}\n{item['canonical']}")) == item["event_id"]
    for item in given["findings"]:
        assert str(uuid.uuid5(ns, f"{item['rule']}\n{item['rule_version']}\n{item['first']}")) == item["event_id"]
