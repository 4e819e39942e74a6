"""OTLP requests for tests: built from plain Python values, and drawn by hypothesis."""

from __future__ import annotations

from itertools import chain
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingest.otlp.mapping import Mapped, map_request, precedence
from ingest.otlp.mapping.classify import SOURCES
from ingest.otlp.mapping.conventions.coding_agents import EVENTS
from ingest.otlp.mapping.conventions.dialects import DIALECTS
from ingest.otlp.mapping.conventions.flattened import LISTS
from schemas.event import Draft, Event
from schemas.kinds import KINDS
from schemas.normalize import normalize_draft

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = "00f067aa0ba902b7"
START = 1_795_224_002_000_000_000  # 2026-11-21T01:20:02Z
END = START + 250_000_000


def value(python: Any) -> AnyValue:
    """An attribute's value of the type that fits; a tuple of pairs is a key-value list that may repeat keys."""
    made = AnyValue()
    if type(python) is str:
        made.string_value = python
    elif type(python) is bool:
        made.bool_value = python
    elif type(python) is int:
        made.int_value = python
    elif type(python) is float:
        made.double_value = python
    elif type(python) is bytes:
        made.bytes_value = python
    elif type(python) is list:
        made.array_value.values.extend(value(item) for item in python)
        made.array_value.SetInParent()
    elif type(python) is dict or type(python) is tuple:
        pairs = python.items() if type(python) is dict else python
        made.kvlist_value.values.extend(KeyValue(key=key, value=value(item)) for key, item in pairs)
        made.kvlist_value.SetInParent()
    return made


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(item)) for key, item in attributes.items()]


def span(
    name: str = "step",
    attributes: dict[str, Any] | None = None,
    *,
    parent: str | None = PARENT,
    events: list[tuple[str, dict[str, Any]]] | None = None,
    **fields: Any,
) -> Span:
    """A span of 250 ms with these attributes and events; `parent=None` makes it a root."""
    made = Span(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        parent_span_id=bytes.fromhex(parent or ""),
        name=name,
        start_time_unix_nano=START,
        end_time_unix_nano=END,
        attributes=pairs(attributes or {}),
    )
    for at, (event_name, event_attributes) in enumerate(events or []):
        made.events.add(name=event_name, time_unix_nano=START + at * 1_000_000, attributes=pairs(event_attributes))
    for field, told in fields.items():
        if field == "status":
            made.status.code, made.status.message = told
        else:
            setattr(made, field, told)
    return made


def spans_request(*spans: Span, resource: dict[str, Any] | None = None, scope: str = "test") -> Any:
    request = ExportTraceServiceRequest()
    container = request.resource_spans.add()
    container.resource.attributes.extend(pairs(resource or {"service.name": "svc"}))
    scoped = container.scope_spans.add()
    scoped.scope.name = scope
    scoped.spans.extend(spans)
    return request


def logs_request(*records: LogRecord, resource: dict[str, Any] | None = None, scope: str = "test") -> Any:
    request = ExportLogsServiceRequest()
    container = request.resource_logs.add()
    container.resource.attributes.extend(pairs(resource or {"service.name": "svc"}))
    scoped = container.scope_logs.add()
    scoped.scope.name = scope
    scoped.log_records.extend(records)
    return request


def log(event_name: str = "", attributes: dict[str, Any] | None = None, body: Any = None, **fields: Any) -> LogRecord:
    made = LogRecord(
        time_unix_nano=START,
        event_name=event_name,
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        attributes=pairs(attributes or {}),
    )
    if body is not None:
        made.body.CopyFrom(value(body))
    for field, told in fields.items():
        setattr(made, field, told)
    return made


def drafts_of(made: Span, *, resource: dict[str, Any] | None = None, scope: str = "test") -> list[Draft]:
    """The drafts of one span."""
    mapped = list(map_request("spans", spans_request(made, resource=resource, scope=scope)))
    assert len(mapped) == 1
    assert mapped[0].refusal is None, mapped[0].refusal
    return list(mapped[0].drafts)


def events_of(made: Span, *, resource: dict[str, Any] | None = None, scope: str = "test") -> list[Event]:
    """The same, normalized."""
    return [normalize_draft(draft) for draft in drafts_of(made, resource=resource, scope=scope)]


