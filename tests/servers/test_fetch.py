"""Kafka's jars: only the known ones, whole, from whatever repository."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tallystick.errors import ServerError
from tallystick.servers import fetch


class Mirror(ThreadingHTTPServer):
    """A Maven repository of the jars that are in the cache, which may misbehave for one of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[str] = []
        self.forged: str | None = None
        self.broken: str | None = None


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        path = self.server.folder / name
        if not path.exists():
            self.send_error(404)
            return
        self.server.asked.append(name)
        content = path.read_bytes()
        if name == self.server.forged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name == self.server.broken else content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
async def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mirror]:
    """An empty cache, and a mirror named in jgo's settings."""
    known = Path((await fetch.kafka_class_path()).split(":")[0]).parent
    settings = tmp_path / "jgo.conf"
    server = Mirror(known)
    settings.write_text(f"[repositories]\nmirror = http://127.0.0.1:{server.server_port}/maven2\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cached(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").rglob("*.jar")}


async def test_all_jars_come_once_with_progress(mirror: Mirror, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    paths = (await fetch.kafka_class_path(lambda what, done, total: steps.append((done, total)))).split(":")
    _, jars = fetch.manifest()
    assert [Path(path).name for path in paths] == [jar.filename for jar in jars]
    assert sorted(mirror.asked) == sorted(jar.filename for jar in jars)
    assert steps[0][0] == 0
    assert steps[-1] == (sum(jar.size_bytes for jar in jars),) * 2
    assert (await fetch.kafka_class_path()).split(":") == paths
    assert len(mirror.asked) == len(jars)
    # A damaged one is noticed, and only that one fetched again.
    damage(Path(paths[3]))
    await fetch.kafka_class_path()
    assert mirror.asked[len(jars) :] == [jars[3].filename]


async def test_a_forged_jar_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.forged = "kafka-raft-4.3.1.jar"
    with pytest.raises(ServerError, match=r"kafka-raft-4.3.1.jar, as fetched, is not the file"):
        await fetch.kafka_class_path()
    assert mirror.forged not in cached(tmp_path)


async def test_an_interrupted_fetch_goes_on_where_it_was(mirror: Mirror, tmp_path: Path) -> None:
    mirror.broken = "slf4j-api-1.7.36.jar"  # a small one: the big ones are through by then
    with pytest.raises(ServerError, match=r"can't fetch slf4j-api-1.7.36.jar") as told:
        await fetch.kafka_class_path()
    assert "network" in told.value.fix
    had = cached(tmp_path)
    assert had
    assert mirror.broken not in had
    mirror.broken = None
    mirror.asked.clear()
    await fetch.kafka_class_path()
    assert not had & set(mirror.asked)
    assert "slf4j-api-1.7.36.jar" in mirror.asked


async def test_a_local_maven_repository_is_enough(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for jar in fetch.manifest()[1]:
        folder = tmp_path / "m2" / Path(*jar.group.split("."), jar.name, jar.version)
        folder.mkdir(parents=True)
        (folder / jar.filename).symlink_to(mirror.folder / jar.filename)
    await fetch.kafka_class_path()
    assert mirror.asked == []
