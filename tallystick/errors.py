"""What a person at the command line is told when something could not be done.

    TallyError            exit status 2: bad usage, an unreachable server, a missing key, a server that won't start
    └── ServerError       an embedded server that could not be started, or that ended by itself

Every one carries two sentences: what happened and where (`message`), and what to do (`fix`).
"""

from __future__ import annotations


class TallyError(Exception):
    """Something could not be done. `str()` is one line: what, where, what to do."""

    exit_status = 2

    def __init__(self, message: str, fix: str = "") -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message}. {fix}" if fix else message)


class ServerError(TallyError):
    """An embedded server could not be started, or ended by itself."""


def how_to_install(extra: str) -> str:
    """The command for what an extra holds; by name it would be looked for on an index, where it isn't yet."""
    return f"pip install -e '.[{extra}]' in the checkout (tallystick[{extra}], once it is on an index)"
