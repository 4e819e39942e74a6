"""What is printed for people can't act on their terminal; what is printed for programs is exact."""

from __future__ import annotations

import json

import pytest

from tallystick.cli.output import put, put_exactly, put_json, put_table

ATTACK = "a\x1b]0;title\x07b\x9b2Jc\u202ed\u2066e\x7f\r\x00\tf\ng Zoë 🙂 \u200f"
SHOWN = "a\\u001b]0;title\\u0007b\\u009b2Jc\\u202ed\\u2066e\\u007f\\u000d\\u0000\tf\ng Zoë 🙂 \u200f\n"


def test_controls_are_escaped_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    put(ATTACK)
    assert capsys.readouterr().out == SHOWN
    put_table(("a", "b"), [(ATTACK, 1)])
    assert capsys.readouterr().out == SHOWN.rstrip("\n") + "\t1\n"


def test_in_a_table_on_a_terminal_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    put_table(("a",), [("x\x9b\u202ey",)])
    assert "x\\u009b\\u202ey" in capsys.readouterr().out


def test_programs_get_the_exact_text(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"a": ATTACK})
    assert json.loads(capsys.readouterr().out) == {"a": ATTACK}
    put_exactly(ATTACK)
    assert capsys.readouterr().out == ATTACK + "\n"
