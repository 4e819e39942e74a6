"""What commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]
Progress = Callable[[str, int, int], None]


def put(line: str = "") -> None:
    """A line of data."""
    sys.stdout.write(line + "\n")


def put_json(value: Any) -> None:
    """The one JSON object of a command."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def note(line: str) -> None:
    """A remark for the person who waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def put_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; plain text, tab-separated, where standard output is no terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            put("\t".join(str(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on standard error, gone at the end; nothing where it is no terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console

    from tallystick.servers.progress import progress_bar

    with progress_bar(Console(stderr=True)) as report:
        yield report


def _silent(_what: str, _done: int, _total: int) -> None:
    """No terminal, no bar."""
