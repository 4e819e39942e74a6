"""docs/runtimes: its Python runs, what it sends arrives through a `tally up`, the record answers what a page says.

The gateway has a token here, as one that other machines reach: by the variable over HTTP, by the helper over gRPC.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ledger.leaf import Leaf, parse_leaf
from tests.docs import runtimes_table

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
PAGES = ROOT / "docs" / "runtimes"
ARRIVE_S = 60  # it takes a second
# The page's blocks, one after another, in one process.
PLAY = """
import json, sys
names = {"__name__": "page"}
for block in json.load(sys.stdin):
    exec(compile(block, "page", "exec"), names)
"""


@dataclass(frozen=True)
class Up:
    """A `tally up`, and what sends to it."""

    home: Path
    endpoints: dict[str, str]
    token: str

    def play(self, page: str, grpc: bool = False) -> list[str]:
        """Run a page's Python as a process of its own; the lines it prints."""
        text = (PAGES / page).read_text()
        examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert examples
        resource = re.findall(r"^    export (OTEL_RESOURCE_ATTRIBUTES)=(\S+)$", text, re.MULTILINE)
        return self.run_python(examples, grpc=grpc, **dict(resource))

    def run_python(self, blocks: list[str], grpc: bool = False, **variables: str) -> list[str]:
        """Run blocks one after another in a process that sends here; the lines it prints."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TALLY_"))}
        env |= variables
        if grpc:
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{self.endpoints['otlp_grpc']}"
            env["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
        else:
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.endpoints["otlp_http"]
            env["OTEL_EXPORTER_OTLP_HEADERS"] = f"authorization=Bearer%20{self.token}"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", PLAY],
            input=json.dumps(blocks),
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()

    def send(self, resource: dict[str, str], **attributes: str) -> SpanExportResult:
        """What the SDK makes of the gateway's answer to one span."""
        kept = InMemorySpanExporter()
        tracers = TracerProvider(resource=Resource(resource), shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(kept))
        tracers.get_tracer("page").start_span("work", attributes=attributes).end()
        to, headers = f"{self.endpoints['otlp_http']}/v1/traces", {"authorization": f"Bearer {self.token}"}
        exporter = OTLPSpanExporter(to, headers=headers)
        try:
            return exporter.export(kept.get_finished_spans())
        finally:
            exporter.shutdown()

    def rejected(self, reason: str) -> list[dict[str, Any]]:
        """What `tally rejected list` says, once there is something with that reason."""
        deadline = time.monotonic() + ARRIVE_S
        while not (found := self.tally("rejected", "list", "--reason", reason)["rejected"]):
            assert time.monotonic() < deadline, reason
        return list(found)

    def arrived(self, wanted: Callable[[list[Leaf]], bool]) -> list[Leaf]:
        """All entries, once what is wanted is among them."""
        deadline = time.monotonic() + ARRIVE_S
        while True:
            with psycopg.connect(self.endpoints["postgres"]) as conn:
                rows = conn.execute("SELECT leaf FROM entries WHERE log LIKE '%/default' ORDER BY index").fetchall()
            leaves = [parse_leaf(bytes(row[0])) for row in rows]
            if wanted(leaves):
                return leaves
            assert time.monotonic() < deadline, sorted((leaf.run or "", leaf.kind) for leaf in leaves)
            time.sleep(0.1)

    def run(self, run: str, *kinds: str) -> list[Leaf]:
        """A run's entries in their order, once all these kinds are among them."""
        leaves = self.arrived(lambda all_: {leaf.kind for leaf in all_ if leaf.run == run} >= set(kinds))
        return sorted((leaf for leaf in leaves if leaf.run == run), key=lambda leaf: leaf.run_seq or 0)

    def tally(self, *arguments: str) -> dict[str, Any]:
        """What a command prints as JSON."""
        env = {**os.environ, "TALLY_HOME": str(self.home)}
        command = [str(BIN / "tally"), *arguments, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("runtimes")
    home = folder / "home"
    env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    env |= {"TALLY_HOME": str(home), "NO_COLOR": "1"}
    made = subprocess.run(
        [BIN / "tally", "otlp", "token", "add", "default", "--json"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        check=True,
        timeout=60,
    )
    token = json.loads(made.stdout)["token"]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen([BIN / "tally", "up"], cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not (home / "endpoints.json").exists():
                assert process.poll() is None, (folder / "up.log").read_text()
                assert time.monotonic() < deadline, (folder / "up.log").read_text()
                time.sleep(0.1)
            yield Up(home, json.loads((home / "endpoints.json").read_text()), token)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def only(leaves: list[Leaf], kind: str) -> Leaf:
    (found,) = (leaf for leaf in leaves if leaf.kind == kind)
    return found


def test_three_questions_are_answered_as_the_page_says(up: Up) -> None:
    (run,) = up.play("three-questions.md")
    kinds = ("policy_decision", "approval_request", "approval_decision", "tool_call", "final_action", "run_finished")
    leaves = up.run(run, *kinds, "outcome")
    shown = up.tally("show", run)
    said = [leaf for leaf in leaves if leaf.kind != "run_head"]

    # one agent, whether its spans say it or the helper
    assert {(leaf.actor or {})["agent"] for leaf in said} == {"support-desk"}

    # which principal authorized it
    until_its_end = [leaf.actor or {} for leaf in said if leaf.kind != "outcome"]
    assert len({(actor["principal"], actor["on_behalf_of"]) for actor in until_its_end}) == 1
    opened = {
        (entry["kind"], pointer): value.get("value")
        for entry in shown["entries"]
        for pointer, value in entry["content"].items()
    }
    assert opened["tool_call", "/actor/principal"] == "Ann Reyes"
    assert opened["tool_call", "/actor/on_behalf_of"] == "Jo Marsh"
    assert opened["approval_decision", "/reviewer"] == "Mira Chen"
    assert json.loads(opened["approval_decision", "/reason"]) == "The photo shows a broken lamp."

    # which policy permitted it
    policy, asked = only(leaves, "policy_decision").data, only(leaves, "approval_request").data
    (answered,) = (leaf.data for leaf in leaves if leaf.kind == "approval_decision" and "reviewer" in leaf.data)
    done = next(leaf for leaf in leaves if leaf.kind == "tool_call" and leaf.data.get("status") == "ok")
    assert (policy["policy"], policy["rule"], policy["decision"]) == ("refunds", "over-10", "require_approval")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", policy["bundle"])
    assert policy["call"] == asked["call"] == answered["call"] == done.data["call"]
    assert asked["arguments"] == done.data["arguments"]

    # what evidence proves what happened
    assert done.data["from"] == "span"
    assert {"/input", "/output"} <= (done.commit or {}).keys()
    assert (done.data["effect"]["amount"], done.data["effect"]["resource"]) == ("12.90", "order/A-1042")
    outcome = only(leaves, "outcome")
    assert (outcome.data["work_item"], outcome.data["verified"]) == ({"system": "helpdesk", "id": "T-501"}, True)
    started = next(leaf for leaf in leaves if leaf.kind == "run_started")
    assert started.data["work_item"] == outcome.data["work_item"]
    assert "outcome" in {entry["kind"] for entry in shown["entries"]}

    # what stands there twice
    merged = {one["index"]: (one["into"], one["why"]) for one in shown["knowledge"]["merged"]}

    def told(kind: str, again: bool) -> dict[str, Any]:
        (found,) = (one for one in shown["entries"] if one["kind"] == kind and (one["index"] in merged) is again)
        return dict(found)

    first, second = told("run_started", again=False), told("run_started", again=True)
    assert merged[second["index"]] == (first["index"], "one_run")
    assert "the lamp arrived broken" in first["content"]["/request"]["value"]
    assert "refunded 12.90 for A-1042" in second["content"]["/request"]["value"]
    of_helper, of_span = told("approval_decision", again=False), told("approval_decision", again=True)
    assert merged[of_span["index"]] == (of_helper["index"], "same_answer")
    assert (of_span["data"]["missing"], "reviewer" in of_span["data"]) == (["decision"], False)
    assert (of_helper["data"]["decision"], "reviewer" in of_helper["data"]) == ("approve", True)

    # and what it doesn't: claimed, and completeness unknown
    assert {leaf.data["vouched"] for leaf in said} == {"claimed"}
    verdicts = up.tally("verify", "--tenant", "default")
    assert (verdicts["integrity"], verdicts["completeness"]) == ("ok", "unknown")


def test_the_program_of_any_sdk_is_on_the_record(up: Up) -> None:
    (run,) = up.play("any-sdk.md")
    leaves = up.run(run, "run_started", "run_finished", "tool_call", "policy_decision")
    said = [leaf for leaf in leaves if leaf.kind != "run_head"]
    assert {(leaf.actor or {})["agent"] for leaf in said} == {"support-desk"}

    started = only(leaves, "run_started")
    assert started.data["work_item"] == {"system": "helpdesk", "id": "T-501"}
    assert (started.data["owner"], started.data["environment"]) == ("payments-team", "production")
    call, decision = only(leaves, "tool_call").data, only(leaves, "policy_decision").data
    assert (call["call"], call["access"], call["effect"]) == ("call_1", "write", {"amount": "8.50", "currency": "EUR"})
    assert (decision["call"], decision["decision"], decision["rule"]) == ("call_1", "allow", "refund-small")


# What no page has a program for: over gRPC, with the token as an argument.
BY_GRPC = """
from tallystick import otel

telemetry = otel.start(service="support", agent="support-desk", token={token!r})
otel.policy_decision("allow", rule="by-grpc")
telemetry.shutdown()
"""


def test_the_helper_sends_by_grpc_with_a_token(up: Up) -> None:
    up.run_python([BY_GRPC.format(token=up.token)], grpc=True)
    leaves = up.arrived(lambda all_: any(leaf.data.get("rule") == "by-grpc" for leaf in all_))
    assert [leaf.actor for leaf in leaves if leaf.data.get("rule") == "by-grpc"] == [{"agent": "support-desk"}]


def test_the_pages_of_the_helper_and_of_pydantic_ai_run_and_arrive(up: Up) -> None:
    up.play("index.md")
    pay = up.play("pydantic-ai.md")
    leaves = up.arrived(
        lambda all_: (
            {"policy_decision", "final_action"} <= {leaf.kind for leaf in all_}
            and any(leaf.run == pay[0] and leaf.kind == "run_finished" for leaf in all_)
            and any(leaf.kind == "tool_call" and leaf.data["tool"] == "pay" for leaf in all_)
        )
    )

    assert {"model_call", "run_started", "run_finished"} <= {leaf.kind for leaf in leaves if leaf.run == pay[0]}
    assert {leaf.actor["agent"] for leaf in leaves if leaf.run == pay[0] and leaf.actor} == {"support-desk"}
    # the payment that had to be approved: both halves, with what was asked and answered, are one run
    (paid,) = (leaf for leaf in leaves if leaf.kind == "tool_call" and leaf.data["tool"] == "pay")
    of_it = [leaf for leaf in leaves if leaf.run == paid.run]
    assert {leaf.actor["agent"] for leaf in of_it if leaf.actor} == {"payer"}
    assert only(of_it, "approval_request").data["call"] == paid.data["call"]
    answered = [leaf.data for leaf in of_it if leaf.kind == "approval_decision" and "reviewer" in leaf.data]
    assert [(data["call"], data["approval"]) for data in answered] == [(paid.data["call"], paid.data["call"])]


def test_where_there_are_tokens_loopback_needs_one_too(up: Up) -> None:
    assert up.send({}) is SpanExportResult.SUCCESS
    assert replace(up, token="another").send({}) is SpanExportResult.FAILURE


def test_a_span_that_names_another_tenant_than_its_token_is_rejected_and_listed(up: Up) -> None:
    assert up.send({"tallystick.tenant": "globex"}) is SpanExportResult.SUCCESS
    (rejected,) = up.rejected("tenant_mismatch")
    assert rejected["source"]["topic"] == "tally.gateway.spans"


def test_a_span_that_is_too_large_is_rejected_and_listed_and_the_sdk_says_nothing(
    up: Up, caplog: pytest.LogCaptureFixture
) -> None:
    run = {"tallystick.run_id": "too-large"}
    assert up.send({}, **run, **{"gen_ai.output.messages": "x" * 1_000_000}) is SpanExportResult.SUCCESS
    (rejected,) = up.rejected("too_large")
    assert caplog.text == ""
    shown = up.tally("rejected", "show", rejected["id"])
    assert shown["received_bytes"] > 1_000_000
    up.send({}, **run)
    assert [leaf.kind for leaf in up.run("too-large", "span") if leaf.kind != "run_head"] == ["span"]  # the small one


def test_the_table_of_links_is_what_the_captures_give() -> None:
    page = runtimes_table.PAGE.read_text(encoding="utf-8")
    assert runtimes_table.page_with_table(page) == page, "run: python -m tests.docs.runtimes_table"


def test_what_no_framework_reports_is_in_no_capture() -> None:
    for name, files in runtimes_table.RUNS.items():
        links = runtimes_table.known_of(*files)
        nowhere = ("memory_reads_and_writes", "policy_decision", "final_action")
        assert [links[link].state for link in nowhere] == ["missing"] * 3, name
        leaves = list(runtimes_table.leaves_of(*files))
        assert not any("reviewer" in leaf.data for leaf in leaves), name
        envelope = {"contract", "policy_bundle", "budget", "work_item", "owner", "autonomy"}
        assert not any(envelope & leaf.data.keys() for leaf in leaves if leaf.kind == "run_started"), name
        assert not any(leaf.kind in ("outcome", "rollback") for leaf in leaves), name
