"""Tells from a server's log why it did not start, or why it ended."""

from __future__ import annotations

import signal
from pathlib import Path

from tallystick.errors import ServerError
from tallystick.servers.home import free_text

TAIL_BYTES = 64 * 1024

_RETRY = "then start again, nothing that was acknowledged is lost."
# What a log says, what that means, what to do. The first that is found counts: causes before consequences.
_SIGNS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("No space left on device", "Disk quota exceeded", "File too large"),
        "the disk is full ({free})",
        f"Free some space there, or set TALLY_HOME to a folder on another disk; {_RETRY}",
    ),
    (
        ("Address already in use", "could not bind IPv4 address"),
        "its port was taken by another program",
        "Start again: another port is then picked.",
    ),
    (
        ("pre-existing shared memory block",),
        "processes of its previous run are still ending",
        "Start again in a few seconds.",
    ),
    (
        ("Cannot allocate memory", "OutOfMemoryError", "insufficient memory", "could not map anonymous shared memory"),
        "there is too little memory",
        f"End other programs or give this machine more memory (1 GiB is enough); {_RETRY}",
    ),
    (
        ("database files are incompatible with server", "was initialized by PostgreSQL version"),
        "its data was written by another version",
        "Start it with the Tallystick that wrote it, export, and import with this one.",
    ),
    (
        (
            "Permission denied",
            "Operation not permitted",
            "has wrong ownership",
            "Read-only file system",
            "AccessDenied",
        ),
        "it may not read or write its files",
        "Give the home folder to the user that runs tally, or set TALLY_HOME to another one.",
    ),
    (
        (
            "could not locate a valid checkpoint record",
            "invalid checkpoint record",
            "CorruptRecordException",
            "checksum",
        ),
        "its files are damaged",
        "Restore the home folder from a backup; `tally verify` then says what is missing.",
    ),
)


def tail(log: Path) -> str:
    """The end of a log, or nothing when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def cause(log: Path) -> tuple[str, str] | None:
    """What a known sign in the log means, and what to do about it."""
    text = tail(log)
    for signs, meaning, fix in _SIGNS:
        if any(sign in text for sign in signs):
            return meaning.format(free=free_text(log)), fix
    return None


def ended(server: str, status: int | None, log: Path) -> ServerError:
    """The error to raise for a server that ended by itself with that status."""
    if status == -signal.SIGKILL:
        return ServerError(
            f"{server} was killed (SIGKILL): by somebody, or by the kernel for want of memory; its log is {log}",
            "Start again: what was acknowledged is not lost.",
        )
    how = f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
    return explain(f"{server} ended by itself, {how}", log)


def explain(what: str, log: Path) -> ServerError:
    """The error to raise for a server of which `what` happened."""
    known = cause(log)
    if known is not None:
        return ServerError(f"{what}: {known[0]}; its log is {log}", known[1])
    lines = [line for line in tail(log).splitlines() if line.strip()]
    last = f", the last line of its log is: {lines[-1].strip()}" if lines else ""
    return ServerError(f"{what}{last}", f"Read {log}, then start again; what was acknowledged is not lost.")
