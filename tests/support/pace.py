"""Bounds on processor time that hold on slower machines too: what grows faster than its input is far beyond them."""

from __future__ import annotations

import time
from functools import cache

LOOPS = 400_000
LOOPS_S = 0.022  # on the machine that the bounds were set on


@cache
def slack() -> float:
    """How many times slower this process runs than where the bounds were set; at least 1."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        held: dict[int, int] = {}
        for number in range(LOOPS):
            held[number & 255] = number
        taken.append(time.process_time() - began)
    return max(1.0, min(taken) / LOOPS_S)
