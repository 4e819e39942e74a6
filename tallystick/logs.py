"""How long-running commands log: one line an event on standard error, ours and the libraries' alike.

Guarantees: nothing goes to standard output, which is for data. Does not: write files or rotate them; that is the
supervisor's.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

# Libraries that say at every retry what our own log says once.
_TALKATIVE = ("aiokafka", "faststream", "asyncio")


def configure(*, level: int = logging.INFO, lines_as_json: bool = False) -> None:
    """Set up structlog and the standard library's logging for a server process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: Any = (
        structlog.processors.JSONRenderer()
        if lines_as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info if lines_as_json else _unchanged,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tallystick").setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def silence() -> None:
    """For commands that end by themselves: what goes wrong is told in their one line, not by libraries."""
    logging.getLogger().addHandler(logging.NullHandler())


def _unchanged(_logger: Any, _name: str, event: Any) -> Any:
    return event
