"""How whoever reads the demo calls `tally` again: what is printed works when it is copied."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def own_command() -> str:
    """`tally` where that is this program, else the path of the running one; quoted for a shell."""
    running = Path(sys.argv[0])
    if running.name != "tally" or not running.is_file():  # as a module, or from a program of somebody's
        return f"{shlex.quote(sys.executable)} -m tallystick"
    found = shutil.which("tally")
    if found is not None and Path(found).samefile(running):
        return "tally"
    return shlex.quote(str(running.absolute()))
