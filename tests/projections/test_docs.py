"""The page about steps names every rule, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from projections.inference import RULES
from projections.steps import WHYS

PAGE = Path(__file__).parents[2] / "docs" / "steps.md"


def rows(heading: str) -> list[str]:
    """The names in the first column of the table below a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_rule_of_merging_is_documented() -> None:
    assert rows("When entries are one step") == list(WHYS)


def test_every_rule_of_inference_is_documented() -> None:
    assert sorted(rows("What is known")) == sorted(RULES)
