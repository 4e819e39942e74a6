"""One stack, on which every app plays once over each protocol; the tests read what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cli.tally import Tally, wait_for_file
from tests.runtimes.playing import play_all
from tests.runtimes.recorded import Record, read

END_S = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """A `tally up` that is ready."""

    tally: Tally
    endpoints: dict[str, str]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A `tally up` of the session's own."""
    folder = tmp_path_factory.mktemp("runtimes")
    tally = Tally.at(folder / "home")
    log = folder / "up.log"
    process = tally.start("up", log=log)
    try:
        wait_for_file(tally.home / "endpoints.json", process, log)
        yield Stack(tally, json.loads((tally.home / "endpoints.json").read_text()))
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(END_S)


@pytest.fixture(scope="session")
def record(stack: Stack) -> Record:
    """Every app has played, and all that was sent is on the record."""
    played = play_all(stack.endpoints["otlp_http"], stack.endpoints["otlp_grpc"])
    return read(stack.endpoints["postgres"], played)
