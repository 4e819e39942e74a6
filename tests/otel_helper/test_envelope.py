"""The envelope: on every span and log record of its block, and across a process border only as far as was asked for."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import uuid
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.propagate import extract, inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tallystick import otel
from tallystick.otel import EnvelopeSpanProcessor
from tests.otel_helper.conftest import DIGEST, EVERYTHING, Sent

SAID = {
    "tallystick.run_id": "run-1",
    "tallystick.tenant": "acme",
    "tallystick.agent": "support-desk",
    "tallystick.agent_version": "1.4.0",
    "tallystick.principal": "Ann Reyes",
    "tallystick.on_behalf_of": "Jo Marsh",
    "tallystick.data_subject": "Jo%20Marsh ann%40example.org",
    "tallystick.workflow": "refunds",
    "tallystick.owner": "payments-team",
    "tallystick.environment": "test",
    "tallystick.autonomy": "execute_with_approval",
    "tallystick.contract": DIGEST,
    "tallystick.policy_bundle": DIGEST,
    "tallystick.prompt.name": "desk",
    "tallystick.prompt.version": "7",
    "tallystick.prompt.digest": DIGEST,
    "tallystick.model": "gpt-5",
    "tallystick.budget": '{"max_steps":9,"max_cost_usd_per_run":"0.05"}',
    "tallystick.work_item.system": "helpdesk",
    "tallystick.work_item.id": "T-501",
    "tallystick.release": "2026-11",
    "tallystick.trace_level": "full",
    "tallystick.session": "T-501",
    "tallystick.parent_run": "above",
    "tallystick.root_run": "top",
    "tallystick.depth": 2,
}


def outgoing() -> dict[str, str]:
    """The headers of a request made now, with OpenTelemetry's usual propagators."""
    headers: dict[str, str] = {}
    inject(headers)
    return headers


def test_every_member_is_on_every_span_and_log_record_of_the_block(sent: Sent) -> None:
    with otel.envelope("run-1", **EVERYTHING) as entered, sent.tracer.start_as_current_span("agent"):
        sent.tracer.start_span("tool").end()
        otel.final_action()
    sent.tracer.start_span("after").end()

    spans = sent.spans()
    assert entered.run_id == "run-1"
    assert spans["agent"] == spans["tool"] == SAID
    assert spans["after"] == {}
    assert sent.record() == {"tallystick.kind": "final_action", **SAID}


def test_what_a_span_says_itself_stays(sent: Sent) -> None:
    with otel.envelope("run-1", principal="Ann"):
        sent.tracer.start_span("said", attributes={"tallystick.principal": "Bo", "other": 1}).end()

    assert sent.spans()["said"] == {"tallystick.principal": "Bo", "other": 1, "tallystick.run_id": "run-1"}


def test_a_block_in_a_block_is_of_the_same_run_and_adds(sent: Sent) -> None:
    with otel.envelope(principal="Ann", workflow="refunds") as outer:
        with otel.envelope(workflow="credits") as inner:
            sent.tracer.start_span("inner").end()
        sent.tracer.start_span("outer").end()

    assert inner.run_id == outer.run_id
    assert uuid.UUID(outer.run_id).version == 4
    told = {"tallystick.run_id": outer.run_id, "tallystick.principal": "Ann"}
    assert sent.spans()["inner"] == {**told, "tallystick.workflow": "credits"}
    assert sent.spans()["outer"] == {**told, "tallystick.workflow": "refunds"}


def test_each_block_outside_any_is_a_run_of_its_own(sent: Sent) -> None:
    with otel.envelope() as one:
        pass
    with otel.envelope() as other:
        pass
    assert one.run_id != other.run_id


async def test_it_follows_tasks_and_not_their_neighbours(sent: Sent) -> None:
    async def work(name: str) -> None:
        with otel.envelope(principal=name):
            await asyncio.sleep(0)
            await asyncio.create_task(step(name))

    async def step(name: str) -> None:
        sent.tracer.start_span(name).end()

    await asyncio.gather(work("Ann"), work("Bo"))
    spans = sent.spans()
    assert {name: spans[name]["tallystick.principal"] for name in ("Ann", "Bo")} == {"Ann": "Ann", "Bo": "Bo"}
    assert spans["Ann"]["tallystick.run_id"] != spans["Bo"]["tallystick.run_id"]


