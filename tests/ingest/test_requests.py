"""OTLP requests from Kafka: one entry for each thing in them, whoever they speak for, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

import ingest.decode
import ingest.otlp.mapping
import ingest.reading
from ingest.authority import Authority
from ingest.decode import Decoder, Record
from ingest.otlp.wire import OVERSIZED_HEADER, TENANT_HEADER
from ingest.signatures import SIGNATURE_HEADER
from ledger.registry import Tenant
from ledger.seal import Pending
from schemas.ids import span_id

GATEWAY, COLLECTOR = "tally.gateway.spans", "tally.otlp.spans"
ACME = Tenant("acme", "acme", ("p/acme",))
GLOBEX = Tenant("globex", "globex", ("p/globex",))
TENANTS = {"acme": ACME, "globex": GLOBEX}
DECODER = Decoder(Authority(TENANTS, default_tenant="acme", unauthenticated=True), {})
NOW = "2026-11-21T12:00:00.000000Z"
TRACE = bytes(range(16))
INTAKE = "p/_intake/t/0"


def attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def span(number: int, *attributes: KeyValue) -> Span:
    return Span(
        trace_id=TRACE,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=b"\x09" * 8,
        name="step",
        start_time_unix_nano=1_790_000_000_000_000_000 + number,
        end_time_unix_nano=1_790_000_001_000_000_000 + number,
        attributes=attributes,
    )


def request(*spans: Span, tenant: str | None = None) -> bytes:
    resource = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    if tenant is not None:
        resource.resource.attributes.append(attribute("tallystick.tenant", tenant))
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()


def decode(value: bytes | None, *headers: tuple[str, bytes], topic: str = GATEWAY) -> list[Pending]:
    return list(DECODER.decode_request(Record("c", topic, None, 1, 7, value, list(headers), b"key", INTAKE, NOW)))


def said(pendings: list[Pending]) -> list[tuple[str, str]]:
    """(log, kind or the reason for a refusal) of each."""
    return [
        (one.log, f"rejected: {one.event.data['reason']}" if one.event.kind == "rejected" else one.event.kind)
        for one in pendings
    ]


def test_each_span_of_a_request_is_an_entry_with_its_place_in_the_record() -> None:
    pendings = decode(request(span(1), span(2), span(3)), (TENANT_HEADER, b"acme"))
    assert said(pendings) == [("p/acme", "span")] * 3
    assert [one.source["item"] for one in pendings] == [0, 1, 2]
    assert [one.event.id for one in pendings] == [span_id(TRACE.hex(), f"{n:016x}") for n in (1, 2, 3)]
    assert all(one.enriched["vouched"] == "claimed" for one in pendings)


def test_a_conflict_would_keep_the_one_span_that_it_is_about() -> None:
    (one, _) = decode(request(span(1), span(2)), (TENANT_HEADER, b"acme"))
    kept = ExportTraceServiceRequest.FromString(one.received)
    assert [s.span_id for r in kept.resource_spans for sc in r.scope_spans for s in sc.spans] == [span(1).span_id]
    assert one.event.wire == one.received


def test_what_recognizes_a_span_does_not_depend_on_what_it_was_sent_with() -> None:
    together = decode(request(span(1), span(2)), (TENANT_HEADER, b"acme"))
    apart = decode(request(span(2)), (TENANT_HEADER, b"acme"))
    assert together[1].event.wire == apart[0].event.wire


@pytest.mark.parametrize(
    ("topic", "header", "named", "expected"),
    [
        (GATEWAY, b"globex", None, ("p/globex", "span")),
        (GATEWAY, b"globex", "globex", ("p/globex", "span")),
        (GATEWAY, b"globex", "acme", (INTAKE, "rejected: tenant_mismatch")),
        (GATEWAY, None, "globex", (INTAKE, "rejected: unauthenticated")),
        (GATEWAY, b"\xff", "globex", (INTAKE, "rejected: bad_header")),
        (GATEWAY, b"nobody", None, (INTAKE, "rejected: unknown_tenant")),
        # Elsewhere anybody could write the gateway's header: it counts for nothing.
        (COLLECTOR, b"globex", None, ("p/acme", "span")),
        (COLLECTOR, b"globex", "acme", ("p/acme", "span")),
        (COLLECTOR + ".globex", b"acme", None, ("p/globex", "span")),
        (COLLECTOR + ".globex", None, "acme", (INTAKE, "rejected: tenant_mismatch")),
    ],
)
def test_whose_a_span_is(topic: str, header: bytes | None, named: str | None, expected: tuple[str, str]) -> None:
    headers = [] if header is None else [(TENANT_HEADER, header)]
    assert said(decode(request(span(1), tenant=named), *headers, topic=topic)) == [expected]


def test_where_unauthenticated_intake_is_off_the_gateways_header_opens_no_other_topic() -> None:
    closed = Decoder(Authority(TENANTS, default_tenant="acme"), {})
    headers = [(TENANT_HEADER, b"acme")]
    (one,) = closed.decode_request(Record("c", COLLECTOR, None, 0, 0, request(span(1)), headers, None, INTAKE, NOW))
    assert said([one]) == [(INTAKE, "rejected: unauthenticated")]


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (None, [], "tombstone"),
        (b"\xff\xff\xff", [], "not_otlp"),
        (b'{"resourceSpans":[{"scopeSpans":', [], "not_otlp"),
        (request(span(1)), [(OVERSIZED_HEADER, b"1")], "too_large"),
        (request(span(1)), [(SIGNATURE_HEADER, b"key:AAAA")], "bad_signature"),
    ],
)
def test_a_record_that_cannot_be_read_is_kept_whole(
    value: bytes | None, headers: list[tuple[str, bytes]], reason: str
) -> None:
    (one,) = decode(value, (TENANT_HEADER, b"globex"), *headers)
    assert said([one]) == [("p/globex", f"rejected: {reason}")]
    assert one.received == (value or b"")


def test_one_span_that_is_refused_does_not_take_the_others_with_it() -> None:
    nameless = span(2)
    nameless.span_id = b""
    first, refused, last = decode(request(span(1), nameless, span(3)), (TENANT_HEADER, b"acme"))
    assert said([first, refused, last]) == [("p/acme", "span"), ("p/acme", "rejected: bad_id"), ("p/acme", "span")]
    assert ExportTraceServiceRequest.FromString(refused.received).resource_spans[0].scope_spans[0].spans == [nameless]


def test_one_string_that_is_not_utf8_does_not_take_other_runs_with_it() -> None:
    value = request(span(1), span(2, attribute("k", "marked")), span(3)).replace(b"marked", b"\xff\xfe\xfd\xfc\xfb\xfa")
    pendings = decode(value, (TENANT_HEADER, b"acme"))
    assert sorted(said(pendings)) == [("p/acme", "rejected: not_otlp"), ("p/acme", "span"), ("p/acme", "span")]
    assert [one.source["item"] for one in pendings] == [0, 1, 2]
    (refused,) = (one for one in pendings if one.event.kind == "rejected")
    assert b"\xff\xfe\xfd\xfc\xfb\xfa" in refused.received
    assert span(1).span_id not in refused.received


def test_in_json_too_a_span_that_cannot_be_read_is_refused_alone_and_says_why() -> None:
    spans = [
        {"traceId": TRACE.hex(), "spanId": f"{n:016x}", "name": "work", "startTimeUnixNano": "1795224000000000000"}
        for n in (1, 2, 3)
    ]
    spans[1]["traceId"] = "zz"
    value = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    pendings = decode(value, topic=COLLECTOR)
    assert sorted(said(pendings)) == [(INTAKE, "rejected: not_otlp"), ("p/acme", "span"), ("p/acme", "span")]
    (refused,) = (one for one in pendings if one.event.kind == "rejected")
    assert b'"zz"' in refused.received
    assert "traceId" in refused.event.data["detail"]


@pytest.mark.parametrize("kind", ["intake", "kill_switch", "violation", "conflict", "policy_published"])
def test_no_span_says_what_only_the_ledger_operators_or_projections_say(kind: str) -> None:
    pendings = decode(request(span(1, attribute("tallystick.kind", kind))), (TENANT_HEADER, b"acme"))
    assert ("p/acme", "rejected: reserved_kind") in said(pendings)
    assert kind not in {one.event.kind for one in pendings}


def test_a_defect_of_the_mapping_costs_one_span_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    good = ingest.otlp.mapping.span_drafts

    def defective(origin: Any, span: Span, wire: bytes) -> Any:
        if span.span_id == (2).to_bytes(8, "big"):
            raise OverflowError("cannot convert float infinity to integer")
        return good(origin, span, wire)

    monkeypatch.setattr(ingest.otlp.mapping, "span_drafts", defective)
    first, refused, last = decode(request(span(1), span(2), span(3)), (TENANT_HEADER, b"acme"))
    assert said([first, refused, last]) == [("p/acme", "span"), ("p/acme", "rejected: defect"), ("p/acme", "span")]
    assert "OverflowError" in refused.event.data["detail"]


def test_a_defect_anywhere_else_keeps_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(signal: str, parsed: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(ingest.decode, "map_request", defective)
    value = request(span(1))
    (kept,) = decode(value, (TENANT_HEADER, b"acme"))
    assert said([kept]) == [("p/acme", "rejected: defect")]
    assert kept.received == value


def test_a_span_that_is_refused_for_many_reasons_is_kept_once() -> None:
    told = span(1)
    for _ in range(20):
        told.events.add(name="tallystick.rejected").attributes.append(attribute("tallystick.kind", "rejected"))
    pendings = decode(request(told), (TENANT_HEADER, b"acme"))
    assert said(pendings).count(("p/acme", "rejected: reserved_kind")) == 1


def test_the_end_of_a_run_is_sealed_after_what_else_its_span_tells() -> None:
    root = span(1, attribute("gen_ai.operation.name", "invoke_agent"), attribute("gen_ai.agent.name", "desk"))
    root.parent_span_id = b""
    root.events.add(name="exception").attributes.append(attribute("exception.type", "ValueError"))
    pendings = decode(request(root, span(2)), (TENANT_HEADER, b"acme"))
    assert [one.event.kind for one in pendings] == ["run_started", "error", "run_finished", "span"]
    assert [one.source["item"] for one in pendings] == [0, 1, 2, 3]
