"""Tokens: hashed in a file, read again when it changes, nobody let in while it can't be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ingest.otlp import tokens
from ingest.otlp.address import Address
from ingest.otlp.answers import Failure
from ingest.otlp.gateway import CantListen, GatewayConfig, serving
from ingest.otlp.tokens import Tokens, TokensUnreadable
from tallystick.errors import TallyError
from tallystick.otlp import add_token, list_tokens, remove_token
from tallystick.servers import ensure_topics
from tests.cli.tally import Tally
from tests.otlp.gateways import ANYWHERE, gateway, one_span
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


def test_the_first_token_counts_at_once_and_the_last_one_leaves_it_closed(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    known = Tokens(file, needed=False)
    assert known.tenant_of(None) is None
    token, kept = add_token(file, "acme")
    assert status(known, None) == 401
    assert known.tenant_of(f"Bearer {token}") == "acme"
    remove_token(file, kept.id)
    assert status(known, None) == status(known, f"Bearer {token}") == 401
    file.unlink()
    assert status(known, None) == 503
    assert Tokens(file, needed=False).tenant_of(None) is None
    with pytest.raises(TokensUnreadable):
        Tokens(file)


async def test_a_running_gateway_asks_for_tokens_once_there_is_one(kafka: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    await ensure_topics(kafka)
    async with gateway(kafka, tokens=file, tokens_needed=False) as (served, sender):
        assert (await sender.post("/v1/traces", one_span(1))).status == 200
        assert served.guarded.startswith("no tokens")
        token, kept = add_token(file, "acme")
        assert (await sender.post("/v1/traces", one_span(1))).status == 401
        assert (await sender.post("/v1/traces", one_span(1), authorization=f"Bearer {token}")).status == 200
        assert served.guarded == "with tokens"
        remove_token(file, kept.id)
        assert (await sender.post("/v1/traces", one_span(1))).status == 401
        assert served.guarded.startswith("nobody")


async def test_no_file_never_opens_it_to_other_machines(tmp_path: Path) -> None:
    config = GatewayConfig(Address("0.0.0.0", 0), ANYWHERE, "127.0.0.1:9", tokens=tmp_path / "no", tokens_needed=False)
    with pytest.raises(CantListen, match="there are no tokens"):
        async with serving(config):
            pass


def test_removing_the_last_token_says_what_that_does(tmp_path: Path) -> None:
    tally = Tally.at(tmp_path / "home")
    first, second = (tally("otlp", "token", "add", "acme", "--json").json["id"] for _ in range(2))
    assert tally("otlp", "token", "remove", first).err == ""
    assert "nobody can send now" in tally("otlp", "token", "remove", second).err


def test_while_the_file_cannot_be_read_senders_come_again(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token, _ = add_token(file, "acme")
    good = file.read_text()
    known = Tokens(file)
    for broken in (
        "",
        "{}",
        '{"tokens": [{}]}',
        good.replace("sha256", "hash"),
        good.replace('"acme"', "7"),
        "[" * 100_000,
        good.replace('"acme"', '"acme\\ud800"'),
        good + " " * tokens.FILE_BYTES_MAX,
    ):
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


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_holds_nobody_up(tmp_path: Path, make: Callable[[Path], None]) -> None:
    file = tmp_path / "tokens.json"
    token, _ = add_token(file, "acme")
    known = Tokens(file)
    file.unlink()
    make(file)
    assert status(known, f"Bearer {token}") == 503
    with pytest.raises(TokensUnreadable):
        Tokens(file)


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
