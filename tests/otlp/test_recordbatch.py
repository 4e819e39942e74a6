"""A batch of records as the gateway writes it, read by the consumer's own reader."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from ingest.otlp.recordbatch import Records, Sealed, headers_of

Told = tuple[bytes | None, bytes, list[tuple[str, bytes]], int]
_records = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=200),
        st.binary(max_size=400)
        | st.builds(lambda part, times: part * times, st.binary(max_size=9), st.integers(0, 9_000)),
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=200)), max_size=3),
        st.integers(0, 2**41),
    ),
    min_size=1,
    max_size=20,
)


def sealed(told: Sequence[Told]) -> tuple[Records, Sealed]:
    records = Records()
    for key, value, headers, now_ms in told:
        records.add(key, value, headers_of(headers), now_ms)
    return records, records.seal(bytearray(1_000))


@given(_records, st.integers(-1, 2**62), st.integers(-1, 2**15 - 1), st.integers(-1, 2**31 - 1))
def test_what_is_written_is_read(told: Sequence[Told], producer: int, epoch: int, sequence: int) -> None:
    records, batch = sealed(told)
    batch._set_producer_state(producer, epoch, sequence)
    written = batch._build()
    assert (batch.record_count(), batch.closed(), batch.size()) == (len(told), True, len(written))
    assert batch._build() is written  # sent again, it is the same
    reader = MemoryRecords(bytes(written))
    read = reader.next_batch()
    assert read is not None
    assert read.validate_crc()
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (producer, epoch, sequence)
    assert (read.next_offset, read.is_transactional, read.is_control_batch) == (len(told), False, False)
    found = list(read)
    assert [(one.offset, one.key, one.value, list(one.headers)) for one in found] == [
        (place, key, value, headers) for place, (key, value, headers, _) in enumerate(told)
    ]
    times = [now_ms for *_, now_ms in told]  # a clock that is set back makes no record older than the one before
    assert [one.timestamp for one in found] == [max(times[: place + 1]) for place in range(len(times))]
    assert not reader.has_next()
    assert records.size >= sum(len(key or b"") + len(value) for key, value, *_ in told)


def test_only_what_gets_smaller_is_compressed() -> None:
    _, text = sealed([(b"k", b"text " * 1_000, [], 1)])
    assert text.size() < 200
    records, noise = sealed([(b"k", bytes(range(256)), [], 1)])
    assert noise.size() == records.size + 61  # the head of a batch
