"""A request cut into parts by tenant, run and trace: each record in one of them, below the limit."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.errors import Refused
from ingest.otlp.framing import delimited
from ingest.otlp.mapping import map_request
from ingest.otlp.split import LOST_ABOVE_BYTES, OUT_BYTES_MAX, Part, split
from ingest.otlp.wire import PARTS_MAX, parse

A, B = bytes([1]) * 16, bytes([2]) * 16
MIB = 1024 * 1024


def spans_of(part: Part) -> list[Span]:
    request = parse("spans", part.value, "proto")
    assert isinstance(request, ExportTraceServiceRequest)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def request_of(*spans: Span, **resource: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add(schema_url="https://example.org/r")
    for key, value in resource.items():
        one.resource.attributes.add(key=key.replace("__", ".")).value.string_value = value
    scope = one.scope_spans.add(schema_url="https://example.org/s")
    scope.scope.name = "test"
    scope.spans.extend(spans)
    return request


def span(trace: bytes, number: int, run: str | None = None, size: int = 0) -> Span:
    made = Span(trace_id=trace, span_id=number.to_bytes(8, "big"), name=f"span {number}")
    if run is not None:
        made.attributes.add(key="tallystick.run_id").value.string_value = run
    if size:
        made.attributes.add(key="text").value.string_value = "x" * size
    return made


def parts(request: ExportTraceServiceRequest, limit: int = 900_000) -> list[Part]:
    return list(split("spans", request.SerializeToString(), limit).parts())


def test_a_part_has_one_trace_with_its_resource_and_scope() -> None:
    found = parts(request_of(span(A, 1), span(B, 2), span(A, 3), service__name="s"))
    assert [(part.key, part.count, part.tenant) for part in found] == [
        (A.hex().encode(), 2, None),
        (B.hex().encode(), 1, None),
    ]
    assert [one.name for one in spans_of(found[0])] == ["span 1", "span 3"]
    for part in found:
        request = ExportTraceServiceRequest.FromString(part.value)
        for resource in request.resource_spans:
            assert resource.schema_url == "https://example.org/r"
            assert resource.resource.attributes[0].value.string_value == "s"
            assert [(scope.scope.name, scope.schema_url) for scope in resource.scope_spans] == [
                ("test", "https://example.org/s")
            ]


def test_the_key_is_the_run_as_the_mapping_finds_it() -> None:
    found = parts(
        request_of(span(A, 1, "mine"), span(A, 2), span(A, 3, "not a run id"), span(B, 4, "mine"), service__name="s")
    )
    assert [(part.key, [one.span_id[-1] for one in spans_of(part)]) for part in found] == [
        (b"mine", [1]),
        (A.hex().encode(), [2, 3]),
        (b"mine", [4]),
    ]
    spans = [span(A, 1), span(B, 2), span(A, 3, "mine"), span(B, 4, "not a run id")]
    of_resource = parts(request_of(*spans, tallystick__run_id="all"))
    assert [part.key for part in of_resource] == [b"all", b"all", b"mine"]
    for part in of_resource:
        for mapped in map_request("spans", parse("spans", part.value, "proto")):
            assert mapped.drafts[0].run == (part.key or b"").decode()


def test_tenants_are_kept_apart() -> None:
    request = request_of(span(A, 1), tallystick__tenant="acme")
    request.MergeFrom(request_of(span(A, 2), tallystick__tenant="Zoë & Co"))
    request.MergeFrom(request_of(span(A, 3), tallystick__tenant=""))
    request.MergeFrom(request_of(span(A, 4), tallystick__tenant="acme"))
    assert [(part.tenant, part.count) for part in parts(request)] == [("acme", 2), ("Zoë & Co", 1), (None, 1)]


def test_logs_need_no_trace() -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    records.add().body.string_value = "a"
    records.add(trace_id=A).body.string_value = "b"
    records.add().attributes.add(key="tallystick.run_id").value.string_value = "mine"
    cut = split("logs", request.SerializeToString())
    assert [(part.key, part.count) for part in cut.parts()] == [(None, 1), (A.hex().encode(), 1), (b"mine", 1)]
    assert cut.rejected == 0


def test_a_part_stays_below_the_limit_and_keeps_the_order() -> None:
    found = parts(request_of(*(span(A, n, size=700) for n in range(1, 40)), service__name="s" * 100), 5_000)
    assert len(found) > 5
    assert all(len(part.value) <= 5_000 for part in found)
    assert [int(one.name[5:]) for part in found for one in spans_of(part)] == list(range(1, 40))


def test_a_span_above_the_limit_goes_alone_and_is_counted() -> None:
    cut = split("spans", request_of(span(A, 1), span(A, 2, size=6_000), span(A, 3)).SerializeToString(), 5_000)
    found = list(cut.parts())
    assert [(part.oversized, part.count, part.key) for part in found] == [
        (False, 2, A.hex().encode()),
        (True, 1, A.hex().encode()),
    ]
    assert [one.name for one in spans_of(found[1])] == ["span 2"]
    assert (cut.records, cut.too_large, cut.lost, cut.rejected) == (3, 1, 0, 1)


def test_a_span_that_no_topic_takes_is_counted_as_lost() -> None:
    cut = split("spans", request_of(span(A, 1), span(A, 2, size=LOST_ABOVE_BYTES)).SerializeToString())
    assert [part.count for part in cut.parts()] == [1]
    assert (cut.lost, cut.too_large, cut.rejected) == (1, 0, 1)


def test_spans_without_ids_are_sent_and_counted() -> None:
    broken = [span(b"", 1), span(bytes(16), 2), span(A, 0), span(A[:8], 4), Span(trace_id=A, span_id=b"\x01")]
    cut = split("spans", request_of(*broken, span(A, 6)).SerializeToString())
    assert (cut.records, cut.bad_id, cut.rejected) == (6, 5, 5)
    assert sum(part.count for part in cut.parts()) == 6


def test_a_span_that_cannot_be_read_goes_alone() -> None:
    request = bytearray()
    good = span(A, 1).SerializeToString()
    bad = delimited(5, 2) + b"\xff\xff"  # a name that is not UTF-8
    scope = b"".join(delimited(2, len(one)) + one for one in (good, bad, good))
    inner = delimited(2, len(scope)) + scope
    request += delimited(1, len(inner)) + inner
    cut = split("spans", request)
    found = list(cut.parts())
    assert (cut.records, cut.broken, cut.rejected) == (3, 1, 1)
    assert [part.count for part in found] == [2, 1]
    assert bad in found[1].value


def within(*numbers: int, body: bytes) -> bytes:
    for number in numbers:
        body = delimited(number, len(body)) + body
    return body


GOOD = span(A, 1).SerializeToString()
BROKEN = delimited(5, 1) + b"\xff"  # a name that is not UTF-8


def test_of_many_records_one_that_cannot_be_read_costs_no_more_than_itself() -> None:
    own = within(1, body=within(3, body=b"") * 20_000)  # a scope of empty attributes, which are parsed slowly
    records = [within(2, body=GOOD)] * 4_000
    records[2_000] = within(2, body=BROKEN)
    body = within(2, 1, body=own + b"".join(records))
    began = time.process_time()
    cut = split("spans", body)
    assert time.process_time() - began < 1  # with the scope parsed for each of them: 4 s
    assert (cut.records, cut.broken) == (4_000, 1)
    assert sorted(part.count for part in cut.parts()) == [1, 3_999]
    assert cut.out_bytes >= sum(len(part.value) for part in cut.parts())


def test_in_a_scope_that_cannot_be_read_no_record_can_be() -> None:
    bad = within(2, body=within(1, body=within(1, body=b"\xff")) + within(2, body=GOOD) * 3)
    cut = split("spans", within(1, body=bad + within(2, body=within(2, body=GOOD))))
    assert (cut.records, cut.broken) == (4, 3)
    assert [part.count for part in cut.parts()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" + b"\x10\x00" * 1_000,
        within(1, body=b"\x20\x00" * 1_000),
        within(2, 1, body=b"\x20\x00" * 1_000 + b"\x12\x00"),
        within(2, 1, body=b"\x12\x00" * 1_000),
        within(2, 1, body=within(2, body=BROKEN) * 250 + within(2, body=GOOD)),
        within(1, body=b"") * 120,
    ],
)
def test_work_is_bounded_whatever_the_fields_are(body: bytes) -> None:
    with pytest.raises(Refused, match="1,000 steps") as caught:
        split("spans", body, steps_max=1_000)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "body", [b"\x0a\x04\x12\x02\x12\x05", b"\x0a\x02\x0a\x05", b"xx", b"\x0a\x05\x0a\x03\x0a\x01\xff"]
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        split("spans", body)
    assert caught.value.code == "not_otlp"


def test_an_empty_request_has_no_parts() -> None:
    assert list(split("spans", b"").parts()) == []
    assert list(split("logs", b"\x0a\x00").parts()) == []


def test_fields_of_a_newer_version_are_kept() -> None:
    newer = delimited(99, 3) + b"new"
    one = span(A, 1).SerializeToString() + newer
    scope = delimited(2, len(one)) + one + newer
    resource = newer + delimited(2, len(scope)) + scope + newer
    (part,) = split("spans", delimited(1, len(resource)) + resource).parts()
    assert part.value.count(newer) == 4


@pytest.mark.parametrize("unit", [b"\x0a\x00", b"\x0a\x04\x12\x02\x12\x00"])
def test_too_many_parts_are_refused(unit: bytes) -> None:
    with pytest.raises(Refused) as caught:
        split("spans", unit * (PARTS_MAX + 1))
    assert caught.value.code == "too_large"


def test_a_large_resource_is_not_repeated_without_end() -> None:
    count = OUT_BYTES_MAX // 500_000 + 1
    request = request_of(*(span(n.to_bytes(16, "big"), n) for n in range(1, count + 1)), service__name="s" * 500_000)
    with pytest.raises(Refused) as caught:
        split("spans", request.SerializeToString())
    assert caught.value.code == "too_large"


def test_spans_of_a_resource_above_the_limit_are_all_too_large() -> None:
    request = request_of(span(A, 1), span(A, 2), tallystick__tenant="acme", service__name="s" * 1_000_000)
    cut = split("spans", request.SerializeToString())
    assert [(part.oversized, part.count) for part in cut.parts()] == [(True, 1), (True, 1)]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, b"", bytes(16)]),
            st.sampled_from([None, "r1", "r2", "no run"]),
            st.integers(0, 600),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(400, 2_000),
)
def test_every_record_is_in_exactly_one_part(told: Sequence[tuple[bytes, str | None, int, bool]], limit: int) -> None:
    request = ExportTraceServiceRequest()
    for n, (trace, run, size, begins) in enumerate(told):
        if begins or not request.resource_spans:
            request.resource_spans.add().resource.attributes.add(key="n").value.int_value = n
        resource = request.resource_spans[-1]
        if not resource.scope_spans or n % 3 == 0:
            resource.scope_spans.add().scope.name = f"scope {n}"
        resource.scope_spans[-1].spans.append(span(trace, n + 1, run, size))
    body = request.SerializeToString()
    cut = split("spans", body, limit)
    found = list(cut.parts())
    assert sorted(_told(request)) == sorted(one for part in found for one in _told_bytes(part.value))
    for part in found:
        assert part.oversized or len(part.value) <= limit
        assert part.count == len(spans_of(part))
        assert part.oversized or len({(one.trace_id, _run_of(one)) for one in spans_of(part)}) == 1
    assert cut.records == len(told)
    assert cut.out_bytes >= sum(len(part.value) for part in found)


def _wire(number: int, payload: bytes, long: bool = False) -> bytes:
    """A field; `long`: its length in more bytes than it needs."""
    head = bytes((number << 3 | 2, len(payload) & 0x7F | 0x80, len(payload) >> 7 | 0x80, 0))
    return head + payload if long and len(payload) < 1 << 14 else delimited(number, len(payload)) + payload


_attribute = st.builds(
    lambda key, value: _wire(1, key) + _wire(2, _wire(1, value)),
    st.sampled_from([b"tallystick.run_id", b"tallystick.tenant", b"text"]),
    st.sampled_from([b"r1", b"r2", b"no run", b"x" * 300, b"\xff"]),
)


_own_field = st.one_of(
    st.builds(_wire, st.sampled_from([1, 3]), st.sampled_from([b"", _wire(1, b"name"), b"\xff"]), st.booleans()),
    st.just(_wire(13, b"new")),
    st.just(b"\x20\x07"),
)
_span = st.builds(
    lambda trace, ids, attributes, again: b"".join((_wire(1, trace), ids, *(_wire(9, a) for a in attributes), again)),
    st.sampled_from([A, B, b"", bytes(16)]),
    st.sampled_from([_wire(2, b"12345678"), _wire(2, bytes(8)), b"", _wire(5, b"\xff")]),
    st.lists(_attribute, max_size=4),
    st.sampled_from([b"", b"", _wire(1, B)]),  # a trace that is said twice is the last one
)


def _of(number: int, inner: st.SearchStrategy[bytes], own: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A message of fields of that number, and others between them, mostly before."""
    fields_of = st.lists(st.builds(_wire, st.just(number), inner, st.sampled_from([False] * 9 + [True])), max_size=6)
    return st.builds(
        lambda first, fields, then: b"".join((*first, *fields[:3], *then, *fields[3:])),
        st.lists(own, max_size=2),
        fields_of,
        st.lists(own, max_size=1),
    )


