"""A run as a person reads it: what it comes to, what is known of it, and its entries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tallystick.cli.output import put

if TYPE_CHECKING:
    from projections.knowledge import Agent, Knowledge
    from projections.steps import Approval, Run, Step, Totals
    from replay.errors import Newest
    from replay.show import RunShown

VALUE_CHARACTERS_MAX: Final = 200  # of a content value
INDEXES_SHOWN_MAX: Final = 3  # of the entries that show a link; --json has all
ENTRIES_SHOWN: Final = 200  # of a run, unless told otherwise
WIDTH: Final = 120  # characters of a line of members
DECISIONS_SHOWN_MAX: Final = 5  # of approvals, and of policies; all of them are among the entries
ANSWERS_SHOWN_MAX: Final = 3  # to one question, the last ones
_INDENT: Final = " " * 7  # of what stands below an entry
_PLUMBING: Final = ("from", "trace", "refs", "missing")  # members of an entry that say where it came from
_APPROVALS: Final = ("asked", "approved", "rejected", "expired", "undecided", "unanswered")


def tell_run(shown: RunShown, limit: int | None = ENTRIES_SHOWN) -> None:
    """What the run comes to and what is known of it; then its entries by time, so many of them, or all (None)."""
    put(f"run {shown.run} in {shown.log}, {_number(len(shown.entries), 'entry', 'entries')}")
    _tell_totals(shown.told, shown.totals)
    _tell_decisions(shown)
    put()
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
        _put_members("actor ", entry["actor"])
    _put_members("", {name: value for name, value in entry["data"].items() if name != "vouched"})
    for pointer, content in entry["content"].items():
        put(f"{_INDENT}{pointer} {content['verdict']}{_value(content)}")


def _put_members(what: str, members: Mapping[str, Any]) -> None:
    """`name=value`, values as JSON, in lines of a readable width; where it came from, last."""
    line = what
    for name in sorted(members, key=lambda name: name in _PLUMBING):
        member = f"{name}={_cut(json.dumps(members[name], ensure_ascii=False))}"
        if line.strip() and len(_INDENT) + len(line) + len(member) > WIDTH:
            put(f"{_INDENT}{line}".rstrip())
            line = " " * len(what)
        line += f"{member} "
    if line.strip():
        put(f"{_INDENT}{line}".rstrip())


def _value(content: Mapping[str, Any]) -> str:
    """A content value in quotes, once: JSON has its own, everything else is quoted as JSON is."""
    value = content.get("value")
    if value is None:
        return ""
    if content.get("encoding") is not None:
        return f" {content['encoding']} {_cut(value)}"
    exact = content.get("type") == "application/json"
    return f" {_cut(' '.join(value.splitlines()) if exact else json.dumps(value, ensure_ascii=False))}"


def _cut(value: str) -> str:
    if len(value) <= VALUE_CHARACTERS_MAX:
        return value
    return f"{value[:VALUE_CHARACTERS_MAX]}… ({len(value)} characters, --json has all)"


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
    if len(known.agents) > 1:
        named = (f"{_agent(one)}, {_entries(one.entries)}" for one in known.agents)
        put(f"agents named: {'; '.join(named)}")
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


def _agent(one: Agent) -> str:
    versions = ", ".join(map(_one_line, one.versions))
    return f"{_one_line(one.name)} ({versions or 'no version'})"


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


def _tell_decisions(shown: RunShown) -> None:
    """Who decided what: each approval, and each policy's decision."""
    from projections.steps import approvals

    asked = approvals(shown.told.steps)
    decisions = [step for step in shown.told.steps if step.kind == "policy_decision"]
    entries = {entry["index"]: entry for entry in shown.entries}
    for one in asked[:DECISIONS_SHOWN_MAX]:
        put(f"approval {_approval(one, decisions, entries)}")
    _put_more(len(asked), "approvals")
    for step in decisions[:DECISIONS_SHOWN_MAX]:
        put(f"policy {_policy(step)}")
    _put_more(len(decisions), "decisions of policies")


def _put_more(number: int, what: str) -> None:
    if number > DECISIONS_SHOWN_MAX:
        put(f"and {number - DECISIONS_SHOWN_MAX} more {what}: see the entries")


def _approval(one: Approval, decisions: Sequence[Step], entries: Mapping[int, Mapping[str, Any]]) -> str:
    """What was decided by whom, and under which policy, where one names the same call."""
    answers = [
        f"{_word(step, 'decision') or 'answered, decision not said,'} by {_reviewer(step, entries)}"
        f" (index {step.entry.index})"
        for step in one.decisions[-ANSWERS_SHOWN_MAX:]
    ]
    earlier = len(one.decisions) - len(answers)
    asked = [step.entry.index for step in one.requests]
    under = dict.fromkeys(_rule(step) for step in decisions if step.said("call") in one.calls)
    return "; ".join(
        [
            f"{_one_line(one.name)}: {f'{earlier} earlier, then ' if earlier else ''}"
            f"{', then '.join(answers) or 'no answer in this run'}",
            f"asked by {_entries(asked)}" if asked else "not asked in this run",
            *(f"under {rule}" for rule in list(under)[:ANSWERS_SHOWN_MAX]),
        ]
    )


def _reviewer(step: Step, entries: Mapping[int, Mapping[str, Any]]) -> str:
    """By name, in quotes, where it can be opened; else by reference."""
    opened = (entries[one.index]["content"].get("/reviewer", {}) for one in step.entries if "reviewer" in one.leaf.data)
    names = (json.dumps(content["value"], ensure_ascii=False) for content in opened if "value" in content)
    kind = _word(step, "reviewer_kind")
    return f"{next(names, None) or _word(step, 'reviewer') or 'nobody named'}{f', {kind}' if kind else ''}"


def _policy(step: Step) -> str:
    by, call = _word(step, "decided_by"), _word(step, "call")
    decision = _word(step, "decision") or "decision not said"
    said = f"{_rule(step)}: {decision}{f', decided by {by}' if by else ''}{f', for call {call}' if call else ''}"
    return f"{said} (index {step.entry.index})"


def _rule(step: Step) -> str:
    policy, rule = _word(step, "policy"), _word(step, "rule")
    return f"{policy or 'without a name'}{f', rule {rule}' if rule else ''}"


def _word(step: Step, member: str) -> str | None:
    said = step.said(member)
    return _one_line(said) if isinstance(said, str) and said else None


def _one_line(text: str) -> str:
    """What a record says may not look like a line of ours."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


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
