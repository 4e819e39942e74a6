"""The folders a stack lives in, and the lock that keeps a second one out.

A home holds everything that must last (`postgres/`, `kafka/`); the cache holds what can be had again (Kafka's jars, a
copy of Postgres' programs) and is shared by homes. A server's lock is an flock whose descriptor the server and its
guard inherit: it is free exactly when no process of that server is left, so whoever gets it may call every other trace
stale.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from types import TracebackType

from tallystick.errors import ServerError

ENDING_S = 40.0  # longest time that servers of a process that is gone are given to end; Kafka's guard needs 30
FREE_BYTES_MIN = 128 * 1024 * 1024  # Postgres' first WAL segments and Kafka's first indexes need about half of it


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tallystick`, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "tallystick"
    except RuntimeError as error:  # no HOME, and no entry in /etc/passwd
        raise ServerError(
            "this user has no home folder to keep a cache in", "Set XDG_CACHE_HOME to a folder."
        ) from error
    return make_folder(folder, 0o755)  # nothing secret in it, and another user may have to run what it holds


def make_folder(folder: Path, mode: int = 0o700) -> Path:
    """The folder, made if need be, and so are its parents, with the same mode. Raises ServerError where it can't be."""
    try:
        missing = [parent for parent in folder.parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=mode, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise ServerError(f"can't make the folder {folder}: {reason(error)}", advice(error, folder)) from error
    return folder


def reason(error: OSError) -> str:
    """An operating system's error in its own words."""
    return error.strerror or str(error)


def advice(error: OSError, where: Path) -> str:
    """What to do about an operating system's error at `where`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"Free some space there ({free_text(where)}), or set TALLY_HOME to a folder on another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Set TALLY_HOME (and XDG_CACHE_HOME) to a folder you can write to."
    return "Check that folder, or set TALLY_HOME to another one."


def free_bytes(where: Path) -> int:
    """Free space on the disk that `where` is, or would be, on."""
    existing = next(folder for folder in (where, *where.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def free_text(where: Path) -> str:
    """Free space in words, for messages."""
    return f"{free_bytes(where) // (1024 * 1024)} MiB are free on the disk of {where}"


def need_space(where: Path, who: str) -> None:
    """Raise ServerError unless a server has room to start. A disk that is full later is found by the server itself."""
    if free_bytes(where) < FREE_BYTES_MIN:
        raise ServerError(
            f"the disk is full: {free_text(where)}, and {who} needs {FREE_BYTES_MIN // (1024 * 1024)} MiB to start",
            "Free some space there, or set TALLY_HOME to a folder on another disk; then start again, nothing was lost.",
        )


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the file by one with that text, all or nothing, also over a crash."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ServerError(f"can't write {path}: {reason(error)}", advice(error, path.parent)) from error


def sync_folder(folder: Path) -> None:
    """Make renames in the folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def started(pid: int) -> str | None:
    """When a process started, as a word to tell it from another that got its number; None when there is none."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # it is another user's, and there
    except OSError:
        return None
    try:
        # The 22nd field; the second one, a name in brackets, may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "-"  # no /proc here (macOS): the number alone must do


class Secrets:
    """Passwords of one home, in a file of mode 0600, made when first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}

    def get(self, name: str) -> str:
        """The password of that name; the same one for ever."""
        if not self._known and self._path.exists():
            try:
                self._known = dict(json.loads(self._path.read_text()))
            except ValueError as error:
                raise ServerError(
                    f"the passwords in {self._path} can't be read: {error}",
                    "Restore the file from a backup, or move the folder it is in away to begin anew.",
                ) from error
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(24)
            write_atomically(self._path, json.dumps(self._known, indent=1, sort_keys=True))
        return self._known[name]


class Lock:
    """Holds `path` for this process and for every process that inherits `fd`."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The descriptor to hand on to the server."""
        if self._fd is None:
            raise RuntimeError(f"{self.path} is not held")
        return self._fd

    async def acquire(self) -> None:
        """Take the lock, waiting for servers whose owner is gone. Raises ServerError, naming the owner, if it lives."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServerError(f"can't open the lock {self.path}: {reason(error)}", advice(error, self.path)) from error
        try:
            await self._take(fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {started(os.getpid())}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            raise ServerError(f"can't lock {self.path}: {reason(error)}", advice(error, self.path)) from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    async def _take(self, fd: int) -> None:
        deadline = time.monotonic() + ENDING_S
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            owner = self._owner(fd)
            if owner is not None:
                raise ServerError(
                    f"{self._what} of {self.path.parent.parent} is already run by process {owner}",
                    f"Use that one, stop it (kill {owner}), or set TALLY_HOME to a folder of its own.",
                )
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self._what} of {self.path.parent.parent} still runs, though what started it is gone",
                    f"Find it with `fuser {self.path}` and end it.",
                )
            await asyncio.sleep(0.05)

    @staticmethod
    def _owner(fd: int) -> int | None:
        """The process that took the lock, if it is still alive; a number that was given to another does not count."""
        try:
            pid, since = os.pread(fd, 100, 0).decode().split()
            return int(pid) if started(int(pid)) == since else None
        except ValueError:
            return None

    def release(self) -> None:
        """Let go; the lock stays taken while a process that inherited it is left."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
