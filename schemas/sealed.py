"""`data` as it stands in a leaf: what the ledger may write, and what a reader may rely on."""

from __future__ import annotations

from typing import Any

from schemas.compile import UnknownMember
from schemas.errors import SchemaError
from schemas.kinds import KINDS


def check_leaf_data(kind: str, data: dict[str, Any]) -> None:
    """Raise SchemaError unless this is public `data` of the kind: known members, in their normal forms, the required
    ones there or named in `missing`. Content members must be gone; a person member holds a `p:` reference."""
    known = KINDS.get(kind)
    if known is None:
        raise SchemaError(f"{kind}: expected a known kind")
    shape = known.shape
    for name, value in data.items():
        if name in shape.content:
            raise SchemaError(f"{kind}.{name}: content stands in a leaf")
        check = shape.checks.get(name) or shape.by_ledger.get(name)
        if check is None:
            raise SchemaError(f"{kind}.{name}: expected a known member")
        try:
            normal = check(value)
        except UnknownMember as wrong:
            raise SchemaError(f"{kind}.{name}: expected no unknown members") from wrong
        except SchemaError as wrong:
            raise SchemaError(f"{kind}.{name}: {wrong}") from wrong
        if normal != value:
            raise SchemaError(f"{kind}.{name}: expected the normal form")
    absent = data.get("missing", [])
    for name in shape.required:
        if name not in data and name not in absent:
            raise SchemaError(f"{kind}.{name}: missing")
