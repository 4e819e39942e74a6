"""Picks ports that two homes, or a home and a busy client, don't fight over.

Only ports below the kernel's ephemeral range: a client that keeps connecting to a dead server's port inside that range
can connect to itself, and then holds the port against the server's return.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from tallystick.errors import ServerError
from tallystick.servers.progress import Report

LOOPBACK = "127.0.0.1"
LOWEST, HIGHEST = 15_000, 30_000  # below Linux's default ephemeral range (32768 to 60999) and macOS's (49152 up)
TRIES_MAX = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on that loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick(avoid: frozenset[int] = frozenset()) -> int:
    """A free port, by chance, so that homes started at once rarely pick the same."""
    for _ in range(TRIES_MAX):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311  (not a secret)
        if port not in avoid and is_free(port):
            return port
    raise OSError(f"no free port between {LOWEST} and {HIGHEST} in {TRIES_MAX} tries")


def remembered(path: Path) -> int | None:
    """The port that was used before, from its file; None when there is none or it is not a port."""
    try:
        port = int(path.read_text().strip())
    except (OSError, ValueError):
        return None
    return port if 1024 <= port <= 65_535 else None


def choose(server: str, path: Path, wanted: int | None, attempt: int, report: Report) -> int:
    """The port asked for; else at the first attempt the one of the last run, from its file, if free; else a new one.

    Raises ServerError where the port asked for is taken.
    """
    if wanted is not None:
        if not is_free(wanted):
            raise ServerError(
                f"port {wanted} of {LOOPBACK}, asked for {server}, is taken by another program",
                "End that program, or ask for another port.",
            )
        return wanted
    before = remembered(path)
    if before is not None and attempt == 0:
        if is_free(before):
            return before
        report(f"Port {before} is taken by another program: {server} moves to another", 1, 1)
    return pick()
