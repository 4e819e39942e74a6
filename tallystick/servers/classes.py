"""Kafka's classes, as Java laid them out in memory once: the second start takes a third of the first one's time.

Java writes such an archive at the end of a run and checks, when it is used, that it fits this Java and these jars; one
that does not fit, or is missing, only makes the start slower. A damaged one would end Java, so its name holds its
SHA-256, which is checked before each use. It is kept in the cache beside the jars.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from tallystick.servers.home import started


class ClassArchive:
    """The archive of one Java and one class path."""

    def __init__(self, java: Path, class_path: str) -> None:
        facts = java.stat()
        stamp = f"{java.resolve()} {facts.st_size} {facts.st_mtime_ns} {class_path}"
        folder = Path(class_path.split(os.pathsep)[0]).parent
        self._folder = folder
        self._stem = f"classes-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
        self._part = folder / f"{self._stem}.{os.getpid()}.{secrets.token_hex(4)}.part"

    def use(self) -> list[str]:
        """Options for a run that is quicker by the archive, if there is one."""
        for path in self._folder.glob(f"{self._stem}.*.jsa"):
            with contextlib.suppress(OSError):
                if _digest(path) == path.name.split(".")[1]:
                    return [f"-XX:SharedArchiveFile={path}"]
                path.unlink()
        return []

    def use_or_make(self) -> list[str]:
        """Options for the server: it uses the archive, or writes it at its end (which then takes 2 s longer)."""
        self._forget_parts()
        return self.use() or [f"-XX:ArchiveClassesAtExit={self._part}"]

    def keep(self) -> None:
        """After a server's orderly end: what it wrote counts from now on, unless another was first."""
        if any(self._folder.glob(f"{self._stem}.*.jsa")):
            self.discard()
            return
        with contextlib.suppress(OSError):  # none was written: this Java can't, or there was no room
            self._part.rename(self._folder / f"{self._stem}.{_digest(self._part)}.jsa")

    def discard(self) -> None:
        """After another end: what it may have begun to write."""
        with contextlib.suppress(OSError):
            self._part.unlink()

    def _forget_parts(self) -> None:
        for part in self._folder.glob("classes-*.part"):
            if started(int(part.name.split(".")[1])) is None:
                with contextlib.suppress(OSError):
                    part.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
