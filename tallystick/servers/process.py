"""Starts a server under its guard, and ends it.

Guarantees: the server ends when `stop` is called, when this process ends in whatever way, and when the guard is killed.
Not bound to an event loop: a server may be started in one loop and stopped in another (session fixtures of tests).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tallystick.errors import ServerError

GUARD = Path(__file__).with_name("guard.py")
GUARD_START_S = 20.0  # a Python start takes 20 ms; a machine under load may take much longer
GUARD_END_S = 20.0  # what the guard may need beyond the server's own end: for orphans, and for the machine's load


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a server runs: see guard.py."""

    kind: Literal["same", "namespace", "user"] = "same"
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """A server to start. `stop` lists (signal, seconds to wait for the end after it); SIGKILL follows the last."""

    argv: Sequence[str]
    cwd: Path
    log: Path
    stop: Sequence[tuple[str, float]]
    env: Mapping[str, str] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)
    stdin: Path | None = None


class Guarded:
    """A running server and its guard."""

    def __init__(self, process: subprocess.Popen[bytes], pid: int, patience_s: float) -> None:
        self.pid = pid
        self.status: int | None = None  # once it has ended: its exit code, or minus the signal that ended it
        self._process = process
        self._patience_s = patience_s

    @classmethod
    def start(cls, command: Command, keep: Sequence[int] = ()) -> Guarded:
        """Start the server. The descriptors in `keep` stay open in it and its guard (a lock, held to their end).

        Raises ServerError when the guard itself does not come up. A server that ends at once is seen by `running`.
        """
        spec = {
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            "log": str(command.log),
            "stop": [list(step) for step in command.stop],
            "env": dict(command.env),
            "identity": asdict(command.identity),
            "stdin": str(command.stdin or os.devnull),
            "parent": os.getpid(),
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=tuple(keep),
            cwd="/",
        )
        line = process.stdout.readline() if process.stdout else b""
        patience_s = sum(seconds for _, seconds in command.stop) + GUARD_END_S
        if not line:
            process.wait()
            _close(process)
            raise ServerError(
                f"the guard of {Path(command.argv[0]).name} ended with status {process.returncode}",
                "Check that this Python can start itself as a subprocess.",
            )
        return cls(process, int(json.loads(line)["pid"]), patience_s)

    @property
    def running(self) -> bool:
        """Whether the server (and its guard) is still there."""
        return self._process.poll() is None

    async def wait(self, poll_s: float = 0.1) -> None:
        """Return when the server has ended, by whatever cause; `status` is then known."""
        while self.running:  # noqa: ASYNC110  (a process sets no event, and a watcher would bind it to one loop)
            await asyncio.sleep(poll_s)
        self._read_status()

    async def stop(self) -> None:
        """End the server and wait for its end. Harmless when it has ended already.

        Cancelled, it still waits (and holds up the loop for it): what was started here does not stay behind.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()  # the guard sees the end of it, and does the rest
        deadline = time.monotonic() + self._patience_s
        try:
            while self.running and time.monotonic() < deadline:  # noqa: ASYNC110  (as above)
                await asyncio.sleep(0.01)
        finally:
            try:
                self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self.pid, signal.SIGKILL)  # still the guard's child, so the number can't be another's
                self._process.kill()
                self._process.wait()
            self._read_status()
            _close(self._process)

    def _read_status(self) -> None:
        if self.status is None and self._process.stdout is not None and not self._process.stdout.closed:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self.status = int(json.loads(self._process.stdout.readline())["status"])


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def probe(identity: Identity, paths: Sequence[Path]) -> set[Path] | None:
    """Which of the paths a process of that identity can enter and read; None when the identity can't be taken."""
    spec = json.dumps({"identity": asdict(identity), "paths": [str(path) for path in paths]})
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(GUARD), spec], capture_output=True, check=False, timeout=GUARD_START_S, cwd="/"
    )
    if done.returncode != 0:
        return None
    answer: dict[str, Any] = json.loads(done.stdout)
    return {Path(path) for path in answer["reachable"]} if answer["possible"] else None