_resource_field = st.builds(
    lambda attributes: _wire(1, b"".join(_wire(1, one) for one in attributes)), st.lists(_attribute, max_size=2)
)
_request = _of(1, _of(2, _of(2, _span, _own_field), _resource_field | _own_field), st.just(_wire(7, b"new")))


@settings(deadline=None, max_examples=300)
@given(_request, st.integers(150, 2_000))
def test_parsed_at_once_or_in_chunks_makes_no_difference(body: bytes, limit: int) -> None:
    assert _cut(body, limit, 0) == _cut(body, limit, len(body))


def _cut(body: bytes, limit: int, whole_bytes_max: int) -> Any:
    try:
        cut = split("spans", body, limit, whole_bytes_max=whole_bytes_max)
    except Refused as refused:
        return refused.code
    counts = (cut.records, cut.too_large, cut.broken, cut.bad_id, cut.lost, cut.out_bytes)
    return counts, list(cut.parts())


def _told_bytes(value: bytes) -> list[str]:
    return _told(ExportTraceServiceRequest.FromString(value))


def _told(request: ExportTraceServiceRequest) -> list[str]:
    """Each span with what it is of."""
    return [
        json.dumps([str(resource.resource), str(scope.scope), str(one)])
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]


def _run_of(one: Span) -> Any:
    runs = [attribute.value.string_value for attribute in one.attributes if attribute.key == "tallystick.run_id"]
    return runs[0] if runs and " " not in runs[0] else None


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_is_raised(body: bytes) -> None:
    for value in (body, delimited(1, len(body)) + body, _nested(body)):
        with suppress(Refused):
            list(split("spans", value).parts())


def _nested(body: bytes) -> bytes:
    for number in (2, 2, 1):
        body = delimited(number, len(body)) + body
    return body
