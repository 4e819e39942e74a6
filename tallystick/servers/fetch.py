"""Kafka's jars: fetched once, checked on every start, shared by all homes.

`kafka-jars.json` names every jar that `kafka_2.13` needs, with its SHA-256 and size; nothing else is ever put on a
class path, whatever a repository serves. `jgo` does the fetching, from the repositories in its own settings (a mirror,
say) or Maven's. A jar already in the local Maven repository is taken from there. An interrupted fetch goes on where it
was.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tallystick.errors import ServerError
from tallystick.servers.home import advice, cache_folder, make_folder, reason
from tallystick.servers.progress import Report, silent

MANIFEST = Path(__file__).with_name("kafka-jars.json")
FETCHERS = 6  # at once: polite to the repository, and enough to hide latency
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Jar:
    """One file of Kafka's, as the project knows it."""

    group: str
    name: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this jar, byte for byte."""
        try:
            if path.stat().st_size != self.size_bytes:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def manifest() -> tuple[str, list[Jar]]:
    """Kafka's version and its jars, the main one first."""
    known = json.loads(MANIFEST.read_text())
    jars = []
    for entry in known["jars"]:
        group, name, version = entry["artifact"].split(":")
        jars.append(Jar(group, name, version, entry["sha256"], entry["bytes"]))
    return known["version"], jars


async def kafka_class_path(report: Report = silent) -> str:
    """The class path of a Kafka whose every jar was just checked, fetched first where it was missing or damaged.

    Raises ServerError when a jar can't be had, or is not what the project knows. Cancelled, it returns at once; the
    fetch of the current jars ends in its own threads and leaves nothing half done.
    """
    return await asyncio.to_thread(_class_path, report)


def _class_path(report: Report) -> str:
    version, jars = manifest()
    folder = make_folder(cache_folder() / f"kafka-{version}")
    paths = [folder / jar.filename for jar in jars]
    if not all(jar.is_at(path) for jar, path in zip(jars, paths, strict=True)):
        with _alone(folder):
            missing = [jar for jar in jars if not jar.is_at(folder / jar.filename)]
            _fetch_all(missing, folder, version, report)
    return os.pathsep.join(map(str, paths))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process fetches into the cache at a time; the others wait, and find it done."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_all(jars: list[Jar], folder: Path, version: str, report: Report) -> None:
    if not jars:
        return
    what = f"Fetching Apache Kafka {version}"
    total = sum(jar.size_bytes for jar in jars)
    done = 0
    lock = Lock()

    def one(jar: Jar) -> None:
        nonlocal done
        _fetch(jar, folder)
        with lock:
            done += jar.size_bytes
            report(what, done, total)

    report(what, 0, total)
    with ThreadPoolExecutor(FETCHERS, thread_name_prefix="tally-fetch") as pool:
        # The biggest first, so that the end is not a wait for one.
        tasks: list[Future[None]] = [pool.submit(one, jar) for jar in sorted(jars, key=lambda jar: -jar.size_bytes)]
        finished, _ = wait(tasks, return_when=FIRST_EXCEPTION)
        failed = [error for task in finished if (error := task.exception()) is not None]
        pool.shutdown(cancel_futures=True)
    if failed:
        raise failed[0]


def _fetch(jar: Jar, folder: Path) -> None:
    """Put one jar into the cache: fetched aside, checked, then renamed."""
    from jgo.config import GlobalSettings  # late: it costs 100 ms, and is needed once
    from jgo.constants import MAVEN_CENTRAL_URL, default_maven_repo
    from jgo.maven import MavenContext

    aside = folder / f".{jar.filename}.part"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        relative = Path(*jar.group.split("."), jar.name, jar.version, jar.filename)
        source = default_maven_repo() / relative
        if not jar.is_at(source):
            remotes = {**GlobalSettings.load().repositories}
            remotes.setdefault("central", MAVEN_CENTRAL_URL)
            context = MavenContext(repo_cache=aside, remote_repos=remotes, timeout=TIMEOUT_S)
            source = context.project(jar.group, jar.name).at_version(jar.version).artifact().resolve()
            if not jar.is_at(source):
                raise ServerError(
                    f"{jar.filename}, as fetched, is not the file that Tallystick knows (SHA-256 {jar.sha256})",
                    "Fetch again from another network or repository (jgo.conf); don't use what was served.",
                )
        part = make_folder(aside) / "checked.jar"
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(folder / jar.filename)
    except ServerError:
        raise
    except OSError as error:  # requests' errors are OSErrors too
        if error.errno is not None:
            raise ServerError(
                f"can't keep {jar.filename} in {folder}: {reason(error)}", advice(error, folder)
            ) from error
        raise ServerError(f"can't fetch {jar.filename}: {error}", _NO_NETWORK) from error
    except RuntimeError as error:  # jgo's, when no repository has it
        raise ServerError(f"can't fetch {jar.filename}: {error}", _NO_NETWORK) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


_NO_NETWORK = (
    "The first start needs the network once (43 MB): check it, name a mirror under [repositories] in jgo.conf, "
    "or set TALLY_KAFKA_BOOTSTRAP to a Kafka you have."
)
