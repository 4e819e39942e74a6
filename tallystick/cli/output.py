"""What commands print: data on standard output, everything else on standard error.

Guarantee: what a record says can't act on the terminal, nor turn the order of the characters around it: controls stand
escaped in what is printed for people. JSON for programs, and bytes that were asked for, are printed as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]
Progress = Callable[[str, int, int], None]


# C0 but tab and line feed, DEL, C1; embeddings, overrides and isolates of text's direction.
_CONTROLS: Final = {
    code: f"\\u{code:04x}"
    for code in (*range(9), *range(0xB, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def visible(text: str) -> str:
    """The text with its controls escaped, but for tabs and ends of lines."""
    return text.translate(_CONTROLS)


def put(line: str = "") -> None:
    """A line of data for people."""
    put_exactly(visible(line))


def put_exactly(line: str) -> None:
    """A line for programs."""
    sys.stdout.write(line + "\n")


def put_json(value: Any) -> None:
    """The one JSON object of a command."""
    put_exactly(json.dumps(value, ensure_ascii=False))


def note(line: str) -> None:
    """A remark for the person who waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def counted(number: int, one: str, many: str | None = None) -> str:
    """So many of a thing: `1 log`, `2,048 logs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def put_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table with a header; plain text, tab-separated, without one where standard output is no terminal. Without rows
    nothing but a remark, `empty`."""
    if not rows:
        note(empty)
        return
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
        table.add_row(*(Text(visible(str(cell))) for cell in row))
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