def log_events(record: LogRecord, *, resource: dict[str, Any] | None = None, scope: str = "test") -> list[Event]:
    mapped = list(map_request("logs", logs_request(record, resource=resource, scope=scope)))
    assert len(mapped) == 1
    assert mapped[0].refusal is None, mapped[0].refusal
    return [normalize_draft(draft) for draft in mapped[0].drafts]


def content_of(event: Event | Draft, pointer: str) -> bytes | None:
    return next((one.value for one in event.content if one.pointer == pointer), None)


def events_of_all(mapped: list[Mapped]) -> list[Event]:
    return [normalize_draft(draft) for one in mapped for draft in one.drafts]


# -- requests of any shape --------------------------------------------------------------------------------------------

_TABLES = [names for names in vars(precedence).values() if isinstance(names, tuple)]
KNOWN = sorted(
    {name for names in _TABLES for name in names}
    | {source.attribute for source in SOURCES}
    | {f"{name}.{at}" for name in LISTS for at in (0, 1)}
    | {f"{name}.0.message.role" for name in LISTS}
    | {f"{name}.0.document.id" for name in LISTS}
    | {f"{name}.0.annotation.annotator_kind" for name in LISTS}
    | {"metadata", "final_result", "pydantic_ai.all_messages", "pydantic_ai.new_message_index", "error.type"}
    | {"tallystick.kind", "tallystick.run_id", "tallystick.tenant", "tallystick.budget", "tallystick.data_subject"}
    | {"exception.type", "exception.message", "pydantic_ai.output.retry.cause", "pydantic_ai.output.retry.attempt"}
    | {f"tallystick.data.{member}" for kind in ("tool_call", "approval_decision", "outcome", "policy_decision")
       for member in KINDS[kind].members}
    | {name for dialect in DIALECTS for name in (*dialect.marks, *dialect.names, *dialect.members)}
    | {name for event in EVENTS.values() for name in (*event.names, *chain(*event.sums.values()))}
    | {"decision", "source", "success", "duration_ms", "haystack.tool.error", "langfuse.observation.level"}
    | {"tallystick.data.effect.amount", "tallystick.data.effect.system", "tallystick.work_item.id"}
)  # fmt: skip
_WORDS = sorted(
    {word for source in SOURCES for word in source.roles}
    | set(KINDS)
    | {
        "reject",
        "HUMAN",
        "pass",
        "block",
        "true",
        "0",
        "12",
        "sha256:" + "0" * 64,
        "GraphInterrupt",
        "ApprovalRequired",
        "interrupt",
    }
)
_TEXTS = (
    '{"approvals":[{"tool_name":"pay","args":{"x":1},"tool_call_id":"c1"},7],"calls":[{"args":null}],"metadata":{}}',
    '{"graph":null,"update":null,"resume":{"decisions":[{"type":"reject"},{"type":"edit"}]},"goto":[]}',
    '{"resume":{"0123456789abcdef0123456789abcdef":{"type":"approve"}}}',
    '{"resume":[[]]}',
    '{"messages":[{"data":"x","tool_calls":[{"name":"pay","args":{},"id":"c"}]}]}',
    '{"input":{"messages":[{"kwargs":{"tool_calls":[{"name":"pay","args":[1],"id":"c"}]},"data":7}]}}',
    "(Interrupt(value={'action_requests': [{'name': 'pay', 'args': {}}]}, id='e0', response_schema=None),)",
    "[{'id': 'v1:before_tool_call:c1:0948095f', 'name': 'x'}]",
    '[{"role":"a","finish_reason": "interrupt","parts":[{"type":"interrupt_response","id":"i1"},'
    '{"type":"function_approval_response","approved":true,"id":[],"function_call":[]}]}]',
    '[{"role":"user","parts":[{"type":"text"}]},{"role":"assistant","parts":[{"type":"tool_call","id":"c1"}]},'
    '{"role":"user","parts":[{"type":"tool_call_response","id":"c1","result":"The tool call was denied."}]}]',
    "(Interrupt(value={'a': 1}, id='4f1c'), Interrupt(value=2, id='aa'))",
    '{"thread_id":[1],"user_id":{"a":1},"langgraph_step":-1,"lc_agent_name":""}',
    '{"type":"tool","data":{"tool_call_id":{"x":1},"status":[]}}',
    '{"error": "This tool call is rejected."}',
    '[{"name":"a"},{"function":{"name":["x"]}},"{\\"name\\":\\"b\\"}",5]',
    '{"a":1,"a":2}',
    '{"a":"\\ud800"}',
    "[" * 300,
    "{" * 20,
    "1e999999",
    "-0",
    "NaN",
    "\x00\x1f",
    "9" * 5000,
)
texts = (
    st.sampled_from(_WORDS) | st.sampled_from(_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
)
scalars = (
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-2, 100)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.binary(max_size=6)
    | st.none()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3)
        | st.lists(st.tuples(st.sampled_from(["a", "int", "bytes"]), inner), max_size=3).map(tuple)
    ),
    max_leaves=6,
)
keys = st.sampled_from(KNOWN) | st.sampled_from(KNOWN) | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
attribute_lists = st.lists(st.tuples(keys, values), max_size=14)


