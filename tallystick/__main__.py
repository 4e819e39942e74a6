"""The command `tally`. See tallystick/cli."""

from __future__ import annotations

import sys

from tallystick.errors import how_to_install


def main() -> None:
    """Run the command line and exit with its status: 0 done and fine, 1 a finding, 2 could not do it."""
    try:
        from tallystick.cli.run import run
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"tally: the package {error.name} is not installed: this is the part of Tallystick that a runtime needs. "
            f"Install the rest: {how_to_install('server')}\n"
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
