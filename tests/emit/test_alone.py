"""A runtime that installs tallystick without extras can import the emitter: it needs nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tallystick" / "emit"

BLOCKED = """
import sys
ALLOWED = {"aiokafka", "cryptography", "async_timeout", "typing_extensions", "packaging", "cffi", "_cffi_backend"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if name == "tallystick" or name == "tallystick.emit" or name.startswith("tallystick.emit."):
            return None
        if top in ALLOWED or top in sys.stdlib_module_names:
            return None
        refused.append(name)
        raise ModuleNotFoundError(name)
refused = []
sys.meta_path.insert(0, Refuse())
import tallystick.emit as emit
ALLOWED |= sys.stdlib_module_names | {"__main__", "cython_runtime"}
loaded = {name.partition(".")[0] for name in sys.modules} - ALLOWED
print(sorted(name for name in loaded if not name.startswith("_")))
print([name for name in refused if name.partition(".")[0] in {"schemas", "ledger", "ingest", "pydantic", "orjson"}])
emitter = emit.Emitter("127.0.0.1:1", source="s", exit_timeout_s=0.1)
with emitter.run(workflow="w", agent="a") as run:
    run.model_call(provider="p", model="m")
print(emitter.stats.emitted)
"""


def test_it_needs_aiokafka_and_cryptography_only() -> None:
    command = [sys.executable, "-c", BLOCKED]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["['tallystick']", "[]", "3"]


def test_it_imports_nothing_of_ours() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                assert not (isinstance(node, ast.ImportFrom) and node.level > 1), path
                continue
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names | {"aiokafka", "cryptography"}, (path.name, name)
