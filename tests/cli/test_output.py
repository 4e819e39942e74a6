"""What is printed for people can't act on their terminal; what is printed for programs is exact."""

from __future__ import annotations

import json

import pytest

from tallystick.cli.output import counted, put, put_exactly, put_json, put_table

ATTACK = "a\x1b]0;title\x07b\x9b2Jc\u202ed\u2066e\x7f\r\x00\tf\ng Zoë 🙂 \u200f"
SHOWN = "a\\u001b]0;title\\u0007b\\u009b2Jc\\u202ed\\u2066e\\u007f\\u000d\\u0000\tf\ng Zoë 🙂 \u200f\n"


def test_controls_are_escaped_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    put(ATTACK)
    assert capsys.readouterr().out == SHOWN
    put_table(("a", "b"), [(ATTACK, 1)], empty="nothing")
    assert capsys.readouterr().out == SHOWN.rstrip("\n") + "\t1\n"


def test_in_a_table_on_a_terminal_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    put_table(("the text",), [("x\x9b\u202ey",)], empty="nothing")
    header, row = capsys.readouterr().out.splitlines()
    assert "the text" in header
    assert row.rstrip() == "x\\u009b\\u202ey"


@pytest.mark.parametrize("terminal", [True, False])
def test_an_empty_table_is_a_remark_and_no_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    put_table(("a",), [], empty="nothing yet")
    assert capsys.readouterr() == ("", "nothing yet\n")


def test_things_are_counted_in_words() -> None:
    assert [counted(0, "log"), counted(1, "log"), counted(2048, "entry", "entries")] == [
        "0 logs",
        "1 log",
        "2,048 entries",
    ]


def test_programs_get_the_exact_text(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"a": ATTACK})
    assert json.loads(capsys.readouterr().out) == {"a": ATTACK}
    put_exactly(ATTACK)
    assert capsys.readouterr().out == ATTACK + "\n"
