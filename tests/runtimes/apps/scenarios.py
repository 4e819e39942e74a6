"""What really happened in an app, told by its own models and tools, so that a test can hold the ledger to it.

An app registers its scenarios with `@scenario`, its models call `model_called`, its tools `tool_ran`; `main` runs them,
sends everything (a second time too, with `--twice`: the very same spans, as after a lost acknowledgement), and prints
the happenings as one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import inspect
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from tests.runtimes.apps import offline
from tests.runtimes.apps.telemetry import exporters, send_otlp

Scenario = Callable[[], Any]

OUT_OF_ORDER = "is out of order"
FLUSH_MS = 60_000

_scenarios: dict[str, Scenario] = {}
_happened: dict[str, dict[str, Any]] = {}
_now: dict[str, Any] = {}


class OutOfOrderError(RuntimeError):
    """What a tool or a model of a scenario raises; a framework may wrap it, and keeps its words."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} {OUT_OF_ORDER}")


def scenario(function: Scenario) -> Scenario:
    """Register one; it may be a coroutine function."""
    _scenarios[function.__name__] = function
    return function


def model_called(model: str, input_tokens: int, output_tokens: int) -> None:
    """A model answered, at these tokens."""
    _now["model_calls"].append({"model": model, "input_tokens": input_tokens, "output_tokens": output_tokens})


def model_raised() -> None:
    """A model is about to raise."""
    _now["model_errors"] += 1


def tool_ran(name: str, raised: bool = False) -> None:
    """A tool's own code ran."""
    _now["tool_calls"].append({"tool": name, "status": "error" if raised else "ok"})


def told(**facts: Any) -> None:
    """Whatever else this scenario's test needs to know."""
    _now.update(facts)


class _Sent(SpanProcessor, LogRecordProcessor):
    """Keeps what goes to the exporters, to count it and to send it again."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.logs: list[ReadWriteLogRecord] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
        if span.context is not None and _now:
            _now["traces"].setdefault(format(span.context.trace_id, "032x"), []).append(
                format(span.context.span_id, "016x")
            )

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.logs.append(log_record)
        _now["logs"] += 1

    def shutdown(self) -> None:
        """Nothing is held open."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def main(service: str, instrument: Callable[[Any], None], *packages: str) -> None:
    """Run the scenarios asked for and print what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", default=[])
    parser.add_argument("--twice", action="store_true")
    asked = parser.parse_args()
    tracers, loggers = send_otlp(service)
    sent = _Sent()
    tracers.add_span_processor(sent)
    loggers.add_log_record_processor(sent)
    instrument(tracers)
    for name in asked.scenarios or _scenarios:
        _run(name)
    tracers.force_flush(FLUSH_MS)
    loggers.force_flush(FLUSH_MS)
    if asked.twice:
        _send_again(sent)
    sys.stdout.write(
        json.dumps(
            {
                "versions": {package: version(package) for package in (*packages, "opentelemetry-sdk")},
                "attempts": offline.attempts,
                "scenarios": _happened,
            }
        )
    )
    tracers.shutdown()
    loggers.shutdown()


def _send_again(sent: _Sent) -> None:
    spans, logs = exporters()
    results = [spans.export(sent.spans), *([logs.export(sent.logs)] if sent.logs else [])]
    spans.shutdown()
    logs.shutdown()
    if any(result.name != "SUCCESS" for result in results):
        sys.exit(f"not everything was taken: {results}")


def _run(name: str) -> None:
    _now.clear()
    _now.update(traces={}, logs=0, model_calls=[], model_errors=0, tool_calls=[], raised=None)
    try:
        contextvars.Context().run(_play, _scenarios[name])
    except Exception as error:
        if OUT_OF_ORDER not in str(error):
            raise
        _now["raised"] = type(error).__name__
    _happened[name] = dict(_now)


def _play(function: Scenario) -> None:
    """In a context of its own: an instrumentor that forgets to end a span leaves it as everything's parent."""
    result = function()
    if inspect.iscoroutine(result):
        asyncio.run(result)
