"""What a verification found: findings, the three verdicts, and how they are told.

Invariants: the three verdicts are never folded into one; a finding names its kind, its log and, where there is one, the
index of the entry concerned. Findings are bounded: past a limit for a kind in a log they are counted, not listed, so
that a ledger without its key store can be verified in the same memory as a whole one.

Source: log-format.md, "Verdicts".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

Integrity = Literal["ok", "failed", "empty"]
Completeness = Literal["ok", "gaps", "unknown"]
Independence = Literal["witnessed", "unwitnessed", "failed"]

# What a finding of a kind puts in doubt; every other kind puts integrity in doubt.
COMPLETENESS_KINDS = frozenset({"producer_gap", "source_hole"})
NOTED_KINDS = frozenset({"heads_lag", "run_tail_unproven"})  # told, but no verdict follows from them

FINDINGS_LISTED_MAX = 10_000  # of one kind in one log: 10,000 lines are more than anybody reads


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it must be. `index` is None where no single entry is concerned."""

    kind: str
    log: str
    index: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class LogState:
    """A log as it was verified: `size` entries under `root` (hex)."""

    origin: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one verification. `not_reread`: per log, how many of its first entries an earlier, signed mark
    stands for, so that their bytes were not read again."""

    integrity: Integrity
    completeness: Completeness
    independence: Independence
    logs: list[LogState] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    not_reread: dict[str, int] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0, or 1 where integrity isn't ok, completeness is gaps, or independence is failed."""
        good = self.integrity == "ok" and self.completeness != "gaps" and self.independence != "failed"
        return 0 if good else 1

    def to_json(self) -> str:
        """The report as design.md, "Commands", has it; `not_reread` stands in it only where something was not."""
        shown: dict[str, object] = {
            "integrity": self.integrity,
            "completeness": self.completeness,
            "independence": self.independence,
            "logs": [asdict(log) for log in self.logs],
            "findings": [asdict(finding) for finding in self.findings],
        }
        if self.not_reread:
            shown["not_reread"] = [{"origin": log, "size": size} for log, size in sorted(self.not_reread.items())]
        return json.dumps(shown, ensure_ascii=False)


class Findings:
    """Collects findings within the limit; the same one is kept once."""

    def __init__(self, listed_max: int = FINDINGS_LISTED_MAX) -> None:
        self._listed_max = listed_max
        self._kept: dict[tuple[str, str], dict[Finding, None]] = {}
        self._more: dict[tuple[str, str], int] = {}

    def add(self, kind: str, log: str, index: int | None, detail: str) -> None:
        """Keep a finding, or count it where there are enough of its kind in that log."""
        self.extend([Finding(kind, log, index, detail)])

    def extend(self, findings: Iterable[Finding]) -> None:
        """Keep several findings."""
        for finding in findings:
            key = (finding.kind, finding.log)
            kept = self._kept.setdefault(key, {})
            if finding in kept:
                continue
            if len(kept) < self._listed_max:
                kept[finding] = None
            else:
                self._more[key] = self._more.get(key, 0) + 1

    def merge(self, other: Findings) -> None:
        """Keep what another collector has, and what it only counted."""
        for kept in other._kept.values():
            self.extend(kept)
        for key, more in other._more.items():
            self._more[key] = self._more.get(key, 0) + more

    def drop(self, kind: str, log: str, indexes: Iterable[int]) -> None:
        """Take back findings of a kind at these indexes: a more precise one explains them."""
        kept = self._kept.get((kind, log))
        if kept:
            unwanted = set(indexes)
            for finding in [finding for finding in kept if finding.index in unwanted]:
                del kept[finding]

    def of(self, kind: str, log: str) -> list[Finding]:
        """The findings of a kind in a log that are listed."""
        return list(self._kept.get((kind, log), ()))

    def kinds(self) -> set[str]:
        """The kinds of all findings."""
        return {kind for (kind, _), kept in self._kept.items() if kept}

    def __iter__(self) -> Iterator[Finding]:
        """All listed findings by log and index, and one for each lot that was only counted."""
        listed = [finding for kept in self._kept.values() for finding in kept]
        listed.sort(key=lambda found: (found.log, -1 if found.index is None else found.index, found.kind, found.detail))
        yield from listed
        for (kind, log), more in sorted(self._more.items()):
            yield Finding(kind, log, None, f"and {more} more of this kind that are not listed")


def integrity_of(kinds: set[str], *, empty: bool) -> Integrity:
    """The verdict on the bytes: `failed` if any finding is about them; an empty or missing log is never ok."""
    if kinds - COMPLETENESS_KINDS - NOTED_KINDS:
        return "failed"
    return "empty" if empty else "ok"


def completeness_of(kinds: set[str], *, unknown: bool) -> Completeness:
    """The verdict on what is missing: known gaps, or not knowable, or none."""
    if kinds & COMPLETENESS_KINDS:
        return "gaps"
    return "unknown" if unknown else "ok"
