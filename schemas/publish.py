"""The published JSON Schemas (draft 2020-12), written from the models into `schemas/published/`.

In each schema of a kind, every property says in `x-tallystick` whether it is `public` (stands in the leaf), `content`
(committed to, encrypted, erasable) or `person` (a reference in the leaf, the name encrypted). A `readOnly` property is
set by the ledger. A schema's `x-tallystick-speaker` says who may send the kind: `anyone` a tenant's topics may carry,
`control`, `findings`, or `ledger` for what only the ledger itself writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from schemas.contract import ContractDocument
from schemas.kinds import KINDS, TYPES, Kind
from schemas.plain import PLAIN_SCHEMA

PUBLISHED: Final = Path(__file__).parent / "published"
BASE: Final = "https://tallystick/schemas/"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, dict[str, Any]]:
    """Every published schema by file name."""
    made = {f"{kind.name}.v{kind.version}.json": _kind_schema(kind) for kind in KINDS.values()}
    made["cloudevent.v1.json"] = _headed("cloudevent.v1.json", _cloudevent())
    made["plain-step.v1.json"] = _headed("plain-step.v1.json", PLAIN_SCHEMA)
    contract = ContractDocument.model_json_schema(by_alias=True)
    made["agent-contract.v1.json"] = _headed("agent-contract.v1.json", _plain(contract))
    return made


def text(document: dict[str, Any]) -> str:
    """A document as its file's text: stable, so that a difference shows as a difference."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def write(folder: Path = PUBLISHED) -> list[Path]:
    """Write all documents, remove what is no longer published, return what changed."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {folder / name: text(document) for name, document in documents().items()}
    changed = [path for path in sorted(folder.glob("*.json")) if path not in made]
    for path in changed:
        path.unlink()
    for path, content in made.items():
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            changed.append(path)
    return changed


def _headed(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _DIALECT, "$id": BASE + name, **schema}


def _kind_schema(kind: Kind) -> dict[str, Any]:
    schema = _plain(kind.model.model_json_schema(by_alias=True))
    schema["title"] = kind.name
    schema["x-tallystick-speaker"] = kind.speaker
    schema["x-tallystick-version"] = kind.version
    return _headed(f"{kind.name}.v{kind.version}.json", schema)


def _plain(schema: Any) -> Any:
    """Without the titles and null defaults that pydantic adds to every property."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        name: _plain(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str)) and not (name == "default" and value is None)
    }
    if "properties" in schema:  # a property may well be called title or default
        plain["properties"] = {name: _plain(value) for name, value in schema["properties"].items()}
    return plain


def _cloudevent() -> dict[str, Any]:
    word = {"type": "string", "minLength": 1}
    sent = [kind for kind in TYPES.values() if not kind.ledger_only]
    return {
        "title": "CloudEvent",
        "description": "The structured form of an event. Other extension attributes are kept, encrypted, as unmapped.",
        "type": "object",
        "required": ["specversion", "type", "id", "source", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"enum": sorted(kind.type for kind in sent)},
            "id": {**word, "description": "a UUID of version 4 or 7 is kept; any other id is hashed with the source"},
            "source": {**word, "description": "the runtime"},
            "subject": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$", "description": "the run id"},
            "time": {"type": "string", "format": "date-time"},
            "sequence": {
                "description": "the producer's number per run, from 1; padded to 16 digits",
                "anyOf": [{"type": "string", "pattern": "^[0-9]{1,16}$"}, {"type": "integer", "minimum": 1}],
            },
            "producerid": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            "tenant": {"type": "string", "minLength": 1, "maxLength": 128},
            "traceparent": {"type": "string"},
            "datasubject": {"type": "string", "description": "percent-encoded names joined by spaces"},
            "datacontenttype": {"type": "string"},
            "data": {"type": "object"},
        },
        "allOf": [
            {
                "if": {"properties": {"type": {"const": kind.type}}},
                "then": {"properties": {"data": {"$ref": f"{kind.name}.v{kind.version}.json"}}},
            }
            for kind in sent
        ],
    }
