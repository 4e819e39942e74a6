"""One record of a request in JSON that can't be read: the others are read, and it is kept as it came."""

from __future__ import annotations

import pytest

from ingest.errors import Refused
from ingest.otlp.forms import FORMS
from ingest.otlp.jsonform import to_protobuf
from ingest.otlp.pieces import requests_in
from ingest.otlp.split import split

GOOD = (
    b'{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"good","startTimeUnixNano":"1"}'
)
BROKEN = [
    b'{"traceId":"0af7651916cd43dd8448eb211c80319c","trace_id":"0af7651916cd43dd8448eb211c80319c"}',
    b'{"traceId":"xyz"}',
    b'{"name":1}',
    b'{"name":"\xff"}',
    b'{"attributes":[{"key":"k","value":{"stringValue":"a","intValue":1}}]}',
    b'{"attributes":[{"key":"k","value":' + b'{"arrayValue":{"values":[' * 95 + b"]}}" * 95 + b"}]}",
]


def body(*records: bytes) -> bytes:
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}]}' % b",".join(records)


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("first", [True, False])
def test_a_record_that_cannot_be_read_is_rejected_alone_and_kept_as_it_came(broken: bytes, first: bool) -> None:
    records = (broken, GOOD) if first else (GOOD, broken)
    converted = to_protobuf(FORMS["spans"], body(*records), 100)
    cut = split("spans", converted.value, 900_000)
    assert (cut.records, cut.rejected) == (2, 1)
    assert isinstance(converted.broken, Refused)
    good, kept = sorted(cut.parts(), key=lambda part: broken in part.value)
    ((_, read),) = requests_in("spans", good.value)
    assert not isinstance(read, Refused)
    assert [span.name for span in read.resource_spans[0].scope_spans[0].spans] == ["good"]
    assert broken in kept.value
    with pytest.raises(Refused):
        list(requests_in("spans", kept.value))


def test_an_empty_record_is_one_without_ids() -> None:
    converted = to_protobuf(FORMS["spans"], body(b"{}", GOOD), 100)
    assert (converted.broken, split("spans", converted.value, 900_000).bad_id) == (None, 1)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_request_of_which_no_record_can_be_read_is_refused_for_the_first(broken: bytes) -> None:
    with pytest.raises(Refused) as caught:
        to_protobuf(FORMS["spans"], body(broken, b'{"spanId":"?"}'), 100)
    assert "protobuf" not in caught.value.detail
    assert caught.value.code in ("not_otlp", "too_deep")


def test_a_text_that_reads_as_protobuf_is_no_record_either() -> None:
    good = b'{"timeUnixNano":"1","body":{"stringValue":"good"}}'
    text = b'{" ' + b"x" * 32 + b'|B yyyyyyyyyyy":1,"severityText":5}'  # a group, and a field of the rest
    assert len(FORMS["logs"].record.FromString(text).ListFields()) == 0
    value = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b,%b]}]}]}' % (good, text)
    cut = split("logs", to_protobuf(FORMS["logs"], value, 100).value)
    assert (cut.records, cut.broken) == (2, 1)
    assert [isinstance(read, Refused) for _, read in requests_in("logs", value)].count(True) == 1
