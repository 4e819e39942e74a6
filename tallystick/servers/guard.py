"""A small process that stands between us and one embedded server, so that the server never outlives us.

Run as `python -I -S guard.py SPEC` (JSON), with the standard library only, since it starts before anything is installed
in its path. It holds the read end of a pipe as standard input; we hold the other end and never write. End of file there
means that we are done or dead, kill -9 included, and the guard then ends the server: a polite signal first, harder ones
when it takes too long. A guard that is itself killed takes the server with it (the kernel's parent death signal).

It reports on standard output, a line each: `{"pid": N}` once the server is started, `{"status": N}` when it has ended
(a wait status as in `os.waitstatus_to_exitcode`). The exit status of the guard is 0 in both cases.

`SPEC["identity"]` says as whom the server runs; Postgres refuses root, and a folder of root's may be closed to others:
`same` (as we are); `namespace` (our own user, shown to the server as a plain one by a user namespace, so that it
reaches all we reach and nothing needs a new owner); `user` (another user, after the server's folder was given to it).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHANS_S = (
    10.0  # how long what the server left behind is given to end; a Postgres backend looks around at least so often
)
LOOK_AROUND_S = 1.0  # how often the parent is looked at, for the case that a fork of it still holds the pipe


def enter_namespace(uid: int, gid: int) -> None:
    """Go on as `uid`:`gid` in a new user namespace; outside it we stay who we are. Raises OSError if refused."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {outer_uid} 1"), ("gid_map", f"{gid} {outer_gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def take_identity(identity: dict[str, Any]) -> None:
    """Become the user the server runs as. Raises OSError where that is not allowed."""
    if identity["kind"] == "namespace":
        enter_namespace(identity["uid"], identity["gid"])
    elif identity["kind"] == "user":
        os.setgroups([])
        os.setresgid(identity["gid"], identity["gid"], identity["gid"])
        os.setresuid(identity["uid"], identity["uid"], identity["uid"])


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel to send us `number` when `parent` ends. A no-op where there is no such thing (macOS)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(125)


def run_server(spec: dict[str, Any], guard: int) -> None:
    """In the child: become the server. Does not return."""
    try:
        os.setsid()
        log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        given = os.open(spec["stdin"], os.O_RDONLY)
        for source, target in ((given, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(spec["cwd"])
        os.umask(0o077)
        take_identity(spec["identity"])
        # After the change of identity, which would clear it.
        die_with_parent(signal.Signals[spec["stop"][0][0]], guard)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606  (no shell is the point)
    except OSError as error:
        os.write(2, f"could not start {spec['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(126)


def wait_for_end(child: int, seconds: float) -> int | None:
    """The child's exit code, or None when it is still there after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.01)


def end_server(child: int, stop: list[tuple[str, float]]) -> int:
    """Signal after signal until the child has ended; the last is SIGKILL, which can't be refused."""
    for name, seconds in stop:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.Signals[name])
        code = wait_for_end(child, seconds)
        if code is not None:
            return code
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def adopt_orphans() -> None:
    """Become the parent of what a dead server leaves behind. A no-op where there is no such thing (macOS)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(child: int) -> None:
    """Wait until every process of the ended server is gone; its group is killed, the others are given some time."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    deadline = time.monotonic() + ORPHANS_S
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if time.monotonic() > deadline:
                with contextlib.suppress(OSError):
                    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.005)


def report(line: dict[str, int]) -> None:
    """Tell the parent, if it still listens."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(line).encode() + b"\n")


def watch(child: int, parent: int, stop: list[tuple[str, float]]) -> int:
    """Wait until the server has ended, or until we are to end it. Returns the server's exit code."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    asked: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.append(number))
    while True:
        code = wait_for_end(child, 0)
        if code is not None:
            return code
        ready, _, _ = select.select([0, wake], [], [], LOOK_AROUND_S)
        if wake in ready:
            os.read(wake, 4096)
        if asked or os.getppid() != parent or (0 in ready and not os.read(0, 4096)):
            return end_server(child, stop)


def probe(spec: dict[str, Any]) -> None:
    """Report whether the identity can be taken, and which of the paths it can read."""
    try:
        take_identity(spec["identity"])
    except OSError:
        sys.stdout.write(json.dumps({"possible": False, "reachable": []}))
        return
    reachable = [path for path in spec["paths"] if os.access(path, os.R_OK | os.X_OK)]
    sys.stdout.write(json.dumps({"possible": True, "reachable": reachable}))


def main() -> None:
    """Start the server that the specification names, and stay with it to the end."""
    spec = json.loads(sys.argv[1])
    if "paths" in spec:
        probe(spec)
        return
    parent = spec["parent"]
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    guard = os.getpid()
    adopt_orphans()
    child = os.fork()
    if child == 0:
        run_server(spec, guard)
    report({"pid": child})
    status = watch(child, parent, spec["stop"])
    end_orphans(child)
    report({"status": status})


if __name__ == "__main__":
    main()
