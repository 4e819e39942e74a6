"""Fixtures that every test may use: servers, databases, topics. See tests/support/servers.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import servers

WITH_DOCKER = pytest.StashKey[bool]()

# How long an example takes says how busy the machine is, not whether the law holds.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WITH_DOCKER] = servers.docker_answers()


def pytest_report_header(config: pytest.Config) -> str:
    if config.stash[WITH_DOCKER]:
        return f"servers: containers ({servers.POSTGRES_IMAGE}, {servers.KAFKA_IMAGE})"
    return "servers: embedded Postgres and Kafka (no Docker answers)"


@pytest.fixture(scope="session")
def _say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    return lambda text: reporter.write_line(text) if reporter is not None else None


@pytest.fixture(scope="session")
def postgres_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _say: Callable[[str], None]
) -> Iterator[servers.PostgresServer]:
    """The session's Postgres: `.url(role, database)`."""
    home = tmp_path_factory.mktemp("postgres")
    with servers.postgres_server(home, request.config.stash[WITH_DOCKER], _say) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _say: Callable[[str], None]
) -> Iterator[str]:
    """The session's Kafka, as `host:port`."""
    home = tmp_path_factory.mktemp("kafka")
    with servers.kafka_server(home, request.config.stash[WITH_DOCKER], _say) as bootstrap:
        yield bootstrap


@pytest.fixture
def kafka(kafka_server: str) -> str:
    """The bootstrap address of the session's Kafka. Topics outlive a test: name them at random."""
    return kafka_server


@pytest.fixture
async def database(postgres_server: servers.PostgresServer) -> AsyncIterator[servers.Database]:
    """A fresh, migrated database: `.url(role)`; without a role as the superuser."""
    fresh = await servers.clone(postgres_server)
    yield fresh
    await fresh.drop()


@pytest.fixture
async def private_postgres(tmp_path: Path) -> AsyncIterator[servers.PrivatePostgres]:
    """A Postgres of this test's own, which it may `kill()` and `restart()`."""
    async with servers.PrivatePostgres(tmp_path / "home") as server:
        yield server


@pytest.fixture
async def private_kafka(tmp_path: Path) -> AsyncIterator[servers.PrivateKafka]:
    """A Kafka of this test's own, which it may `kill()` and `restart()`."""
    async with servers.PrivateKafka(tmp_path / "home") as server:
        yield server
