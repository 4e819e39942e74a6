"""`tally doctor`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from tallystick.cli.output import AsJson, put, put_json

_MARKS = {"ok": "ok  ", "note": "note", "failed": "FAIL"}


def doctor(as_json: AsJson = False) -> int:
    """Say what is configured, what can be reached, and what is behind. Changes nothing, waits for nothing.

    Exit status 1 if a check failed. `tally verify` is what checks the record itself.

    \b
    Examples:
      tally doctor
    """
    from tallystick.diagnosis import examine
    from tallystick.logs import silence
    from tallystick.settings import load_settings

    silence()
    checks = asyncio.run(examine(load_settings()))
    if as_json:
        put_json({"checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            put(f"{_MARKS[check.state]}  {check.name:14} {check.detail}" + (f". {check.fix}" if check.fix else ""))
    return 1 if any(check.state == "failed" for check in checks) else 0
