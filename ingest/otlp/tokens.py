"""Bearer tokens: who a sender is. A file holds their SHA-256, never the tokens.

The file: `{"tokens": [{"id", "tenant", "sha256", "created"}]}`. A token is 256 random bits, so its plain hash can't be
guessed back.

Guarantees: a change of the file counts within LOOK_EVERY_S. Where the file is there, tokens are asked for: from the
moment it appears, and from then on to the end of the process. So removing the last token, or the file, closes a gateway
and never opens one: without tokens nobody is let in, without the file senders are told to try again, so that nothing of
theirs is lost. A token is compared with each known one in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import structlog

from ingest.errors import IngestError
from ingest.otlp.answers import Failure

LOOK_EVERY_S: Final = 1.0
RETRY_S: Final = 2
TOKEN_CHARACTERS_MAX: Final = 1024
FILE_BYTES_MAX: Final = 1024 * 1024  # of some 4,000 tokens
PREFIX: Final = "tally_"

log = structlog.get_logger("tallystick.otlp")


class TokensUnreadable(IngestError):  # noqa: N818 - says what happened
    """The file of tokens can't be used."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token. `id`: how commands name it, the beginning of its hash."""

    id: str
    tenant: str
    sha256: str
    created: str


def made(tenant: str, created: str) -> tuple[str, Token]:
    """(a new token, what is kept of it)."""
    token = PREFIX + secrets.token_urlsafe(32)
    digest = _digest(token)
    return token, Token(digest[:12], tenant, digest, created)


def read(file: Path) -> list[Token]:
    """The tokens of a file. Waits for nothing, whatever stands in its place. Raises TokensUnreadable, also where others
    than its owner may write it."""
    try:
        return [_token(one) for one in json.loads(_bytes_of(file))["tokens"]]
    except OSError as error:
        raise TokensUnreadable(f"{file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TokensUnreadable(f"{file}: expected the JSON that `tally otlp token add` writes") from error


def text(tokens: Sequence[Token]) -> str:
    """What a file of these tokens holds."""
    return json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1, ensure_ascii=False) + "\n"


class Tokens:
    """The tokens of a file, read again when it changes. `needed`: whether senders need one without the file, too."""

    def __init__(self, file: Path, needed: bool = True) -> None:
        """Raises TokensUnreadable where the file is there, or needed, and can't be used at all."""
        self._file = file
        self._needed = needed
        self._known: list[tuple[bytes, str]] = []
        self._stamp = self._stat()
        if needed or self._stamp is not None:
            self._needed = True
            self._known = _known(file)
        self._looked_at = time.monotonic()
        self._trouble: str | None = None

    @property
    def needed(self) -> bool:
        """Whether senders need one now."""
        self._look()
        return self._needed

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._known)

    def tenant_of(self, authorization: str | None) -> str | None:
        """The tenant that an `Authorization: Bearer …` is of; None where none is needed. Raises Failure."""
        if not self.needed:
            return None
        if self._trouble is not None:
            raise Failure("unavailable", "tokens can't be checked at the moment", RETRY_S)
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_CHARACTERS_MAX:
            raise Failure("unauthenticated", "expected a token: Authorization: Bearer TOKEN")
        digest = bytes.fromhex(_digest(token))
        tenant: str | None = None
        for known, of in self._known:
            if hmac.compare_digest(known, digest):
                tenant = of
        if tenant is None:
            raise Failure("unauthenticated", "the token is not known, or was removed")
        return tenant

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        stamp = self._stat()
        if stamp == self._stamp and self._trouble is None:
            return
        if not self._needed:
            log.warning("a file of tokens is there now: every sender needs a token", file=str(self._file))
            self._needed = True
        try:
            self._known = _known(self._file)
            log.info("tokens read", file=str(self._file), tokens=len(self._known))
            if not self._known:
                log.warning("nobody is let in: no token is left", file=str(self._file))
            self._stamp, self._trouble = stamp, None
        except TokensUnreadable as error:
            if str(error) != self._trouble:
                log.error("nobody is let in: the tokens can't be read", reason=str(error))
            self._trouble = str(error)

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _bytes_of(file: Path) -> bytes:
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise TokensUnreadable(f"{file}: expected a regular file")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise TokensUnreadable(f"{file}: others than its owner may write it (chmod 600 {file})")
        data = opened.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise TokensUnreadable(f"{file}: larger than {FILE_BYTES_MAX:,} bytes")
    return data


def _known(file: Path) -> list[tuple[bytes, str]]:
    return [(bytes.fromhex(token.sha256), token.tenant) for token in read(file)]


def _token(said: object) -> Token:
    if not isinstance(said, dict):
        raise TypeError
    token = Token(**{name: said[name] for name in ("id", "tenant", "sha256", "created")})
    if not all(isinstance(part, str) and part for part in (token.id, token.tenant, token.created)):
        raise TypeError
    token.tenant.encode()  # as a header of Kafka's; a lone surrogate raises ValueError
    if len(bytes.fromhex(token.sha256)) != hashlib.sha256().digest_size:
        raise ValueError
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
