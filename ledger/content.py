"""Content: committing to a field and sealing it under the keys of those it concerns (log-format.md, "Content"). Pure.

Guarantees: a commitment binds log, event id, pointer, type and value under a fresh salt, and hides the value; a sealed
field opens only under the same keys, in order, at the same place. Does not: keep keys or decide which keys (`keystore`
and `seal` do). Opening cannot tell a wrong key from changed bytes: AES-GCM has one tag for both. The two are told apart
by the key's reference, which is kept beside the commitment and never says more than it is.

    additional  = lp(log) ‖ lp(id) ‖ lp(pointer) ‖ lp(type)
    commitment  = HMAC-SHA256(salt, lp("tallystick/commit/v1") ‖ additional ‖ lp(value))
    sealed      = nonce ‖ AES-256-GCM(key, nonce, salt ‖ value, additional)
    key         = the one key, or HKDF-SHA256(salt none, key 1 ‖ key 2 ‖ …, info "tallystick/field/v1")
    digest key  = HKDF-SHA256(salt none, key, info "tallystick/digest/v1")
    arguments   = "hmac-sha256:" ‖ hex HMAC-SHA256(digest key, normal form)

lp(x) is the 8-byte big-endian length of x, then x. All keys and HKDF outputs are 32 bytes.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger.errors import SealedFieldError

KEY_BYTES = 32
SALT_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
# What sealing one field consumes: the nonce, then the salt. Ask for many at once; never use any of it twice.
RANDOM_BYTES = NONCE_BYTES + SALT_BYTES

COMMIT_DOMAIN = b"tallystick/commit/v1"
FIELD_INFO = b"tallystick/field/v1"
DIGEST_INFO = b"tallystick/digest/v1"
DIGEST_PREFIX = "hmac-sha256:"

_SHA256_BLOCK_BYTES = 64
_INNER = bytes(value ^ 0x36 for value in range(256))
_OUTER = bytes(value ^ 0x5C for value in range(256))
_INNER_PAD = b"\x36" * (_SHA256_BLOCK_BYTES - SALT_BYTES)
_OUTER_PAD = b"\x5c" * (_SHA256_BLOCK_BYTES - SALT_BYTES)


def lp(value: bytes) -> bytes:
    """The 8-byte big-endian length of a value, then the value."""
    return len(value).to_bytes(8, "big") + value


@lru_cache(maxsize=4096)
def _lp_text(text: str) -> bytes:
    # Logs, pointers and types repeat; ids do not, and are not looked up here.
    return lp(text.encode())


_COMMIT_PREFIX = lp(COMMIT_DOMAIN)


def additional_head(log: str, id: str) -> bytes:
    """The part of a field's additional data that all fields of an entry share."""
    name = id.encode()
    return _lp_text(log) + len(name).to_bytes(8, "big") + name


@lru_cache(maxsize=4096)
def additional_tail(pointer: str, type: str) -> bytes:
    """The part of a field's additional data that the same fields of all entries share."""
    return lp(pointer.encode()) + lp(type.encode())


def _additional(log: str, id: str, pointer: str, type: str) -> bytes:
    return additional_head(log, id) + additional_tail(pointer, type)


def _commit(salt: bytes, additional: bytes, value: bytes) -> bytes:
    # HMAC by hand, since for a key of this one length it is two hashes: 0.9 us instead of 1.4 through hmac.digest.
    message = _COMMIT_PREFIX + additional + len(value).to_bytes(8, "big") + value
    inner = sha256(salt.translate(_INNER) + _INNER_PAD + message).digest()
    return sha256(salt.translate(_OUTER) + _OUTER_PAD + inner).digest()


def commitment(salt: bytes, log: str, id: str, pointer: str, type: str, value: bytes) -> bytes:
    """The 32-byte commitment to a field's value, under a 32-byte salt."""
    if len(salt) != SALT_BYTES:
        raise SealedFieldError(f"salt of {pointer} of {id}: expected {SALT_BYTES} bytes, got {len(salt)}")
    return _commit(salt, _additional(log, id, pointer, type), value)


def field_key(keys: Sequence[bytes]) -> bytes:
    """The key of a field: the one key, or one derived from several in the order of the commitment's `k`."""
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise SealedFieldError(f"a field needs one key or more of {KEY_BYTES} bytes, got {[len(key) for key in keys]}")
    return keys[0] if len(keys) == 1 else _hkdf(b"".join(keys), FIELD_INFO)


