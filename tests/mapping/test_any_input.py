"""Whatever a request holds: nothing is raised, nothing is lost, the same bytes give the same drafts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from jiter import LosslessFloat
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.otlp.mapping import forms, map_request
from ingest.otlp.mapping.anyvalue import json_text, read_attributes
from schemas import jsontext
from schemas.canonical import canonical_bytes, normal_form
from schemas.errors import Rejection
from schemas.event import JSON, Draft
from schemas.kinds import KINDS
from schemas.normalize import normalize_draft
from tests.mapping.otlp import END, any_logs_request, any_spans_request, log, logs_request, span, spans_request
from tests.support.pace import slack

_SLOW = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _check(draft: Draft) -> None:
    """The draft becomes an event, unless it says a kind that it may not, and the event fits its kind."""
    if draft.kind not in KINDS or KINDS[draft.kind].ledger_only:
        with pytest.raises(Rejection, match=r"unknown_kind|reserved_kind"):
            normalize_draft(draft)
        return
    event = normalize_draft(draft)
    canonical_bytes({"data": event.data, "actor": event.actor})
    assert event.tenant is None or event.tenant
    for one in event.content:
        if one.type == JSON:
            jsontext.check(one.value)
    if event.digest_input is not None:
        normal_form(event.digest_input)
    for _, name in event.persons:
        assert name


@_SLOW
@given(any_spans_request())
def test_any_spans(request: Any) -> None:
    mapped = list(map_request("spans", request))
    assert len(mapped) == len(request.resource_spans[0].scope_spans[0].spans)
    for one in mapped:
        assert (one.refusal is None) == bool(one.drafts)
        assert one.refusal is None or one.refusal.code == "bad_id" or one.refusal.detail.startswith("tallystick.")
        for draft in one.drafts:
            assert draft.wire == one.wire
            _check(draft)
        ids = [draft.id for draft in one.drafts]
        assert len(set(ids)) == len(ids)


@_SLOW
@given(any_logs_request())
def test_any_logs(request: Any) -> None:
    mapped = list(map_request("logs", request))
    assert len(mapped) == len(request.resource_logs[0].scope_logs[0].log_records)
    for one in mapped:
        for draft in one.drafts:
            _check(draft)


@_SLOW
@given(any_spans_request())
def test_the_same_bytes_give_the_same_drafts_and_wire_is_a_request_of_one(request: Any) -> None:
    again = ExportTraceServiceRequest.FromString(request.SerializeToString())
    assert list(map(repr, map_request("spans", request))) == list(map(repr, map_request("spans", again)))
    for one in map_request("spans", request):
        alone = list(map_request("spans", ExportTraceServiceRequest.FromString(one.wire)))
        assert [repr(draft) for mapped in alone for draft in mapped.drafts] == [repr(draft) for draft in one.drafts]
        assert alone[0].wire == one.wire


@_SLOW
@given(any_spans_request())
def test_nothing_of_an_attribute_is_lost(request: Any) -> None:
    """Each attribute is in /raw with its exact value, or its text stands in the drafts made of the span."""
    spans = request.resource_spans[0].scope_spans[0].spans
    for made, mapped in zip(spans, map_request("spans", request), strict=True):
        if mapped.refusal is not None:
            continue
        own = mapped.drafts[0]
        raw = dict(own.raw)
        for name, value in read_attributes(made.attributes)[0].items():
            text = raw.get(name) or raw.get("/" + name.replace("~", "~0").replace("/", "~1"))
            if text is not None:
                assert text == json_text(value)


def test_a_hundred_thousand_attributes_take_time_in_proportion() -> None:
    small = _seconds({f"llm.input_messages.{at}.message.content": "x" for at in range(2_000)})
    large = _seconds({f"llm.input_messages.{at}.message.content": "x" for at in range(100_000)})
    assert large < max(small, 0.005) * 50 * 8


def test_a_thousand_exceptions_give_few_drafts_and_lose_nothing() -> None:
    many = [("exception", {"exception.type": f"E{at}", "exception.message": "m"}) for at in range(1_000)]
    (mapped,) = map_request("spans", spans_request(span(events=many)))
    assert len(mapped.drafts) <= 257
    raw = json.loads(dict(mapped.drafts[0].raw)["otlp:events"])
    assert len(raw) == 1_000
    assert raw[999]["attributes"] == {"exception.type": "E999", "exception.message": "m"}


def test_text_that_looks_like_many_interrupts_is_read_once() -> None:
    text = "Interrupt(value=" * 200_000 + ", id='x"
    began = time.process_time()
    (mapped,) = map_request(
        "spans",
        spans_request(span(events=[("exception", {"exception.type": "GraphInterrupt", "exception.message": text})])),
    )
    assert time.process_time() - began < 5 * slack()
    assert [draft.kind for draft in mapped.drafts] == ["span", "approval_request"]


@pytest.mark.parametrize("large", [1e308, 1.7976931348623157e308, float("inf"), float("nan"), -1e308, 2**63 - 1])
@pytest.mark.parametrize("name", ["gen_ai.response.time_to_first_chunk", "ai.response.msToFirstChunk"])
def test_a_duration_beyond_any_is_kept_as_it_came(name: str, large: float) -> None:
    (mapped,) = map_request("spans", spans_request(span("chat", {"gen_ai.operation.name": "chat", name: large})))
    (own,) = mapped.drafts
    assert "first_token_us" not in own.data
    assert dict(own.raw)[name] == json_text(large)


@pytest.mark.parametrize(
    "form", [forms.seconds, forms.milliseconds, forms.count, forms.label, forms.person, forms.step]
)
def test_a_number_beyond_any_is_of_no_form(form: Callable[[Any], Any]) -> None:
    for odd in (
        10**400,
        -(10**400),
        10**5000,
        float("nan"),
        float("-inf"),
        LosslessFloat(b"1e999999"),
        b"x",
        [10**400],
    ):
        assert form(odd) is None


def test_numbers_of_thousands_of_digits_in_json_are_kept_as_they_came() -> None:
    told = '{"thread_id": %s, "user_id": %s, "langgraph_step": %s}' % (("9" * 4_300,) * 3)
    (mapped,) = map_request("spans", spans_request(span(attributes={"metadata": told})))
    (own,) = mapped.drafts
    assert not {"session", "step"} & own.data.keys()
    assert own.persons == []
    assert dict(own.raw)["metadata"] == json_text(told)


def _interrupted(ids: list[str], attributes: dict[str, Any] | None = None, padding: str = "") -> list[Draft]:
    """The approval requests of a span with one interrupt for each of the ids."""
    text = "(Interrupt(value={'action_requests': [{'name': 'pay'}]}, id='%s'),)"
    events = [
        ("exception", {"exception.type": "GraphInterrupt", "exception.message": text % id_ + padding}) for id_ in ids
    ]
    (mapped,) = map_request("spans", spans_request(span("after_model", attributes, events=events)))
    return [draft for draft in mapped.drafts if draft.kind == "approval_request"]


def test_many_interrupts_with_a_large_state_read_it_once_and_repeat_none_of_it() -> None:
    call = '{"name": "pay", "args": {"note": "%s"}, "id": "call_3"}' % ("x" * 100_000)
    state = '{"messages": [' + "0, " * 100_000 + '{"type": "ai", "tool_calls": [' + call + "]}]}"
    began = time.process_time()
    found = _interrupted([f"e{at}" for at in range(250)], {"input.value": state})
    assert time.process_time() - began < 2 * slack()
    assert [draft.data["approval"] for draft in found] == [f"e{at}" for at in range(250)]
    assert {draft.data["call"] for draft in found} == {"call_3"}
    inputs = [one for draft in found for one in draft.content if one.pointer == "/input"]
    assert len(inputs) == 1
    assert inputs[0] in found[0].content


def test_the_text_of_one_interrupt_with_many_ids_comes_once() -> None:
    ids = "'), Interrupt(value=1, id='".join(f"e{at}" for at in range(64))
    found = _interrupted([ids], padding="x" * 800_000)
    assert [draft.data["approval"] for draft in found] == [f"e{at}" for at in range(64)]
    assert [len(draft.content) for draft in found] == [1] + [0] * 63
    assert sum(len(one.value) for draft in found for one in draft.content) < 810_000


@pytest.mark.parametrize(
    ("attribute", "before", "one", "after"),
    [
        ("input.value", '{"resume": [', '{"type": "edit", "args": {%s}}', "]}"),
        ("final_result", '{"calls": [], "approvals": [', "{%s}", "]}"),
    ],
)
def test_of_many_answers_and_calls_only_those_that_are_told_are_read(
    attribute: str, before: str, one: str, after: str
) -> None:
    members = ", ".join(f'"a{at}": 0' for at in range(300))
    told = before + ", ".join([one % members] * 6_000) + after
    attributes = {"gen_ai.operation.name": "invoke_agent", attribute: told}
    made = spans_request(span("invoke_agent", attributes, parent=None))
    began = time.process_time()
    (mapped,) = map_request("spans", made)
    assert time.process_time() - began < 8 * slack()
    assert 200 < len(mapped.drafts) <= 258


def test_names_that_look_like_many_handoffs_are_read_in_proportion() -> None:
    """The shapes repeat what a rule looks for, where one that looks again from each place would take minutes."""
    shapes = (
        " → ",
        "handoff to ",
        "a → b",
        " → .handoff",
        ".run",
        "agent_run [",
        "invoke_agent ",
        "execute_tool ",
        "]",
    )
    for length in (512, 2_048, 900_000):
        for name in (shape * (length // len(shape)) for shape in shapes):
            for attributes, scope in (
                ({"openinference.span.kind": "TOOL"}, "test"),
                ({"gen_ai.operation.name": "invoke_agent"}, "test"),
                ({"gen_ai.operation.name": "handoff"}, "test"),
                ({}, "gcp.vertex.agent"),
            ):
                made = spans_request(span(name, attributes), scope=scope)
                began = time.process_time()
                assert all(mapped.drafts for mapped in map_request("spans", made))
                assert time.process_time() - began < 0.5 * slack()
    many = spans_request(*[span(" → " * 682, {"openinference.span.kind": "TOOL"})] * 800)
    began = time.process_time()
    assert len(list(map_request("spans", many))) == 800
    assert time.process_time() - began < 0.5 * slack()


def test_texts_that_look_like_many_of_what_is_sought_are_read_in_proportion() -> None:
    sought = (
        ", id='aaaa", ", id='a',", "'action_requests': [{'name': '", "'id': 'v", "'id': 'v1:a", "'id': 'v1:a:b",
        "'id': 'v1:before_tool_call:" + "x" * 200 + ":", "Interrupt(", "timeout", '"tool_call_id"', '"resume"', "1e1",
        "[", '{"a":', '"interrupt_response"', "tallystick.", "://", "://a@", "?",
    )  # fmt: skip
    for shape in sought:
        text = shape * (900_000 // len(shape))
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.output.messages": text + '"finish_reason": "interrupt"',
            "input.value": text + '"resume"',
            "output.value": text + '"tool_call_id"',
            "error.type": text,
            "tallystick.run_id": text,
            "tallystick.data_subject": text.replace("%", ""),
            "tallystick.budget": text,
            text: "x",
        }
        events = [("exception", {"exception.type": "GraphInterrupt", "exception.message": text})]
        made = spans_request(span("x", attributes, events=events))
        began = time.process_time()
        list(map_request("spans", made))
        assert time.process_time() - began < 2 * slack(), shape[:40]


def test_spans_without_valid_ids_are_refused_with_their_bytes() -> None:
    for wrong in ({"trace_id": b""}, {"trace_id": bytes(16)}, {"span_id": b"x"}, {"span_id": bytes(8)}):
        (mapped,) = map_request("spans", spans_request(span(**wrong)))
        assert mapped.refusal is not None
        assert mapped.refusal.code == "bad_id"
        assert mapped.drafts == ()
        assert mapped.wire


def test_times_that_are_not_known_are_absent() -> None:
    (own, *_) = next(iter(map_request("spans", spans_request(span(start_time_unix_nano=0))))).drafts
    assert own.time is None
    assert "latency_us" not in own.data
    assert json.loads(dict(own.raw)["otlp:span"])["end_time_unix_nano"] == str(END)
    (own, *_) = next(iter(map_request("spans", spans_request(span(end_time_unix_nano=1))))).drafts
    assert "latency_us" not in own.data


def test_fields_of_a_newer_protocol_are_kept() -> None:
    newer = span().SerializeToString() + b"\xf8\x3f\x05"  # field 1023, a varint
    made = Span.FromString(newer)
    (mapped,) = map_request("spans", spans_request(made))
    assert json.loads(dict(mapped.drafts[0].raw)["otlp:span"])["unknown_fields"] == [[1023, 0, 5]]
    (without,) = map_request("spans", spans_request(span()))
    assert without.wire != mapped.wire


def test_a_log_observed_again_is_the_same_record() -> None:
    ids = set()
    for observed in (0, 5, 6):
        (mapped,) = map_request("logs", logs_request(log("x", observed_time_unix_nano=observed)))
        ids.add((mapped.drafts[0].id, mapped.wire))
    assert len(ids) == 1
    without = {
        next(iter(map_request("logs", logs_request(log("x", time_unix_nano=0, observed_time_unix_nano=at))))).wire
        for at in (5, 6)
    }
    assert len(without) == 2


def test_ids_are_those_of_kinds_md() -> None:
    (mapped,) = map_request("spans", spans_request(span(status=(2, "no"))))
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", one.id) for one in mapped.drafts
    )
    from schemas.ids import v5
    from tests.mapping.otlp import PARENT, SPAN, TRACE

    assert mapped.drafts[0].id == v5(f"otlp\n{TRACE}\n{SPAN}")
    assert mapped.drafts[0].data["parent"] == v5(f"otlp\n{TRACE}\n{PARENT}")
    assert mapped.drafts[1].id == v5(f"otlp\n{TRACE}\n{SPAN}\nerror\n0")


def _seconds(attributes: dict[str, Any]) -> float:
    request = spans_request(span("m", {"openinference.span.kind": "LLM", **attributes}))
    began = time.process_time()
    for mapped in map_request("spans", request):
        for draft in mapped.drafts:
            normalize_draft(draft)
    return time.process_time() - began