def test_a_thread_has_it_when_it_is_given_the_context(sent: Sent) -> None:
    def work(name: str, given: context.Context | None) -> None:
        sent.tracer.start_span(name, context=given).end()

    with otel.envelope("run-1"):
        for name, given in (("with", context.get_current()), ("without", None)):
            thread = threading.Thread(target=work, args=(name, given))
            thread.start()
            thread.join()

    assert sent.spans() == {"with": {"tallystick.run_id": "run-1"}, "without": {}}


def test_an_exception_leaves_the_block_as_it_was(sent: Sent) -> None:
    with pytest.raises(KeyError, match="mine"), otel.envelope("run-1"):
        raise KeyError("mine")
    sent.tracer.start_span("after").end()
    assert sent.spans()["after"] == {}


# A run inside a span


def test_a_new_run_has_a_root_of_its_own_linked_to_where_it_was_begun(sent: Sent) -> None:
    with sent.tracer.start_as_current_span("served") as served:
        inner = otel.envelope(workflow="refunds")
        with otel.envelope("run-1"), sent.tracer.start_as_current_span("agent"), inner:
            sent.tracer.start_span("tool").end()
        sent.tracer.start_span("answer").end()

    traces, links = sent.traces(), sent.links()
    assert traces["agent"][1]
    assert traces["agent"][0] == traces["tool"][0] != traces["served"][0] == traces["answer"][0]
    assert links["agent"] == [trace.format_span_id(served.get_span_context().span_id)]
    assert links["tool"] == links["served"] == []


def test_it_stays_in_the_trace_when_asked_to_or_when_it_is_the_same_run(sent: Sent) -> None:
    with sent.tracer.start_as_current_span("served"):
        with otel.envelope(own_trace=False):
            sent.tracer.start_span("agent").end()
        token = context.attach(extract({"baggage": "tallystick.run_id=run-9"}, context.get_current()))
        with otel.envelope(accept="run", principal="Ann"):
            sent.tracer.start_span("joined").end()
        context.detach(token)

    traces = sent.traces()
    assert traces["agent"] == traces["joined"] == (traces["served"][0], False)


def test_a_trace_that_was_not_sampled_takes_no_evidence_away(sent: Sent) -> None:
    unsampled = extract({"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-00"})
    token = context.attach(unsampled)
    try:
        with sent.tracer.start_as_current_span("served"), otel.envelope("run-1"):
            sent.tracer.start_span("agent").end()
    finally:
        context.detach(token)

    assert sent.spans() == {"agent": {"tallystick.run_id": "run-1"}}
    assert sent.traces()["agent"][1]


# A run below


def test_a_run_below_inherits_the_authority_but_not_the_agent_and_has_a_root(sent: Sent) -> None:
    top = EVERYTHING.copy()
    del top["parent_run"], top["root_run"], top["depth"]
    with otel.envelope("top", **top):
        with sent.tracer.start_as_current_span("above"), otel.child("risk-desk", version="2") as below:
            sent.tracer.start_span("below").end()
            with otel.child("third", "run-3"):
                sent.tracer.start_span("third").end()
        sent.tracer.start_span("back").end()

    spans, traces = sent.spans(), sent.traces()
    own = {"tallystick.agent", "tallystick.agent_version", "tallystick.owner", "tallystick.contract"}
    own |= {"tallystick.autonomy", "tallystick.model", "tallystick.release"}
    own |= {name for name in SAID if name.startswith("tallystick.prompt.")}
    assert spans["below"] == {name: value for name, value in SAID.items() if name not in own} | {
        "tallystick.agent": "risk-desk",
        "tallystick.agent_version": "2",
        "tallystick.run_id": below.run_id,
        "tallystick.parent_run": "top",
        "tallystick.root_run": "top",
        "tallystick.depth": 1,
    }
    tree = ("tallystick.run_id", "tallystick.parent_run", "tallystick.root_run", "tallystick.depth")
    assert [spans["third"][name] for name in tree] == ["run-3", below.run_id, "top", 2]
    assert traces["below"] != traces["above"]
    assert [traces[name][1] for name in ("above", "below", "third")] == [True, True, True]
    assert spans["back"]["tallystick.run_id"] == "top"


def test_a_run_below_none_that_is_named_is_below_the_trace(sent: Sent) -> None:
    with sent.tracer.start_as_current_span("above") as above, otel.child("risk-desk"):
        sent.tracer.start_span("below").end()

    trace_id = trace.format_trace_id(above.get_span_context().trace_id)
    found = sent.spans()["below"]
    assert (found["tallystick.parent_run"], found["tallystick.depth"]) == (trace_id, 1)


# Across a process border


