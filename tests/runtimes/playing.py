"""Runtimes as a developer runs them: processes of their own, in their own environments, told where OTLP goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = Path(sys.prefix) / "runtimes"
AT_ONCE = 2
PLAY_S = 150.0  # it takes 2 to 5 s; on a busy machine longer
EXPORT_S = "60"  # of one request, by the exporter; by default it gives up after 10 s

ENVIRONMENT_OF = {
    "pydantic_ai": "shared",
    "langgraph": "shared",
    "openai_agents": "shared",
    "smolagents": "shared",
    "google_adk": "adk",
}
"""The environment of each runtime, by the name of its app."""

PROTOCOLS_OF = {"shared": ("http/protobuf", "grpc", "http/json"), "adk": ("http/protobuf", "grpc")}
"""What can be spoken in an environment: OTLP's exporter as JSON needs a newer OpenTelemetry than ADK allows."""

PLAYS = tuple((app, protocol) for app, environment in ENVIRONMENT_OF.items() for protocol in PROTOCOLS_OF[environment])


@dataclass(frozen=True, slots=True)
class Happened:
    """What really happened in one scenario, as its models and tools tell."""

    traces: dict[str, list[str]]  # the spans that ended, by trace, the traces in order
    logs: int
    model_calls: list[dict[str, Any]]
    model_errors: int
    tool_calls: list[dict[str, str]]
    raised: str | None
    told: dict[str, Any]

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Happened:
        known = {name: facts.pop(name) for name in cls.__slots__ if name in facts}
        return cls(**known, told=facts)


@dataclass(frozen=True, slots=True)
class Played:
    """An app that has ended: everything it did is sent, twice."""

    versions: dict[str, str]
    attempts: list[str]  # to leave this machine
    scenarios: dict[str, Happened]

    def spans(self) -> int:
        return sum(len(spans) for happened in self.scenarios.values() for spans in happened.traces.values())

    def logs(self) -> int:
        return sum(happened.logs for happened in self.scenarios.values())


def interpreter(environment: str) -> Path:
    """The Python of one of the runtimes' environments."""
    folder = ENVIRONMENTS / environment
    if not (folder / "ready").exists():
        pytest.fail(f"the runtimes have no environment yet: make {folder / 'ready'}")
    return folder / "bin" / "python"


def play_all(http: str, grpc: str) -> dict[tuple[str, str], Played]:
    """Run every app over each protocol it can speak, two at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = {
            (app, protocol): pool.submit(play, app, protocol, f"http://{grpc}" if protocol == "grpc" else http)
            for app, protocol in PLAYS
        }
        return {key: job.result() for key, job in jobs.items()}


def play(app: str, protocol: str, endpoint: str, *scenarios: str, attributes: str = "") -> Played:
    """Run an app, its scenarios or those named, with these resource attributes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TALLY", "PYTHON"))}
    told_where = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": EXPORT_S,
        "OTEL_RESOURCE_ATTRIBUTES": attributes,
    }
    done = subprocess.run(
        [interpreter(ENVIRONMENT_OF[app]), "-m", f"tests.runtimes.apps.{app}", *scenarios, "--twice"],
        cwd=ROOT,
        env=inherited | told_where,
        capture_output=True,
        text=True,
        check=False,
        timeout=PLAY_S,
    )
    assert done.returncode == 0, f"{app} over {protocol}: {done.stderr}"
    told = json.loads(done.stdout)
    happened = {name: Happened.of(facts) for name, facts in told["scenarios"].items()}
    return Played(told["versions"], told["attempts"], happened)
