"""The documents say what is so: links lead somewhere, commands and settings exist, examples run, words are careful."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ruamel.yaml import YAML

from tests.docs import kinds_table

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]

# Named in the documents as what is to come. Once one of them is there, the documents have to say so.
NOT_THERE_YET = frozenset({"recover", "erase", "witness", "check", "project", "web", "rebuild", "replay"})
FORBIDDEN = re.compile(r"tamper[- ]?proof|\bcompl(?:y|ies|iant)\b|\bunhackable\b|\bimmutable\b", re.IGNORECASE)

_FENCE = re.compile(r"^```.*?^```\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`|^ {4}(.+)$|^(\.venv/bin/.+)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[/\s])tally ((?:[a-z]+ ?)+)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_FENCE.sub("", text_of(page))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_words_are_careful(page: Path) -> None:
    assert [match.group() for match in FORBIDDEN.finditer(text_of(page))] == []


def test_every_page_and_decision_is_listed() -> None:
    listed = text_of(ROOT / "docs" / "README.md") + text_of(ROOT / "docs" / "adr" / "README.md")
    pages = [page.name for page in PAGES if page.parent.name in {"docs", "adr"} and page.name != "README.md"]
    assert [name for name in pages if f"({name})" not in listed] == []


# Commands


def command_tree() -> dict[str, set[str]]:
    """Every command of `tally`, with its own commands."""
    from tallystick.cli import app

    group = typer.main.get_command(app)
    commands: dict[str, Any] = getattr(group, "commands", {})
    return {name: set(getattr(command, "commands", {})) for name, command in commands.items()}


def named_commands(page: Path) -> set[tuple[str, str]]:
    found = set()
    for code in _CODE.finditer(text_of(page)):
        for words in _COMMAND.findall("".join(filter(None, code.groups()))):
            first, *rest = words.split()
            found.add((first, rest[0] if rest else ""))
    return found


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_commands_that_are_named_exist(page: Path) -> None:
    tree = command_tree()
    unknown = []
    for first, second in sorted(named_commands(page)):
        if first in NOT_THERE_YET:
            continue
        if first not in tree or (tree[first] and second and second not in tree[first]):
            unknown.append(f"tally {first} {second}".strip())
    assert unknown == []


def test_what_is_called_missing_is_missing() -> None:
    assert sorted(NOT_THERE_YET & command_tree().keys()) == []


def test_the_commands_table_is_complete() -> None:
    readme = text_of(ROOT / "README.md")
    table = readme[readme.index("## Commands") :]
    for first, others in command_tree().items():
        for second in others or {""}:
            assert f"tally {first} {second}".strip() in table or f"· `{second}`" in table, (first, second)


# Settings


def test_the_settings_table_is_the_settings() -> None:
    from tallystick.settings import Settings

    page = text_of(ROOT / "docs" / "operations.md")
    part = page[page.index("## Settings") : page.index("## Embedded home")]
    documented = set(re.findall(r"^\| `(TALLY_[A-Z_]+)`", part, re.MULTILINE))
    assert documented == {f"TALLY_{name.upper()}" for name in Settings.model_fields}


# Kinds and findings


def test_the_page_of_kinds_is_what_the_schemas_say() -> None:
    page = text_of(kinds_table.PAGE)
    assert kinds_table.page_with_tables(page) == page, "run: python -m tests.docs.kinds_table"


def test_every_reason_for_a_rejection_is_told() -> None:
    from schemas.errors import CODES

    sources = "".join(text_of(file) for file in (ROOT / "ingest").glob("*.py"))
    codes = CODES | set(re.findall(r'(?:Refused|Rejection)\(\s*"([a-z_]+)"', sources))
    page = text_of(ROOT / "docs" / "operations.md")
    part = page[page.index("## Rejected records") :]
    rows = re.findall(r"^\| (`[a-z_`, ]+) \|", part, re.MULTILINE)
    assert codes - set(re.findall(r"[a-z_]+", " ".join(rows))) == set()


# Examples


def compose() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(text_of(ROOT / "compose.yaml")))


def test_compose_has_no_default_passwords() -> None:
    for reference in re.findall(r"\$\{([^}]*)\}", text_of(ROOT / "compose.yaml")):
        name, required, _ = reference.partition(":?")
        assert required, f"{name} may be left out"
        assert re.fullmatch(r"[A-Z_]+", name)


def test_compose_uses_settings_and_commands_that_exist() -> None:
    from tallystick.settings import Settings

    known = {f"TALLY_{name.upper()}" for name in Settings.model_fields}
    services = compose()["services"]
    for name in ("migrate", "tenant", "ingest"):
        assert set(services[name]["environment"]) <= known
        assert services[name]["command"][0] in command_tree()
    assert services["postgres"]["image"] == "postgres:18"
    assert services["kafka"]["image"] == "apache/kafka:4.3.1"
    assert all("healthcheck" in services[name] for name in ("postgres", "kafka", "ingest"))


def test_the_image_holds_every_package() -> None:
    dockerfile = text_of(ROOT / "Dockerfile")
    packages = [path.parent.name for path in ROOT.glob("*/py.typed")]
    assert [name for name in packages if f"COPY {name} " not in dockerfile] == []


def test_ci_runs_check_and_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert re.findall(r"^step (.+)$", text_of(script), re.MULTILINE) == ["make check", "make test"]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a `tally up` that runs."""
    home = tmp_path / "home"
    env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    env |= {"TALLY_HOME": str(home), "NO_COLOR": "1"}
    with (tmp_path / "up.log").open("wb") as log:
        up = subprocess.Popen([BIN / "tally", "up"], cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not (home / "endpoints.json").exists():
                assert up.poll() is None, (tmp_path / "up.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "up.log").read_text()
                time.sleep(0.2)
            yield env
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(60)


@pytest.mark.timeout(240)
def test_the_readmes_examples_run(stack: dict[str, str]) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", text_of(ROOT / "README.md"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) >= 3
    outputs = {}
    for line in lines:
        done = subprocess.run(
            shlex.split(line), cwd=ROOT, env=stack, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        outputs[line.split()[1]] = done.stdout
    assert json.loads(outputs["verify"])["integrity"] == "ok"
    assert len(json.loads(outputs["show"])["entries"]) >= 5
