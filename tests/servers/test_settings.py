"""Settings: from the environment or .env, checked, secrets not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.errors import TallyError
from tallystick.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TALLY_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.home == tmp_path / "data" / "tallystick"
    assert settings.keys == settings.home / "keys"
    assert settings.postgres_url is None
    assert settings.kafka_client() == {"security_protocol": "PLAINTEXT"}


def test_environment_comes_before_the_file_and_the_command_line_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("TALLY_HOME=from-file\nTALLY_ORIGIN_PREFIX=file.example\nOTHER=1\n")
    monkeypatch.setenv("TALLY_HOME", "from-environment")
    monkeypatch.setenv("TALLY_KAFKA_BOOTSTRAP", "")
    settings = load_settings()
    assert settings.home == tmp_path / "from-environment"
    assert settings.origin_prefix == "file.example"
    assert settings.kafka_bootstrap is None
    assert load_settings(home=Path("given")).home == tmp_path / "given"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TALLY_KAFKA_BOOTSTRAP", "broker"),
        ("TALLY_KAFKA_BOOTSTRAP", "a:1,b"),
        ("TALLY_POSTGRES_URL", "mysql://u:s3cret@h/db"),
        ("TALLY_KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("TALLY_KAFKA_REPLICATION", "0"),
    ],
)
def test_a_bad_one_is_named_and_not_shown(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TallyError, match=f"{name} can't be used") as told:
        load_settings()
    assert "s3cret" not in repr(told.value) + str(told.value.__cause__)
    assert told.value.exit_status == 2


def test_sasl_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(TallyError, match="needs a user"):
        load_settings().kafka_client()
    monkeypatch.setenv("TALLY_KAFKA_SASL_USERNAME", "runtime")
    monkeypatch.setenv("TALLY_KAFKA_SASL_PASSWORD", "s3cret")
    settings = load_settings()
    options = settings.kafka_client()
    assert options["sasl_plain_password"] == "s3cret"
    assert options["ssl_context"].verify_mode.name == "CERT_REQUIRED"
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("TALLY_KAFKA_CA_FILE", "missing.pem")
    with pytest.raises(TallyError, match=r"TALLY_KAFKA_CA_FILE=.*missing.pem can't be used"):
        load_settings().kafka_client()
