"""How commands find a `tally up`, wait for one that starts, and are not fooled by one that was killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick import endpoints
from tallystick.endpoints import Endpoints, announced, find_endpoints, hold, running_up
from tallystick.errors import TallyError
from tallystick.settings import Settings

FOUND = Endpoints(postgres="postgresql://auditor", postgres_admin=None, kafka="127.0.0.1:9092")
HOLDER = """
import sys, time
from pathlib import Path
from tallystick.endpoints import Endpoints, hold
from tallystick.settings import load_settings
with hold(load_settings(home=Path(sys.argv[1]))) as home:
    home.announce(Endpoints(postgres="p", postgres_admin=None, kafka="k"))
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(endpoints, "APPEAR_S", 0.2)
    return Settings(home=tmp_path / "home", _env_file=None)


def silent(_line: str) -> None:
    raise AssertionError("nothing was to be said")


def test_announced_while_held_and_withdrawn_after(settings: Settings) -> None:
    with hold(settings) as home:
        assert running_up(settings) == os.getpid()
        assert announced(settings) is None
        home.announce(FOUND)
        assert find_endpoints(settings, silent) == FOUND
        written = json.loads(settings.endpoints_file.read_text())
        parts = {"postgres", "postgres_admin", "kafka", "otlp_http", "otlp_grpc", "web"}
        assert written.keys() == parts | {"ingest_ended", "pid"}
        assert settings.endpoints_file.stat().st_mode & 0o077 == 0
        assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
        lost = replace(FOUND, ingest_ended="a fork")
        home.announce(lost)
        assert announced(settings) == lost
    assert not settings.endpoints_file.exists()
    assert running_up(settings) is None


def test_none_that_runs_is_told_at_once(settings: Settings) -> None:
    with pytest.raises(TallyError, match="Start it with `tally up`"):
        find_endpoints(settings, silent)


def test_a_second_one_is_refused_and_told_which_runs(settings: Settings) -> None:
    with (
        hold(settings),
        pytest.raises(TallyError, match=f"already runs in .*, process {os.getpid()}"),
        hold(settings),
    ):
        pass


def test_one_that_starts_is_waited_for(settings: Settings) -> None:
    said: list[str] = []
    with hold(settings) as home:
        timer = threading.Timer(0.5, home.announce, [FOUND])
        timer.start()
        assert find_endpoints(settings, said.append) == FOUND
        timer.join()
    assert len(said) == 1
    assert "waiting for `tally up`" in said[0]


def test_one_that_never_gets_ready_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "WAIT_S", 0.5)
    with hold(settings), pytest.raises(TallyError, match="was not ready within"):
        find_endpoints(settings, lambda _: None)


def test_what_a_killed_one_left_is_removed(settings: Settings) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(settings.home)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert running_up(settings) == holder.pid
        assert announced(settings) is not None
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert running_up(settings) is None
    deadline = time.monotonic() + 20
    while settings.endpoints_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_of_one_that_is_gone_is_not_believed(settings: Settings) -> None:
    with hold(settings) as home:
        home.announce(FOUND)
        left = settings.endpoints_file.read_text()
    settings.endpoints_file.write_text(left)
    with pytest.raises(TallyError, match="no servers"):
        find_endpoints(settings, silent)
    with hold(settings):
        assert not settings.endpoints_file.exists()
        assert announced(settings) is None
