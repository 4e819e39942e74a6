"""The tables of docs/otlp-mapping.md, made from the rules in ingest.otlp.mapping.

`python -m tests.mapping.tables` writes them into the page; test_page.py checks that they are up to date.
"""

from __future__ import annotations

from pathlib import Path

from ingest.otlp.mapping import precedence
from ingest.otlp.mapping.classify import NAMED, SOURCES
from ingest.otlp.mapping.conventions.dialects import DIALECTS
from ingest.otlp.mapping.judgements import RESULTS, VERDICTS
from ingest.otlp.mapping.members import ANSWERS, MEMBERS
from ingest.otlp.mapping.runs import ENVELOPE

PAGE = Path(__file__).parents[2] / "docs" / "otlp-mapping.md"
BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"

ROLES = {
    "agent": "run_finished and run_started at the root, else delegation",
    "workflow": "run_finished and run_started at the root, else delegation",
    "handoff": "delegation",
    "structure": "span, class structure",
    "other": "span, class other",
}
SHARED = (
    ("run", ("tallystick.run_id",)),
    ("session", precedence.SESSION),
    ("actor.agent", precedence.AGENT),
    ("actor.agent, of the resource", precedence.AGENT_OF_RESOURCE),
    ("actor.version", precedence.AGENT_VERSION),
    ("actor.principal@", precedence.PRINCIPAL),
    ("actor.on_behalf_of@", precedence.ON_BEHALF_OF),
    ("step", precedence.STEP),
)
PARTS = (
    ("model_call", "cost_claimed.amount", precedence.COST),
    ("model_call", "cost_claimed.currency", precedence.COST_CURRENCY),
    ("model_call, run_started", "prompt.name", precedence.PROMPT_NAME),
    ("model_call, run_started", "prompt.version", precedence.PROMPT_VERSION),
    ("model_call, run_started", "prompt.digest", precedence.PROMPT_DIGEST),
    ("tool_call", "status", precedence.TOOL_STATUS),
    ("retrieval", "documents", precedence.DOCUMENTS),
    ("policy_decision", "decision", precedence.VERDICT),
    ("policy_decision", "decision (true is deny)", precedence.TRIGGERED),
    ("validator", "result", precedence.EVALUATION_LABEL),
    ("validator", "found*", (*precedence.EVALUATION_LABEL, *precedence.EVALUATION_PARTS)),
    ("run_started", "tool_schemas (names)", precedence.TOOLS_OFFERED),
    ("delegation (an agent's span)", "to_agent", precedence.AGENT[1:]),
    ("delegation (a handoff's span)", "to_agent", precedence.HANDOFF_TO),
    ("delegation", "actor.agent", precedence.HANDOFF_FROM),
    ("routing_decision", "chosen", precedence.GOTO),
    ("error", "class", precedence.ERROR_TYPE),
)


def page_with_tables(page: str) -> str:
    """The page's text, with the part between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def tables() -> str:
    return "\n".join((_sources(), _shared(), _members(), _envelope(), _dialects(), _words()))


def _sources() -> str:
    rows = []
    for source in SOURCES:
        by_role: dict[str, list[str]] = {}
        for told, role in source.roles.items():
            by_role.setdefault(role, []).append(told)
        rows += [(f"`{source.attribute}`", _names(told), ROLES.get(role, role)) for role, told in by_role.items()]
    rows += [
        (f"span name, scope `{scope}…`", f"`{pattern.pattern}`", ROLES.get(role, role))
        for scope, pattern, role in NAMED
    ]
    return "\n## What a span is\nThe first row that fits counts.\n\n" + _table(("attribute", "values", "kind"), rows)


def _shared() -> str:
    rows = [(member, _names(names)) for member, names in SHARED]
    return "## What every entry has\n" + _table(("member", "first that is present"), rows)


def _members() -> str:
    rows = []
    kinds = {
        id(members): ", ".join(kind for kind, one in MEMBERS.items() if one is members) for members in MEMBERS.values()
    }
    for members in {id(members): members for members in MEMBERS.values()}.values():
        kind = kinds[id(members)]
        rows += [(kind, one.member, _names(one.names)) for one in members.public]
        rows += [(kind, f"{one.member}*", _names(one.names)) for one in members.content]
    rows += [(kind, member, _names(names)) for kind, member, names in PARTS]
    return "## Members\n" + _table(("kind", "member", "first that is present"), sorted(rows, key=lambda row: row[0]))


def _envelope() -> str:
    rows = [(member, _names(names)) for member, names, _ in ENVELOPE]
    rows += [
        ("work_item", _names(("tallystick.work_item.system", "tallystick.work_item.id"))),
        ("model", _names(("tallystick.model", *precedence.MODEL))),
    ]
    return "## The envelope, in run_started\nOf the span, else of its resource.\n\n" + _table(("member", "names"), rows)


def _dialects() -> str:
    rows = []
    for dialect in DIALECTS:
        for theirs, usual in dialect.names.items():
            if theirs != usual:
                rows.append((dialect.name, f"`{theirs}`", f"`{usual}`"))
        for theirs, members in dialect.members.items():
            rows += [(dialect.name, f"`{theirs}`: `{member}`", f"`{usual}`") for member, usual in members.items()]
    intro = (
        "A name that stands for another; behind a colon the member of the JSON that the attribute holds.\n"
        "Of Langfuse's usage, all types with `input` in their name are input tokens together, all with `output`\n"
        "output tokens, unless the `total` says that the plain ones are the whole.\n\n"
    )
    return "## Names of their own\n" + intro + _table(("convention", "name", "stands for"), rows)


def _words() -> str:
    rows = [("policy_decision.decision", word, meaning) for word, meaning in VERDICTS.items()]
    rows += [("validator.result", word, meaning) for word, meaning in RESULTS.items()]
    rows += [("approval_decision.decision", word, meaning) for word, meaning in ANSWERS.items()]
    return (
        "## Words of others\nIn any letter case; any other word is no verdict, no result and no answer.\n\n"
        + _table(("member", "word", "meaning"), rows)
    )


def _names(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