def _pairs(drawn: list[tuple[str, Any]]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(item)) for key, item in drawn]


times = st.sampled_from([0, 1, START, END, 2**64 - 1]) | st.integers(0, 2**64 - 1)
event_names = st.sampled_from(
    ["exception", "gen_ai.choice", "gen_ai.tool.message", "gen_ai.user.message", "gen_ai.evaluation.result", "x", "",
     "gen_ai.client.inference.operation.details", "tallystick.outcome", "gen_ai.guardrail.result",
     "First Token Stream Event", "tallystick.intake", *EVENTS]
)  # fmt: skip


@st.composite
def any_span(draw: st.DrawFn) -> Span:
    made = Span(
        trace_id=draw(st.sampled_from([bytes.fromhex(TRACE), bytes(16), b"x"])),
        span_id=draw(st.sampled_from([bytes.fromhex(SPAN), bytes.fromhex(SPAN), bytes(8)])),
        parent_span_id=draw(st.sampled_from([b"", bytes(8), bytes.fromhex(PARENT), b"abc"])),
        name=draw(texts | st.sampled_from(["handoff to billing", "execute_tool pay", "invoke_agent a", "a.run"])),
        kind=draw(st.integers(0, 7)),
        flags=draw(st.sampled_from([0, 256, 768])),
        trace_state=draw(st.sampled_from(["", "a=b"])),
        start_time_unix_nano=draw(times),
        end_time_unix_nano=draw(times),
        attributes=_pairs(draw(attribute_lists)),
        dropped_attributes_count=draw(st.sampled_from([0, 0, 3])),
        dropped_events_count=draw(st.sampled_from([0, 0, 2**32 - 1])),
    )
    made.status.code = draw(st.integers(0, 3))
    made.status.message = draw(texts)
    for name, attributes in draw(st.lists(st.tuples(event_names, attribute_lists), max_size=4)):
        made.events.add(name=name, time_unix_nano=draw(times), attributes=_pairs(attributes))
    for _ in range(draw(st.integers(0, 1))):
        made.links.add(trace_id=b"t", span_id=b"s", attributes=_pairs(draw(attribute_lists)))
    return made


@st.composite
def any_log(draw: st.DrawFn) -> LogRecord:
    return LogRecord(
        time_unix_nano=draw(times),
        observed_time_unix_nano=draw(times),
        event_name=draw(event_names),
        trace_id=draw(st.sampled_from([bytes.fromhex(TRACE), b"", b"xyz"])),
        span_id=draw(st.sampled_from([bytes.fromhex(SPAN), b"", b"q"])),
        severity_number=draw(st.sampled_from([0, 9, 17])),
        body=value(draw(values)),
        attributes=_pairs(draw(attribute_lists)),
    )


@st.composite
def any_spans_request(draw: st.DrawFn) -> Any:
    request = ExportTraceServiceRequest()
    container = request.resource_spans.add()
    container.resource.attributes.extend(_pairs(draw(attribute_lists)))
    scoped = container.scope_spans.add()
    scoped.scope.name = draw(st.sampled_from(["", "smolagents", "gcp.vertex.agent", "strands.telemetry", "x"]))
    scoped.spans.extend(draw(st.lists(any_span(), min_size=1, max_size=3)))
    return request


@st.composite
def any_logs_request(draw: st.DrawFn) -> Any:
    request = ExportLogsServiceRequest()
    container = request.resource_logs.add()
    container.resource.attributes.extend(_pairs(draw(attribute_lists)))
    scoped = container.scope_logs.add()
    scoped.log_records.extend(draw(st.lists(any_log(), min_size=1, max_size=3)))
    return request
