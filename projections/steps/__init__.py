"""The logical steps of a run and what they come to: shared by projections and replay. See `run` for the rules."""

from projections.reading import Entry
from projections.steps.approvals import Approval, approvals
from projections.steps.merging import WHYS, Why
from projections.steps.run import Merged, Run, Step, steps
from projections.steps.totals import Approvals, Cost, Totals, totals, totals_of

__all__ = [
    "WHYS",
    "Approval",
    "Approvals",
    "Cost",
    "Entry",
    "Merged",
    "Run",
    "Step",
    "Totals",
    "Why",
    "approvals",
    "steps",
    "totals",
    "totals_of",
]
