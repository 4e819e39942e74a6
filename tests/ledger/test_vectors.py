"""The test vectors in docs/vectors: our code gives them, and so do the specifications' formulas written out here.

What is written out below uses nothing of the ledger's code, so that a vector is not only what we happen to do.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger import content, merkle, note, tiles
from ledger.checkpoint import Checkpoint, sign_checkpoint, verify_checkpoint
from ledger.errors import BadSignature, LedgerError, MalformedLeaf, MalformedNote, UnknownKey
from ledger.leaf import check_leaf
from schemas import ids
from schemas.canonical import normal_form
from tests.ledger.test_merkle import Tiles, naive_consistency, naive_path, naive_root

VECTORS = Path(__file__).parents[2] / "docs" / "vectors"
MERKLE, CHECKPOINT, CONTENT, LEAF, IDS = (
    json.loads((VECTORS / f"{name}.json").read_text()) for name in ("merkle", "checkpoint", "content", "leaf", "ids")
)
LEAVES = [str(number).encode() for number in range(300)]
HASHES = [sha256(b"\0" + leaf).digest() for leaf in LEAVES]


def lp(value: bytes) -> bytes:
    return len(value).to_bytes(8, "big") + value


def hkdf(material: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output and no salt."""
    return hmac.digest(hmac.digest(bytes(32), material, "sha256"), info + b"\x01", "sha256")


def test_every_file_is_run() -> None:
    assert {path.stem for path in VECTORS.glob("*.json")} == {"merkle", "checkpoint", "content", "leaf", "ids"}


def test_trees() -> None:
    tree = Tiles(HASHES)
    for vector in MERKLE["leaf_hashes"]:
        leaf = bytes.fromhex(vector["leaf"])
        assert vector["hash"] == merkle.leaf_hash(leaf).hex() == sha256(b"\0" + leaf).hexdigest()
    for vector in MERKLE["roots"]:
        size = vector["tree_size"]
        assert vector["root_hash"] == merkle.tree_root(size, tree).hex() == naive_root(HASHES[:size]).hex()
    roots = {vector["tree_size"]: bytes.fromhex(vector["root_hash"]) for vector in MERKLE["roots"]}
    for vector in MERKLE["inclusion_proofs"]:
        index, size = vector["index"], vector["tree_size"]
        proof = [bytes.fromhex(text) for text in vector["proof"]]
        assert proof == merkle.inclusion_proof(index, size, tree) == naive_path(index, HASHES[:size])
        root = roots.get(size, naive_root(HASHES[:size]))
        merkle.verify_inclusion(index, size, HASHES[index], proof, root)
    for vector in MERKLE["consistency_proofs"]:
        old, new = vector["old_size"], vector["new_size"]
        proof = [bytes.fromhex(text) for text in vector["proof"]]
        assert proof == merkle.consistency_proof(old, new, tree)
        assert proof == (naive_consistency(old, HASHES[:new]) if old else [])
        merkle.verify_consistency(old, new, naive_root(HASHES[:old]), naive_root(HASHES[:new]), proof)


def test_tiles() -> None:
    files = {
        "tile/0/000": b"".join(HASHES[:256]),
        "tile/0/001.p/44": b"".join(HASHES[256:]),
        "tile/1/000.p/1": naive_root(HASHES[:256]),
        "tile/entries/000": b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in LEAVES[:256]),
        "tile/entries/001.p/44": b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in LEAVES[256:]),
    }
    assert MERKLE["tiles"]["tree_size"] == len(LEAVES)
    assert {found["path"]: found["sha256"] for found in MERKLE["tiles"]["files"]} == {
        path: sha256(data).hexdigest() for path, data in files.items()
    }
    tree = Tiles(HASHES)
    assert tree.full[0, 0] == files["tile/0/000"]
    assert tree.edge.dump() == files["tile/0/001.p/44"] + files["tile/1/000.p/1"]
    assert tiles.encode_bundle(LEAVES[256:]) == files["tile/entries/001.p/44"]
    for vector in MERKLE["tile_paths"]:
        found = tiles.parse_path(vector["path"])
        assert (found.level, found.index, found.width) == (vector["level"], vector["index"], vector["width"])


def test_keys() -> None:
    for vector in CHECKPOINT["keys"]:
        public = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"])).public_key().public_bytes_raw()
        assert public.hex() == vector["public"]
        tagged = bytes([vector["algorithm"]]) + public
        assert sha256(vector["name"].encode() + b"\n" + tagged).hexdigest()[:8] == vector["key_id"]
        assert vector["vkey"] == f"{vector['name']}+{vector['key_id']}+{b64encode(tagged).decode()}"
        assert str(note.parse_vkey(vector["vkey"])) == vector["vkey"]


def signers() -> dict[str, note.Ed25519Signer]:
    made = {}
    for vector in CHECKPOINT["keys"]:
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"]))
        made[vector["vkey"]] = note.Ed25519Signer(vector["name"], private)
    return made


