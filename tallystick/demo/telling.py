"""What the demo says: an act at a time, in plain sentences, and what each one proves and doesn't."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ledger.leaf import Leaf
from ledger.verify import Report
from projections.knowledge import Known
from projections.links import Link
from tallystick.demo.stage import Entry
from tallystick.demo.story import Told

WIDTH_OF_A_FILE: Final = 10_000  # wider than any line: what is no terminal is told in whole lines

INDENT: Final = 3
BETWEEN: Final = 2  # spaces between two columns

_IN_EVERY: Final = re.compile(r"/(actor/|received)")  # of a signed entry; told once, not in every line


class Teller:
    """Writes to one console; a quiet console says nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._acts = 0

    def act(self, title: str) -> None:
        """Begin an act."""
        self._acts += 1
        self._print(Text())
        self._print(Text(f"{self._acts}. {title}", style="bold"))

    def say(self, text: str) -> None:
        """A plain sentence or two."""
        self._indented(Text(text))

    def command(self, text: str) -> None:
        """A command to copy: one line, which at most the terminal itself breaks."""
        self._console.print(Text(f"   {text}"), soft_wrap=True)

    def proves(self, text: str) -> None:
        """What this act shows."""
        self._beside("proves", "green", text)

    def leaves_open(self, text: str) -> None:
        """What it does not show."""
        self._beside("does not", "yellow", text)

    def check(self, name: str, ok: bool, detail: str) -> None:
        """The outcome of one check."""
        self._beside("ok" if ok else "FAILED", "green" if ok else "bold red", f"{name}: {detail}")

    def _beside(self, word: str, style: str, text: str) -> None:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=10, justify="right")
        table.add_column(overflow="fold")
        table.add_row(Text(word, style=style), Text(text))
        self._print(table)

    def run(self, entries: Sequence[Entry]) -> None:
        """One run's entries, in the order of its chain."""
        table = self._table("index", "kind", "vouched", "what the leaf says in the clear", "sealed content")
        for entry in entries:
            leaf = entry.leaf
            sealed = " ".join(pointer.lstrip("/") for pointer in leaf.commit or {} if not _IN_EVERY.match(pointer))
            said = Text(summary(leaf), overflow="fold")
            table.add_row(str(entry.index), leaf.kind, leaf.data.get("vouched", "ledger"), said, Text(sealed))
        self._indented(self._fitted(table))

    def links(self, told: Sequence[Told], by_run: Mapping[str, Mapping[str, Link]]) -> None:
        """Which run holds which link, with the index of the first entry that shows it."""
        table = self._table("link", *(f"{run.ticket} {run.agent}" for run in told))
        for name in next(iter(by_run.values())):
            cells = [_first(by_run[run.run][name]) for run in told]
            table.add_row(name.replace("_", " "), *cells)
        self._indented(self._fitted(table))

    def known(self, links: Mapping[str, Known]) -> None:
        """How each link of a run is known: what was said, what follows from it and by which rule, what is missing."""
        table = self._table("link", "is", "by the rule", "entries")
        for name, link in links.items():
            style = {"reported": "green", "inferred": "yellow"}.get(link.state, "dim")
            lacks = Text(f"not the {listed(link.lacks)}", style="yellow") if link.lacks and link.entries else Text("")
            rules = Text.assemble(Text(listed(link.rules)), " " if link.rules and lacks else "", lacks)
            entries = " ".join(map(str, link.entries)) if len(link.entries) < 6 else f"{len(link.entries)} of them"
            table.add_row(name.replace("_", " "), Text(link.state, style=style), rules, entries)
        self._indented(self._fitted(table))

    def verdicts(self, reports: Mapping[str, Report]) -> None:
        """The three verdicts, side by side, never folded into one."""
        table = self._table("of", "logs", "entries", "integrity", "completeness", "independence")
        for name, report in reports.items():
            size = sum(log.size for log in report.logs)
            verdicts = (_colored(word) for word in (report.integrity, report.completeness, report.independence))
            table.add_row(name, str(len(report.logs)), str(size), *verdicts)
        self._indented(self._fitted(table))

    def findings(self, report: Report) -> None:
        """Each finding by name, log and index."""
        table = self._table("finding", "log", "index", "detail")
        for found in report.findings:
            index = "" if found.index is None else str(found.index)
            table.add_row(Text(found.kind, style="bold red"), found.log, index, Text(found.detail))
        self._indented(self._fitted(table))

    def _indented(self, what: Text | Table) -> None:
        self._print(Padding(what, (0, 0, 0, INDENT), expand=False))

    def _print(self, what: Text | Table | Padding) -> None:
        """Print it; without the spaces that fill a line up where it goes to a file or a pipe."""
        if self._console.is_terminal:
            self._console.print(what)
            return
        with self._console.capture() as captured:
            self._console.print(what)
        for line in captured.get().splitlines():
            self._console.print(Text(line.rstrip()), soft_wrap=True)

    def _fitted(self, table: Table) -> Table:
        """The table with widths at which it fits the console, its words whole."""
        texts = [[str(column.header), *(str(cell) for cell in column.cells)] for column in table.columns]
        wide = [max(map(len, cells)) for cells in texts]
        words = [max((len(word) for cell in cells for word in cell.split()), default=1) for cells in texts]
        room = self._console.width - INDENT - BETWEEN * (len(texts) - 1)
        for column, width in zip(table.columns, widths(wide, words, room), strict=True):
            column.width = width
        return table

    def _table(self, *columns: str) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", width=None)
        for column in columns:
            table.add_column(column, overflow="fold")
        return table


