"""A runtime that installs `tallystick[otel]` and nothing else can use the helper: it needs OpenTelemetry only."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if name == "tallystick" or name == "tallystick.otel" or name.startswith("tallystick.otel."):
            return None
        if top in OURS | {"aiokafka", "cryptography", "pydantic", "orjson", "msgspec", "psycopg", "typer", "rich"}:
            refused.append(name)
            raise ModuleNotFoundError(name)
        return None
OURS = {"tallystick", "schemas", "ledger", "ingest", "projections", "replay"}
refused = []
sys.meta_path.insert(0, Refuse())
from tallystick import otel
print([name for name in refused if name.partition(".")[0] in OURS])
print(sorted(name for name in sys.modules if name.startswith("tallystick")))
print(any(name.startswith("opentelemetry.exporter") for name in sys.modules))
with otel.envelope("run-1", principal="Ann"):
    otel.policy_decision("allow")
print("done")
"""

STARTED = """
from opentelemetry import trace
from tallystick import otel
for wrong in ({"endpoint": "localhost:4318"}, {"protocol": "http/xml"}):
    try:
        otel.start(**wrong)
    except ValueError as error:
        print(error)
telemetry = otel.start(service="desk", version="1.4.0", endpoint="http://127.0.0.1:1")
resource = telemetry.tracer_provider.resource.attributes
print(resource["service.name"], resource["tallystick.agent_version"])
span = trace.get_tracer("test").start_span("long", attributes={str(number): number for number in range(1000)})
print(len(span.attributes))
try:
    otel.start()
except RuntimeError as error:
    print(error)
"""


def ran(program: str, *arguments: str, **environment: str) -> list[str]:
    command = [sys.executable, "-W", "error", *arguments, "-c", program]
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ended = subprocess.run(
        command, cwd=ROOT, env=env | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_it_needs_opentelemetry_only() -> None:
    modules = ["tallystick"] + [
        "tallystick.otel" + ("" if path.stem == "__init__" else f".{path.stem}")
        for path in (ROOT / "tallystick" / "otel").glob("*.py")
    ]
    assert ran(ALONE) == ["[]", str(sorted(modules)), "False", "done"]


def test_started_once_it_limits_nothing_and_says_what_is_wrong() -> None:
    xml, *rest = ran(STARTED, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert "endpoint: expected http" in xml
    assert rest[0].startswith("protocol: expected")
    assert rest[1:3] == ["desk 1.4.0", "1000"]
    assert "has a provider already" in rest[3]


def test_the_extra_is_what_it_imports() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [one.partition(">=")[0] for one in extras["otel"]] == ["opentelemetry-sdk", "opentelemetry-exporter-otlp"]


@pytest.mark.parametrize(("missing", "use"), [("sdk", ""), ("exporter", "otel.start(service='s')")])
def test_what_to_install_is_told(missing: str, use: str) -> None:
    program = f"import sys\nsys.modules['opentelemetry.{missing}'] = None\nfrom tallystick import otel\n{use}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: tallystick.otel needs opentelemetry.{missing}")
    assert "pip install -e '.[otel]'" in last
