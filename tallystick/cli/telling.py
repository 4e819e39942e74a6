"""A run as a person reads it: what it comes to, what is known of it, and its entries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tallystick.cli.output import put

if TYPE_CHECKING:
    from projections.knowledge import Knowledge
    from projections.steps import Run, Totals
    from replay.errors import Newest
    from replay.show import RunShown

VALUE_CHARACTERS_MAX: Final = 200  # of a content value
INDEXES_SHOWN_MAX: Final = 3  # of the entries that show a link; --json has all
ENTRIES_SHOWN: Final = 200  # of a run, unless told otherwise
_APPROVALS: Final = ("asked", "approved", "rejected", "expired", "undecided", "unanswered")


def tell_run(shown: RunShown, limit: int | None = ENTRIES_SHOWN) -> None:
    """What the run comes to and what is known of it; then its entries by time, so many of them, or all (None)."""
    put(f"run {shown.run} in {shown.log}, {_number(len(shown.entries), 'entry', 'entries')}")
    _tell_totals(shown.told, shown.totals)
    _tell_knowledge(shown.knowledge)
    put()
    put(f"{'seq':>5}  {'time':27}  {'recorded':27}  {'vouched':8}  kind")
    merged = shown.merged()
    in_order = _by_time(shown.entries)
    for at in in_order[:limit]:
        entry = shown.entries[at]
        _tell(entry, shown.recorded[at], merged.get(entry["index"]))
    more = len(in_order) - len(in_order[:limit])
    if more:
        put(f"and {more} more: --all shows every entry, --limit N the first N")


def how_to_find(newest: Sequence[Newest]) -> str:
    """What to do where there is no run of that id."""
    ids = "A run's id is the emitter's `run.id`, or `tallystick.run_id` of OTLP, else the trace id in hex"
    if not newest:
        return f"No run was recorded lately: see `tally tenant list`, and `tally rejected list`. {ids}."
    told = "; ".join(f"{one.run} (tenant {one.tenant}, {one.recorded:%Y-%m-%dT%H:%M:%SZ})" for one in newest)
    return f"The newest on the record: {told}. {ids}."


def _by_time(entries: Sequence[dict[str, Any]]) -> list[int]:
    """The entries' places in the order in which things happened. The log has them as they arrived, children before
    parents; what has no time stands behind all that the log has before it."""
    when: list[tuple[str, int]] = []
    latest = ""
    for at, entry in enumerate(entries):
        latest = max(latest, entry["time"] or "")
        when.append((entry["time"] or latest, at))
    return sorted(range(len(entries)), key=when.__getitem__)


def _tell(entry: dict[str, Any], recorded: str | None, same_as: tuple[int, str] | None) -> None:
    vouched = str(entry["data"].get("vouched", "-"))
    put(f"{entry['run_seq']:>5}  {entry['time'] or '-':27}  {recorded or '-':27}  {vouched:8}  {entry['kind']}")
    put(f"       index {entry['index']}, id {entry['id']}")
    if "verdict" in entry:
        put(f"       {entry['verdict']}: its leaf can't be read")
        return
    if same_as is not None:
        put(f"       tells the same as index {same_as[0]} ({same_as[1]})")
    if entry["actor"]:
        put(f"       actor {json.dumps(entry['actor'], ensure_ascii=False)}")
    put(f"       {json.dumps(entry['data'], ensure_ascii=False)}")
    for pointer, content in entry["content"].items():
        value = content.get("value")
        text = "" if value is None else f" {json.dumps(value, ensure_ascii=False)}"
        if len(text) > VALUE_CHARACTERS_MAX:
            text = f"{text[:VALUE_CHARACTERS_MAX]}… ({len(value)} characters)"
        put(f"       {pointer} {content['verdict']}{text}")


def _tell_knowledge(known: Knowledge) -> None:
    """The twelve links, and what is missing or gone."""
    rows: list[tuple[str, ...]] = [
        (
            name.replace("_", " "),
            link.state,
            _listed(link.rules),
            _listed([aspect.replace("_", " ") for aspect in link.lacks]),
            _indexes(link.entries),
        )
        for name, link in known.links.items()
    ]
    rows.insert(0, ("link", "state", "by rule", "lacks", "shown by index"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        put("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if known.conflicts:
        put(f"conflicts: {len(known.conflicts)}, an id of this run came with two contents: {_entries(known.conflicts)}")
    if known.after_head:
        after = _number(len(known.after_head), "entry", "entries")
        put(f"{after} came after the run's last run_head, up to which the run alone shows it complete")
    if known.pending:
        put(f"approval asked, not answered in this run: {_entries(known.pending)}")
    for member in known.members:
        put(f"{member.name} is inferred by {member.rule}: {_entries(member.entries)}")
    for name, indexes in known.missing.items():
        put(f"{name} was not said: {_entries(indexes)}")
    for gone in known.dropped:
        number = "an unknown number" if gone.number is None else gone.number
        put(f"{gone.what.replace('_', ' ')}: {number}, as told by {_entries(gone.entries)}")
    if known.unmapped:
        put(f"members without a name of ours are kept, encrypted, in {_entries(known.unmapped)}")


def _tell_totals(run: Run, totals: Totals) -> None:
    """How the run ended and what it comes to, each thing counted once."""
    put(_ending(run))
    put(
        f"{_number(totals.model_calls, 'model call')}, {_number(totals.tool_calls, 'tool call')}"
        f" ({totals.tool_calls_denied} denied), {_number(totals.errors, 'error')},"
        f" {_number(totals.retries, 'retry', 'retries')}, {_number(totals.delegations, 'delegation')}"
    )
    approvals = {name: number for name in _APPROVALS if (number := getattr(totals.approvals, name))}
    if approvals:
        put(f"approvals: {', '.join(f'{number} {name}' for name, number in approvals.items())}")
    tokens = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in totals.tokens.items())
    put(f"{tokens or 'no tokens told'}{_lacking(totals.model_calls_without_tokens, totals, 'tokens')}")
    cost = totals.cost
    said: Mapping[str, Mapping[str, Decimal]] = {
        "priced": cost.priced,
        "claimed": cost.claimed,
        "tools": cost.tools,
        "claimed for the run": cost.whole,
    }
    # Of a sum, beside it: how many calls it is without.
    beside = {
        "priced": _lacking(totals.model_calls_unpriced, totals, "a price"),
        "claimed": _lacking(totals.model_calls_unclaimed, totals, "a claim") if cost.claimed else "",
    }
    put("; ".join(f"{name} {_money(sums)}{beside.get(name, '')}" for name, sums in said.items()))
    put()


def _ending(run: Run) -> str:
    status = run.status or "status unknown"
    roots = f", {run.roots} roots" if run.roots > 1 else ""
    if run.ended is not None:
        return f"{status}, {run.started or '?'} to {run.ended}{roots}"
    began = f"started {run.started or 'at an unknown time'}{roots}"
    if any(step.kind == "run_finished" for step in run.steps):
        return f"{status}, {began}; no time of its end was told"
    return f"no end was told; {began}"


def _number(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _lacking(number: int, totals: Totals, what: str) -> str:
    return f" ({number} of {_number(totals.model_calls, 'model call')} without {what})" if number else ""


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "-"


def _money(sums: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{amount:f} {currency}" for currency, amount in sorted(sums.items())) or "-"


def _indexes(indexes: Sequence[int]) -> str:
    shown = ", ".join(map(str, indexes[:INDEXES_SHOWN_MAX])) or "-"
    more = len(indexes) - INDEXES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def _entries(indexes: Sequence[int]) -> str:
    return f"{'index' if len(indexes) == 1 else 'indexes'} {_indexes(indexes)}"
