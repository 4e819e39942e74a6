"""Tokens: hashed in a file, read again when it changes, nobody let in while it can't be read."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from ingest.otlp import tokens
from ingest.otlp.answers import Failure
from ingest.otlp.tokens import Tokens, TokensUnreadable
from tallystick.errors import TallyError
from tallystick.otlp import add_token, list_tokens, remove_token
from tests.cli.tally import Tally
from tests.support.servers import Database


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.0)


def status(known: Tokens, authorization: str | None) -> int:
    with pytest.raises(Failure) as caught:
        known.tenant_of(authorization)
    return caught.value.http_status


def test_a_token_is_its_tenants_until_it_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "made" / "tokens.json"
    acme, kept = add_token(file, "acme")
    other, _ = add_token(file, "Zoë & Co")
    assert acme not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [token.tenant for token in list_tokens(file)] == ["acme", "Zoë & Co"]
    known = Tokens(file)
    assert known.tenant_of(f"Bearer {acme}") == "acme"
    assert known.tenant_of(f"bearer  {other} ") == "Zoë & Co"
    assert remove_token(file, kept.id) == kept
    assert status(known, f"Bearer {acme}") == 401
    assert known.tenant_of(f"Bearer {other}") == "Zoë & Co"
    with pytest.raises(TallyError, match="no token"):
        remove_token(file, kept.id)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer tally_x", "Bearer \udcff", "Bearer " + "x" * 9_999],
)
def test_who_has_no_token_is_not_let_in(tmp_path: Path, authorization: str | None) -> None:
    file = tmp_path / "tokens.json"
    add_token(file, "acme")
    assert status(Tokens(file), authorization) == 401


def test_while_the_file_cannot_be_read_senders_come_again(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token, _ = add_token(file, "acme")
    good = file.read_text()
    known = Tokens(file)
    for broken in ("", "{}", '{"tokens": [{}]}', good.replace("sha256", "hash"), good.replace('"acme"', "7")):
        file.write_text(broken)
        assert status(known, f"Bearer {token}") == 503
        file.write_text(good)
        assert known.tenant_of(f"Bearer {token}") == "acme"
    file.rename(tmp_path / "away")
    assert status(known, f"Bearer {token}") == 503
    (tmp_path / "away").rename(file)
    assert known.tenant_of(f"Bearer {token}") == "acme"
    file.chmod(0o622)
    assert status(known, f"Bearer {token}") == 503


def test_a_file_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    add_token(file, "acme")
    os.chmod(file, 0o620)  # noqa: PTH101
    with pytest.raises(TokensUnreadable, match="chmod 600"):
        Tokens(file)
    with pytest.raises(TallyError, match="can't be used"):
        add_token(file, "acme")


async def test_a_token_is_for_a_registered_tenant_where_that_can_be_checked(database: Database, tmp_path: Path) -> None:
    nowhere = Tally.at(tmp_path / "home", TALLY_POSTGRES_URL="postgresql://127.0.0.1:9/none")
    for unchecked in (Tally.at(tmp_path / "home"), nowhere):
        done = unchecked("otlp", "token", "add", "nosuch")
        assert done.status == 0
        assert "could not be checked" in done.err
    tally = Tally.at(tmp_path / "home", TALLY_POSTGRES_URL=database.url())
    assert "tally tenant add 'no such'" in tally("otlp", "token", "add", "no such").one_line()
    assert tally("otlp", "token", "list", "--json").out.count("nosuch") == 2
    with psycopg.connect(database.url(), autocommit=True) as conn:
        conn.execute("INSERT INTO tenants (tenant, slug, shards) VALUES ('acme', 'acme', 1)")
    done = tally("otlp", "token", "add", "acme")
    assert (done.status, "checked" in done.err) == (0, False), done
