"""The command line before it does anything: help, statuses, one line for what could not be done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tallystick.cli import app
from tests.cli.tally import ROOT, Tally


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))
# What these print is for whoever waits beside them.
WITHOUT_JSON = {("up",)}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example_and_has_json(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    assert "Examples:\n" in command.help
    assert f"tally {' '.join(words)}" in command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) == (words not in WITHOUT_JSON)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_examples_are_of_options_that_exist(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    known = {option for parameter in command.params for option in parameter.opts}
    examples = command.help.split("Examples:\n")[1]
    for line in examples.splitlines():
        for part in line.split(";"):
            _, found, said = part.partition(f"tally {' '.join(words)}")
            if found:
                used = {word for word in said.split("|")[0].split() if word.startswith("-") and word != "-"}
                assert used <= known, line


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally.at(tmp_path / "home")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "--lgo", "x"], "--lgo"),
        (["show"], "RUN"),
        (["nonsense"], "nonsense"),
        (["import"], "FILE"),
        (["tenant", "add", "x", "--shards", "0"], "--shards"),
        (["tenant", "key", "add", "acme", "k"], "--vkey"),
        (["rejected", "list", "--reason", "nonsense"], "bad_signature, "),
        (["rejected", "repair", "x"], "--as-is"),
        (["rejected", "repair", "x", "--as-is", "--with", "y"], "can't go together"),
        (["import", "missing.jsonl"], "missing.jsonl"),
        (["verify", "--known-checkpoint", "missing"], "missing"),
        (["keys", "list"], "no key store at"),
        (["keys", "vkey"], "no key store at"),
        (["show", "x"], "Start it with `tally up`"),
        (["verify"], "Start it with `tally up`"),
        (["tenant", "list"], "Start it with `tally up`"),
        (["migrate"], "Start it with `tally up`"),
        (["ingest", "--until-idle", "1"], "Start it with `tally up`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_could_not_be_done_is_one_line_and_status_2(tally: Tally, arguments: list[str], says: str) -> None:
    assert says in tally(*arguments).one_line()


@pytest.mark.parametrize(
    ("settings", "arguments", "says"),
    [
        ({"TALLY_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/x"}, ["show", "x"], "Postgres can't be reached"),
        ({"TALLY_POSTGRES_URL": "mysql://x"}, ["show", "x"], "TALLY_POSTGRES_URL can't be used"),
        ({"TALLY_KAFKA_BOOTSTRAP": "x"}, ["up"], "TALLY_KAFKA_BOOTSTRAP can't be used"),
        (
            {"TALLY_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
            ["import", "--no-wait", str(ROOT / "tests/fixtures/plain-steps.jsonl")],
            "Kafka at 127.0.0.1:1",
        ),
    ],
)
def test_servers_that_are_set_and_do_not_answer(
    tmp_path: Path, settings: dict[str, str], arguments: list[str], says: str
) -> None:
    assert says in Tally.at(tmp_path / "home", **settings)(*arguments).one_line()


@pytest.mark.parametrize("words", [[], ["tenant"], ["tenant", "key"], ["keys"], ["rejected"], ["export"]], ids=" ".join)
def test_a_group_alone_prints_its_help_as_it_is(tally: Tally, words: list[str]) -> None:
    done = tally(*words)
    assert (done.status, done.out) == (2, "")
    assert done.err == tally(*words, "--help").out


def test_the_version_is_the_packages(tally: Tally) -> None:
    done = tally("--version")
    assert (done.status, done.out) == (0, f"tally {version('tallystick')}\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["doctor"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told_and_no_finding(
    tally: Tally, arguments: list[str], unbuffered: str
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tallystick", *arguments],
            cwd=tally.home.parent,
            env=tally.env | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "output can't be written: No space left on device" in done.stderr


def test_no_server_means_no_wait(tally: Tally) -> None:
    began = time.monotonic()
    tally("show", "x").one_line()
    assert time.monotonic() - began < 20  # 3 s on an idle machine; far less than the 60 s that a starting one is given


def test_nothing_is_made_by_asking(tally: Tally) -> None:
    tally("tenant", "list")
    tally("keys", "list")
    tally("doctor")
    assert not tally.home.exists()


def test_doctor_says_what_is_wrong_and_ends_1(tally: Tally) -> None:
    done = tally("doctor", "--json")
    assert done.status == 1
    states = {check["name"]: check["state"] for check in done.json["checks"]}
    assert states["tally up"] == states["key store"] == states["Postgres"] == states["Kafka"] == "failed"


def test_a_base_install_is_told_what_to_install(tmp_path: Path) -> None:
    program = "import sys\nsys.modules['typer'] = None\nfrom tallystick.__main__ import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "tallystick[server]" in done.stderr


def test_a_package_that_is_missing_later_is_told_too(tmp_path: Path) -> None:
    program = (
        "import sys\nsys.modules['psycopg'] = None\nfrom tallystick.cli.run import run\n"
        "sys.exit(run(['tenant', 'list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=Tally.at(tmp_path, TALLY_POSTGRES_URL="postgresql://x").env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "package psycopg is not installed" in done.stderr
    assert "tallystick[server]" in done.stderr


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom tallystick.cli.run import run\nrun(['--help'])\n"
        "heavy = {'pydantic', 'psycopg', 'aiokafka', 'faststream', 'rich', 'ledger', 'ingest'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Exit status: 0 done and fine" in done.stdout