def widths(wide: Sequence[int], words: Sequence[int], room: int) -> list[int]:
    """The columns' widths: their texts' (`wide`) if `room` is enough for all; else less, but none less than its longest
    word (`words`); where even those don't fit, the widest give."""
    if sum(wide) <= room:
        return list(wide)
    found = list(words)
    while sum(found) > max(room, len(found)):
        found[found.index(max(found))] -= 1
    for _ in range(room - sum(found)):
        lacks = [of - has for of, has in zip(wide, found, strict=True)]
        found[lacks.index(max(lacks))] += 1
    return found


def _first(link: Link) -> Text:
    if not link.held:
        return Text("-", style="dim")
    more = f" and {len(link.shown) - 1} more" if len(link.shown) > 1 else ""
    return Text(f"{link.shown[0].index}{more}")


def _colored(word: str) -> Text:
    style = {"ok": "green", "failed": "bold red", "gaps": "bold red", "empty": "bold red"}.get(word, "yellow")
    return Text(word, style=style)


def _words(*parts: Any) -> str:
    return " ".join(str(part) for part in parts if part is not None)


def _money(effect: Mapping[str, Any] | None) -> str | None:
    return _words(effect.get("action"), effect.get("amount"), effect.get("currency")) if effect else None


def _model_call(data: Mapping[str, Any]) -> str:
    tokens = f"{data.get('input_tokens', 0)} + {data.get('output_tokens', 0)} tokens"
    price = data.get("price")
    priced = f"priced {price['amount']} {price['currency']}" if price else "no price"
    return f"{data['provider']} {data['model']}, {tokens}, {priced}"


_SUMMARIES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "run_started": lambda data: _words(data.get("workflow"), data.get("work_item", {}).get("id"), data.get("autonomy")),
    "routing_decision": lambda data: _words("to", data["chosen"]),
    "model_call": _model_call,
    "tool_selection": lambda data: _words(data["chosen"], "of", len(data.get("offered", ()))),
    "tool_call": lambda data: _words(data["tool"], data["phase"], data.get("status"), _money(data.get("effect"))),
    "retrieval": lambda data: _words(data["store"], *(page.get("id") for page in data.get("documents", ()))),
    "memory_read": lambda data: _words(data["store"], data["record"]),
    "memory_write": lambda data: _words(data["store"], data["record"]),
    "policy_decision": lambda data: _words(data["decision"], "by rule", data.get("rule")),
    "approval_request": lambda data: _words("for", data.get("call"), "until", data.get("expires")),
    "approval_decision": lambda data: _words(data["decision"], "by", data.get("reviewer")),
    "validator": lambda data: _words(data["rule"], data["result"]),
    "credential_issued": lambda data: _words(data.get("mode"), "for", data.get("ttl_seconds"), "s"),
    "final_action": lambda data: _words(_money(data.get("effect"))),
    "run_finished": lambda data: _words(data["status"]),
    "run_head": lambda data: _words(data["entries"], "entries before this one"),
    "error": lambda data: _words(data["class"]),
    "retry": lambda data: _words("attempt", data["attempt"]),
    "rollback": lambda data: _words(data.get("status"), _money(data.get("effect"))),
    "human_override": lambda data: _words("by", data.get("by")),
    "delegation": lambda data: _words("to", data["to_agent"]),
}


def summary(leaf: Leaf) -> str:
    """What a leaf says in the clear, in a few words."""
    of = _SUMMARIES.get(leaf.kind)
    return of(leaf.data) if of is not None else ""


def listed(names: Iterable[str]) -> str:
    """Names in a sentence."""
    return ", ".join(names)
