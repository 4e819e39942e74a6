"""What can be set, and how: environment variables with the prefix `TALLY_`, or the same names in a file `.env`.

An empty variable counts as one that is not set. Where no address is set, `tally up` and `tally demo` start servers of
their own in the home.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ingest.otlp.address import Address
from tallystick.errors import TallyError

OTLP_HTTP = "127.0.0.1:4318"
OTLP_GRPC = "127.0.0.1:4317"

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def default_home() -> Path:
    """`$XDG_DATA_HOME/tallystick`."""
    base = os.environ.get("XDG_DATA_HOME", "")
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "tallystick"
    except RuntimeError as error:  # no HOME, and no entry in /etc/passwd
        raise TallyError("this user has no home folder to keep data in", "Set TALLY_HOME to a folder.") from error


class Settings(BaseSettings):
    """The settings of one command. Secrets don't show when printed."""

    model_config = SettingsConfigDict(
        env_prefix="TALLY_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # it may hold a password
    )

    home: Path = Field(default_factory=default_home, description="folder of the embedded servers, keys and endpoints")
    postgres_url: SecretStr | None = Field(None, description="a Postgres to use instead of the embedded one")
    kafka_bootstrap: str | None = Field(None, description="host:port,… of a Kafka to use instead of the embedded one")
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ca_file: Path | None = Field(None, description="PEM certificates that sign the brokers', if not the system's")
    kafka_replication: int = Field(1, ge=1, le=32767, description="replicas of the topics that Tallystick makes")
    events_tenant: str | None = Field(
        None, description="the tenant that tally.events, tally.otlp.spans and tally.otlp.logs speak for"
    )
    unauthenticated_intake: bool | None = Field(
        None, description="whether events in tally.events may name their tenant; by default only on the embedded Kafka"
    )
    origin_prefix: str | None = Field(None, description="what the origins of the logs begin with, e.g. a host name")
    keystore: Path | None = Field(None, description="folder of the key store; by default $TALLY_HOME/keys")
    otlp_http: str | None = Field(None, description=f"host:port to take OTLP over HTTP at; by default {OTLP_HTTP}")
    otlp_grpc: str | None = Field(None, description=f"host:port to take OTLP over gRPC at; by default {OTLP_GRPC}")
    otlp_tokens: Path | None = Field(
        None, description="file of the tokens that senders of OTLP need; by default $TALLY_HOME/otlp-tokens.json"
    )
    otlp_tenant: str = Field(
        "default", min_length=1, max_length=128, description="the tenant of OTLP that names none, where it may"
    )

    @field_validator("home", "keystore", "kafka_ca_file", "otlp_tokens")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path is not None else None

    @field_validator("postgres_url")
    @classmethod
    def _postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return url

    @field_validator("kafka_bootstrap")
    @classmethod
    def _addresses(cls, addresses: str | None) -> str | None:
        for address in (addresses or "").split(",") if addresses is not None else ():
            host, colon, port = address.strip().rpartition(":")
            if not colon or not host or not port.isdecimal():
                raise ValueError(f"must be host:port, or several with commas between; got {address.strip()!r}")
        return addresses

    @field_validator("otlp_http", "otlp_grpc")
    @classmethod
    def _listen(cls, address: str | None) -> str | None:
        if address is not None:
            Address.parse(address)
        return address

    @property
    def keys(self) -> Path:
        """The folder of the key store."""
        return self.keystore or self.home / "keys"

    @property
    def otlp_tokens_file(self) -> Path:
        """The file of the tokens of OTLP; there or not."""
        return self.otlp_tokens or self.home / "otlp-tokens.json"

    @property
    def endpoints_file(self) -> Path:
        """Where `tally up` says what it serves, once it does."""
        return self.home / "endpoints.json"

    def kafka_client(self) -> dict[str, Any]:
        """Security settings for any aiokafka client. Raises TallyError when they don't go together."""
        protocol = self.kafka_security_protocol
        options: dict[str, Any] = {"security_protocol": protocol}
        if protocol.endswith("SSL"):
            try:
                options["ssl_context"] = ssl.create_default_context(cafile=self.kafka_ca_file)
            except OSError as error:
                raise TallyError(
                    f"the certificates in TALLY_KAFKA_CA_FILE={self.kafka_ca_file} can't be used: {error}",
                    "Name a readable file of PEM certificates, or unset it to use the system's.",
                ) from error
        if protocol.startswith("SASL"):
            if self.kafka_sasl_username is None or self.kafka_sasl_password is None:
                raise TallyError(
                    f"TALLY_KAFKA_SECURITY_PROTOCOL={protocol} needs a user",
                    "Set TALLY_KAFKA_SASL_USERNAME and TALLY_KAFKA_SASL_PASSWORD.",
                )
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_sasl_username
            options["sasl_plain_password"] = self.kafka_sasl_password.get_secret_value()
        return options


def load_settings(**given: Any) -> Settings:
    """The settings in force; `given` ones (from the command line) come first. Raises TallyError, naming the bad one."""
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = "TALLY_" + "_".join(str(part) for part in first["loc"]).upper()
        raise TallyError(
            f"{name} can't be used: {first['msg'].removeprefix('Value error, ')}",
            "Correct it in the environment or .env.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        file = Path(".env").absolute()
        raise TallyError(f"the settings in {file} can't be read: {error}", "Correct or remove the file.") from error
