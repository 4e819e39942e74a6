"""kill -9 of the consumer after each step of its work: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import pytest

from tests.faults.child import STEPS
from tests.faults.support import Site

ONCE = {"published_recorded", "heads_appended", "heads_committed"}  # a short run publishes once


@pytest.mark.parametrize("step", STEPS)
async def test_a_consumer_killed_after_a_step_loses_and_repeats_nothing(site: Site, step: str) -> None:
    await site.publish(150)
    # The second time: what comes before is the registration of the intake logs, or the first batch.
    await site.consume_and_die(die_after=step, nth=1 if step in ONCE else 2)
    await site.publish(50)
    await site.consume()
    await site.check()