def field_cipher(keys: Sequence[bytes]) -> AESGCM:
    """The cipher of a field's keys; making it costs as much as sealing with it, so keep it for a batch."""
    return AESGCM(field_key(keys))


def seal_field(
    cipher: AESGCM, random: bytes, log: str, id: str, pointer: str, type: str, value: bytes
) -> tuple[str, bytes]:
    """Commit to a value and seal it: (base64 of the commitment, sealed bytes).

    `random` is RANDOM_BYTES from the operating system, used for nothing else ever: a nonce that comes twice under one
    key gives both values away.
    """
    if len(random) != RANDOM_BYTES:
        raise SealedFieldError(f"sealing {pointer} of {id}: expected {RANDOM_BYTES} random bytes, got {len(random)}")
    return seal_value(cipher, random, 0, _additional(log, id, pointer, type), value)


def seal_value(cipher: AESGCM, random: bytes, at: int, additional: bytes, value: bytes) -> tuple[str, bytes]:
    """`seal_field` where the additional data is made already: uses RANDOM_BYTES of `random` from `at` on."""
    nonce = random[at : at + NONCE_BYTES]
    salt = random[at + NONCE_BYTES : at + RANDOM_BYTES]
    sealed = nonce + cipher.encrypt(nonce, salt + value, additional)
    return b2a_base64(_commit(salt, additional, value), newline=False).decode(), sealed


def seal(keys: Sequence[bytes], log: str, id: str, pointer: str, type: str, value: bytes) -> tuple[str, bytes]:
    """`seal_field` for one field: makes the cipher and takes the random bytes."""
    return seal_field(field_cipher(keys), os.urandom(RANDOM_BYTES), log, id, pointer, type, value)


def open_field(
    keys: AESGCM | Sequence[bytes], sealed: bytes, log: str, id: str, pointer: str, type: str
) -> tuple[bytes, bytes]:
    """Open a sealed field: (salt, value). The caller compares `commitment` of them with the leaf's.

    Raises SealedFieldError when it does not open, which is one of: another key, another place, changed bytes.
    """
    if len(sealed) < RANDOM_BYTES + TAG_BYTES:
        raise SealedFieldError(
            f"sealed {pointer} of {id} in {log}: expected {RANDOM_BYTES + TAG_BYTES} bytes or more, got {len(sealed)}"
        )
    cipher = keys if isinstance(keys, AESGCM) else field_cipher(keys)
    try:
        plain = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _additional(log, id, pointer, type))
    except InvalidTag as error:
        raise SealedFieldError(
            f"sealed {pointer} of {id} in {log} does not open: sealed under another key or at another place, or changed"
        ) from error
    return plain[:SALT_BYTES], plain[SALT_BYTES:]


class Hmac:
    """HMAC-SHA256 under one key used often: the key's part is hashed once."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _SHA256_BLOCK_BYTES:
            key = sha256(key).digest()
        padded = key.ljust(_SHA256_BLOCK_BYTES, b"\0")
        self._inner = sha256(padded.translate(_INNER))
        self._outer = sha256(padded.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        """The 32-byte code of a message."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class RandomPool:
    """Bytes of the operating system's random source, drawn many at a time and given out once each.

    A system call an entry costs more than its encryption. A forked child draws anew, or both would use the same nonces.
    """

    __slots__ = ("_at", "_bytes", "_forks")

    DRAWN_BYTES = 1 << 14

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0
        self._forks = _forks

    def take(self, count: int) -> tuple[bytes, int]:
        """(buffer, where in it `count` bytes begin that nobody else is given)."""
        at = self._at
        if at + count > len(self._bytes) or self._forks != _forks:
            self._bytes = os.urandom(max(self.DRAWN_BYTES, count))
            self._forks = _forks
            at = 0
        self._at = at + count
        return self._bytes, at


_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def digest_key(key: bytes) -> bytes:
    """The key of the public digests that are made under a session's or run's key, and that go when it goes."""
    if len(key) != KEY_BYTES:
        raise SealedFieldError(f"a digest key is derived from {KEY_BYTES} bytes, got {len(key)}")
    return _hkdf(key, DIGEST_INFO)


def arguments_digest(digest_key: bytes | Hmac, normal_form: bytes) -> str:
    """The public digest of a call's arguments: `hmac-sha256:` and hex, over `schemas.canonical.normal_form`."""
    code = digest_key if isinstance(digest_key, Hmac) else Hmac(digest_key)
    return DIGEST_PREFIX + code.digest(normal_form).hex()


def _hkdf(material: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(material)
