"""`tally demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tallystick.cli.output import AsJson


def demo(
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it lives; by default beside TALLY_HOME, with -demo added.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Real agent runs, end to end on embedded servers: recorded, verified, tampered with and found. Ends by itself.

    It has a home of its own, says where, and keeps it.

    \b
    Examples:
      tally demo
      tally demo --home /tmp/tally-demo
    """
    from tallystick.demo import main

    return main(home.absolute() if home is not None else None, as_json=as_json)