def test_checkpoints() -> None:
    known = signers()
    for vector in CHECKPOINT["checkpoints"]:
        verified = verify_checkpoint(vector["note"].encode(), vector["verified_by"])
        root = bytes.fromhex(vector["root_hash"])
        assert verified.checkpoint == Checkpoint(vector["origin"], vector["tree_size"], root)
        assert verified.checkpoint.text() == verified.note.text == vector["text"]
        assert root == naive_root(HASHES[: vector["tree_size"]])
        logs = [known[vkey] for vkey in vector["verified_by"] if known[vkey].vkey == vkey]
        assert vector["note"].startswith(sign_checkpoint(verified.checkpoint, *logs).decode())
        for found, key in zip(verified.note.signatures, verified.note.keys, strict=True):
            message = vector["text"].encode()
            if found.time is not None:
                message = f"cosignature/v1\ntime {found.time}\n".encode() + message
            assert found.signature[-64:] == known[str(key)].sign(message)
    errors = {"bad_signature": BadSignature, "unknown_key": UnknownKey, "malformed": MalformedNote}
    for vector in CHECKPOINT["refused_with_the_first_key"]:
        with pytest.raises(errors[vector["refused"]]):
            verify_checkpoint(vector["note"].encode(), [CHECKPOINT["keys"][0]["vkey"]])


def test_key_rotation() -> None:
    vector = CHECKPOINT["key_rotation"]
    text = f"tallystick/key-rotation/v1\n{vector['origin']}\n{vector['old']}\n{vector['new']}\n"
    assert vector["signed_text"] == text
    assert vector["signature"] == b64encode(signers()[vector["new"]].sign(text.encode())).decode()


@pytest.mark.parametrize("vector", CONTENT["fields"], ids=lambda vector: vector["description"])
def test_fields(vector: dict[str, Any]) -> None:
    place: tuple[str, str, str, str] = (vector["log"], vector["id"], vector["pointer"], vector["type"])
    keys = [bytes.fromhex(key) for key in vector["keys"]]
    value, nonce, salt, sealed = (bytes.fromhex(vector[name]) for name in ("value", "nonce", "salt", "sealed"))
    key = keys[0] if len(keys) == 1 else hkdf(b"".join(keys), b"tallystick/field/v1")
    assert key.hex() == vector["field_key"]
    additional = b"".join(lp(part.encode()) for part in place)
    message = lp(b"tallystick/commit/v1") + additional + lp(value)
    assert vector["commitment"] == b64encode(hmac.digest(salt, message, "sha256")).decode()
    assert sealed == nonce + AESGCM(key).encrypt(nonce, salt + value, additional)
    assert content.seal_field(content.field_cipher(keys), nonce + salt, *place, value) == (vector["commitment"], sealed)
    assert content.open_field(keys, sealed, *place) == (salt, value)
    assert content.commitment(salt, *place, value) == b64decode(vector["commitment"])
    with pytest.raises(LedgerError):
        content.open_field([*keys, keys[0]], sealed, *place)


@pytest.mark.parametrize("vector", CONTENT["arguments"], ids=lambda vector: vector["input"])
def test_digests_of_arguments(vector: dict[str, Any]) -> None:
    key = bytes.fromhex(vector["key"])
    assert vector["digest_key"] == hkdf(key, b"tallystick/digest/v1").hex() == content.digest_key(key).hex()
    normal = normal_form(vector["input"].encode())
    assert vector["normal_form"] == normal.decode()
    made = hmac.digest(bytes.fromhex(vector["digest_key"]), normal, "sha256").hex()
    assert vector["digest"] == f"hmac-sha256:{made}" == content.arguments_digest(content.digest_key(key), normal)


def test_equal_arguments_have_equal_digests() -> None:
    digests = {vector["input"]: vector["digest"] for vector in CONTENT["arguments"]}
    assert digests['{"order":"A-1","amount":12.50}'] == digests['{"amount":125e-1,"order":"A-1"}']


@pytest.mark.parametrize("vector", LEAF["leaves"], ids=lambda vector: vector["description"])
def test_leaves(vector: dict[str, Any]) -> None:
    leaf = vector["leaf"].encode()
    assert vector["hash"] == sha256(b"\0" + leaf).hexdigest() == merkle.leaf_hash(leaf).hex()
    assert check_leaf(leaf) == json.loads(leaf)
    assert rfc8785.dumps(json.loads(leaf)) == leaf


@pytest.mark.parametrize("vector", LEAF["refused"], ids=lambda vector: vector["description"])
def test_refused_leaves(vector: dict[str, Any]) -> None:
    with pytest.raises(MalformedLeaf):
        check_leaf(vector["leaf"].encode())


def test_ids() -> None:
    namespace = uuid5(NAMESPACE_URL, "https://tallystick/ns/v1")
    assert IDS["namespace"] == str(namespace) == str(ids.NS)

    def v5(*lines: str) -> str:
        return str(uuid5(namespace, "\n".join(lines)))

    for vector in IDS["cloudevents"]:
        try:
            kept = UUID(vector["id"]).version in (4, 7)
        except ValueError:
            kept = False
        expected = vector["id"].lower() if kept else v5("ce", vector["source"], vector["id"])
        assert vector["event_id"] == expected == ids.cloudevent_id(vector["source"], vector["id"])
    for vector in IDS["plain"]:
        run, step, type = vector["run_id"], vector["step"], vector["type"]
        assert vector["event_id"] == v5("plain", run, step, type) == ids.plain_id(run, step, type)
    for vector in IDS["spans"]:
        trace, span = vector["trace_id"], vector["span_id"]
        assert vector["event_id"] == v5("otlp", trace, span) == ids.span_id(trace, span)
    for vector in IDS["ledger"]:
        assert vector["canonical"] == rfc8785.dumps(vector["source"]).decode()
        expected = v5(vector["kind"], vector["canonical"])
        assert vector["event_id"] == expected == ids.ledger_id(vector["kind"], vector["source"])
    for vector in IDS["findings"]:
        rule, version, first = vector["rule"], vector["rule_version"], vector["first"]
        assert vector["event_id"] == v5(rule, version, first) == ids.finding_id(rule, version, first)
