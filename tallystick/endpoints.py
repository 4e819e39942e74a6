"""Where everything answers: the file by which `tally up` tells the other commands, and how they wait for it.

    home/up/lock          held by a `tally up` for its whole life; names its process
    home/endpoints.json   there while that one is ready; 0600, since it holds passwords

Guarantees: the file is written whole or not at all, and only when everything in it answers; one of a `tally up` that
was killed is removed, and never taken for a living one's. Does not: look whether an address still answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tallystick.errors import TallyError

if TYPE_CHECKING:
    from tallystick.settings import Settings

WAIT_S = 60.0  # for a `tally up` that is starting
APPEAR_S = 2.0  # for one that was started in the same moment and has no lock yet
LOOK_EVERY_S = 0.1
LOOKS_MAX = 5


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What `tally up` serves. `postgres` acts as the auditor, `postgres_admin` as the superuser (embedded only).

    `otlp_http` is a URL, `otlp_grpc` host:port. `web` is of a part that is not there yet, so it is null.
    `ingest_ended`: why nothing is appended any more, where no consumer can work.
    """

    postgres: str
    postgres_admin: str | None
    kafka: str
    otlp_http: str | None = None
    otlp_grpc: str | None = None
    web: str | None = None
    ingest_ended: str | None = None


# Waits for the end of the process that holds the other end of its standard input, kill -9 included.
_SWEEPER = """
import json, os, sys
sys.stdin.buffer.read()
try:
    with open(sys.argv[1]) as file:
        if json.load(file).get("pid") == int(sys.argv[2]):
            os.unlink(sys.argv[1])
except (OSError, ValueError):
    pass
"""


class Home:
    """A home as one `tally up` holds it: `announce` when all is ready. No second one runs in it meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.endpoints_file
        self._sweeper: subprocess.Popen[bytes] | None = None

    def announce(self, endpoints: Endpoints) -> None:
        """Write endpoints.json, again where something changed.

        A small process removes it if this one is killed: passwords and ports go with it.
        """
        from tallystick.servers.home import write_atomically

        if self._sweeper is None:
            self._sweeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _SWEEPER, str(self._file), str(os.getpid())],
                stdin=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
        text = json.dumps({**asdict(endpoints), "pid": os.getpid()}, indent=1)
        write_atomically(self._file, text + "\n")

    def withdraw(self) -> None:
        """Remove endpoints.json."""
        self._file.unlink(missing_ok=True)
        if self._sweeper is not None:
            self._sweeper.communicate()
            self._sweeper = None


@contextmanager
def hold(settings: Settings) -> Iterator[Home]:
    """Hold the home for this process, to its end if need be. Quick to call, so that others soon see that we start.

    Raises TallyError, naming the process, where another `tally up` runs in it.
    """
    from tallystick.servers.home import make_folder

    folder = make_folder(settings.home / "up")
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, settings)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        home = Home(settings)
        home.withdraw()  # a killed predecessor's
        try:
            yield home
        finally:
            home.withdraw()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, settings: Settings) -> None:
    """Take the lock; others that only look at it hold it for an instant."""
    for _ in range(LOOKS_MAX):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(LOOK_EVERY_S)
    owner = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
    raise TallyError(
        f"a `tally up` already runs in {settings.home}, process {owner}",
        f"Use that one, stop it (kill {owner}), or set TALLY_HOME to a folder of its own.",
    )


def running_up(settings: Settings) -> int | None:
    """The process id of the `tally up` that runs, or starts, in the home; None where there is none."""
    try:
        descriptor = os.open(settings.home / "up" / "lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError, IndexError):
                return int(os.pread(descriptor, 100, 0).split()[0])
            return 0  # it holds the lock and is about to write its number
        return None
    finally:
        os.close(descriptor)


def announced(settings: Settings) -> Endpoints | None:
    """The endpoints of the home's `tally up`, if one is ready now."""
    owner = running_up(settings)
    return _read(settings.endpoints_file, owner) if owner is not None else None


def find_endpoints(settings: Settings, note: Callable[[str], None]) -> Endpoints:
    """The endpoints of the home's `tally up`, waiting for one that is starting.

    Raises TallyError where none runs, or where it isn't ready after WAIT_S.
    """
    began = time.monotonic()
    noted = False
    while True:
        owner = running_up(settings)
        waited = time.monotonic() - began
        if owner is None and noted:
            raise TallyError(
                f"the `tally up` in {settings.home} ended before it was ready", "See what it said, and start it again."
            )
        if owner is None and waited > APPEAR_S:
            raise TallyError(
                f"no servers: neither addresses are set nor does a `tally up` run in {settings.home}",
                "Start it with `tally up`, or set TALLY_POSTGRES_URL and TALLY_KAFKA_BOOTSTRAP.",
            )
        if owner is not None:
            found = _read(settings.endpoints_file, owner)
            if found is not None:
                return found
            if not noted and waited > LOOK_EVERY_S:
                note(f"waiting for `tally up` in {settings.home} to be ready")
                noted = True
        if waited > WAIT_S:
            raise TallyError(
                f"`tally up` in {settings.home} (process {owner}) was not ready within {WAIT_S:.0f} s",
                "See what it says, then try again.",
            )
        time.sleep(LOOK_EVERY_S)


def _read(file: Path, owner: int) -> Endpoints | None:
    """The endpoints that this process announced, or None."""
    try:
        found = json.loads(file.read_text())
        if found.pop("pid") != owner:
            return None
        return Endpoints(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return None
