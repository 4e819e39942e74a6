"""The tables of docs/kinds.md, made from the models in schemas.kinds.

`python -m tests.docs.kinds_table` writes them into the page; test_docs.py checks that they are up to date.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.fields import ByLedger, Form
from schemas.kinds import KINDS
from schemas.kinds.common import Common

PAGE = Path(__file__).parents[2] / "docs" / "kinds.md"
BEGIN, END = "<!-- kinds: begin -->", "<!-- kinds: end -->"

SPEAKERS = {
    "anyone": ("What runtimes say", "From `tally.events` and `tally.events.<slug>`."),
    "control": ("What operators say", "From `tally.control` only."),
    "findings": ("What projections find", "From `tally.findings` only. Nothing of ours writes there yet."),
    "ledger": (
        "What the ledger says itself",
        "From any topic these are refused. The ledger of today makes {made}; the others are reserved for what is not"
        " there yet.",
    ),
}
MADE = ("rejected", "conflict", "intake", "source_gap", "tenant", "producer_key", "key_rotated", "run_head")
WORDS = {
    "check_text": "",
    "check_name": "",
    "check_step": "",
    "check_currency": "",
    "check_verified": "true, false, pending",
    "check_integer": "int",
    "check_count": "int",
    "check_ordinal": "int",
    "check_boolean": "bool",
    "check_digest": "dig",
    "check_run": "run id",
    "check_open": "{}",
    "decimal_text": "dec",
    "timestamp": "time",
}


def page_with_tables(page: str) -> str:
    """The page's text, with the part between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def tables() -> str:
    """One table for each kind of speaker."""
    parts: list[str] = []
    for speaker, (title, intro) in SPEAKERS.items():
        made = ", ".join(f"`{name}`" for name in MADE)
        parts.append(f"\n## {title}\n{intro.format(made=made)}\n\n| kind | members of `data` |\n| --- | --- |\n")
        by_model: dict[type[BaseModel], list[str]] = {}
        for kind in KINDS.values():
            if kind.speaker == speaker:
                by_model.setdefault(kind.model, []).append(kind.name)
        parts.extend(f"| {', '.join(f'`{n}`' for n in names)} | {_members(m)} |\n" for m, names in by_model.items())
    return "".join(parts) + "\n"


def _members(model: type[BaseModel], shared: type[BaseModel] = Common) -> str:
    own = [
        _member(name, field)
        for name, field in model.model_fields.items()
        if name not in shared.model_fields or name in model.__annotations__
    ]
    return ", ".join(own)


def _member(name: str, field: FieldInfo) -> str:
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    form = _form(annotation)
    mark = {"content": "*", "person": "@"}.get(form.mark, "") if form else ""
    required = "!" if field.is_required() else ""
    words = _words(annotation)
    said = f" {words}" if words.startswith(("{", "[")) else f" ({words})" if words else ""
    ledgers = " (the ledger's)" if _by_ledger(annotation) else ""
    return f"`{field.alias or name}`{mark}{required}{said}{ledgers}"


def _words(annotation: Any) -> str:
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        form = _form(annotation)
        if form is None:
            return _words(get_args(annotation)[0])
        if form.reference:
            return "event id"
        if form.json_schema.get("description") == "microseconds":
            return "us"
        return WORDS.get(form.check.__name__, "")
    if origin is Literal:
        return ", ".join(str(value) for value in get_args(annotation))
    if origin is list:
        return f"[{_words(get_args(annotation)[0]) or 'text'}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(_member(name, field) for name, field in annotation.model_fields.items()) + "}"
    return ""


def _bare(annotation: Any) -> Any:
    """Without `| None`, and without marks that say nothing of the form."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(_bare(arm) for arm in get_args(annotation) if arm is not type(None))
    if get_origin(annotation) is Annotated and not any(isinstance(mark, Form) for mark in annotation.__metadata__):
        return _bare(get_args(annotation)[0])
    return annotation


def _form(annotation: Any) -> Form | None:
    annotation = _bare(annotation)
    if get_origin(annotation) is not Annotated:
        return None
    return next((mark for mark in annotation.__metadata__ if isinstance(mark, Form)), None)


def _by_ledger(annotation: Any) -> bool:
    return get_origin(annotation) is Annotated and any(isinstance(mark, ByLedger) for mark in annotation.__metadata__)


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
