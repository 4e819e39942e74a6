"""From arguments to an exit status: whatever goes wrong becomes one line on standard error.

Guarantees: 0 done and fine, 1 a finding, 2 could not do it. A defect of ours still shows its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TypeVar

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError, UsageError

from tallystick.cli import app
from tallystick.cli.trouble import told
from tallystick.errors import TallyError

INTERRUPTED = 130  # what a shell says of a command that was ended by Ctrl-C

T = TypeVar("T")


def run(arguments: Sequence[str]) -> int:
    """Run `tally ARGUMENTS`; the exit status."""
    command = typer.main.get_command(app)
    try:
        status = command.main(args=list(arguments), prog_name="tally", standalone_mode=False)
        sys.stdout.flush()
    except NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except UsageError as error:
        asked = error.ctx.command_path if error.ctx is not None else "tally"
        return _fail(TallyError(error.format_message().rstrip("."), f"See `{asked} --help`."))
    except ClickException as error:
        return _fail(TallyError(error.format_message()))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; nothing more can be said.
        _say_no_more()
        return 0
    except Exception as error:
        trouble = told(error)
        if trouble is None:
            raise
        try:
            sys.stdout.flush()
        except OSError:
            _say_no_more()
        return _fail(trouble)
    return status if isinstance(status, int) else 0


def _say_no_more() -> None:
    """Drop what is left of our output: writing it at the interpreter's end would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: TallyError) -> int:
    sys.stderr.write(f"tally: {' '.join(str(error).split())}\n")
    return error.exit_status
