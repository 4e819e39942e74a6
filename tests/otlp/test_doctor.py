"""What `tally doctor` says of the gateway, and of a Kafka that does not answer."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.otlp import tokens
from ingest.otlp.address import Address
from ingest.otlp.gateway import GatewayConfig, serving
from tallystick import diagnosis
from tallystick.diagnosis import Check, examine
from tallystick.endpoints import Endpoints, hold
from tallystick.otlp import add_token, remove_token
from tallystick.settings import Settings


def settings_of(home: Path, kafka: str) -> Settings:
    said: dict[str, Any] = {"postgres_url": "postgresql://127.0.0.1:9/x", "kafka_bootstrap": kafka}
    return Settings(home=home, _env_file=None, **said)


async def gateway_of(settings: Settings) -> Check:
    return next(check for check in await examine(settings) if check.name == "OTLP gateway")


async def test_the_gateway_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.0)
    settings = settings_of(tmp_path, "127.0.0.1:9")
    file = settings.otlp_tokens_file
    here = Address("127.0.0.1", 0)
    config = GatewayConfig(here, here, "127.0.0.1:9", tokens=file, tokens_needed=False)
    with hold(settings) as home:
        async with serving(config) as gateway:
            home.announce(Endpoints("p", None, "k", f"http://{gateway.http}", str(gateway.grpc)))
            found = await gateway_of(settings)
            assert (found.state, "open to this machine" in found.detail) == ("ok", True)
            assert f"http://{gateway.http}" in found.detail
            _, kept = add_token(file, "acme")
            assert "with tokens (1)" in (await gateway_of(settings)).detail
            remove_token(file, kept.id)
            found = await gateway_of(settings)
            assert (found.state, "no token is left" in found.detail) == ("failed", True)
            assert gateway.guarded.startswith("nobody is let in")
            file.unlink()
            found = await gateway_of(settings)
            assert (found.state, f"{file} is gone" in found.detail) == ("failed", True)
            grpc = gateway.grpc
        with_another = replace(config, tokens=tmp_path / "another.json", tokens_needed=True)
        add_token(tmp_path / "another.json", "acme")
        async with serving(with_another) as gateway:
            home.announce(Endpoints("p", None, "k", f"http://{gateway.http}", str(gateway.grpc)))
            found = await gateway_of(settings)
            assert (found.state, f"of another file than {file}" in found.detail) == ("ok", True)
        monkeypatch.setattr(diagnosis, "LISTENS_S", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as frozen, socket.create_server(("127.0.0.1", 0)) as other:
            http = f"127.0.0.1:{frozen.getsockname()[1]}"
            home.announce(Endpoints("p", None, "k", f"http://{http}", f"127.0.0.1:{other.getsockname()[1]}"))
            found = await gateway_of(settings)
            assert (found.state, "does not answer" in found.detail) == ("failed", True)
            home.announce(Endpoints("p", None, "k", f"http://{http}", str(grpc)))
            found = await gateway_of(settings)
            assert (found.state, found.detail) == ("failed", f"nothing listens at {grpc}")


async def test_a_frozen_kafka_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "REQUEST_MS", 300)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections as a frozen one does, and no more
        kafka = f"127.0.0.1:{server.getsockname()[1]}"
        settings = settings_of(tmp_path, kafka)
        found = next(check for check in await examine(settings) if check.name == "Kafka")
    assert (found.state, found.detail) == ("failed", f"{kafka} does not answer")
    assert "frozen" in found.fix
