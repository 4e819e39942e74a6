"""Content: commitments and sealed fields by the format's definition, and nothing opens anywhere else."""

from __future__ import annotations

import hmac
import os
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ledger import content
from ledger.errors import SealedFieldError

KEYS = [bytes([number]) * 32 for number in range(4)]
PLACE: tuple[str, str, str, str] = (
    "ledger.example.org/t-1",
    "018f3c2e-7a1b-7c3d-9e4f-0123456789ab",
    "/input",
    "application/json",
)

Place = tuple[str, str, str, str]
places = st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
salts = st.binary(min_size=32, max_size=32)
keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)


def lp(value: bytes) -> bytes:
    return len(value).to_bytes(8, "big") + value


@given(salts, places, st.binary(max_size=300))
def test_a_commitment_is_the_hmac_that_the_format_says(salt: bytes, place: Place, value: bytes) -> None:
    log, id, pointer, type = (part.encode() for part in place)
    message = lp(b"tallystick/commit/v1") + lp(log) + lp(id) + lp(pointer) + lp(type) + lp(value)
    expected = hmac.digest(salt, message, "sha256")
    assert content.commitment(salt, *place, value) == expected


@given(keys, places, st.binary(max_size=300))
def test_a_sealed_field_opens_to_what_was_committed(some: list[bytes], place: Place, value: bytes) -> None:
    text, sealed = content.seal(some, *place, value)
    salt, opened = content.open_field(some, sealed, *place)
    assert opened == value
    assert b64decode(text) == content.commitment(salt, *place, value)
    assert len(sealed) == 12 + 32 + len(value) + 16


@given(places, places)
def test_places_do_not_run_into_each_other(one: Place, other: Place) -> None:
    same = content.commitment(KEYS[0], *one, b"value") == content.commitment(KEYS[0], *other, b"value")
    assert same == (one == other)


def test_the_stored_form_is_nonce_then_aes_gcm() -> None:
    random = bytes(range(44))
    _, sealed = content.seal_field(content.field_cipher(KEYS[:1]), random, *PLACE, b"value")
    additional = b"".join(lp(part.encode()) for part in PLACE)
    assert sealed[:12] == random[:12]
    assert AESGCM(KEYS[0]).decrypt(sealed[:12], sealed[12:], additional) == random[12:] + b"value"


@given(st.integers(0, 10_000))
def test_a_flipped_bit_does_not_open(bit: int) -> None:
    _, sealed = content.seal(KEYS[:1], *PLACE, b"value")
    bent = bytearray(sealed)
    bit %= len(bent) * 8
    bent[bit // 8] ^= 1 << bit % 8
    with pytest.raises(
        SealedFieldError, match="does not open: sealed under another key or at another place, or changed"
    ):
        content.open_field(KEYS[:1], bytes(bent), *PLACE)


@pytest.mark.parametrize("part", range(4))
def test_a_field_opens_at_its_place_only(part: int) -> None:
    _, sealed = content.seal(KEYS[:1], *PLACE, b"value")
    log, id, pointer, type = (text + "x" if at == part else text for at, text in enumerate(PLACE))
    with pytest.raises(SealedFieldError):
        content.open_field(KEYS[:1], sealed, log, id, pointer, type)


def test_a_field_of_several_subjects_needs_all_their_keys_in_order() -> None:
    _, sealed = content.seal(KEYS[:2], *PLACE, b"value")
    assert content.open_field(KEYS[:2], sealed, *PLACE)[1] == b"value"
    for wrong in (KEYS[:1], KEYS[1:2], [KEYS[1], KEYS[0]], KEYS[:3]):
        with pytest.raises(SealedFieldError):
            content.open_field(wrong, sealed, *PLACE)


def test_what_cannot_be_a_key_or_a_field() -> None:
    for wrong in ([], [bytes(31)], [KEYS[0], bytes(33)]):
        with pytest.raises(SealedFieldError, match="one key or more of 32 bytes"):
            content.field_key(wrong)
    with pytest.raises(SealedFieldError, match="expected 60 bytes or more, got 59"):
        content.open_field(KEYS[:1], bytes(59), *PLACE)
    with pytest.raises(SealedFieldError, match="expected 44 random bytes"):
        content.seal_field(content.field_cipher(KEYS[:1]), os.urandom(43), *PLACE, b"")
    with pytest.raises(SealedFieldError, match="expected 32 bytes, got 31"):
        content.commitment(bytes(31), *PLACE, b"")
    with pytest.raises(SealedFieldError, match="32 bytes, got 1"):
        content.digest_key(b"x")


def test_the_digest_of_arguments_hides_and_separates() -> None:
    one, other = content.digest_key(KEYS[0]), content.digest_key(KEYS[1])
    digest = content.arguments_digest(one, b'{"amount":"12.5"}')
    assert digest == "hmac-sha256:" + hmac.new(one, b'{"amount":"12.5"}', "sha256").hexdigest()
    assert digest != content.arguments_digest(other, b'{"amount":"12.5"}')
    assert one != content.field_key([KEYS[0], KEYS[0]])
    assert one != KEYS[0]


@given(key=st.binary(max_size=200), message=st.binary(max_size=300))
def test_hmac_under_a_key_used_often_is_hmac(key: bytes, message: bytes) -> None:
    code = content.Hmac(key)
    expected = hmac.digest(key, message, "sha256")
    assert code.digest(message) == expected
    assert code.digest(message) == expected


def test_random_bytes_are_given_out_once_and_not_again_in_a_forked_child() -> None:
    pool = content.RandomPool()
    taken = []
    for count in (44, 88, pool.DRAWN_BYTES, 44):
        buffer, at = pool.take(count)
        assert len(buffer) >= at + count
        taken.append(buffer[at : at + 44])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        buffer, at = pool.take(44)
        os.write(write, buffer[at : at + 44])
        os._exit(0)
    os.waitpid(child, 0)
    buffer, at = pool.take(44)
    taken += [buffer[at : at + 44], os.read(read, 44)]
    os.close(read)
    os.close(write)
    assert len(set(taken)) == len(taken)