def test_nothing_leaves_the_process_unless_asked(sent: Sent) -> None:
    with otel.envelope("run-1", **EVERYTHING):
        assert "baggage" not in outgoing()


def test_the_run_alone_names_no_person(sent: Sent) -> None:
    with otel.envelope("run-1", carry="run", **EVERYTHING):
        found = baggage.get_all(extract(outgoing()))

    assert found == {
        "tallystick.run_id": "run-1",
        "tallystick.parent_run": "above",
        "tallystick.root_run": "top",
        "tallystick.depth": "2",
    }


def test_everything_arrives_as_it_was_where_it_is_believed(believing: Sent) -> None:
    with otel.envelope("run-1", carry="everything", **EVERYTHING):
        headers = outgoing()
    believing.tracer.start_span("served", context=extract(headers)).end()

    assert believing.spans()["served"] == {**SAID, "tallystick.depth": "2"}


def test_what_comes_in_is_not_believed_unless_asked(sent: Sent) -> None:
    forged = {"baggage": "tallystick.principal=admin,tallystick.run_id=run-9,other=1"}
    sent.tracer.start_span("served", context=extract(forged)).end()
    assert sent.spans()["served"] == {}

    token = context.attach(extract(forged))
    try:
        with otel.envelope() as unbelieved:
            pass
        with otel.envelope(accept="run", principal="Ann") as joined:
            sent.tracer.start_span("joined").end()
    finally:
        context.detach(token)
    assert unbelieved.run_id != "run-9"
    assert joined.run_id == "run-9"
    assert sent.spans()["joined"] == {"tallystick.run_id": "run-9", "tallystick.principal": "Ann"}


def test_what_came_in_goes_no_further_by_itself(sent: Sent) -> None:
    token = context.attach(extract({"baggage": "tallystick.principal=Ann,other=1"}))
    try:
        with otel.envelope(accept="everything"):
            assert outgoing()["baggage"] == "other=1"
            with otel.envelope(carry="run") as inner:
                assert sorted(outgoing()["baggage"].split(",")) == ["other=1", f"tallystick.run_id={inner.run_id}"]
    finally:
        context.detach(token)


def test_a_run_below_carries_its_own_id_as_the_one_above_did(sent: Sent) -> None:
    with otel.envelope("top", carry="run"), otel.child("risk-desk", "run-2"):
        found = baggage.get_all(extract(outgoing()))
    assert (found["tallystick.run_id"], found["tallystick.parent_run"]) == ("run-2", "top")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_whose_data_it_is_survives_any_name(names: list[str]) -> None:
    said = otel.resource_attributes(data_subjects=names)["tallystick.data_subject"]
    assert isinstance(said, str)
    arrived = [unquote(name) for name in said.split(" ")]
    assert arrived == ["".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in name) for name in names]


# What can't be


def test_a_run_id_that_the_ledger_would_refuse_is_left_out_and_told(
    sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    with otel.envelope("run 1", principal="Ann") as entered:
        sent.tracer.start_span("agent").end()

    assert uuid.UUID(entered.run_id)
    assert sent.spans()["agent"] == {"tallystick.principal": "Ann", "tallystick.run_id": entered.run_id}
    assert "'run 1'" in caplog.text


def test_a_span_that_lost_its_envelope_to_a_limit_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    exported = InMemorySpanExporter()
    tracers = TracerProvider(span_limits=SpanLimits(max_span_attributes=4), shutdown_on_exit=False)
    tracers.add_span_processor(EnvelopeSpanProcessor())
    tracers.add_span_processor(SimpleSpanProcessor(exported))
    tracer = tracers.get_tracer("test")
    with caplog.at_level(logging.WARNING, "tallystick.otel"), otel.envelope("run-1"):
        tracer.start_span("fits", attributes={"1": 1}).end()
        for _ in range(2):
            span = tracer.start_span("long")
            span.set_attributes({str(number): number for number in range(9)})
            span.end()

    told = [record.getMessage() for record in caplog.records if record.name == "tallystick.otel"]
    assert len(told) == 1
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in told[0]
    assert "'long'" in told[0]


def test_what_holds_for_the_process_stands_in_its_resource() -> None:
    said = otel.resource_attributes(service="desk", agent="support-desk", version="1.4.0", budget={"max_steps": 9})
    resource = Resource.create(said)

    assert resource.attributes["service.name"] == "desk"
    assert resource.attributes["tallystick.agent"] == "support-desk"
    assert resource.attributes["tallystick.agent_version"] == "1.4.0"
    assert json.loads(str(resource.attributes["tallystick.budget"])) == {"max_steps": 9}
