"""A child: computing that shares nothing, to see what a second process is worth on this machine at this moment."""

from __future__ import annotations

import json

from bench.common import now

STEPS = 10_000_000  # about half a second


def spin() -> float:
    """Seconds that a fixed amount of computing took."""
    start, total = now(), 0
    for step in range(STEPS):
        total += step
    return now() - start


if __name__ == "__main__":
    print(json.dumps({"seconds": spin()}))
