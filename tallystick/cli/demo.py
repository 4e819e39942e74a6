"""`tally demo`."""

from __future__ import annotations


def demo() -> int:
    """Real agent runs, end to end on embedded servers: recorded, verified, tampered with and found. Ends by itself.

    It has a home of its own, says where, and keeps it.

    \b
    Examples:
      tally demo
    """
    from tallystick.demo import main

    return main() or 0
