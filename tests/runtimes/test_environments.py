"""The environments that runtimes play in: locked by hashes, and without a network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.runtimes.playing import PROTOCOLS_OF, ROOT, interpreter

FOLDER = Path(__file__).parent
OFFLINE = """
from tests.runtimes.apps import offline
import socket
for call in (lambda: socket.socket().connect(("192.0.2.1", 80)), lambda: socket.getaddrinfo("example.com", 80)):
    try:
        call()
    except OSError as refused:
        print(refused)
print(len(offline.attempts))
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
print(len(offline.attempts))
"""


@pytest.mark.parametrize("environment", PROTOCOLS_OF)
def test_a_lock_pins_all_by_hash_and_names_no_host(environment: str) -> None:
    text = (FOLDER / f"{environment}.lock").read_text()
    pinned = re.findall(r"^\S+==[^ ]+.*\\\n    --hash=sha256:", text, re.MULTILINE)

    assert len(pinned) == len(re.findall(r"^\S+==", text, re.MULTILINE)) > 50
    assert "://" not in text


@pytest.mark.parametrize("environment", PROTOCOLS_OF)
def test_there_is_no_network_for_an_app(environment: str) -> None:
    done = subprocess.run(
        [interpreter(environment), "-c", OFFLINE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [
        "no network here: socket.connect ('192.0.2.1', 80)",
        "no network here: socket.getaddrinfo 'example.com'",
        "2",
        "2",
    ]
