"""Requests of OTLP as the benchmarks send them: spans of about 1.5 kB with 20 attributes, 512 in a request."""

from __future__ import annotations

import json
from random import Random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS = 512  # of a request
SPANS_OF_TRACE = 16
START_NS = 1_795_224_000_000_000_000

_random = Random(4)
_WORDS = tuple("".join(_random.choices("etaoinshrdlucmwf", k=_random.randint(2, 10))) for _ in range(3_000))


def request(number: int) -> bytes:
    """The n-th request, of one service: each trace is an agent with its model and tool calls; texts differ."""
    whole = ExportTraceServiceRequest()
    resource = whole.resource_spans.add()
    for key, value in (("service.name", "returns-desk"), ("service.version", "1.4.2"), ("host.name", "bench")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name = "bench"
    for place in range(SPANS):
        _fill(scope.spans.add(), number * SPANS + place)
    return whole.SerializeToString()


def _fill(span: Span, n: int) -> None:
    trace, place = divmod(n, SPANS_OF_TRACE)
    words = Random(n)
    long, short = (" ".join(words.choices(_WORDS, k=k)) for k in (52, 16))
    span.trace_id = (trace + 1).to_bytes(16, "big")
    span.span_id = (n + 1).to_bytes(8, "big")
    if place:
        span.parent_span_id = (trace * SPANS_OF_TRACE + 1).to_bytes(8, "big")
    span.kind = Span.SPAN_KIND_CLIENT
    span.start_time_unix_nano = START_NS + n * 1_000_000
    span.end_time_unix_nano = span.start_time_unix_nano + 812_000_000
    texts = {
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": f"conversation-{trace}",
        "gen_ai.agent.name": "returns-desk",
        "server.address": "api.example.org",
        "deployment.zone": "eu-1",
        "team": "returns",
        "thread.name": "MainThread",
    }
    if place % 2:
        span.name = "execute_tool refund"
        texts |= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "refund",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": f"call-{n}",
            "gen_ai.tool.description": "Gives the money back for a parcel that arrived damaged.",
            "gen_ai.tool.call.arguments": json.dumps({"charge": f"ch_{n:012d}", "amount": "12.90", "note": short}),
            "gen_ai.tool.call.result": json.dumps({"refund": f"re_{n:012d}", "state": "done", "note": long}),
            "code.function.name": "desk.tools.refund",
            "code.file.path": "/srv/desk/tools.py",
        }
        numbers = {"code.line.number": 120, "server.port": 443, "thread.id": 1, "retry.count": 0}
    else:
        span.name = "chat gpt-5" if place else "invoke_agent returns-desk"
        texts |= {
            "gen_ai.operation.name": "chat" if place else "invoke_agent",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.response.model": "gpt-5",
            "gen_ai.response.id": f"resp-{n}",
            "gen_ai.output.type": "text",
            "gen_ai.input.messages": _messages("user", short),
            "gen_ai.output.messages": _messages("assistant", long),
        }
        numbers = {
            "gen_ai.usage.input_tokens": 812,
            "gen_ai.usage.output_tokens": 96,
            "gen_ai.usage.cache_read.input_tokens": 512,
            "gen_ai.request.max_tokens": 2048,
            "server.port": 443,
            "thread.id": 1,
        }
    for key, text in texts.items():
        span.attributes.add(key=key).value.string_value = text
    for key, value in numbers.items():
        span.attributes.add(key=key).value.int_value = value


def _messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])
