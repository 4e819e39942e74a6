"""The archive of Kafka's classes: made once, used from then on, never in the way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tallystick.servers import java
from tallystick.servers.classes import ClassArchive


@pytest.fixture
def class_path(tmp_path: Path) -> str:
    """A class path to have an archive beside; Java's own classes are enough to fill one."""
    jar = tmp_path / "empty.jar"
    jar.write_bytes(b"PK\x05\x06" + bytes(18))
    return str(jar)


def run(options: list[str], class_path: str) -> str:
    command = [str(java.find()), *options, "-Xlog:class+load:stdout", "-cp", class_path, "-version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def test_made_once_and_used_from_then_on(class_path: str, tmp_path: Path) -> None:
    first = ClassArchive(java.find(), class_path)
    run(first.use_or_make(), class_path)
    assert first.use() == []
    first.keep()
    # A Java that can't make one (it has none of its own to build on) starts as it did.
    options = ClassArchive(java.find(), class_path).use_or_make()
    run(options, class_path)
    made = [path for path in tmp_path.iterdir() if path.suffix == ".jsa"]
    assert (f"-XX:SharedArchiveFile={made[0]}" in options) if made else options[0].startswith("-XX:Archive")


def test_a_damaged_one_only_costs_time(class_path: str) -> None:
    archive = ClassArchive(java.find(), class_path)
    run(archive.use_or_make(), class_path)
    archive.keep()
    for option in archive.use():
        path = Path(option.partition("=")[2])
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert archive.use() == []
    run(archive.use_or_make(), class_path)


def test_what_a_dead_process_began_is_removed(class_path: str, tmp_path: Path) -> None:
    dead, ours = tmp_path / "classes-0.999999999.0.part", tmp_path / f"classes-0.{os.getpid()}.0.part"
    for part in (dead, ours):
        part.touch()
    ClassArchive(java.find(), class_path).use_or_make()
    assert not dead.exists()
    assert ours.exists()
