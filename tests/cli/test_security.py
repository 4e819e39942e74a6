"""Kafka with a password: every client of ours gives it, the consumer's too."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from faststream.kafka.security import parse_security

from ingest.security import broker_options
from tallystick.servers import kafka
from tests.cli.tally import PLAIN, Tally
from tests.support.servers import Database, PrivateKafka

PASSWORDS = {"sasl_plain_username": "u", "sasl_plain_password": "p"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("tls", [False, True])
def test_the_broker_is_given_what_the_clients_are(mechanism: str, tls: bool) -> None:
    protocol = "SASL_SSL" if tls else "SASL_PLAINTEXT"
    client: dict[str, Any] = {"security_protocol": protocol, "sasl_mechanism": mechanism, **PASSWORDS}
    client["ssl_context"] = ssl.create_default_context() if tls else None
    assert parse_security(broker_options(client)["security"]) == client


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_so_it_is_without_a_password(protocol: str) -> None:
    client = {"security_protocol": protocol, "ssl_context": None, "client_id": "x"}
    options = broker_options(client)
    assert parse_security(options.pop("security")) | options == client
    assert parse_security(broker_options({})["security"])["security_protocol"] == "PLAINTEXT"


@pytest.mark.timeout(200)
async def test_a_kafka_with_passwords(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = kafka.server_properties

    def with_password(*arguments: Any) -> str:
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        return plain(*arguments).replace("CLIENT:PLAINTEXT", "CLIENT:SASL_PLAINTEXT") + (
            "sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n"
            f'listener.name.client.plain.sasl.jaas.config={login} username="broker" password="b" user_broker="b"'
            ' user_tally="s3cret";\n'
        )

    monkeypatch.setattr(kafka, "server_properties", with_password)
    async with PrivateKafka(tmp_path / "kafka") as server:
        settings = {
            "TALLY_POSTGRES_URL": database.url(),
            "TALLY_KAFKA_BOOTSTRAP": server.bootstrap,
            "TALLY_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "TALLY_KAFKA_SASL_MECHANISM": "PLAIN",
            "TALLY_KAFKA_SASL_USERNAME": "tally",
            "TALLY_KAFKA_SASL_PASSWORD": "s3cret",
        }
        tally = Tally.at(tmp_path / "home", **settings)
        added = tally("tenant", "add", "acme", "--json")
        assert added.json["topic"] is not None, added
        assert tally("import", "--tenant", "acme", PLAIN, "--no-wait").status == 0
        drained = tally("ingest", "--until-idle", "1", "--json")
        assert (drained.status, drained.json["records"]) == (0, 5), drained
        wrong = Tally.at(tmp_path / "home", **settings | {"TALLY_KAFKA_SASL_PASSWORD": "other"})
        told = wrong("import", "--tenant", "acme", PLAIN, "--no-wait").one_line()
        assert "other" not in told
        assert server.bootstrap in told
