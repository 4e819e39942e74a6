"""OTLP as bytes: protobuf and JSON are read alike, and what is hostile is refused, within bounds."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.errors import Refused
from ingest.otlp.framing import Malformed, delimited, fields, varint
from ingest.otlp.jsonform import OBJECTS_MAX, PIECE_BYTES_MAX
from ingest.otlp.wire import PARTS_MAX, Signal, looks_like_json, parse

TRACE = "a7416bd276614ef9f6d4cdaa5f510d62"
SPAN = "062e57d74854fd1e"
MIB = 1024 * 1024


def one_span(**span: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def read_span(**span: Any) -> Span:
    request = parse("spans", one_span(**span), "json")
    assert isinstance(request, ExportTraceServiceRequest)
    return request.resource_spans[0].scope_spans[0].spans[0]


def value_of(text: str) -> AnyValue:
    body = (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":' + text.encode() + b"}]}]}]}]}"
    )
    request = parse("spans", body, "json")
    assert isinstance(request, ExportTraceServiceRequest)
    return request.resource_spans[0].scope_spans[0].spans[0].attributes[0].value


def refusal(signal: Signal, body: bytes, encoding: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(signal, body, encoding)
    return caught.value


def test_json_ids_are_hex_everywhere() -> None:
    span = read_span(
        traceId=TRACE, spanId=SPAN.upper(), parentSpanId="0102030405060708", links=[{"traceId": TRACE, "spanId": SPAN}]
    )
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN, "0102030405060708")
    assert (span.links[0].trace_id.hex(), span.links[0].span_id.hex()) == (TRACE, SPAN)
    logs = parse(
        "logs",
        json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": TRACE, "spanId": SPAN}]}]}]}).encode(),
        "json",
    )
    record = logs.resource_logs[0].scope_logs[0].log_records[0]  # type: ignore[union-attr]
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, SPAN)


def test_json_takes_both_names_and_ignores_what_it_does_not_know() -> None:
    body = {
        "more": {"deep": [[[]]]},
        "resource_spans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"string_value": "s"}}], "new": 1},
                "schema_url": "https://example.org/s",
                "scope_spans": [
                    {
                        "scope": {"name": "n", "version": None},
                        "spans": [{"trace_id": TRACE, "startTimeUnixNano": 5, "end_time_unix_nano": "6", "newer": []}],
                    }
                ],
            }
        ],
    }
    request = parse("spans", json.dumps(body).encode(), "json")
    assert isinstance(request, ExportTraceServiceRequest)
    resource = request.resource_spans[0]
    span = resource.scope_spans[0].spans[0]
    assert resource.resource.attributes[0].value.string_value == "s"
    assert resource.schema_url == "https://example.org/s"
    assert resource.scope_spans[0].scope.name == "n"
    assert (span.trace_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano) == (TRACE, 5, 6)


@pytest.mark.parametrize("kind", [3, 3.0, "SPAN_KIND_CLIENT"])
def test_json_enumerations_are_integers_or_names(kind: Any) -> None:
    assert read_span(kind=kind).kind == Span.SPAN_KIND_CLIENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"stringValue":""}', AnyValue(string_value="")),
        ('{"boolValue":false}', AnyValue(bool_value=False)),
        ('{"intValue":"-9223372036854775808"}', AnyValue(int_value=-(2**63))),
        ('{"intValue":9223372036854775807}', AnyValue(int_value=2**63 - 1)),
        ('{"doubleValue":1.25}', AnyValue(double_value=1.25)),
        ('{"doubleValue":"Infinity"}', AnyValue(double_value=float("inf"))),
        ('{"bytesValue":"-_8"}', AnyValue(bytes_value=b"\xfb\xff")),
        ('{"arrayValue":{}}', AnyValue(array_value={})),
        (
            '{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":1}]}}}]}}',
            AnyValue(
                kvlist_value={
                    "values": [KeyValue(key="a", value=AnyValue(array_value={"values": [AnyValue(int_value=1)]}))]
                }
            ),
        ),
        ("{}", AnyValue()),
        ('{"stringValue":null,"intValue":"7"}', AnyValue(int_value=7)),
    ],
)
def test_json_values(text: str, expected: AnyValue) -> None:
    assert value_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"intValue":"9223372036854775808"}',
        '{"intValue":1.5}',
        '{"intValue":"1_0"}',
        '{"stringValue":1}',
        '{"boolValue":"true"}',
        '{"bytesValue":"*"}',
        '{"stringValue":"a","intValue":1}',
        '{"arrayValue":[]}',
        '{"arrayValue":{"values":{}}}',
        '"text"',
        '{"stringValue":"\\ud800"}',
    ],
)
def test_json_values_that_are_none(text: str) -> None:
    with pytest.raises(Refused) as caught:
        value_of(text)
    assert caught.value.code == "not_otlp"


RESOURCES = b'[{"scopeSpans":[{"spans":[{}]}]}]'
SCOPES = b'[{"spans":[{}]}]'


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceSpans":%b,"resource_spans":%b}' % (RESOURCES, RESOURCES),
        b'{"resource_spans":%b,"resourceSpans":[]}' % RESOURCES,
        b'{"resourceSpans":%b,"resourceSpans":%b}' % (RESOURCES, RESOURCES),
        b'{"resourceSpans":%b,"resource\\u0053pans":%b}' % (RESOURCES, RESOURCES),
        b'{"resourceSpans":%b,"resourceSpans":[]}' % RESOURCES,
        b'{"resourceSpans":%b,"resourceSpans":null}' % RESOURCES,
        b'{"resourceSpans":[{"scopeSpans":%b,"scope_spans":%b}]}' % (SCOPES, SCOPES),
        b'{"resourceSpans":[{"scopeSpans":%b,"scopeSpans":%b}]}' % (SCOPES, SCOPES),
        b'{"resourceSpans":[{"resource":{},"resource":{},"scopeSpans":%b}]}' % SCOPES,
        b'{"resourceSpans":[{"schemaUrl":"a","schema_url":"b","scopeSpans":%b}]}' % SCOPES,
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{}],"spans":[{}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"scope":{},"spans":[{}],"scope":{}}]}]}',
        one_span(traceId=TRACE, trace_id=TRACE),
        one_span(startTimeUnixNano=1, start_time_unix_nano=1),
        one_span(attributes=[{"key": "k", "value": {"stringValue": "a", "string_value": "b"}}]),
        one_span(attributes=[{"key": "k", "value": {"arrayValue": {}, "array_value": {}}}]),
        one_span(attributes=[{"key": "k", "value": {"arrayValue": {}, "kvlistValue": {}}}]),
    ],
)
def test_json_that_says_a_member_twice_is_refused(body: bytes) -> None:
    assert refusal("spans", body, "json").code == "not_otlp"


def test_json_may_say_nothing_under_the_other_name() -> None:
    body = b'{"resourceSpans":null,"resource_spans":[{"scopeSpans":null,"scope_spans":%b}]}' % SCOPES
    request = parse("spans", body, "json")
    assert isinstance(request, ExportTraceServiceRequest)
    assert len(request.resource_spans[0].scope_spans[0].spans) == 1
    assert read_span(traceId=None, trace_id=TRACE).trace_id.hex() == TRACE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[[]]}]}]}',
        b'{"resourceSpans":[{"resource":1}]}',
        b'{"resourceSpans":[{"schemaUrl":1}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\xff"}]}]}]}',
        b'{} {"a":1}',
    ],
)
def test_json_that_is_no_request(body: bytes) -> None:
    assert refusal("spans", body, "json").code == "not_otlp"


@pytest.mark.parametrize("body", [b"{}", b'{"resourceSpans":null}', b' {"resourceLogs":[]} '])
@pytest.mark.parametrize("signal", ["spans", "logs"])
def test_an_empty_request_is_one(signal: Signal, body: bytes) -> None:
    assert parse(signal, body, "json").ByteSize() == 0
    assert parse(signal, b"", "proto").ByteSize() == 0


def nested_json(depth: int) -> bytes:
    value = '{"arrayValue":{"values":[' * depth + '{"intValue":1}' + "]}}" * depth
    body = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":' + value + "}]}]}]}]}"
    return body.encode()


def nested_proto(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        inner = delimited(1, len(value)) + value
        value = delimited(5, len(inner)) + inner
    for number in (2, 9, 2, 2, 1):
        value = delimited(number, len(value)) + value
    return value


def test_nesting_is_bounded_and_what_json_may_nest_protobuf_may() -> None:
    assert refusal("spans", nested_json(60), "json").code == "too_deep"
    assert refusal("spans", nested_proto(60), "proto").code == "too_deep"
    deepest = max(depth for depth in range(60) if _reads(nested_json(depth), "json"))
    assert deepest >= 40
    request = parse("spans", nested_json(deepest), "json")
    assert parse("spans", request.SerializeToString(), "proto") == request


def _reads(body: bytes, encoding: Any) -> bool:
    try:
        parse("spans", body, encoding)
    except Refused:
        return False
    return True


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5_000_000,
        b'{"x":' * 1_000_000,
        b'{"resourceSpans":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"x":' + b'{"x":' * 1_000_000,
    ],
)
def test_json_bombs_of_depth(body: bytes) -> None:
    assert refusal("spans", body, "json").code in {"too_deep", "not_otlp"}


def peak_bytes(signal: Signal, body: bytes, encoding: Any) -> tuple[int, Refused | None]:
    refused = None
    tracemalloc.start()
    try:
        parse(signal, body, encoding)
    except Refused as error:
        refused = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, refused


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"resourceSpans":[' + b"{}," * (OBJECTS_MAX + 1) + b"{}]}", "too_large"),
        (b'{"resourceSpans":[' + b"{}," * (PARTS_MAX + 1) + b"{}]}", "too_large"),
        (b'{"resourceSpans":[' + b"1," * 8_000_000 + b"1]}", "not_otlp"),
        (b'{"x":[' + b"1," * 8_000_000 + b'1],"resourceSpans":[]}', None),
        (
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"x":[' + b"[]," * (PIECE_BYTES_MAX // 3) + b"[]]}]}]}]}",
            "too_large",
        ),
        (b'{"resourceSpans":[{"resource":{"x":[' + b"[]," * (PIECE_BYTES_MAX // 3) + b"[]]}}]}", "too_large"),
    ],
)
def test_json_bombs_of_size_are_refused_before_anything_is_built(body: bytes, code: str | None) -> None:
    peak, refused = peak_bytes("spans", body, "json")
    assert (refused.code if refused else None) == code
    assert peak < 100 * MIB


def proto_bomb(unit: bytes, total: int) -> bytes:
    value = unit * (total // len(unit))
    for number in (2, 2, 1):
        value = delimited(number, len(value)) + value
    return value


def test_a_protobuf_bomb_of_empty_attributes_is_refused_before_it_is_built() -> None:
    refused = refusal("spans", proto_bomb(b"\x4a\x00", 5 * MIB), "proto")
    assert refused.code == "too_large"


@pytest.mark.parametrize(
    "body",
    [
        b"\x00",
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0b",
        b"{}",
        b"hello",
        b"\x0a\x02\x0a\xff",
        b"\xff" * 12,
        b"\x0a" + b"\x80" * 11,
    ],
)
def test_protobuf_that_is_none(body: bytes) -> None:
    assert refusal("spans", body, "proto").code == "not_otlp"


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_is_raised(body: bytes) -> None:
    for encoding in ("proto", "json"):
        _reads(body, encoding)
        _reads(b"{" + body + b"}", encoding)
    looks_like_json(body)


@given(st.integers(0, 2**63))
def test_varints_are_read_as_they_are_written(value: int) -> None:
    written = b"\x08" + varint(value)
    assert [*fields(written, 0, len(written))] == [(8, 0, 1, len(written))]


def test_a_field_longer_than_what_holds_it_is_malformed() -> None:
    inner = b"\x0a\x04\x0a\x09ab"
    with pytest.raises(Malformed, match="longer"):
        list(fields(inner, 2, 6))


spans = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    kind=st.sampled_from([0, 1, 2, 3, 4, 5]),
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    attributes=st.lists(
        st.builds(
            KeyValue,
            key=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            value=st.one_of(
                st.builds(AnyValue, string_value=st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
                st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
                st.builds(AnyValue, double_value=st.floats(allow_nan=False)),
                st.builds(AnyValue, bytes_value=st.binary(max_size=9)),
                st.builds(AnyValue, bool_value=st.booleans()),
            ),
        ),
        max_size=4,
    ),
)


@given(spans)
def test_json_and_protobuf_are_read_alike(span: Span) -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.append(span)
    written = MessageToDict(request, use_integers_for_enums=True)
    told = written["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    told["traceId"], told["spanId"] = span.trace_id.hex(), span.span_id.hex()
    body = json.dumps(written).encode()
    assert parse("spans", body, "json") == request
    assert looks_like_json(body)
    assert not looks_like_json(request.SerializeToString())


@pytest.mark.parametrize("body", [b'{"a":1}', b' \n{\n "a":1}', b"\n{}", b'\r\n\t{"resourceSpans":[]}', b"{"])
def test_json_is_recognized_behind_white_space(body: bytes) -> None:
    assert looks_like_json(body)


def test_a_resource_whose_length_is_a_brace_is_protobuf() -> None:
    resource = delimited(3, 121) + b"u" * 121
    assert len(resource) == ord("{")
    body = delimited(1, len(resource)) + resource
    assert body.startswith(b"\n{")
    assert not looks_like_json(body)
    assert not looks_like_json(b"")
    assert not looks_like_json(b"\x12\x00")
