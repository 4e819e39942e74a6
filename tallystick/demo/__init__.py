"""`tally demo`: a real agent's runs, end to end on servers of its own, verified, tampered with, and found out.

Reading order: play (the acts), story (what happens), agents, recorder and approval (how it gets on the record), stage
(servers and consumer), counting, tampering, telling.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tallystick.errors import TallyError, how_to_install

__all__ = ["main"]

LOG_FILE = "demo.log"


def main(home: Path | None = None, *, as_json: bool = False) -> int:
    """Play the demo; 0 if everything came out as it must, else 1.

    `home`: the folder it lives in and keeps, by default `$TALLY_HOME-demo`. `as_json`: a summary, and nothing else, on
    standard output. Raises TallyError and the errors of the ledger, intake and drivers where it can't be played;
    nothing is left running then either.
    """
    began = time.monotonic()  # before the imports, which take longer than some acts
    from rich.console import Console

    if find_spec("pydantic_ai") is None:
        raise TallyError(
            "the package pydantic-ai-slim, which the demo's agents are made with, is not installed",
            f"Install it: {how_to_install('server,demo')}.",
        )
    os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # it would print one in the midst of the telling
    from tallystick.demo.play import play
    from tallystick.demo.telling import WIDTH_OF_A_FILE
    from tallystick.servers.home import make_folder

    home = make_folder(home if home is not None else default_home())
    console = Console(quiet=as_json, highlight=False)
    if not console.is_terminal:
        console = Console(quiet=as_json, highlight=False, width=WIDTH_OF_A_FILE)
    with _logging_to(home / LOG_FILE):
        summary = asyncio.run(play(home, console, began))
    if as_json:
        sys.stdout.write(summary.to_json() + "\n")
    return 0 if summary.ok else 1


def default_home() -> Path:
    """A home of the demo's own, beside the one in the settings."""
    from tallystick.settings import load_settings

    home = load_settings().home
    return home.with_name(f"{home.name}-demo")


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    """Keep what the consumer and the libraries log out of the telling, and where it can be read."""
    import structlog

    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.LogfmtRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        structlog.reset_defaults()
