"""The command as a person runs it: a process, its status, what it said where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "tests" / "fixtures" / "plain-steps.jsonl"
COMMAND_S = 100


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object it printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def one_line(self) -> str:
        """What it said on standard error, which must be one line, and none on standard output."""
        assert self.status == 2, self
        assert self.out == "", self
        assert self.err.count("\n") == 1, self.err
        return self.err


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing set but the home, and what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    return inherited | {"TALLY_HOME": str(home), "NO_COLOR": "1", "PYTHONWARNINGS": "error"} | more


@dataclass(frozen=True, slots=True)
class Tally:
    """`tally` with an environment, run in a folder of its own, where there is no .env."""

    home: Path
    env: dict[str, str]

    @classmethod
    def at(cls, home: Path, **more: str) -> Tally:
        return cls(home, environment(home, **more))

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "tallystick", *map(str, arguments)],
            cwd=self.home.parent,
            env=self.env | {"PYTHONPATH": str(ROOT)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command that runs until it is stopped."""
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "tallystick", *arguments],
                cwd=self.home.parent,
                env=self.env | {"PYTHONPATH": str(ROOT)},
                stdout=file,
                stderr=file,
            )


def wait_for_file(file: Path, process: subprocess.Popen[bytes], log: Path, seconds: float = COMMAND_S) -> None:
    """Return once a file is there; fails if the process that should write it ends first."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
