"""docs/emitting.md: its examples run, in order, and its tables say what the code does."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from schemas.normalize import normalize_structured
from tallystick.emit import CRITICAL_KINDS, Limits
from tallystick.servers.topics import ensure_topics
from tests.emit.reading import assert_accounted, read
from tests.support.servers import PrivateKafka

PAGE = Path(__file__).parents[2] / "docs" / "emitting.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


async def test_the_examples_run(
    private_kafka: PrivateKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALLY_KAFKA_BOOTSTRAP", private_kafka.bootstrap)
    await ensure_topics(private_kafka.bootstrap, {"tally.events": 3})
    monkeypatch.chdir(tmp_path)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "support-1.pem").write_bytes(pem)  # as `openssl genpkey` writes it
    names: dict[str, Any] = {}

    def run() -> None:
        for example in EXAMPLE.findall(PAGE.read_text()):
            exec(compile(example, str(PAGE), "exec"), names)

    await asyncio.to_thread(run)
    assert "dropped=0" in capsys.readouterr().out
    assert names["limits"] == Limits()
    records = await read(private_kafka.bootstrap, "tally.events")
    assert_accounted(records)
    first = [record.kind for record in records if record.key == names["run_id"]]
    assert first == ["run_started", "model_call", "tool_call", "span", "policy_decision", "run_finished", "outcome"]
    phases = [record.event["data"]["phase"] for record in records if b"payments.refund" in record.value]
    assert phases == ["started", "finished"]
    for record in records:
        assert normalize_structured(record.value).raw_unmapped == 0


def test_the_page_names_every_critical_kind() -> None:
    table = PAGE.read_text().split("| critical | |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) == CRITICAL_KINDS | {"tool_call", "memory_write"}
