"""What the demo's telling does to a terminal's width, and which command it says to copy."""

from __future__ import annotations

import shlex
import sys
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tallystick.demo.command import own_command
from tallystick.demo.telling import Teller, widths

COLUMNS = st.lists(st.integers(1, 60).flatmap(lambda wide: st.tuples(st.just(wide), st.integers(1, wide))), min_size=1)


@given(COLUMNS, st.integers(1, 200))
def test_columns_fit_and_keep_their_words_whole_as_far_as_that_goes(columns: list[tuple[int, int]], room: int) -> None:
    wide, words = [column[0] for column in columns], [column[1] for column in columns]

    found = widths(wide, words, room)

    assert sum(found) <= max(room, len(found))
    assert all(1 <= has <= of for has, of in zip(found, wide, strict=True))
    if sum(words) <= room:
        assert all(has >= word for has, word in zip(found, words, strict=True))
        assert sum(found) == min(room, sum(wide))


def test_a_command_is_one_line_in_a_narrow_terminal_and_a_sentence_none_in_a_file() -> None:
    screen, file = StringIO(), StringIO()
    command, sentence = "TALLY_HOME=/a tally show 01a1fdcd", "Two keys are registered. " * 4

    Teller(Console(file=screen, width=20, force_terminal=True, no_color=True)).command(command)
    Teller(Console(file=file, width=10_000)).say(sentence)

    assert screen.getvalue() == f"   {command}\n"
    assert file.getvalue() == f"   {sentence.rstrip()}\n"


def test_the_command_to_copy_is_tally_only_where_the_shell_finds_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = tmp_path / "my own" / "tally", tmp_path / "other" / "tally"
    for file in (own, other):
        file.parent.mkdir()
        file.write_text("")
        file.chmod(0o755)

    monkeypatch.setattr(sys, "argv", [str(own)])
    monkeypatch.setenv("PATH", str(own.parent))
    assert own_command() == "tally"
    monkeypatch.setenv("PATH", str(other.parent))
    assert shlex.split(own_command()) == [str(own)]
    monkeypatch.setenv("PATH", "")
    assert shlex.split(own_command()) == [str(own)]
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert shlex.split(own_command()) == [sys.executable, "-m", "tallystick"]
